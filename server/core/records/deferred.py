"""Deferred patches: a replica stores the patches of a large record, and applies them when somebody asks for the record.

The problem. To apply a patch copies, hashes and compares the whole record: some 2 ms for a list of 100,000 items, in each
turn, at each replica, though nobody reads it there before the next patch comes. That was half of what a replica did.

The idea. In memory as in the store (patch_rows.py) the record is a base and the patches since. A patch names the checksums
of the record before it and after it, so the hash tree is updated, a COMPARE is answered and the next patch is checked
without the record. The cache does not hold the record, so `Records.get` takes the slow path, which applies all patches in
one copy. The hot path asks nothing.

A patch is deferred if all of this holds; else the record is made whole first (requests/patching.py says what comes then):

- The record here is in memory and is the base of the patch, and the splices lie in it and make as many bytes as it says.
- The patch may become a patch row, and nothing else of this turn writes the key.
- It leaves the kinds of entries as they are, and these are those of a collection of which nothing expires.
- Its clock covers that of its base.

The third condition keeps the counts of live and expiring keys as they are (deaths.py): such a record is alive before and
after.

Why it is right. What is stored is the row that the other way would have stored. A wrong patch would damage every copy of
the record, so the coordinator compares what its patch makes with its own record before it sends and stores it (patches.py).
A replica verifies the patch before it acknowledges it: its checksum, its base, its sizes. The record that comes of it is
verified when it is made, here or after a restart; if it is damaged, it is mended from the other owners like any (P11).

Memory. Bases and patches are counted apart from the cache, up to a quarter of its size; past it the oldest are dropped
between turns, but for those of the turn that ends: the store has the others.

Measured: README.md, "How fast".
Rejected: a checksum over the hashes of chunks (a new layout that all nodes have to know, and the copy costs more than the
hash); bytes that are changed in place (a record that somebody still reads must not change, and everything takes `bytes`).
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from server.core.records.cache import ENTRY_OVERHEAD_BYTES, RecordCache
from server.core.records.entries import clock_of, covers, has_entries, marks_of
from server.core.records.entry_structure import is_sound_after
from server.core.records.kinds import COLLECTION_MARKS
from server.core.records.patch_rows import ROWS_MAX, FoldedStore
from server.core.records.patches import (
    Patches,
    apply_all,
    base_of,
    clock_of_result,
    result_of,
    size_of_result,
    splices_of,
)
from server.core.records.pending import PendingRecords
from server.core.records.structure import has_checksum
from server.core.records.trees import Trees

_CHECKSUM_BYTES: Final = 8
_COUNTS_AT: Final = 14  # in a record of entries: layout version, flags and kinds are before it
_SHARE: Final = 4  # this part of the cache's size may be taken by what is deferred


class Deferred:
    """The record of one key: a whole one, and patches that follow each other."""

    __slots__ = ("base", "checksum", "clock", "memory_bytes", "patches", "size_bytes")

    def __init__(self, base: bytes) -> None:
        self.base = base
        self.patches: list[bytes] = []
        self.checksum = base[:_CHECKSUM_BYTES]  # of the record that they make
        self.clock = clock_of(base)
        self.size_bytes: i64 = len(base)
        self.memory_bytes: i64 = ENTRY_OVERHEAD_BYTES + len(base)


class DeferredPatches:
    """The records of this node that are not made whole yet."""

    def __init__(self, cache: RecordCache, pending: PendingRecords, trees: Trees, folded: FoldedStore) -> None:
        self.uncommitted: dict[bytes, list[bytes]] = {}  # the patches of this turn by storage key: not stored yet
        self.memory_bytes: i64 = 0  # of all records
        self.made_bytes = 0  # of all records that were made of patches, at once or later
        self.by_key: dict[bytes, Deferred] = {}  # by storage key; the oldest one first
        self._cache = cache
        self._pending = pending
        self._trees = trees
        self._folded = folded

    def add(self, key: bytes, patch: bytes) -> bool:
        """Stores a sound patch for the record under a storage key, which this turn does not write whole. Returns False if
        the record has to be made whole first; then nothing has changed."""
        if key in self._pending.by_key:
            return False
        found = self.by_key.get(key)
        if found is None:
            base = self._cache.peek(key)
            if base is None or not _is_lasting(base):
                return False
            found = Deferred(base)
        uncommitted = self.uncommitted.get(key, [])
        size = size_of_result(patch)
        if found.checksum != base_of(patch) or not _fits(patch, found.size_bytes, size):
            return False
        if len(found.patches) >= ROWS_MAX:  # the store may have made its rows a record meanwhile (FoldedStore.reduce)
            return False
        clock = clock_of_result(patch)
        if not covers(clock, found.clock) or not self._folded.may_add(key, [*uncommitted, patch], found.size_bytes):
            return False
        if key not in self.by_key:
            self._cache.drop(key)
            self.by_key[key] = found
            self.memory_bytes += found.memory_bytes
        self._trees.replace_checksum(key, found.checksum, result_of(patch))
        found.patches.append(patch)
        found.checksum, found.clock, found.size_bytes = result_of(patch), clock, size
        grown = ENTRY_OVERHEAD_BYTES + len(patch)
        found.memory_bytes += grown
        self.memory_bytes += grown
        self.uncommitted[key] = [*uncommitted, patch]
        return True

    def is_written_whole(self, patches: Patches, key: bytes, old: bytes | None, record: bytes) -> bool:
        """Whether the store gets a large record whole, and not a patch, if it is written in place of `old` in this turn.
        `patches` are those of this turn."""
        patch = None if old is None else patches.of(key, old, record)
        return patch is None or old is None or not self._folded.may_add(key, [patch], len(old))

    def make(self, key: bytes) -> bytes | None:
        """Applies the patches of a storage key, which are deferred no more. Returns the record; None if it is damaged."""
        found = self.by_key[key]
        record = apply_all(found.base, found.patches)
        self.made_bytes += found.size_bytes
        is_sound = record is not None and has_checksum(record) and is_sound_after(record, found.base)
        if is_sound or key not in self.uncommitted:  # until the bad patch is in the store, only this knows of it
            self.forget(key)
        return record if is_sound else None

    def forget(self, key: bytes) -> None:
        """What is deferred of a storage key is replaced."""
        if key in self.by_key:
            self.memory_bytes -= self.by_key.pop(key).memory_bytes

    def bytes_max(self) -> int:
        """How much memory may be taken after a turn, but for what that turn has deferred."""
        return self._cache.bytes_max // _SHARE

    def end_turn(self) -> None:
        """The patches of this turn go to the store with its batch, and are not the only ones there any more."""
        excess_bytes = self.memory_bytes - self.bytes_max()
        dropped = []
        for key, found in self.by_key.items():
            if excess_bytes <= 0:
                break
            # The store does not have those of this turn yet, and the turn may still ask for them (pubsub/tracking.py).
            if key not in self.uncommitted:
                dropped.append(key)
                excess_bytes -= found.memory_bytes
        for key in dropped:
            self.forget(key)
        self.uncommitted.clear()


def _is_lasting(record: bytes) -> bool:
    """Whether a record has entries of collections only, and nothing in it expires."""
    if not has_entries(record):
        return False
    marks = marks_of(record)
    return bool(marks & COLLECTION_MARKS) and not marks & ~COLLECTION_MARKS


def _fits(patch: bytes, size: i64, new_size: i64) -> bool:
    """Whether a sound patch leaves the kinds of a record of so many bytes, and makes one of `new_size` bytes of it."""
    end: i64 = 0
    for offset, replaced, data in splices_of(patch):
        if offset < _COUNTS_AT:
            return False
        end = offset + replaced
        if end > size:
            return False
        new_size += replaced - len(data)
    return new_size == size
