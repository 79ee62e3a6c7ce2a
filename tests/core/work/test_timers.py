"""Pauses: who is resumed when, and in which order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.core.work.timers import SLICES_PER_TURN, Timers


class Sleeper:
    """Stands for a procedure: notes what it is resumed with, and does what it is told to then."""

    def __init__(self, name: str, woken: list[str], then: Callable[[], None] = lambda: None) -> None:
        self.name = name
        self._woken = woken
        self._then = then

    def resume(self, result: object) -> None:
        assert result is None
        self._woken.append(self.name)
        self._then()


def begin(timers: Timers, due_ms: int, name: str, woken: list[str], then: Callable[[], None] = lambda: None) -> None:
    timers.sleep_until(due_ms)(Sleeper(name, woken, then))  # type: ignore[arg-type]


def test_a_pause_begins_with_the_step_and_ends_when_it_is_due() -> None:
    timers, woken = Timers(), []
    step = timers.sleep_until(500)
    assert timers.next_ms() is None, "nobody waits yet"
    step(Sleeper("it", woken))  # type: ignore[arg-type]
    assert timers.next_ms() == 500
    timers.expire(499)
    assert woken == [] and timers.next_ms() == 500
    timers.expire(500)
    assert woken == ["it"] and timers.next_ms() is None
    timers.expire(1000)
    assert woken == ["it"], "once"


def test_the_order_is_that_of_the_times_and_of_equal_times_that_of_asking() -> None:
    timers, woken = Timers(), []
    for due_ms, name in ((300, "late"), (100, "first"), (200, "second"), (100, "beside first"), (200, "beside second")):
        begin(timers, due_ms, name, woken)
    assert timers.next_ms() == 100
    timers.expire(250)
    assert woken == ["first", "beside first", "second", "beside second"]
    assert timers.next_ms() == 300


def test_a_pause_that_is_over_already_ends_with_the_next_look_and_not_in_this_one() -> None:
    """So that a procedure which pauses for no time lets the node speak in between."""
    timers, woken = Timers(), []
    begin(timers, 100, "it", woken, lambda: begin(timers, 0, "again", woken))
    timers.expire(100)
    assert woken == ["it"] and timers.next_ms() == 0
    timers.expire(100)
    assert woken == ["it", "again"]


def test_those_behind_one_that_raises_are_resumed_with_the_next_look() -> None:
    timers, woken = Timers(), []

    def fail() -> None:
        raise KeyError("it")

    for name, then in (("first", lambda: None), ("second", fail), ("third", lambda: None), ("fourth", lambda: None)):
        begin(timers, 100, name, woken, then)
    with pytest.raises(KeyError):
        timers.expire(100)
    assert woken == ["first", "second"] and timers.next_ms() == 100
    timers.expire(100)
    assert woken == ["first", "second", "third", "fourth"]


def test_a_call_is_made_once_when_it_is_due_among_the_pauses() -> None:
    timers, woken = Timers(), []
    begin(timers, 100, "a pause", woken)
    timers.call_at(100, lambda: woken.append("a call"))
    timers.call_at(50, lambda: woken.append("an earlier call"))
    assert timers.next_ms() == 50
    timers.expire(60)
    assert woken == ["an earlier call"]
    timers.expire(100)
    timers.expire(200)
    assert woken == ["an earlier call", "a pause", "a call"]


def test_a_turn_resumes_some_of_those_who_wait_for_a_turn_and_each_gets_its_turn() -> None:
    timers, woken = Timers(), []
    for name in "abcde":
        timers.pause_for_turn(10)(Sleeper(name, woken))  # type: ignore[arg-type]
    begin(timers, 12, "later", woken)
    timers.expire(9)
    assert woken == [] and timers.next_ms() == 10
    timers.expire(10)
    assert len(woken) == SLICES_PER_TURN and timers.next_ms() == 10, "the others are due, in the next turn"
    timers.pause_for_turn(11)(Sleeper("a again", woken))  # type: ignore[arg-type]
    timers.expire(12)
    assert woken == ["a", "b", "later", "c", "d"]
    timers.expire(12)
    assert woken[-2:] == ["e", "a again"] and timers.next_ms() is None
