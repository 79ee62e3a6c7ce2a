"""The hybrid logical clock, which makes the counters of dots (promise P2: a dot is never issued twice).

Theory. The counter of a dot is a reading of a hybrid logical clock (Kulkarni et al., 2014): milliseconds in the upper
bits, a sequence number in the lower 16. The clock only moves forward. Each reading is greater than all readings that
this node has issued or received. So dots order writes by time, which last-write-wins needs. If one write follows
another, on whatever nodes, it gets the greater counter, even if the nodes' wall clocks are wrong.

No dot is issued twice, and no memory is needed for that: each time a data directory is opened, the node draws a new
random actor. So a wiped directory, an older copy of one, or one that lost unsynced writes cannot make its node repeat a
dot. A restart loses only the state of the clock, and that belonged to the old actor.

The milliseconds come from cluster time (cluster_time.py), not from the node's own wall clock. So a node with a wrong
clock still makes right dots. Nothing may expire by the hybrid clock: it follows the fastest clock that it hears of, and
then does not move until time has caught up.
"""

from __future__ import annotations

from protocol.bounds import TIME_MS_MAX

SEQUENCE_BITS = 16
_TIME_MS_MAX = TIME_MS_MAX >> 1  # other nodes refuse counters out of range, so not even a wrong clock may make one


class HybridClock:
    """The clock of one actor. `advance` brings in cluster time, `observe` the readings of other nodes.

    A reading more than `drift_ms_max` ahead of cluster time is refused and counted. Otherwise one node that does not
    know cluster time and has a broken clock would set the hybrid clocks of the whole cluster into the future.
    """

    __slots__ = ("drift_ms_max", "last", "refused", "time_ms")

    def __init__(self, time_ms: int, drift_ms_max: int) -> None:
        self.time_ms = time_ms = min(time_ms, _TIME_MS_MAX)
        self.drift_ms_max = drift_ms_max
        self.last = time_ms << SEQUENCE_BITS
        self.refused = 0

    def advance(self, time_ms: int) -> None:
        """Moves the clock forward to `time_ms` (cluster time), never back, and not beyond its bound."""
        self.time_ms = time_ms = min(time_ms, _TIME_MS_MAX)
        reading = time_ms << SEQUENCE_BITS
        if reading > self.last:
            self.last = reading

    def observe(self, reading: int) -> bool:
        """Moves the clock forward to another node's reading. Returns False, and does not move, if that is too far ahead."""
        if reading > self.last:
            if self._is_far(reading):
                self.refused += 1
                return False
            self.last = reading
        return True

    def follow(self, counter: int) -> None:
        """Moves the clock forward to the counter of a dot in a client's context, unless that is too far ahead."""
        if counter > self.last and not self._is_far(counter):
            self.last = counter

    def _is_far(self, reading: int) -> bool:
        return (reading >> SEQUENCE_BITS) - self.time_ms > self.drift_ms_max

    def begin_anew(self) -> None:
        """Sets the clock back to cluster time. Only for an actor that has issued no dot."""
        self.last = self.time_ms << SEQUENCE_BITS

    @property
    def is_far_ahead(self) -> bool:
        """Whether other nodes would refuse this clock's reading."""
        return self._is_far(self.last)

    def next(self) -> int:
        """HOT. Returns the counter of a new dot."""
        self.last += 1
        return self.last
