"""Protected mode over the wire: who comes from another address is told what to do, and the log says what happened.

The node listens on all addresses; a client that comes by this machine's address on its network is one from elsewhere.
"""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
import redis

from protocol import resp
from server.shell.addresses import own_hosts
from server.shell.logs import BURST
from tests.wire.cluster import Host, WireCluster, WireNode, connect, dyn, wait_for
from tests.wire.raw import exchange

OUTSIDE = own_hosts(False)[0]
pytestmark = pytest.mark.skipif(OUTSIDE.startswith("127."), reason="this machine has no address beside loopback")


ANYWHERE = Host("0.0.0.0")  # this process reaches it by loopback


def open_node(make_cluster: Callable[..., WireCluster], config: str = "") -> WireNode:
    """A cluster of one node that listens on all addresses."""
    node: WireNode = make_cluster(nodes=1, config=config, hosts=[ANYWHERE]).nodes[0]
    return node


def outside(node: WireNode) -> socket.socket:
    """A connection of a client from elsewhere."""
    return socket.create_connection((OUTSIDE, node.port), 10)


def test_clients_from_elsewhere_are_told_what_to_do(make_cluster: Callable[..., WireCluster]) -> None:
    node = open_node(make_cluster)
    with outside(node) as stranger:
        answer = exchange(stranger, resp.command(b"SET", b"k", b"stolen") * 3)
    assert answer.startswith(b"-DENIED this node is in protected mode") and answer.count(b"\r\n") == 1
    with pytest.raises(redis.ResponseError, match="DENIED"):
        connect(node.port, host=OUTSIDE).execute_command("GET", "k")
    with node.client() as client:
        assert client.get("k") is None and client.info()["denied_connections"] >= 2
        wait_for(lambda: "is refused, because this node is in protected mode" in node.log, "the log says so")
        assert f"listens on 0.0.0.0:{node.port}, and not for this machine alone: no password" in node.log
        assert "no password is set" in node.document("DYN.CLUSTER", "STATUS")["summary"]
        assert (
            f"it listens on 0.0.0.0:{node.port}, and not for this machine alone"
            in dyn("cluster", "status", port=node.port).stdout.decode()
        )
        assert client.config_set("protected-mode", "no")
    with connect(node.port, host=OUTSIDE) as client:
        assert client.set("k", "v") and client.get("k") == b"v"
    wait_for(lambda: "CONFIG SET protected-mode" in node.log, "it says who did this")
    wait_for(lambda: "command of user 'default' at 127.0.0.1:" in node.log, "and by which user")
    wait_for(lambda: "whoever can reach it may read, change and delete everything" in node.log, "it warns of this")


def test_a_stranger_cannot_make_us_hold_a_large_request(make_cluster: Callable[..., WireCluster]) -> None:
    node = open_node(make_cluster)
    with outside(node) as stranger:
        half = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$30000000\r\n" + b"x" * 200_000
        assert exchange(stranger, half).startswith(b"-DENIED ")


def test_the_setting_lets_everybody_in(make_cluster: Callable[..., WireCluster]) -> None:
    node = open_node(make_cluster, config="protected_mode = false")
    with connect(node.port, host=OUTSIDE) as client:
        assert client.set("k", "v")
        assert client.config_get("protected-mode") == {"protected-mode": "no"}


def test_nodes_are_no_clients(make_cluster: Callable[..., WireCluster]) -> None:
    """Three nodes that reach each other by this machine's address make a cluster; clients come by loopback."""
    cluster = make_cluster(nodes=3, hosts=[ANYWHERE] * 3)
    assert OUTSIDE in cluster.nodes[0].document("DYN.CLUSTER", "STATUS")["nodes"][0]["address"]
    with cluster.nodes[0].client() as client:
        assert client.execute_command("DYN.QUORUM", "W", 3) and client.set("k", "v")


def test_no_client_forges_or_floods_the_log(make_cluster: Callable[..., WireCluster]) -> None:
    """A node's introduction is refused and logged; without a secret, what it says is chosen by whoever connects."""
    node = make_cluster(nodes=1, secrets=()).nodes[0]
    forged = b"\n2026-01-01 00:00:00,000 CRITICAL forged\x1b[2J"
    for number in range(BURST * 3):
        with socket.create_connection(("127.0.0.1", node.port), 10) as intruder:
            size = 30 << 20 if number == 0 else 400
            name = forged + b"x" * size
            assert exchange(intruder, resp.command(b"DYN.PEER", b"1", name, b"%040d" % number, b"1")).startswith(b"-")
    wait_for(lambda: len(_lines_about_it(node)) > 1, "it is logged")
    lines = _lines_about_it(node)
    assert len(lines) <= BURST + 5
    assert all(line.startswith("20") and len(line) < 5000 and "INFO refused a node" in line for line in lines), lines
    assert not any("\x1b" in line for line in lines)


def _lines_about_it(node: WireNode) -> list[str]:
    return [line for line in node.log.splitlines() if "forged" in line or "refused a node" in line]
