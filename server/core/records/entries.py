"""Records of entries: the bytes of a record that holds more than plain values and tombstones.

Theory. A record is a clock and a set of dotted entries. An entry has a kind (kinds.py), a field, a dot, an
expiry and a payload. Its identity is (dot, kind, field): one command makes one dot, also for several fields. A record
that has only values and tombstones has the layout of plain records (versions.py). Any other record has the layout
below. So the layout follows from the content, and equal records are equal bytes.

    0   checksum        xxh3_64 of everything after it
    8   mark            u16 0; in a plain record the size of the clock is here, which is never 0
    10  layout version  u8 1
    11  flags           u8; bit 0: some field has an expiry of its own
    12  kinds           u16; bit n: there are entries of kind n; bit 15: of kind 15 or a greater one
    14  clock entries   u32 count
    18  entries         u32 count
    22  chunks          u32 count
    26  clock           16 bytes an entry: actor 8, counter u64; sorted by actor
    ..  directory       12 bytes a chunk: u32 bytes, u32 distinct fields, u32 marks (kinds.py)
    ..  chunks          entries, sorted by (field, kind, dot):
                        kind u8, dot 16, expiry u64, field size u32, payload size u32, field, payload

The first entry begins a chunk. So does each entry whose field differs from that of the entry before it and has a hash
whose last six bits are 0. The borders of chunks therefore depend on the content only, not on its history. A chunk has
about 64 fields. The directory leads to a field by bisection; then one chunk is walked. To replace or remove a field, one
chunk and its row in the directory are replaced, and nothing else is decoded.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator, Mapping
from itertools import accumulate
from typing import Final

from librt.strings import read_i32_be, read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64, xxh3_128_digest, xxh32_intdigest

from server.core.records import siblings
from server.core.records.kinds import EXPIRY_MARK, KINDS_MASK, PLAIN_MARKS, mark_of
from server.core.records.siblings import DamagedRecord, Sibling

Entry = tuple[bytes, int, bytes, int, bytes]  # field, kind, dot (16 bytes), expiry, payload: in the order of the bytes

LAYOUT_VERSION: Final = 1
HEADER_BYTES: Final = 26
CLOCK_BYTES: Final = 16
ROW_BYTES: Final = 12
ENTRY_BYTES: Final = 33  # without field and payload
_EXPIRY_AT: Final = 17  # within an entry
FIELD_SIZE_AT: Final = 25
BORDER_MASK: Final = 63
pack_header = struct.Struct(">HBBHIII").pack
pack_row = struct.Struct(">III").pack
unpack_row = struct.Struct(">III").unpack_from
pack_dot = struct.Struct(">8sQ").pack
unpack_dot = struct.Struct(">8sQ").unpack_from
_pack_entry = struct.Struct(">B16sQII").pack
unpack_entry = struct.Struct(">B16sQII").unpack_from
_dots = struct.Struct(">8sQ").iter_unpack
_ROW_ITEMS: Final = 3
_SWAP: Final = sys.byteorder == "little"


def has_entries(record: bytes) -> bool:
    """Whether a record has the layout of entries."""
    return not record[9] and not record[8] and record[10] > 0


def marks_of(record: bytes) -> int:
    """Returns the marks of a whole record of entries."""
    return (record[12] << 8) + record[13] + (EXPIRY_MARK if record[11] & 1 else 0)


def clock_of(record: bytes) -> dict[bytes, int]:
    """Returns the clock of a record of either layout."""
    if has_entries(record):
        return dict(_dots(record[HEADER_BYTES : HEADER_BYTES + CLOCK_BYTES * read_i32_be(record, 14)]))
    return dict(_dots(record[12 : 12 + CLOCK_BYTES * ((record[8] << 8) + record[9])]))


def covers(clock: Mapping[bytes, int], other: Mapping[bytes, int]) -> bool:
    """Whether a clock covers every write that another one covers."""
    if len(other) > len(clock):
        return False
    for actor, counter in other.items():  # noqa: SIM110 (compiled, a generator costs more)
        if clock.get(actor, -1) < counter:
            return False
    return True


def newness(dot: bytes) -> tuple[int, bytes]:
    """Returns a key by which dots are sorted in the order of time."""
    return int.from_bytes(dot[8:], "big"), dot


def is_border(field: bytes) -> bool:
    """Whether an entry of this field begins a chunk if the entry before it has another field."""
    return not xxh32_intdigest(field) & BORDER_MASK


class _Starts:
    """Where the chunks of records are that were looked at lately, by the hash of their directories: commands ask one record
    again and again, and to add up its directory takes longer than all else that is done to find a field."""

    __slots__ = ("_by_hash", "_numbers")

    def __init__(self) -> None:
        self._by_hash: dict[bytes, list[int]] = {}
        self._numbers: i64 = 0  # in all lists

    def of(self, record: bytes, directory: int, base: int) -> list[int]:
        """Returns where each chunk begins, and where the last one ends. Nobody may change the list."""
        name = xxh3_128_digest(memoryview(record)[directory:base])
        starts = self._by_hash.get(name)
        if starts is None or starts[0] != base:
            starts = list(accumulate(_rows(record[directory:base])[0::_ROW_ITEMS], initial=base))
            self._numbers += len(starts)
            if self._numbers > _STARTS_MAX:
                self._by_hash.clear()
                self._numbers = len(starts)
            self._by_hash[name] = starts
        return starts


_STARTS_MAX: Final = 100_000  # some 4 MB
_starts: Final = _Starts()


class Index:
    """The chunks of a record of entries, and where they are."""

    __slots__ = ("base", "count", "directory", "entries", "record", "starts")

    def __init__(self, record: bytes) -> None:
        self.record = record
        self.entries: int = read_i32_be(record, 18)
        self.count: int = read_i32_be(record, 22)
        self.directory: int = HEADER_BYTES + CLOCK_BYTES * i64(read_i32_be(record, 14))
        self.base = self.directory + ROW_BYTES * self.count
        self.starts = [self.base, len(record)] if self.count == 1 else _starts.of(record, self.directory, self.base)

    def row(self, chunk: int) -> tuple[int, int, int]:
        """Returns the bytes, the distinct fields and the marks of a chunk."""
        return unpack_row(self.record, self.directory + ROW_BYTES * chunk)

    def fields(self) -> int:
        """Returns how many distinct fields there are; an empty one counts, if a key has one or not."""
        return sum(self.field_counts())

    def field_counts(self) -> array[int]:
        """Returns how many distinct fields each chunk has."""
        return _rows(self.record[self.directory : self.base])[1::_ROW_ITEMS]

    def expiring_chunks(self) -> list[int]:
        """Returns the chunks with fields that have an expiry of their own."""
        marks = _rows(self.record[self.directory : self.base])[2::_ROW_ITEMS]
        return [chunk for chunk, mark in enumerate(marks) if mark & EXPIRY_MARK]

    def chunk_of(self, field: bytes) -> int:
        """Returns the chunk that has the field, if any has it."""
        low, high = 0, self.count - 1
        while low < high:
            middle = (low + high + 1) // 2
            if field_at(self.record, self.starts[middle]) <= field:
                low = middle
            else:
                high = middle - 1
        return low

    def entries_of(self, field: bytes, chunk: int) -> list[Entry]:
        """HOT. Returns the entries of a field, `chunk` being `chunk_of` it. They are neighbours. Of the entries before them
        only the sizes and some bytes of the field are read: to search the chunk for the field takes four times as long."""
        record = self.record
        found: list[Entry] = []
        at: i64 = self.starts[chunk]
        end: i64 = self.starts[chunk + 1]
        size: i64 = len(field)
        while at < end:
            sizes = read_i64_be(record, at + FIELD_SIZE_AT)  # both in one: half the calls of `after_entry`
            start = at + ENTRY_BYTES
            after = start + (sizes >> 32) + (sizes & 0xFFFFFFFF)
            if sizes >> 32 == size and _has_field(record, start, field, size):
                kind, dot, expires_at_ms, _, _ = unpack_entry(record, at)
                found.append((field, kind, dot, expires_at_ms, record[start + size : after]))
            elif found:
                break
            at = after
        return found

    def bytes_of(self, first: int, end: int) -> bytes:
        """Returns the bytes of the chunks from `first` (included) to `end` (not)."""
        return self.record[self.starts[first] : self.starts[end]]

    def entries_in(self, chunk: int) -> list[Entry]:
        """Returns the entries of a chunk."""
        return entries_between(self.record, self.starts[chunk], self.starts[chunk + 1])


def _has_field(record: bytes, at: i64, field: bytes, size: i64) -> bool:
    """HOT. Whether a field of so many bytes is at a place of a record. Most others differ in one of the first words."""
    place: i64 = 0
    while place + 8 <= size:
        if read_i64_be(record, at + place) != read_i64_be(field, place):
            return False
        place += 8
    return record.startswith(field, at)


def field_at(record: bytes, at: int) -> bytes:
    """Returns the field of the entry that begins at a place."""
    start = at + ENTRY_BYTES
    return record[start : start + i64(read_i32_be(record, at + FIELD_SIZE_AT))]


def after_entry(record: bytes, at: int) -> int:
    """Returns where the entry ends that begins at a place."""
    sizes = i64(read_i32_be(record, at + FIELD_SIZE_AT)) + i64(read_i32_be(record, at + FIELD_SIZE_AT + 4))
    return at + ENTRY_BYTES + sizes


def last_expiry_between(record: bytes, start: int, end: int) -> int:
    """Returns the latest expiry of the entries that lie between two places of a record; 0 if there is none."""
    found: i64 = 0
    at: i64 = start
    while at < end:
        expires_at_ms = read_i64_be(record, at + _EXPIRY_AT)
        if expires_at_ms > found:
            found = expires_at_ms
        sizes = read_i64_be(record, at + FIELD_SIZE_AT)  # both in one: half the calls of `after_entry`
        at += ENTRY_BYTES + (sizes >> 32) + (sizes & 0xFFFFFFFF)
    return found


def entries_between(record: bytes, start: int, end: int) -> list[Entry]:
    """Returns the entries that lie between two places of a record."""
    found: list[Entry] = []
    at = start
    while at < end:
        kind, dot, expires_at_ms, field_size, payload_size = unpack_entry(record, at)
        at += ENTRY_BYTES + field_size
        found.append((record[at - field_size : at], kind, dot, expires_at_ms, record[at : at + payload_size]))
        at += payload_size
    return found


def key_entries(record: bytes) -> list[Entry]:
    """Returns the entries with an empty field, which come first: all that is said about the key as a whole."""
    start = HEADER_BYTES + CLOCK_BYTES * i64(read_i32_be(record, 14)) + ROW_BYTES * i64(read_i32_be(record, 22))
    at, size = start, len(record)
    while at < size and not read_i32_be(record, at + FIELD_SIZE_AT):
        at = after_entry(record, at)
    return entries_between(record, start, at)


def _rows(directory: bytes) -> array[int]:
    rows = array("I", directory)
    if _SWAP:
        rows.byteswap()
    return rows


def marks_in(directory: bytes) -> int:
    """Returns the marks of all chunks of a directory together."""
    marks = 0
    for each in dict.fromkeys(_rows(directory)[2::_ROW_ITEMS]):
        marks |= each
    return marks


def decode(record: bytes) -> tuple[dict[bytes, int], list[Entry]]:
    """Returns the clock and the sorted entries of a sound record of either layout."""
    if has_entries(record):
        return clock_of(record), entries_between(record, Index(record).base, len(record))
    clock, present = siblings.decode(record)
    return clock, sorted([(b"", s.kind, pack_dot(s.actor, s.counter), s.expires_at_ms, s.value) for s in present])


def encode(clock: Mapping[bytes, int], entries: list[Entry]) -> bytes:
    """Returns the canonical bytes of a record with these entries: a plain record if it has only values and tombstones."""
    assembly = Assembly()
    for entry in sorted(entries):
        assembly.add(entry)
    return assembly.record(clock, len(entries))


def encode_plain(clock: Mapping[bytes, int], entries: list[Entry]) -> bytes:
    """Returns the bytes of a plain record; all entries are values or tombstones."""
    found = []
    for _, kind, dot, expires_at_ms, payload in entries:
        actor, counter = unpack_dot(dot)
        found.append(Sibling(actor, counter, expires_at_ms, kind, payload))
    return siblings.encode(dict(clock), found)


class Assembly:
    """Makes the bytes of a record from entries, stretches of entries and whole chunks, which are added in order."""

    __slots__ = ("_chunk", "_directory", "_field", "_fields", "_marks", "_parts", "_size")

    def __init__(self) -> None:
        self._parts: list[bytes | memoryview] = []
        self._chunk: list[bytes] = []  # what is added to the chunk that is being made
        self._directory: list[bytes] = []
        self._field: bytes | None = None  # of the last entry, if it is known
        self._size = 0  # of the chunk that is being made
        self._fields = 0
        self._marks = 0

    def add(self, entry: Entry) -> None:
        """Adds one entry."""
        field, kind, dot, expires_at_ms, payload = entry
        if field != self._field:
            self._begin_field(field)
            self._fields += 1
        self._chunk.append(_pack_entry(kind, dot, expires_at_ms, len(field), len(payload)) + field + payload)
        self._size += ENTRY_BYTES + len(field) + len(payload)
        self._marks |= mark_of(kind, expires_at_ms)

    def add_stretch(self, first_field: bytes, stretch: bytes, fields: int, marks: int) -> None:
        """Adds the bytes of adjacent entries without a border between them; all entries of their fields are in it."""
        self._begin_field(first_field)
        self._field = None
        self._chunk.append(stretch)
        self._size += len(stretch)
        self._fields += fields
        self._marks |= marks

    def add_chunks(self, directory: bytes, chunks: bytes | memoryview) -> None:
        """Adds whole chunks of another record. The first entry is a border, or the first of the record."""
        self._end_chunk()
        self._field = None
        self._directory.append(directory[:-ROW_BYTES])
        self._size, self._fields, self._marks = unpack_row(directory, len(directory) - ROW_BYTES)
        self._parts.append(chunks)

    def chunk_count(self) -> int:
        """Returns how many chunks are before what is added next, if that is a border."""
        return sum(map(len, self._directory)) // ROW_BYTES + bool(self._size)

    def _begin_field(self, field: bytes) -> None:
        self._field = field
        if self._size and is_border(field):
            self._end_chunk()

    def _end_chunk(self) -> None:
        if self._chunk:
            self._parts.append(b"".join(self._chunk))
            self._chunk = []
        if self._size:
            self._directory.append(pack_row(self._size, self._fields, self._marks))
            self._size = self._fields = self._marks = 0

    def record(self, clock: Mapping[bytes, int], entries: int) -> bytes:
        """Returns the record; `entries` is the number of all that was added."""
        self._end_chunk()
        directory = b"".join(self._directory)
        marks = marks_in(directory)
        if not marks & ~PLAIN_MARKS:
            chunks = b"".join(self._parts)
            return encode_plain(clock, entries_between(chunks, 0, len(chunks)))
        flags = 1 if marks & EXPIRY_MARK else 0
        count = len(directory) // ROW_BYTES
        header = pack_header(0, LAYOUT_VERSION, flags, marks & KINDS_MASK, len(clock), entries, count)
        parts: list[bytes | memoryview] = [b"", header, encode_clock(clock), directory, *self._parts]
        checksum = xxh3_64()
        for part in parts:
            checksum.update(part)
        parts[0] = checksum.digest()
        return b"".join(parts)  # the only copy: a new megabyte costs more than to hash it


def encode_clock(clock: Mapping[bytes, int]) -> bytes:
    """Returns the bytes of a clock."""
    return b"".join([pack_dot(actor, clock[actor]) for actor in sorted(clock)])


def by_field(entries: list[Entry]) -> Iterator[tuple[bytes, list[Entry]]]:
    """Yields each field and its entries."""
    group: list[Entry] = []
    for entry in entries:
        if group and group[0][0] != entry[0]:
            yield group[0][0], group
            group = []
        group.append(entry)
    if group:
        yield group[0][0], group


def advance(clock: dict[bytes, int], actor: bytes, counter: int) -> None:
    """Enters a new dot into a clock. Raises ForeignDot if the clock has a later one of this actor."""
    if counter <= clock.get(actor, -1):
        raise siblings.ForeignDot
    clock[actor] = counter


def damaged(record: bytes, told: str) -> DamagedRecord:
    """Returns the exception for a record that cannot be used."""
    return DamagedRecord(f"a record of {len(record)} bytes {told}")
