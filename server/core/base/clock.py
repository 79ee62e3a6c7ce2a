"""The hybrid logical clock that counts dots (promise P2: a dot is never issued twice).

Theory. A dot's counter is a reading of a hybrid logical clock (Kulkarni et al., 2014): the milliseconds of the wall
clock in the upper bits, a sequence number in the lower 16. It only moves forward: each reading is greater than all that
this node has issued and all that it has heard of, so dots order writes by time for last-write-wins, and a write that
follows another anywhere in the cluster gets the greater counter, whatever the nodes' wall clocks say.

Uniqueness needs no memory that could be lost: an actor is drawn anew, at random, each time a data directory is opened,
so a wiped, rolled-back or half-synced directory can never make its node reissue a dot. What a restart forgets is only
the clock, and that belongs to the old actor.

The same reading serves as the cluster's idea of "now" for expiry: after a few messages all nodes agree on it within
their message delay, so a key does not live on one node and not on the other when wall clocks differ.
"""

from __future__ import annotations

SEQUENCE_BITS = 16
COUNTER_MAX = (1 << 63) - 1


class HybridClock:
    """Readings for one actor. Wall time comes in by `advance`, other nodes' readings by `observe`.

    A reading more than `drift_ms_max` ahead of our own wall clock is refused, so that one node with a broken clock
    cannot drag the cluster into the future; refusals are counted.
    """

    __slots__ = ("drift_ms_max", "last", "refused", "wall_ms")

    def __init__(self, wall_ms: int, drift_ms_max: int) -> None:
        self.wall_ms = wall_ms
        self.drift_ms_max = drift_ms_max
        self.last = wall_ms << SEQUENCE_BITS
        self.refused = 0

    def advance(self, wall_ms: int) -> None:
        """Our wall clock reads `wall_ms`; the hybrid clock follows it forward, never back."""
        self.wall_ms = wall_ms
        reading = wall_ms << SEQUENCE_BITS
        if reading > self.last:
            self.last = reading

    def observe(self, reading: int) -> bool:
        """Another node has read `reading`. Answers False when that lies too far ahead to be believed."""
        if reading > self.last:
            if (reading >> SEQUENCE_BITS) - self.wall_ms > self.drift_ms_max:
                self.refused += 1
                return False
            self.last = reading
        return True

    def next(self) -> int:
        """HOT. The counter of a new dot."""
        self.last += 1
        return self.last

    @property
    def now_ms(self) -> int:
        """The cluster's wall time in milliseconds since 1970, for expiry."""
        return self.last >> SEQUENCE_BITS
