"""Cluster time: what keys expire by, and what the hybrid clock follows. It is told by most clocks, not by the fastest.

Theory. A wall clock may be hours off and may jump; a monotonic clock does neither, but counts from no known moment. So
a node keeps time by its monotonic clock plus an *offset*, and learns the offset from all members. For each of them it
keeps an interval that holds "that member's wall clock less our monotonic clock": a question leaves at our t0, the
answer w comes at our t1, so w was read in between and the offset lies in [w - t1, w - t0]. Intervals of one member are
intersected, and widen with age, for clocks drift; one that does not meet its predecessor replaces it: that clock was
set.

The offset of cluster time is the *median* of all members' offsets: while most clocks are right to within e, so is the
median, wherever the others are. A member never heard of counts as a clock that may read anything, so the median is an
interval, too: the medians of all lower and of all upper ends; of an even number it reaches from one of the two middle
clocks to the other. Members that are down keep their place, and their intervals age. (Marzullo, 1984, and TigerBeetle's
clock look for the interval that most sources agree on; small errors move a median by no more than themselves, so all
nodes find nearly the same one.)

How the offset follows. It stays where it is while it lies within that interval: a few wrong clocks move nothing, put
right or not, nor does one of two. Outside it, most clocks were set. Then a step would take that much from the life of
every key, or hold up every expiry, though time has passed as ever. So the offset goes there slowly, by a hundredth of
the time that passes: a TTL is right within 1 %, TIME and EXAT are off meanwhile by what is left (the status tells it),
and cluster time never runs backwards. A difference beyond `step_ms_max` would take most of a day; it means that most
clocks were badly wrong, or that machines were paused without their monotonic clocks noticing. So that is stepped over,
either way. After a step back what had expired in between and is not collected yet is there again. What the machine has
slept, by its own account (`slept`), has passed: it is added at once.

The beginning. A process that has just started knows its own clock only, which may be the wrong one. It *waits*:
commands and relays are held (node.py) until a member that is sure of cluster time has told it, or all members have
answered, or nobody is left to be asked, but WAIT_MS_MAX at the most. It begins at the median of the clocks that it
knows by then, of an even number at the lower one: where two halves disagree, keys live too long rather than die too
soon. If no majority is among them that agrees, the node is not sure of it (alone it goes by its own clock): it tells
others nothing, and steps as soon as it is sure. Dots made meanwhile by a wrong clock lie in the future. That harms
nobody: plain writes and contexts supersede them all the same, no hybrid clock follows them, and expiry does not look at
dots.

How good it is: `bound_ms`. It covers reading errors, drift, and the way still to go. A clock that is set by less than a
round trip may go unnoticed for that much. Older nodes do not answer; they count as members never heard of.
"""

from __future__ import annotations

from collections.abc import Sequence

READING_MS = 10  # by so much a loop's idea of now may lag when a message is read or sent, on both sides
DRIFT = 1000  # two clocks gain at most one millisecond on each other in so many; NTP slews by half of that
SLEW = 100  # the offset moves by at most one millisecond in so many
WAIT_MS_MAX = 1000
AGREE_MS = 1000  # a majority this close together is enough to begin with; who is not heard yet moves it no further
_FAR: int = 1 << 60


