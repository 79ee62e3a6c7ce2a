"""Reads ask the owners that they need: slow and frozen ones hurt nobody, and no owner is left out of the comparison."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from server.core.repair.anti_entropy import AntiEntropy
from server.core.requests.hedging import Hedging
from server.core.requests.read_groups import ReadGroup
from server.core.requests.reads import Reads
from tests.sim.clients import Operation
from tests.sim.filled import fill, value_of
from tests.sim.host import Host
from tests.sim.plants import Patch
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


def _stale(seed: int, *stale: int) -> World:
    """A cluster in which the hosts at these places have missed all writes, and nobody keeps hints; n3 is the slowest owner,
    and n1 knows that."""
    world = World(seed, 3)
    world.start()
    n1, _, n3 = world.hosts
    assert world.ask(n1, "SET", "warm", "up").reply == b"OK"
    _slow_down(world, n3)
    missing = [world.hosts[place] for place in stale]
    for host in missing:
        host.kill()
    world.run(3000)
    written = world.client(n1).send([b"DYN.QUORUM", b"W", b"1"], *[[b"SET", key, value_of(key)] for key in KEYS])[1:]
    assert world.run_until(5000, lambda: all(each.reply == b"OK" for each in written))
    _drop_hints(world)
    for host in missing:
        host.start()
    assert world.run_until(5000, world.at_peace)
    _drop_hints(world)
    n1.running.services.reads.hedging.tokens = -1e9  # a hedge would compare n3, too
    for _ in range(20):
        world.client(n1).send([b"GET", b"warm"])
        world.run(30)
    assert not any(world.stored(host, key) for host in missing for key in KEYS)
    return world


def _drop_hints(world: World) -> None:
    for host in world.hosts:
        if host.node is not None:
            host.running.state.hints.drop_all()


def _read_all(world: World, times: int) -> None:
    for _ in range(times):
        reads = world.client(world.hosts[0]).send(*[[b"GET", key] for key in KEYS])
        world.run(30)
        assert all(each.reply == value_of(each.args[1]) for each in reads)
    world.run(1000)


def _hold_the_same(world: World) -> bool:
    return all(len({world.stored(host, key) for host in world.hosts}) == 1 for key in KEYS)


def _converges_by_reads(seed: int) -> bool:
    """Whether reads alone bring n3 up to date, which has missed all writes, though it is the slowest owner."""
    world = _stale(seed, 2)
    _read_all(world, 300)
    return _hold_the_same(world)


def _converges_by_a_difference(seed: int) -> bool:
    """Whether a read whose answers differ compares all owners: n2 and n3 have missed all writes, and only n2 is asked."""
    world = _stale(seed, 1, 2)
    for host in world.hosts:
        host.running.services.reads.hedging.compared_share = 0.0
    _read_all(world, 1)
    return _hold_the_same(world)


@pytest.fixture
def no_anti_entropy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but reads finds what an owner lacks."""
    monkeypatch.setattr(AntiEntropy, "_update_schedule", lambda self: None)


def _never_compare_again(patch: Patch) -> None:
    patch(Hedging, "is_sampled", lambda self: False)


def _leave_out_where_answers_differ(patch: Patch) -> None:
    ask = Reads._ask

    def ask_unless_they_differ(self: Reads, group: ReadGroup, nodes: Sequence[str]) -> None:
        if not group.differing:
            ask(self, group, nodes)

    patch(Reads, "_ask", ask_unless_they_differ)


# What plants.py has for storms, for the comparisons of reads: a bug, and the run that has to find it. In a storm hints and
# anti-entropy hide both bugs.
PLANTS: dict[str, tuple[Callable[[Patch], None], Callable[[int], bool]]] = {
    "an owner that is never compared again": (_never_compare_again, _converges_by_reads),
    "an owner that is left out where answers differ": (_leave_out_where_answers_differ, _converges_by_a_difference),
}


@pytest.mark.usefixtures("no_anti_entropy")
@pytest.mark.parametrize("plant", PLANTS)
def test_reads_alone_repair_an_owner_that_is_never_the_fastest(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A share of the reads compares all owners, and so does a read whose answers differ. Without either the run fails."""
    bug, converges = PLANTS[plant]
    assert converges(7)
    bug(monkeypatch.setattr)
    assert not converges(7)
