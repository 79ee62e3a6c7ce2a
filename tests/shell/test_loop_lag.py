"""How late the loop was is seen at each timer of the node, and a deadline that had passed already is no lateness."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest

from server.shell.facts import LoopLag
from server.shell.ticks import Ticks


class Shell:
    """What the timer asks of its server, at a time that the test sets. The next tick is far away: only wakes come."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_ms = self.deadline_ms = 1000
        self.due_ms = 0.0
        self.ticks = ticks = object.__new__(Ticks)
        ticks._lag, ticks._timer, ticks._ticked_ms, ticks._due_ms = LoopLag(), None, self.now_ms, self.now_ms
        node = SimpleNamespace(next_deadline_ms=lambda: self.deadline_ms, wake=lambda now_ms: None)
        ticks._context = SimpleNamespace(  # type: ignore[assignment]
            now_ms=lambda: self.now_ms,
            config=SimpleNamespace(tick_ms=1 << 30),
            node=node,
            schedule_turn=lambda: None,
            loop=SimpleNamespace(call_later=self._call_later),
        )
        monkeypatch.setattr("server.shell.ticks.time.monotonic", lambda: self.now_ms / 1000)

    def _call_later(self, delay_s: float, wake: Callable[[], None]) -> SimpleNamespace:
        self.due_ms = self.now_ms + max(0.0, delay_s) * 1000
        return SimpleNamespace(cancel=lambda: None)

    def wake(self, late_ms: int) -> int:
        """The loop comes so late to the timer. Returns the worst lag so far."""
        self.now_ms = round(self.due_ms) + late_ms
        self.ticks._wake()
        return self.ticks._lag.worst_ms


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Shell:
    made = Shell(monkeypatch)
    made.ticks._set_timer(made.now_ms)
    return made


def test_a_late_wake_between_two_ticks_is_seen(shell: Shell) -> None:
    assert shell.wake(0) == 0
    shell.deadline_ms = shell.now_ms + 20
    assert shell.wake(0) == 0
    assert shell.wake(70) == 70


def test_a_deadline_that_has_passed_is_no_lag(shell: Shell) -> None:
    """Work that is behind wants to go on at once: its timer is due a millisecond later."""
    shell.deadline_ms = shell.now_ms - 500
    shell.wake(0)
    assert shell.wake(0) == 0
