"""The longest time lately: it rises at once, and falls after one to two windows in which something was measured."""

from __future__ import annotations

from server.core.base.longest import UNKNOWN_MS, WINDOW_MS, Longest


def test_it_is_unknown_until_a_whole_window_was_measured() -> None:
    longest = Longest()
    longest.advance(1000)
    longest.note(5)
    longest.advance(999 + WINDOW_MS)
    assert longest.ms == UNKNOWN_MS
    longest.advance(1000 + WINDOW_MS)
    assert longest.ms == 5


def test_it_rises_at_once_and_falls_slowly() -> None:
    longest = Longest()
    seen = []
    for window, measured in enumerate(([5], [7, 90, 3], [6], [8], [])):
        longest.advance(window * WINDOW_MS)
        for taken_ms in measured:
            longest.note(taken_ms)
        seen.append(longest.ms)
    assert seen == [UNKNOWN_MS, 90, 90, 8, 8]


def test_a_window_in_which_nothing_was_measured_says_nothing() -> None:
    longest = Longest()
    longest.advance(0)
    longest.note(400)
    longest.advance(WINDOW_MS)
    for window in range(2, 9):
        longest.advance(window * WINDOW_MS)
        assert longest.ms == 400
    longest.note(5)
    longest.advance(9 * WINDOW_MS)
    assert longest.ms == 5
