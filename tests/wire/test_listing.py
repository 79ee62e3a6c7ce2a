"""While members come and go every key that stays is listed once, through every node; and cluster clients follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import redis

from tests.wire.cluster import PATIENT, Client, WireCluster, WireNode, wait_for
from tests.wire.load import Load
from tests.wire.repairs import write
from tests.wire.ring_changes import change, is_settled, wait_settled

KEYS = 1500
# Slow enough that there is time to look while data moves.
CONFIG = PATIENT + "repair_interval_ms = 1000\nbackground_keys_per_s = 1500\nbackground_keys_per_s_idle = 1500\n"


def _listings(client: Client) -> Iterator[list[bytes]]:
    """All keys, by each of the commands that tell them."""
    yield client.keys("still:*")
    yield list(client.scan_iter("still:*", count=300))


def _assert_lists_all(node: WireNode, expected: list[bytes]) -> None:
    with node.client(timeout_s=30) as client:
        for found in _listings(client):
            assert sorted(found) == expected, (node.name, len(found), len(set(found)), len(expected))
        assert client.dbsize() >= len(expected)


def _has_left(node: WireNode) -> bool:
    with node.client() as client:
        try:
            client.get("still:1")
        except redis.ResponseError as error:
            return "has left its cluster" in str(error)
    return False


def test_keys_are_listed_once_throughout(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    n1, n2, n3 = cluster.nodes
    values: dict[str, bytes | None] = {f"still:{number}": b"x" * 100 for number in range(KEYS)}
    write(cluster.nodes, values)
    expected = sorted(name.encode() for name in values)
    n4 = cluster.add()
    load = Load([n2.port, n3.port], threads=2)
    with load.running():
        for members, words in (([n1, n2, n3, n4], ("join", n4.address)), ([n2, n3, n4], ("leave", "n1"))):
            plan = change([n2], words)
            looks = 0
            while looks < 2 or not is_settled(n2, plan["epoch"], len(members)):
                _assert_lists_all(members[looks % len(members)], expected)
                looks += 1
            wait_settled(members, plan["epoch"])
            for node in members:
                _assert_lists_all(node, expected)
    assert not load.errors, load.errors[:10]
    wait_for(lambda: _has_left(n1), "n1 knows that it has left")
    with n1.client() as client:
        for words in (("KEYS", "*"), ("SCAN", "0"), ("DBSIZE",), ("RANDOMKEY",), ("GET", "still:1")):
            with pytest.raises(redis.ResponseError, match="node n1 has left its cluster at epoch 3"):
                client.execute_command(*words)


def test_cluster_clients_follow(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    n1, n2, n3 = cluster.nodes
    values: dict[str, bytes | None] = {f"key:{number}": b"%d" % number for number in range(KEYS)}
    write(cluster.nodes, values)
    follower = redis.RedisCluster(host="127.0.0.1", port=n1.port)
    n4 = cluster.add()
    for members, words in (([n1, n2, n3, n4], ("join", n4.address)), ([n2, n3, n4], ("leave", "n1"))):
        plan = change([n2], words)
        settled = False
        while not settled:
            settled = is_settled(n2, plan["epoch"], len(members))
            for number in range(0, KEYS, 10):
                assert follower.get(f"key:{number}") == b"%d" % number
                assert follower.set(f"mine:{number}", number)
        with redis.RedisCluster(host="127.0.0.1", port=members[0].port) as fresh:
            assert {node.port for node in fresh.get_nodes()} == {node.port for node in members}

    def has_asked_anew() -> bool:
        assert all(follower.get(f"key:{number}") == b"%d" % number for number in range(0, KEYS, 10))
        return {node.port for node in follower.get_nodes()} == {n2.port, n3.port, n4.port}

    wait_for(has_asked_anew, "it has asked anew")
    follower.close()
