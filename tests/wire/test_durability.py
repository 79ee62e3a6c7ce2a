"""What is on disk stays: under each fsync policy, on a full disk, and on one whose data is damaged."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from tests.small_disk import mounted
from tests.wire.cluster import Client, WireCluster, WireNode, wait_for
from tests.wire.load import Load

MIB = 1 << 20
DISK_MIB = 400
RESERVE_MIB = 64


@pytest.mark.parametrize("fsync", ["always", "everysec", "no"])
def test_each_policy_survives_kill_9_of_all(make_cluster: Callable[..., WireCluster], fsync: str) -> None:
    cluster = make_cluster(fsync=fsync)
    assert all(f"fsync {fsync}" in node.log for node in cluster.nodes)
    load = Load(cluster.ports)
    with load.running():
        load.more(100)
        for node in cluster.nodes:
            node.kill()
    cluster.start()
    cluster.wait_healthy()
    load.assert_all_there(*cluster.nodes)
    assert cluster.nodes[0].client().set("goes", "on")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_MIB."""
    with mounted(tmp_path / "disk", DISK_MIB * MIB) as path:
        yield path


@contextmanager
def _cluster_on(disk: Path, config: str) -> Iterator[WireCluster]:
    cluster = WireCluster(disk / "cluster", config=config)
    try:
        cluster.form()
        yield cluster
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()


def _fill(ballast: Path, leave_bytes: int) -> None:
    """Takes all the space of the disk but so much."""
    disk = os.statvfs(ballast.parent)
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, disk.f_bavail * disk.f_frsize - leave_bytes))


def _is_refused(client: Client) -> bool:
    """Whether a write is. Until all nodes have noticed, one that has not may find that the others will not have it."""
    try:
        client.set("probe", "x")
    except redis.ResponseError as error:
        assert str(error).startswith(("DISKFULL ", "NOQUORUM ")), error
        return True
    return False


def test_a_full_disk_refuses_writes_and_goes_on_reading(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    with _cluster_on(small_disk, f"disk_free_bytes_min = {RESERVE_MIB * MIB}\n") as cluster:
        clients = [node.client() for node in cluster.nodes]
        load = Load(cluster.ports)
        with load.running():
            load.more(100)
        assert not load.errors
        _fill(ballast, RESERVE_MIB * MIB // 2)
        wait_for(lambda: all(map(_is_refused, clients)), "writes are refused")
        wait_for(lambda: all("refusing writes" in node.log for node in cluster.nodes), "each node has noticed")
        for number, client in enumerate(clients * 30):
            with pytest.raises(redis.ResponseError, match=r"^DISKFULL .*n[123].*free some disk space"):
                client.set(f"full:{number}", "x")
            assert client.get(f"full:{number}") is None
        load.assert_all_there(*cluster.nodes)
        ballast.unlink()
        wait_for(lambda: not any(map(_is_refused, clients)), "writes are taken again")
        wait_for(lambda: all("taking writes again" in node.log for node in cluster.nodes), "each node has noticed")
        for number, client in enumerate(clients * 30):
            assert client.set(f"full:{number}", "y")
        load.assert_all_there(*cluster.nodes)


def test_a_disk_that_fills_up_under_the_engine_loses_nothing_acknowledged(small_disk: Path) -> None:
    """Nobody looks at the free space in time, so the engine itself fails: the node stops rather than promise."""
    ballast = small_disk / "ballast"
    with _cluster_on(small_disk, "disk_free_bytes_min = 0\n") as cluster:
        _fill(ballast, 8 * MIB)
        acknowledged = _write_until_failure(cluster.nodes[0])
        assert acknowledged
        ballast.unlink()
        wait_for(lambda: _is_healthy_again(cluster), "a healthy cluster, those nodes started again that have stopped")
        assert any("CRITICAL" in node.log for node in cluster.nodes), "nothing has failed"
        for node in cluster.nodes:
            with node.client() as client:
                for key, value in acknowledged.items():
                    assert client.get(key) == value
                assert client.set(f"after:{node.name}", "x")


def _is_healthy_again(cluster: WireCluster) -> bool:
    for node in cluster.nodes:
        if node.has_ended():
            assert node.wait() == 1
            assert "storage failed, the node stops" in node.log.splitlines()[-2]
            assert "o space left" in node.log, "the log says why"
            node.start()
    return all(node.is_healthy() for node in cluster.nodes)


def _write_until_failure(node: WireNode) -> dict[str, bytes]:
    """Big values until the node is gone or says no; those that were acknowledged."""
    acknowledged: dict[str, bytes] = {}
    rng = random.Random(1)
    with node.client() as client:
        for number in range(DISK_MIB):
            value = rng.randbytes(MIB)
            try:
                client.set(f"big:{number}", value)
            except redis.RedisError:
                return acknowledged
            acknowledged[f"big:{number}"] = value
    raise AssertionError("the disk took more than it can hold")


def _damage(data: Path, pattern: str) -> None:
    """Turns over bytes all over the engine's files of one kind."""
    files = [path for path in data.glob(pattern) if path.stat().st_size]
    assert files, f"no {pattern} in {sorted(path.name for path in data.iterdir())}"
    for path in files:
        content = bytearray(path.read_bytes())
        for place in range(len(content) // 2, len(content), max(1, len(content) // 50)):
            content[place] ^= 0xFF
        path.write_bytes(content)


@pytest.mark.parametrize("pattern", ["MANIFEST-*", "CURRENT", "*.log"])
def test_a_node_whose_data_is_damaged_says_so_and_does_not_start(
    make_cluster: Callable[..., WireCluster], pattern: str
) -> None:
    cluster = make_cluster()
    victim, *others = cluster.nodes
    load = Load(cluster.ports)
    with load.running():
        load.more(100)
    victim.kill()
    _damage(victim.directory / "data", pattern)
    victim.start()
    assert victim.wait() == 1
    last = victim.log.splitlines()[-1]
    assert "CRITICAL" in last
    assert "does not start" in last
    assert str(victim.directory / "data") in last, "it names the place"
    load.assert_all_there(*others)
    assert others[0].client().set("goes", "on")
