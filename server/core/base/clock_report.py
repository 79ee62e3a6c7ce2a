"""Clocks that are off: who is told so, and how the status shows it.

Theory. A node follows the hybrid clocks of the others forward (clock.py), but refuses a reading that lies more than
`clock_drift_ms_max` ahead of its own wall clock. Nobody would learn of that, and least of all the node to blame. So
whoever refuses a peer's readings tells it by how much with its next word of gossip (CLOCKOFF), and the told node's log
says so: its own clock is ahead, or the teller's is behind.

Long before that, an operator should know. Each node's answer to STATUS carries its wall clock. What we read ourselves
before we ask and after all have answered are the bounds of what a right clock may say, so what lies outside is off, by
that much at least, however long the answers took. The clock in the middle of all is held for right, so that the
node that is off is named, whichever node is asked.
"""

from __future__ import annotations

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

    def complaints(self) -> dict[str, int]:
        """Which members have lately refused our clock's readings, by name, and by how many ms they were ahead."""
        since_ms = self._state.now_ms - TOLD_KEPT_MS
        return {
            self._state.layout_name(peer): ahead_ms
            for peer, (at_ms, ahead_ms) in self._told.items()
            if at_ms > since_ms and peer in self._state.members
        }


def remarks(clocks_ms: dict[str, int], asked_ms: int, answered_ms: int, warn_ms: int) -> list[str]:
    """A sentence for each clock that is more than `warn_ms` off: what each node, by name, read between those two times."""
    offsets = {name: _outside(clock_ms, asked_ms, answered_ms) for name, clock_ms in clocks_ms.items()}
    if not offsets:
        return []
    middle_ms = sorted(offsets.values())[(len(offsets) - 1) // 2]
    return [
        f"the clock of {name} is {round(abs(offset_ms - middle_ms) / 1000)} s "
        f"{'ahead of' if offset_ms > middle_ms else 'behind'} the others': set it (NTP), for writes are ordered by it"
        for name, offset_ms in offsets.items()
        if abs(offset_ms - middle_ms) > warn_ms
    ]


def _outside(clock_ms: int, from_ms: int, to_ms: int) -> int:
    """How far a reading lies before (negative) or behind a span of time."""
    return min(0, clock_ms - from_ms) + max(0, clock_ms - to_ms)
