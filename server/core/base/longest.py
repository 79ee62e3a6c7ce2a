"""The longest of the times that were measured lately.

Theory. A limit that follows what is measured must rise at once and fall slowly. So the longest time of the present window
and of the one before it counts: a time is remembered for one to two windows. A window in which nothing was measured is
extended, as it says nothing. Before the first window has ended, the longest time is unknown, and counts as very long.
"""

from __future__ import annotations

from typing import Final

WINDOW_MS: Final = 20_000
UNKNOWN_MS: Final = 1 << 40


class Longest:
    """The longest time of one kind, in ms."""

    __slots__ = ("_former_ms", "_present_ms", "_since_ms", "ms")

    def __init__(self) -> None:
        self.ms = UNKNOWN_MS  # the longest lately
        self._former_ms = UNKNOWN_MS  # in the last window
        self._present_ms = -1  # in this one; -1: nothing was measured
        self._since_ms = -1

    def note(self, taken_ms: int) -> None:
        """Notes a measured time."""
        if taken_ms > self._present_ms:
            self._present_ms = taken_ms
            self.ms = max(self.ms, taken_ms)

    def advance(self, now_ms: int) -> None:
        """Begins another window if this one is over. To be called in each tick."""
        if self._since_ms < 0:
            self._since_ms = now_ms
        elif now_ms - self._since_ms >= WINDOW_MS and self._present_ms >= 0:
            self.ms = self._former_ms = self._present_ms
            self._present_ms, self._since_ms = -1, now_ms
