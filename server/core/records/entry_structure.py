"""Verifies that bytes with a right checksum are a record of entries (structure.py says why; entries.py has the layout).

A sound record is one that `entries.encode` can make:

    header     the layout version is known; flags, kinds and counts are those of the content
    clock      as in a plain record; not empty
    directory  the chunks fill the rest of the record; bytes, distinct fields and marks of each are right
    entries    sorted by (field, kind, dot), no two the same; the clock covers each dot; the expiry is not negative
    chunks     begin where the content says
    payload    of a known kind: as kinds.py says
    layout     there is an entry that is neither a value nor a tombstone

Of a record that a patch has made of a sound one (patches.py), only the chunks that are not in that one are read.

To read 100,000 entries takes 70 ms in Python, and 1 ms in C (protocol/c/entries.h). So a process that has the module in C
walks all chunks with it, and Python reads those alone that are not of the common form. A process without it remembers
which chunks it has found sound.
"""

from __future__ import annotations

import struct
from operator import sub
from typing import Final

from librt.strings import read_i32_be
from xxhash import xxh3_128_digest

from protocol.bounds import COUNTER_MAX
from protocol.native import native
from server.core.formats.pausing import Pace, Slices
from server.core.records.entries import (
    CLOCK_BYTES,
    ENTRY_BYTES,
    HEADER_BYTES,
    LAYOUT_VERSION,
    ROW_BYTES,
    Index,
    clock_of,
    covers,
    has_entries,
    is_border,
    marks_in,
    marks_of,
    unpack_entry,
    unpack_row,
)
from server.core.records.kinds import (
    COUNTER_DELTA,
    HASH_DELTA,
    KEY_EXPIRY,
    KEY_MARKS,
    LIST_ITEM,
    MEMBER,
    MEMBER_DELTA,
    PLAIN_MARKS,
    SET_ELEMENT,
    STREAM_ENTRY,
    mark_of,
)
from server.core.records.numbers import is_decimal
from server.core.records.patches import differing
from server.core.records.positions import is_position

_CLOCK_ENTRIES_MAX: Final = 0xFFFF
_MARKED_KINDS: Final = 15
_FEW_CHUNKS: Final = 3  # of a record that is walked each time
_EXPIRY_MAX: Final = (1 << 63) - 1
_STREAM_ID_BYTES: Final = 16
_score = struct.Struct(">d").unpack
_sound_chunks: Final = native("sound_chunks")


def is_sound(record: bytes) -> bool:
    """Whether bytes whose checksum is right, and that begin as a record of entries, are one."""
    if not _has_frame(record):
        return False
    clock, chunks = clock_of(record), read_i32_be(record, 22)
    directory = HEADER_BYTES + CLOCK_BYTES * len(clock)
    place, entries, marks, at = 0, 0, 0, directory + ROW_BYTES * chunks
    last: bytes | None = None
    while place < chunks:
        if _sound_chunks is not None:
            place, at, last, common, its_marks = _sound_chunks(record, place, at, last)
            entries += common
            marks |= its_marks
            if place == chunks:
                break
        row = directory + ROW_BYTES * place
        end = at + unpack_row(record, row)[0]
        chunk = _fitting_chunk(record, at, end, row, clock, last, chunks <= _FEW_CHUNKS)
        if chunk is None:
            return False
        last = chunk.last
        entries += chunk.entries
        marks |= chunk.marks
        at = end
        place += 1
    is_whole = at == len(record) and entries == read_i32_be(record, 18)
    return is_whole and marks == marks_of(record) and bool(marks & ~PLAIN_MARKS)


