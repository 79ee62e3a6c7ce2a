"""Merkle repair of real processes over real disks: wiped nodes, clean stops, `DYN.REPAIR`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from typing import Any

from tests.wire.cluster import WireCluster, WireNode, wait_for

KEYS = 5000


def _fill(node: WireNode) -> None:
    with node.client() as client:
        for first in range(0, KEYS, 500):
            client.mset({b"key:%d" % number: b"value-%d" % number for number in range(first, first + 500)})


def _records(node: WireNode) -> int:
    with node.client() as client:
        info: dict[str, Any] = client.info("dyn")
    return int(info["records"])


def _repaired(node: WireNode) -> dict[str, Any]:
    """Starts a repair of everything and waits for its end."""
    task = node.document("DYN.REPAIR", "START")["task"]
    return wait_for(lambda: _ended(node, task), "the repair ends")


def _ended(node: WireNode, task: str) -> dict[str, Any] | None:
    document = node.document("DYN.TASK", "SHOW", task)
    return None if document["state"] == "running" else document


def test_a_wiped_node_is_filled_by_itself_and_a_repair_finds_nothing_more(
    make_cluster: Callable[..., WireCluster],
) -> None:
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    _fill(n1)
    wait_for(lambda: all(_records(node) == KEYS for node in cluster.nodes), "all nodes have everything")
    n3.kill()
    shutil.rmtree(n3.directory / "data")
    n3.start()
    cluster.wait_healthy()
    wait_for(lambda: _records(n3) == KEYS, "n3 is filled")
    wait_for(lambda: f"this node is whole: {KEYS} keys" in n3.log, "n3 says so in its log")
    wait_for(lambda: _states_of_tasks(n1) == ["done"], "and the list of tasks says so")
    task = _repaired(n2)
    assert (task["state"], task["keys_compared"], task["partitions_done"]) == ("done", KEYS, 128)
    filled, repaired = n1.document("DYN.TASK", "LIST")["tasks"]
    assert repaired == task
    assert (filled["task"][:8], filled["state"], filled["keys_compared"]) == ("fill-n3-", "done", KEYS)


def _states_of_tasks(node: WireNode) -> list[str]:
    return [task["state"] for task in node.document("DYN.TASK", "LIST")["tasks"]]


def test_clean_stops_keep_the_trees(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    n1, n2, _ = cluster.nodes
    _fill(n1)
    before = _repaired(n2)
    for node in cluster.nodes:
        assert node.stop() == 0
    cluster.start()
    cluster.wait_healthy()
    assert [_records(node) for node in cluster.nodes] == [KEYS] * 3
    after = _repaired(n1)
    assert (after["state"], after["keys_compared"], after["keys_repaired"]) == ("done", KEYS, 0)
    assert after["bytes_sent"] < before["keys_compared"] * 10
    assert [task["node"] for task in n1.document("DYN.TASK", "LIST")["tasks"]] == ["n2", "n1"]
