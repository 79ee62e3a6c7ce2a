"""Long computations (ring/computation.py) in small parts: each turn does a part, so that no turn takes long.

Theory. If a node computed for a second, its clients and other nodes would wait for a second. So a computation runs
until the turn has done its share of such work, then pauses, and goes on in a later turn. All computations of a node use
the same share. A short computation ends in the turn in which it began, like a plain call.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from server.core.base.state import State
from server.core.ring.computation import Computation, Result
from server.core.work.background import Background
from server.core.work.procedures import Step

TURN_UNITS_MAX = 2500  # units (ring/computation.py) per turn: a few milliseconds
PAUSE_MS = 4  # clients are served meanwhile, so a computation takes at most half of the time


class Computing:
    """Runs the computations of a node."""

    def __init__(self, state: State, background: Background) -> None:
        self._state = state
        self._background = background
        self._turn = -1
        self._units = 0  # units done in turn `_turn`

    def run(self, computation: Computation[Result]) -> Generator[Step, Any, Result]:
        """Runs a computation to its end: `result = yield from computing.run(computation)`."""
        while True:
            if self._used() >= TURN_UNITS_MAX:
                yield self._background.sleep(PAUSE_MS)
                continue
            try:
                self._units += next(computation)
            except StopIteration as stop:
                result: Result = stop.value
                return result

    def charge(self, units: int) -> None:
        """Counts units that the present turn has done in one go, outside `run`."""
        self._used()
        self._units += units

    def reserve(self, units: int) -> Generator[Step, Any, None]:
        """Waits for a turn that can do `units` in one go, and counts them: `yield from computing.reserve(units)`.

        The caller does that work next. A turn that has done no units yet can always do it.
        """
        while (used := self._used()) and used + units > TURN_UNITS_MAX:
            yield self._background.sleep(PAUSE_MS)
        self._units += units

    def _used(self) -> int:
        """Returns how many units the present turn has done."""
        turn = self._state.turn
        if turn != self._turn:
            self._turn, self._units = turn, 0
        return self._units
