"""The hand of an operator who changes the membership of a simulated cluster, and what has to hold when all is done."""

from __future__ import annotations

from collections.abc import Callable

from server.core.membership.cleanup import Cleanup
from server.core.records import versions
from server.core.records.records import RECORDS_END
from server.core.ring.change import JOIN, LEAVE, REMOVE, REPLACE, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import commit
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.world import World

_count = [0]


def change(kind: str, host: Host, other: Host | None = None, gone: bool = False) -> Change:
    """A change that is about `host`; `other` takes its place."""
    _count[0] += 1
    new = {JOIN: host, REPLACE: other}.get(kind)
    member = new.member if new is not None else None
    return Change(
        id=f"change-{_count[0]}",
        kind=kind,
        node=host.id,
        name=member.name if member else "",
        address=member.address if member else "",
        zone=member.zone if member else "",
        weight=member.weight if member else 0,
        other=other.id if other is not None else "",
        gone=gone,
    )


def join(host: Host) -> Change:
    """`host` becomes a member."""
    return change(JOIN, host)


def leave(host: Host) -> Change:
    """`host` gives away what it has, and goes."""
    return change(LEAVE, host)


def remove(host: Host) -> Change:
    """`host` is gone."""
    return change(REMOVE, host)


def commit_at(host: Host, *changes: Change) -> Layout:
    """An operator at `host` commits these changes."""
    made: list[Layout] = []

    def make() -> None:
        layout = host.running.state.layout
        assert layout is not None
        made.append(commit(layout, changes))
        host.running.services.membership.make(made[0])

    host.deliver("operator", make)
    return made[0]


def members_of(world: World) -> list[Host]:
    """The hosts that are members by the newest layout."""
    return world.members()


def unfinished(world: World) -> list[str]:
    """What keeps the latest change from being done, in words."""
    return world.differences()


def settled(world: World) -> Callable[[], bool]:
    """A condition: the change is done everywhere."""
    return lambda: not unfinished(world)


def lost_writes(world: World, operations: list[Operation]) -> list[str]:
    """Acknowledged SETs (each of another key) whose value some owner does not hold."""
    found = []
    for operation in operations:
        if operation.reply != b"OK":
            continue
        _, key, value = operation.args
        for owner in world.owners(key):
            record = world.stored(owner, key)
            if value not in [sibling.value for sibling in versions.siblings_of(record)]:
                found.append(f"{owner.member.name} lacks {key!r}")
    return found


def watch_cleanup(world: World) -> list[str]:
    """From now on each record that is let go is looked for on the disks of its present keepers (P8). Returns what was
    found missing, as it comes."""
    missing: list[str] = []

    def watching(host: Host, cleanup: Cleanup) -> None:
        delete = cleanup._delete

        def check(layout: Layout, key: bytes, record: bytes) -> None:
            before = cleanup._state.statistics.records_evicted
            delete(layout, key, record)
            if cleanup._state.statistics.records_evicted == before:
                return
            partition = layout.partition_of(int.from_bytes(key[:2], "big"))
            for keeper in layout.keepers(partition):
                there = world.host(keeper).disk.data.get(key)
                if there is None or versions.merge(there, record) != there:
                    missing.append(f"{host.member.name} let go {key!r}, which {keeper} lacks")

        cleanup._delete = check  # type: ignore[method-assign]

    for host in world.hosts:
        host.on_start = lambda started: watching(started, started.running.services.cleanup)
        if host.node is not None:
            watching(host, host.running.services.cleanup)
    return missing


def records_on(host: Host) -> dict[bytes, bytes]:
    """What is on a disk, but for the node's own documents and hints."""
    return {key: value for key, value in host.disk.data.items() if key < RECORDS_END}
