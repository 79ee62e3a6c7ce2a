"""Nodes are restarted one after the other under load: the same code, newer code, or at another address."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from tests.ports import free_ports
from tests.wire.cluster import PATIENT, WireCluster, WireNode, dyn, wait_for
from tests.wire.load import Load
from tests.wire.repairs import repair, stop_and_compare, wait_whole

ROOT = Path(__file__).parents[2]
PREVIOUS = "9177059"  # the last commit in which a layout knew of no phases
BEFORE = "f059f95"  # the last commit in which nodes did not tell each other their versions and capabilities
TYPELESS = "e16de1f"  # the last commit in which nodes could not read records of entries
RESULTING = "ec18040"  # the last commit in which nodes shared a numbering of databases, without its swaps
CONFIG = "repair_interval_ms = 1000\n"
NOT_ANNOUNCED = r"have not announced one: (n2, n3|n3, n2)$"


def _restart_all(cluster: WireCluster, load: Load, after_each: Callable[[], object] | None = None) -> None:
    for node in cluster.nodes:
        load.more(100)
        assert node.stop() == 0
        load.more(100)
        node.start()
        cluster.wait_healthy()
        if after_each is not None:
            after_each()
    load.more(100)


def _assert_unharmed(cluster: WireCluster, load: Load) -> None:
    assert not load.errors, load.errors[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)


def test_a_rolling_restart_fails_no_request(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=PATIENT + CONFIG)  # who is taken for lost has its DELs run twice
    load = Load(cluster.ports, deletes=0.1)
    with load.running():
        _restart_all(cluster, load)
    _assert_unharmed(cluster, load)


def _knows_plans(node: WireNode) -> bool:
    """Whether it runs code of this version."""
    with node.client() as client:
        try:
            client.execute_command("DYN.CLUSTER", "PLAN")
        except redis.ResponseError as error:
            return "unknown subcommand" not in str(error)
        return True


@pytest.fixture
def previous(tmp_path: Path) -> Path:
    """The sources of the previous version."""
    return _sources(PREVIOUS, tmp_path / "previous")


@pytest.fixture
def before(tmp_path: Path) -> Path:
    """The sources of the version before this one."""
    return _sources(BEFORE, tmp_path / "before")


@pytest.fixture
def typeless(tmp_path: Path) -> Path:
    """The sources of the last version without types."""
    return _sources(TYPELESS, tmp_path / "typeless")


@pytest.fixture
def resulting(tmp_path: Path) -> Path:
    """The sources of the last version that shared no swaps."""
    return _sources(RESULTING, tmp_path / "resulting")


def _sources(commit: str, place: Path) -> Path:
    archive = subprocess.run(["git", "archive", commit, "server", "protocol"], cwd=ROOT, capture_output=True)
    if archive.returncode:
        pytest.skip(f"{commit} is not in this checkout's history")
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(place, filter="data")
    return place


def _reach_each_other(cluster: WireCluster) -> bool:
    """Whether each node has all others acknowledge what it coordinates (which is one in three of these keys)."""
    with cluster.nodes[0].client() as client:
        try:
            told = [client.execute_command("DYN.SET", f"probe:{number}", "", "W", 3) for number in range(30)]
        except redis.ResponseError:
            return False
    return all(acks == 3 and not hinted for _, acks, hinted in told)


def test_a_rolling_upgrade_fails_no_request(make_cluster: Callable[..., WireCluster], previous: Path) -> None:
    """Nodes of the previous version and of this one are one cluster for as long as the upgrade takes.

    Nodes of the previous version call a cluster healthy a moment before they reach all of it, and do not end what they
    have begun when they stop, so that a DEL may answer 0 the second time: there are none here.
    """
    old = {"PYTHONPATH": str(previous)}
    cluster = make_cluster(config=CONFIG, environments=dict.fromkeys(range(3), old))
    load = Load(cluster.ports)
    for node in cluster.nodes:
        assert not _knows_plans(node)
        node.upgrade()
    with load.running():
        _restart_all(cluster, load, lambda: wait_for(lambda: _reach_each_other(cluster), "all nodes reach each other"))
    assert all(map(_knows_plans, cluster.nodes))
    _assert_unharmed(cluster, load)


def _assert_they_understand_each_other(cluster: WireCluster, keys: int) -> None:
    """Whoever is asked, of this version or the one before: what all must answer for is answered."""
    for node in cluster.nodes:
        with node.client(single_connection_client=True) as client:
            pipeline = client.pipeline(transaction=False)
            for number in range(keys):
                pipeline.set(f"mixed:{number}", node.name)
                pipeline.get(f"mixed:{number}")
            assert pipeline.execute()[1::2] == [node.name.encode()] * keys
            assert client.set("large", b"v" * (2 << 20)) and len(client.get("large")) == 2 << 20
            assert {b"mixed:%d" % number for number in range(keys)} <= set(client.scan_iter(count=50))
            assert client.dbsize() >= keys
            assert client.delete("large") == 1
            client.execute_command("DYN.HINTS", "LIST")
            client.execute_command("DYN.CLUSTER", "PLAN")
        repair(node)
        assert node.document("DYN.TASK", "LIST")["tasks"]
        wait_for(node.is_healthy, f"{node.name} calls the cluster healthy")
        assert "damaged message" not in node.log and "refuses us" not in node.log, node.log[-2000:]


@pytest.mark.soak  # 75 s; in CI the version before is upgraded, and not set back
def test_the_version_before_and_this_one_are_one_cluster_both_ways(
    make_cluster: Callable[..., WireCluster], before: Path
) -> None:
    """Upgraded node by node under load, then taken back node by node; after each step all is asked of each node.

    Without a secret: the way back from a cluster that has one is in test_secrets.py."""
    old = {"PYTHONPATH": str(before)}
    cluster = make_cluster(config=CONFIG, environments=dict.fromkeys(range(3), old), secrets=())
    load = Load(cluster.ports, deletes=0.1)
    with load.running():
        for environment in ({}, old):
            for node in cluster.nodes:
                node.change_environment(environment)
            _restart_all(cluster, load, lambda: _assert_they_understand_each_other(cluster, 100))
    _assert_unharmed(cluster, load)


def test_a_node_with_a_new_address_is_the_same_member(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=PATIENT + CONFIG)
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
    for node in cluster.nodes:
        wait_for(lambda node=node: _address_of(node, moved.name) == moved.address, f"{node.name} knows where it is")  # type: ignore[misc]
    _assert_unharmed(cluster, load)


def _address_of(node: WireNode, name: str) -> str:
    """Where a member is, as `node` knows it."""
    entries = node.document("DYN.CLUSTER", "STATUS")["nodes"]
    return next(str(entry["address"]) for entry in entries if entry["name"] == name)


def _assert_types_wait(cluster: WireCluster, keys: list[str]) -> None:
    """Whoever coordinates the key: one that knows the command says what it waits for, an older one has not heard of it."""
    told: list[str] = []
    for node in cluster.nodes:
        with node.client() as client:
            for key in keys:
                with pytest.raises(redis.ResponseError) as caught:
                    client.incr(key)
                told.append(str(caught.value))
    assert any("this command needs a version that knows Redis' types on every node" in each for each in told)
    refusals = ("needs a version", "unknown command", "runs an earlier version that does not know INCR")
    assert all(any(text in each for text in refusals) for each in told)


def test_types_are_there_once_all_nodes_know_them(make_cluster: Callable[..., WireCluster], typeless: Path) -> None:
    """Upgraded node by node under load. Then all nodes have all types; and a member that is down, of which a node has not
    heard since its own restart, stops no command."""
    old = {"PYTHONPATH": str(typeless)}
    cluster = make_cluster(config=CONFIG, environments=dict.fromkeys(range(3), old))
    load = Load(cluster.ports, deletes=0.1, kills=True)
    keys = [f"typed:{number}" for number in range(12)]  # of all coordinators
    upgraded: list[WireNode] = []

    def after_each() -> None:
        upgraded.append(cluster.nodes[len(upgraded)])
        if len(upgraded) < len(cluster.nodes):
            _assert_types_wait(cluster, keys)

    for node in cluster.nodes:
        node.upgrade()
    one, two, three = cluster.nodes
    with load.running():
        _restart_all(cluster, load, after_each)
        for node in cluster.nodes:
            with node.client() as client:
                for key in keys:
                    client.incr(key)
                    client.hset(f"hash:{key}", mapping={node.name: "v", "last": node.name})
    assert two.stop() == 0
    one.kill()
    one.start()
    wait_for(lambda: _reach_a_quorum(one), "n1 and n3 make a quorum")
    for node in (one, three):
        with node.client() as client:
            assert [client.incr(key) for key in keys] == [4 if node is one else 5] * len(keys)
            assert client.hgetall(f"hash:{keys[0]}") == {b"n1": b"v", b"n2": b"v", b"n3": b"v", b"last": b"n3"}
    two.start()
    cluster.wait_healthy()
    with two.client() as client:
        assert client.mget(keys) == [b"5"] * len(keys)
    _assert_unharmed(cluster, load)


def test_a_node_without_types_cannot_join_a_cluster_that_has_them(
    make_cluster: Callable[..., WireCluster], typeless: Path
) -> None:
    cluster = make_cluster(nodes=1, config=CONFIG)
    (n1,) = cluster.nodes
    with n1.client() as client:
        client.hset("hash", "field", "value")
    n2 = cluster.add(environment={"PYTHONPATH": str(typeless)})
    refused = dyn("cluster", "join", f"127.0.0.1:{n2.port}", port=n1.port)
    assert refused.returncode == 1 and b"runs a version that does not read Redis' types" in refused.stderr
    assert n1.document("DYN.CLUSTER", "STATUS")["epoch"] == 1
    assert n2.stop() == 0
    n2.change_environment({})
    n2.start()
    wait_for(n2.serves, "n2 serves")
    joined = dyn("cluster", "join", f"127.0.0.1:{n2.port}", port=n1.port)
    assert joined.returncode == 0, joined.stderr
    assert dyn("cluster", "commit", "--epoch", "2", "--wait", port=n1.port).returncode == 0
    with n2.client() as client:
        assert client.hgetall("hash") == {b"field": b"value"}


def _reach_a_quorum(node: WireNode) -> bool:
    with node.client() as client:
        try:
            return bool(client.mset({f"probe:{number}": "v" for number in range(30)}))
        except redis.RedisError:
            return False


def test_databases_that_are_swapped_stay_so_in_a_rolling_upgrade(
    make_cluster: Callable[..., WireCluster], resulting: Path
) -> None:
    """Of a version whose documents of numberings have another form, on the disk and in messages."""
    old = {"PYTHONPATH": str(resulting)}
    cluster = make_cluster(config=CONFIG, environments=dict.fromkeys(range(3), old))
    first = cluster.nodes[0]
    with first.client() as client:
        assert client.set("key", "zero") and client.execute_command("SWAPDB", 0, 1)
    for node in cluster.nodes:
        node.upgrade()
        assert node.stop() == 0
        node.start()
        wait_for(node.serves, "the node that was upgraded")
        wait_for(lambda: all({*each.states().values()} == {"up"} for each in cluster.nodes), "all nodes to be up")
        for each in cluster.nodes:
            with each.client(db=1) as client:
                assert client.get("key") == b"zero"
            assert "damaged message" not in each.log and "refuses us" not in each.log, each.log[-2000:]
        if node is first:
            with node.client() as client, pytest.raises(redis.ResponseError, match=NOT_ANNOUNCED):
                client.execute_command("SWAPDB", 0, 2)
    cluster.wait_healthy()
    with first.client() as client:
        assert client.execute_command("SWAPDB", 1, 2)
    for each in cluster.nodes:
        with each.client(db=2) as client:
            assert client.get("key") == b"zero"
