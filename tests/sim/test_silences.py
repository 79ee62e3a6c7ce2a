"""A frozen coordinator is given up within half a second, and a slow one is not: neither loses a write."""

from __future__ import annotations

import random
from itertools import permutations

import pytest

from server.core.base import longest, pauses
from server.core.base.pauses import Pauses
from server.core.liveness.liveness import PeerState
from server.core.requests.silences import Silences
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.warm import warm_world
from tests.sim.world import World

WINDOW_MS = 500
LEAST_MS, FENCE_MS = 300, 200
GIVEN_UP_MS_MAX = 500
SEEDS = range(6)


@pytest.fixture(autouse=True)
def _short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that limits fall within a second of virtual time, and again soon after each fault."""
    monkeypatch.setattr(longest, "WINDOW_MS", WINDOW_MS)


def _world(seed: int) -> tuple[World, bytes]:
    """Three nodes that may be given up after the least time, and a key that n2 coordinates."""
    world, key = warm_world(seed, 2500)
    for host in world.hosts:
        assert host.running.services.relays.silences.own_limit_ms == LEAST_MS
        assert host.running.state.pauses.fence_ms == FENCE_MS
    return world, key


def _given_up(world: World) -> int:
    return sum(host.running.state.statistics.coordinators_given_up for host in world.hosts)


def _took_ms(operation: Operation) -> int:
    return operation.answered_ms - operation.invoked_ms


@pytest.mark.parametrize("seed", SEEDS)
def test_a_set_beside_a_frozen_owner_is_answered_while_an_increment_waits_for_it(seed: int) -> None:
    world, key = _world(seed)
    n1, n2, n3 = world.hosts
    n2.freeze()
    begun_ms = world.events.now_ms
    once = world.client(n3).send([b"INCR", b"{%b}:n" % key])[0]
    sets = []
    while world.events.now_ms < begun_ms + 1200:
        sets += world.client(n1).send([b"SET", b"{%b}:%d" % (key, len(sets)), b"v"])
        world.run(20)
        if world.events.now_ms == begun_ms + 800:
            assert n1.running.state.liveness.state(n2.id) is PeerState.SUSPECT and not once.answered
    assert all(each.reply == b"OK" and _took_ms(each) <= GIVEN_UP_MS_MAX for each in sets if each.answered)
    assert len([each for each in sets if each.answered]) >= len(sets) - 2
    assert n1.running.state.statistics.coordinators_given_up == 1
    n2.thaw()
    assert world.run_until(1000, lambda: once.answered)
    assert once.reply == 1, "it is counted once, and its outcome is known"


@pytest.mark.parametrize("frozen_ms", [100, 190, 210, 290, 310, 450, 700, 1400])
def test_an_increment_is_counted_once_and_known(frozen_ms: int) -> None:
    """A pause of up to `relay_silence_ms` is no error, though others give the coordinator up sooner."""
    world, key = _world(frozen_ms)
    n1, n2, n3 = world.hosts
    operations: list[Operation] = []
    for number in range(60):
        if number == 10:
            n2.freeze()
        if number == 10 + frozen_ms // 30:
            n2.thaw()
        operations += world.client((n1, n3)[number % 2]).send([b"INCR", b"{%b}:n" % key])
        world.run(30)
    assert world.run_until(3000, lambda: all(each.answered for each in operations))
    assert sorted(each.reply for each in operations) == list(range(1, 61))


def _write_to_the_lost(seed: int) -> bytes:
    """The value in the end. n2 is given up early, and goes on when a command to it is older than its fence."""
    world, key = _world(seed)
    n1, n2, n3 = world.hosts
    n2.freeze()
    old = world.client(n1).send([b"SET", key, b"old"])[0]
    assert world.run_until(GIVEN_UP_MS_MAX, lambda: old.answered)
    assert world.ask(n3, "SET", b"{%b}:x" % key, "x").reply == b"OK", "n3 has given up n2, too"
    assert world.ask(n3, "SET", key, "new").reply == b"OK"
    n2.thaw()
    world.run(3000)
    return bytes(world.ask(n1, "GET", key).reply)


def test_a_coordinator_that_was_given_up_early_brings_nothing_old_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses what is older than its fence, and what was sent before it went on. Each of the two is enough here."""
    assert [_write_to_the_lost(seed) for seed in SEEDS] == [b"new"] * len(SEEDS)
    monkeypatch.setattr(Silences, "stale_ms", lambda self, peer: 1000)
    assert [_write_to_the_lost(seed) for seed in SEEDS] == [b"new"] * len(SEEDS)
    monkeypatch.setattr(Pauses, "is_outdated", lambda self, read_ms: False)
    assert b"old" in [_write_to_the_lost(seed) for seed in SEEDS], "the fault is found"


def _through_a_bad_path(seed: int) -> tuple[int, int]:
    """Nothing that n2 sends to n1 arrives for a second: how many were given up early, and how many SETRANGEs are lost."""
    world, key = _world(seed)
    n1, n2, n3 = world.hosts
    name = b"{%b}:s" % key
    world.ask(n1, "SETRANGE", name, "0", "." * 240)
    operations: list[Operation] = []
    for number in range(120):
        if number == 20:
            path = world.network.path(n2.id, n1.id)
            path.delay_ms_min = path.delay_ms_max = 1000
        if number == 80:
            world.network.mend(n2.id, n1.id)
        operations += world.client((n1, n3)[number % 2]).send([b"SETRANGE", name, b"%d" % number, b"x"])
        world.run(10)
    assert world.run_until(6000, lambda: all(each.answered for each in operations))
    value = world.ask(n1, "GET", name).reply
    kept = [isinstance(each.reply, int) and value[place : place + 1] == b"x" for place, each in enumerate(operations)]
    return _given_up(world), kept.count(False)


