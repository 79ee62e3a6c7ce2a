"""Long computations: how much of them a turn does, and how they share it."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.base.unexpected import Fatal
from server.core.ring.computation import Computation
from server.core.work.computing import PAUSE_MS, TURN_UNITS_MAX, Computing
from tests.core.repair.machines import Machines


class Desk:
    """A machine that computes; `done` notes (turn, units) of each step."""

    def __init__(self) -> None:
        self.machines = Machines(1)
        self.machine = self.machines[1]
        self.computing = Computing(self.machine.state, self.machine.background)
        self.done: list[tuple[int, int]] = []

    def computation(self, steps: int, units: int) -> Computation[str]:
        for _ in range(steps):
            self.done.append((self.machine.state.turn, units))
            yield units
        return "result"

    def begin(self, steps: int, units: int) -> list[Any]:
        return self.machine.begin(self.computing.run(self.computation(steps, units)))

    def turn(self) -> None:
        """The turn ends, and the pauses after it."""
        self.machine.end_turn()
        self.machines.now_ms += PAUSE_MS
        self.machine.state.at(self.machines.now_ms)
        self.machine.timers.expire(self.machines.now_ms)

    def units(self) -> list[int]:
        """What each turn has done so far."""
        by_turn: dict[int, int] = {}
        for turn, units in self.done:
            by_turn[turn] = by_turn.get(turn, 0) + units
        return list(by_turn.values())


def test_a_short_one_ends_in_the_turn_in_which_it_began() -> None:
    desk = Desk()
    assert desk.begin(10, 100) == ["result"]
    assert desk.units() == [1000] and desk.machine.timers.next_ms() is None
    assert desk.begin(0, 0) == ["result"], "one without steps, too"


def test_a_long_one_fills_each_turn_and_pauses_in_between() -> None:
    desk = Desk()
    result = desk.begin(60, 100)
    assert desk.units() == [TURN_UNITS_MAX] and result == []
    assert desk.machine.timers.next_ms() == desk.machines.now_ms + PAUSE_MS, "in which clients are served"
    desk.turn()
    assert result == []
    desk.turn()
    assert result == ["result"] and desk.units() == [2500, 2500, 1000]


def test_a_wake_within_the_same_turn_does_no_more() -> None:
    desk = Desk()
    desk.begin(60, 100)
    for _ in range(3):
        desk.machines.now_ms += PAUSE_MS
        desk.machine.state.at(desk.machines.now_ms)
        desk.machine.timers.expire(desk.machines.now_ms)
    assert desk.units() == [TURN_UNITS_MAX]


def test_two_share_the_turn() -> None:
    desk = Desk()
    results = [desk.begin(20, 100), desk.begin(20, 100)]
    assert desk.units() == [2500] and results == [["result"], []]
    desk.turn()
    assert desk.units() == [2500, 1500] and results[1] == ["result"]


def test_a_step_that_is_too_large_is_done_all_the_same() -> None:
    desk = Desk()
    result = desk.begin(2, 3 * TURN_UNITS_MAX)
    assert desk.units() == [3 * TURN_UNITS_MAX] and not result
    desk.turn()
    desk.turn()
    assert result == ["result"]


def test_what_was_done_uncut_is_charged_to_the_turn() -> None:
    desk = Desk()
    desk.computing.charge(TURN_UNITS_MAX)
    result = desk.begin(1, 1)
    assert desk.units() == [] and result == []
    desk.turn()
    assert result == ["result"], "the next turn begins with nothing"


@pytest.mark.parametrize(
    ("used", "wanted", "waits"),
    [
        (0, 100, False),
        (0, 5 * TURN_UNITS_MAX, False),
        (1000, 1500, False),
        (1000, 1501, True),
        (1, TURN_UNITS_MAX, True),
    ],
)
def test_what_cannot_be_cut_waits_for_a_turn_with_room(used: int, wanted: int, waits: bool) -> None:
    """Or for one that has done nothing yet: there is none with more room."""
    desk = Desk()
    desk.computing.charge(used)
    result = desk.machine.begin(desk.computing.reserve(wanted))
    assert (result == []) is waits
    desk.turn()
    assert result == [None]
    before = desk.begin(1, 1)
    assert bool(before) is not (waits and wanted >= TURN_UNITS_MAX), "what was reserved counts"


def test_an_error_of_a_computation_is_its_callers() -> None:
    desk = Desk()

    def fails() -> Computation[None]:
        yield 1
        raise ValueError("no such layout")

    [error] = desk.machine.begin(desk.computing.run(fails()), ValueError)
    assert str(error) == "no such layout"
    with pytest.raises(Fatal):
        desk.machine.begin(desk.computing.run(fails()))
