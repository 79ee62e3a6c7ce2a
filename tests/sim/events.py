"""Virtual time: a heap of events. Events of the same millisecond happen in the order in which they were asked for."""

from __future__ import annotations

import heapq
from collections.abc import Callable

Action = Callable[[], object]


class Events:
    """The one clock of a simulation, in milliseconds from its start, and what is to happen."""

    def __init__(self) -> None:
        self.now_ms = 0
        self.step = 0  # events so far: orders what happens within a millisecond
        self._sequence = 0
        self._heap: list[tuple[int, int, Action]] = []

    def after(self, delay_ms: int, action: Action) -> None:
        """`action` happens `delay_ms` from now."""
        self._sequence += 1
        heapq.heappush(self._heap, (self.now_ms + delay_ms, self._sequence, action))

    def run(self, duration_ms: int, until: Callable[[], bool] | None = None) -> bool:
        """Lets `duration_ms` pass, or less if `until` holds before; returns whether it held in the end."""
        end_ms = self.now_ms + duration_ms
        while self._heap and self._heap[0][0] <= end_ms:
            if until is not None and until():
                return True
            self.now_ms, _, action = heapq.heappop(self._heap)
            self.step += 1
            action()
        if until is not None and until():
            return True
        self.now_ms = end_ms
        return False
