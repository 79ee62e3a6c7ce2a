"""Storms in which a few nodes live by the rules of a large cluster: each watches two others, and routes may be stale.

A simulated cluster of hundreds would take hours. So the thresholds are lowered, and no rule is changed: a node learns of a
death by a report, asks a peer that has just come for no table, and computes stale routes anew a few at a time.
"""

from __future__ import annotations

from functools import partial

import pytest

from server.core.base import routing
from server.core.liveness.verdict import LivenessLimits
from server.core.services import construction
from tests.sim.plants import _count_calls
from tests.sim.runs import Profile, run
from tests.sim.seeds import untried

FEW = partial(LivenessLimits, small_max=4, watched_max=2, table_entries=6, gossip_fanout=1)
KILLS = ("kill", "crash", "freeze", "restart")
CUTS = ("partition", "isolate", "cut", "broken connection", "slow path")
RINGS = ("join", "leave", "remove")


@pytest.fixture(autouse=True)
def _large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(construction, "LivenessLimits", FEW)
    monkeypatch.setattr(routing, "DEFER_MIN", 3)
    monkeypatch.setattr(routing, "REFRESHED_MAX", 2)


def _storm(faults: tuple[str, ...], ring: tuple[str, ...] = ()) -> Profile:
    return Profile(
        nodes=7, customers=4, keys=5, faults=faults, pace_ms=500, duration_ms=5000, ring=ring, collects=False
    )


def test_the_nodes_live_by_these_rules() -> None:
    """Else the storms below would prove nothing."""
    verdict = run(1, _storm(("kill",)))
    states = [host.running.state for host in verdict.world.hosts]
    assert all(state.liveness.is_wide and len(state.liveness._watched) == 2 for state in states)
    assert not any(state.route_table is None or state.route_table.is_stale for state in states), "all was refreshed"


@pytest.mark.parametrize("faults", [KILLS, CUTS, (*KILLS, *CUTS)], ids=["kills", "cuts", "both"])
@pytest.mark.parametrize("number", range(2))
def test_no_promise_is_broken(faults: tuple[str, ...], number: int) -> None:
    seed = untried("large rules", number)
    verdict = run(seed, _storm(faults))
    assert not verdict.faults, f"seed {seed}\n" + "\n".join(verdict.faults[:5])


def test_the_checkers_find_a_planted_bug_here_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is counted twice: writes are acknowledged that lie on too few disks."""
    _count_calls(monkeypatch.setattr)
    profile = _storm(("cut", "datagrams", "isolate"))
    found = (fault for seed in (3, *range(20)) for fault in run(seed, profile).faults)
    assert any("on the disks of" in fault for fault in found)


def test_nor_while_the_ring_changes() -> None:
    seed = untried("large rules", 9)
    verdict = run(seed, _storm((*KILLS, *CUTS), RINGS))
    assert not verdict.faults, f"seed {seed}\n" + "\n".join(verdict.faults[:5])
