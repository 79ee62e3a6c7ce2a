"""Databases: a random sequence of commands over several of them has the answers of redis-server."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator

import pytest
import redis

from tests.wire.cluster import WireCluster
from tests.wire.differential.servers import Asker, Command, redis_server, redis_version

pytestmark = pytest.mark.skipif(redis_version() != "7.0", reason="redis-server 7.0 is not installed")
_KEYS = [b"dbs:a", b"dbs:b", b"dbs:{a}c", b"\xffdb{\x00\xb6\x5e\x91\x01dbs:a"]
_FIXED = [
    b"SELECT 15", b"SELECT 16", b"SELECT -1", b"SELECT x", b"SELECT 99999999999", b"SELECT", b"SELECT 1 2", b"MOVE a",
    b"MOVE a x", b"MOVE a 16", b"MOVE nosuch 1", b"MOVE a 15", b"COPY a a DB 15", b"COPY a b DB 16", b"COPY a b DB x",
    b"COPY a a DB 3 REPLACE", b"COPY a a", b"COPY nosuch b DB 1", b"SWAPDB 1 1", b"SWAPDB x 1", b"SWAPDB 1 x",
    b"SWAPDB 16 1", b"SWAPDB 0 -1", b"CONFIG GET databases", b"HELLO 2 x", b"DBSIZE x", b"SWAPDB 16 x",
    b"SWAPDB 3000000000 1", b"SWAPDB 01 1", b"SWAPDB 0", b"SWAPDB 1 2",
]  # fmt: skip


@pytest.fixture(scope="module")
def redis_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A redis-server with sixteen databases."""
    with redis_server(tmp_path_factory.mktemp("redis")) as port:
        yield port


class Both:
    """A connection to each of the two."""

    def __init__(self, redis_port: int, our_port: int, protocol: int) -> None:
        self.protocol = protocol
        self._askers = Asker(redis_port, protocol), Asker(our_port, protocol)

    def ask(self, command: Command) -> list[bytes]:
        """What Redis answers, and what a node of ours does."""
        return [asker.ask_all((command,))[0] for asker in self._askers]

    def close(self) -> None:
        """Ends both connections."""
        for asker in self._askers:
            asker.close()


@pytest.fixture(params=[2, 3])
def pair(cluster: WireCluster, redis_port: int, request: pytest.FixtureRequest) -> Iterator[Both]:
    """Connections to both, which leave the databases empty."""
    redis.Redis(port=cluster.ports[0]).execute_command("FLUSHALL", "CONFIRM")
    redis.Redis(port=redis_port).flushall()
    both = Both(redis_port, cluster.ports[0], request.param)
    yield both
    both.close()
    redis.Redis(port=cluster.ports[0]).execute_command("FLUSHALL", "CONFIRM")


def _commands(chance: random.Random, protocol: int) -> Iterator[Command]:
    """Commands whose answers do not depend on the order of keys."""
    for _ in range(400):
        key, other, number = chance.choice(_KEYS), chance.choice(_KEYS), b"%d" % chance.randrange(3)
        yield chance.choice([
            (b"SELECT", number), (b"SELECT", number), (b"SET", key, number), (b"GET", key), (b"DEL", key, other),
            (b"MGET", key, other), (b"MOVE", key, number), (b"COPY", key, other, b"DB", number), (b"DBSIZE",),
            (b"COPY", key, other, b"DB", number, b"REPLACE"), (b"LPUSH", key, b"x", b"y"), (b"TYPE", key),
            (b"LMPOP", b"2", key, other, b"LEFT"), (b"RENAME", key, other), (b"EXISTS", *_KEYS), (b"APPEND", key, b"z"),
            (b"RESET",), (b"HELLO", b"%d" % protocol), (b"PERSIST", key), (b"PTTL", key), (b"SORT", key, b"BY", b"dbs:*"),
            (b"SWAPDB", number, b"%d" % chance.randrange(3)), (b"SWAPDB", number, number),
        ])  # fmt: skip


@pytest.mark.parametrize("seed", range(3))
def test_a_random_sequence_is_answered_as_redis_answers_it(pair: Both, seed: int) -> None:
    hello = {b"HELLO"}
    for command in _commands(random.Random(seed), pair.protocol):
        theirs, ours = pair.ask(command)
        assert command[0] in hello or ours == theirs, command


def test_fixed_calls_are_answered_as_redis_answers_them(pair: Both) -> None:
    pair.ask((b"SET", b"a", b"1"))
    for line in _FIXED:
        theirs, ours = pair.ask(tuple(line.split()))
        assert ours == theirs, line


def test_stock_clients_use_another_database(cluster: WireCluster) -> None:
    port = cluster.ports[0]
    first = redis.Redis(port=port, db=1, decode_responses=True)
    second = redis.Redis.from_url(f"redis://127.0.0.1:{cluster.ports[1]}/2", decode_responses=True)
    first.set("stock", "one")
    second.set("stock", "two", ex=1000)
    assert redis.Redis(port=cluster.ports[2]).get("stock") is None
    assert redis.Redis(port=cluster.ports[2], db=1, decode_responses=True).get("stock") == "one"
    assert [*second.scan_iter()] == ["stock"]
    assert second.info("keyspace")["db2"]["keys"] == 1
    assert (first.dbsize(), second.dbsize()) == (1, 1)
    shown = subprocess.run(
        ["redis-cli", "-p", str(port), "-n", "2", "get", "stock"], capture_output=True, text=True, check=True
    )
    assert shown.stdout == "two\n"
    assert first.execute_command("FLUSHDB", "CONFIRM")
    assert (first.dbsize(), second.dbsize()) == (0, 1)
    assert second.delete("stock") == 1
    assert "db2" not in second.info("keyspace")


_SWAPS = b"redis.call('set', KEYS[1], 'zero') redis.call('swapdb', 0, 5) redis.call('set', KEYS[1], 'five') "


@pytest.mark.parametrize(
    "text",
    [
        b"return redis.call('get', KEYS[1])",
        b"redis.call('select', 5) return redis.call('get', KEYS[1])",
        b"redis.call('select', 5) redis.call('swapdb', 5, 6) return redis.call('exists', KEYS[1])",
        b"redis.call('swapdb', 1, 2) return redis.call('get', KEYS[1])",
        b"return redis.pcall('swapdb', 1, 16)",
        b"for i = 1, 20 do redis.call('swapdb', 0, 5) redis.call('append', KEYS[1], i) end return redis.call('dbsize')",
    ],
)
def test_a_script_that_swaps_databases_goes_on_as_in_redis(pair: Both, text: bytes) -> None:
    calls = [(b"EVAL", _SWAPS + text, b"1", b"swapped")]
    for number in (b"0", b"5", b"6"):
        calls += [(b"SELECT", number), (b"GET", b"swapped")]
    for call in calls:
        theirs, ours = pair.ask(call)
        assert ours == theirs, call
