"""The hash tree of what this node stores, kept up with every write (DESIGN §9; Dynamo, section 4.7).

Theory. The key space is a line of places: slot, then hash of the key, the first 30 bits of which cut it into 2**leaf_bits
*leaves*. A leaf is the XOR of the checksums of its records. So a write costs two look-ups and three XORs, whatever else
lies in the leaf, and two nodes that hold the same records have the same leaves, in whatever order these came. (A record
names its own write, so no two records of different keys are equal and would cancel out.)

The levels above are not kept: a partition is a range of leaves, and the hash of a range is that of its bytes, at ten
gigabytes a second. Any range can be compared, be it a partition, some in a row, or a sixteenth of one.

Beside the leaves stand, for each slot, the number of records, of those that hold a value (`live`), and of those among
them that expire. So nobody reads tombstones to find out that there is nothing else. All live in memory alone; a clean
stop writes them down (`encode`), and any other end makes the next start read all records once (Records.open).
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from struct import Struct, error
from typing import Final

from librt.strings import read_i32_be, read_i64_be, read_i64_le
from librt.vecs import vec
from mypy_extensions import i32, i64
from xxhash import xxh3_64_digest

from protocol.slots import SLOTS
from server.core.records import versions
from server.core.records.versions import DEAD, EXPIRING

PLACE_BITS = 30
SLOT_BITS = 14
EMPTY = bytes(8)  # the hash of a range without records
_CHUNK_LEAVES = 64  # the document leaves out runs of so many empty leaves
_VERSION = 2  # 1 counted records only: who meets it reads them once
_COUNTS = 3  # of each slot

Span = tuple[int, int]  # a range of leaves, its end excluded

_LITTLE: Final = sys.byteorder == "little"
_chunk_of = Struct(f"={_CHUNK_LEAVES}q").unpack_from
_HEADER = Struct(">8sHH")  # checksum of the rest, version, leaf_bits
_INDEX = Struct(">I")
_DAMAGED = versions.encode({bytes(8): 0}, [versions.Sibling(bytes(8), 0, 0, versions.VALUE, b"")])[8:]


class Trees:
    """The leaves and the slots' counts of one node."""

    __slots__ = ("_empty_hashes", "_shift", "counts", "expiring", "leaf_bits", "leaves", "live")

    def __init__(self, leaf_bits: int) -> None:
        self.leaf_bits = leaf_bits
        self._shift: i64 = PLACE_BITS - leaf_bits
        self._empty_hashes: dict[int, bytes] = {}
        self.leaves = vec[i64]([0] * (1 << leaf_bits))
        self.counts = vec[i32]([0] * SLOTS)
        self.live = vec[i32]([0] * SLOTS)
        self.expiring = vec[i32]([0] * SLOTS)

    def change(self, key: bytes, old: bytes | None, new: bytes | None) -> None:
        """HOT. The record under storage key `key` was `old` and is `new` now; None is no record."""
        place = i64(read_i32_be(key, 0))
        leaf = place >> self._shift
        before = DEAD if old is None else versions.standing(old)  # first: a record that is none changes nothing here
        after = DEAD if new is None else versions.standing(new)
        if old is not None:
            self.leaves[leaf] ^= _checksum_of(old)
        if new is not None:
            self.leaves[leaf] ^= _checksum_of(new)
            if old is None:
                self.counts[place >> 16] += 1
        elif old is not None and self.counts[place >> 16]:  # else it lay where nothing could be read when we counted
            self.counts[place >> 16] -= 1
        if before != after:
            self._recount(place >> 16, before, after)

    def _recount(self, slot: i64, before: i64, after: i64) -> None:
        """A record of the slot stands otherwise than before."""
        if before == DEAD:
            self.live[slot] += 1
        elif after == DEAD and self.live[slot]:  # as above
            self.live[slot] -= 1
        if after == EXPIRING:
            self.expiring[slot] += 1
        elif before == EXPIRING and self.expiring[slot]:
            self.expiring[slot] -= 1

    def fill(self, pairs: Sequence[tuple[bytes, bytes]]) -> None:
        """HOT at a start after an unclean stop: `change` from None for many. A damaged one counts as a value, so that
        it is read and found."""
        for key, record in pairs:
            self.change(key, None, record if versions.verify(record) else record[:8].ljust(8, b"\0") + _DAMAGED)

    def hash_of(self, span: Span) -> bytes:
        """The hash of a range of leaves; EMPTY if there is nothing in it."""
        start, end = span
        found = xxh3_64_digest(memoryview(self.leaves)[start:end])
        empty = self._empty_hashes.get(end - start)
        if empty is None:
            empty = self._empty_hashes[end - start] = xxh3_64_digest(bytes(8 * (end - start)))
        return EMPTY if found == empty else found

    def keys_in(self, span: Span) -> int:
        """How many records there are in a range of leaves; of a part of a slot an estimate, at least 1 unless 0."""
        slot_shift = self.leaf_bits - SLOT_BITS
        start, end = span[0] >> slot_shift, (span[1] - 1 >> slot_shift) + 1
        whole = sum(self.counts[start:end])
        return -(-whole * (span[1] - span[0]) // ((end - start) << slot_shift))

    def span_of(self, partitions: int, partition: int) -> Span:
        """The leaves of one of so many partitions."""
        width = (1 << self.leaf_bits) // partitions
        return partition * width, (partition + 1) * width

    def bounds_of(self, span: Span) -> tuple[bytes, bytes]:
        """The storage keys between which a range of leaves lies, the second one excluded."""
        return tuple((leaf << PLACE_BITS - self.leaf_bits).to_bytes(4, "big") for leaf in span)  # type: ignore[return-value]

    def forget(self, first_slot: int, end_slot: int) -> None:
        """Empties the leaves and the counts of some slots."""
        shift = self.leaf_bits - SLOT_BITS
        start, end = first_slot << shift, end_slot << shift
        for leaf in range(start, end):
            self.leaves[leaf] = 0
        for slot in range(first_slot, end_slot):
            self.counts[slot] = self.live[slot] = self.expiring[slot] = 0

    def spoil(self, slot: int) -> None:
        """What is stored in `slot` cannot be read: its leaves shall be equal to nobody's."""
        shift = self.leaf_bits - SLOT_BITS
        for leaf in range(slot << shift, (slot + 1) << shift):
            self.leaves[leaf] ^= -1

    # --- over a clean stop

    def encode(self) -> bytes:
        """The document from which `restore` makes the same tree."""
        parts = [_little(array("i", list(counts))).tobytes() for counts in (self.counts, self.live, self.expiring)]
        leaves = bytes(memoryview(self.leaves))
        size = 8 * _CHUNK_LEAVES
        empty = bytes(size)
        for index in range(len(self.leaves) // _CHUNK_LEAVES):
            chunk = leaves[index * size : (index + 1) * size]
            if chunk != empty:
                parts += (_INDEX.pack(index), chunk)
        rest = b"".join(parts)
        header = _HEADER.pack(b"", _VERSION, self.leaf_bits)[8:]
        return xxh3_64_digest(header + rest) + header + rest

    def restore(self, document: bytes) -> bool:
        """Takes the tree of `document`; False if that is damaged, or a tree of another form."""
        try:
            checksum, version, leaf_bits = _HEADER.unpack_from(document)
        except error:
            return False
        if checksum != xxh3_64_digest(document[8:]) or (version, leaf_bits) != (_VERSION, self.leaf_bits):
            return False
        counts = array("i")
        start = _HEADER.size + _COUNTS * SLOTS * counts.itemsize
        counts.frombytes(document[_HEADER.size : start])
        counts = _little(counts)
        for place in range(start, len(document), _INDEX.size + 8 * _CHUNK_LEAVES):
            first = _INDEX.unpack_from(document, place)[0] * _CHUNK_LEAVES
            for offset, leaf in enumerate(_chunk_of(document, place + _INDEX.size)):
                self.leaves[first + offset] = leaf
        self.counts, self.live, self.expiring = (vec[i32](counts[SLOTS * n : SLOTS * (n + 1)]) for n in range(_COUNTS))
        return True


def _checksum_of(record: bytes) -> i64:
    """The first 8 bytes, in the machine's own order, so that the bytes of a leaf are the same on every machine."""
    return read_i64_le(record, 0) if _LITTLE else read_i64_be(record, 0)


def _little(counts: array[int]) -> array[int]:
    """The same numbers, their bytes little endian where those in memory are not, and back."""
    if sys.byteorder == "little":
        return counts
    swapped = array("i", counts)
    swapped.byteswap()
    return swapped
