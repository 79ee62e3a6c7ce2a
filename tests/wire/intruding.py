"""A cluster that an intruder may talk to in the name of a member that is down, and how to see what he has got."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from protocol import resp
from protocol.frames import encode_frame
from server.core.records.records import storage_key_of
from server.core.records.versions import supersede
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.peering import proven
from tests.wire.raw import read_exactly

RECORD = supersede(None, b"actor-x.", 5 << 16, b"intruded")
COUNTERS = (
    "peers_without_proof", "peers_with_wrong_proof", "peers_refused", "handshakes_dropped", "blocks_forged",
    "damaged_frames", "http_refused", "tls_handshakes_failed", "commands_refused", "logins_refused",
)  # fmt: skip


class Scene(NamedTuple):
    """A cluster whose third node has stopped, and what everybody knows of that one."""

    cluster: WireCluster
    identity: dict[str, str]

    @property
    def node(self) -> WireNode:
        """The node that is attacked."""
        return self.cluster.nodes[0]

    @property
    def introduction(self) -> bytes:
        """That of the third node."""
        return resp.command("DYN.PEER", 1, self.identity["cluster"], self.identity["id"], 1)


@contextmanager
def made_scene(directory: Path, config: str = "request_timeout_ms = 1000\n") -> Iterator[Scene]:
    """Nodes that an intruder may talk to in the name of the third."""
    cluster = WireCluster(directory, config=config)
    try:
        cluster.form()
        identity = cluster.nodes[2].document("DYN.CLUSTER", "MYSELF")
        cluster.nodes[2].stop()
        wait_for(lambda: cluster.nodes[0].states()["n3"] == "down", "n3 is down")
        yield Scene(cluster, identity)
        cluster.assert_logs_clean()
    finally:
        cluster.dispose()


def counters(node: WireNode) -> dict[str, int]:
    """Those of refused attempts."""
    counted = node.document("DYN.STATS")["counters"]
    return {name: counted[name] for name in COUNTERS}


def grown(node: WireNode, before: dict[str, int]) -> dict[str, int]:
    """The counters that have grown, and by how much."""
    return {name: count - before[name] for name, count in counters(node).items() if count != before[name]}


def store(key: bytes) -> bytes:
    """The frame by which a coordinator has a replica store a record."""
    return encode_frame((b"STORE", 0, 1, storage_key_of(key), RECORD))


def is_stored(node: WireNode, key: bytes) -> bool:
    """Whether the node holds a record of that key; asks no other node."""
    with node.client() as client:
        client.execute_command("DYN.QUORUM", "R", 1)
        return client.get(key) is not None


def greeted(scene: Scene) -> None:
    """Waits until the node takes a third node that proves the secret: the control of all that follows."""

    def is_greeted() -> bool:
        with proven(scene.node.port) as connection:
            connection.sendall(scene.introduction)
            return read_exactly(connection, 3) == b"+OK"

    wait_for(is_greeted, "the third node is gone")
