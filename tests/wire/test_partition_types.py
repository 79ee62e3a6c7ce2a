"""Each type after a cut of the network: the changes of both sides are there, as DESIGN §15 says; replicas are equal."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.wire.cluster import Client, WireCluster, WireNode, dyn, wait_for
from tests.wire.networks import Networks, cut_cluster
from tests.wire.repairs import stop_and_compare, wait_delivered

SETS_OF_KEYS = 12  # each key of the table below so many times, so that every node coordinates some

BEFORE = (
    "SET counter 10", "HSET hash a 1 b 2 c 3 n 10", "SADD set a b c", "ZADD zset 1 a 2 b 3 c", "PFADD sketch one two",
    "SADD gone a b", "SET kept 1", "RPUSH list a b c d", "SETBIT bits 1 1", "GEOADD geo 13.361389 38.115556 Palermo",
    "HSET fields a 1 b 2 n 10", "HSET late a 1",
)  # fmt: skip
ALONE = (
    "INCRBY counter 5", "INCR counter", "HSET hash a alone", "HDEL hash b c", "HINCRBY hash n 2", "SADD set x",
    "SREM set a b", "ZADD zset 9 x", "ZINCRBY zset 1 a", "ZREM zset b c", "PFADD sketch three", "SET mixed text",
    "DEL gone", "INCR fresh", "DEL kept", "RPUSH list alone", "LPOP list", "LREM list 1 c", "SETBIT bits 2 1",
    "GEOADD geo 15.087269 37.502669 Catania", "HEXPIREAT fields 5000000000 FIELDS 2 a n", "EXPIREAT late 6000000000",
)  # fmt: skip
MANY = (
    "DECR counter", "INCRBY counter 7", "HSET hash c many d 4", "HINCRBY hash n 5", "SADD set a y", "ZINCRBY zset 2 a",
    "ZADD zset 30 c", "PFADD sketch four two", "SADD gone c", "INCRBY fresh 10", "INCRBYFLOAT kept 1.5", "SADD mixed a",
    "LPUSH list many", "RPUSH list more", "LINSERT list BEFORE d new", "LSET list 2 B", "SETBIT bits 9 1",
    "GEOADD geo 12.496366 41.902782 Rome", "HEXPIREAT fields 7000000000 FIELDS 1 b", "HINCRBY fields n 5",
    "HSET late b 2",
)  # fmt: skip

# What every node answers afterwards: the question, and the reply, of which only the content counts.
AFTER: tuple[tuple[str, Any], ...] = (
    ("GET counter", b"22"),
    ("HGETALL hash", {b"a": b"alone", b"c": b"many", b"d": b"4", b"n": b"17"}),
    ("SMEMBERS set", {b"a", b"c", b"x", b"y"}),  # an add beats the removal that has not seen it
    ("ZRANGE zset 0 -1 WITHSCORES", [[b"a", 4.0], [b"x", 9.0], [b"c", 30.0]]),
    ("PFCOUNT sketch", 4),
    ("SMEMBERS mixed", {b"a"}),  # of two types that of the newest dot
    ("SMEMBERS gone", {b"c"}),  # DEL takes what it has seen, and no more
    ("GET fresh", b"11"),
    ("GET kept", b"1.5"),
    ("LLEN list", 6),  # a and c are gone; b was changed; each side's item at the end is there
    ("LRANGE list 0 3", [b"many", b"B", b"new", b"d"]),
    ("GET bits", b"\x40\x40"),  # a bitmap is a string: the newest value, and DYN.GET has the other one
    ("GEOHASH geo Palermo Catania Rome", [b"sqc8b49rny0", b"sqdtr74hyu0", b"sr2ykk5t6k0"]),
    ("HEXPIRETIME fields FIELDS 3 a b n", [5_000_000_000, 7_000_000_000, 5_000_000_000]),
    ("HGETALL fields", {b"a": b"1", b"b": b"2", b"n": b"15"}),
    ("EXPIRETIME late", 6_000_000_000),  # it governs what the other side has added, too
    ("HGETALL late", {b"a": b"1", b"b": b"2"}),
)


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[tuple[WireCluster, Networks]]:
    """A healthy cluster of three nodes, each in a network namespace of its own."""
    with cut_cluster(tmp_path / "cluster", 3) as made:
        yield made


def _run(client_of: Callable[[int], Client], lines: tuple[str, ...]) -> None:
    for number in range(SETS_OF_KEYS):
        for line in lines:
            name, key, *rest = line.split()
            client_of(number).execute_command(name, f"{key}-{number}", *rest)


def _with_quorum_of_one(node: WireNode) -> Client:
    client = node.client(single_connection_client=True)
    assert client.execute_command("DYN.QUORUM", "R", 1, "W", 1) == [3, 1, 1]
    return client


def test_both_sides_of_a_cut_merge_type_by_type(cut_off: tuple[WireCluster, Networks]) -> None:
    cluster, made = cut_off
    alone, *others = cluster.nodes
    clients = [node.client(protocol=3) for node in cluster.nodes]
    _run(lambda number: clients[number % 3], BEFORE)
    wait_delivered(cluster)
    made.isolate([alone.host])
    wait_for(lambda: list(alone.states().values()) == ["up", "down", "down"], "n1 holds the others for down")
    seen = {"n1": "down", "n2": "up", "n3": "up"}
    wait_for(lambda: all(node.states() == seen for node in others), "they hold n1 for down")
    with _with_quorum_of_one(alone) as lonely:
        _run(lambda number: lonely, ALONE)
    _run(lambda number: clients[1 + number % 2], MANY)
    made.isolate([])
    cluster.wait_healthy()
    wait_delivered(cluster)
    for number in range(SETS_OF_KEYS):
        for line, wanted in AFTER:
            name, key, *rest = line.split()
            for client in clients:
                assert client.execute_command(name, f"{key}-{number}", *rest) == wanted, (line, number)
        _, values = clients[0].execute_command("DYN.GET", f"bits-{number}")
        assert sorted(values) == [b"\x40\x40", b"\x60"]
    _decide_what_two_types_have_left(cluster)
    stop_and_compare(cluster)


def _decide_what_two_types_have_left(cluster: WireCluster) -> None:
    """`dyn siblings` names the keys that hide a string behind a set, or have two; what is decided is so everywhere."""
    first, second, _ = cluster.nodes
    document = json.loads(_dyn(first, "siblings", "list", "--json").stdout)
    mixed = {f"mixed-{number}" for number in range(SETS_OF_KEYS)}
    bits = {f"bits-{number}" for number in range(SETS_OF_KEYS)}  # two strings, none of which is hidden
    wanted = dict.fromkeys(mixed, ("set", {"string": 1})) | dict.fromkeys(bits, ("string", {}))
    assert {each["key"]: (each["type"], each["hidden"]) for each in document["keys"]} == wanted
    told = _dyn(second, "siblings", "resolve", "mixed-0", "--keep", "string")
    assert (told.returncode, told.stdout, told.stderr) == (0, b"kept: string; superseded: the set\n", b"")
    assert _dyn(first, "siblings", "resolve", "mixed-1").stdout == b"kept: set; superseded: 1 of string\n"
    for node in cluster.nodes:
        assert node.client().execute_command("GET", "mixed-0") == b"text"
        assert node.client().execute_command("SMEMBERS", "mixed-1") == {b"a"}
    left = json.loads(_dyn(second, "siblings", "list", "--match", "mixed-*", "--json").stdout)["keys"]
    assert {each["key"] for each in left} == mixed - {"mixed-0", "mixed-1"}


def _dyn(node: WireNode, *words: str) -> CompletedProcess[bytes]:
    return dyn("--host", node.host.address, *words, port=node.port)
