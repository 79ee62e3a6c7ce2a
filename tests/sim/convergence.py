"""Liveness, judged from the disks alone: the owners of each key hold equal bytes, nobody else holds anything, no hint is
left; and once that is so, what is dead goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from server.core import versions
from server.core.records import META, RECORDS_END
from tests.sim.disk import Disk
from tests.sim.evidence import is_sound, split_hint

Owners = Callable[[bytes], list[str]]  # of a storage key


def differences(disks: Iterable[Disk], owners_of: Owners) -> list[str]:
    """What keeps the cluster from being converged, in words; nothing if it is."""
    held: dict[bytes, dict[str, bytes]] = {}
    found = []
    for disk in disks:
        for stored_at, record in disk.data.items():
            if stored_at < RECORDS_END:
                held.setdefault(stored_at, {})[disk.node] = record
                if not disk.is_readable(stored_at) or not is_sound(record):
                    found.append(f"the record at {stored_at!r} on {disk.node} is damaged")
            elif not stored_at.startswith(META):
                owner, owed = split_hint(stored_at)
                found.append(f"{disk.node} keeps a hint of {owed!r} for {owner}")
    for stored_at, records in held.items():
        owners = owners_of(stored_at)
        if len({records.get(owner) for owner in owners}) > 1:
            without = [owner for owner in owners if owner not in records]
            found.append(f"the owners {owners} of {stored_at!r} differ; without it are {without}")
        found += [f"{node} holds {stored_at!r} and does not own it" for node in records if node not in owners]
    return found


def dead_records(disks: Iterable[Disk], wall_ms: int) -> list[str]:
    """The records that nobody gets to read any more at `wall_ms`, and that are there all the same."""
    return [
        f"{disk.node} still holds {stored_at!r}, which is dead"
        for disk in disks
        for stored_at, record in disk.data.items()
        if stored_at < RECORDS_END and not any(s.is_live(wall_ms) for s in versions.siblings_of(record))
    ]
