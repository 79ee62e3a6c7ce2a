"""The records that this node stores, as the present turn sees them: the core's only way to the storage engine.

Theory. A turn changes memory first and commits at its end. So its reads must see its own writes, which are not in the
engine yet. One dictionary does that and is also the cache: a write puts its record into the cache and into the batch of
the turn. The cache (cache.py) drops records only between turns, so an uncommitted record is always found there, unless it
is still to be made (pending.py). The records of a read group that are not cached are loaded in one call, or in several if
they are large.

A record that comes from the engine is verified (P11) before it is used. A damaged record is counted and reported to the
listeners (listeners.py); reading it raises DamagedRecord until `mend` has stored a sound one in its place
(repair/mending.py).

A storage key is the slot (2 bytes), a hash of the key (4 bytes), and the key. So a slot, and also a partition, is one
range. Within a slot, keys are in the order of their hashes; SCAN cursors and the leaves of the hash tree depend on that
order. This module updates the hash tree (trees.py), because every change of a record passes through it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from mypy_extensions import i16, i64

from protocol.slots import SLOTS
from server.core.records import versions
from server.core.records.cache import ENTRY_OVERHEAD_BYTES, SHARD_BYTE, RecordCache
from server.core.records.common_case import Dot, Overwritten, common_case
from server.core.records.deferred import DeferredPatches
from server.core.records.listeners import RecordListeners
from server.core.records.paging import PAGE_BYTES, page_of
from server.core.records.patch_rows import FoldedStore
from server.core.records.patches import Patches
from server.core.records.pending import PendingRecords
from server.core.records.prepared import Prepared
from server.core.records.storage_keys import PREFIX_BYTES as PREFIX_BYTES
from server.core.records.storage_keys import SLOT_PREFIX as SLOT_PREFIX
from server.core.records.storage_keys import storage_key_in as storage_key_in
from server.core.records.storage_keys import storage_key_of as storage_key_of
from server.core.records.store import Store
from server.core.records.trees import SLOT_BITS, Trees
from server.core.records.versions import DamagedRecord

RECORDS_END = b"\x40"  # greater than the storage keys of all records
HINTS = b"\xff\xfe"  # prefix of the rows of hints.py
META = b"\xff\xff"  # prefix of the node's own documents
_UNKNOWN: Final = b"not looked up yet"  # compared by identity; None in the cache means "known to be absent"
_TREES = META + b"trees"  # the hash tree; stored by a clean stop, removed by the next write (trees.py)
_RESCAN_KEYS = 1000
_NONE: tuple[int, ...] = ()
_FETCHED_KEYS = 16  # keys in the first call of a read group: these are in memory together, whatever their size
NO_LIMIT = 1 << 62


class Records:
    """The records of this node. `get` and `put` are hot."""

    def __init__(
        self,
        store: Store,
        cache_bytes_max: int,
        damage_error: type[Exception],
        leaf_bits: int = SLOT_BITS,
        patching: tuple[int, int] = (NO_LIMIT, NO_LIMIT),
    ) -> None:
        """`patching`: how long records have to be to get patch rows (patch_rows.py), and the bytes of all rows at most."""
        self._store = store
        self.folded = FoldedStore(store, damage_error, patching[1])  # with all records whole
        self._patch_bytes_min: i64 = patching[0]
        self.patches = Patches()
        self._before: dict[bytes, bytes | None] = {}  # what this turn's large records replace in the store
        self.replaced: dict[bytes, bytes | None] | None = None  # what this turn's replace, if pubsub/ wants to know
        self._damage_error = damage_error
        self.cache = RecordCache(cache_bytes_max)
        self._young = self.cache.young
        self._old = self.cache.old
        self.pending = PendingRecords(self.cache)
        self.prepared = Prepared()
        self._large_bytes = 64 << 10  # about that of the largest record fetched lately; begins as a guess
        self.writes: dict[bytes, bytes | None] = {}  # this turn's batch; only read elsewhere
        self._documents: dict[bytes, None] = {}  # the keys in `writes` that are the node's own documents
        self.record_batches = 0  # batches with anything but documents
        self.changes: i64 = 0  # counts changes, each after everything that may raise (base/unexpected.py)
        self.damaged = 0  # damaged records and ranges found
        self.keys = 0  # records stored, tombstones included
        self.listeners = RecordListeners()
        self.trees = Trees(leaf_bits)
        self.deferred = DeferredPatches(self.cache, self.pending, self.trees, self.folded)
        self.uncounted: dict[int, None] = {}  # slots that could not be read when their keys were counted
        self.unreadable: dict[int, None] = {}  # slots with a range that cannot be read (gaps.py)
        self._trees_kept = False  # the store holds a document of the trees; the next write removes it
        self._common_case = common_case(self.trees, self.cache, patching[0] - 1)

    def open(self) -> None:
        """Loads the hash tree and the counts: from the document of a clean stop, else by reading all records once."""
        self.folded.open()
        try:
            document = self._store.get(_TREES)
        except self._damage_error:
            document = b""
        self._trees_kept = document is not None
        if document is not None and self.trees.restore(document):
            self.keys = sum(self.trees.counts)
        else:
            self._count(0, SLOTS)

    def rescan(self, first_slot: int, end_slot: int) -> None:
        """Computes the trees and counts of some slots again. A slot that cannot be read counts as damage, and its hash is
        made unequal to that of every other node; it must be scanned again after it has been mended."""
        self.keys -= sum(self.trees.counts[first_slot:end_slot])
        self.trees.forget(first_slot, end_slot)
        self._count(first_slot, end_slot)

    def _count(self, first_slot: int, end_slot: int) -> None:
        """Computes the trees and counts of slots for which both are empty; see `rescan`."""
        trees = self.trees
        try:
            start, end = SLOT_PREFIX[first_slot], SLOT_PREFIX[end_slot]
            while page := self.page(start, end, _RESCAN_KEYS):
                trees.fill(page)
                self.keys += len(page)
                start = page[-1][0] + b"\0"
            for slot in [slot for slot in self.unreadable if first_slot <= slot < end_slot]:
                del self.unreadable[slot]
        except DamagedRecord:
            self.keys -= sum(trees.counts[first_slot:end_slot])
            trees.forget(first_slot, end_slot)
            if end_slot - first_slot == 1:
                trees.mark_unreadable(first_slot)
                self.uncounted[first_slot] = None
                self.note_unreadable(first_slot, end_slot)
                return
            middle = (first_slot + end_slot) // 2
            self.rescan(first_slot, middle)
            self.rescan(middle, end_slot)

    @property
    def live(self) -> int:
        """How many keys have a value here. Expired keys count until they are collected."""
        return sum(self.trees.live)

    def patch_rows_bytes(self) -> int:
        """What all patch rows take."""
        return self.folded.rows_bytes

    def note_unreadable(self, first_slot: int, end_slot: int) -> None:
        """Notes slots with a range that cannot be read. It counts as damage the first time."""
        if any(slot not in self.unreadable for slot in range(first_slot, end_slot)):
            self.unreadable |= dict.fromkeys(range(first_slot, end_slot))
            self.damaged += 1

    def closing_batch(self) -> dict[bytes, bytes | None]:
        """Returns the batch of a clean stop: it holds the hash tree, so that the next `open` need not read all records."""
        return {_TREES: self.trees.encode()}

    def get(self, key: bytes) -> bytes | None:
        """HOT. Returns the record under a storage key, or None. Raises DamagedRecord."""
        record = self._young[key[SHARD_BYTE]].get(key, _UNKNOWN)
        return self._fetch(key) if record is _UNKNOWN else record

    def get_each(self, keys: list[bytes], loaded_bytes_max: int = NO_LIMIT) -> tuple[list[bytes | None], Sequence[int]]:
        """HOT. Returns the records of the first keys, in order, and the indexes of those that cannot be read (None).
        It returns one at least, and stops once it has loaded about `loaded_bytes_max` from the engine."""
        found = self.cache.young_of(keys) if self._common_case is None else self._common_case.young_of(keys)
        return self._get_cold(keys, loaded_bytes_max) if found is None else (found, _NONE)

    def _get_cold(self, keys: list[bytes], loaded_bytes_max: int) -> tuple[list[bytes | None], Sequence[int]]:
        if self.pending.by_key:
            self.pending.make(keys)
        records: list[bytes | None] = []
        damaged: list[int] = []
        loaded_bytes = 0
        while len(records) < len(keys) and loaded_bytes <= loaded_bytes_max:
            room = min(loaded_bytes_max - loaded_bytes, PAGE_BYTES)
            count = max(1, min(room // max(1, self._large_bytes), max(_FETCHED_KEYS, len(records))))
            batch = keys[len(records) : len(records) + count]
            loaded_bytes += self._fetch_many(batch)
            for key in batch:
                try:
                    records.append(self.get(key))
                except DamagedRecord:
                    damaged.append(len(records))
                    records.append(None)
        return records, damaged or _NONE

    def _fetch_many(self, keys: list[bytes]) -> int:
        """Loads the records that are not in the cache in one call of the engine, and returns their size in bytes. If the
        call meets damage, nothing is loaded: `get` finds the damaged record later."""
        if self.pending.by_key:
            self.pending.make(keys)
        young, old, deferred = self._young, self._old, self.deferred.by_key
        missing = [key for key in keys if key not in young[key[SHARD_BYTE]] and key not in old[key[SHARD_BYTE]]]
        missing = [key for key in missing if key not in deferred] if deferred else missing
        if not missing:
            return 0
        try:
            found = self.folded.get_many(missing)
        except self._damage_error:
            return 0
        loaded_bytes = 0
        self._large_bytes -= self._large_bytes >> 5
        for key, record in zip(missing, found, strict=True):
            if record is not None:
                if not versions.verify(record):
                    continue
                size = len(record)
                loaded_bytes += size
                if size > self._large_bytes:
                    self._large_bytes = size
            if key not in young[key[SHARD_BYTE]]:  # `keys` may contain a key twice
                self._keep(key, record)
        return loaded_bytes

    def merge_all(self, pairs: list[bytes]) -> None:
        """HOT. Merges storage key, record, storage key, record, … into what is stored. Raises DamagedRecord; then the
        records before the damaged one stay merged: to merge them again changes nothing (P3)."""
        cache, writes, trees, prepared = self.cache, self.writes, self.trees, self.prepared
        is_fetched = len(pairs) == 2
        common = self._common_case if self.replaced is None and not prepared.joins else None
        index: i64 = 0
        while index < len(pairs):
            if common is not None:
                index = common.merge(pairs, index, writes)
                self.changes += common.changed
                self.keys += common.created
                if index >= len(pairs):
                    break
            key, record = pairs[index], pairs[index + 1]
            index += 2
            young = self._young[key[SHARD_BYTE]]
            old = young.get(key, _UNKNOWN)
            if old is _UNKNOWN:
                if not is_fetched:
                    is_fetched = True
                    self._fetch_rest(pairs, index - 2)
                old = self.get(key)
            try:
                merged = prepared.merge(key, old, record) if prepared.joins else versions.merge(old, record)
                if merged is old or merged is None:
                    continue
                trees.change(key, old, merged)
            except Exception as error:
                raise self.listeners.tell_unmergeable(key, error) from error
            if len(merged) >= self._patch_bytes_min and key not in writes:
                self._before[key] = old
            if self.replaced is not None:
                self.replaced.setdefault(key, old)
            young[key] = writes[key] = merged
            self.changes += 1
            self.keys += old is None
            cache.young_bytes += len(merged) - (0 if old is None else len(old))

    def _fetch_rest(self, pairs: list[bytes], index: int) -> None:
        """Loads the records that `merge_all` is about to read, in a few calls."""
        for first in range(index, len(pairs), 2 * _FETCHED_KEYS):
            self._fetch_many(pairs[first : first + 2 * _FETCHED_KEYS : 2])

    def _fetch(self, key: bytes) -> bytes | None:
        if key in self.pending.by_key:
            self.pending.make([key])
            return self._young[key[SHARD_BYTE]][key]
        record = self._old[key[SHARD_BYTE]].get(key, _UNKNOWN)
        if key in self.deferred.by_key:
            record = self.deferred.make(key)
            if record is None:
                raise self.damage(key, f"the patches of key {self.listeners.shown_key(key)} make no sound record of it")
        elif record is _UNKNOWN:
            record = self._load(key)
        self._keep(key, record)
        return record

    def _keep(self, key: bytes, record: bytes | None) -> None:
        """Puts the record of a storage key into the cache; None for "absent"."""
        self._young[key[SHARD_BYTE]][key] = record
        self.cache.young_bytes += ENTRY_OVERHEAD_BYTES + len(key) + (0 if record is None else len(record))

    def _load(self, key: bytes) -> bytes | None:
        try:
            record = self.folded.get(key)
        except self._damage_error as error:
            raise self.damage(key, str(error)) from error
        if record is not None and not versions.verify(record):
            raise self.damage(key, self.listeners.wrong_checksum(key))
        return record

    def damage(self, key: bytes, message: str) -> DamagedRecord:
        """Counts and reports a record that was found damaged. Returns the exception to raise."""
        self.damaged += 1
        self.listeners.tell_damaged(key)
        return DamagedRecord(message, key)

    def stored(self, key: bytes) -> bytes | None:
        """Returns the stored record under a storage key without the cache, for the scrub. Raises DamagedRecord."""
        if key in self.deferred.uncommitted and key not in self.writes:
            return self.get(key)
        return self.writes[key] if key in self.writes else self._load(key)

    def is_stored(self, key: bytes) -> bool:
        """Whether something readable is stored under a storage key, be its record sound or damaged."""
        return self.folded.is_stored(key)

    def put(self, key: bytes, record: bytes, replaced: bytes | None) -> bool:
        """HOT. Stores `record` in place of `replaced`, which `get` has just returned. Returns whether the batch had one."""
        size = len(self.writes)
        self.trees.change(key, replaced, record)
        if len(record) >= self._patch_bytes_min and key not in self.writes:
            self._before[key] = replaced
        if self.replaced is not None:
            self.replaced.setdefault(key, replaced)
        self._young[key[SHARD_BYTE]][key] = self.writes[key] = record
        self.changes += 1
        self.keys += replaced is None
        self.cache.young_bytes += len(record) - (0 if replaced is None else len(replaced))
        return len(self.writes) == size

    def overwrite(self, slot: i16, key: bytes, dot: Dot, value: bytes) -> Overwritten | None:
        """HOT. Does `get`, `versions.supersede` and `put` in one (common_case.py); None if it has to be three."""
        if self._common_case is None or self.replaced is not None:
            return None
        found = self._common_case.overwrite(slot, key, dot, value, self.writes)
        if found is not None:
            self.changes += 1
            self.keys += found[2] is None
        return found

    def defer(self, key: bytes, patch: bytes) -> bool:
        """Stores a patch for the record under a storage key; False if that must be made whole first (deferred.py)."""
        is_deferred = self.replaced is None and key not in self.writes and self.deferred.add(key, patch)
        self.changes += is_deferred
        return is_deferred

    def remove(self, key: bytes) -> None:
        """Removes a record that the owners hold (P8), and whose end revives nothing (P7). Raises DamagedRecord."""
        old = self.get(key)
        if old is not None:
            self.changes += 1
            self._young[key[SHARD_BYTE]][key] = self.writes[key] = None
            self.cache.young_bytes -= len(old)
            self.keys -= self.trees.counts[int.from_bytes(key[:2], "big")] > 0  # 0 if the slot is uncounted
            self.trees.change(key, old, None)

    def mend(self, key: bytes, record: bytes | None) -> None:
        """Stores `record` (None: nothing) in place of damaged bytes with this turn's batch."""
        self.changes += 1
        self._before.pop(key, None)
        self.deferred.forget(key)
        self.writes[key] = record
        self._keep(key, record)
        slot = int.from_bytes(key[:2], "big")
        self.rescan(slot, slot + 1)  # the damaged bytes were part of the slot's hash, and their checksum is unknown

    def put_raw(self, key: bytes, value: bytes | None) -> None:
        """Stores a value that is no record (`key` is beyond RECORDS_END) with this turn's batch; None removes it."""
        self.changes += 1
        self.writes[key] = value

    def put_document(self, name: bytes, document: bytes | None) -> None:
        """Stores one of the node's own documents (the layout) with this turn's batch; None removes it."""
        self._documents[META + name] = None
        self.put_raw(META + name, document)

    def document(self, name: bytes) -> bytes | None:
        """Returns one of the node's own documents, or None."""
        value = self.writes.get(META + name, _UNKNOWN)
        return self._store.get(META + name) if value is _UNKNOWN else value

    def page(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = PAGE_BYTES
    ) -> list[tuple[bytes, bytes]]:
        """Returns stored pairs from `start` to `end`, this turn's writes included: up to `limit`, or until `bytes_max` of
        values are reached. `may_have_more` tells whether more may follow. Raises DamagedRecord, and does not count it."""
        made = {key: self.get(key) for key in self.deferred.uncommitted if start <= key and (end is None or key < end)}
        try:
            return page_of(self.folded.scan, made | self.writes, start, end, limit, bytes_max)
        except self._damage_error as error:
            raise DamagedRecord(str(error)) from error

    def drain_batch(self) -> dict[bytes, bytes | None]:
        """Returns the batch of this turn. It must be committed before any message or reply of the turn leaves."""
        assert not self.pending.by_key, "the turn ends before all its records were made"
        writes, uncommitted = self.writes, self.deferred.uncommitted
        if writes or uncommitted or self.folded.checkpoints:
            self.writes = {}
            self.record_batches += bool(uncommitted or self.folded.checkpoints) or len(writes) > len(self._documents)
            self._documents.clear()
            if self._before or uncommitted or self.folded.has_rows() or self.folded.checkpoints:
                self.folded.reduce(writes, self._before, self.patches, uncommitted)
                self._before.clear()
            if self._trees_kept:
                self._trees_kept = False
                writes[_TREES] = None
        self.patches.clear()
        self.deferred.end_turn()
        self.cache.rotate()
        return writes
