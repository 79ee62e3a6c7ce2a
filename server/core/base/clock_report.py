"""Reports wall clocks that are wrong, in messages to the nodes and in the status.

Theory. A wrong wall clock does no harm while most clocks are right, because no node uses its own clock alone
(cluster_time.py). But if more clocks become wrong, cluster time becomes wrong, too. So operators should know. Each node
answers STATUS with a reading of its wall clock. The asking node knows the range in which a right clock can read: from
the median of the members' clocks before the question to the same median after the last answer. If a reading is outside
that range, the clock is off by at least the distance to it, however long the answers took. So the wrong clock is named,
no matter which node is asked. A node also compares its own clock, and writes to its log that the clock is wrong.

A node that knows no majority uses its own clock. If that clock is more than `clock_drift_ms_max` ahead, other nodes do
not follow its hybrid clock. A node that refuses such a reading says so with its next gossip to that node (CLOCKOFF).
"""

from __future__ import annotations

from server.core.base.cluster_time import SLEW
from server.core.base.state import State
from server.core.messages.announcements import encode_clockoff

COMPLAINT_KEPT_MS = 10_000


class ClockReport:
    """The complaints about clocks that this node sends to others, and those that it has received."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ahead_ms: dict[str, int] = {}  # refused peers that have not got CLOCKOFF yet: how far they are ahead
        self._received: dict[str, tuple[int, int]] = {}  # sender -> when, how far we are ahead by its clock

    def refused(self, peer: str, ahead_ms: int) -> None:
        """Notes that a reading of `peer` was refused because it is `ahead_ms` ahead of our wall clock."""
        self._ahead_ms[peer] = ahead_ms

    def complain(self, peer: str) -> None:
        """With each gossip to `peer`: sends CLOCKOFF if its clock was refused since the last one."""
        ahead_ms = self._ahead_ms.pop(peer, 0)
        if ahead_ms:
            self._state.send(peer, encode_clockoff(self._state.clock_reading(), ahead_ms))

    def complained(self, peer: str, ahead_ms: int) -> None:
        """Notes a CLOCKOFF of `peer`: it refuses our readings, which are `ahead_ms` ahead of its wall clock."""
        self._state.statistics.clock_complaints += 1
        self._received[peer] = (self._state.now_ms, ahead_ms)

    def own_error_ms(self) -> int:
        """How far our wall clock is ahead of the median (negative: behind it); 0 if it is within `clock_warn_ms`."""
        state = self._state
        error_ms = state.cluster_time.own_error_ms(state.now_ms)
        return error_ms if abs(error_ms) > state.config.clock_warn_ms else 0

    def complaints(self) -> dict[str, int]:
        """Returns the names of members that have lately refused our readings, and how many ms these were ahead."""
        since_ms = self._state.now_ms - COMPLAINT_KEPT_MS
        return {
            self._state.layout_name(peer): ahead_ms
            for peer, (at_ms, ahead_ms) in self._received.items()
            if at_ms > since_ms and peer in self._state.members
        }


def clock_remarks(clocks_ms: dict[str, int], from_ms: int, to_ms: int, warn_ms: int) -> list[str]:
    """Returns a sentence for each clock that is more than `warn_ms` off.

    `clocks_ms` are the nodes' readings, by name. A right clock reads between `from_ms` and `to_ms`.
    """
    offsets = {name: _outside(clock_ms, from_ms, to_ms) for name, clock_ms in clocks_ms.items()}
    return [
        f"the clock of {name} is {in_words(offset_ms)} the others': set it (NTP); keys expire by the middle of all clocks"
        for name, offset_ms in offsets.items()
        if abs(offset_ms) > warn_ms
    ]


def in_words(offset_ms: int) -> str:
    """Returns the distance between two clocks as text, like "5 s ahead of"."""
    return f"{round(abs(offset_ms) / 1000)} s {'ahead of' if offset_ms > 0 else 'behind'}"


def time_remarks(state: State) -> list[str]:
    """Returns a sentence if cluster time differs from the median of the clocks, because most of them were set."""
    gap_ms = state.cluster_time.gap_ms(state.now_ms)
    if abs(gap_ms) <= state.config.clock_warn_ms:
        return []
    minutes = abs(gap_ms) * SLEW // 60_000
    return [f"most clocks were set: the time that keys expire by is {in_words(gap_ms)} them and follows within "
            f"{minutes} min, so that no TTL is off by more than 1%"]  # fmt: skip


def _outside(clock_ms: int, from_ms: int, to_ms: int) -> int:
    """Returns how far a reading is before (negative) or behind a span of time; 0 if it is inside."""
    return min(0, clock_ms - from_ms) + max(0, clock_ms - to_ms)
