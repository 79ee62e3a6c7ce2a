"""Damaged records on simulated disks: detected, counted, never served, mended from the other owners (P11)."""

from __future__ import annotations

import json

import pytest

from server.core.base.config import Config
from server.core.records import versions
from server.core.records.records import storage_key_of
from tests.sim.host import Host
from tests.sim.world import World

MENDED_MS = 3000
SCRUBBING = Config(scrub_interval_ms=2000, record_cache_bytes=0)


@pytest.fixture
def three() -> World:
    return _world(1)


def _world(seed: int, config: Config | None = None) -> World:
    world = World(seed, 3, config)
    world.start()
    world.run(100)
    return world


def _damage(world: World, host: Host, key: bytes, place: int = -1) -> None:
    """One byte on the disk of a node is wrong from its next start on: so it is not in the cache."""
    record = world.stored(host, key)
    assert record is not None
    if host.node is not None:
        host.kill()
    data = bytearray(record)
    data[place] ^= 1
    host.disk.damage(storage_key_of(key), bytes(data))
    host.start()
    assert world.run_until(5000, world.at_peace)


def _is_sound(world: World, host: Host, key: bytes) -> bool:
    record = world.stored(host, key)
    return record is not None and versions.verify(record)


def _count(world: World, name: str) -> int:
    return sum(getattr(host.running.state.statistics, name) for host in world.hosts if host.node is not None)


def _written(world: World, value: str = "value") -> bytes:
    key = world.key_of(world.hosts[0])
    assert world.ask(world.hosts[0], "SET", key, value).reply == b"OK"
    world.run(100)
    return key


@pytest.mark.parametrize("place", [0, 9, 20, -1])
def test_a_flipped_byte_is_not_served_and_mended_by_a_read(three: World, place: int) -> None:
    n1, _, _ = three.hosts
    key = _written(three)
    _damage(three, n1, key, place)
    actor = n1.running.state.actor
    assert three.ask(n1, "GET", key).reply == b"value"
    assert n1.running.state.records.damaged >= 1
    assert n1.running.state.actor != actor, "what it knew of its own writes may be gone (P2)"
    assert three.run_until(MENDED_MS, lambda: _is_sound(three, n1, key))
    assert len({three.stored(host, key) for host in three.hosts}) == 1
    assert (_count(three, "records_mended"), _count(three, "records_lost")) == (1, 0)
    assert n1.running.state.records.keys == 1


def test_the_scrub_finds_what_nobody_reads() -> None:
    world = _world(1, SCRUBBING)
    keys = [b"k%d" % number for number in range(200)]
    for key in keys:
        assert world.ask(world.hosts[0], "SET", key, "value").reply == b"OK"
    for host, key in zip(world.hosts, keys, strict=False):
        host.disk.damage(storage_key_of(key), b"nonsense" + bytes(20))
    assert world.run_until(10_000, lambda: _count(world, "records_mended") == 3)
    assert all(_is_sound(world, host, key) for host in world.hosts for key in keys)
    assert world.run_until(10_000, lambda: all(host.running.state.statistics.scrubs >= 2 for host in world.hosts))
    assert all(host.running.state.statistics.records_scrubbed >= len(keys) for host in world.hosts)


def test_a_write_waits_for_the_mending(three: World) -> None:
    """At the coordinator it stands on the damaged record, so it waits, and is no error."""
    n1, n2, _ = three.hosts
    key = _written(three)
    _damage(three, n1, key)
    client = three.client(n2)
    first, second, third, fourth = client.send(
        [b"SET", key, b"one"], [b"SET", key, b"two"], [b"DEL", key], [b"SET", key, b"three", b"NX"]
    )
    three.run(2000)
    assert (first.reply, second.reply, third.reply, fourth.reply) == (b"OK", b"OK", 1, b"OK")
    assert three.ask(n2, "GET", key).reply == b"three"
    assert three.history.stray_replies == []
    assert len({three.stored(host, key) for host in three.hosts}) == 1


@pytest.mark.parametrize("command", [("SET", "new"), ("DEL",), ("DYN.SET", "new"), ("EXPIRE", "100")])
def test_a_damaged_record_is_written_first_thing(three: World, command: tuple[str, ...]) -> None:
    key = _written(three)
    _damage(three, three.hosts[0], key)
    operation = three.ask(three.hosts[0], command[0], key, *command[1:])
    assert not operation.error
    three.run(1000)
    assert len({three.stored(host, key) for host in three.hosts}) == 1


