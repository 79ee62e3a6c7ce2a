"""Times the commands of one connection, for core/services/latencies.py.

Theory. The hot path may not pay for a clock twice a command. So commands that begin together are one *batch* with one
reading, and the end of a turn reads the clock once for all connections. A batch is over when as many replies have left as
commands have begun up to its end: a connection's replies leave in the order of its commands.
"""

from __future__ import annotations

import functools
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from server.core.commands.registry import commands_by_name, find_command
from server.core.services.latencies import Latencies

_NS_PER_US: Final = 1000
_WAITING = ("wait", "waitaof")  # they wait on purpose, as blocking commands do


Runs = list[tuple[str, int]]  # names of commands, each with how many calls follow each other


@functools.cache
def _singles() -> dict[bytes, Runs]:
    """The runs of batches of one command, by its word."""
    return {word: [(spec.name, 1)] for word, spec in commands_by_name().items() if not spec.subcommands}


class Clock:
    """When the replies of the present turn left, by the monotonic clock in nanoseconds."""

    def __init__(self) -> None:
        self.left_ns = 0

    def read(self) -> None:
        """HOT. Once before the replies of a turn are written."""
        self.left_ns = time.monotonic_ns()


class Batch:
    """Commands that began together: `begun_ns` is when, `end` how many of the connection's had begun up to the last one.
    `last` are the arguments of that one; those of the others are not kept, they may be large."""

    __slots__ = ("begun_ns", "end", "last", "runs")

    def __init__(self, end: i64, begun_ns: i64, runs: Runs, last: list[bytes]) -> None:
        self.end: i64 = end
        self.begun_ns: i64 = begun_ns
        self.runs = runs
        self.last = last


class Timing:
    """The commands of one connection whose replies have not left yet."""

    def __init__(self, latencies: Latencies, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._latencies = latencies
        self._specs, self._singles = commands_by_name(), _singles()
        self._now_ns = now_ns
        self._begun: i64 = 0  # commands, since the connection was made
        self._answered: i64 = 0
        self._first: Batch | None = None
        self._later: deque[Batch] | None = None  # behind `_first`; the usual case is one batch at a time

    def began(self, batch: list[list[bytes]]) -> None:
        """HOT. These commands begin now."""
        self._begun += len(batch)
        begun = Batch(self._begun, self._now_ns(), self._runs(batch), batch[-1])
        if self._first is None:
            self._first = begun
            return
        if self._later is None:
            self._later = deque()
        self._later.append(begun)

    def answered(self, count: i64, left_ns: i64, address: str, client_name: bytes) -> None:
        """HOT. So many replies leave."""
        self._answered += count
        while (batch := self._first) is not None and batch.end <= self._answered:
            took_us = (left_ns - batch.begun_ns) // _NS_PER_US
            for name, calls in batch.runs:
                self._latencies.add(name, took_us, calls)
            if took_us > self._latencies.told_us:
                self._tell(batch.last, took_us, address, client_name)
            self._first = self._later.popleft() if self._later else None

    def _runs(self, batch: list[list[bytes]]) -> Runs:
        """HOT. The names of the commands, without unknown ones."""
        if len(batch) == 1 and (single := self._singles.get(batch[0][0])) is not None:
            return single
        runs: Runs = []
        start, word = 0, batch[0][0]
        for place in range(1, len(batch)):
            other = batch[place][0]
            if other != word:
                self._add_run(runs, batch, start, place)
                start, word = place, other
        self._add_run(runs, batch, start, len(batch))
        return runs

    def _add_run(self, runs: Runs, batch: list[list[bytes]], start: int, end: int) -> None:
        """HOT. Adds commands that have the same first word."""
        spec = self._specs.get(batch[start][0])
        if spec is not None and not spec.subcommands:
            runs.append((spec.name, end - start))
            return
        found = [find_command(args) for args in batch[start:end]]
        runs.extend([(each.name, 1) for each in found if each is not None])

    def _tell(self, args: list[bytes], took_us: int, address: str, client_name: bytes) -> None:
        """Tells the last command of a slow batch, unless it is one that waits on purpose."""
        spec = find_command(args)
        if spec is not None and spec.name not in _WAITING and "blocking" not in spec.flags.split():
            self._latencies.tell(spec.name, took_us, args, address, client_name)
