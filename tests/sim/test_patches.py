"""Patches of large records in a cluster: what is sent, that it is stored before it is acknowledged, and owners behind."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from server.core.records.patch_rows import PREFIX
from server.core.records.records import storage_key_of
from server.core.records.views import View
from server.core.requests import replica
from tests.sim.disk import record_key
from tests.sim.host import Host
from tests.sim.network import Datagrams
from tests.sim.runs import config
from tests.sim.world import World

FIELDS = 60
VALUE = b"v" * 50


def world_with_a_hash(seed: int, **settings: Any) -> tuple[World, bytes]:
    """Three nodes, and a hash that all of them hold; its coordinator is the first."""
    world = World(seed, 3, config(patch_record_bytes_min=1000, **settings))
    world.start()
    key = world.key_of(world.hosts[0])
    words = [word for number in range(FIELDS) for word in (b"f%d" % number, VALUE)]
    assert world.ask(world.hosts[0], b"HSET", key, *words).reply == FIELDS
    world.run(500)
    return world, key


def put(world: World, key: bytes, field: bytes, value: bytes) -> None:
    """Writes a field, through the second node."""
    reply = world.ask(world.hosts[1], b"HSET", key, field, value)
    assert not reply.error, reply.error


def holders(world: World, key: bytes, field: bytes, value: bytes) -> list[Host]:
    """The nodes on whose disk the field has that value."""
    found = []
    for host in world.hosts:
        record = world.stored(host, key)
        if record is not None and View(record, 0).get(field) == value:
            found.append(host)
    return found


def count(world: World, name: str) -> int:
    """A statistic of all nodes together."""
    return sum(getattr(host.node.state.statistics, name) for host in world.hosts if host.node is not None)


def count_made(world: World) -> int:
    """The bytes of the records that all nodes together have made of patches."""
    return sum(host.node.state.records.deferred.made_bytes for host in world.hosts if host.node is not None)


@pytest.mark.parametrize("seed", range(3))
def test_a_write_of_one_field_sends_what_changes(seed: int) -> None:
    world, key = world_with_a_hash(seed)
    made = count_made(world)
    for number in range(20):
        put(world, key, b"f%d" % number, b"new %d" % number)
        assert len(holders(world, key, b"f%d" % number, b"new %d" % number)) >= 2, "stored, then acknowledged"
    world.run(1000)
    assert not world.differences() and len(holders(world, key, b"f19", b"new 19")) == 3
    # It is made whole when its rows are a quarter of it, not for each of 40 patches.
    assert count_made(world) - made < 20 * len(world.stored(world.hosts[0], key) or b"")
    assert count(world, "patches_sent") == 40 and count(world, "patches_unfit") == 0
    assert count(world, "patch_bytes_sent") < 40 * 400


def write_on(world: World, key: bytes, hurt: Callable[[int], None]) -> int:
    """Three clients write 90 fields, while `hurt` is called again and again. What was acknowledged is everywhere in the
    end. Returns how many patches met an owner that had missed the write before."""
    clients = [world.client(host) for host in world.hosts]
    sent = []
    for number in range(30):
        hurt(number)
        fields = [b"f%d" % (3 * number + place) for place in range(3)]
        sent += [clients[place].send([b"HSET", key, fields[place], b"new"])[0] for place in range(3)]
        world.run(25)
    world.run(4000)
    world.network.datagrams = None
    world.heal()
    assert world.run_until(60_000, lambda: world.at_peace() and not world.differences())
    written = [operation for operation in sent if operation.answered and not operation.error]
    assert len(written) > 15
    for operation in written:
        assert holders(world, key, operation.args[2], b"new") == world.hosts, "acknowledged, and lost"
    return count(world, "patches_unfit")


def test_patches_that_are_lost_repeated_and_reordered() -> None:
    unfit = 0
    for seed in range(5):
        world, key = world_with_a_hash(seed)
        world.network.datagrams = Datagrams(0.1, 0.2, 20)
        unfit += write_on(world, key, lambda number: None)
    assert unfit > 0


def _break_link(world: World, number: int) -> None:
    first, _, third = world.hosts
    for pipe in world.network.pipes(first.id, third.id) if number % 4 == 3 else ():
        pipe.abort()


@pytest.mark.parametrize("large_message_bytes", [3000, 256 << 10])
def test_links_that_break(large_message_bytes: int) -> None:
    """What was in flight is lost. The whole record that an owner needs then travels in pieces, or not."""
    unfit = 0
    for seed in range(4):
        world, key = world_with_a_hash(seed, large_message_bytes=large_message_bytes)
        unfit += write_on(world, key, partial(_break_link, world))
    assert unfit > 0


def rows_of(host: Host, key: bytes) -> list[bytes]:
    """The patch rows of a record on a disk."""
    return sorted(row for row in host.disk.raw if row.startswith(PREFIX) and record_key(row) == storage_key_of(key))


@pytest.mark.parametrize("harm", ["restart", "flip", "remove", "block"])
@pytest.mark.parametrize("scrubs", [False, True])
def test_a_node_whose_record_has_patch_rows_starts_again(harm: str, scrubs: bool) -> None:
    """A damaged row is damage of its record: it is never served, and mended from the others, by a read or by the scrub."""
    world, key = world_with_a_hash(3, record_cache_bytes=0, scrub_interval_ms=1000 if scrubs else 10**8)
    for number in range(9):
        put(world, key, b"f%d" % number, b"new")
    world.run(500)
    host = world.hosts[0]
    rows = rows_of(host, key)
    assert len(rows) > 3 and all(len(host.disk.raw[row]) < 400 for row in rows)
    host.kill()
    row = rows[1]
    if harm == "flip":
        host.disk.damage(row, host.disk.raw[row][:50] + b"?" + host.disk.raw[row][51:])
    elif harm == "remove":
        host.disk.damage(row, b"")
    elif harm == "block":
        host.disk.damage_block(row)
    host.start()
    assert world.run_until(5000, world.at_peace)
    if not scrubs:
        read = world.ask(host, b"HGET", key, b"f8")
        assert read.reply == b"new", read.error
    assert world.run_until(20_000, lambda: count(world, "records_mended") == (harm != "restart"))
    assert world.run_until(20_000, lambda: not world.differences())
    assert holders(world, key, b"f0", b"new") == holders(world, key, b"f8", b"new") == world.hosts
    assert count(world, "records_lost") == 0
    put(world, key, b"f0", b"later")
    assert not world.differences() or world.run_until(1000, lambda: not world.differences())


def test_acknowledged_before_it_is_stored_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The checks of the first test fail for a replica that acknowledges patches and stores what it had."""
    world, key = world_with_a_hash(1)
    monkeypatch.setattr(replica, "store_patches", lambda state, pairs: True)
    put(world, key, b"f1", b"new")
    assert len(holders(world, key, b"f1", b"new")) == 1
