"""Cluster time: the median of all members' clocks. Keys expire by it, and the hybrid clock follows it.

Theory. A wall clock may be hours off, and it may jump. A monotonic clock does neither, but it counts from an unknown
moment. So a node computes cluster time as its monotonic clock plus an *offset*, and learns the offset from all members.
For each member the node keeps an interval that contains "that member's wall clock minus our monotonic clock". A
question leaves at our t0, and the answer w comes at our t1. So w was read in between, and the difference lies in [w -
t1, w - t0]. The node intersects the intervals of one member. Intervals grow with age, because clocks drift. If a new
interval does not meet the one before, that member's clock was set, and the new interval replaces the old one.

The offset of cluster time is the *median* of all members' offsets. While most clocks are right to within e, the median
is right to within e, however wrong the others are. A member that has never answered counts as a clock that may read
anything. So the median is an interval, too: from the median of all lower ends to the median of all upper ends. With an
even number of members it reaches from one of the two middle clocks to the other. Members that are down keep their
intervals, which go on growing. (Marzullo, 1984, and TigerBeetle's clock look for the interval that most sources agree
on. We take the median, because small errors move it by no more than themselves. So all nodes find nearly the same
offset.)

How the offset follows the median:

    the offset is                           cluster time                        reason
    inside the median's interval            stays                               a few wrong clocks move nothing; nor does
                                                                                one of two
    outside it, by up to `step_ms_max`      moves there slowly, by a hundredth  most clocks were set; a step would change
                                            of the time that passes             every TTL by that much
    outside it, by more                     steps there at once, either way     most clocks were badly wrong, or machines
                                                                                were paused; moving would take most of a
                                                                                day

While it moves slowly, a TTL is right within 1 %, and cluster time never runs backwards. TIME and EXAT are off by the
remaining distance, which the status shows. After a step back, keys that had expired and are not collected yet exist
again. If the operating system says that the machine has slept, that time has passed: it is added at once (`slept`).

The start. A new process knows only its own clock, which may be the wrong one. So it *waits*: it holds commands and
relays (node.py) until one of these happens, but for at most WAIT_MS_MAX:

- a member that is sure of cluster time has sent it;
- all members have answered;
- no member is left that may answer.

Then it begins at the median of the clocks that it knows. If their number is even, it takes the lower one: if two halves
disagree, keys should live too long rather than too short. If no majority of members is among them and agrees, the node
is *not sure* (a node alone uses its own clock): it tells others nothing, and steps as soon as it is sure. Dots that
were made by a wrong clock meanwhile lie in the future. That does no harm: plain writes and contexts supersede them all
the same, no hybrid clock follows them, and expiry does not look at dots.

How exact it is: `bound_ms` says that. It contains reading errors, drift, and the distance still to go. If a clock is
set by less than a round trip, that may not be noticed. Nodes of older versions do not answer; they count as members
that have never answered.
"""

from __future__ import annotations

from collections.abc import Sequence

READING_MS = 10  # the event loop's `now` may be this old when a message is read or sent, on either side
DRIFT = 1000  # two clocks drift by at most 1 ms in so many ms; NTP slews by half of that
SLEW = 100  # the offset moves by at most 1 ms in so many ms
WAIT_MS_MAX = 1000
AGREE_MS = (
    1000  # a majority within this range is enough to be sure; members that have not answered yet cannot move it further
)
MANY, LOOK_MS = 32, 1000  # the clocks of more members are compared once in that time, not in each tick
_FAR: int = 1 << 60