def test_without_another_owner_a_write_is_refused_in_words(three: World) -> None:
    n1, n2, n3 = three.hosts
    key = _written(three)
    _damage(three, n1, key)
    n2.kill()
    n3.kill()
    three.run(1000)
    client = three.client(n1)
    _, write = client.send([b"DYN.QUORUM", b"W", b"1"], [b"SET", key, b"new"])
    three.run(5000)
    assert write.error.startswith("ERR node n1: ")
    assert "fails its checksum" in write.error
    assert "outcome=unwritten" in write.error
    n2.start()
    n3.start()
    assert three.run_until(10_000, lambda: _is_sound(three, n1, key))
    assert three.ask(n1, "GET", key).reply == b"value"


def test_with_one_other_owner_away_it_waits_for_it(three: World) -> None:
    """The damaged record may have had one of W votes: a record that lacks them must not vote in its place."""
    n1, n2, n3 = three.hosts
    key = _written(three, "old")
    n3.kill()
    three.run(1000)
    assert three.ask(n2, "SET", key, "new").reply == b"OK"  # on n1 and n2
    n2.kill()
    _start_alone(three, n1, n3, key)
    assert three.ask(n3, "GET", key).error.startswith("NOQUORUM read: got=1 wanted=2")
    three.run(3000)
    assert not _is_sound(three, n1, key)
    n2.start()
    assert three.run_until(10_000, lambda: _is_sound(three, n1, key))
    assert three.ask(n3, "GET", key).reply == b"new"


def _start_alone(world: World, damaged: Host, other: Host, key: bytes) -> None:
    record = world.stored(damaged, key)
    assert record is not None
    damaged.kill()
    damaged.disk.damage(storage_key_of(key), record[:-1] + b"?")
    damaged.start()
    other.start()
    assert world.run_until(5000, lambda: world.sees(damaged, other) and world.sees(other, damaged))


def test_what_is_damaged_everywhere_is_reported_as_lost(three: World) -> None:
    key = _written(three)
    for host in three.hosts:
        record = three.stored(host, key)
        assert record is not None
        host.kill()
        host.disk.damage(storage_key_of(key), record[:-1] + b"?")
    for host in three.hosts:
        host.start()
    assert three.run_until(5000, three.at_peace)
    assert three.ask(three.hosts[0], "GET", key).error.startswith("NOQUORUM read: got=0 wanted=2")
    assert three.run_until(10_000, lambda: _count(three, "records_lost") == 3)
    status = json.loads(three.ask(three.hosts[0], "DYN.CLUSTER", "STATUS").reply)
    assert status["verdict"] == "degraded"
    assert "lost" in status["summary"]
    assert three.ask(three.hosts[0], "SET", key, "new").reply == b"OK"


def test_a_store_into_a_damaged_record_leaves_a_hint(three: World) -> None:
    n1, n2, n3 = three.hosts
    key = _written(three)
    three.network.cut(n3.id, n2.id)  # so that it cannot be mended at once
    _damage_running(three, n3, key)
    assert three.ask(n1, "SET", key, "new").reply == b"OK"
    three.run(1000)
    assert not _is_sound(three, n3, key)
    three.network.mend(n3.id, n2.id)
    assert three.run_until(15_000, lambda: three.stored(n3, key) == three.stored(n1, key))
    assert three.run_until(15_000, lambda: all(host.running.state.hints.total == 0 for host in three.hosts))


def _damage_running(world: World, host: Host, key: bytes) -> None:
    """The bytes are wrong, and the cache does not have them."""
    record = world.stored(host, key)
    assert record is not None
    host.disk.damage(storage_key_of(key), record[:-1] + b"?")
    host.running.state.records.cache.clear()


def test_the_cache_saves_what_the_disk_has_lost() -> None:
    """Even where nobody else has it: a scrub reads the disk, and what is in memory goes there again."""
    world = _world(1, Config(scrub_interval_ms=1000))
    n1 = world.hosts[0]
    key = _written(world)
    record = world.stored(n1, key)
    assert record is not None
    n1.disk.damage(storage_key_of(key), record[:-1] + b"?")
    assert world.run_until(5000, lambda: world.stored(n1, key) == record)
    assert _count(world, "records_lost") == 0
