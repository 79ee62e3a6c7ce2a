"""kill -9 and SIGSTOP in the middle of a load: what was acknowledged reads back, and nobody else notices."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from tests.wire.cluster import WireCluster, wait_for
from tests.wire.load import Load

FREEZE_S = 6.0


def test_kill_9_of_one_node_in_mid_load(make_cluster: Callable[..., WireCluster]) -> None:
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


def test_a_node_killed_again_and_again_while_it_returns(make_cluster: Callable[..., WireCluster]) -> None:
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


def test_kill_9_of_all_nodes_in_mid_load(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    load = Load(cluster.ports)
    with load.running():
        load.more(400)
        for node in cluster.nodes:
            node.kill()
    # The threads that were between two kills may have been told, and rightly so, that no quorum could be reached.
    assert not [error for error in load.errors if "NOQUORUM" not in error], load.errors[:10]
    cluster.start()
    cluster.wait_healthy()
    load.assert_all_there(*cluster.nodes)


def test_a_frozen_node_holds_nobody_up_and_brings_nothing_old_back(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    frozen = cluster.nodes[0]
    load = Load(cluster.ports, timeout_s=3.0)
    with load.running():
        load.more(200)
        with frozen.frozen():
            before = load.writes
            threading.Event().wait(FREEZE_S)
            assert load.writes > before + 1000, "the others did not go on"
        load.more(200)
        cluster.wait_healthy()
        load.more(200)
    assert not load.errors, load.errors[:10]
    assert load.breaks <= 2, "only the connections to the frozen node may have been given up"
    load.assert_all_there(*cluster.nodes)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_freezes_of_all_lengths(make_cluster: Callable[..., WireCluster]) -> None:
    """Around every deadline there is: relays that are refused as stale, those that just are not, links that hold."""
    cluster = make_cluster()
    load = Load(cluster.ports, timeout_s=5.0)
    rng = random.Random(3)
    with load.running():
        for number in range(40):
            load.more(50)
            with cluster.nodes[number % 3].frozen():
                threading.Event().wait(rng.uniform(0.2, 3.5))
            load.more(50)
            if number % 4 == 3:
                cluster.wait_healthy()
    assert not load.errors, load.errors[:10]
    load.assert_all_there(*cluster.nodes)
