"""Wall clocks that are off: the node is told so, and every status shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.sim.host import Host
from tests.sim.world import World


def _world(skew_ms: int) -> World:
    """Three nodes, the wall clock of the last of which is off."""
    world = World(1, 3)
    world.hosts[2].skew_ms = skew_ms
    world.start()
    world.run(3000)
    return world


def _status(world: World, host: Host) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)
    return document


def _complaints(host: Host) -> dict[str, int]:
    return host.running.clock_report.complaints()


def test_a_clock_too_far_ahead_is_refused_and_its_node_is_told_until_it_is_set_right() -> None:
    world = _world(720_000)
    n1, n2, n3 = world.hosts
    assert list(_complaints(n3)) == ["n1", "n2"] or list(_complaints(n3)) == ["n2", "n1"]
    assert all(719_000 <= ahead_ms <= 721_000 for ahead_ms in _complaints(n3).values())
    assert _complaints(n1) == _complaints(n2) == {}
    told = n3.running.state.statistics.clock_complaints
    world.run(10_000)
    assert (
        0 < n3.running.state.statistics.clock_complaints - told <= 10 * 2 * 3
    )  # with the gossip, and not each message
    n3.kill()
    n3.skew_ms = 0
    world.start()
    world.run(11_000)
    assert all(_complaints(host) == {} for host in world.hosts)
    assert _status(world, n1)["verdict"] == "healthy"


@pytest.mark.parametrize(
    ("skew_ms", "off"), [(720_000, "720 s ahead of"), (-720_000, "720 s behind"), (9000, "9 s ahead of")]
)
def test_each_status_names_the_node_whose_clock_is_off(skew_ms: int, off: str) -> None:
    world = _world(skew_ms)
    for host in world.hosts:
        status = _status(world, host)
        assert status["verdict"] == "degraded"
        assert f"the clock of n3 is {off} the others'" in status["summary"]
        assert status["summary"].count("the clock of") == 1


def test_a_clock_a_little_off_is_nobodys_concern() -> None:
    world = _world(4000)
    assert [_status(world, host)["verdict"] for host in world.hosts] == ["healthy"] * 3
    assert all(_complaints(host) == {} for host in world.hosts)
