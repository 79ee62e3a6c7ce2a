"""First come, first served: in which order the attempts of waiting clients run at the coordinator of their key.

The problem. A client that is called tries by a message of its own, and the messages of several homes come in any order.
Just then other clients may begin to wait: they would take what is there for the ones that were called.

The idea. An attempt is judged by the rows of its key before it reads:

    the client                   the rows of other clients                            the attempt
    is called                    an earlier one is called                             waits for that one
    is called                    else                                                 runs
    has just come, or            they are as many as the elements, or more            leaves a row behind them
    its row is not called        fewer, and none is called yet                        leaves a row behind them
                                 fewer, and some are called                           waits for those
                                 none, or there are no elements on this node          runs

Rows of homes that cannot be reached do not count, nor do clients that were called more than `AHEAD_MS` ago: one node that
is frozen delays the clients of the others by that time, and then lets them go first.

An attempt that waits begins anew in a turn of its own, not within the removal that it has waited for: that one has read its
key and has not written it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from heapq import heappop, heappush
from typing import Final

from server.core.base.state import State
from server.core.records.versions import DamagedRecord
from server.core.records.views import View
from server.core.waiting.rows import Queue, Row, WaitingRows
from server.core.work.procedures import Procedure, Steps
from server.core.work.timers import Timers

AHEAD_MS: Final = 250  # far more than an attempt takes, and no long wait beside a node that is frozen
RESUMED_PER_TURN: Final = 256
RUNS, LEAVES_ROW, WAITS = 0, 1, 2
_Parked = tuple[int, int, Callable[[], None]]  # place, number, what resumes the attempt


class Order:
    """Judges the attempts at this node, and keeps those that wait for earlier ones."""

    def __init__(self, state: State, rows: WaitingRows, timers: Timers) -> None:
        self._state = state
        self._rows = rows
        self._timers = timers
        self._parked: dict[Queue, list[_Parked]] = {}  # heaps
        self._due: dict[Queue, None] = {}  # queues that are looked at in the next turn
        self._looked_at: dict[Queue, None] = {}  # queues that are looked at within `AHEAD_MS`
        self._count = 0
        rows.freed = self._resume_soon

    def passed(self, home: str, number: int, storage_key: bytes, key_type: int) -> Steps:
        """The steps before the attempt of a client. They return b"" if it may run, and None if it leaves a row."""
        place = 0
        while True:
            queue = self._rows.queue_of(storage_key, key_type)
            if queue is None:
                return b""
            row = queue.find(home, number)
            if row is not None and row.called_ms >= 0:
                place = row.place
            verdict = self._judge(queue, place) if place else self._judge_newcomer(queue)
            if verdict == RUNS:
                return b""
            if verdict == LEAVES_ROW:
                self._rows.look_again(storage_key)
                return None
            place = place or self._rows.next_place()
            yield partial(self._park, queue, place)

    def _judge(self, queue: Queue, place: int) -> int:
        """The verdict on a client that is called, or that has waited here for others."""
        return WAITS if self._is_behind(queue, place) else RUNS

    def _judge_newcomer(self, queue: Queue) -> int:
        """The verdict on a client that is not called."""
        elements = self._elements(queue)
        called = sum([self._is_ahead(row) for row in queue.called.values()])
        waiting = self._rows.reachable(queue)
        if not elements or not called + waiting:
            return RUNS
        return WAITS if called and elements > called + waiting else LEAVES_ROW

    def _elements(self, queue: Queue) -> int:
        try:
            view = View(self._state.records.get(queue.storage_key), self._state.time_ms)
        except DamagedRecord:
            return 0  # the attempt says so
        return len(view) if view.key_type == queue.key_type else 0

    def _is_ahead(self, row: Row) -> bool:
        return row.called_ms + AHEAD_MS > self._state.now_ms

    def _is_behind(self, queue: Queue, place: int) -> bool:
        return any(row.place < place and self._is_ahead(row) for row in queue.called.values())

    # --- attempts that wait

    def _park(self, queue: Queue, place: int, procedure: Procedure) -> None:
        """The step of an attempt that waits for those with lower places."""
        self._count += 1
        parked: _Parked = (place, self._count, partial(procedure.resume, None))
        heappush(self._parked.setdefault(queue, []), parked)
        self._look_later(queue)

    def _look_later(self, queue: Queue) -> None:
        """Clients that were called may never try: those that wait for them are looked at from time to time."""
        if queue not in self._looked_at:
            self._looked_at[queue] = None
            self._timers.call_at(self._state.now_ms + AHEAD_MS, partial(self._look, queue))

    def _look(self, queue: Queue) -> None:
        del self._looked_at[queue]
        self._resume(queue)
        if queue in self._parked:
            self._look_later(queue)

    def _resume_soon(self, queue: Queue) -> None:
        """A client is not called any more: it was served, or has gone, or others go first."""
        if queue in self._parked and queue not in self._due:
            self._due[queue] = None
            self._timers.call_at(self._state.now_ms, partial(self._resume, queue))

    def _resume(self, queue: Queue) -> None:
        self._due.pop(queue, None)
        parked, count = self._parked.get(queue), 0
        while parked and count < RESUMED_PER_TURN and not self._is_behind(queue, parked[0][0]):
            count += 1
            heappop(parked)[2]()
        if parked == []:
            self._parked.pop(queue, None)
        elif count == RESUMED_PER_TURN:
            self._resume_soon(queue)
