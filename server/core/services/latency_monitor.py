"""The events of LATENCY: when something took as long as `latency_monitor_threshold_ms`, or longer.

Theory. A histogram (latencies.py) tells how often a node was slow, but not when. A sample tells when: it is the longest
time of an event within one second. As in Redis the last 160 samples of each event are kept, and the threshold is 0 by
default, which means that none are taken. The events are those of a node, and not of Redis' process:

    command      a command of a client, its quorum and its commit included, as in the slow log
    commit       a batch of writes that the storage engine took
    sync         a sync of the store before replies, with fsync = always
    event-loop   a pass of the event loop, told once a second: all clients of the node have waited for it
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from server.core.base.state import State

SAMPLES_MAX = 160  # of one event, as in Redis


class Sample(NamedTuple):
    """The longest time of an event within one second."""

    second: int  # since 1970, cluster time
    took_ms: int


class LatencyEvent:
    """The samples of one event, the earliest first, and its longest time since the start or the last LATENCY RESET."""

    def __init__(self) -> None:
        self.samples: deque[Sample] = deque(maxlen=SAMPLES_MAX)
        self.worst_ms = 0

    def add(self, sample: Sample) -> None:
        """Adds a sample, or makes the one of the same second longer."""
        self.worst_ms = max(self.worst_ms, sample.took_ms)
        if self.samples and self.samples[-1].second == sample.second:
            sample = max(sample, self.samples.pop())
        self.samples.append(sample)


class LatencyMonitor:
    """The events that took long, by name."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.events: dict[str, LatencyEvent] = {}

    def add(self, name: str, took_ms: int) -> None:
        """The event has just ended, and took so long."""
        self.events.setdefault(name, LatencyEvent()).add(Sample(self._state.time_ms // 1000, took_ms))

    def reset(self, names: list[str]) -> int:
        """Forgets the named events, or all of them if none are named. Returns how many it knew."""
        known = [name for name in dict.fromkeys(names or self.events) if name in self.events]
        for name in known:
            del self.events[name]
        return len(known)
