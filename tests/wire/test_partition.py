"""A cut of the network leaves one node alone: it goes on with W=1, and after the cut both sides' values are there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.wire.cluster import Client, WireCluster, WireNode, wait_for
from tests.wire.networks import Networks, cut_cluster
from tests.wire.repairs import stop_and_compare, wait_delivered

KEYS = 300
LONG_CUT_S = 60.0


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[tuple[WireCluster, Networks]]:
    """A healthy cluster of three nodes, each in a network namespace of its own."""
    with cut_cluster(tmp_path / "cluster", 3) as made:
        yield made


def _cut_off_the_first(cluster: WireCluster, made: Networks) -> None:
    """Returns when each side has noticed."""
    alone, *others = cluster.nodes
    made.isolate([alone.host])
    wait_for(lambda: list(alone.states().values()) == ["up", "down", "down"], "n1 holds the others for down")
    seen = {"n1": "down", "n2": "up", "n3": "up"}
    wait_for(lambda: all(node.states() == seen for node in others), "they hold n1 for down")


def _with_quorum_of_one(node: WireNode) -> Client:
    client = node.client(single_connection_client=True)
    assert client.execute_command("DYN.QUORUM", "R", 1, "W", 1) == [3, 1, 1]
    return client


def _siblings(client: Client, key: str) -> tuple[bytes, list[bytes]]:
    context, values = client.execute_command("DYN.GET", key)
    return context, sorted(values)


def test_both_sides_of_a_cut_are_there_afterwards(cut_off: tuple[WireCluster, Networks]) -> None:
    cluster, made = cut_off
    alone = cluster.nodes[0]
    clients = [node.client() for node in cluster.nodes]
    for number in range(KEYS):
        assert clients[number % 3].set(f"both{number}", "before")
    _cut_off_the_first(cluster, made)
    with _with_quorum_of_one(alone) as lonely:
        for number in range(KEYS):
            assert lonely.set(f"both{number}", f"alone{number}"), "with W=1 it takes every write"
            assert lonely.set(f"alone{number}", f"alone{number}")
            assert lonely.get(f"both{number}") == b"alone%d" % number
    for number in range(KEYS):
        client = clients[1 + number % 2]
        assert client.set(f"both{number}", f"many{number}")
        assert client.set(f"many{number}", f"many{number}")
        assert client.get(f"both{number}") == b"many%d" % number
    made.isolate([])
    cluster.wait_healthy()
    wait_delivered(cluster)
    for number in range(KEYS):
        for client in clients:
            _, values = _siblings(client, f"both{number}")
            assert values == [b"alone%d" % number, b"many%d" % number]
            assert client.get(f"alone{number}") == b"alone%d" % number
            assert client.get(f"many{number}") == b"many%d" % number
    for number in range(KEYS):
        context, values = _siblings(clients[number % 3], f"both{number}")
        merged = b" ".join(values)
        clients[number % 3].execute_command("DYN.SET", f"both{number}", merged, "CONTEXT", context)
        assert _siblings(clients[(number + 1) % 3], f"both{number}")[1] == [merged]
    wait_delivered(cluster)
    stop_and_compare(cluster)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_long_cut_is_over_when_it_is_over(cut_off: tuple[WireCluster, Networks]) -> None:
    """The kernel tries a silent connection again at ever longer pauses: the nodes must not wait for it."""
    cluster, made = cut_off
    _cut_off_the_first(cluster, made)
    threading.Event().wait(LONG_CUT_S)
    made.isolate([])
    cluster.wait_healthy()
