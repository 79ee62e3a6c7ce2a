"""N goes from 3 to 5 and back on real nodes under load, one is killed in the middle: no write is lost, no read is old."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.disks import assert_owners_equal
from tests.wire.load import Load
from tests.wire.repairs import wait_whole, write
from tests.wire.ring_changes import change, commit, is_settled, run, status_text, wait_settled

CONFIG = "repair_interval_ms = 1000\nbackground_keys_per_s = 4000\n"


def stage(node: WireNode, *words: str) -> str:
    """`dyn config set` of N, R and W; returns what it says."""
    done = dyn("config", "set", *words, port=node.port)
    assert done.returncode == 0, (done.stdout, done.stderr)
    return done.stdout.decode()


def numbers(node: WireNode) -> tuple[int, int, int]:
    status = node.document("DYN.CLUSTER", "STATUS")
    return status["n"], status["r"], status["w"]


@pytest.mark.timeout(600)
def test_n_goes_from_three_to_five_and_back_under_load(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    n1, _, n3 = cluster.nodes
    write(cluster.nodes, {f"still:{number}": b"x" * 100 for number in range(1000)})
    load = Load([n1.port, n3.port], deletes=0.1, kills=True)
    with load.running():
        load.more(50)
        few = dyn("config", "set", "n", "5", "--r", "3", "--w", "3", port=n1.port)
        assert few.returncode == 1 and b"N=5 needs 5 nodes, and the cluster would have 3" in few.stderr
        change(cluster.nodes, *(("join", cluster.add().address) for _ in range(2)))
        wait_settled(cluster.nodes, 2)
        n5 = cluster.nodes[4]
        lone = dyn("config", "set", "n", "5", port=n1.port)
        assert lone.returncode == 1 and b"`dyn config set n 5 --r 3 --w 3`" in lone.stderr
        words = ("config", "set", "n", "5", "--r", "3", "--w", "3")
        wait_for(lambda: dyn(*words, port=n5.port).returncode == 0, "all nodes know each other")
        plan = commit(n5)
        assert plan["n"] == [3, 5] and sum(move["partitions"] for move in plan["moves"]) == 2 * 128
        n3.kill()
        wait_for(lambda: n1.states()["n3"] == "down", "n3 is known to be down")
        load.more(30)
        if not is_settled(n1, 3, 5):
            assert "waits for n3" in status_text(n1)
        n3.start()
        wait_settled(cluster.nodes, 3)
        assert [numbers(node) for node in cluster.nodes] == [(5, 3, 3)] * 5
        load.more(50)
        assert "N = 3 for the whole cluster" in stage(n1, "n", "3", "--r", "2", "--w", "2")
        plan = run(n1, "plan")
        assert plan["moves"] == [] and sum(row["partitions"] for row in plan["drops"]) == 2 * 128
        commit(n1)
        load.more(50)
        wait_settled(cluster.nodes, 4)
        assert [numbers(node) for node in cluster.nodes] == [(3, 2, 2)] * 5
        load.more(50)
    _judge(cluster, load)


def _judge(cluster: WireCluster, load: Load) -> None:
    """Nothing was refused, nothing lost, and the three owners of a partition hold the same bytes and nobody else any."""
    assert not load.errors, load.errors[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    ring = cluster.nodes[0].document("DYN.RING", "SHOW")
    assert all(len(set(owners)) == ring["n"] == 3 for owners in ring["owners"]) and ring["balance"] >= 0.98
    cluster.stop()
    assert all(assert_owners_equal(cluster, ring["owners"]).values())
