"""Timers: how a procedure waits for time to pass, in a node that gets the time as an argument.

Theory. Background work (repair, hint replay, scrub) is written as procedures that do a little and then sleep. Each sleep
is a row in a heap. `Node.tick` and `Node.wake` resume the procedures that are due. `next_ms` tells the shell when to
wake the node between two ticks, so a sleep may be shorter than a tick. A call at a certain time is a row, too.

Long commands do a slice of some milliseconds and then pause for a turn (commands/slices.py). If a hundred clients send
such commands at once, a hundred slices in one turn would be as bad as no slices. So these procedures are a queue: each
turn resumes the first `SLICES_PER_TURN` of it. All of them advance equally fast.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from server.core.work.procedures import Procedure, Step

SLICES_PER_TURN: Final = 2  # of about 5 ms
CALLS_PER_TURN: Final = 1024  # that are due at one time; the others are made in the next turns
_CANCELLED_MIN: Final = 64


class Timers:
    """The sleeping procedures of a node, and other calls that are due later, by the monotonic clock."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, int, Callable[[], None]]] = []
        self._slices: deque[tuple[int, Callable[[], None]]] = deque()
        self._cancelled: set[int] = set()  # numbers of rows that are still in the heap; never iterated
        self._count = 0

    def call_at(self, due_ms: int, call: Callable[[], None]) -> int:
        """Calls `call` at `due_ms`. Returns the number of the row, for `cancel`."""
        self._count += 1  # what is due at the same time is called in the order in which it was entered
        heapq.heappush(self._rows, (due_ms, self._count, call))
        return self._count

    def cancel(self, number: int) -> None:
        """Removes a row that has not been due. So many rows that are cancelled early cost what a few do: the heap is
        cleared of them once they are the larger part."""
        self._cancelled.add(number)
        if len(self._cancelled) > len(self._rows) // 2 + _CANCELLED_MIN:
            self._rows = [row for row in self._rows if row[1] not in self._cancelled]
            heapq.heapify(self._rows)
            self._cancelled.clear()

    def sleep_until(self, due_ms: int) -> Step:
        """A step that waits until `due_ms`; its result is None."""

        def start(procedure: Procedure) -> None:
            self.call_at(due_ms, partial(procedure.resume, None))

        return start

    def pause_for_turn(self, due_ms: int) -> Step:
        """A step that waits for its place in one of the turns from `due_ms` on; its result is None."""

        def start(procedure: Procedure) -> None:
            self._slices.append((due_ms, partial(procedure.resume, None)))

        return start

    def expire(self, now_ms: int) -> None:
        """Resumes the procedures whose sleep is over, and makes the other calls that are due.

        If one raises, the others that are due stay in the heap.
        """
        rows = self._rows
        due: deque[tuple[int, int, Callable[[], None]]] = deque()
        while rows and rows[0][0] <= now_ms and len(due) < CALLS_PER_TURN:
            row = heapq.heappop(rows)
            if row[1] in self._cancelled:
                self._cancelled.discard(row[1])
            else:
                due.append(row)
        try:
            while due:
                _, number, call = due.popleft()
                if number in self._cancelled:  # by one of the calls before it
                    self._cancelled.discard(number)
                else:
                    call()
        finally:
            for row in due:
                heapq.heappush(self._rows, row)
        for _ in range(SLICES_PER_TURN):
            if self._slices and self._slices[0][0] <= now_ms:
                self._slices.popleft()[1]()

    def next_ms(self) -> int | None:
        """Returns when the next row or slice is due, or None."""
        if not self._slices:
            return self._rows[0][0] if self._rows else None
        return min(self._slices[0][0], self._rows[0][0]) if self._rows else self._slices[0][0]
