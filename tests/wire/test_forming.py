"""A cluster forms and comes back without a message lost, and is healthy once it says so."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.wire.cluster import WireCluster, WireNode, wait_for

ROUNDS = 5
# A deadline that no client waits for: a question whose answer got lost while links were being made is noticed.
PATIENT = "request_timeout_ms = 60000\n"


@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_every_node_serves_every_key(make_cluster: Callable[..., WireCluster], nodes: int) -> None:
    cluster = make_cluster(nodes=nodes, config=PATIENT)
    clients = [node.client() for node in cluster.nodes]
    for number in range(200):
        key = f"forming:{number}"
        assert clients[number % nodes].set(key, number)
        assert clients[(number + 1) % nodes].get(key) == b"%d" % number
    for node in cluster.nodes:
        assert len(node.states()) == nodes
        assert node.document("DYN.CLUSTER", "STATUS")["n"] == min(3, nodes)
        wait_for(partial(_shows_all, node, 200 * min(3, nodes)), f"{node.name} shows all nodes and keys")


def _shows_all(node: WireNode, keys: int) -> bool:
    entries = node.document("DYN.CLUSTER", "STATUS")["nodes"]
    return {entry["state"] for entry in entries} == {"up"} and sum(entry["keys"] or 0 for entry in entries) == keys


def test_no_answer_is_lost_while_links_are_made(make_cluster: Callable[..., WireCluster]) -> None:
    for _ in range(ROUNDS):
        make_cluster(config=PATIENT)


def test_a_healthy_cluster_serves_with_any_one_node_gone(make_cluster: Callable[..., WireCluster]) -> None:
    """What the nodes call healthy has all its links: from that moment on, any one node may go."""
    cluster = make_cluster(config=PATIENT)
    for number in range(2 * ROUNDS):
        victim, one, other = (cluster.nodes[(number + place) % 3] for place in range(3))
        victim.kill()
        for node in (one, other):
            with node.client() as client:
                for key in range(30):
                    assert client.set(f"gone:{key}", number)
                    assert client.get(f"gone:{key}") == b"%d" % number
        victim.start()
        cluster.wait_healthy()
