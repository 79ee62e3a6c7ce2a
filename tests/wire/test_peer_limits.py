"""What other nodes, or who speaks like one, can make a node hold: half messages and connections are bounded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from protocol import resp
from protocol.frames import encode_frame
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.peering import proven
from tests.wire.raw import read_exactly

MakeCluster = Callable[..., WireCluster]
MIB = 1 << 20
LIMITS = {
    "value_bytes_max": 1, "record_bytes_max": 2, "request_bytes_max": 8, "frame_bytes_max": 16,
    "peer_input_bytes_max": 32, "client_buffers_bytes_max": 32,
}  # fmt: skip
CONFIG = "".join(f"{name} = {mib * MIB + 65536 * (name != 'value_bytes_max')}\n" for name, mib in LIMITS.items())


def _introduction(node: WireNode, number: int) -> bytes:
    """That of a node that nobody knows, whose layout is as new as ours: perhaps a member by a layout made elsewhere."""
    myself = node.document("DYN.CLUSTER", "MYSELF")
    return resp.command("DYN.PEER", 1, myself["cluster"], f"{number:040x}", 1, myself["epoch"], 99)


def test_half_messages_of_many_connections_are_bounded_together(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config=CONFIG)
    node = cluster.nodes[0]
    before_mib = node.resident_mib()
    half = encode_frame([b"LAYOUT", b"0", b"0", b"x" * (12 * MIB)])[: 10 * MIB]
    with ExitStack() as stack:
        for number in range(40):
            connection = stack.enter_context(proven(node.port))
            connection.sendall(_introduction(node, number))
            assert read_exactly(connection, 5) == b"+OK\r\n"
            try:
                connection.sendall(half)
            except ConnectionError:
                continue
        wait_for(lambda: "is cut: " in node.log, "the largest is cut")
        assert node.resident_mib() - before_mib < 128, "400 MiB were sent"
        with node.client() as client:
            assert client.set("k", "v") and client.get("k") == b"v"
    assert "more than peer_input_bytes_max (32 MiB) for all nodes together" in node.log
    cluster.wait_healthy()
    cluster.assert_logs_clean()


def test_connections_of_nodes_have_a_limit_of_their_own_and_members_come_first(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config="peers_max = 4\n")
    node, other, _ = cluster.nodes
    with ExitStack() as stack:
        for number in range(2):
            connection = stack.enter_context(proven(node.port))
            connection.sendall(_introduction(node, number))
            assert read_exactly(connection, 5) == b"+OK\r\n"
        surplus = stack.enter_context(proven(node.port))
        surplus.sendall(_introduction(node, 2))
        assert read_exactly(surplus, 24) == b"-ERR this node takes 4 c"
        other.kill()
        stranger = stack.enter_context(proven(node.port))
        wait_for(lambda: node.states()["n2"] == "down", "n2 is down")
        stranger.sendall(_introduction(node, 3))
        assert read_exactly(stranger, 5) == b"+OK\r\n"
        other.start()
        cluster.wait_healthy()
    cluster.assert_logs_clean()


def test_one_node_has_two_connections_at_most(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    with ExitStack() as stack:
        connections = []
        for _ in range(5):
            connections.append(stack.enter_context(proven(node.port)))
            connections[-1].sendall(_introduction(node, 1))
            assert read_exactly(connections[-1], 5) == b"+OK\r\n"
        for connection in connections[:3]:
            connection.settimeout(10)
            try:
                assert connection.recv(1) == b""
            except ConnectionResetError:
                continue
        with node.client() as client:
            client.ping()
