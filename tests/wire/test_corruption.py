"""Disks that forget or lie: flipped bytes are never served and mended, what cannot be opened is rebuilt from the others,
and a directory that is set back or wiped does no harm.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from xxhash import xxh3_64_digest

from server.core.records.records import storage_key_of
from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, connect, dyn, wait_for
from tests.wire.disks import open_disk
from tests.wire.repairs import (
    REPAIR_S,
    Values,
    assert_holds,
    counters,
    repair,
    stop_and_compare,
    wait_delivered,
    wait_whole,
    write,
)

KEYS = 1500
CONFIG = "repair_interval_ms = 1000\nscrub_interval_ms = 1000\n"
UNREPAIRED = "repair_interval_ms = 600000\nscrub_interval_ms = 86400000\n"  # by itself
MakeCluster = Callable[..., WireCluster]


def _values(tag: str) -> Values:
    return {f"k{number}": b"%b%d" % (tag.encode(), number) for number in range(KEYS)}


def _written(make_cluster: MakeCluster, config: str) -> tuple[WireCluster, Values]:
    """A cluster whose nodes all hold the same values."""
    cluster, values = make_cluster(config=config), _values("v")
    write(cluster.nodes, values)
    wait_delivered(cluster)
    return cluster, values


def _damage_records(node: WireNode, names: list[str], damage: Callable[[bytes], bytes]) -> None:
    """Damages each of these records of a stopped node."""
    keys = [storage_key_of(name.encode()) for name in names]
    with closing(open_disk(node)) as engine:
        records = [record for record in engine.get_many(keys) if record is not None]
        assert len(records) == len(keys)
        engine.commit({key: damage(record) for key, record in zip(keys, records, strict=True)})


def _flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes((data[place] ^ 0xFF,)) + data[place + 1 :]


def _flip_last(record: bytes) -> bytes:
    return _flipped(record, len(record) - 1)


def _tear(record: bytes) -> bytes:
    """The checksum is right, and the structure is wrong: the value ends early."""
    return xxh3_64_digest(record[8:-1]) + record[8:-1]


def _flip_in_files(node: WireNode, pattern: str, share: float) -> None:
    """Turns over a byte in each data file of one kind, at that share of its length."""
    files = [path for path in (node.directory / "data").glob(pattern) if path.stat().st_size]
    assert files, f"no {pattern}"
    for path in files:
        content = path.read_bytes()
        path.write_bytes(_flipped(content, int(len(content) * share)))


def _flip_block_of(node: WireNode, name: str) -> None:
    """Turns over a byte in the block in which the record of a stopped node lies."""
    with closing(open_disk(node)) as engine:
        record = engine.get(storage_key_of(name.encode()))
    assert record is not None
    holders = [path for path in (node.directory / "data").glob("*.sst") if record in path.read_bytes()]
    assert len(holders) == 1, "it is stored once, and not compressed"
    content = holders[0].read_bytes()
    holders[0].write_bytes(_flipped(content, content.index(record)))


def _has_rebuilt(node: WireNode) -> bool:
    return (node.directory / "data.damaged-1").exists()


def _assert_served(cluster: WireCluster, values: Values) -> None:
    """Each node answers each key rightly, also when it asks nobody else."""
    for node in cluster.nodes:
        with node.client(single_connection_client=True) as client:
            for quorum in (2, 1):
                client.execute_command("DYN.QUORUM", "R", quorum)
                assert client.mget(list(values)) == list(values.values())


@pytest.mark.parametrize("damage", [_flip_last, _tear])
def test_damaged_records_are_never_served_and_mended(
    make_cluster: MakeCluster, damage: Callable[[bytes], bytes]
) -> None:
    cluster, values = _written(make_cluster, CONFIG)
    victim = cluster.nodes[0]
    assert victim.stop() == 0
    damaged = list(values)[::3]
    _damage_records(victim, damaged, damage)
    victim.start()
    wait_for(victim.serves, "it serves")
    with victim.client() as client:
        assert client.mget(list(values)) == list(values.values()), "before they are mended"
        assert client.set(damaged[-1], "newer"), "a write finds the record damaged, too"
    values[damaged[-1]] = b"newer"
    wait_for(lambda: counters(victim)["records_mended"] >= len(damaged) - 1, "all are mended", REPAIR_S)
    assert counters(victim)["records_lost"] == 0
    wait_whole(cluster)
    _assert_served(cluster, values)
    assert_holds(stop_and_compare(cluster)[victim.name], values)


def test_a_flipped_byte_in_a_data_file_is_mended(make_cluster: MakeCluster) -> None:
    cluster, values = _written(make_cluster, CONFIG)
    victim = cluster.nodes[0]
    assert victim.stop() == 0
    _flip_in_files(victim, "*.sst", 0.05)  # among the records, which come first
    victim.start()
    wait_for(victim.serves, "it serves")
    with victim.client() as client:
        assert client.mget(list(values)) == list(values.values()), "before they are mended"
    wait_for(lambda: counters(victim)["records_mended"] > 0, "they are mended", REPAIR_S)
    wait_for(lambda: _has_rebuilt(victim), "the block stays in its file, so the store is set aside", REPAIR_S)
    wait_whole(cluster)
    _assert_served(cluster, values)
    assert counters(victim)["records_lost"] == 0
    assert "this node could not read all of its store, and the other owners hold everything" in victim.log


def test_a_damaged_block_on_each_of_three_nodes_costs_nobody_an_answer(make_cluster: MakeCluster) -> None:
    """Each at another place, so that every key keeps two sound copies: reads are right at once, and a repair mends all."""
    cluster, values = _written(make_cluster, UNREPAIRED)
    cluster.stop()
    in_order = sorted(values, key=lambda name: storage_key_of(name.encode()))
    for node, place in zip(cluster.nodes, (KEYS // 4, KEYS // 2, 3 * KEYS // 4), strict=True):
        _flip_block_of(node, in_order[place])
    cluster.start()
    for node in cluster.nodes:
        wait_for(lambda node=node: set(node.states().values()) == {"up"}, "all are up")  # type: ignore[misc]
    for node in cluster.nodes:
        with node.client() as client:
            pipeline = client.pipeline(transaction=False)
            for name in values:
                pipeline.get(name)
            assert pipeline.execute(raise_on_error=False) == list(values.values())
            assert client.mget(list(values)) == list(values.values())
    done = repair(cluster.nodes[1])
    assert set(done["mended"]) == {"n1", "n2", "n3"}, done
    assert done["error"] == ""
    assert not done["lost"]
    assert set(done["unreadable"]) == {"n1", "n2", "n3"}, "what was in the blocks is mended, and they are bad still"
    for node in cluster.nodes:
        wait_for(lambda node=node: _has_rebuilt(node), f"{node.name} has begun an empty store", REPAIR_S)  # type: ignore[misc]
    cluster.wait_healthy()
    again = repair(cluster.nodes[2])
    assert not again["mended"] and not again["unreadable"], "the disks were read once more, and nothing was found"
    assert again["keys_verified"] == 3 * KEYS
    _assert_served(cluster, values)


def test_a_compaction_that_meets_a_bad_block_costs_the_store_and_not_the_node(make_cluster: MakeCluster) -> None:
    """Nobody has read the block before. The node goes on without compactions, in the same process, until it is rebuilt."""
    cluster, values = _written(make_cluster, UNREPAIRED)
    victim = cluster.nodes[0]
    assert victim.stop() == 0
    _flip_block_of(victim, "k7")
    values["k0"] = b"newer"

    def goes_on_without_compactions() -> bool:
        cluster.nodes[1].client().set("k0", "newer")
        return "the node restarts in this process, without compactions" in victim.log

    for _ in range(3):  # each stop makes a file, and RocksDB compacts four of them
        victim.start()
        wait_for(victim.serves, "it serves")
        if goes_on_without_compactions():
            break
        assert victim.stop() in (0, 1)
    else:
        victim.start()
    wait_for(goes_on_without_compactions, "a compaction has met the block")
    wait_for(lambda: _has_rebuilt(victim), "it has begun an empty store", REPAIR_S)
    cluster.wait_healthy()
    _assert_served(cluster, values)
    assert counters(victim)["records_lost"] == 0


@pytest.mark.parametrize("pattern", ["MANIFEST-*", pytest.param("*.log", marks=pytest.mark.soak)])
def test_a_store_that_does_not_open_is_rebuilt_from_the_others(make_cluster: MakeCluster, pattern: str) -> None:
    cluster = make_cluster(config=CONFIG)
    victim = cluster.nodes[0]
    values = _values("v")
    write(cluster.nodes, values)
    victim.kill()
    _flip_in_files(victim, pattern, 0.5)
    victim.start()
    assert victim.wait() == 1
    last = victim.log.splitlines()[-1]
    assert "does not start" in last
    assert "dyn node start" in last and "--rebuild" in last, "it says what to do"
    victim.start("--rebuild")
    cluster.wait_healthy()
    assert [path.name for path in victim.directory.glob("data.damaged*")], "what was damaged is kept aside"
    repair(victim)
    wait_whole(cluster)
    assert_holds(stop_and_compare(cluster)[victim.name], values)


def test_a_directory_that_is_set_back_does_no_harm(make_cluster: MakeCluster, tmp_path: Path) -> None:
    """The node comes back with older records, and would issue dots that it has issued before had it kept its actor."""
    cluster = make_cluster(config=CONFIG)
    victim = cluster.nodes[0]
    write(cluster.nodes, _values("old"))
    assert victim.stop() == 0
    shutil.copytree(victim.directory / "data", tmp_path / "copy")
    victim.start()
    cluster.wait_healthy()
    write([victim], _values("new"))
    wait_delivered(cluster)
    assert victim.stop() == 0
    shutil.rmtree(victim.directory / "data")
    shutil.copytree(tmp_path / "copy", victim.directory / "data")
    victim.start()
    cluster.wait_healthy()
    newest = dict.fromkeys(list(_values("new"))[::5], b"newest")
    write([victim], newest)
    wait_whole(cluster)
    _assert_served(cluster, _values("new") | newest)
    assert_holds(stop_and_compare(cluster)[victim.name], _values("new") | newest)


@pytest.fixture
def local_cluster(tmp_path: Path) -> Iterator[Path]:
    """Where `dyn up` keeps a cluster."""
    yield tmp_path / "cluster"
    assert dyn("down", "--dir", tmp_path / "cluster").returncode == 0


def test_dyn_up_brings_a_node_back_whose_whole_directory_is_gone(local_cluster: Path) -> None:
    port = free_ports(3)
    start = ("up", "--detach", "--dir", local_cluster)
    assert dyn(*start, "--base-port", str(port)).returncode == 0
    values = _values("v")
    with connect(port) as client:
        assert client.mset(values)
    before = _ids(port)
    assert dyn("down", "--dir", local_cluster).returncode == 0
    shutil.rmtree(local_cluster / "n2")
    started = dyn(*start)
    assert started.returncode == 0, started.stderr.decode()
    assert _ids(port) == before
    repaired = dyn("repair", "--json", port=port)
    assert repaired.returncode == 0, repaired.stderr.decode()
    with connect(port + 1, single_connection_client=True) as client:
        client.execute_command("DYN.QUORUM", "R", 1)
        assert client.mget(list(values)) == list(values.values())


def _ids(port: int) -> dict[str, str]:
    status = json.loads(dyn("cluster", "status", "--json", port=port).stdout)
    return {node["name"]: node["id"] for node in status["nodes"]}
