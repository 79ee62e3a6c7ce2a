"""Times the commands of one connection, for core/services/latencies.py.

Theory. The hot path may not pay for a clock twice a command. So commands that begin together are one *batch* with one
reading, and the end of a turn reads the clock once for all connections. A batch is over when as many replies have left as
commands have begun up to its end: a connection's replies leave in the order of its commands.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Final

from mypy_extensions import i64

from server.core.commands.registry import commands_by_name, find_command
from server.core.services.latencies import Latencies

_NS_PER_US: Final = 1000
_NO_COMMANDS: list[list[bytes]] = []  # stays empty
_WAITING = ("wait", "waitaof")  # they wait on purpose, as blocking commands do


class Clock:
    """When the replies of the present turn left, by the monotonic clock in nanoseconds."""

    def __init__(self) -> None:
        self.left_ns = 0

    def read(self) -> None:
        """HOT. Once before the replies of a turn are written."""
        self.left_ns = time.monotonic_ns()


class Timing:
    """The commands of one connection whose replies have not left yet. The usual case is one batch at a time, which has
    attributes of its own."""

    def __init__(self, latencies: Latencies, now_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._latencies = latencies
        self._specs = commands_by_name()
        self._now_ns = now_ns
        self._begun: i64 = 0  # commands, since the connection was made
        self._answered: i64 = 0
        # The first batch: how many commands have begun up to its end, when it began, and its commands; none if empty.
        self._end: i64 = 0
        self._begun_ns: i64 = 0
        self._batch = _NO_COMMANDS
        self._later: deque[tuple[i64, i64, list[list[bytes]]]] | None = None  # the same of those behind it

    def began(self, batch: list[list[bytes]]) -> None:
        """HOT. These commands begin now."""
        self._begun += len(batch)
        if not self._batch:
            self._end, self._begun_ns, self._batch = self._begun, self._now_ns(), batch
            return
        if self._later is None:
            self._later = deque()
        self._later.append((self._begun, self._now_ns(), batch))

    def answered(self, count: i64, left_ns: i64, address: str, client_name: bytes) -> None:
        """HOT. So many replies leave."""
        self._answered += count
        while self._batch and self._end <= self._answered:
            batch, took_us = self._batch, (left_ns - self._begun_ns) // _NS_PER_US
            self._count(batch, took_us)
            if took_us > self._latencies.slow_us >= 0:
                self._log(batch[-1], took_us, address, client_name)
            if self._later:
                self._end, self._begun_ns, self._batch = self._later.popleft()
            else:
                self._batch = _NO_COMMANDS

    def _count(self, batch: list[list[bytes]], took_us: i64) -> None:
        """HOT. Counts the commands of a batch, those of one name that follow each other at once."""
        start, word = 0, batch[0][0]
        for place in range(1, len(batch)):
            other = batch[place][0]
            if other != word:
                self._add(batch, start, place, took_us)
                start, word = place, other
        self._add(batch, start, len(batch), took_us)

    def _add(self, batch: list[list[bytes]], start: int, end: int, took_us: i64) -> None:
        """HOT. Adds commands that have the same first word."""
        spec = self._specs.get(batch[start][0])
        if spec is not None and not spec.subcommands:
            self._latencies.add(spec.name, took_us, end - start)
            return
        for args in batch[start:end]:
            if (found := find_command(args)) is not None:
                self._latencies.add(found.name, took_us, 1)

    def _log(self, args: list[bytes], took_us: int, address: str, client_name: bytes) -> None:
        """Logs the last command of a slow batch, unless it is one that waits on purpose."""
        spec = find_command(args)
        if spec is not None and spec.name not in _WAITING and "blocking" not in spec.flags.split():
            self._latencies.log_slow(spec.name, took_us, args, address, client_name)
