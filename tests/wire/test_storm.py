"""Nodes are killed, stopped and frozen at random under four writers, and one loses its disk: no write is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.cluster import WireCluster
from tests.wire.load import Load
from tests.wire.networks import Networks, cut_cluster
from tests.wire.repairs import stop_and_compare, wait_whole
from tests.wire.storm import Storm

# Rounds of comparison in seconds, not in minutes, so that a test can wait for them.
CONFIG = "repair_interval_ms = 1000\n"
# What a storm may bring. 0: the quorum of a DEL did not know of the key, for one of them was just wiped, the other away.
# No cluster: the wiped node knows of none until it hears of one, and just then the others may be away.
IN_ORDER = re.compile(r": (NOQUORUM|TIMEOUT) |: DEL: 0$|not part of a cluster yet")


def _storm(cluster: WireCluster, seed: int, duration_s: float, networks: Networks | None = None) -> None:
    storm = Storm(cluster, seed, networks)
    print(f"the storm of seed {seed}")
    hosts = [node.host for node in cluster.nodes]
    load = Load(cluster.ports, timeout_s=4.0, deletes=0.2, hosts=hosts)
    with load.running():
        load.more(100)
        storm.rage(duration_s)
        load.more(100)
    print("; ".join(storm.told))
    strange = [error for error in load.refusals if not IN_ORDER.search(error)]
    assert not strange, strange[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)


def test_a_storm_loses_nothing(make_cluster: Callable[..., WireCluster]) -> None:
    _storm(make_cluster(config=CONFIG), random.randrange(1 << 32), 9)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("nodes", [3, 5])
def test_a_long_storm_loses_nothing(make_cluster: Callable[..., WireCluster], nodes: int) -> None:
    _storm(make_cluster(nodes=nodes, config=CONFIG), random.randrange(1 << 32), 60)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("nodes", [3, 5])
def test_a_long_storm_with_cuts_loses_nothing(tmp_path: Path, nodes: int) -> None:
    with cut_cluster(tmp_path / "cluster", nodes, CONFIG) as (cluster, made):
        _storm(cluster, random.randrange(1 << 32), 60, made)
