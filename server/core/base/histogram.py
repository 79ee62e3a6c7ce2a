"""Histograms of times: four buckets for each power of two of microseconds.

So a percentile is at most a quarter too high.

A histogram only grows, since Prometheus takes a count that goes back for a restart. After CONFIG RESETSTAT, as in Redis,
INFO and LATENCY show what has come since: `recent` is the difference to what was there then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from mypy_extensions import i64

_STEPS: Final = 4  # buckets for each power of two
_BUCKETS: Final = 140  # the last one takes everything from 2**36 microseconds, 19 hours, on


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
    """The times of one command, or of one phase: `calls` of them, `sum_us` in all."""

    __slots__ = ("_before", "calls", "counts", "sum_us")

    def __init__(self) -> None:
        self.calls: i64 = 0
        self.sum_us: i64 = 0
        self.counts = [0] * _BUCKETS
        self._before: Histogram | None = None  # what was there at the last CONFIG RESETSTAT

    def add(self, time_us: i64, calls: i64) -> None:
        """HOT. So many calls took this time."""
        self.calls += calls
        self.sum_us += calls * time_us
        self.counts[bucket_of(time_us)] += calls

    def begin_anew(self) -> None:
        """From now on `recent` counts from zero."""
        self._before = None
        self._before = self.recent()

    def recent(self) -> Histogram:
        """A copy with the times since the last `begin_anew`."""
        return self.since(Histogram() if self._before is None else self._before)

    def copy(self) -> Histogram:
        """A copy with all times."""
        return self.since(Histogram())

    def since(self, before: Histogram) -> Histogram:
        """A copy with the times that have come since `before` was copied."""
        found = Histogram()
        found.calls = self.calls - before.calls
        found.sum_us = self.sum_us - before.sum_us
        found.counts = [now - then for now, then in zip(self.counts, before.counts, strict=True)]
        return found

    def join(self, other: Histogram) -> None:
        """Adds the times of another histogram."""
        self.calls += other.calls
        self.sum_us += other.sum_us
        self.counts = [mine + its for mine, its in zip(self.counts, other.counts, strict=True)]

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


def recent_of(histograms: Mapping[str, Histogram]) -> dict[str, Histogram]:
    """The times of each since its last `begin_anew`, without those that have none."""
    found = {name: times.recent() for name, times in histograms.items()}
    return {name: times for name, times in found.items() if times.calls}
