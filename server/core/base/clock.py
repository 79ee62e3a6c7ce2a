"""The hybrid logical clock that counts dots (promise P2: a dot is never issued twice).

Theory. A dot's counter is a reading of a hybrid logical clock (Kulkarni et al., 2014): the milliseconds of the wall
clock in the upper bits, a sequence number in the lower 16. It only moves forward: each reading is greater than all that
this node has issued and all that it has heard of, so dots order writes by time for last-write-wins, and a write that
follows another anywhere in the cluster gets the greater counter, whatever the nodes' wall clocks say.

Uniqueness needs no memory that could be lost: an actor is drawn anew, at random, each time a data directory is opened,
so a wiped, rolled-back or half-synced directory can never make its node reissue a dot. What a restart forgets is only
the clock, and that belongs to the old actor.

The milliseconds come from cluster time (cluster_time.py) and not from the node's own wall clock, so a node whose clock is
wrong makes dots that are right. The hybrid clock is for dots only: it follows the fastest, and stands still until time has
caught up with it, so nothing may expire by it.
"""

from __future__ import annotations

from protocol.bounds import TIME_MS_MAX

SEQUENCE_BITS = 16
_TIME_MS_MAX = TIME_MS_MAX >> 1  # however wrong a clock is: no dot made by it may be one that others refuse


class HybridClock:
    """Readings for one actor. Cluster time comes in by `advance`, other nodes' readings by `observe`.

    A reading more than `drift_ms_max` ahead of cluster time is refused, so that one node that cannot know it, and whose own
    clock is broken, does not drag the cluster into the future; refusals are counted.
    """

    __slots__ = ("drift_ms_max", "last", "refused", "time_ms")

    def __init__(self, time_ms: int, drift_ms_max: int) -> None:
        self.time_ms = time_ms = min(time_ms, _TIME_MS_MAX)
        self.drift_ms_max = drift_ms_max
        self.last = time_ms << SEQUENCE_BITS
        self.refused = 0

    def advance(self, time_ms: int) -> None:
        """It is `time_ms`; the hybrid clock follows that forward, never back, and up to its bound."""
        self.time_ms = time_ms = min(time_ms, _TIME_MS_MAX)
        reading = time_ms << SEQUENCE_BITS
        if reading > self.last:
            self.last = reading

    def observe(self, reading: int) -> bool:
        """Another node has read `reading`. Answers False when that lies too far ahead to be believed."""
        if reading > self.last:
            if self._is_far(reading):
                self.refused += 1
                return False
            self.last = reading
        return True

    def follow(self, counter: int) -> None:
        """A client has seen the dot: what it writes next gets a greater one, unless that lies too far ahead."""
        if counter > self.last and not self._is_far(counter):
            self.last = counter

    def _is_far(self, reading: int) -> bool:
        return (reading >> SEQUENCE_BITS) - self.time_ms > self.drift_ms_max

    def begin_anew(self) -> None:
        """Goes back to where it would be had it never been wrong. Only for an actor that has made no dot."""
        self.last = self.time_ms << SEQUENCE_BITS

    @property
    def is_far_ahead(self) -> bool:
        """Whether others would not follow it."""
        return self._is_far(self.last)

    def next(self) -> int:
        """HOT. The counter of a new dot."""
        self.last += 1
        return self.last
