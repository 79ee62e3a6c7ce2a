"""What this node has stored, as the present turn sees it: the one way from the core to the storage engine.

Theory. A turn changes memory first and commits at its end, so reads within it must see writes that are not yet in the
engine. Both that overlay and the cache of records read before are one dictionary: a write puts its record there and
into the batch; the batch is handed out once, at the end of the turn. The cache (cache.py) forgets records only between
turns, so an uncommitted record is always found. What a group of reads needs from the engine is fetched in one call, or in
a few where records are large.

A record that comes from the engine is verified (P11) before anybody sees it; a damaged one is counted, told to
the listeners (listeners.py), and raises until `mend` has put a sound one in its place (mending.py).
Storage keys are slot (2 bytes), a hash of the key (4 bytes), the key: a slot, and so a partition, is one range, and
within it keys lie in the order of their hash, which gives SCAN a cursor and the hash tree its leaves. The tree (trees.py)
is kept here because here every change of a record comes by.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from librt.strings import BytesWriter, write_i16_be
from mypy_extensions import i16, i64
from xxhash import xxh32_digest

from protocol.slots import SLOTS, key_slot
from server.core.records import versions
from server.core.records.cache import ENTRY_OVERHEAD_BYTES, SHARD_BYTE, RecordCache
from server.core.records.listeners import RecordListeners
from server.core.records.trees import SLOT_BITS, Trees
from server.core.records.versions import DamagedRecord

PREFIX_BYTES = 6
RECORDS_END = b"\x40"  # beyond every slot
HINTS = b"\xff\xfe"  # what hints.py keeps
META = b"\xff\xff"  # the node's own documents
SLOT_PREFIX = [slot.to_bytes(2, "big") for slot in range(SLOTS + 1)]
_UNKNOWN = b"not looked up yet"  # told from any record by identity, so that "known to be absent" (None) can be cached
_TREES = META + b"trees"  # there from a clean stop until the next write, see trees.py
PAGE_BYTES = 4 << 20  # of values in a page: what reading many records holds in memory, but for the last value
_RESCAN_KEYS = 1000
_NONE: tuple[int, ...] = ()
_FETCHED_KEYS = 16  # in the first call of a group of reads: they are in memory together, whatever their size
NO_LIMIT = 1 << 62


def storage_key_of(key: bytes) -> bytes:
    """Where a key's record is stored."""
    return storage_key_in(key_slot(key), key)


def storage_key_in(slot: i16, key: bytes) -> bytes:
    """HOT. Where the record of a key of that slot is stored."""
    place = BytesWriter()
    write_i16_be(place, slot)
    place.write(xxh32_digest(key))
    place.write(key)
    return place.getvalue()


def may_go_on(page: list[tuple[bytes, bytes]], limit: int, bytes_max: int = PAGE_BYTES) -> bool:
    """Whether there may be more behind a page that was to hold so many pairs and bytes."""
    return len(page) == limit or sum([len(value) for _, value in page]) >= bytes_max


