"""Pauses: how a procedure waits for time to pass, in a node that gets the time as an argument.

Theory. Background work (repair, hint replay, scrub) is written as procedures that do a little and then pause. A pause
is a row in a heap. `Node.tick` and `Node.wake` resume the procedures that are due. `next_ms` tells the shell when to
wake the node between two ticks, so a pause may be shorter than a tick.
"""

from __future__ import annotations

import heapq
from collections import deque

from server.core.work.procedures import Procedure, Step


class Timers:
    """The pauses of all procedures of a node, by the monotonic clock."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, Procedure]] = []
        self._count = 0

    def pause_until(self, due_ms: int) -> Step:
        """A step that waits until `due_ms`; its result is None."""

        def start(procedure: Procedure) -> None:
            self._count += 1  # pauses that end at the same time resume in the order in which they began
            heapq.heappush(self._rows, (due_ms, self._count, procedure))

        return start

    def expire(self, now_ms: int) -> None:
        """Resumes the procedures whose pause is over. If one raises, the others that are due stay in the heap."""
        rows = self._rows
        due: deque[tuple[int, int, Procedure]] = deque()
        while rows and rows[0][0] <= now_ms:
            due.append(heapq.heappop(rows))
        try:
            while due:
                due.popleft()[2].resume(None)
        finally:
            for row in due:
                heapq.heappush(rows, row)

    def next_ms(self) -> int | None:
        """Returns when the next pause ends, or None."""
        return self._rows[0][0] if self._rows else None
