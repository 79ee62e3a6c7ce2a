"""Work that pauses: a generator yields after each slice, and returns its result (records/slicing.py has the theory)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final, TypeVar

Result = TypeVar("Result")
Slices = Generator[None, None, Result]  # pauses at each `yield`

SLICE_FIELDS: Final = 4096  # decoded, sorted or encoded in one slice: about 5 ms


class Pace:
    """Counts the work of a slice: `if pace.is_full(units): yield`."""

    __slots__ = ("_done", "_size")

    def __init__(self, size: int = SLICE_FIELDS) -> None:
        self._size = size
        self._done = 0

    def add(self, units: int) -> None:
        """Counts units that were done where no pause is possible: the next `is_full` tells."""
        self._done += units

    def is_full(self, units: int = 1) -> bool:
        """Counts units that were done. True if the slice has had its share: then the caller pauses."""
        self._done += units
        if self._done < self._size:
            return False
        self._done = 0
        return True


def run_through(slices: Slices[Result]) -> Result:
    """Runs work to its end at once, for a caller that cannot pause."""
    while True:
        try:
            next(slices)
        except StopIteration as stop:
            result: Result = stop.value
            return result
