"""The network is cut in two, and on each side a node joins: afterwards both are members everywhere, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.wire.cluster import WireNode, wait_for
from tests.wire.networks import cut_cluster
from tests.wire.repairs import stop_and_compare, wait_whole, write
from tests.wire.ring_changes import change, status_text, wait_settled

CONFIG = "repair_interval_ms = 1000\n"
KEYS = 400


def _names(prefix: str) -> dict[str, bytes | None]:
    return {f"{prefix}:{number}": b"%s %d" % (prefix.encode(), number) for number in range(KEYS)}


def _assert_holds(node: WireNode, values: dict[str, bytes | None]) -> None:
    with node.client() as client:
        assert dict(zip(values, client.mget(list(values)), strict=True)) == values


@pytest.mark.soak  # 25 s; the simulator has the same in CI (tests/sim/test_membership.py)
def test_two_commits_on_two_sides_of_a_cut(tmp_path: Path) -> None:
    with cut_cluster(tmp_path / "cluster", 4, CONFIG, spare=2) as (cluster, made):
        n1, n2, n3, n4 = cluster.nodes
        n5, n6 = (cluster.add(host=host) for host in made.hosts[4:])
        before = _names("before")
        write([n1, n2, n3, n4], before)
        made.split([n1.host, n2.host, n5.host])
        wait_for(lambda: [*n1.states().values()] == ["up", "up", "down", "down"], "n1 sees the cut")
        wait_for(lambda: [*n3.states().values()] == ["down", "down", "up", "up"], "n3 sees the cut")
        left, right = _names("left"), _names("right")
        plan = change([n1], ("join", n5.address))
        assert plan["epoch"] == change([n3], ("join", n6.address))["epoch"] == 2
        for node in (n2, n4, n5, n6):
            wait_for(lambda node=node: node.document("DYN.CLUSTER", "MYSELF")["epoch"] == 2, f"{node.name} knows")  # type: ignore[misc]
        write([n1, n2, n5], left)
        write([n3, n4, n6], right)
        print(status_text(n1), status_text(n3), sep="\n")
        for node in (n1, n2, n5):
            assert set(node.states()) == {"n1", "n2", "n3", "n4", "n5"}
        for node in (n3, n4, n6):
            assert set(node.states()) == {"n1", "n2", "n3", "n4", "n6"}
        made.split([])
        wait_settled(cluster.nodes, 3)
        print(status_text(n6))
        layouts = [node.document("DYN.RING", "SHOW") for node in cluster.nodes]
        assert all(layout == layouts[0] for layout in layouts)
        for node in cluster.nodes:
            assert "two layouts were committed side by side and merged into epoch 3" in status_text(node)
            _assert_holds(node, before | left | right)
        wait_whole(cluster)
        stop_and_compare(cluster)
