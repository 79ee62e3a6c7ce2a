"""kill -9 in the middle of a load: what was acknowledged reads back, and only the broken connections notice."""

from __future__ import annotations

from collections.abc import Callable

from tests.wire.cluster import WireCluster, wait_for
from tests.wire.load import Load

IN_ORDER = ("NOQUORUM ", "TIMEOUT ")


def test_kill_9_of_one_node(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    victim, *survivors = cluster.nodes
    load = Load(cluster.ports)
    with load.running():
        load.more(200)
        victim.kill()
        wait_for(lambda: load.breaks >= 2, "the threads at n1 have lost their connections")
        load.more(400)
    assert not load.errors, load.errors[:10]
    load.assert_all_there(*survivors)
    victim.start()
    wait_for(victim.serves, "n1 serves again")
    cluster.wait_healthy()
    load.assert_all_there(*cluster.nodes)


def test_one_after_the_other_killed_and_back(make_cluster: Callable[..., WireCluster]) -> None:
    """Once the nodes call the cluster healthy, the next may go: nobody is left with fewer than two."""
    cluster = make_cluster()
    load = Load(cluster.ports)
    with load.running():
        for victim in cluster.nodes:
            load.more(100)
            victim.kill()
            load.more(100)
            victim.start()
            cluster.wait_healthy()
        load.more(100)
    assert not load.errors, load.errors[:10]
    load.assert_all_there(*cluster.nodes)


def test_kill_9_of_all_nodes(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    load = Load(cluster.ports)
    with load.running():
        load.more(400)
        for node in cluster.nodes:
            node.kill()
    # The threads that were between two kills may have been told, and rightly so, that no quorum could be reached, or that
    # the node that ran their command was lost.
    assert not [error for error in load.errors if not any(word in error for word in IN_ORDER)], load.errors[:10]
    cluster.start()
    cluster.wait_healthy()
    load.assert_all_there(*cluster.nodes)