def verify_in_slices(record: bytes) -> Slices[None]:
    """Reads the chunks of bytes that may be a large record, so that `is_sound` knows them afterwards: those that C
    leaves to Python, if this process has the module in C."""
    if not _has_frame(record):
        return
    index, pace = Index(record), Pace()
    place, last = 0, None
    while place < min(index.count, _KNOWN_MAX // 2):
        if _sound_chunks is not None:
            place, _, last, _, _ = _sound_chunks(record, place, index.starts[place], last)
            if place == index.count:
                return
        at, end = index.starts[place], index.starts[place + 1]
        if at >= end or end > len(record):
            return
        if pace.is_full((end - at) // ENTRY_BYTES + 1):
            yield
        chunk = _chunk_at(record, at, end)
        if chunk is None:
            return
        place, last = place + 1, chunk.last


def is_sound_after(record: bytes, base: bytes) -> bool:
    """Whether bytes whose checksum is right are a record of entries; `base` is a sound one that has most of its chunks."""
    if not has_entries(record) or not _has_frame(record):
        return False
    new, old, clock = Index(record), Index(base), clock_of(record)
    entries, marks = old.entries, marks_in(record[new.directory : new.base])
    if new.starts[-1] != len(record) or min(map(sub, new.starts[1:], new.starts)) < ENTRY_BYTES:
        return False
    if not covers(clock, clock_of(base)):
        return False
    for first, end, new_first, new_end in differing(old, new):
        entries -= sum([_known_chunk(old, chunk).entries for chunk in range(first, end)])
        last = _known_chunk(new, new_first - 1).last if new_first else None
        for place in range(new_first, min(new_end + 1, new.count)):  # the one behind has to begin behind the last field
            row = new.directory + ROW_BYTES * place
            chunk = _fitting_chunk(record, new.starts[place], new.starts[place + 1], row, clock, last, False)
            if chunk is None:
                return False
            last = chunk.last
            entries += chunk.entries if place < new_end else 0
    return entries == new.entries and marks == marks_of(record) and bool(marks & ~PLAIN_MARKS)


def _has_frame(record: bytes) -> bool:
    """Whether the header is one of a record of entries, and clock and directory are as long as it says."""
    size = len(record)
    if size < HEADER_BYTES or record[10] != LAYOUT_VERSION or record[11] > 1:
        return False
    clock_entries, count, chunks = read_i32_be(record, 14), read_i32_be(record, 18), read_i32_be(record, 22)
    if not 0 < clock_entries <= _CLOCK_ENTRIES_MAX or not 0 < chunks <= count:
        return False
    directory = HEADER_BYTES + CLOCK_BYTES * clock_entries
    if directory + ROW_BYTES * chunks > size:
        return False
    clock = clock_of(record)
    return len(clock) == clock_entries and _is_clock(record, clock, directory)


def _fitting_chunk(
    record: bytes, at: int, end: int, row: int, clock: dict[bytes, int], last: bytes | None, is_new: bool
) -> _Chunk | None:
    """Returns what is known of a chunk; None if it is not sound, or not what its row in the directory says, or if it does
    not follow the field `last`, or has a dot that the clock does not cover. `is_new`: it is not looked up first."""
    _, fields, marks = unpack_row(record, row)
    if at >= end or end > len(record):
        return None
    chunk = _read_chunk(record, at, end) if is_new else _chunk_at(record, at, end)
    if chunk is None or chunk.fields != fields or chunk.marks != marks:
        return None
    if last is not None and (chunk.first <= last or not chunk.has_border):
        return None
    for actor, counter in chunk.tops.items():
        if counter > clock.get(actor, -1):
            return None
    return chunk


def _known_chunk(index: Index, chunk: int) -> _Chunk:
    """Returns what is known of a chunk that was found sound before."""
    found = _chunk_at(index.record, index.starts[chunk], index.starts[chunk + 1])
    assert found is not None, "the record was verified"
    return found


def _is_clock(record: bytes, clock: dict[bytes, int], end: int) -> bool:
    """Whether actors are in ascending order, and counters are in the range of a hybrid clock."""
    last = b""
    for at in range(HEADER_BYTES, end, CLOCK_BYTES):
        actor = record[at : at + 8]
        if actor <= last and at > HEADER_BYTES:
            return False
        if not 0 <= clock[actor] <= COUNTER_MAX:
            return False
        last = actor
    return True


class _Chunk:
    """What is known of a sound chunk. It follows from the bytes of the chunk alone.

    `tops` has the greatest counter of each actor. `has_border` says whether the first field begins a chunk.
    """

    __slots__ = ("entries", "fields", "first", "has_border", "last", "marks", "tops")

    def __init__(self, first: bytes) -> None:
        self.first = first
        self.last = first
        self.has_border = is_border(first)
        self.entries = 0
        self.fields = 1
        self.marks = 0
        self.tops: dict[bytes, int] = {}


def _read_chunk(record: bytes, at: int, end: int) -> _Chunk | None:
    """Returns what is known of the chunk between two places of a record; None if it is not sound."""
    chunk: _Chunk | None = None
    last_kind, last_dot = -1, b""
    while at < end:
        if at + ENTRY_BYTES > end:
            return None
        kind, dot, expires_at_ms, field_size, payload_size = unpack_entry(record, at)
        at += ENTRY_BYTES + field_size + payload_size
        if at > end:
            return None
        field = record[at - payload_size - field_size : at - payload_size]
        if chunk is None:
            chunk = _Chunk(field)
        elif field != chunk.last:
            if field < chunk.last or is_border(field):
                return None
            chunk.last = field
            chunk.fields += 1
        elif kind < last_kind or (kind == last_kind and dot <= last_dot):
            return None
        if expires_at_ms > _EXPIRY_MAX or not _is_payload(kind, field, expires_at_ms, record[at - payload_size : at]):
            return None
        actor, counter = dot[:8], int.from_bytes(dot[8:], "big")
        if counter > chunk.tops.get(actor, -1):
            chunk.tops[actor] = counter
        last_kind, last_dot = kind, dot
        chunk.marks |= mark_of(kind, expires_at_ms)
        chunk.entries += 1
    return chunk


# Chunks found sound, by the hash of their bytes: of a large record that comes again after a change of one field, one chunk
# is new, and to walk 10,000 entries takes longer than all else that is done with the record.
_KNOWN_MAX: Final = 20_000
_known: dict[bytes, _Chunk] = {}


def _chunk_at(record: bytes, at: int, end: int) -> _Chunk | None:
    """As `_read_chunk`, which is called only for chunks that were not seen lately."""
    name = xxh3_128_digest(memoryview(record)[at:end])
    chunk = _known.get(name)
    if chunk is None:
        chunk = _read_chunk(record, at, end)
        if chunk is not None:
            if len(_known) >= _KNOWN_MAX:
                _known.clear()
            _known[name] = chunk
    return chunk


def _is_payload(kind: int, field: bytes, expires_at_ms: int, payload: bytes) -> bool:
    """Whether field, expiry and payload are right for this kind; anything is for an unknown one."""
    if kind < _MARKED_KINDS and (1 << kind) & KEY_MARKS and field:
        return False
    if kind in (COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA):
        return not expires_at_ms and is_decimal(payload)
    if kind == MEMBER:
        return not expires_at_ms and len(payload) == 8 and _score(payload)[0] == _score(payload)[0]
    if kind in (SET_ELEMENT, KEY_EXPIRY):
        return not payload
    if kind == LIST_ITEM:
        return not expires_at_ms and (not field or is_position(field))  # a summary (deaths.py) has an empty field
    if kind == STREAM_ENTRY:
        return not expires_at_ms and len(field) in (0, _STREAM_ID_BYTES)
    return True
