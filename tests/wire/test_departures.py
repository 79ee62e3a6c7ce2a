"""Nodes that go, or come, in an untidy way: killed in the middle, removed and back again, so many that few are left."""

from __future__ import annotations

from collections.abc import Callable

import redis

from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.disks import records_of
from tests.wire.repairs import stop_and_compare, wait_whole, wipe, write
from tests.wire.ring_changes import change, fetched, status_text, wait_settled

KEYS = 4000
CONFIG = "repair_interval_ms = 1000\nbackground_keys_per_s = 800\nbackground_keys_per_s_idle = 800\n"
VALUES: dict[str, bytes | None] = {f"key:{number}": b"x" * 100 for number in range(KEYS)}


def _wait_down(node: WireNode, name: str) -> None:
    wait_for(lambda: node.states()[name] == "down", f"{name} is known to be down")


def _is_told_to_have_left(node: WireNode) -> bool:
    with node.client() as client:
        try:
            client.get("key:1")
        except redis.ResponseError as error:
            return "has left its cluster" in str(error)
    return False


def _assert_all_there(cluster: WireCluster) -> None:
    with cluster.nodes[-1].client(timeout_s=30) as client:
        assert client.dbsize() == KEYS
    wait_whole(cluster)
    stop_and_compare(cluster)


def test_a_joining_node_dies_for_good_and_is_back_later(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    n1, n2, n3 = cluster.nodes
    write(cluster.nodes, VALUES)
    n4 = cluster.add()
    change([n1], ("join", n4.address))
    wait_for(lambda: fetched(n1) > 300, "the transfer is under way")
    n4.kill()
    _wait_down(n1, "n4")
    wait_for(lambda: "moving: 0 of 96 partitions, waits for n4" in status_text(n1), "the change waits for it")
    said = "this waits for n4: what is gone for good is taken out by `dyn cluster remove n4`"
    assert said in status_text(n1)
    plan = change([n1], ("remove", "n4"))
    wait_settled([n1, n2, n3], plan["epoch"])
    n4.start()
    wait_for(n4.serves, "n4 serves")
    wait_for(lambda: _is_told_to_have_left(n4), "n4 knows that it was removed")
    said = f"by its layout of epoch {plan['epoch']}, and serves nobody: stop it; it still holds "
    wait_for(lambda: said in n4.log, "its log says what became of it")
    for node in (n1, n2, n3):
        wait_for(lambda node=node: "GONE" in node.log, "it has been refused")  # type: ignore[misc]
        assert node.log.count("GONE") == 1, "what is the same is logged once"
        wait_for(node.is_healthy, f"{node.name} calls the cluster healthy")
    made = dyn("cluster", "init", n4.address)
    assert made.returncode == 1 and b"records of an earlier life" in made.stderr, "they may be the last copies"
    cluster.forget(n4)
    _assert_all_there(cluster)


def test_a_joining_node_loses_its_disk_in_the_middle(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=CONFIG)
    write(cluster.nodes, VALUES)
    n4 = cluster.add()
    plan = change(cluster.nodes[:3], ("join", n4.address))
    wait_for(lambda: fetched(cluster.nodes[0]) > 300, "the transfer is under way")
    n4.kill()
    wipe(n4)
    n4.start()
    wait_for(n4.serves, "n4 serves")
    wait_settled(cluster.nodes, plan["epoch"])
    _assert_all_there(cluster)


def test_a_leaving_node_is_killed_in_the_middle(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=4, config=CONFIG)
    n1, n2, n3, n4 = cluster.nodes
    write(cluster.nodes, VALUES)
    plan = change([n1], ("leave", "n4"))
    wait_for(lambda: fetched(n1) > 300, "the transfer is under way")
    n4.kill()
    _wait_down(n1, "n4")
    wait_for(lambda: not n1.document("DYN.CLUSTER", "STATUS").get("change"), "the others have it all without n4")
    said = "n4: on the way out, until it holds nothing any more; this waits for n4: "
    wait_for(lambda: said in status_text(n1), "the status says what it waits for")
    n4.start()
    wait_for(n4.serves, "n4 serves")
    wait_settled([n1, n2, n3], plan["epoch"])
    wait_for(lambda: _is_told_to_have_left(n4), "n4 has left")
    assert n4.stop() == 0
    assert not records_of(n4), "it has let go of everything"
    cluster.nodes.remove(n4)
    _assert_all_there(cluster)


def test_a_cluster_shrinks_to_one_node_and_grows_again(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config="repair_interval_ms = 1000\n")
    n1, n2, n3 = cluster.nodes
    write(cluster.nodes, VALUES)
    plan = change([n1], ("leave", "n3"))
    assert plan["copies"].startswith(
        "2 of each key then, 3 now: fewer than N=3 nodes would be left; the owners that stay"
    )
    wait_settled([n1, n2], plan["epoch"])
    plan = change([n2], ("leave", "n1"))
    wait_settled([n2], plan["epoch"])
    cluster.forget(n1, n3)
    with n2.client() as client:
        assert client.dbsize() == KEYS and client.set("key:1", "one") and client.set("key:1", b"x" * 100)
    n4, n5 = cluster.add(), cluster.add()
    plan = change([n2], ("join", n4.address), ("join", n5.address))
    wait_settled([n2, n4, n5], plan["epoch"])
    ring = n5.document("DYN.RING", "SHOW")
    assert all(len(set(owners)) == 3 for owners in ring["owners"])
    _assert_all_there(cluster)
