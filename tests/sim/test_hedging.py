"""Reads ask the owners that they need: slow and frozen ones hurt nobody, and no owner is left out of the comparison."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from server.core.repair.anti_entropy import AntiEntropy
from server.core.requests.hedging import Hedging
from tests.sim.clients import Operation
from tests.sim.filled import fill, value_of
from tests.sim.host import Host
from tests.sim.world import World

KEYS = [b"k%d" % number for number in range(30)]
ROUND_TRIP_MS = 4 + 2 + 4 + 2  # two journeys, each with the turn behind it, at the most
NOTICED_MS = 40


def _read(world: World, host: Host, count: int, pause_ms: int = 3) -> list[Operation]:
    """Reads at a node, one after the other, on a connection for each."""
    operations = []
    for number in range(count):
        operations += world.client(host).send([b"GET", KEYS[number % len(KEYS)]])
        world.run(pause_ms)
    world.run(2000)
    return operations


def _latencies(operations: list[Operation]) -> list[int]:
    assert [each.reply for each in operations] == [value_of(each.args[1]) for each in operations]
    return sorted(each.answered_ms - each.invoked_ms for each in operations)


def _hedged(world: World) -> int:
    return sum(host.running.state.statistics.reads_hedged for host in world.hosts if host.node is not None)


def _messages(world: World) -> int:
    return sum(host.running.state.statistics.reads_answered for host in world.hosts)


def _freeze(world: World, host: Host) -> None:
    host.freeze()


def _slow_down(world: World, host: Host) -> None:
    for other in world.hosts:
        if other is not host:
            path = world.network.path(host.id, other.id)
            path.delay_ms_min = path.delay_ms_max = 100


@pytest.mark.parametrize("hurt", [_freeze, _slow_down])
def test_nobody_notices_an_owner_that_is_frozen_or_slow(hurt: Callable[[World, Host], None]) -> None:
    world = fill(World(3, 3), KEYS)
    n1, _, n3 = world.hosts
    _read(world, n1, 200)
    hedged = _hedged(world)
    hurt(world, n3)
    latencies = _latencies(_read(world, n1, 400))
    assert latencies[-1] <= NOTICED_MS
    assert latencies[len(latencies) // 2] <= 2 * ROUND_TRIP_MS
    assert _hedged(world) - hedged < 60


def test_a_read_costs_one_question_in_a_healthy_cluster() -> None:
    world = fill(World(4, 3), KEYS)
    asked = _messages(world)
    operations = _read(world, world.hosts[1], 1000, pause_ms=1)
    _latencies(operations)
    groups = _messages(world) - asked
    assert 500 < groups < 1000 * 1.10, "a hundredth is sampled, and a twentieth hedged at the most"


def _converges_by_reads(seed: int) -> bool:
    """Whether reads alone bring n3, which has missed all writes, up to date, though it is the slowest owner."""
    world = World(seed, 3)
    world.start()
    n1, n2, n3 = world.hosts
    assert world.ask(n1, "SET", "warm", "up").reply == b"OK"
    _slow_down(world, n3)
    n3.kill()
    world.run(3000)
    written = world.client(n1).send(*[[b"SET", key, value_of(key)] for key in KEYS])
    assert world.run_until(5000, lambda: all(each.reply == b"OK" for each in written))
    for host in (n1, n2):
        host.running.state.hints.drop_all()
    n3.start()
    assert world.run_until(5000, world.at_peace)
    for host in (n1, n2):
        host.running.state.hints.drop_all()
    n1.running.services.reads.hedging.tokens = -1e9  # a hedge would compare n3, too
    for _ in range(20):  # now n1 knows that n3 is slow
        world.client(n1).send([b"GET", b"warm"])
        world.run(30)
    assert not any(world.stored(n3, key) for key in KEYS)
    for _ in range(300):
        reads = world.client(n1).send(*[[b"GET", key] for key in KEYS])
        world.run(30)
        assert all(each.reply == value_of(each.args[1]) for each in reads)
    world.run(1000)
    return all(world.stored(n3, key) == world.stored(n1, key) for key in KEYS)


@pytest.fixture
def no_anti_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but reads finds what an owner lacks."""
    monkeypatch.setattr(AntiEntropy, "_update_schedule", lambda self: None)


@pytest.mark.usefixtures("no_anti_entropy")
def test_reads_alone_repair_an_owner_that_is_never_the_fastest() -> None:
    assert _converges_by_reads(7)


@pytest.mark.usefixtures("no_anti_entropy")
def test_an_owner_that_is_never_compared_again_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above finds the bug that it is for."""
    monkeypatch.setattr(Hedging, "is_sampled", lambda self: False)
    assert not _converges_by_reads(7)
