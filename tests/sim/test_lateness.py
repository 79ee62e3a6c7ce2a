"""A node that everything reaches late steps back: the next owner coordinates its keys, and no siblings come of that."""

from __future__ import annotations

import pytest

from server.core import gossip
from server.core.base.state import State
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.world import World

LATE_MS = 100
NOTICED_MS = 1000
QUICK_MS = 60


def _slow_down(world: World, host: Host) -> None:
    for other in world.hosts:
        if other is not host:
            path = world.network.path(other.id, host.id)
            path.delay_ms_min = path.delay_ms_max = LATE_MS


def _mend(world: World, host: Host) -> None:
    for other in world.hosts:
        if other is not host:
            world.network.mend(other.id, host.id)


def _write(world: World, hosts: list[Host], keys: list[bytes], duration_ms: int) -> list[Operation]:
    """A write every few milliseconds, through these nodes in turn."""
    operations = []
    end_ms = world.events.now_ms + duration_ms
    while world.events.now_ms < end_ms:
        for host in hosts:
            operations += world.client(host).send([b"SET", keys[len(operations) % len(keys)], b"%d" % len(operations)])
        world.run(20)
    world.run(500)
    return operations


def _worst_ms(operations: list[Operation]) -> int:
    assert [each.reply for each in operations] == [b"OK"] * len(operations)
    return max(each.answered_ms - each.invoked_ms for each in operations)


def _world(seed: int) -> tuple[World, list[bytes]]:
    world = World(seed, 3)
    world.start()
    return world, [world.key_of(host) for host in world.hosts]


def test_after_a_moment_nobody_waits_for_a_late_node() -> None:
    world, keys = _world(1)
    n1, n2, n3 = world.hosts
    assert _worst_ms(_write(world, [n1, n2], keys, 1000)) < QUICK_MS
    _slow_down(world, n3)
    _write(world, [n1, n2], keys, NOTICED_MS)
    assert all(list(host.running.state.late) == [n3.id] for host in world.hosts)
    assert _worst_ms(_write(world, [n1, n2], keys, 2000)) < QUICK_MS
    _mend(world, n3)
    assert world.run_until(60_000, lambda: not any(host.running.state.late for host in world.hosts))
    assert world.hosts[0].running.services.route(keys[2]).coordinator == n3.id
    assert _worst_ms(_write(world, [n1, n2], keys, 1000)) < QUICK_MS


def _siblings(seed: int) -> int:
    """How many reads found siblings, while n3 was late. SETs of one of its keys go through all nodes by turns, each when
    the one before it is acknowledged."""
    world, keys = _world(seed)
    n1, n2, n3 = world.hosts
    _slow_down(world, n3)
    _write(world, [n1, n2], keys, NOTICED_MS)
    world.run(NOTICED_MS)
    own = b"{%b}:own" % keys[2]
    found = 0
    for number in range(30):
        value = b"%d" % number
        writer, reader = world.rng.sample(world.hosts, 2)
        assert world.ask(writer, "SET", own, value).reply == b"OK"
        values = world.ask(reader, "DYN.GET", own).reply[1]
        assert value in values
        found += len(values) > 1
    return found


def test_writes_that_follow_each_other_become_no_siblings() -> None:
    assert not any(_siblings(seed) for seed in range(3))


def test_a_late_node_that_coordinates_for_its_own_clients_makes_siblings(monkeypatch: pytest.MonkeyPatch) -> None:
    """A plant: it says that it is late, and goes on for its own clients."""
    set_late = gossip.set_late

    def set_late_of_others(state: State, node: str, is_late: bool) -> None:
        if node != state.id:
            set_late(state, node, is_late)

    monkeypatch.setattr(gossip, "set_late", set_late_of_others)
    assert any(_siblings(seed) for seed in range(3))
