"""Scripts that try to get out, to stay for ever, or to take all memory: each is stopped, and the next one runs as ever."""

from __future__ import annotations

import inspect
import math
import time
from typing import Final

import pytest

from server.core.scripts.engine import BUDGET, HOST, MEMORY, TIME, WHOLE, Stopped
from server.scripting.runtime import Runtime
from tests.scripting.running import Scripts

INSTRUCTIONS: Final = 200_000
ENDLESS: Final = (
    "while true do end",
    "while true do pcall(function() while true do end end) end",
    "while true do pcall(error, 'x') end",
    "local function f() return f() end return f()",
    "local function f() pcall(f) return f() end f()",
    "while true do xpcall(function() while true do end end, function() while true do end end) end",
    "xpcall(function() error('x') end, function() while true do end end)",
    "while true do local co = coroutine.create(function() while true do end end) coroutine.resume(co) end",
    "local co = coroutine.wrap(function() while true do end end) while true do pcall(co) end",
    "coroutine.wrap(function() coroutine.wrap(function() while true do pcall(redis.call, 'x') end end)() end)()",
    "local t = setmetatable({}, {__index = function(t, k) return t[k + 1] end}) "
    "while true do pcall(function() return t[1] end) end",
    "table.sort({3, 2, 1}, function() while true do end end)",
    "string.gsub('x', 'x', function() while true do end end)",
    "while true do loadstring('while true do end')() end",
    "while true do redis.pcall('ping') end",
    "while true do cjson.encode({1, 2, 3}) end",
    "load(function() return 'x = 1 ' end)",
    "return tostring(setmetatable({}, {__tostring = function() while true do end end}))",
    "for w in string.gmatch(string.rep('a', 100), 'a') do while true do end end",
)  # fmt: skip
# What C would compute for minutes, without counting an instruction.
COSTLY: Final = (
    "return string.find(string.rep('a', 40), string.rep('a*', 20) .. 'b')",
    "return string.match(string.rep('a', 3000), '.-.-.-.-b')",
    "return string.gsub(string.rep('a', 3000), '.-.-.-b', '')",
    "for w in string.gmatch(string.rep('a', 3000), '.-.-.-b') do end",
    "return string.find(string.rep('(', 3000), '%b()%b()%b()%b()x')",
    "return #string.rep('x', 30000000)",
    "return #string.rep('x', 1000):rep(30000)",
    "local t = {} for i = 1, 15000 do t[i] = i end table.sort(t) return #t",
    "return string.find(string.rep('a', 1000000), string.rep('a', 500000) .. 'b', 1, true)",
    "return string.find(string.rep('a', 1000000), string.rep('a', 4000) .. 'b')",
    "return #string.gsub(string.rep('a', 100000), string.rep('()', 30) .. 'a', '%1%2%3%4%5%6%7%8%9')",
    "return #string.gsub(string.rep('a', 1000), 'a', string.rep('%0', 100000))",
    "local t = setmetatable({}, {}) t[1] = 1 table.insert(t, -2 ^ 30, 1)",
    "local t = {} for i = 1, 6500 do t[i] = i end table.sort(t) return #t",
    "return #string.rep(string.rep('x', 1000), 3000):upper()",
    "return #string.rep(string.rep('x', 1000), 3000):reverse()",
    "return redis.sha1hex(string.rep(string.rep('x', 1000), 3000))",
    "return #string.format('%q', string.rep(string.rep('x', 1000), 500))",
    "return #string.gsub(string.rep('x', 80000), '.', {x = 'yy'})",
    "return #string.gsub(string.rep('x', 230000), 'x', 'y')",
    "return #cjson.encode(string.rep(string.rep('x', 1000), 500))",
    "return loadstring(string.rep('x = 1 ', 5000))",
    "return string.rep('ab', 1e15)",
)
# What C does wrong where a number does not fit in 32 bits, or would do for minutes: the answer comes at once.
WRAPPING: Final = {
    "return unpack({}, -2 ^ 31, 2 ^ 31 - 1)": b"too many results to unpack",
    "return unpack({}, 1, 2 ^ 32)": b"too many results to unpack",
    "return unpack({}, 0 / 0, 1)": b"too many results to unpack",
    "return unpack({}, -1 / 0, 1 / 0)": b"too many results to unpack",
    "local t = {} for i = 1, 9000 do t[i] = i end return unpack(t)": b"too many results to unpack",
    "return #string.rep('', 2 ^ 31 - 1)": b":0\r\n",
    "return #tostring(cjson.decode(string.rep('9', 100000)))": b":3\r\n",
    "math.randomseed(1 / 0) return math.random(1, 1)": b":1\r\n",
}
ESCAPES: Final = (
    "return loadstring('\\27Lua')",
    "return loadstring('\\27LuaQ\\0\\1\\4\\8\\4\\8\\0')",
    "local n = 0 return load(function() n = n + 1 return n == 1 and '\\27Lua' or nil end)",
    "return debug",
    "return os or io",
    "return package",
    "return python",
    "return getfenv",
    "return setfenv",
    "return newproxy",
    "return dofile",
    "return loadfile",
    "return module",
    "return (loadstring('return python'))()",
    "return (loadstring('return debug'))()",
    "return (load(function() local t = x_done return nil end)) and python",
    "return coroutine.wrap(function() return python end)()",
    "return string.gsub('python', '.+', function(n) return _G[n] end)",
)