def test_one_bad_path_is_no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The third node says that the coordinator lives. Without its word there are two of them, and writes are lost."""
    assert [_through_a_bad_path(seed) for seed in SEEDS] == [(0, 0)] * len(SEEDS)
    monkeypatch.setattr(Silences, "_is_reached", lambda self, asked_ms, until_ms: True)
    monkeypatch.setattr(Silences, "_ask_others", lambda self, peer, asked_ms: None)
    found = [_through_a_bad_path(seed) for seed in SEEDS]
    assert all(given_up for given_up, _ in found) and any(lost for _, lost in found), "the fault is found"


def _storm(seed: int) -> tuple[int, int, int]:
    """Slow paths and slow nodes. How many SETRANGEs are lost, how many INCRs are not known or not counted once, and how
    many coordinators were given up early."""
    world, _ = _world(seed)
    rng = random.Random(seed)
    keys = [world.key_of(host) for host in world.hosts]
    for key in keys:
        world.ask(world.hosts[0], "SETRANGE", b"{%b}:s" % key, "0", "." * 999)
    ranges: list[tuple[bytes, int, Operation]] = []
    counts: list[tuple[bytes, Operation]] = []
    for number in range(900):
        if number % 60 == 0:
            _hurt(world, rng)
        host, key = rng.choice(world.hosts), rng.choice(keys)
        if number % 3:
            command = [b"SETRANGE", b"{%b}:s" % key, b"%d" % number, b"x"]
            ranges.append((key, number, world.client(host).send(command)[0]))
        else:
            counts.append((key, world.client(host).send([b"INCR", b"{%b}:n" % key])[0]))
        world.run(rng.randint(2, 8))
    for host in world.hosts:
        host.turn_delay_ms_max = 2
    for one, other in permutations(world.hosts, 2):
        world.network.mend(one.id, other.id)
    world.run(6000)
    values = {key: bytes(world.ask(world.hosts[0], "GET", b"{%b}:s" % key).reply) for key in keys}
    lost = sum(not isinstance(each.reply, int) or values[key][at : at + 1] != b"x" for key, at, each in ranges)
    replies = {key: sorted([each.reply for name, each in counts if name == key], key=str) for key in keys}
    wrong = sum(found != sorted(range(1, len(found) + 1), key=str) for found in replies.values())
    return lost, wrong, _given_up(world)


def _hurt(world: World, rng: random.Random) -> None:
    host: Host = rng.choice(world.hosts)
    one, other = rng.sample(world.hosts, 2)
    if rng.random() < 0.5:
        host.turn_delay_ms_max = rng.choice((2, 20, 300))
    else:
        path = world.network.path(one.id, other.id)
        path.delay_ms_min, path.delay_ms_max = 1, rng.choice((4, 200, 400))


@pytest.mark.parametrize("seed", range(3))
def test_slow_nodes_and_paths_lose_nothing(seed: int) -> None:
    lost, wrong, _ = _storm(seed)
    assert (lost, wrong) == (0, 0)


def _lost_around_a_pause(seed: int) -> int:
    """How many acknowledged SETRANGEs are lost: clients of all nodes write one string, which n2 coordinates. It is given up
    early, and goes on."""
    world, key = _world(seed)
    n2 = world.hosts[1]
    name = b"{%b}:s" % key
    world.ask(world.hosts[0], "SETRANGE", name, "0", "." * 999)
    operations: list[Operation] = []
    n2.freeze()
    for number in range(240):
        if number == 140:
            n2.thaw()
        operations += world.client(world.hosts[number % 3]).send([b"SETRANGE", name, b"%d" % number, b"x"])
        world.run(4)
    assert world.run_until(6000, lambda: all(each.answered for each in operations))
    value = world.ask(n2, "GET", name).reply
    return sum(value[place : place + 1] != b"x" for place, each in enumerate(operations) if isinstance(each.reply, int))


def test_a_node_that_goes_on_begins_nothing_before_others_know(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else two nodes coordinate for a moment, and one loses what the other writes."""
    assert [_lost_around_a_pause(seed) for seed in SEEDS] == [0] * len(SEEDS)
    monkeypatch.setattr(pauses, "SETTLE_MS", 0)
    assert any(_lost_around_a_pause(seed) for seed in SEEDS), "the fault is found"


def test_stalls_of_the_coordinator_raise_its_limit_on_all_nodes() -> None:
    world, _ = _world(1)
    n1, n2, n3 = world.hosts
    n2.freeze()
    world.run(250)
    n2.thaw()
    world.run(2 * WINDOW_MS // 3)
    limits = [host.running.services.relays.silences._limits[n2.id][0] for host in (n1, n3)]
    assert limits[0] == limits[1] == n2.running.services.relays.silences.own_limit_ms >= 3 * 250
    assert n2.running.state.pauses.fence_ms >= 2 * 250
    world.run(4 * WINDOW_MS)
    assert n2.running.services.relays.silences.own_limit_ms == LEAST_MS
