"""Whether this node is too late to coordinate: what the other nodes send to it reaches it late.

Theory. A slow owner does not hold up a quorum, because the R or W fastest answer. But every write that it coordinates waits
for it. So a node that is late says so (LATE), and then the next owner of its keys coordinates them: for the clients of
other nodes and for its own. It still stores writes and answers reads. What has been relayed to it, it runs (routing.py).

Why the late node decides. If each node judged others by its own view, two of them would coordinate the same keys for long,
and SETs that follow each other in time could become siblings. By a word of the late node itself they do so only while that
word is on its way, as with a full disk.

How it knows. Each relay and each CLOCK message says when it was sent, and relay_ages.py makes that an age. A node keeps the
mean of the ages for each peer. Its *lateness* is the lower median of these means: one bad path is not its own lateness. An
age counts as `AGE_MS_MAX` at most, and one age counts in `SAMPLE_MS`: a pause of a second is over when it is noticed.

    is not late, and has   a lateness of LATE_MS or more, and RELATIVE times that of the others     becomes late
    is late, and has had   a lateness and an excess of less than LATE_MS / 2 for CALM_MS            is not late any more

Ages fade: clocks may drift, so a constant delay counts 1 ms less with each second (relay_ages.py). Round trips do not, as
one clock measures them. TIME and TIMED, which travel with the gossip, give one for each peer once a second. The *excess* is
the lower median of what the mean round trips are longer than the shortest ones so far. It comes too seldom to notice
lateness soon, but it keeps a late node late. A node that has always been far away has no excess.

Nodes tell each other their lateness with their gossip. If all are late, because all share one busy machine, it would help
nobody to move the work to and fro. "That of the others" is the lower median of what they have told.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

LATE_MS: Final = 50
RELATIVE: Final = 4
AGE_MS_MAX: Final = 200
SAMPLE_MS: Final = 20
CALM_MS: Final = 5000
VALID_MS: Final = 5000  # what was measured or told longer ago than this does not count
_NEWEST: Final = 0.1  # weight of the newest age in the mean
_NEWEST_ROUND_TRIP: Final = 0.25  # the same of round trips, which are rarer


class Mean:
    """The mean age of what one peer sends, and when the last age came."""

    __slots__ = ("mean_ms", "noted_ms")

    def __init__(self) -> None:
        self.mean_ms = 0.0
        self.noted_ms = -SAMPLE_MS


class RoundTrip:
    """The mean and the shortest round trip to one peer, and when the last one ended."""

    __slots__ = ("least_ms", "mean_ms", "noted_ms")

    def __init__(self, first_ms: int) -> None:
        self.least_ms = first_ms
        self.mean_ms = float(first_ms)
        self.noted_ms = 0


class Lateness:
    """The lateness of one node, and its verdict `is_late`. `now_ms` is monotonic."""

    def __init__(self) -> None:
        self.is_late = False
        self._means: dict[str, Mean] = {}
        self._round_trips: dict[str, RoundTrip] = {}
        self._told: dict[str, tuple[int, int]] = {}  # by peer: its lateness, and when it told that
        self._calm_ms = 0  # while this node is late: since when its lateness is small again

    def note(self, peer: str, age_ms: int, now_ms: int) -> None:
        """HOT. A message of `peer` has come, which was so old."""
        known = self._means.get(peer)
        if known is None:
            known = self._means[peer] = Mean()
        if now_ms - known.noted_ms >= SAMPLE_MS:
            known.noted_ms = now_ms
            age_ms = age_ms if age_ms < AGE_MS_MAX else AGE_MS_MAX
            known.mean_ms += (age_ms - known.mean_ms) * _NEWEST

    def answered_after(self, peer: str, round_trip_ms: int, now_ms: int) -> None:
        """`peer` has answered a TIME."""
        known = self._round_trips.get(peer)
        if known is None:
            known = self._round_trips[peer] = RoundTrip(round_trip_ms)
        known.least_ms = min(known.least_ms, round_trip_ms)
        known.mean_ms += (min(round_trip_ms, known.least_ms + AGE_MS_MAX) - known.mean_ms) * _NEWEST_ROUND_TRIP
        known.noted_ms = now_ms

    def told(self, peer: str, lateness_ms: int, now_ms: int) -> None:
        """`peer` has told its lateness."""
        self._told[peer] = (lateness_ms, now_ms)

    def own_ms(self, now_ms: int) -> int:
        """Returns the lateness of this node; 0 if nothing has come lately."""
        return _lower_median([int(each.mean_ms) for each in self._means.values() if now_ms - each.noted_ms < VALID_MS])

    def _excess_ms(self, now_ms: int) -> int:
        """Returns how much longer round trips are than the shortest ones; 0 if there were none lately."""
        known = [each for each in self._round_trips.values() if now_ms - each.noted_ms < VALID_MS]
        return _lower_median([int(each.mean_ms) - each.least_ms for each in known])

    def judge(self, now_ms: int) -> bool:
        """With each tick: updates `is_late`, and returns whether it has changed."""
        own_ms = self.own_ms(now_ms)
        if self.is_late:
            if max(own_ms, self._excess_ms(now_ms)) >= LATE_MS // 2:
                self._calm_ms = now_ms
            self.is_late = now_ms - self._calm_ms < CALM_MS
            return not self.is_late
        told = [lateness_ms for lateness_ms, told_ms in self._told.values() if now_ms - told_ms < VALID_MS]
        if not told or own_ms < LATE_MS or own_ms < RELATIVE * _lower_median(told):
            return False
        self.is_late = True
        self._calm_ms = now_ms
        return True


def _lower_median(numbers: Sequence[int]) -> int:
    return sorted(numbers)[(len(numbers) - 1) // 2] if numbers else 0
