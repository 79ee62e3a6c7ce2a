"""Members come, go, take over and die at random under four writers, with one node at a time in trouble: nothing is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Callable

import pytest

from tests.wire.cluster import WireCluster
from tests.wire.load import Load
from tests.wire.repairs import stop_and_compare, wait_whole, write
from tests.wire.ring_storm import RingStorm

CONFIG = "repair_interval_ms = 1000\n"
# What may be answered while a node is in trouble. 0: a coordinator that was lost had run the DEL before another one did.
IN_ORDER = re.compile(r": (NOQUORUM|TIMEOUT) |: DEL: 0$")


def _storm(cluster: WireCluster, seed: int, duration_s: float, still: int, calm: str, pause_s: float) -> None:
    """A calm change to begin with and one of the kind `calm` at the end, of which nobody who asks may notice anything."""
    print(f"the storm of seed {seed}")
    write(cluster.nodes, {f"still:{number}": b"x" * 100 for number in range(still)})
    storm = RingStorm(cluster, seed, pause_s)
    load = Load(cluster.ports[:2], timeout_s=4.0, deletes=0.2)
    with load.running():
        load.more(50)
        storm.change("join")
        storm.settle()
        load.more(20)
        assert not load.errors, load.errors[:10]
        storm.rage(duration_s)
        print("; ".join(storm.told))
        storm.settle()
        load.more(20)
        refused = len(load.errors)
        storm.change(calm)
        storm.settle()
        load.more(20)
        print(f"{load.writes} writes, {refused} refused, {load.breaks} broken connections")
        assert load.errors[refused:] == [], load.errors[refused:][:10]
    strange = [error for error in load.refusals if not IN_ORDER.search(error)]
    assert not strange, strange[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    ring = cluster.nodes[0].document("DYN.RING", "SHOW")
    assert all(len(set(owners)) == ring["n"] == 3 for owners in ring["owners"])
    assert not cluster.nodes[-1].document("DYN.CLUSTER", "PLAN")["changes"]
    with cluster.nodes[-1].client() as client:
        assert client.exists(*(f"still:{number}" for number in range(still))) == still
    stop_and_compare(cluster)


@pytest.mark.soak  # 30 s; test_growth.py changes the ring under load in CI
def test_a_storm_of_changes_loses_nothing(make_cluster: Callable[..., WireCluster]) -> None:
    _storm(make_cluster(config=CONFIG), random.randrange(1 << 32), 4, 500, "weight", 0.5)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("pause_s", [0.5, 8.0])
def test_a_long_storm_of_changes_loses_nothing(make_cluster: Callable[..., WireCluster], pause_s: float) -> None:
    _storm(make_cluster(config=CONFIG), random.randrange(1 << 32), 90, 5000, "replace", pause_s)
