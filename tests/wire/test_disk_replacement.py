"""The disks of all nodes, replaced one after the other under load: each step waits for `dyn cluster status` and no more.

Theory. An operator's script does what the man page says: it goes on to the next machine when the status exits with 0. That
is right only if a node that has lost its disk is not called healthy before it has everything back: else two copies of three
are gone with the second step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.load import Load
from tests.wire.repairs import Values, assert_holds, stop_and_compare, wait_delivered, wipe, write

MakeCluster = Callable[..., WireCluster]
SLOWLY = "background_keys_per_s = 500\nbackground_keys_per_s_idle = 500\n"
VERY_SLOWLY = "background_keys_per_s = 150\nbackground_keys_per_s_idle = 150\n"  # time to look for a busy machine
FILLED_S = 600.0


def _replace_disks(cluster: WireCluster, keys: int) -> None:
    values: Values = {f"k{number}": b"value-%d" % number for number in range(keys)}
    write(cluster.nodes, values)
    wait_delivered(cluster)
    load = Load(cluster.ports)
    said: list[str] = []
    with load.running():
        load.more(50)
        for node in cluster.nodes:
            other = next(each for each in cluster.nodes if each is not node)
            wait_for(partial(_is_healthy, other, said), "the cluster is healthy", FILLED_S)
            assert node.stop() == 0
            wipe(node)
            node.start()
            wait_for(node.serves, f"{node.name} serves")
            wait_for(lambda other=other: set(other.states().values()) == {"up"}, "it is up")  # type: ignore[misc]
            wait_for(partial(_is_filled, node), f"{node.name} is being filled, or is whole")
        wait_for(partial(_is_healthy, cluster.nodes[0], said), "the cluster is healthy", FILLED_S)
    assert load.errors == []
    load.assert_all_there(*cluster.nodes)
    for node in cluster.nodes:
        assert "it is being filled by the other owners" in node.log
        # Reports are made once a second, so the line may follow the status.
        wait_for(lambda node=node: "this node is whole: " in node.log, f"{node.name} logs that it is whole")  # type: ignore[misc]
    wait_delivered(cluster)
    for records in stop_and_compare(cluster).values():
        assert_holds(records, values)


def _status(node: WireNode, said: list[str]) -> int:
    done = dyn("cluster", "status", port=node.port)
    said.append(done.stdout.decode())
    return done.returncode


def _is_healthy(node: WireNode, said: list[str]) -> bool:
    """What the operator's script goes by."""
    return _status(node, said) == 0


def _is_filled(node: WireNode) -> bool:
    return "it is being filled by the other owners" in node.log


def test_the_disks_of_three_nodes_are_replaced_in_turn(make_cluster: MakeCluster) -> None:
    _replace_disks(make_cluster(config=SLOWLY), 2_000)


@pytest.mark.soak
def test_the_disks_of_three_nodes_with_more_keys_are_replaced_in_turn(make_cluster: MakeCluster) -> None:
    _replace_disks(make_cluster(), 60_000)


@pytest.mark.soak  # 26 s; the simulator has the same in CI (tests/sim/test_filling.py)
def test_a_node_that_is_rebuilt_is_a_task_and_not_healthy_until_it_is_whole(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config=VERY_SLOWLY)
    n1, n2, _ = cluster.nodes
    values: Values = {f"k{number}": b"value-%d" % number for number in range(3_000)}
    write(cluster.nodes, values)
    wait_delivered(cluster)
    assert n1.stop() == 0
    n1.start("--rebuild")
    wait_for(lambda: n2.states().get("n1") == "up", "it is up")
    said: list[str] = []
    assert _status(n2, said) == 4, said
    assert "n1 is being filled, " in said[-1]
    [task] = n2.document("DYN.TASK", "LIST")["tasks"]
    assert (task["state"], task["node"], task["partitions"]) == ("running", "n1", 128)
    wait_for(partial(_is_healthy, n2, said), "it is whole", FILLED_S)
    [task] = n2.document("DYN.TASK", "LIST")["tasks"]
    assert (task["state"], task["keys_compared"]) == ("done", 3_000)
    for records in stop_and_compare(cluster).values():
        assert_holds(records, values)
