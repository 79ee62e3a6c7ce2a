"""Times the commands of one connection, for core/services/latencies.py.

Theory. The hot path may not pay for a clock twice a command. So commands that begin together are one *batch* with one
reading, and the end of a turn reads the clock once for all connections. A batch is over when as many replies have left as
commands have begun up to its end: a connection's replies leave in the order of its commands.
"""

from __future__ import annotations

import time
from collections import deque

from server.core.commands.registry import commands_by_name, find_command
from server.core.services.latencies import Latencies

_NS_PER_US = 1000
_WAITING = ("wait", "waitaof")  # they wait on purpose, as blocking commands do


class Clock:
    """When the replies of the present turn left, by the monotonic clock in nanoseconds."""

    def __init__(self) -> None:
        self.left_ns = 0

    def read(self) -> None:
        """HOT. Once before the replies of a turn are written."""
        self.left_ns = time.monotonic_ns()


class Timing:
    """The commands of one connection whose replies have not left yet."""

    def __init__(self, latencies: Latencies) -> None:
        self._latencies = latencies
        self._specs = commands_by_name()
        self._begun = 0  # commands, since the connection was made
        self._answered = 0
        # Of each batch: how many commands have begun up to its end, when it began (ns), and its commands.
        self._batches: deque[tuple[int, int, list[list[bytes]]]] = deque()

    def began(self, batch: list[list[bytes]]) -> None:
        """HOT. These commands begin now."""
        self._begun += len(batch)
        self._batches.append((self._begun, time.monotonic_ns(), batch))

    def answered(self, count: int, left_ns: int, address: str, client_name: bytes) -> None:
        """HOT. So many replies leave."""
        self._answered += count
        batches = self._batches
        while batches and batches[0][0] <= self._answered:
            _, begun_ns, batch = batches.popleft()
            took_us = (left_ns - begun_ns) // _NS_PER_US
            self._count(batch, took_us)
            if took_us > self._latencies.slow_us >= 0:
                self._log(batch[-1], took_us, address, client_name)

    def _count(self, batch: list[list[bytes]], took_us: int) -> None:
        """Counts the commands of a batch, those of one name that follow each other at once."""
        start, word = 0, batch[0][0]
        for place, args in enumerate(batch):
            if args[0] != word:
                self._add(batch[start:place], took_us)
                start, word = place, args[0]
        self._add(batch[start:] if start else batch, took_us)

    def _add(self, run: list[list[bytes]], took_us: int) -> None:
        """Adds commands that have the same first word."""
        spec = self._specs.get(run[0][0])
        if spec is not None and not spec.subcommands:
            self._latencies.add(spec.name, took_us, len(run))
            return
        for args in run:
            if (found := find_command(args)) is not None:
                self._latencies.add(found.name, took_us, 1)

    def _log(self, args: list[bytes], took_us: int, address: str, client_name: bytes) -> None:
        """Logs the last command of a slow batch, unless it is one that waits on purpose."""
        spec = find_command(args)
        if spec is not None and spec.name not in _WAITING and "blocking" not in spec.flags.split():
            self._latencies.log_slow(spec.name, took_us, args, address, client_name)
