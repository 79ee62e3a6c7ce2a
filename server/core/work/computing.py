"""Computing: long computations (ring/computation.py) do some of their work in each turn, so that no turn is long.

Theory. What a node computes for a second would keep its clients, and its answers to other nodes, waiting for as long. So a
computation runs until the turn has had its share, pauses, and goes on in a later turn. All computations of a node share the
share of a turn. A short one ends within the turn in which it began: nothing is then different from a plain call.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from server.core.base.state import State
from server.core.ring.computation import Computation, Result
from server.core.work.background import Background
from server.core.work.procedures import Step

TURN_UNITS_MAX = 2500  # a few milliseconds
PAUSE_MS = 4  # in which clients are served: a computation takes half of the time at most


class Computing:
    """Runs the computations of a node."""

    def __init__(self, state: State, background: Background) -> None:
        self._state = state
        self._background = background
        self._turn = -1
        self._units = 0  # done in that turn

    def run(self, computation: Computation[Result]) -> Generator[Step, Any, Result]:
        """Runs a computation to its end: `result = yield from computing.run(computation)`."""
        while True:
            if self._used() >= TURN_UNITS_MAX:
                yield self._background.pause(PAUSE_MS)
                continue
            try:
                self._units += next(computation)
            except StopIteration as stop:
                result: Result = stop.value
                return result

    def charge(self, units: int) -> None:
        """The present turn has done so much that was not cut into steps."""
        self._used()
        self._units += units

    def reserve(self, units: int) -> Generator[Step, Any, None]:
        """Waits for a turn that has room for so many units at once, or has done nothing yet: what takes them comes next,
        `yield from computing.reserve(units)`."""
        while (used := self._used()) and used + units > TURN_UNITS_MAX:
            yield self._background.pause(PAUSE_MS)
        self._units += units

    def _used(self) -> int:
        """The units that the present turn has done."""
        turn = self._state.turn
        if turn != self._turn:
            self._turn, self._units = turn, 0
        return self._units
