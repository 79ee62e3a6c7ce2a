"""Functions in C that have much to do work in pieces, so that a script can be stopped in between, and give the same."""

from __future__ import annotations

import pytest

from server.core.scripts.engine import TIME, Stopped
from tests.scripting.running import Scripts


class Ticking:
    """A clock that counts how often it is looked at; from some look on, the time of a script is over."""

    def __init__(self, last_look: int = 1_000_000) -> None:
        self.looks = 0
        self._last_look = last_look

    def __call__(self) -> float:
        self.looks += 1
        return 1000.0 if self.looks > self._last_look else 0.0


# What comes before a call, the call, and how often the clock must be looked at during it.
PIECES = [
    ("local t = {} for i = 1, 5000 do t[i] = i + 0.5 end", "table.concat(t, ',')", 10),
    ("local t = {} local s = string.rep('x', 2000) for i = 1, 60 do t[i] = s .. i * 7 % 60 end", "table.sort(t)", 200),
    ("local s = '--' .. string.rep('x', 100000)", "loadstring(s)", 24),
    ("local s = string.rep(string.rep('\\1', 1000), 500)", "cjson.encode(s)", 3),
]


def _looks(text: str) -> int:
    clock = Ticking()
    scripts = Scripts(clock=clock)
    scripts.run(text, limits=scripts.limits(8_000_000, 8_000_000))
    return clock.looks


@pytest.mark.parametrize(("before", "call", "looks"), PIECES)
def test_the_clock_is_looked_at_between_the_pieces_of_a_call(before: str, call: str, looks: int) -> None:
    assert _looks(f"{before} {call}") - _looks(before) >= looks


@pytest.mark.parametrize(("before", "call", "looks"), PIECES)
def test_a_call_of_many_pieces_is_stopped_between_them(before: str, call: str, looks: int) -> None:
    scripts = Scripts(clock=Ticking(_looks(before) + 1))
    with pytest.raises(Stopped) as stopped:
        scripts.run(
            f"{before} pcall(function() {call} end) redis.call('never')",
            limits=scripts.limits(8_000_000, 8_000_000),
            call=_never,
        )
    assert stopped.value.args[0] == TIME


def _never(words: list[bytes], resp3: bool) -> bytes:
    raise AssertionError("the script went on")


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("local t = {} for i = 1, 1203 do t[i] = i end return #table.concat(t, ', ') .. table.concat(t, ', ', 1201)",
         b"$20\r\n61091201, 1202, 1203\r\n"),
        ("local t = {} for i = 1, 1203 do t[i] = 'x' end return #table.concat(t, 'ab', 2, 600)", b":1795\r\n"),
        ("local t = {} for i = 1, 1203 do t[i] = 'x' end return #table.concat(t) .. table.concat(t, '', 1204)",
         b"$4\r\n1203\r\n"),
        ("local t = {} local s = string.rep('x', 2000) for i = 1, 60 do t[i] = s .. 100 + (i * 7 % 60) end table.sort(t) "
         "for i = 1, 60 do if t[i] ~= s .. 99 + i then return i end end return 0", b":0\r\n"),
        ("local s = 'return ' .. string.rep(' ', 10000) .. '7' return loadstring(s)()", b":7\r\n"),
        ("return select(2, loadstring('return 1' .. string.rep('\\n', 9000) .. ' x x', '@name'))",
         b"$36\r\nname:9001: '<eof>' expected near 'x'\r\n"),
        ("local s = string.rep('x', 4095) .. '\\n\"' .. string.rep('y', 5000) return cjson.decode(cjson.encode(s)) == s",
         b":1\r\n"),
        ("return {ok = string.rep('\\n', 2000000)}", b"+" + b" " * (1 << 20) + b"\r\n"),
        ("return ('aB'):upper() .. ('aB'):lower() .. ('aB'):reverse() .. string.format('%q%s', 'a\"b', 1)",
         b'$13\r\nABabBa"a\\"b"1\r\n'),
    ],
)  # fmt: skip
def test_what_is_done_in_pieces_gives_the_same(text: str, reply: bytes) -> None:
    assert Scripts().run(text) == reply


def test_a_text_that_is_stopped_while_it_is_compiled_leaves_nothing() -> None:
    scripts = Scripts()
    with pytest.raises(Stopped):
        scripts.run("return loadstring('return 1 --' .. string.rep('x', 100000))", limits=scripts.limits(100_000))
    assert scripts.run("return loadstring('return 1')()") == b":1\r\n"
    assert scripts.run("return 2 --" + "x" * 1_000_000) == b":2\r\n"
