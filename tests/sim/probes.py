"""What directed tests need beside a world: raw replies, and the state of a write on the disks."""

from __future__ import annotations

from typing import Any

from server.core.records import versions
from tests.sim.clients import Connection
from tests.sim.host import Host
from tests.sim.world import World, encode


def raw_reply(world: World, host: Host, *commands: tuple[bytes | str | int, ...]) -> bytes:
    """The very bytes that come back for a pipeline on a connection of its own, within ten seconds."""
    received: list[bytes] = []
    connection = Connection(host, lambda step, data: received.append(data), lambda: None)
    connection.send([encode(command) for command in commands])
    world.run(10_000)
    return b"".join(received)


def values_on(world: World, host: Host, key: bytes) -> list[bytes]:
    """The siblings' values of `key` on a disk."""
    return [
        sibling.value for sibling in versions.siblings_of(world.stored(host, key)) if sibling.kind == versions.VALUE
    ]


def content_bytes(content: Any) -> int:
    """The bytes in what a message carries."""
    if isinstance(content, bytes):
        return len(content)
    return sum(map(content_bytes, content)) if isinstance(content, (list, tuple)) else 0
