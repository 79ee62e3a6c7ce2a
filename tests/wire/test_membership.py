"""A node joins real processes and another leaves them, while clients write; who is gone is told so.

The layouts are made here and told to a node as a fellow would tell them, over a connection between nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import redis

from protocol import resp
from protocol.frames import encode_frame
from server.core.commands.operator import first_layout
from server.core.ring.change import JOIN, LEAVE, REMOVE, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import commit
from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.peering import proven

KEYS = 500


@pytest.fixture
def fourth(tmp_path: Path) -> Iterator[WireNode]:
    """A fresh node beside a cluster of three."""
    node = WireNode(tmp_path / "n4", free_ports(1), [], {})
    node.start()
    wait_for(node.serves, "n4 serves")
    yield node
    node.dispose()
    assert "Traceback" not in node.log


def tell(node: WireNode, layout: Layout) -> None:
    """Gives `node` a layout in the name of a node of which it knows nothing, and which knows that layout."""
    with proven(node.port) as connection:
        stranger = "f" * 40
        connection.sendall(resp.command(b"DYN.PEER", 1, layout.cluster, stranger, 1, layout.epoch, layout.revision))
        assert connection.recv(100) == resp.OK
        connection.sendall(encode_frame((b"LAYOUT", 0, 0, layout.encode())))
        wait_for(lambda: node.document("DYN.CLUSTER", "MYSELF")["epoch"] >= layout.epoch, "the layout is taken")


def first_of(cluster: WireCluster) -> Layout:
    """The layout that the cluster was formed with."""
    members = [node.document("DYN.CLUSTER", "MYSELF") for node in cluster.nodes]
    wish = {"partitions": 128, "n": 3, "r": 2, "w": 2, "members": members}
    return first_layout(wish, members[0]["cluster"])


def change(kind: str, node: WireNode) -> Change:
    """A change that is about `node`."""
    who = node.document("DYN.CLUSTER", "MYSELF")
    if kind != JOIN:
        return Change(f"{kind}-1", kind, who["id"])
    return Change("join-1", JOIN, who["id"], 0, who["name"], who["address"], who["zone"], who["weight"])


def holds(nodes: Sequence[WireNode], keys: int) -> bool:
    """Whether so many records are stored on these nodes together, and on no others."""
    entries = nodes[0].document("DYN.CLUSTER", "STATUS")["nodes"]
    return len(entries) == len(nodes) and sum(entry.get("keys") or 0 for entry in entries) == keys


def test_a_node_joins_and_another_leaves(make_cluster: Callable[..., WireCluster], fourth: WireNode) -> None:
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    with n1.client() as client:
        for number in range(KEYS):
            assert client.set(f"k{number}", number)
    layout = first_of(cluster)
    joined = commit(layout, [change(JOIN, fourth)])
    tell(n1, joined)
    for number in range(KEYS, 2 * KEYS):
        with (n1, n2, n3)[number % 3].client() as client:
            assert client.set(f"k{number}", number)
    wait_for(lambda: holds([n1, n2, n3, fourth], 3 * 2 * KEYS), "each key is on its owners, and nowhere else")
    settled = replace(joined, revision=2, progress=2, phase="settled", former=())
    tell(n1, commit(settled, [change(LEAVE, n3)]))
    wait_for(lambda: holds([n1, n2, fourth], 3 * 2 * KEYS), "the others have it all")
    with fourth.client() as client:
        for number in range(2 * KEYS):
            assert client.get(f"k{number}") == b"%d" % number
    wait_for(lambda: "has left its cluster at epoch 3" in _refusal(n3), "n3 knows that it has left")
    wait_for(n1.is_healthy, "n1 calls the cluster healthy")


def _refusal(node: WireNode) -> str:
    with node.client() as client:
        try:
            client.get("k1")
        except redis.ResponseError as error:
            return str(error)
    return ""


def test_a_removed_node_learns_of_it_when_it_is_back(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=4)
    n1, n2, n3, n4 = cluster.nodes
    members = [node.document("DYN.CLUSTER", "MYSELF") for node in cluster.nodes]
    layout = first_layout({"partitions": 128, "n": 3, "r": 2, "w": 2, "members": members}, members[0]["cluster"])
    gone = change(REMOVE, n4)
    n4.kill()
    tell(n1, commit(layout, [gone]))
    wait_for(lambda: all(len(node.states()) == 3 for node in (n1, n2, n3)), "three are left")
    n4.start()
    wait_for(n4.serves, "n4 serves")

    def is_told() -> bool:
        try:
            with n4.client() as client:
                client.execute_command("DYN.CLUSTER", "STATUS")
        except redis.ResponseError as error:
            return "has left its cluster at epoch 2" in str(error)
        return False

    wait_for(is_told, "it knows that it was removed")
    wait_for(n1.is_healthy, "n1 calls the cluster healthy")