class ClusterTime:
    """The clock of one node. `now_ms` is monotonic; intervals are of wall clocks less that."""

    __slots__ = (
        "_awaited", "_members", "_own", "_samples", "_self_id", "_silent", "_since_ms", "_slewed_ms", "_step_ms_max",
        "_told", "is_set", "is_sure", "offset_ms", "steps",
    )  # fmt: skip

    def __init__(self, self_id: str, step_ms_max: int, offset_ms: int) -> None:
        """`offset_ms` is by how much our own wall clock is ahead of the monotonic one, until the first tick says."""
        self.offset_ms = offset_ms  # of cluster time from `now_ms`
        self.is_set = False  # a member's: keys may be judged by it, and dots made
        self.is_sure = False  # a majority stands behind it
        self.steps = 0
        self._self_id = self_id
        self._step_ms_max = step_ms_max
        self._members: tuple[str, ...] = ()
        self._samples: dict[str, tuple[int, int, int]] = {}  # of the other members: lower end, upper end, when
        self._own = offset_ms
        self._awaited: dict[str, None] = {}  # members that may yet answer for the first time
        self._silent: dict[str, None] = {}  # members that were waited for in vain
        self._told: list[int] = []  # offsets, by members that are sure
        self._since_ms: int | None = None  # when the wait began
        self._slewed_ms = 0  # up to when the offset has moved

    def begin(self, offset_ms: int) -> None:
        """The process runs from now on, its own wall clock so far ahead of the monotonic one: what was known is void."""
        self._own = self.offset_ms = offset_ms
        self.is_set = self.is_sure = False
        self._since_ms = None
        self._told = []

    def set_members(self, ids: Sequence[str]) -> None:
        """The members of the layout, this node included; none once it has left."""
        others = [node for node in ids if node != self._self_id]
        if not self._members or not ids:
            self.begin(self._own)
        known = self._members
        self._awaited = {node: None for node in others if node in self._awaited or node not in known}
        self._members = tuple(ids)
        self._samples = {node: self._samples[node] for node in others if node in self._samples}

    # What is heard

    def read_own(self, offset_ms: int) -> None:
        """Our own wall clock, less the monotonic one."""
        self._own = offset_ms

    def slept(self, duration_ms: int) -> None:
        """The monotonic clock has stood still for so long, and all others have not."""
        if not duration_ms:
            return
        self.offset_ms += duration_ms
        for node, (low_ms, high_ms, taken_ms) in self._samples.items():
            self._samples[node] = (low_ms + duration_ms, high_ms + duration_ms, taken_ms)

    def sample(self, member: str, asked_ms: int, wall_ms: int, now_ms: int) -> None:
        """The member's wall clock read `wall_ms` at some time between `asked_ms` and now."""
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

    def told(self, asked_ms: int, time_ms: int, now_ms: int) -> None:
        """A member that is sure of cluster time read it at some time between `asked_ms` and now."""
        if not self.is_sure:
            self._told.append(time_ms - (asked_ms + now_ms) // 2)

    def reached(self, member: str) -> None:
        """There is a way to that member: what is not sure waits for its word. Not if it never gave one: an older node."""
        if self.is_sure or member not in self._members or member in self._samples or member in self._silent:
            return
        self._awaited[member] = None
        if self.is_set:
            self.is_set = False
            self._since_ms = None

    def cannot_reach(self, member: str) -> None:
        """There is no way to that member at present: nobody waits for it."""
        self._awaited.pop(member, None)

    # What follows from it

    def follow(self, now_ms: int) -> bool:
        """Time has passed, or something was heard. Answers True where the offset has stepped instead of moving slowly."""
        if self.is_sure:
            return self._follow_slowly(now_ms)
        self._slewed_ms = now_ms
        before_ms = self.offset_ms
        low_ms, high_ms = self.middle(now_ms)
        present_ms = self.offset_ms if self.is_set else self._own
        if not self._members:
            self.offset_ms = self._own
        elif self._told:
            self.offset_ms, self.is_set, self.is_sure = self._told[0], True, True
        elif self._knows_all() or self.is_set or self._has_waited(now_ms):
            self.offset_ms, self.is_set = self._best_guess(present_ms, now_ms), True
            self.is_sure = self._knows_all() or high_ms - low_ms <= AGREE_MS
        else:
            self.offset_ms = self._own
        return self.offset_ms != before_ms

    def _follow_slowly(self, now_ms: int) -> bool:
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
        """By the clocks that are known. All nodes that know the same ones guess the same."""
        return _clamped(present_ms, *_lower_median(self._intervals(now_ms)))

    def _intervals(self, now_ms: int) -> list[tuple[int, int]]:
        return [(self._own - 1, self._own + 1), *(_aged(sample, now_ms) for sample in self._samples.values())]

    def middle(self, now_ms: int) -> tuple[int, int]:
        """Between which offsets the median of all members' clocks lies; beyond 2**59 where nobody knows."""
        return _middle(self._intervals(now_ms), max(1, len(self._members)))

    def bound_ms(self, now_ms: int) -> int | None:
        """By how much cluster time may differ from the median of all members' clocks; None if no majority is known."""
        low_ms, high_ms = self.middle(now_ms)
        bound_ms = max(self.offset_ms - low_ms, high_ms - self.offset_ms)
        return bound_ms if bound_ms < _FAR // 2 else None

    def gap_ms(self, now_ms: int) -> int:
        """By how much cluster time is certainly ahead of that median (behind it, if negative): most clocks were set."""
        return self.offset_ms - _clamped(self.offset_ms, *self.middle(now_ms))

    def reference(self, now_ms: int) -> tuple[int, int]:
        """Between which offsets a right clock lies, as far as anybody knows: what the members' clocks are judged by."""
        low_ms, high_ms = self.middle(now_ms)
        if high_ms - low_ms > AGREE_MS:
            return self.offset_ms, self.offset_ms
        return low_ms, high_ms

    def own_error_ms(self, now_ms: int) -> int:
        """By how much our own wall clock is ahead of that (behind it, if negative)."""
        return self._own - _clamped(self._own, *self.reference(now_ms))


def _aged(sample: tuple[int, int, int], now_ms: int) -> tuple[int, int]:
    low_ms, high_ms, taken_ms = sample
    drift_ms = -((taken_ms - now_ms) // DRIFT)  # rounded up
    return low_ms - drift_ms, high_ms + drift_ms


def _middle(intervals: Sequence[tuple[int, int]], count: int) -> tuple[int, int]:
    """Between which numbers the median of `count` lies: of these intervals, and others that nothing is known of."""
    unknown = count - len(intervals)
    lows = sorted([low for low, _ in intervals] + [-_FAR] * unknown)
    highs = sorted([high for _, high in intervals] + [_FAR] * unknown)
    return lows[(count - 1) // 2], highs[count // 2]


def _lower_median(intervals: Sequence[tuple[int, int]]) -> tuple[int, int]:
    place = (len(intervals) - 1) // 2
    return sorted([low for low, _ in intervals])[place], sorted([high for _, high in intervals])[place]


def _clamped(value: int, low: int, high: int) -> int:
    return low if value < low else high if value > high else value
