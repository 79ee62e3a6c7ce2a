"""Hints, sloppy quorums and read repair, one situation at a time."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from server.core.base.config import Config
from tests.sim.host import Host
from tests.sim.world import World

HEAL_MS = 8000


@pytest.fixture
def three() -> World:
    world = World(1, 3)
    world.start()
    return world


@pytest.fixture
def five() -> World:
    world = World(2, 5)
    world.start()
    return world


def _hints(world: World, host: Host | None = None) -> int:
    return sum(h.running.state.hints.total for h in world.hosts if h.node is not None and host in (None, h))


def _equal(world: World, key: bytes, hosts: list[Host]) -> bool:
    records = {world.stored(host, key) for host in hosts}
    return len(records) == 1 and None not in records


def _down(world: World, *hosts: Host) -> None:
    for host in hosts:
        host.kill()
    world.run(1000)


def test_a_coordinator_keeps_the_hints_when_nobody_stands_in(three: World) -> None:
    n1, n2, n3 = three.hosts
    _down(three, n3)
    keys = [b"k%d" % number for number in range(200)]
    for key in keys:
        assert three.ask(n1, "SET", key, b"v-" + key).reply == b"OK"
    assert _hints(three, n1) + _hints(three, n2) == len(keys)
    assert three.ask(n1, "DYN.SET", "other", "value").reply[1:] == [2, 1]
    n3.start()
    assert three.run_until(HEAL_MS, lambda: _hints(three) == 0 and all(_equal(three, k, three.hosts) for k in keys))


def test_a_fallback_stands_in_and_lets_the_record_go(five: World) -> None:
    key = b"key"
    first, second, third = five.owners(key)
    others = [host for host in five.hosts if host not in (first, second, third)]
    _down(five, third)
    assert five.ask(first, "DYN.SET", key, "value", "W", 3).reply[1:] == [3, 1]
    holder = next(host for host in others if five.stored(host, key) is not None)
    assert _hints(five) == _hints(five, holder) == 1
    third.start()
    assert five.run_until(HEAL_MS, lambda: _hints(five) == 0)
    assert _equal(five, key, [first, second, third])
    assert five.run_until(HEAL_MS, lambda: five.stored(holder, key) is None)


def test_hints_survive_their_holder(five: World) -> None:
    key = b"key"
    first, second, third = five.owners(key)
    _down(five, third)
    assert five.ask(first, "DYN.SET", key, "value", "W", 3).reply[1:] == [3, 1]
    for host in five.hosts:
        host.kill()
    for host in five.hosts:
        host.start()
    assert five.run_until(HEAL_MS, lambda: _equal(five, key, [first, second, third]) and _hints(five) == 0)


def test_without_any_owner_a_fallback_coordinates_and_reads_back(five: World) -> None:
    key = b"key"
    owners = five.owners(key)
    _down(five, *owners)
    asked = next(host for host in five.hosts if host not in owners)
    assert five.ask(asked, "DYN.SET", key, "value").reply[1:] == [2, 3]
    client = five.client(asked)
    nowhere = next(b"no%d" % number for number in range(10**6) if five.owners(b"no%d" % number) == owners)
    _, got, missing = client.send([b"DYN.QUORUM", b"R", b"1"], [b"GET", key], [b"GET", nowhere])
    five.run(1000)
    assert missing.error.startswith("NOQUORUM read: got=0 wanted=1")  # the dead may have it
    assert got.reply == b"value"
    assert five.ask(asked, "GET", key).reply == b"value"  # two stand-ins are a quorum
    for host in owners:
        host.start()
    assert five.run_until(HEAL_MS, lambda: _hints(five) == 0 and _equal(five, key, owners))
    others = [host for host in five.hosts if host not in owners]
    assert five.run_until(HEAL_MS, lambda: all(five.stored(host, key) is None for host in others))


def test_the_last_node_takes_every_write_with_w_1(five: World) -> None:
    alone = five.hosts[0]
    _down(five, *five.hosts[1:])
    keys = [b"k%d" % number for number in range(50)]
    client = five.client(alone)
    replies = client.send([b"DYN.QUORUM", b"R", b"1", b"W", b"1"], *[[b"SET", key, b"v-" + key] for key in keys])
    reads = client.send(*[[b"GET", key] for key in keys])
    five.run(2000)
    assert [operation.reply for operation in replies[1:]] == [b"OK"] * len(keys)
    assert [operation.reply for operation in reads] == [b"v-" + key for key in keys]
    for host in five.hosts[1:]:
        host.start()
    assert five.run_until(HEAL_MS, lambda: _hints(five) == 0)
    assert all(_equal(five, key, five.owners(key)) for key in keys)


def test_a_silent_owner_is_replaced_before_the_deadline(five: World) -> None:
    key = b"key"
    first, second, third = five.owners(key)
    second.freeze()
    third.freeze()
    operation = five.ask(first, "DYN.SET", key, "value")
    assert operation.reply[1:] == [3, 2] or operation.reply[1:] == [2, 1]
    assert operation.answered_ms - operation.invoked_ms < Config().request_timeout_ms
    second.thaw()
    third.thaw()
    assert five.run_until(HEAL_MS, lambda: _hints(five) == 0 and _equal(five, key, [first, second, third]))


def test_a_link_lost_on_the_way_leaves_a_hint(three: World) -> None:
    n1, _, n3 = three.hosts
    key = three.key_of(n1)
    three.network.cut(n1.id, n3.id)
    assert three.ask(n1, "SET", key, "value").reply == b"OK"
    for pipe in three.network.pipes(n1.id, n3.id):
        pipe.abort()
    three.run(500)
    assert _hints(three, n1) == 1
    three.network.mend(n1.id, n3.id)
    assert three.run_until(HEAL_MS, lambda: _hints(three) == 0 and _equal(three, key, three.hosts))


def test_a_newer_write_is_delivered_and_not_forgotten(three: World) -> None:
    """Each pass brings what is held by then; a hint goes only for the very record that was confirmed."""
    n1, _, n3 = three.hosts
    key = three.key_of(n1)
    _down(three, n3)
    assert three.ask(n1, "SET", key, "old").reply == b"OK"
    n3.start()
    client = three.client(n1)
    for number in range(100):
        client.send([b"SET", key, b"new%d" % number])
        three.run(20)
    assert three.run_until(HEAL_MS, lambda: _hints(three) == 0)
    assert three.ask(n3, "DYN.GET", key, "R", 1).reply[1] == [b"new99"]


def test_no_room_for_hints_is_said_and_left_to_merkle_repair() -> None:
    world = World(3, 3, Config(hints_bytes_max=1000))
    world.start()
    n1, _, n3 = world.hosts
    _down(world, n3)
    for number in range(20):
        assert world.ask(n1, "SET", b"k%d" % number, "value").reply == b"OK"
    status = json.loads(world.ask(n1, "DYN.CLUSTER", "STATUS").reply)
    assert status["verdict"] == "degraded"
    assert "no hint was kept" in status["summary"]
    listed = json.loads(world.ask(n1, "DYN.HINTS", "LIST").reply)
    assert listed["behind"] == ["n3"]
    assert listed["total"] == sum(row["count"] for row in listed["hints"]) < 20
    assert {row["owner"] for row in listed["hints"]} == {"n3"}


def test_a_stand_in_without_room_is_no_vote() -> None:
    world = World(4, 5)
    for host in world.hosts:
        host.config = replace(host.config, hints_bytes_max=0)
    world.start()
    key = b"key"
    first, second, third = world.owners(key)
    _down(world, second, third)
    operation = world.ask(first, "DYN.SET", key, "value")
    assert operation.error.startswith("NOQUORUM write: got=1 wanted=2")


def test_old_hints_of_an_owner_are_left_to_merkle_repair() -> None:
    world = World(5, 3, Config(hint_age_ms_max=5000))
    world.start()
    n1, _, n3 = world.hosts
    _down(world, n3)
    assert world.ask(n1, "SET", "key", "value").reply == b"OK"
    world.run(8000)
    assert _hints(world) == 0
    assert "no hint was kept" in json.loads(world.ask(n1, "DYN.CLUSTER", "STATUS").reply)["summary"]


def test_replay_on_demand(three: World) -> None:
    n1, _, n3 = three.hosts
    _down(three, n3)
    for number in range(300):
        assert three.ask(n1, "SET", b"k%d" % number, "value").reply == b"OK"
    n3.start()
    assert three.run_until(HEAL_MS, lambda: three.sees(n1, n3))
    answer = json.loads(three.ask(n1, "DYN.HINTS", "REPLAY").reply)
    assert answer["remaining"] == 0
    assert 0 <= answer["delivered"] <= 300
    assert json.loads(three.ask(n3, "DYN.HINTS", "LIST").reply) == {"total": 0, "hints": [], "behind": []}


def test_a_read_repairs_the_owners_that_differ_and_no_other(three: World) -> None:
    n1, n2, n3 = three.hosts
    key = three.key_of(n1)
    assert three.ask(n1, "SET", key, "value").reply == b"OK"
    three.run(100)
    n3.kill()
    three.wipe(n3)
    n3.disk.commit({b"\xff\xfflayout": three.layout.encode()})
    n3.start()
    three.run_until(HEAL_MS, three.at_peace)
    assert three.stored(n3, key) is None
    before = n1.running.state.statistics.stored
    assert three.ask(n2, "GET", key).reply == b"value"
    assert three.run_until(HEAL_MS, lambda: _equal(three, key, three.hosts))
    assert n1.running.state.statistics.stored == before


def test_a_stand_in_that_has_let_go_does_not_cover_what_it_has_forgotten(five: World) -> None:
    """It coordinates, delivers, lets the record go, and coordinates again: both values are concurrent (P2)."""
    key = b"key"
    owners = five.owners(key)
    asked = next(host for host in five.hosts if host not in owners)
    for value in ("one", "two"):
        _down(five, *owners)
        assert five.ask(asked, "DYN.SET", key, value).reply[1:] == [2, 3]
        for host in owners:
            host.start()
        assert five.run_until(HEAL_MS, lambda: _hints(five) == 0 and _equal(five, key, owners))
    assert sorted(five.ask(asked, "DYN.GET", key).reply[1]) == [b"one", b"two"]


def test_a_suspected_owner_that_answers_is_a_vote(three: World) -> None:
    """Also if both others are suspected: the write is sent to them, and has not failed before they have."""
    first, *others = three.hosts
    for other in others:
        first.running.state.draining[other.id] = None
    first.running.state.reroute()
    for number in range(20):
        assert three.ask(first, "SET", b"k%d" % number, "v").reply == b"OK"
        assert three.ask(first, "GET", b"k%d" % number).reply == b"v"
