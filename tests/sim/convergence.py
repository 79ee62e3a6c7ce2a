"""Liveness, judged from the disks alone: all members have the same layout, whose change is done; the owners of each key
hold equal bytes, nobody else holds anything, no hint is left; and once that is so, what is dead goes.

Who has left holds no layout, and nothing else if it was let go in peace. What lies on the disk of a node that was removed
nobody asks for any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from server.core.records import versions
from server.core.records.records import META, RECORDS_END
from server.core.ring.change import REMOVE
from server.core.ring.layout import SETTLED, Layout
from tests.sim.disk import LAYOUT, Cause, Disk
from tests.sim.evidence import is_sound, split_hint

Owners = Callable[[bytes], list[str]]  # of a storage key


def differences(disks: Iterable[Disk], owners_of: Owners) -> list[str]:
    """What keeps the cluster from being converged, in words; nothing if it is."""
    held: dict[bytes, dict[str, bytes]] = {}
    found = []
    for disk in disks:
        for storage_key, record in disk.data.items():
            if storage_key < RECORDS_END:
                held.setdefault(storage_key, {})[disk.node] = record
                if not disk.is_readable(storage_key) or not is_sound(record):
                    found.append(f"the record at {storage_key!r} on {disk.node} is damaged")
            elif not storage_key.startswith(META):
                owner, owed = split_hint(storage_key)
                found.append(f"{disk.node} keeps a hint of {owed!r} for {owner}")
    for storage_key, records in held.items():
        owners = owners_of(storage_key)
        if len({records.get(owner) for owner in owners}) > 1:
            without = [owner for owner in owners if owner not in records]
            found.append(f"the owners {owners} of {storage_key!r} differ; without it are {without}")
        found += [f"{node} holds {storage_key!r} and does not own it" for node in records if node not in owners]
    return found


def unfinished(layout: Layout, disks: Sequence[Disk]) -> list[str]:
    """The same for a ring that has changed: `disks` are those of all who have ever been in it."""
    members = [member.id for member in layout.members]
    found = [] if layout.phase == SETTLED and not layout.leaving else [f"the layout {layout.version} is {layout.phase}, "
             f"with {layout.leaving} leaving"]  # fmt: skip
    present = [disk for disk in disks if disk.node in members]
    found += [f"{disk.node} has another layout" for disk in present if disk.data.get(LAYOUT) != layout.encode()]
    for disk in disks:
        if disk.node not in members:
            if LAYOUT in disk.data and _knows_some(disk, members):
                found.append(f"{disk.node} is no member and does not know it")
            removed = any(disk.node == change.node and (change.gone or change.kind == REMOVE) for change in layout.log)
            if not removed and _was_released(disk) and any(storage_key < RECORDS_END for storage_key in disk.data):
                found.append(f"{disk.node} has left and still holds records")
    return found + differences(present, lambda key: _owners(layout, key))


def _owners(layout: Layout, storage_key: bytes) -> list[str]:
    return list(layout.owners[layout.partition_of(int.from_bytes(storage_key[:2], "big"))])


def _knows_some(disk: Disk, members: list[str]) -> bool:
    """Whether one of them is a member by the layout on that disk. Who knows nobody else is told nothing."""
    return any(member.id in members for member in Layout.decode(disk.data[LAYOUT]).members)


def _was_released(disk: Disk) -> bool:
    """Whether the node was let go when it held nothing any more, by the last layout on its disk."""
    known = [document for _, document, _ in disk.layouts if document is not None]
    hurt = any(cause is not Cause.COMMIT for _, _, cause in disk.layouts)
    return bool(known) and not hurt and LAYOUT not in disk.data and disk.node in Layout.decode(known[-1]).leaving


def dead_records(disks: Iterable[Disk], wall_ms: int) -> list[str]:
    """The records that nobody gets to read any more at `wall_ms`, and that are there all the same."""
    return [
        f"{disk.node} still holds {storage_key!r}, which is dead"
        for disk in disks
        for storage_key, record in disk.data.items()
        if storage_key < RECORDS_END and not any(s.is_live(wall_ms) for s in versions.siblings_of(record))
    ]
