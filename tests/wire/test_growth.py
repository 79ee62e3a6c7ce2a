"""The ring changes under load: it grows, one node is replaced, one dies for good and is removed, it shrinks again."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.cluster import WireCluster, wait_for
from tests.wire.disks import assert_owners_equal
from tests.wire.load import Load
from tests.wire.repairs import wait_whole, write
from tests.wire.ring_changes import change, fetched, wait_settled

CONFIG = "repair_interval_ms = 1000\nbackground_keys_per_s = 4000\n"


def _judge(cluster: WireCluster, load: Load) -> None:
    """Nothing was refused, nothing lost, and every owner of a partition holds the same bytes and nobody else any."""
    assert not load.errors, load.errors[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    ring = cluster.nodes[0].document("DYN.RING", "SHOW")
    assert all(len(set(owners)) == ring["n"] == 3 for owners in ring["owners"]) and ring["balance"] >= 0.98
    cluster.stop()
    disks = assert_owners_equal(cluster, ring["owners"])
    assert all(disks.values())


@pytest.mark.timeout(600)
def test_the_ring_changes_under_load(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    n1, n2, n3 = cluster.nodes
    write(cluster.nodes, {f"still:{number}": b"x" * 100 for number in range(2000)})
    load = Load([n1.port, n3.port], deletes=0.1, kills=True)
    with load.running():
        load.more(100)
        n4, n5, n6, n7 = (cluster.add() for _ in range(4))
        plan = change(cluster.nodes, *(("join", node.address) for node in (n4, n5, n6)))
        assert {move["to"] for move in plan["moves"]} == {"n4", "n5", "n6"}
        wait_settled([n1, n2, n3, n4, n5, n6], plan["epoch"])
        load.more(50)
        plan = change([n1], ("replace", "n2", n7.address))
        assert [(move["from"], move["to"]) for move in plan["moves"]] == [("n2", "n7")]
        wait_settled([n1, n3, n4, n5, n6, n7], plan["epoch"])
        load.more(50)
        n3.kill()
        wait_for(lambda: n1.states()["n3"] == "down", "n3 is known to be dead")
        plan = change([n1], ("remove", "n3"))
        wait_settled([n1, n4, n5, n6, n7], plan["epoch"])
        load.more(50)
        plan = change([n1], ("leave", "n5"), ("leave", "n6"))
        wait_settled([n1, n4, n7], plan["epoch"])
        load.more(50)
    cluster.forget(n2, n3, n5, n6)
    _judge(cluster, load)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("victim", ["receiver", pytest.param("sender", marks=pytest.mark.soak)])
def test_kill_9_in_the_middle_of_a_transfer(make_cluster: Callable[..., WireCluster], victim: str) -> None:
    """It goes on where it stopped: all that was ever sent is little more than the data."""
    rate = 1000  # slow enough that a busy machine meets the middle of the transfer
    limits = f"background_keys_per_s = {rate}\nbackground_keys_per_s_idle = {rate}\n"
    cluster = make_cluster(config="repair_interval_ms = 1000\n" + limits)
    n1, n2, _ = cluster.nodes
    write(cluster.nodes, {f"key:{number}": b"x" * 500 for number in range(10_000)})
    n4 = cluster.add()
    plan = change(cluster.nodes, ("join", n4.address))
    wait_for(lambda: fetched(n1) > 1500, "the transfer is under way")
    assert fetched(n1) < 6000
    (n4 if victim == "receiver" else n2).kill()
    (n4 if victim == "receiver" else n2).start()
    wait_settled(cluster.nodes, plan["epoch"])
    (task,) = [row for row in n1.document("DYN.TASK", "LIST")["tasks"] if row["task"].startswith("transfer-")]
    assert task["state"] == "done"
    wait_whole(cluster)
    ring = n1.document("DYN.RING", "SHOW")
    cluster.stop()
    disks = assert_owners_equal(cluster, ring["owners"])
    data_bytes = sum(len(key) + len(record) for key, record in disks["n4"].items())
    assert 0.9 * data_bytes < task["bytes_sent"] <= 1.2 * data_bytes
