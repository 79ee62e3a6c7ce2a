"""A cluster that holds some keys: what tests about damage and lost disks begin with."""

from __future__ import annotations

from collections.abc import Sequence

from server.core.records import versions
from server.core.records.records import storage_key_of
from tests.sim.host import Host
from tests.sim.world import World

KEYS = [b"k%d" % number for number in range(200)]


def value_of(key: bytes) -> bytes:
    """The value that `fill` writes."""
    return b"value of " + key


def fill(world: World, keys: Sequence[bytes] = KEYS, settle_ms: int = 500) -> World:
    """Starts all nodes and writes all keys through the first one; `settle_ms` later every owner has them."""
    world.start()
    world.run(100)
    written = world.client(world.hosts[0]).send(*[[b"SET", key, value_of(key)] for key in keys])
    assert world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in written))
    world.run(settle_ms)
    return world


def is_sound(world: World, host: Host, keys: Sequence[bytes] = KEYS) -> bool:
    """Whether a node's disk holds a record of each key that can be read and has its checksum."""
    records = [world.stored(host, key) if host.disk.is_readable(storage_key_of(key)) else None for key in keys]
    return all(record is not None and versions.verify(record) for record in records)
