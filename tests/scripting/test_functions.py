"""FUNCTION and FCALL: the same bytes as redis-server 7.0, in RESP2 and RESP3; and payloads that either restores."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha1

import pytest

from tests.core.commands.talking import Client
from tests.scripting.nodes import Pair, Words, decoded, node_with_scripts
from tests.wire.differential.servers import redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")


def _load(text: bytes, name: bytes = b"z", *options: bytes) -> Words:
    return (b"FUNCTION", b"LOAD", *options, b"#!lua name=" + name + b"\n" + text)


_F = b"redis.register_function('f', function(k, a) return {k, a} end)"
_KINDS = b"""
redis.register_function{function_name='g', callback=function(k, a) return redis.call('set', k[1], a[1]) end,
  description='sets', flags={'allow-oom', 'no-cluster'}}
redis.register_function{function_name='r', callback=function(k, a) return redis.call('get', k[1]) end,
  flags={'NO-WRITES', 'allow-stale', 'allow-cross-slot-keys'}}
redis.register_function{function_name='w', callback=function(k, a) return redis.call('set', k[1], a[1]) end,
  flags={'no-writes'}}"""
_ENVIRONMENT = b"""
local r, log = redis.register_function, redis.log
local n = 0
redis.register_function('e1', function() return x end)
redis.register_function('e2', function() return redis.register_function('z', function() end) end)
redis.register_function('e3', function() local v = r('z', function() end) end)
redis.register_function('e4', function() return KEYS end)
redis.register_function('e5', function() return redis.breakpoint() end)
redis.register_function('e6', function() kkk = 1 end)
redis.register_function('e7', function() error('boo') end)
redis.register_function('e8', function() return {n, type(log), tostring(redis.nope), redis.REDIS_VERSION_NUM} end)
redis.register_function('e9', function() local v = redis.call('nosuch') return v end)
redis.register_function('e10', function() redis.setresp(3) return {map={a={double=1.5}}} end)
redis.register_function('e11', function(k, a) return cjson.encode({#k, #a, string.rep('x', 3)}) end)
redis.register_function('e12', function() return loadstring('return type(redis.call)')() end)
redis.register_function('e13', function() local v = loadstring('return KEYS')() return v end)
redis.register_function('e14', function() return {type(_G), tostring(rawget(_G, 'os'))} end)
redis.register_function('e15', function() return redis.error_reply('MINE own') end)
redis.register_function('e16', function() redis.call('lpush', 'k', 'x') return redis.call('get', 'k') end)
"""
_REFUSED = (
    b"x y",
    b"redis.call('x')",
    b"xx = 1",
    b"return KEYS",
    b"return string",
    b"redis.nope()",
    b"redis.log(1)",
    b"redis.register_function()",
    b"redis.register_function(1, 2, 3)",
    b"redis.register_function('a', 1)",
    b"redis.register_function({}, 1)",
    b"redis.register_function('a-', function() end)",
    b"redis.register_function('', function() end)",
    b"redis.register_function('a')",
    b"redis.register_function{}",
    b"redis.register_function{function_name='x'}",
    b"redis.register_function{callback=function() end}",
    b"redis.register_function{function_name={}}",
    b"redis.register_function{callback=1}",
    b"redis.register_function{flags=1}",
    b"redis.register_function{flags={'x'}}",
    b"redis.register_function{flags={{}}}",
    b"redis.register_function{description={}}",
    b"redis.register_function{nothing=1}",
    b"redis.register_function{[{}]=1}",
    b"redis.register_function('x', function() end) redis.register_function('x', function() end)",
    b"return 1",
)
_FIRST_LINES = (
    b"x", b"#!lua", b"#!lua\n", b"#!lua name=\n", b"#!lua name=a-b\n", b"#!lua name=a name=b\n", b"#!lua foo=a\n",
    b"#!js name=a\n", b"#!js name=\n", b'#!lua name="a\n', b"#!LUA NAME=a\n", b"#! name=a\n", b"#!\n", b"",
    b"#!lua name='quoted'\nredis.register_function('quoted', function() return 1 end)",
)  # fmt: skip
CALLS: tuple[Words, ...] = (
    (b"FUNCTION", b"LOAD"),
    *((b"FUNCTION", b"LOAD", line) for line in _FIRST_LINES),
    (b"FUNCTION", b"LOAD", b"FOO", b"#!lua name=a\n"),
    *(_load(text) for text in _REFUSED),
    _load(b"redis.register_function('q', function() return 1 end)", b"a", b"replace", b"replace"),
    _load(_F, b"a"),
    _load(_F, b"a", b"REPLACE"),
    _load(_F, b"b"),
    _load(b"redis.register_function('F', function() end)", b"b"),
    (b"FCALL", b"quoted", b"0"),
    (b"FUNCTION", b"DELETE", b"quoted"),
    (b"FUNCTION", b"LIST", b"LIBRARYNAME", b"a"),
    (b"FUNCTION", b"LIST", b"libraryname", b"A", b"withcode"),
    (b"FUNCTION", b"LIST", b"LIBRARYNAME"),
    (b"FUNCTION", b"LIST", b"x"),
    (b"FUNCTION", b"LIST", b"withcode", b"withcode"),
    (b"FUNCTION", b"LIST", b"LIBRARYNAME", b"zz*"),
    (b"FUNCTION", b"LIST", b"WITHCODE"),
    (b"FUNCTION", b"STATS"),
    (b"FUNCTION", b"KILL"),
    (b"FUNCTION", b"STATS", b"x"),
    (b"FUNCTION", b"NOPE"),
    (b"FUNCTION",),
    (b"FCALL", b"f", b"1", b"k", b"a"),
    (b"FCALL", b"F", b"1", b"k", b"a"),
    (b"FCALL", b"nope", b"1", b"k", b"a"),
    (b"FCALL", b"nope", b"x"),
    (b"FCALL", b"f", b"x", b"k", b"a"),
    (b"FCALL", b"f", b"5", b"k", b"a"),
    (b"FCALL", b"f", b"-1", b"k", b"a"),
    (b"FCALL", b"f"),
    _load(_KINDS, b"b"),
    (b"FCALL", b"g", b"1", b"k", b"a"),
    (b"FCALL_RO", b"g", b"1", b"k", b"a"),
    (b"FCALL_RO", b"f", b"1", b"k", b"a"),
    (b"FCALL_RO", b"r", b"1", b"k"),
    (b"FCALL", b"r", b"1", b"k"),
    (b"FCALL", b"w", b"1", b"k", b"a"),
    (b"FCALL_RO", b"w", b"1", b"k", b"a"),
    (b"FUNCTION", b"STATS"),
    _load(_ENVIRONMENT, b"e"),
    *((b"FCALL", b"e%d" % number, b"2", b"k", b"l", b"a") for number in range(1, 17)),
    (b"EVAL", b"return redis.call('fcall', 'f', 0)", b"0"),
    (b"EVAL", b"return redis.call('function', 'list')", b"0"),
    (b"FUNCTION", b"DELETE", b"nope"),
    (b"FUNCTION", b"DELETE", b"b"),
    (b"FUNCTION", b"DELETE", b"e"),
    (b"FUNCTION", b"DUMP"),
    (b"FUNCTION", b"DUMP", b"x"),
    (b"FUNCTION", b"RESTORE", b"x"),
    (b"FUNCTION", b"RESTORE", b"x", b"y"),
    (b"FUNCTION", b"RESTORE", b"x", b"flush", b"z"),
    (b"FUNCTION", b"FLUSH", b"x"),
    (b"FUNCTION", b"FLUSH", b"x", b"y"),
    (b"COMMAND", b"GETKEYS", b"FCALL", b"f", b"2", b"k", b"l", b"a"),
    (b"COMMAND", b"INFO", b"fcall", b"fcall_ro"),
)  # fmt: skip


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server for the module."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


@pytest.fixture(params=[False, True], ids=["resp2", "resp3"])
def pair(redis_port: int, request: pytest.FixtureRequest) -> Iterator[Pair]:
    """A node and the redis-server, without functions."""
    pair = Pair(redis_port, request.param)
    yield pair
    pair.close()


def test_functions_answer_as_in_redis(pair: Pair) -> None:
    assert pair.differences(CALLS) == []


def test_either_restores_what_the_other_has_dumped(pair: Pair) -> None:
    register = b"redis.register_function('f%d', function() return %d end)"
    texts = [
        _load(b"-- %b\n" % (b"ab" * number * 20) + register % (number, number), b"lib%d" % number)
        for number in range(6)
    ]
    for text in texts:
        pair.same(*text)
    ours, theirs = decoded(pair.ours(b"FUNCTION", b"DUMP")), decoded(pair.theirs(b"FUNCTION", b"DUMP"))
    assert isinstance(ours, bytes) and isinstance(theirs, bytes) and len(ours) == len(theirs)
    before = sorted(str(each) for each in decoded(pair.theirs(b"FUNCTION", b"LIST", b"WITHCODE")))  # type: ignore[attr-defined]
    for payload in (ours, theirs):
        for reply in (pair.ours, pair.theirs):  # which library they name depends on the order
            assert reply(b"FUNCTION", b"RESTORE", payload).endswith(b" already exists\r\n")
        pair.same(b"FUNCTION", b"RESTORE", payload, b"REPLACE")
        pair.same(b"FUNCTION", b"RESTORE", payload, b"FLUSH")
        pair.same(b"FUNCTION", b"FLUSH")
        pair.same(b"FUNCTION", b"LIST")
        pair.same(b"FUNCTION", b"RESTORE", payload)
        pair.same(b"FCALL", b"f5", b"0")
        for reply in (pair.ours, pair.theirs):
            found = decoded(reply(b"FUNCTION", b"LIST", b"WITHCODE"))
            assert sorted(str(each) for each in found) == before  # type: ignore[attr-defined]
        pair.same(b"FUNCTION", b"RESTORE", payload[:-1] + b"x")
        pair.same(b"FUNCTION", b"DELETE", b"lib3")
        pair.same(*_load(b"redis.register_function('f3', function() end)", b"other"))
        pair.same(b"FUNCTION", b"RESTORE", payload, b"REPLACE")
        pair.same(b"FUNCTION", b"DELETE", b"other")
        pair.same(b"FUNCTION", b"RESTORE", payload, b"replace")


def test_a_library_that_runs_for_ever_is_refused_and_leaves_nothing() -> None:
    client = Client(node_with_scripts())
    reply = client.raw_words(list(_load(b"while redis do end")))
    assert reply.startswith(b"-ERR the script was stopped")
    assert client.raw_words([b"FUNCTION", b"LIST"]) == b"*0\r\n"
    assert client.raw_words(list(_load(_F))) == b"$1\r\nz\r\n"
    assert client.raw_words([b"FCALL", b"f", b"0"]) == b"*2\r\n*0\r\n*0\r\n"


def test_calls_do_not_depend_on_the_calls_before_them() -> None:
    client = Client(node_with_scripts())
    client.raw_words(list(_load(b"local n = 0 redis.register_function('count', function() n = n + 1 return n end)")))
    assert [client.raw_words([b"FCALL", b"count", b"0"]) for _ in range(3)] == [b":1\r\n"] * 3


def test_scripts_and_libraries_of_one_text_are_apart() -> None:
    client = Client(node_with_scripts())
    client.raw_words(list(_load(_F)))
    text = _load(_F)[-1]
    assert client.raw_words([b"EVAL", text, b"0"]).startswith(b"-ERR Unknown lua shebang option: name=z")
    assert client.raw_words([b"EVALSHA", sha1(text).hexdigest().encode(), b"0"]).startswith(b"-NOSCRIPT")
