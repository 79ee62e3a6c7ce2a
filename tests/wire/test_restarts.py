"""Nodes are restarted one after the other under load: the same code, newer code, or at another address."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.scripted import free_ports
from tests.wire.cluster import WireCluster, wait_for
from tests.wire.load import Load
from tests.wire.repairs import stop_and_compare, wait_whole

ROOT = Path(__file__).parents[2]
PREVIOUS = "9177059"  # the last commit in which a layout knew of no phases
CONFIG = "repair_interval_ms = 1000\n"


def _restart_all(cluster: WireCluster, load: Load) -> None:
    for node in cluster.nodes:
        load.more(100)
        assert node.stop() == 0
        load.more(100)
        node.start()
        cluster.wait_healthy()
    load.more(100)


def test_a_rolling_restart_fails_no_request(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    load = Load(cluster.ports, deletes=0.1)
    with load.running():
        _restart_all(cluster, load)
    assert not load.errors, load.errors[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The sources of the previous version."""
    archive = subprocess.run(["git", "archive", PREVIOUS, "server", "protocol"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip("the previous version is not in this checkout's history")
    place = tmp_path / "previous"
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(place, filter="data")
    return place


def test_a_rolling_upgrade_fails_no_request(make_cluster: Callable[..., WireCluster], previous: Path) -> None:
    """Nodes of the previous version and of this one are one cluster for as long as the upgrade takes."""
    old = {"PYTHONPATH": str(previous)}
    cluster = make_cluster(config=CONFIG, environments=dict.fromkeys(range(3), old))
    load = Load(cluster.ports, deletes=0.1)
    for node in cluster.nodes:
        node.upgrade()
    with load.running():
        _restart_all(cluster, load)
    assert not load.errors, load.errors[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)


def test_a_node_with_a_new_address_is_the_same_member(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    moved = cluster.nodes[1]
    load = Load([cluster.nodes[0].port, cluster.nodes[2].port])
    with load.running():
        load.more(100)
        assert moved.stop() == 0
        load.more(100)
        moved.port = free_ports(1)
        moved.start()
        wait_for(moved.serves, "it serves at its new address")
        cluster.wait_healthy()
        load.more(100)
    assert not load.errors, load.errors[:10]
    for node in cluster.nodes:
        told = {entry["name"]: entry["address"] for entry in node.document("DYN.CLUSTER", "STATUS")["nodes"]}
        assert told[moved.name] == f"127.0.0.1:{moved.port}"
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)