class Store(Protocol):
    """What the core asks of an engine between commits; see server/storage/engine.py."""

    def get(self, key: bytes) -> bytes | None:
        """The value under a storage key."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values under storage keys, in their order. One damaged value raises for all."""

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` pairs from `start` (included) to `end` (not), ascending, and none after `bytes_max` of values."""


class Records:
    """The records of this node. `get` and `put` are hot."""

    def __init__(
        self, store: Store, cache_bytes_max: int, damage_error: type[Exception], leaf_bits: int = SLOT_BITS
    ) -> None:
        self._store = store
        self._damage_error = damage_error
        self.cache = RecordCache(cache_bytes_max)
        self._young = self.cache.young
        self._old = self.cache.old
        self._large_bytes = 64 << 10  # about the largest record that was fetched lately; at first that is not known
        self._writes: dict[bytes, bytes | None] = {}
        self._documents: dict[bytes, None] = {}  # those of them that are the node's own documents
        self.record_batches = 0  # batches that held anything but documents
        self.changes: i64 = 0  # to what is stored, each after all that may raise (base/unexpected.py)
        self.damaged = 0
        self.keys = 0
        self.listeners = RecordListeners()
        self.trees = Trees(leaf_bits)
        self._spoilt: dict[int, None] = {}  # slots that could not be read when they were counted
        self.unreadable: dict[int, None] = {}  # slots in which some range could not be read (gaps.py)
        self._trees_kept = False  # the store holds a document of the trees, true until something is written

    def open(self) -> None:
        """Finds out what is stored: as the last clean stop has left it written, else by reading everything once."""
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
        """Makes trees and key counts of some slots anew. Slots that cannot be read are counted as damaged, and differ
        from everybody's: rescan them when they are mended."""
        self.keys -= sum(self.trees.counts[first_slot:end_slot])
        self.trees.forget(first_slot, end_slot)
        self._count(first_slot, end_slot)

    def _count(self, first_slot: int, end_slot: int) -> None:
        """As `rescan`, of slots about which the trees know nothing yet."""
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
                trees.spoil(first_slot)
                self._spoilt[first_slot] = None
                self.note_unreadable(first_slot, end_slot)
                return
            middle = (first_slot + end_slot) // 2
            self.rescan(first_slot, middle)
            self.rescan(middle, end_slot)

    def rescan_spoilt(self) -> None:
        """Tries the slots again that could not be read: what was damaged there may have been mended and committed."""
        spoilt, self._spoilt = self._spoilt, {}
        for slot in spoilt:
            self.rescan(slot, slot + 1)

    @property
    def live(self) -> int:
        """How many keys have a value here, expired ones included until they are collected."""
        return sum(self.trees.live)

    def has_live(self, slot: int) -> bool:
        """Whether some key of the slot may have a value here: it has one by the counts, or the slot cannot be read."""
        return bool(self.trees.live[slot]) or slot in self._spoilt

    def next_live_slot(self, slot: int, end_slot: int) -> int:
        """The first slot from `slot` on of which `has_live` is true; `end_slot` if there is none before that."""
        counts = memoryview(self.trees.live)[slot:end_slot]
        empty_bytes = counts.nbytes - len(counts.tobytes().lstrip(b"\0"))
        found = min(slot + empty_bytes // counts.itemsize, end_slot)
        return min([found, *[spoilt for spoilt in self._spoilt if slot <= spoilt < found]])

    def note_unreadable(self, first_slot: int, end_slot: int) -> None:
        """A range that touches these slots cannot be read: counted as damage the first time."""
        if any(slot not in self.unreadable for slot in range(first_slot, end_slot)):
            self.unreadable |= dict.fromkeys(range(first_slot, end_slot))
            self.damaged += 1

    def is_spoilt(self, first_slot: int, end_slot: int) -> bool:
        """Whether some slot of these could not be read when it was counted."""
        return any(first_slot <= slot < end_slot for slot in self._spoilt)

    def retire(self) -> dict[bytes, bytes | None]:
        """A batch for after the last turn: with it the next `open` need not read everything."""
        return {_TREES: self.trees.encode()}

    def get(self, key: bytes) -> bytes | None:
        """HOT. The record under a storage key, or None. Raises DamagedRecord."""
        record = self._young[key[SHARD_BYTE]].get(key, _UNKNOWN)
        return self._fetch(key) if record is _UNKNOWN else record

    def get_each(self, keys: list[bytes], loaded_bytes_max: int = NO_LIMIT) -> tuple[list[bytes | None], Sequence[int]]:
        """HOT. The records under the first of the storage keys, in their order: one at least, and not many more than fit
        into `loaded_bytes_max` beside what is in memory already. And the places of those that cannot be read: None there.
        """
        young = self._young
        try:
            return [young[key[SHARD_BYTE]][key] for key in keys], _NONE
        except KeyError:
            return self._get_cold(keys, loaded_bytes_max)

    def _get_cold(self, keys: list[bytes], loaded_bytes_max: int) -> tuple[list[bytes | None], Sequence[int]]:
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
        """Takes from the engine, in one call, those of the records that are not in memory; answers their bytes. Where that
        meets damage nothing is taken: `get` finds out what it is."""
        young, old = self._young, self._old
        missing = [key for key in keys if key not in young[key[SHARD_BYTE]] and key not in old[key[SHARD_BYTE]]]
        if not missing:
            return 0
        try:
            found = self._store.get_many(missing)
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
            if key not in young[key[SHARD_BYTE]]:  # it is not asked for twice
                self._keep(key, record)
        return loaded_bytes

    def absorb(self, pairs: list[bytes]) -> None:
        """HOT. Merges storage key, record, storage key, record, … into what is stored. Raises DamagedRecord: what was
        merged before it stays, for a record is true wherever it is kept."""
        cache, writes, trees = self.cache, self._writes, self.trees
        is_fetched = len(pairs) == 2
        for index in range(0, len(pairs), 2):
            key, record = pairs[index], pairs[index + 1]
            young = self._young[key[SHARD_BYTE]]
            old = young.get(key, _UNKNOWN)
            if old is _UNKNOWN:
                if not is_fetched:
                    is_fetched = True
                    self._fetch_rest(pairs, index)
                old = self.get(key)
            try:
                merged = versions.merge(old, record)
                if merged is old or merged is None:
                    continue
                trees.change(key, old, merged)
            except Exception as error:
                raise self._unmergeable(key, error) from error
            young[key] = writes[key] = merged
            self.changes += 1
            if old is None:
                self.keys += 1
                cache.young_bytes += len(merged)
            else:
                cache.young_bytes += len(merged) - len(old)

    def _fetch_rest(self, pairs: list[bytes], index: int) -> None:
        """Fetches what `absorb` is about to read, in a few calls."""
        for first in range(index, len(pairs), 2 * _FETCHED_KEYS):
            self._fetch_many(pairs[first : first + 2 * _FETCHED_KEYS : 2])

    def _unmergeable(self, key: bytes, error: Exception) -> DamagedRecord:
        """A record could not be joined with the stored one, and nothing of it was stored. Either may be the bad one, so the
        sender's is refused like one that meets a damaged record, however often it comes, and ends no owner of its key."""
        if isinstance(error, DamagedRecord):
            return error
        self.listeners.tell_unmergeable(error)
        return DamagedRecord(f"the record of key {key[PREFIX_BYTES:]!r} cannot be merged: {error!r}", key)

    def _fetch(self, key: bytes) -> bytes | None:
        record = self._old[key[SHARD_BYTE]].get(key, _UNKNOWN)
        if record is _UNKNOWN:
            record = self._load(key)
        self._keep(key, record)
        return record

    def _keep(self, key: bytes, record: bytes | None) -> None:
        """Puts into the cache what is stored under a storage key."""
        self._young[key[SHARD_BYTE]][key] = record
        self.cache.young_bytes += ENTRY_OVERHEAD_BYTES + len(key) + (0 if record is None else len(record))

    def _load(self, key: bytes) -> bytes | None:
        try:
            record = self._store.get(key)
        except self._damage_error as error:
            raise self.damage(key, str(error)) from error
        if record is not None and not versions.verify(record):
            raise self.damage(key, f"the stored record of key {key[PREFIX_BYTES:]!r} fails its checksum")
        return record

    def damage(self, key: bytes, message: str) -> DamagedRecord:
        """The record under a storage key was found damaged: counts and tells it. Answers what to raise."""
        self.damaged += 1
        self.listeners.tell_damaged(key)
        return DamagedRecord(message, key)

    def stored(self, key: bytes) -> bytes | None:
        """What the engine holds under a storage key, read past the cache, for the scrub. Raises DamagedRecord."""
        return self._writes[key] if key in self._writes else self._load(key)

    def is_stored(self, key: bytes) -> bool:
        """Whether bytes are known to be stored under a storage key, sound or not."""
        try:
            return self._store.get(key) is not None
        except self._damage_error:
            return False

    def put(self, key: bytes, record: bytes, replaced: bytes | None) -> None:
        """HOT. Stores `record` with this turn's batch, in place of `replaced`, which `get` has just answered."""
        self.trees.change(key, replaced, record)
        self._young[key[SHARD_BYTE]][key] = self._writes[key] = record
        self.changes += 1
        if replaced is None:
            self.keys += 1
            self.cache.young_bytes += len(record)
        else:
            self.cache.young_bytes += len(record) - len(replaced)

    def remove(self, key: bytes) -> None:
        """Removes what is stored under a storage key with this turn's batch. The caller knows why that may be.

        Raises DamagedRecord."""
        old = self.get(key)
        if old is not None:
            self.changes += 1
            self._young[key[SHARD_BYTE]][key] = self._writes[key] = None
            self.cache.young_bytes -= len(old)
            if self.trees.counts[int.from_bytes(key[:2], "big")]:  # else it lay where nothing could be read
                self.keys -= 1
            self.trees.change(key, old, None)

    def mend(self, key: bytes, record: bytes | None) -> None:
        """Stores `record` (None: nothing) in place of damaged bytes with this turn's batch."""
        self.changes += 1
        self._writes[key] = record
        self._keep(key, record)
        slot = int.from_bytes(key[:2], "big")
        self.rescan(slot, slot + 1)  # nobody knows what the damaged bytes have been to the tree

    def put_aside(self, key: bytes, value: bytes | None) -> None:
        """Stores what is no record (`key` lies beyond RECORDS_END) with this turn's batch; None removes it."""
        self.changes += 1
        self._writes[key] = value

    def put_document(self, name: bytes, document: bytes | None) -> None:
        """Stores one of the node's own documents (the layout) with this turn's batch; None removes it."""
        self._documents[META + name] = None
        self.put_aside(META + name, document)

    def document(self, name: bytes) -> bytes | None:
        """One of the node's own documents."""
        value = self._writes.get(META + name, _UNKNOWN)
        return self._store.get(META + name) if value is _UNKNOWN else value

    def page(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = PAGE_BYTES
    ) -> list[tuple[bytes, bytes]]:
        """Stored pairs from `start` to `end`, this turn's writes included: up to `limit`, and none after `bytes_max` of
        values; so an empty page alone, or `may_go_on`, says that there are no more. Raises DamagedRecord, not counted."""
        writes = {key: value for key, value in self._writes.items() if start <= key and (end is None or key < end)}
        pairs: list[tuple[bytes, bytes]] = []
        size = 0
        while True:
            try:
                stored = self._store.scan(start, end, limit, bytes_max)
            except self._damage_error as error:
                raise DamagedRecord(str(error)) from error
            if not writes:
                return stored
            last = stored[-1][0] if may_go_on(stored, limit, bytes_max) else None
            merged: dict[bytes, bytes | None] = dict(stored)
            merged |= {key: value for key, value in writes.items() if start <= key and (last is None or key <= last)}
            for key in sorted(merged):
                value = merged[key]
                if value is not None:
                    pairs.append((key, value))
                    size += len(value)
                    if len(pairs) == limit or size >= bytes_max:
                        return pairs
            if last is None:
                return pairs
            start = last + b"\0"

    def drain_batch(self) -> dict[bytes, bytes | None]:
        """The batch of this turn, to be committed before anything is said."""
        writes = self._writes
        if writes:
            self._writes = {}
            self.record_batches += len(writes) > len(self._documents)
            self._documents.clear()
            if self._trees_kept:
                self._trees_kept = False
                writes[_TREES] = None
        self.cache.turn_over()
        return writes