@pytest.fixture
def scripts() -> Scripts:
    """A runtime that the tests of this module break if they can."""
    return Scripts()


@pytest.mark.parametrize("text", ENDLESS)
def test_an_endless_script_is_stopped(scripts: Scripts, text: str) -> None:
    with pytest.raises(Stopped) as stopped:
        scripts.run(text, limits=scripts.limits(INSTRUCTIONS, INSTRUCTIONS))
    assert stopped.value.args[0] in (BUDGET, MEMORY)
    assert scripts.run("return 1") == b":1\r\n"


@pytest.mark.parametrize("text", COSTLY)
def test_what_c_computes_for_long_is_not_begun(scripts: Scripts, text: str) -> None:
    with pytest.raises(Stopped) as stopped:
        scripts.run(text, limits=scripts.limits(INSTRUCTIONS, INSTRUCTIONS))
    assert stopped.value.args[0] in (BUDGET, WHOLE)
    assert scripts.run("return 1") == b":1\r\n"


@pytest.mark.parametrize("text", WRAPPING)
def test_numbers_that_do_not_fit_in_c_are_refused(scripts: Scripts, text: str) -> None:
    assert WRAPPING[text] in scripts.run(text, limits=scripts.limits(2_000_000, 2_000_000))
    assert scripts.run("return 1") == b":1\r\n"


@pytest.mark.parametrize(
    "text",
    [
        "local n = 0 for word in string.gmatch(ARGV[1], '[^,]+') do n = n + 1 end return n",
        "local n = 0 for word in string.gmatch(ARGV[1], '([^,]+)') do n = n + 1 end return n",
        "return select(2, string.gsub(ARGV[1], ',', ';')) + 1",
        "return #cjson.decode('[' .. ARGV[1] .. ']')",
    ],
)
def test_what_is_linear_may_have_long_texts(scripts: Scripts, text: str) -> None:
    items = b",".join(b"%d" % number for number in range(2000))
    limits = scripts.limits(2_000_000, 2_000_000)
    assert scripts.run(text, args=[items], limits=limits) == b":2000\r\n"


@pytest.mark.parametrize("text", ESCAPES)
def test_nothing_leads_out(scripts: Scripts, text: str) -> None:
    reply = scripts.run(text)
    assert (reply[:1] == b"-" and b"nonexistent global variable" in reply) or reply == b"$-1\r\n"


def test_a_script_reaches_no_object_of_python() -> None:
    scripts = Scripts()
    walk = """
        local seen, found = {}, {}
        local function walk(value, path, depth)
            if type(value) == 'userdata' and value ~= cjson.null then found[#found + 1] = path end
            if type(value) ~= 'table' or seen[value] or depth > 6 then return end
            seen[value] = true
            for key, item in pairs(value) do
                walk(key, path .. '.key', depth + 1)
                walk(item, path .. '.' .. tostring(key), depth + 1)
            end
            walk(getmetatable(value), path .. '.meta', depth + 1)
        end
        walk(_G, '_G', 0)
        walk(getmetatable(''), 'string', 0)
        return found
    """
    assert scripts.run(walk) == b"*0\r\n"


def test_an_exception_of_a_command_ends_the_script_and_comes_out() -> None:
    scripts = Scripts()

    class Wrong(Exception):
        pass

    def call(args: list[bytes], resp3: bool) -> bytes:
        raise Wrong

    with pytest.raises(Wrong):
        scripts.run("while true do pcall(redis.call, 'get', 'x') end", call=call)
    assert scripts.run("return redis.call('get', 'x')") == b"+OK\r\n"


def test_a_host_stops_a_script() -> None:
    scripts = Scripts()

    def call(args: list[bytes], resp3: bool) -> bytes:
        raise Stopped(HOST)

    with pytest.raises(Stopped):
        scripts.run("redis.pcall('x') return 1", call=call)


@pytest.mark.parametrize(
    "text",
    [
        "local s = 'x' while true do s = s .. s end",
        "local t = {} while true do t[#t + 1] = {} end",
        "return string.rep('x', 1e9)",
        "local s = string.rep('x', 1e6) return string.gsub(s, '.', s)",
        "return table.concat(setmetatable({}, {}), string.rep('x', 5e8))",
        "return string.format('%s', string.rep('x', 5e8))",
        "return cjson.decode(string.rep('[1,', 3e7))",
    ],
)
def test_memory_has_an_end(text: str) -> None:
    scripts = Scripts(16 << 20)
    assert scripts.run("return 1") == b":1\r\n"
    try:
        reply = scripts.run(text, limits=scripts.limits(100_000_000))
    except Stopped as stopped:
        assert stopped.args[0] in (MEMORY, BUDGET, WHOLE)
    else:
        assert reply == b"$0\r\n\r\n"
    assert scripts.run("return #string.rep('x', 1000000)") == b":1000000\r\n"