class ClusterTime:
    """Cluster time as one node knows it. `now_ms` is monotonic; offsets and intervals are wall clock minus monotonic."""

    __slots__ = (
        "_awaited", "_learned", "_looked_ms", "_members", "_own", "_samples", "_self_id", "_silent", "_since_ms",
        "_slewed_ms", "_step_ms_max", "is_set", "is_sure", "offset_ms", "steps",
    )  # fmt: skip

    def __init__(self, self_id: str, step_ms_max: int, offset_ms: int) -> None:
        """`offset_ms` is our wall clock minus the monotonic clock, as known before the first tick."""
        self.offset_ms = offset_ms  # cluster time minus `now_ms`
        self.is_set = False  # the wait is over: keys may expire by this clock, and dots be made
        self.is_sure = False  # a majority of members agrees
        self.steps = 0
        self._self_id = self_id
        self._step_ms_max = step_ms_max
        self._members: tuple[str, ...] = ()
        self._samples: dict[str, tuple[int, int, int]] = {}  # other member -> lower end, upper end, when (monotonic)
        self._own = offset_ms
        self._awaited: dict[str, None] = {}  # members whose first answer may still come
        self._silent: dict[str, None] = {}  # members that did not answer during the wait
        self._learned: list[int] = []  # offsets, by members that are sure
        self._since_ms: int | None = None  # when the wait began
        self._slewed_ms = 0  # the moment up to which the offset has moved
        self._looked_ms = -LOOK_MS  # when the clocks of many members were last compared

    def begin(self, offset_ms: int) -> None:
        """Starts again with nothing but our own clock: `offset_ms` is our wall clock minus the monotonic clock."""
        self._own = self.offset_ms = offset_ms
        self.is_set = self.is_sure = False
        self._since_ms = None
        self._learned = []

    def set_members(self, ids: Sequence[str]) -> None:
        """Sets the members of the layout, this node included; none if it has left."""
        others = [node for node in ids if node != self._self_id]
        if not self._members or not ids:
            self.begin(self._own)
        known = self._members
        self._awaited = {node: None for node in others if node in self._awaited or node not in known}
        self._members = tuple(ids)
        self._samples = {node: self._samples[node] for node in others if node in self._samples}

    # --- input

    def read_own(self, offset_ms: int) -> None:
        """Notes our wall clock minus the monotonic clock."""
        self._own = offset_ms

    def slept(self, duration_ms: int) -> None:
        """Adds time that the machine has slept: the monotonic clock stood still, and other clocks did not."""
        if not duration_ms:
            return
        self.offset_ms += duration_ms
        for node, (low_ms, high_ms, taken_ms) in self._samples.items():
            self._samples[node] = (low_ms + duration_ms, high_ms + duration_ms, taken_ms)

    def sample(self, member: str, asked_ms: int, wall_ms: int, now_ms: int) -> None:
        """Notes that a member's wall clock showed `wall_ms` at some moment between `asked_ms` and now."""
        if member not in self._members or member == self._self_id or not now_ms - asked_ms >= 0:
            return
        self._awaited.pop(member, None)
        low_ms, high_ms = wall_ms - now_ms - READING_MS, wall_ms - asked_ms + READING_MS
        before = self._samples.get(member)
        if before is not None:
            old_low_ms, old_high_ms = _aged(before, now_ms)
            if low_ms <= old_high_ms and old_low_ms <= high_ms:
                low_ms, high_ms = max(low_ms, old_low_ms), min(high_ms, old_high_ms)
        self._samples[member] = (low_ms, high_ms, now_ms)

    def learn(self, asked_ms: int, time_ms: int, now_ms: int) -> None:
        """Notes that a member that is sure had cluster time `time_ms` at some moment between `asked_ms` and now."""
        if not self.is_sure:
            self._learned.append(time_ms - (asked_ms + now_ms) // 2)

    def reached(self, member: str) -> None:
        """A member became reachable: waits for its answer, unless sure already, or it was silent before (old version)."""
        if self.is_sure or member not in self._members or member in self._samples or member in self._silent:
            return
        self._awaited[member] = None
        if self.is_set:
            self.is_set = False
            self._since_ms = None

    def cannot_reach(self, member: str) -> None:
        """A member is not reachable at present: do not wait for its answer."""
        self._awaited.pop(member, None)

    # --- result

    def follow(self, now_ms: int) -> bool:
        """Updates the offset after input, or as time passes. Returns True if it has stepped instead of moving slowly."""
        if self.is_sure:
            return self._follow_slowly(now_ms)
        self._slewed_ms = now_ms
        before_ms = self.offset_ms
        low_ms, high_ms = self.middle(now_ms)
        present_ms = self.offset_ms if self.is_set else self._own
        if not self._members:
            self.offset_ms = self._own
        elif self._learned:
            self.offset_ms, self.is_set, self.is_sure = self._learned[0], True, True
        elif self._knows_all() or self.is_set or self._has_waited(now_ms):
            self.offset_ms, self.is_set = self._best_guess(present_ms, now_ms), True
            self.is_sure = self._knows_all() or high_ms - low_ms <= AGREE_MS
        else:
            self.offset_ms = self._own
        return self.offset_ms != before_ms

    def _follow_slowly(self, now_ms: int) -> bool:
        if len(self._members) > MANY and 0 <= now_ms - self._looked_ms < LOOK_MS:
            return False
        self._looked_ms = now_ms
        low_ms, high_ms = self.middle(now_ms)
        gap_ms = _clamped(self.offset_ms, low_ms, high_ms) - self.offset_ms
        most_ms = (now_ms - self._slewed_ms) // SLEW
        self._slewed_ms += most_ms * SLEW
        if abs(gap_ms) > self._step_ms_max:
            self.offset_ms += gap_ms
            self.steps += 1
            return True
        self.offset_ms += _clamped(gap_ms, -most_ms, most_ms)
        return False

    def _has_waited(self, now_ms: int) -> bool:
        if self._since_ms is None:
            self._since_ms = now_ms
        if now_ms - self._since_ms >= WAIT_MS_MAX:
            self._silent.update(self._awaited)
            self._awaited.clear()
        return not self._awaited

    def _knows_all(self) -> bool:
        return len(self._samples) == len(self._members) - 1

    def _best_guess(self, present_ms: int, now_ms: int) -> int:
        """Returns the offset for a start: the median of the known clocks. Nodes that know the same clocks get the same."""
        return _clamped(present_ms, *_lower_median(self._intervals(now_ms)))

    def _intervals(self, now_ms: int) -> list[tuple[int, int]]:
        return [(self._own - 1, self._own + 1), *(_aged(sample, now_ms) for sample in self._samples.values())]

    def middle(self, now_ms: int) -> tuple[int, int]:
        """Returns the interval of the median of all members' offsets; its ends are beyond 2**59 if they are not known."""
        return _middle(self._intervals(now_ms), max(1, len(self._members)))

    def bound_ms(self, now_ms: int) -> int | None:
        """How far cluster time may be from the median of all members' clocks; None if no majority is known."""
        low_ms, high_ms = self.middle(now_ms)
        bound_ms = max(self.offset_ms - low_ms, high_ms - self.offset_ms)
        return bound_ms if bound_ms < _FAR // 2 else None

    def gap_ms(self, now_ms: int) -> int:
        """How far cluster time certainly is ahead of the median (negative: behind). Not 0: most clocks were set."""
        return self.offset_ms - _clamped(self.offset_ms, *self.middle(now_ms))

    def reference(self, now_ms: int) -> tuple[int, int]:
        """Returns the interval of offsets of right clocks, as far as this node knows. The status judges clocks by it."""
        low_ms, high_ms = self.middle(now_ms)
        if high_ms - low_ms > AGREE_MS:
            return self.offset_ms, self.offset_ms
        return low_ms, high_ms

    def own_error_ms(self, now_ms: int) -> int:
        """How far our own wall clock is ahead of a right clock (negative: behind)."""
        return self._own - _clamped(self._own, *self.reference(now_ms))


def _aged(sample: tuple[int, int, int], now_ms: int) -> tuple[int, int]:
    low_ms, high_ms, taken_ms = sample
    drift_ms = -((taken_ms - now_ms) // DRIFT)  # rounded up
    return low_ms - drift_ms, high_ms + drift_ms


def _middle(intervals: Sequence[tuple[int, int]], count: int) -> tuple[int, int]:
    """Returns the interval of the median of `count` numbers: known by `intervals`, the others may be anything."""
    unknown = count - len(intervals)
    lows = sorted([low for low, _ in intervals] + [-_FAR] * unknown)
    highs = sorted([high for _, high in intervals] + [_FAR] * unknown)
    return lows[(count - 1) // 2], highs[count // 2]


def _lower_median(intervals: Sequence[tuple[int, int]]) -> tuple[int, int]:
    index = (len(intervals) - 1) // 2
    return sorted([low for low, _ in intervals])[index], sorted([high for _, high in intervals])[index]


def _clamped(value: int, low: int, high: int) -> int:
    return low if value < low else high if value > high else value
