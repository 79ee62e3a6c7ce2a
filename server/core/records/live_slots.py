"""Which slots may have keys with values: a scan passes over all others without reading them. And those not counted yet."""

from __future__ import annotations

from protocol.databases import EVERY_SPACE
from server.core.records.records import Records


def has_live(records: Records, slot: int, space: int = EVERY_SPACE) -> bool:
    """Whether some key of the slot, of that space, may have a value here. True if the slot is uncounted."""
    trees = records.trees
    return bool((trees.counts_of(space) or trees).live[slot]) or slot in records.uncounted


def next_live_slot(records: Records, slot: int, end_slot: int, space: int = EVERY_SPACE) -> int:
    """Returns the first slot from `slot` on for which `has_live` is true, or `end_slot` if there is none before it."""
    trees = records.trees
    counts = memoryview((trees.counts_of(space) or trees).live)[slot:end_slot]
    found = min(slot + (counts.nbytes - len(counts.tobytes().lstrip(b"\0"))) // counts.itemsize, end_slot)
    return min([found, *[uncounted for uncounted in records.uncounted if slot <= uncounted < found]])


def is_uncounted(records: Records, first_slot: int, end_slot: int) -> bool:
    """Whether one of these slots could not be read when its keys were counted."""
    return any(first_slot <= slot < end_slot for slot in records.uncounted)


def rescan_uncounted(records: Records) -> None:
    """Scans the uncounted slots again, because their records may have been mended and committed meanwhile."""
    uncounted, records.uncounted = records.uncounted, {}
    for slot in uncounted:
        records.rescan(slot, slot + 1)
