"""Full disks: one costs no write; who fetches data waits for room; a full cluster gets room by growing, and by deleting;
and with no byte left a node reads on and comes back by itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest
import redis

from tests.small_disk import mounted
from tests.wire.cluster import Client, WireCluster, WireNode, wait_for
from tests.wire.load import Load
from tests.wire.repairs import hints, keys, stop_and_compare, wait_whole, write
from tests.wire.ring_changes import change, fetched, status_text, wait_settled

MIB = 1 << 20
DISK_MIB, FILLER_MIB = 160, 120
SMALL_DISK_MIB = 120
BOUND_S = 16  # more than the interval in which a node that only reads wants to write a document of its own
CONFIG = f"repair_interval_ms = 1000\ndisk_free_bytes_min = {64 * MIB}\n"
SLOWLY = "background_keys_per_s = 500\nbackground_keys_per_s_idle = 500\n"


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_MIB."""
    with mounted(tmp_path / "disk", DISK_MIB * MIB) as path:
        yield path


@pytest.fixture
def disk_of_n2(tmp_path: Path) -> Iterator[Path]:
    """The same, where the second node of a cluster in the folder above has its data."""
    (tmp_path / "cluster").mkdir()
    with mounted(tmp_path / "cluster" / "n2", DISK_MIB * MIB) as path:
        yield path


@pytest.fixture
def small_disks(tmp_path: Path) -> Iterator[Path]:
    """The folder of a cluster of three, each on a file system of its own that a few values fill."""
    (tmp_path / "cluster").mkdir()
    with ExitStack() as stack:
        for name in ("n1", "n2", "n3"):
            stack.enter_context(mounted(tmp_path / "cluster" / name, SMALL_DISK_MIB * MIB))
        yield tmp_path / "cluster"


# A node says one of these when its disk is full. Which one depends on whether it looked, or wrote, first.
FULL = ("refusing writes, taking deletions", "no space left, the node begins anew")


