"""The limit of a script's time within a turn, with a clock that shows what a test says."""

from __future__ import annotations

from typing import Final

import pytest

from server.core.scripts.engine import BUDGET, TIME, Stopped
from tests.scripting.running import Scripts


class Ticking:
    """Each look at it costs some time, and so does each command."""

    def __init__(self, look_s: float = 0.0) -> None:
        self.now_s = 100.0
        self.look_s = look_s
        self.looks = 0
        self.command_s = 0.0

    def __call__(self) -> float:
        self.now_s += self.look_s
        self.looks += 1
        return self.now_s

    def command(self, words: list[bytes], resp3: bool) -> bytes:
        self.now_s += self.command_s
        return b"+OK\r\n"


@pytest.mark.parametrize("command_ms", [0.05, 0.5, 3, 30])
def test_a_script_and_its_commands_hold_up_others_for_so_long_at_most(command_ms: float) -> None:
    clock = Ticking()
    clock.command_s = command_ms / 1000
    scripts = Scripts(clock=clock)
    with pytest.raises(Stopped) as stopped:
        scripts.run(
            "while true do pcall(redis.call, 'SORT', 'k') end",
            call=clock.command,
            limits=scripts.limits(400_000, 400_000),
        )
    assert stopped.value.args[0] in (BUDGET, TIME)
    assert clock.now_s - 100 <= 0.0081 + clock.command_s, "no command begins after 8 ms"


def test_one_long_command_on_a_slow_machine_is_no_reason_to_stop() -> None:
    clock = Ticking()
    clock.command_s = 0.080
    scripts = Scripts(clock=clock)
    limits = scripts.limits(400_000, 400_000)
    assert scripts.run("redis.call('ZUNIONSTORE', 'k') return 1", call=clock.command, limits=limits) == b":1\r\n"


def test_a_run_has_the_time_of_no_other_run() -> None:
    clock = Ticking()
    scripts = Scripts(clock=clock)
    limits = scripts.limits(2_000_000, 2_000_000)
    scripts.run("for i = 1, 1000 do redis.call('GET', 'k') end", limits=limits)
    clock.look_s, clock.looks = 0.001, 0
    with pytest.raises(Stopped) as stopped:
        scripts.run("while true do pcall(error) end", limits=limits)
    assert stopped.value.args[0] == TIME
    assert 41 <= clock.looks <= 43


# The stack has no room for so many arguments, which shows late in `run_command`: after some 330 looks at the clock.
MANY: Final = [b"x"] * 7997
REFUSED: Final = "pcall(redis.pcall, 'a', 'b', unpack(ARGV))"


def test_a_call_that_is_refused_does_not_free_a_script_of_its_time() -> None:
    clock = Ticking(look_s=0.00002)
    scripts = Scripts(clock=clock)
    with pytest.raises(Stopped) as stopped:
        scripts.run(REFUSED + " while true do end", args=MANY, limits=scripts.limits(2_000_000, 2_000_000))
    assert stopped.value.args[0] == TIME


def test_a_call_that_is_refused_gives_a_script_no_time() -> None:
    clock = Ticking(look_s=0.00002)
    scripts = Scripts(clock=clock)
    with pytest.raises(Stopped) as stopped:
        text = f"for i = 1, 5 do {REFUSED} end while true do end"
        scripts.run(text, args=MANY, limits=scripts.limits(2_000_000, 2_000_000))
    assert stopped.value.args[0] == TIME
    assert 2000 <= clock.looks <= 2005, "40 ms, and nothing for a call"


@pytest.mark.parametrize("text", ["", "local large = string.rep('x', 2000000)"])
def test_the_clock_is_looked_at_more_often_once_there_is_something_large(text: str) -> None:
    """Ten thousand rounds are some 30,000 instructions."""
    clock = Ticking()
    scripts = Scripts(clock=clock)
    scripts.run(text + " for i = 1, 10000 do local x = i + 1 end", limits=scripts.limits(2_000_000, 2_000_000))
    if text:
        assert 800 <= clock.looks <= 2000
    else:
        assert 80 <= clock.looks <= 160
