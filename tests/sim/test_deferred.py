"""Deferred patches in a cluster: no memory for them, a client that is told of each change, and a patch that is wrong."""

from __future__ import annotations

import pytest
from xxhash import xxh3_64_digest

from server.core.records import patches
from server.core.records.patches import verify_patch
from tests.sim.host import Host
from tests.sim.test_patches import FIELDS, VALUE, count, holders, put, rows_of, world_with_a_hash
from tests.sim.world import World


def _track(world: World, host: Host, key: bytes) -> None:
    client = world.client(host)
    client.send([b"HELLO", b"3"], [b"CLIENT", b"TRACKING", b"ON"], [b"HGET", key, b"f1"])
    world.run(300)


@pytest.mark.parametrize("record_cache_bytes", [0, 2000, 22_000])
@pytest.mark.parametrize("place", range(3))
def test_a_client_is_told_where_there_is_no_memory_for_patches(place: int, record_cache_bytes: int) -> None:
    """A node looks at what has changed for it at the end of a turn, before the patches of that turn are committed."""
    world, key = world_with_a_hash(1, record_cache_bytes=record_cache_bytes)
    lives = [host.life for host in world.hosts]
    for number in range(20):
        for host in (world.hosts[place], world.hosts[2]):
            _track(world, host, key)
        put(world, key, b"f%d" % number, b"new %d" % number)
    world.run(1000)
    assert [host.life for host in world.hosts] == lives, "a node has ended"
    assert not world.differences() and count(world, "patches_sent") > 0
    assert [host.node.state.records.damaged for host in world.hosts if host.node is not None] == [0, 0, 0]
    assert len(holders(world, key, b"f19", b"new 19")) == 3


@pytest.mark.interpreted
@pytest.mark.parametrize("restarts", [False, True])
def test_a_patch_that_one_node_makes_wrongly_costs_nothing(restarts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """One byte, once. The other owners store patches before they apply them, and all three would have damage."""
    world, key = world_with_a_hash(1)
    put(world, key, b"f3", b"before")
    world.run(2000)
    planted: list[bytes] = []

    def make_wrongly(base: bytes, result: bytes) -> bytes | None:
        patch = right(base, result)
        if patch is None or planted or b"changed" not in patch:
            return patch
        wrong = patch[8:].replace(b"changed", b"Changed", 1)
        planted.append(xxh3_64_digest(wrong) + wrong)
        assert verify_patch(planted[0])
        return planted[0]

    right = patches.make
    monkeypatch.setattr(patches, "make", make_wrongly)
    put(world, key, b"f5", b"changed")
    assert planted
    for number in range(10, 13):
        put(world, key, b"f%d" % number, b"later")
    world.run(300)
    assert not world.differences() and len(rows_of(world.hosts[0], key)) >= 3, "the later ones are patches again"
    if restarts:
        for host in world.hosts:
            host.kill()
        world.run(1000)
        for host in world.hosts:
            host.start()
        assert world.run_until(10_000, world.at_peace)
    expected = {b"f%d" % number: VALUE for number in range(FIELDS)}
    expected |= {b"f3": b"before", b"f5": b"changed"} | dict.fromkeys([b"f10", b"f11", b"f12"], b"later")
    for host in world.hosts:
        read = world.ask(host, b"HGETALL", key)
        assert not read.error, read.error
        assert dict(zip(read.reply[::2], read.reply[1::2], strict=True)) == expected
    assert count(world, "records_lost") == count(world, "records_mended") == 0
    for field, value in expected.items():
        assert holders(world, key, field, value) == world.hosts
