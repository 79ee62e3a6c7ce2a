"""When a turn ends: after two passes of the loop, at once when it has enough commands, or later for a long pipeline."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import pytest

from server.shell.context import Context
from tests.core.commands.talking import CONFIG, make_node


class Loop:
    """A loop whose passes and time the test makes."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._due: list[tuple[Callable[..., object], tuple[object, ...]]] = []
        self.timers: list[tuple[float, Callable[..., object], tuple[object, ...]]] = []

    def time(self) -> float:
        return self.now_s

    def call_soon(self, call: Callable[..., object], *args: object) -> None:
        self._due.append((call, args))

    def call_later(self, delay_s: float, call: Callable[..., object], *args: object) -> None:
        self.timers.append((self.now_s + delay_s, call, args))

    def run_timers(self) -> None:
        """Calls the timers that are due."""
        due = [timer for timer in self.timers if timer[0] <= self.now_s]
        self.timers = [timer for timer in self.timers if timer[0] > self.now_s]
        for _, call, args in due:
            call(*args)

    def run_pass(self) -> None:
        """Calls what was scheduled before this pass."""
        due, self._due = self._due, []
        for call, args in due:
            call(*args)


class Turns:
    """A context, the commands that come, and how many of them each turn had."""

    def __init__(self) -> None:
        self.loop = Loop()
        self._node = make_node()
        self._counted = 0
        self.ended: list[int] = []
        self._context = Context(self._node, CONFIG, cast(asyncio.AbstractEventLoop, self.loop))
        self._context.turn_enders.append(self._end)

    def _end(self) -> None:
        commands = self._node.state.statistics.commands
        self.ended.append(commands - self._counted)
        self._counted = commands
        self._node.state.statistics.turns += 1

    def come(self, count: int, in_flight: int = 0) -> None:
        """So many commands have begun; their client has `in_flight`."""
        self._node.state.statistics.commands += count
        self._context.schedule_turn(in_flight)


def test_a_large_turn_ends_at_once_and_the_next_one_as_usual() -> None:
    turns = Turns()
    turns.come(1)
    turns._context.end_large_turn()
    turns.come(2)
    turns.loop.run_pass()
    turns.loop.run_pass()
    assert turns.ended == [1, 2]
    turns._context.end_large_turn()
    turns.come(3)
    turns.loop.run_pass()
    turns.loop.run_pass()
    assert turns.ended == [1, 2, 0, 3]


def test_a_turn_ends_after_two_passes() -> None:
    turns = Turns()
    turns.come(10)
    turns.loop.run_pass()
    turns.come(10)
    assert not turns.ended
    turns.loop.run_pass()
    assert turns.ended == [20]


def test_a_turn_with_enough_commands_ends_at_once() -> None:
    turns = Turns()
    turns.come(CONFIG.turn_commands_max - 1)
    turns.come(1)
    assert turns.ended == [CONFIG.turn_commands_max]


def test_a_turn_of_a_long_pipeline_goes_on_while_more_comes() -> None:
    turns = Turns()
    for _ in range(5):
        turns.come(110, 4000)
        turns.loop.run_pass()
    assert not turns.ended
    turns.loop.run_pass()
    assert turns.ended == [550]


def test_it_ends_when_it_has_its_share_of_the_pipeline() -> None:
    turns = Turns()
    for _ in range(10):
        turns.come(110, 4000)
        turns.loop.run_pass()
    assert turns.ended[0] == 1100


def test_it_lasts_no_longer_than_others_may_wait() -> None:
    turns = Turns()
    for _ in range(5):
        turns.come(1, 4000)
        turns.loop.now_s += CONFIG.turn_ms_max / 4000
        turns.loop.run_pass()
    assert turns.ended == [4]


def _waiting(count: int) -> Turns:
    """A turn of so many commands that would have ended, but a sync runs."""
    turns = Turns()
    turns._context.hold(True)
    turns.come(count)
    turns.loop.run_pass()
    turns.loop.run_pass()
    assert not turns.ended
    return turns


def test_a_turn_waits_for_the_sync_that_runs_and_the_next_one_does_not() -> None:
    turns = _waiting(1)
    turns.come(2)
    turns._context.hold(False)
    assert turns.ended == [3]
    turns.come(4)
    turns.loop.run_pass()
    turns.loop.run_pass()
    assert turns.ended == [3, 4]
    turns.loop.now_s += 1
    turns.loop.run_timers()
    assert turns.ended == [3, 4], "the timer of the first turn"


def test_it_waits_for_no_longer_than_others_may() -> None:
    turns = _waiting(1)
    turns.loop.now_s += CONFIG.turn_ms_max / 1000
    turns.loop.run_timers()
    assert turns.ended == [1]
    turns.come(2)
    turns.loop.run_pass()
    turns.loop.run_pass()
    assert turns.ended == [1]
    turns._context.hold(False)
    assert turns.ended == [1, 2]


@pytest.mark.parametrize("is_large", [True, False])
def test_a_turn_that_ends_while_it_waits_leaves_the_next_one_its_own_end(is_large: bool) -> None:
    turns = _waiting(1)
    if is_large:
        turns._context.end_large_turn()
    else:
        turns.come(CONFIG.turn_commands_max - 1)
    turns._context.hold(False)
    turns.come(1)
    turns.loop.run_pass()
    turns.loop.run_pass()
    assert turns.ended == [1 if is_large else CONFIG.turn_commands_max, 1]


def test_the_next_turn_has_its_own_share() -> None:
    turns = Turns()
    turns.come(1000, 4000)
    turns.come(0)
    turns.loop.run_pass()
    turns.loop.run_pass()
    turns.ended.clear()
    turns.come(100)
    turns.come(100)
    assert turns.ended == [200]


def test_a_pass_that_was_suspended_knows_the_time_when_it_reads_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    """A relay that lay in the socket meanwhile is older than the pass. The time of the pass never goes back."""
    turns = Turns()
    context = turns._context
    turns.loop.now_s = 1000.0
    monkeypatch.setattr("server.shell.context.time.monotonic", lambda: 1000.01)
    assert context.fresh_ms() == 1_000_000, "the pass has begun just now"
    monkeypatch.setattr("server.shell.context.time.monotonic", lambda: 1003.0)
    assert context.now_ms() == 1_000_000
    assert context.fresh_ms() == 1_003_000
    assert context.now_ms() == 1_003_000
    turns.loop.now_s = 1003.5
    monkeypatch.setattr("server.shell.context.time.monotonic", lambda: 1003.5)
    assert context.fresh_ms() == context.now_ms() == 1_003_500