def test_memory_that_ends_is_an_error_where_no_budget_is() -> None:
    scripts = Scripts(16 << 20)
    reply = scripts.run("local ok, e = pcall(string.rep, 'x', 1e9) return e")
    assert reply == b"$17\r\nnot enough memory\r\n"
    try:
        reply = scripts.run("return #string.rep('x', 1e9)")
    except Stopped as stopped:
        assert stopped.args[0] == MEMORY
    else:
        assert b"not enough memory" in reply


def test_a_long_pattern_is_refused_before_the_stack_of_c_overflows() -> None:
    scripts = Scripts()
    reply = scripts.run("return string.find(string.rep('a', 300000), string.rep('a?', 300000))")
    assert b"pattern too long" in reply


def test_scripts_leave_nothing_for_those_after_them() -> None:
    scripts = Scripts()
    for text in (
        "KEYS.mine = 1",
        "string.mine = 1",
        "rawset(string, 'mine', 1)",
        "table.insert(table, 1)",
        "for k, v in pairs(_G) do if type(v) == 'table' then pcall(rawset, v, 'mine', 1) end end",
        "local _, real = pairs(string) real.mine = 1",
        "local _, real = pairs(_G) real.mine = 1 real.tostring = nil",
        "getmetatable('').mine = 1",
        "setmetatable(string, {__index = {mine = 1}})",
        "table.sort(redis)",
        "table.remove(redis)",
    ):
        scripts.run(text)
    reply = scripts.run(
        "return {tostring(rawget(_G, 'mine')), tostring(KEYS.mine), tostring(string.mine), tostring(('').mine), "
        "tostring(rawget(string, 1)), tostring(rawget(table, 1)), tostring(redis.call ~= nil)}"
    )
    assert reply == b"*7\r\n" + b"$3\r\nnil\r\n" * 6 + b"$4\r\ntrue\r\n"


def test_a_run_that_begins_again_gets_the_same_numbers() -> None:
    scripts = Scripts()
    text = "local r = {} for i = 1, 20 do r[i] = math.random(1000000) end return r"
    assert scripts.run(text) == scripts.run(text)
    other = scripts.limits()._replace(seed=7)
    assert scripts.run(text, limits=other) != scripts.run(text)


def test_a_short_script_stays_within_its_budget() -> None:
    scripts = Scripts()
    assert scripts.run(
        "local n = 0 for i = 1, 1000 do n = n + i end return n", limits=scripts.limits(INSTRUCTIONS, 1)
    ) == (b":500500\r\n")
    assert scripts.run("return string.match('key:12:x', '^(%w+):(%d+)')", limits=scripts.limits(math.inf, 1000)) == (
        b"$3\r\nkey\r\n"
    )


def test_logs_reach_the_host() -> None:
    scripts = Scripts()
    scripts.run("redis.log(redis.LOG_WARNING, 'a', 1, {}, 'b')")
    assert scripts.logged == [(3, b"a 1 b")]


@pytest.mark.parametrize(
    "text",
    [
        b"local t = {} for i = 1, 100000 do t[i] = i end for i = 1, 300000 do table.insert(t, 1, 0) end",
        b"local t = {} for i = 1, 100000 do t[i] = i end for i = 1, 300000 do table.maxn(t) end",
        b"local t = {} for i = 1, 100000 do t[i] = 'x' end for i = 1, 100000 do table.concat(t) end",
        b"local s = string.rep('x', 1000000) for i = 1, 300000 do local found = s:find('y', 1, true) end",
        b"local s = string.rep(' ', 1000000) for i = 1, 300000 do tonumber(s) end",
        b"local s = string.rep('x', 1000000) for i = 1, 300000 do s:upper() end",
        b"local a = string.rep('x', 1000000) local b = a .. 'y' for i = 1, 300000 do local less = a < b end",
    ],
)
def test_instructions_with_much_to_do_are_stopped_by_their_time(text: bytes) -> None:
    """Each is within the number of instructions that a script may take, and would hold its node for minutes."""
    scripts = Scripts(clock=time.thread_time)
    with pytest.raises(Stopped) as stopped:
        scripts.run(text, limits=scripts.limits(2_000_000, 2_000_000))
    assert stopped.value.args[0] in (BUDGET, WHOLE, TIME)
    assert scripts.run("return 1") == b":1\r\n"


def test_the_clock_of_a_runtime_leaves_out_other_threads() -> None:
    assert inspect.signature(Runtime).parameters["clock"].default is time.thread_time


@pytest.mark.parametrize("count", range(0, 300, 2))
def test_what_a_command_raises_comes_out_wherever_the_count_stands(scripts: Scripts, count: int) -> None:
    """The hook that counts instructions raises nothing once the script is over."""

    def refuse(words: list[bytes], resp3: bool) -> bytes:
        raise KeyError("planted")

    with pytest.raises(KeyError):
        scripts.run(f"for i = 1, {count} do end redis.call('SET', 'k', 'v')", call=refuse)
