"""A cluster in which nothing is wrong, for long: nobody is ever held for dead."""

from __future__ import annotations

import pytest

from server.core.liveness.liveness import Liveness, PeerState, _Peer
from tests.sim.network import Datagrams
from tests.sim.world import World

PAUSE_EVERY_MS = 10_000  # one node or another, on average
PAUSE_MS_MAX = 1000
LOSS = 0.01


@pytest.mark.parametrize("minutes", [5, pytest.param(24 * 60, marks=[pytest.mark.soak, pytest.mark.timeout(7200)])])
def test_a_stable_cluster_holds_nobody_for_down(minutes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five nodes; one message in a hundred is lost, others are late, and the processes pause for up to a second."""
    falls: list[tuple[int, str]] = []
    enter = Liveness._enter

    def noted(table: Liveness, known: _Peer, state: PeerState) -> None:
        if state is PeerState.DOWN and state is not known.state:
            falls.append((world.events.now_ms, table.self_id))
        enter(table, known, state)

    world = World(minutes, 5)
    world.start()
    monkeypatch.setattr(Liveness, "_enter", noted)
    world.network.datagrams = Datagrams(loss=LOSS, late_ms_max=200)
    end_ms = world.events.now_ms + minutes * 60_000
    pauses = 0
    while world.events.now_ms < end_ms:
        host = world.rng.choice(world.hosts)
        world.run(world.rng.randrange(2 * PAUSE_EVERY_MS))
        host.freeze()
        world.run(world.rng.randint(1, PAUSE_MS_MAX))
        host.thaw()
        pauses += 1
    assert pauses > 4 * minutes
    assert falls == []
    world.hosts[0].lose_power()  # and the test would have noticed
    world.run(6000)
    assert {name for _, name in falls} == {host.id for host in world.hosts[1:]}
