"""How long the commands of this node's clients took: a histogram for each command, and the last slow ones.

Theory. A time is what the client has waited for, as far as the node can see it: from the moment when its commands begin
until their replies are given to the kernel, after the commit and the answers of the quorum. (Redis counts the processor's
time of a command, since it waits for nobody.) Commands of one connection that begin together are timed together: all of
them have the time of the last one. The shell reads the clock, once for each such batch and once for each turn (timing.py).

A histogram has four buckets for each power of two of microseconds, so a percentile is at most a quarter too high.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from mypy_extensions import i64

from server.core.base.state import State

_STEPS: Final = 4  # buckets for each power of two
_BUCKETS: Final = 140  # the last one takes everything from 2**36 microseconds, 19 hours, on
_SHOWN_ARGUMENTS_MAX, _SHOWN_BYTES_MAX = 32, 128  # of a command in the slow log, as in Redis
_SECRETIVE = frozenset(("auth", "hello", "acl|setuser", "config|set"))
_REDACTED = [b"(redacted)"]


def bucket_of(time_us: i64) -> i64:
    """HOT. The bucket of a time."""
    shift: i64 = 0
    while time_us >= 2 * _STEPS:
        time_us >>= 1
        shift += 1
    bucket = _STEPS * shift + time_us
    return 0 if bucket < 0 else bucket if bucket < _BUCKETS else _BUCKETS - 1


def bucket_end_us(bucket: int) -> int:
    """The largest time of a bucket."""
    if bucket < _STEPS:
        return bucket
    shift = bucket // _STEPS - 1
    return ((bucket % _STEPS + _STEPS + 1) << shift) - 1


class Histogram:
    """The times of one command: `calls` of them, `sum_us` in all."""

    __slots__ = ("calls", "counts", "sum_us")

    def __init__(self) -> None:
        self.calls: i64 = 0
        self.sum_us: i64 = 0
        self.counts = [0] * _BUCKETS

    def add(self, time_us: i64, calls: i64) -> None:
        """HOT. So many calls took this time."""
        self.calls += calls
        self.sum_us += calls * time_us
        self.counts[bucket_of(time_us)] += calls

    def percentile_us(self, percent: float) -> int:
        """The time within which `percent` of the calls were answered; 0 if there are none."""
        wanted = int(self.calls) * percent / 100
        for end_us, count in self.cumulative():
            if count >= wanted:
                return end_us
        return 0

    def cumulative(self) -> Iterator[tuple[int, int]]:
        """The largest time of each bucket that has some, and how many calls took that or less."""
        passed = 0
        for bucket, count in enumerate(self.counts):
            if count:
                passed += count
                yield bucket_end_us(bucket), passed


class SlowCommand(NamedTuple):
    """A line of the slow log. `time_ms`: cluster time when its reply left; `count`: the commands that began with it."""

    number: int
    time_ms: int
    took_us: int
    arguments: list[bytes]
    address: str
    client_name: bytes


class Latencies:
    """The histograms by command, and the slow log."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.by_command: dict[str, Histogram] = {}
        self.slow: deque[SlowCommand] = deque(maxlen=state.config.slowlog_entries_max)
        self.slow_us = state.config.slowlog_slower_than_us  # commands that take longer are logged; negative: none
        self._slow_number = 0

    def add(self, name: str, time_us: i64, calls: i64) -> None:
        """HOT. So many calls of the command `name` took this time."""
        histogram = self.by_command.get(name)
        if histogram is None:
            histogram = self.by_command[name] = Histogram()
        histogram.add(time_us, calls)

    def log_slow(self, name: str, took_us: int, args: Sequence[bytes], address: str, client_name: bytes) -> None:
        """Logs a command as slow. What may be a password is not kept."""
        kept = _REDACTED if name in _SECRETIVE else shortened(args)
        self.slow.appendleft(SlowCommand(self._slow_number, self._state.time_ms, took_us, kept, address, client_name))
        self._slow_number += 1

    def keep(self, count_max: int) -> None:
        """Keeps so many slow commands at most from now on."""
        self.slow = deque(list(self.slow)[:count_max], maxlen=count_max)


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
