"""The hash tree (Merkle tree) over the records of this node, updated with every write (Dynamo, section 4.7).

Theory. The position of a record in the key space is its slot, then the hash of its key. The first bits of the position
divide the key space into 2**leaf_bits *leaves*. A leaf is the XOR of the checksums of its records. So a write costs two
look-ups and three XORs, no matter how many other records the leaf has. Nodes that hold the same records have the same
leaves, in whatever order the records came. (Each record contains the dot of its own write. So records of different keys
are never equal, and do not cancel each other out.)

Inner nodes of the tree are not stored. A partition is a range of leaves, and the hash of a range is the hash of its
bytes; hashing runs at ten gigabytes a second. So any range can be compared: a partition, several in a row, or a
sixteenth of one.

For each slot there are three counts: records, records with a value (`live`), and records with a value that expires
(`expiring`). So a scan skips slots that hold only tombstones without reading them. Databases other than 0
(protocol/databases.py) have the last two counts for themselves, too, once they have had a key.

All this is in memory only. A clean stop writes it to the store (`encode`). After an unclean stop the next start reads
all records once (`Records.open`).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from struct import Struct, error
from typing import Any, Final

from librt.strings import read_i32_be, read_i64_be, read_i64_le
from librt.vecs import vec
from mypy_extensions import i32, i64
from xxhash import xxh3_64_digest

from protocol.databases import MARK, space_of
from protocol.native import native
from protocol.slots import SLOTS
from server.core.records import versions
from server.core.records.versions import DEAD, EXPIRING

POSITION_BITS = 30
SLOT_BITS = 14
EMPTY = bytes(8)  # the hash of a range without records
_CHUNK_LEAVES = 64  # the document omits chunks of this size whose leaves are all empty
_VERSION = 2  # of the document; version 1 had one count per slot, so a node that finds it reads all records
_VERSION_SPACES = 3  # of a document with counts of other spaces than 0; without any, it is of version 2
_COUNTS = 3  # counts per slot
_SPACE_COUNTS = 2  # counts per slot of another space
_KEY_AT: Final = 6  # where the inner key begins in a storage key

Span = tuple[int, int]  # a range of leaves: start included, end not

_native_shelf: Final = native("Shelf")
_LITTLE: Final = sys.byteorder == "little"
_chunk_of = Struct(f"={_CHUNK_LEAVES}q").unpack_from
_HEADER = Struct(">8sHH")  # checksum of the rest, version, leaf_bits
_INDEX = Struct(">I")
_COUNT_BYTES: Final = SLOTS * 4  # one count of each slot, in the document
_DAMAGED = versions.encode({bytes(8): 0}, [versions.Sibling(bytes(8), 0, 0, versions.VALUE, b"")])[8:]


class SpaceCounts:
    """The counts per slot of a space other than 0."""

    __slots__ = ("expiring", "live")

    def __init__(self, live: vec[i32], expiring: vec[i32]) -> None:
        self.live = live
        self.expiring = expiring


class Trees:
    """The leaves of one node, and its counts per slot; `spaces` has those of spaces other than 0."""

    __slots__ = ("_empty_hashes", "_shift", "counts", "expiring", "leaf_bits", "leaves", "live", "spaces")

    def __init__(self, leaf_bits: int) -> None:
        self.leaf_bits = leaf_bits
        self._shift: i64 = POSITION_BITS - leaf_bits
        self._empty_hashes: dict[int, bytes] = {}
        self.leaves = vec[i64]([0] * (1 << leaf_bits))
        self.counts = vec[i32]([0] * SLOTS)
        self.live = vec[i32]([0] * SLOTS)
        self.expiring = vec[i32]([0] * SLOTS)
        self.spaces: dict[int, SpaceCounts] = {}

    def change(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """HOT. Updates leaf and counts for a record that was `old` and is now `new`; None stands for no record."""
        position = i64(read_i32_be(key, 0))
        before: i64 = DEAD
        after: i64 = DEAD
        checksums: i64 = 0
        if old is not None:
            before = versions.expiry_class(old)  # may raise, so it comes before any change
            checksums = _checksum_of(old)
        if new is not None:
            after = versions.expiry_class(new)
            checksums ^= _checksum_of(new)
        self.leaves[position >> self._shift] ^= checksums
        if old is None and new is not None:
            self.counts[position >> 16] += 1
        elif new is None and old is not None and self.counts[position >> 16]:  # 0 if the slot could not be read then
            self.counts[position >> 16] -= 1
        if before != after:
            self._recount(position >> 16, before, after)
            if key.startswith(MARK, _KEY_AT):
                self._recount_space(key, position >> 16, before, after)

    def replace_checksum(self, key: bytes, before: bytes, after: bytes) -> None:
        """Updates the leaf for a record whose checksum was `before` and is now `after`, and that is counted as it was."""
        leaf = i64(read_i32_be(key, 0)) >> self._shift
        self.leaves[leaf] ^= _checksum_of(before) ^ _checksum_of(after)

    def _recount(self, slot: i64, before: i64, after: i64) -> None:
        """Updates the counts for a record whose expiry class has changed."""
        if before == DEAD:
            self.live[slot] += 1
        elif after == DEAD and self.live[slot]:  # 0 as above
            self.live[slot] -= 1
        if after == EXPIRING:
            self.expiring[slot] += 1
        elif before == EXPIRING and self.expiring[slot]:
            self.expiring[slot] -= 1

    def _recount_space(self, key: bytes, slot: i64, before: i64, after: i64) -> None:
        """As `_recount`, for the counts of the record's own space."""
        counts = self.counts_of(space_of(key[_KEY_AT:]))
        if counts is None:
            return
        if before == DEAD:
            counts.live[slot] += 1
        elif after == DEAD and counts.live[slot]:
            counts.live[slot] -= 1
        if after == EXPIRING:
            counts.expiring[slot] += 1
        elif before == EXPIRING and counts.expiring[slot]:
            counts.expiring[slot] -= 1

    def counts_of(self, space: int) -> SpaceCounts | None:
        """Returns the counts of a space other than 0; None for space 0, and for all of them."""
        if space <= 0:
            return None
        counts = self.spaces.get(space)
        if counts is None:
            counts = self.spaces[space] = SpaceCounts(vec[i32]([0] * SLOTS), vec[i32]([0] * SLOTS))
        return counts

    def keys_of(self, space: int, start_slot: int, end_slot: int) -> tuple[int, int]:
        """Returns how many live keys a space, or every one, has in some slots, and how many of these expire."""
        if space > 0:
            counts = self.spaces.get(space)
            if counts is None:
                return 0, 0
            return sum(counts.live[start_slot:end_slot]), sum(counts.expiring[start_slot:end_slot])
        live, expiring = sum(self.live[start_slot:end_slot]), sum(self.expiring[start_slot:end_slot])
        if space == 0:
            live -= sum([sum(each.live[start_slot:end_slot]) for each in self.spaces.values()])
            expiring -= sum([sum(each.expiring[start_slot:end_slot]) for each in self.spaces.values()])
        return live, expiring

    def fill(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """HOT after an unclean stop. Adds many records.

        A damaged record counts as a value, so that its slot is read and the damage is found.
        """
        for key, record in pairs:
            self.change(key, None, record if versions.verify(record) else record[:8].ljust(8, b"\0") + _DAMAGED)

    def hash_of(self, span: Span) -> bytes:
        """Returns the hash of a range of leaves, or EMPTY if the range has no records."""
        start, end = span
        found = xxh3_64_digest(memoryview(self.leaves)[start:end])
        empty = self._empty_hashes.get(end - start)
        if empty is None:
            empty = self._empty_hashes[end - start] = xxh3_64_digest(bytes(8 * (end - start)))
        return EMPTY if found == empty else found

    def keys_in(self, span: Span) -> int:
        """Returns how many records a range of leaves has. For a part of a slot it is an estimate, rounded up."""
        slot_shift = self.leaf_bits - SLOT_BITS
        start, end = span[0] >> slot_shift, (span[1] - 1 >> slot_shift) + 1
        whole = sum(self.counts[start:end])
        return -(-whole * (span[1] - span[0]) // ((end - start) << slot_shift))

    def span_of(self, partitions: int, partition: int) -> Span:
        """Returns the range of leaves of a partition, in a layout with `partitions` partitions."""
        width = (1 << self.leaf_bits) // partitions
        return partition * width, (partition + 1) * width

    def bounds_of(self, span: Span) -> tuple[bytes, bytes]:
        """Returns the range of storage keys of a range of leaves: start included, end not."""
        return tuple((leaf << POSITION_BITS - self.leaf_bits).to_bytes(4, "big") for leaf in span)  # type: ignore[return-value]

    def forget(self, first_slot: int, end_slot: int) -> None:
        """Empties the leaves and the counts of some slots."""
        shift = self.leaf_bits - SLOT_BITS
        start, end = first_slot << shift, end_slot << shift
        for leaf in range(start, end):
            self.leaves[leaf] = 0
        for slot in range(first_slot, end_slot):
            self.counts[slot] = self.live[slot] = self.expiring[slot] = 0
        for counts in self.spaces.values():
            for slot in range(first_slot, end_slot):
                counts.live[slot] = counts.expiring[slot] = 0

    def mark_unreadable(self, slot: int) -> None:
        """Makes the leaves of an unreadable slot unequal to those of all other nodes, so that anti-entropy looks at it."""
        shift = self.leaf_bits - SLOT_BITS
        for leaf in range(slot << shift, (slot + 1) << shift):
            self.leaves[leaf] ^= -1

    # --- the document of a clean stop

    def encode(self) -> bytes:
        """Returns the document from which `restore` makes the same tree."""
        parts = [_packed(counts) for counts in (self.counts, self.live, self.expiring)]
        if self.spaces:
            parts.append(bytes([len(self.spaces)]))
            for space, its_counts in sorted(self.spaces.items()):
                parts += (bytes([space]), _packed(its_counts.live), _packed(its_counts.expiring))
        leaves = bytes(memoryview(self.leaves))
        size = 8 * _CHUNK_LEAVES
        empty = bytes(size)
        for index in range(len(self.leaves) // _CHUNK_LEAVES):
            chunk = leaves[index * size : (index + 1) * size]
            if chunk != empty:
                parts += (_INDEX.pack(index), chunk)
        rest = b"".join(parts)
        version = _VERSION_SPACES if self.spaces else _VERSION
        header = _HEADER.pack(b"", version, self.leaf_bits)[8:]
        return xxh3_64_digest(header + rest) + header + rest

    def restore(self, document: bytes) -> bool:
        """Loads the tree from a document. Returns False if it is damaged, or has another version or `leaf_bits`."""
        try:
            checksum, version, leaf_bits = _HEADER.unpack_from(document)
        except error:
            return False
        if checksum != xxh3_64_digest(document[8:]) or leaf_bits != self.leaf_bits:
            return False
        if version not in (_VERSION, _VERSION_SPACES):
            return False
        start = _HEADER.size + _COUNTS * _COUNT_BYTES
        counts = _unpacked(document[_HEADER.size : start])
        self.spaces = {}
        if version == _VERSION_SPACES:
            start = self._restore_spaces(document, start)
        for offset in range(start, len(document), _INDEX.size + 8 * _CHUNK_LEAVES):
            first = _INDEX.unpack_from(document, offset)[0] * _CHUNK_LEAVES
            for index, leaf in enumerate(_chunk_of(document, offset + _INDEX.size)):
                self.leaves[first + index] = leaf
        for slot in range(SLOTS):  # in place: `Shelf` has their addresses
            self.counts[slot] = counts[slot]
            self.live[slot] = counts[SLOTS + slot]
            self.expiring[slot] = counts[2 * SLOTS + slot]
        return True

    def shelf(self, young: list[dict[bytes, bytes | None]], record_bytes_max: int) -> Any:
        """Returns what the functions in C change (protocol/c/records.h): leaves and counts, and the cache's shards."""
        return _native_shelf(young, self.leaves, self.counts, self.live, int(self._shift), record_bytes_max, MARK)

    def _restore_spaces(self, document: bytes, start: int) -> int:
        """Loads the counts of other spaces, which begin at `start`. Returns where they end."""
        start += 1
        for _ in range(document[start - 1]):
            counts = _unpacked(document[start + 1 : start + 1 + _SPACE_COUNTS * _COUNT_BYTES])
            live, expiring = vec[i32](counts[:SLOTS]), vec[i32](counts[SLOTS:])
            self.spaces[document[start]] = SpaceCounts(live, expiring)
            start += 1 + _SPACE_COUNTS * _COUNT_BYTES
        return start


def _packed(counts: vec[i32]) -> bytes:
    return _little(array("i", list(counts))).tobytes()


def _unpacked(data: bytes) -> array[int]:
    counts = array("i")
    counts.frombytes(data)
    return _little(counts)


def _checksum_of(record: bytes) -> i64:
    """Returns a record's checksum as a number in the machine's byte order: so a leaf has equal bytes on all machines."""
    return read_i64_le(record, 0) if _LITTLE else read_i64_be(record, 0)


def _little(counts: array[int]) -> array[int]:
    """Converts between the machine's byte order and little endian, in either direction."""
    if sys.byteorder == "little":
        return counts
    swapped = array("i", counts)
    swapped.byteswap()
    return swapped
