"""Nodes whose wall clocks a test sets while they run (libfaketime), and TTLs held against the test's own clock.

Theory. libfaketime reads a file at each look at the wall clock; monotonic clocks stay true, as on a machine whose clock is
wrong. A SET with PX t, asked for at a and answered at b, ends its key between a + t and b + t. So an answer, asked for at c
and given at d, says how far off the TTL is at least: nothing is asserted of how long anything took.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.wire.cluster import WireNode, wait_for

LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
LOOKS = 8  # keys that are asked for at a time


def need_libfaketime() -> None:
    """Skips the test without it."""
    if not LIBFAKETIME.exists():
        pytest.skip(f"{LIBFAKETIME} is missing (package libfaketime)")


class WallClocks:
    """A clock for each node, all right at first."""

    def __init__(self, directory: Path, nodes: int) -> None:
        need_libfaketime()
        self._files = [directory / f"clock{place}" for place in range(nodes)]
        for place in range(nodes):
            self.set(place, 0)

    def set(self, place: int, ahead_s: int) -> None:
        """The node's clock reads so much more than it should, from now on."""
        new = self._files[place].with_suffix(".new")
        new.write_text(f"{ahead_s:+d}s\n")
        new.rename(self._files[place])

    @property
    def environments(self) -> dict[int, dict[str, str]]:
        """What the nodes are to be started with."""
        return {
            place: {
                "LD_PRELOAD": str(LIBFAKETIME),
                "FAKETIME_TIMESTAMP_FILE": str(file),
                "FAKETIME_NO_CACHE": "1",
                "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            }
            for place, file in enumerate(self._files)
        }


@dataclass
class Lease:
    """A key with a TTL: between which of our moments it ends, in milliseconds."""

    key: str
    life_ms: int
    first_ms: float
    last_ms: float
    gone: bool = False


class Leases:
    """Keys with TTLs, written and looked at through all nodes; `errors_ms` has how far off each answer was at least."""

    def __init__(self, nodes: Sequence[WireNode]) -> None:
        self._clients = [node.client() for node in nodes]
        self._random = random.Random(1)
        self.leases: list[Lease] = []
        self.errors_ms: list[tuple[float, str]] = []

    def add(self, *lives_ms: int) -> None:
        """A key of each life through each node."""
        for place, client in enumerate(self._clients):
            for life_ms in lives_ms:
                key = f"lease:{len(self.leases)}"
                first_ms = _now_ms() + life_ms
                assert client.set(key, place, px=life_ms)
                self.leases.append(Lease(key, life_ms, first_ms, _now_ms() + life_ms))

    def look(self) -> None:
        """Asks some nodes for some of the keys that were there."""
        present = [lease for lease in self.leases if not lease.gone]
        for lease in self._random.sample(present, min(len(present), LOOKS)):
            asked_ms = _now_ms()
            left_ms = self._random.choice(self._clients).pttl(lease.key)
            answered_ms = _now_ms()
            lease.gone = left_ms == -2
            low_ms, high_ms = lease.first_ms - answered_ms, lease.last_ms - asked_ms
            error_ms = max(low_ms, 0) if lease.gone else max(low_ms - left_ms, left_ms - high_ms, 0)
            self.errors_ms.append((error_ms, f"{lease.key}: PTTL {left_ms}, not {low_ms:.0f} to {high_ms:.0f}"))

    def wait_for_the_end(self, life_ms: int) -> None:
        """Looks until all of at most that life are gone."""
        wait_for(lambda: self.look() or self.are_gone(life_ms), f"the keys of up to {life_ms} ms are gone", 60)

    def are_gone(self, life_ms: int) -> bool:
        """Whether all of at most that life are."""
        return all(lease.gone for lease in self.leases if lease.life_ms <= life_ms)


def _now_ms() -> float:
    return time.monotonic() * 1000