def _take_all(disk: Path) -> Path:
    """Somebody else's file that leaves no byte."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1 << 14)):
                pass
        except OSError:
            assert not os.statvfs(disk).f_bavail
    return filler


def _uptime_s(node: WireNode) -> int:
    with node.client() as client:
        return int(client.info("server")["uptime_in_seconds"])


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    filler.write_bytes(bytes(FILLER_MIB * MIB))
    return filler


def _values(prefix: str, count: int) -> dict[str, bytes | None]:
    return {f"{prefix}:{number}": b"x" * 300 for number in range(count)}


def _takes_no_writes(node: WireNode) -> bool:
    with node.client() as client:
        try:
            return not client.set("probe", "value")
        except redis.ResponseError as error:
            return "DISKFULL" in str(error)


def test_a_full_disk_costs_no_write(disk_of_n2: Path, make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG, directory=disk_of_n2.parent)
    n1, n2, n3 = cluster.nodes
    load = Load(cluster.ports)
    with load.running():
        load.more(200)
        filler = _fill(disk_of_n2)
        wait_for(lambda: "refusing writes" in n2.log, "it has noticed")
        load.more(400)
        wait_for(lambda: "n2: no room on the disk" in status_text(n3), "every status says so")
        assert hints(n1)["total"] > 0, "they are kept for it"
        filler.unlink()
        wait_for(lambda: "taking writes again" in n2.log, "there is room again")
        load.more(200)
    assert not load.errors, load.errors[:5]
    load.assert_all_there(*cluster.nodes)
    wait_whole(cluster)
    stop_and_compare(cluster)


def test_a_joining_node_waits_for_room(disk: Path, make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG + SLOWLY)
    n1 = cluster.nodes[0]
    write(cluster.nodes, _values("before", 6000))
    n4 = cluster.add(directory=disk / "n4")
    plan = change(cluster.nodes, ("join", n4.address))
    wait_for(lambda: fetched(n1) > 500, "the transfer is under way")
    filler = _fill(disk)
    wait_for(lambda: "n4: no room on the disk, writes are refused there" in status_text(n1), "every status says so")
    status = n1.document("DYN.CLUSTER", "STATUS")
    assert (status["verdict"], status["change"]["phase"]) == ("degraded", "transfer")
    write(cluster.nodes, _values("meanwhile", 500))
    assert n1.document("DYN.CLUSTER", "STATUS")["change"]["phase"] == "transfer", "it waits"
    filler.unlink()
    wait_settled(cluster.nodes, plan["epoch"])
    wait_for(lambda: "no room" not in status_text(n1), "there is room again")
    wait_whole(cluster)
    stop_and_compare(cluster)


def test_a_full_cluster_gets_room_by_growing(disk: Path, make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG, directory=disk / "cluster")
    n1, n2, n3 = cluster.nodes
    write(cluster.nodes, _values("before", 2000))
    filler = _fill(disk)
    wait_for(lambda: "n1, n2, n3: no room on the disk" in status_text(n1), "no node has room")
    wait_for(lambda: _takes_no_writes(n1), "n1 takes no writes")
    n4 = cluster.add(directory=disk.parent / "n4")
    plan = change([n1], ("join", n4.address))
    wait_settled(cluster.nodes, plan["epoch"])
    for node in (n1, n2, n3):
        wait_for(lambda node=node: keys(node) < 1600, f"{node.name} has let go of a quarter")  # type: ignore[misc]
    filler.unlink()
    wait_for(lambda: not _takes_no_writes(n1), "there is room again")
    wait_whole(cluster)
    stop_and_compare(cluster)


def test_with_no_byte_left_a_node_reads_on_and_comes_back(
    disk_of_n2: Path, make_cluster: Callable[..., WireCluster]
) -> None:
    cluster = make_cluster(config=CONFIG, directory=disk_of_n2.parent)
    n1, n2, n3 = cluster.nodes
    before = _values("before", 300)
    write([n1], before)
    load = Load([n1.port, n3.port])
    with load.running():
        load.more(300)
        filler = _take_all(disk_of_n2)
        begun_s = _uptime_s(n3)
        wait_for(
            lambda: "n2: no room on the disk, writes and deletions are refused there" in status_text(n3), "all know it"
        )
        load.more(300)
        wait_for(lambda: _reads(n2, before) and _uptime_s(n3) > begun_s + BOUND_S, "it would have written by then", 60)
        assert not n2.has_ended()
        filler.unlink()
        wait_for(lambda: "taking writes again" in n2.log or n2.log.count("serves on") > 2, "there is room again")
        wait_for(lambda: "no room" not in status_text(n3), "all know it")
        load.more(300)
    assert not load.errors, load.errors[:5]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)


def _reads(node: WireNode, values: dict[str, bytes | None]) -> bool:
    try:
        with node.client() as client:
            assert client.mget(list(values)) == list(values.values())
    except redis.ConnectionError:  # another life of the node has just begun
        return False
    return True


def _deletes(client: Client, command: list[str]) -> bool:
    """A busy machine may cost an answer. A full disk costs none."""
    try:
        client.execute_command(*command)
    except redis.ResponseError as error:
        assert not str(error).startswith("DISKFULL"), error
        return False
    return True


@pytest.mark.parametrize("how", [pytest.param("DEL", marks=pytest.mark.soak), "FLUSHALL"])
def test_a_full_cluster_gets_room_by_deleting(
    small_disks: Path, make_cluster: Callable[..., WireCluster], how: str
) -> None:
    cluster = make_cluster(config=CONFIG, directory=small_disks)
    n1, *_ = cluster.nodes
    count = 0
    with n1.client() as client:
        while sum(any(word in node.log for word in FULL) for node in cluster.nodes) < 2:
            for _ in range(20):
                try:
                    client.set(f"big:{count}", os.urandom(50_000))
                except redis.ResponseError as error:
                    assert str(error).startswith(("DISKFULL", "NOQUORUM")), error  # until all have noticed
                    break
                count += 1
        assert count > 100
        batches = [["DEL", *(f"big:{number}" for number in range(start, start + 50))] for start in range(0, count, 50)]
        for command in batches if how == "DEL" else [["FLUSHALL", "CONFIRM"]]:
            wait_for(partial(_deletes, client, command), "it deletes")
        assert client.dbsize() <= 1
    wait_for(lambda: not any(_takes_no_writes(node) for node in cluster.nodes), "there is room again", 90)
    wait_for(lambda: all(keys(node) <= 1 for node in cluster.nodes), "the tombstones are gone, too", 90)
    stop_and_compare(cluster)
