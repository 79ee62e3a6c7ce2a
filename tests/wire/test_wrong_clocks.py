"""Five nodes, two of which have clocks an hour off either way, put right under load, twice: no TTL is off by more than a
second, writes are in order, and nothing is lost."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol.tokens import decode_context
from server.core.base.clock import SEQUENCE_BITS
from tests.wire.cluster import WireCluster, wait_for
from tests.wire.load import Load
from tests.wire.wrong_clocks import Leases, WallClocks

HOUR_S = 3600
FAST, SLOW = 1, 3  # places of the nodes whose clocks are wrong
ORDERED = 20  # pairs of writes in each phase


def _write_in_order(cluster: WireCluster, name: str) -> None:
    """One SET through a node, one through another; the second wins, and its dot tells the true time."""
    clients = [node.client() for node in cluster.nodes]
    pairs = itertools.islice(itertools.cycle(itertools.permutations(clients, 2)), ORDERED)
    for number, (one, other) in enumerate(pairs):
        key = f"order:{name}:{number}"
        assert one.set(key, "first")
        before_ms = time.time() * 1000
        assert other.set(key, "second")
        after_ms = time.time() * 1000
        context, values = one.execute_command("DYN.GET", key, "R", 3)
        assert values == [b"second"]
        made_ms = max(counter for _, counter in decode_context(key.encode(), context)) >> SEQUENCE_BITS
        assert before_ms - 1000 < made_ms < after_ms + 1000


def _check_time(cluster: WireCluster) -> None:
    """TIME is the true one, through every node, and EXAT agrees with it."""
    for node in cluster.nodes:
        with node.client() as client:
            before_s = time.time()
            seconds, microseconds = client.time()
            assert before_s - 1 < seconds + microseconds / 1e6 < time.time() + 1
            assert client.set("until", "v", exat=seconds + 100)
            assert client.expiretime("until") == seconds + 100
            left_s = client.ttl("until")
            assert 98 - (time.time() - before_s) <= left_s <= 101


@pytest.mark.soak  # 40 s; the simulator has the same in CI (tests/sim/test_clocks.py)
@pytest.mark.timeout(300)
def test_two_wrong_clocks_of_five_put_right_twice(make_cluster: Callable[..., WireCluster], tmp_path: Path) -> None:
    clocks = WallClocks(tmp_path, 5)
    cluster = make_cluster(nodes=5, environments=clocks.environments)
    leases = Leases(cluster.nodes)
    load = Load(cluster.ports, threads=2, deletes=0.1)
    with load.running():
        for phase, ahead_s in enumerate((HOUR_S, 0, -HOUR_S, 0)):
            leases.add(6000, 20_000)  # some live on into the next phase
            clocks.set(FAST, ahead_s)
            clocks.set(SLOW, -ahead_s)
            if phase == 2:  # one starts with its clock wrong
                assert cluster.nodes[FAST].stop() == 0
                cluster.nodes[FAST].start()
                wait_for(cluster.nodes[FAST].serves, "it serves again")
            leases.add(1000, 3000, 300_000)
            load.more(100)
            _write_in_order(cluster, f"{phase}")
            _check_time(cluster)
            status = cluster.nodes[0].document("DYN.CLUSTER", "STATUS")
            assert status["clock_bound_ms"] < 1000
            wait_for(lambda ahead_s=ahead_s: _names(cluster) == (2 if ahead_s else 0), f"clocks {ahead_s} s off")
            leases.wait_for_the_end(3000)
        leases.wait_for_the_end(20_000)
    assert max(leases.errors_ms)[0] < 1000, max(leases.errors_ms)
    assert load.errors == []
    cluster.wait_healthy()
    load.assert_all_there(*cluster.nodes)


def _names(cluster: WireCluster) -> int:
    """How many clocks the status calls off, a node that is right and one that is wrong being asked."""
    asked = cluster.nodes[0], cluster.nodes[FAST]
    summaries = [str(node.document("DYN.CLUSTER", "STATUS")["summary"]) for node in asked]
    counts = {summary.count("the clock of") for summary in summaries}
    return counts.pop() if len(counts) == 1 else -1
