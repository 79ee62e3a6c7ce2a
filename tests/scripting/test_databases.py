"""SELECT in scripts, as in redis-server 7.0: it holds for the rest of the script, and not for its client."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.scripting.nodes import Pair
from tests.wire.differential.servers import redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")


@pytest.fixture
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    """A node and a redis-server."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        pair = Pair(port)
        yield pair
        pair.close()


WRITE = "redis.call('set', KEYS[1], 'zero') redis.call('select', 3) redis.call('set', KEYS[1], 'three') "


@pytest.mark.parametrize("keys", [("{k}1",), ("k1", "k2"), ()], ids=["one slot", "several slots", "none declared"])
def test_a_script_selects_a_database_for_the_rest_of_it(pair: Pair, keys: tuple[str, ...]) -> None:
    text = WRITE + "return {redis.call('get', KEYS[1]), redis.call('select', 0), redis.call('get', KEYS[1])}"
    if not keys:
        text = "local KEYS = {'k'} " + text
    words = [b"EVAL", text.encode(), b"%d" % len(keys), *map(str.encode, keys)]
    pair.same(*words)
    key = (keys or ("k",))[0].encode()
    pair.same(b"GET", key)
    pair.same(b"EVAL", (text.partition(" return")[0]).encode(), *words[2:])
    pair.same(b"GET", key)
    pair.same(b"SELECT", b"3")
    pair.same(b"GET", key)
    pair.same(b"EVAL", b"redis.call('select', 5) return redis.call('exists', KEYS[1])", b"1", key)
    pair.same(b"GET", key)


@pytest.mark.parametrize("index", ["16", "-1", "x", "99999999999999999999", "0"])
def test_databases_that_there_are_not_are_refused_as_in_redis(pair: Pair, index: str) -> None:
    pair.same(b"EVAL", b"return redis.pcall('select', ARGV[1])", b"0", index.encode())
    pair.same(b"EVAL", b"local r = redis.call('select', ARGV[1]) return r", b"0", index.encode())


def test_functions_select_and_the_choice_ends_with_them(pair: Pair) -> None:
    text = b"#!lua name=l\nredis.register_function('f', function(keys) redis.call('select', 2) "
    pair.same(b"FUNCTION", b"LOAD", text + b"return redis.call('incr', keys[1]) end)")
    pair.same(b"FCALL", b"f", b"1", b"k")
    pair.same(b"FCALL", b"f", b"1", b"k")
    pair.same(b"GET", b"k")
    pair.same(b"SELECT", b"2")
    pair.same(b"GET", b"k")
