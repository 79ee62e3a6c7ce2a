"""SIGTERM and SIGINT end a node cleanly and in bounded time, whatever it is doing; what keeps one from starting is said
in its log.
"""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from protocol import resp
from tests.wire.cluster import PATIENT, WireCluster, WireNode, wait_for
from tests.wire.load import Load
from tests.wire.raw import exchange, raw


@pytest.fixture
def fresh(tmp_path: Path) -> WireCluster:
    """One node that is not started yet."""
    return WireCluster(tmp_path / "fresh", nodes=1)


def _stops(node: WireNode, number: signal.Signals) -> None:
    node.signal(number)
    assert node.wait() == 0
    assert node.log.rstrip().endswith(f"node {node.name} has stopped")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_a_node_and_nothing_is_lost(
    make_cluster: Callable[..., WireCluster], number: signal.Signals
) -> None:
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    with ExitStack() as stack:
        idle = [stack.enter_context(raw(node.port)) for _ in range(50)]
        idle[0].sendall(resp.command("SET", "k", "x" * 1000)[:-10])  # half a request stops nobody
        node.client().set("kept", "here")
        _stops(node, number)
        for connection in idle:
            assert exchange(connection, b"") == b""
    node.start()
    wait_for(node.serves, "it serves again")
    assert node.client().get("kept") == b"here"
    _stops(node, number)


def test_a_fresh_node_without_a_cluster_stops_too(fresh: WireCluster) -> None:
    node = fresh.nodes[0]
    node.start()
    try:
        wait_for(node.serves, "it serves")
        with pytest.raises(redis.ResponseError, match="not part of a cluster yet"):
            node.client().set("k", "v")
        _stops(node, signal.SIGTERM)
    finally:
        fresh.dispose()


def test_a_clean_stop_under_load_loses_nothing(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=PATIENT)
    load = Load(cluster.ports)
    with load.running():
        for node in cluster.nodes:
            load.more(50)
            _stops(node, signal.SIGTERM)
            load.more(50)
            node.start()
            cluster.wait_healthy()
        load.more(50)
    assert not load.errors, load.errors[:10]
    load.assert_all_there(*cluster.nodes)


def test_all_at_once_under_load(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    load = Load(cluster.ports)
    with load.running():
        load.more(100)
        for node in cluster.nodes:
            node.signal(signal.SIGTERM)
        assert [node.wait() for node in cluster.nodes] == [0, 0, 0]
    cluster.start()
    cluster.wait_healthy()
    load.assert_all_there(*cluster.nodes)


def test_with_a_client_that_never_reads(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    node.client().set("big", b"b" * (1 << 20))
    with raw(node.port) as greedy:
        greedy.sendall(resp.command("GET", "big") * 200)
        _stops(node, signal.SIGTERM)


def test_with_a_frozen_peer(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    with cluster.nodes[2].frozen():
        cluster.nodes[0].client().set("k", "v")
        _stops(cluster.nodes[0], signal.SIGTERM)
        _stops(cluster.nodes[1], signal.SIGTERM)


def _ends_with(node: WireNode, *words: str) -> None:
    """The node ends by itself with status 1, and the last line of its log says why."""
    assert node.wait() == 1
    last = node.log.splitlines()[-1]
    assert "CRITICAL" in last
    assert "Traceback" not in node.log
    for word in words:
        assert word in last, last


def test_a_port_in_use(fresh: WireCluster) -> None:
    node = fresh.nodes[0]
    with socket.create_server(("127.0.0.1", node.port)):
        node.start()
        _ends_with(node, "does not start", str(node.port), "in use")


def test_a_directory_in_use(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1)
    directory = cluster.nodes[0].directory
    second = WireNode(directory, WireCluster(directory.parent / "other", nodes=1).nodes[0].port, (), {})
    second.start()
    _ends_with(second, "does not start", str(directory))
    assert cluster.nodes[0].client().set("k", "v"), "the first one goes on"


def test_settings_that_are_wrong(tmp_path: Path) -> None:
    for config, complaint in (
        ("clients_maxx = 1", "clients_maxx"),
        ("clients_max = [", "TOML"),
        ("fsync = 'x'", "fsync"),
    ):
        cluster = WireCluster(tmp_path / "wrong", nodes=1, fsync="", config=config)
        cluster.nodes[0].start()
        _ends_with(cluster.nodes[0], "does not start", complaint)
