"""What a load asks for: a mix of GETs and SETs of keys that are chosen in one of three ways, or PINGs.

The mixes of YCSB (Cooper et al., "Benchmarking Cloud Serving Systems with YCSB", 2010) have its letters. Its zipfian
choice gives key number n a share that falls with n**0.99 (Gray et al., "Quickly Generating Billion-Record Synthetic
Databases", 1994). A hash scatters the numbers, so that popular keys are no neighbours.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

Address = tuple[str, int]
READ, WRITE, PING = "GET", "SET", "PING"
THETA = 0.99
SPREAD = 0x9E3779B97F4A7C15  # an odd number: multiplying by it is a permutation of the numbers below 2**64


@dataclass(frozen=True)
class Mix:
    """How much of a load reads, and which keys it asks for."""

    reads: float  # the share of GETs
    choice: str = "uniform"  # or zipfian, or latest: what was written last is the most popular
    modifies: bool = False  # each write first reads its key


YCSB = {
    "A": Mix(0.5, "zipfian"),
    "B": Mix(0.95, "zipfian"),
    "C": Mix(1.0, "zipfian"),
    "D": Mix(0.95, "latest"),
    "F": Mix(0.5, "zipfian", modifies=True),
}


@dataclass(frozen=True)
class Work:
    """A load. `rate` is requests a second; 0: as many as are answered, `depth` at a time on each connection."""

    addresses: tuple[Address, ...]
    keys: int
    mix: Mix = field(default_factory=lambda: Mix(0.7))
    rate: float = 0.0
    depth: int = 1
    connections: int = 16
    value_bytes: int = 100
    is_aware: bool = False  # sends each key to the node that coordinates it, as a Redis Cluster client does
    pings: bool = False  # only PINGs, in turn on all connections


def name_of(number: int) -> bytes:
    """The key of that number: one of those that redis-benchmark -r uses."""
    return b"key:%012d" % number


def get(number: int) -> bytes:
    """GET, encoded."""
    return b"*2\r\n$3\r\nGET\r\n$16\r\nkey:%012d\r\n" % number


def encode_set(number: int, value: bytes) -> bytes:
    """SET, encoded."""
    return b"*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$%d\r\n%b\r\n" % (number, len(value), value)


@lru_cache
def _zeta(count: int) -> float:
    return float(sum([number**-THETA for number in range(1, count + 1)]))


def zipfian(count: int, rng: random.Random) -> Callable[[], int]:
    """Returns a function that draws numbers below `count`, 0 the most often."""
    alpha, zeta = 1 / (1 - THETA), _zeta(count)
    eta = (1 - (2 / count) ** (1 - THETA)) / (1 - _zeta(2) / zeta)

    def draw() -> int:
        part = rng.random()
        if part * zeta < 1:
            return 0
        if part * zeta < 1 + 0.5**THETA:
            return min(1, count - 1)
        return min(count - 1, int(count * (eta * part - eta + 1) ** alpha))

    return draw


class Source:
    """Draws the requests of a load."""

    def __init__(self, work: Work, seed: int) -> None:
        self._rng = random.Random(seed)
        self._work = work
        self._value = b"v" * work.value_bytes
        self._next_key = work.keys + seed * 100_000_000  # of the next insert: no two processes insert the same
        self._inserted: list[int] = []
        self._modified = -1
        self._draw = zipfian(work.keys, self._rng) if work.mix.choice != "uniform" else self._draw_evenly

    def _draw_evenly(self) -> int:
        return int(self._rng.random() * self._work.keys)

    def next(self) -> tuple[str, int, bytes]:
        """The next request: its command, the number of its key, and its bytes."""
        if self._work.pings:
            return PING, 0, b"*1\r\n$4\r\nPING\r\n"
        mix = self._work.mix
        if self._modified >= 0:
            number, self._modified = self._modified, -1
            return WRITE, number, encode_set(number, self._value)
        reads = self._rng.random() < mix.reads
        if not reads and mix.choice == "latest":
            number = self._insert()
        else:
            number = self._chosen()
        if not reads and mix.modifies:
            self._modified = number
            return READ, number, get(number)
        return (READ, number, get(number)) if reads else (WRITE, number, encode_set(number, self._value))

    def _chosen(self) -> int:
        number, mix = self._draw(), self._work.mix
        if mix.choice == "zipfian":
            return (number * SPREAD % 2**64) % self._work.keys
        if mix.choice == "latest":
            age = number
            return self._inserted[-1 - age] if age < len(self._inserted) else self._work.keys - 1 - age
        return number

    def _insert(self) -> int:
        self._inserted.append(self._next_key)
        self._next_key += 1
        return self._inserted[-1]
