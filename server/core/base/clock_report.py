"""Clocks that are off: who is told so, and how the status shows it.

Theory. A wall clock that is off does no harm while most are right, for nobody goes by it (cluster_time.py). But it is
one of those that may be lost until too many are off, so an operator should know. Each node's answer to STATUS carries
its wall clock. What a right clock may read lies between the middle of the members' clocks before we asked, and after
all have answered; what lies outside is off by that much at least, however long the answers took. So the node that is
off is named, whichever node is asked. A node also compares its own clock, and writes to its log that it is off.

A node that knows no majority goes by its own clock. If that lies more than `clock_drift_ms_max` ahead, the others do
not follow its hybrid clock, and whoever refuses its readings tells it so with its next word of gossip (CLOCKOFF).
"""

from __future__ import annotations

from server.core.base.cluster_time import SLEW
from server.core.base.state import State

TOLD_KEPT_MS = 10_000


class ClockReport:
    """What a node has to tell others about their clocks, and was told about its own."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._ahead_ms: dict[str, int] = {}  # peers whose readings were refused and who do not know it yet
        self._told: dict[str, tuple[int, int]] = {}  # by whom: when, by how much we are ahead

    def refused(self, peer: str, ahead_ms: int) -> None:
        """A reading of `peer` lies too far ahead of our wall clock."""
        self._ahead_ms[peer] = ahead_ms

    def tell(self, peer: str) -> None:
        """Together with our gossip: tells `peer` if its clock was refused since the last time."""
        ahead_ms = self._ahead_ms.pop(peer, 0)
        if ahead_ms:
            self._state.send(peer, self._state.message(b"CLOCKOFF", ahead_ms))

    def told(self, peer: str, ahead_ms: int) -> None:
        """`peer` refuses our clock's readings, which lie that far ahead of its own wall clock."""
        self._state.statistics.clock_complaints += 1
        self._told[peer] = (self._state.now_ms, ahead_ms)

    def own_error_ms(self) -> int:
        """By how much our own wall clock is ahead of the middle of all (behind it, if negative); 0 if that is little."""
        state = self._state
        error_ms = state.cluster_time.own_error_ms(state.now_ms)
        return error_ms if abs(error_ms) > state.config.clock_warn_ms else 0

    def complaints(self) -> dict[str, int]:
        """Which members have lately refused our clock's readings, by name, and by how many ms they were ahead."""
        since_ms = self._state.now_ms - TOLD_KEPT_MS
        return {
            self._state.layout_name(peer): ahead_ms
            for peer, (at_ms, ahead_ms) in self._told.items()
            if at_ms > since_ms and peer in self._state.members
        }


def remarks(clocks_ms: dict[str, int], from_ms: int, to_ms: int, warn_ms: int) -> list[str]:
    """A sentence for each clock that is more than `warn_ms` off: what each node, by name, read, and between which readings
    that of a right clock lies."""
    offsets = {name: _outside(clock_ms, from_ms, to_ms) for name, clock_ms in clocks_ms.items()}
    return [
        f"the clock of {name} is {in_words(offset_ms)} the others': set it (NTP); keys expire by the middle of all clocks"
        for name, offset_ms in offsets.items()
        if abs(offset_ms) > warn_ms
    ]


def in_words(offset_ms: int) -> str:
    """How far one clock is from another."""
    return f"{round(abs(offset_ms) / 1000)} s {'ahead of' if offset_ms > 0 else 'behind'}"


def way_to_go(state: State) -> list[str]:
    """What there is to say where cluster time is away from the members' clocks, most of which were set."""
    gap_ms = state.cluster_time.gap_ms(state.now_ms)
    if abs(gap_ms) <= state.config.clock_warn_ms:
        return []
    minutes = abs(gap_ms) * SLEW // 60_000
    return [f"most clocks were set: the time that keys expire by is {in_words(gap_ms)} them and follows within "
            f"{minutes} min, so that no TTL is off by more than 1%"]  # fmt: skip


def _outside(clock_ms: int, from_ms: int, to_ms: int) -> int:
    """How far a reading lies before (negative) or behind a span of time."""
    return min(0, clock_ms - from_ms) + max(0, clock_ms - to_ms)
