"""How long the commands of this node's clients took: a histogram for each command, the last slow ones, and when.

Theory. A time is what the client has waited for, as far as the node can see it: from the moment when its commands begin
until their replies are given to the kernel, after the commit and the answers of the quorum. (Redis counts the processor's
time of a command, since it waits for nobody.) Commands of one connection that begin together are timed together: all of
them have the time of the last one. The shell reads the clock, once for each such batch and once for each turn (timing.py).

The phases of a command are those that take time: the quorum (requests/groups.py, in whole milliseconds), the commit and
the sync (shell/durability.py). What takes longer than a threshold is told: to the slow log, to the monitor of latencies
(latency_monitor.py), or to both. The hot path compares with the lower of their thresholds.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

from mypy_extensions import i64

from server.core.base.histogram import Histogram
from server.core.base.state import State
from server.core.services.latency_monitor import LatencyMonitor

_SHOWN_ARGUMENTS_MAX, _SHOWN_BYTES_MAX = 32, 128  # of a command in the slow log, as in Redis
_SECRETIVE = frozenset(("auth", "hello", "acl|setuser", "config|set"))
_REDACTED = [b"(redacted)"]
NEVER_US = 1 << 60  # nothing takes so long


class SlowCommand(NamedTuple):
    """A line of the slow log. `time_ms`: cluster time when its reply left; `count`: the commands that began with it."""

    number: int
    time_ms: int
    took_us: int
    arguments: list[bytes]
    address: str
    client_name: bytes


class Latencies:
    """The histograms by command, the slow log, and the monitor of latencies."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.by_command: dict[str, Histogram] = {}
        self.commit, self.sync = Histogram(), Histogram()
        self.slow: deque[SlowCommand] = deque(maxlen=state.config.slowlog_entries_max)
        self._slow_number = 0
        self.monitor = LatencyMonitor(state)
        self._slow_us: i64 = NEVER_US  # commands that take longer are in the slow log
        self._spike_us: i64 = NEVER_US  # events that take so long or longer are samples of the monitor
        self.told_us: i64 = NEVER_US  # commands that take longer are given to `tell`
        self.read_settings()

    def read_settings(self) -> None:
        """Takes the thresholds and the length of the slow log from the settings."""
        config = self._state.config
        slow_us, threshold_ms = config.slowlog_slower_than_us, config.latency_monitor_threshold_ms
        self._slow_us = min(slow_us, NEVER_US) if slow_us >= 0 else NEVER_US
        self._spike_us = min(threshold_ms * 1000, NEVER_US) if threshold_ms > 0 else NEVER_US
        self.told_us = min(self._slow_us, self._spike_us - 1)
        self.slow = deque(list(self.slow)[: config.slowlog_entries_max], maxlen=config.slowlog_entries_max)

    def add(self, name: str, time_us: i64, calls: i64) -> None:
        """HOT. So many calls of the command `name` took this time."""
        histogram = self.by_command.get(name)
        if histogram is None:
            histogram = self.by_command[name] = Histogram()
        histogram.add(time_us, calls)

    def note(self, event: str, took_us: i64) -> None:
        """HOT. Gives the monitor what took as long as its threshold."""
        if took_us >= self._spike_us:
            self.monitor.add(event, took_us // 1000)

    def tell(self, name: str, took_us: i64, args: Sequence[bytes], address: str, client_name: bytes) -> None:
        """A command took longer than `told_us`."""
        self.note("command", took_us)
        if took_us > self._slow_us:
            self.log_slow(name, took_us, args, address, client_name)

    def log_slow(self, name: str, took_us: int, args: Sequence[bytes], address: str, client_name: bytes) -> None:
        """Logs a command as slow. What may be a password is not kept."""
        kept = _REDACTED if name in _SECRETIVE else shortened(args)
        self.slow.appendleft(SlowCommand(self._slow_number, self._state.time_ms, took_us, kept, address, client_name))
        self._slow_number += 1


def shortened(args: Sequence[bytes]) -> list[bytes]:
    """The arguments as the slow log shows them: few, and the start of each one."""
    count_max = _SHOWN_ARGUMENTS_MAX if len(args) <= _SHOWN_ARGUMENTS_MAX else _SHOWN_ARGUMENTS_MAX - 1
    kept = [_start_of(arg) for arg in args[:count_max]]
    if len(args) > count_max:
        kept.append(b"... (%d more arguments)" % (len(args) - count_max))
    return kept


def _start_of(arg: bytes) -> bytes:
    more = len(arg) - _SHOWN_BYTES_MAX
    return arg if more <= 0 else arg[:_SHOWN_BYTES_MAX] + b"... (%d more bytes)" % more
