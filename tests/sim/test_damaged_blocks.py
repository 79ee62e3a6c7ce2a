"""Damaged blocks on several nodes, each key with two sound copies: no pipeline gets an error, and all is mended (P11)."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.records.records import storage_key_of
from tests.sim.filled import KEYS, fill, is_sound, value_of
from tests.sim.host import Host
from tests.sim.world import World

AT_ONCE_MS = 500  # far from every deadline, and from a tick's patience: some journeys, and what is mended on the way
BLOCK_KEYS = 20


class NoCompare(dict[str, None]):
    """The abilities of peers, on a node for which some are of an earlier version."""

    def __setitem__(self, key: str, value: None) -> None:
        """Forgets what it is told."""


def _world(old: int = 0) -> World:
    """Three nodes that hold all keys; the first `old` of them neither ask with COMPARE nor answer it."""
    world = World(3, 3)

    def be_old(host: Host) -> None:
        if host in world.hosts[:old]:
            host.running._peer_messages._handlers.pop(b"COMPARE")
            host.running._peer_messages._handlers.pop(b"DIFFER")
            host.running.state.comparing = NoCompare()
        else:
            host.running.state.comparing = NoCompare() if old else host.running.state.comparing

    for host in world.hosts:
        host.on_start = be_old
    return fill(world)


def _damage(world: World) -> None:
    """Each node has records that cannot be read, of other keys than those of the others, and nothing of it in memory."""
    for number, host in enumerate(world.hosts):
        for key in KEYS[number :: len(KEYS) // BLOCK_KEYS]:  # all over the key space: so groups of any owners meet them
            host.disk.damage_block(storage_key_of(key))
        host.running.state.records.cache.clear()


def _ask(world: World, host: Host, *commands: list[bytes]) -> list[Any]:
    operations = world.client(host).send(*commands)
    world.run(AT_ONCE_MS)
    return [operation.reply if operation.answered else "no answer" for operation in operations]


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("kind", ["GET", "MGET", "DYN.GET"])
def test_a_pipeline_through_any_node_reads_all_keys_at_once(number: int, kind: str) -> None:
    world = _world()
    _damage(world)
    expected = [value_of(key) for key in KEYS]
    if kind == "MGET":
        replies = _ask(world, world.hosts[number], [b"MGET", *KEYS])[0]
    else:
        replies = _ask(world, world.hosts[number], *[[kind.encode(), key] for key in KEYS])
    assert (replies if kind != "DYN.GET" else [reply[1][0] for reply in replies]) == expected


@pytest.mark.parametrize("number", range(3))
def test_a_pipeline_through_any_node_writes_all_keys_at_once(number: int) -> None:
    world = _world()
    _damage(world)
    assert _ask(world, world.hosts[number], *[[b"SET", key, b"new"] for key in KEYS]) == [b"OK"] * len(KEYS)
    assert _ask(world, world.hosts[0], *[[b"GET", key] for key in KEYS]) == [b"new"] * len(KEYS)
    world.run(3000)
    assert all(host.running.state.hints.total == 0 for host in world.hosts)
    assert all(is_sound(world, host) for host in world.hosts)


@pytest.mark.parametrize("old", [1, 2])
def test_nodes_of_the_version_before_read_with_new_ones(old: int) -> None:
    """They ask and are asked with READ, and answer for all keys or for none."""
    world = _world(old)
    for host in world.hosts:
        assert _ask(world, host, *[[b"GET", key] for key in KEYS]) == [value_of(key) for key in KEYS]
    changed = KEYS[::3]
    assert _ask(world, world.hosts[1], *[[b"SET", key, b"new"] for key in changed]) == [b"OK"] * len(changed)
    for host in world.hosts:
        assert _ask(world, host, *[[b"GET", key] for key in changed]) == [b"new"] * len(changed)
