"""What makes bytes a record: the checksum, and the structure as a whole.

Theory. A checksum proves that the bytes are those that somebody wrote, not that they are a record. A record with a right
checksum and a wrong structure, stored once, would raise in whoever reads it, on every node that repair brings it to. So
whatever comes from a disk or from another node is verified here, before it is merged, stored or served; no other module
asks whether a record holds together. versions.py has the layout of the bytes. Sound is what `versions.encode` can make:

    clock     actors ascend; each counter is one that a hybrid clock can read (protocol/bounds.py)
    siblings  dots ascend, and the clock covers each of them; the kind is known, the expiry is none or lies ahead of 1970
    values    fill the rest of the bytes exactly

One pass, without decoding: both lists are sorted by actor, so the clock's entry of each sibling is found by going on. The
common record, of one writer, costs a few comparisons beside its checksum.
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest

from protocol.bounds import COUNTER_MAX

_HEADER: Final = 12
_ENTRY: Final = 16
_SIBLING: Final = 29
_SINGLE: Final = 0x00010001  # the counts of a record with one clock entry and one sibling
_SINGLE_BYTES: Final = 57  # the size of such a record, but for the value
_KIND_MAX: Final = 1
_COUNT_MASK: Final = 0xFFFF
_COPIED_BYTES_MAX: Final = 64 << 10  # a longer record is hashed in place


def verify(record: bytes) -> bool:
    """HOT. Whether the bytes are a sound record (P11): the checksum holds, and so does the structure."""
    size: i64 = len(record)
    if size < _HEADER + _ENTRY:
        return False
    body = record[8:] if size <= _COPIED_BYTES_MAX else memoryview(record)[8:]
    if record[:8] != xxh3_64_digest(body):
        return False
    if read_i32_be(record, 8) == _SINGLE:
        return _is_single(record, size)
    return _is_whole(record, size)


def _is_single(record: bytes, size: i64) -> bool:
    """HOT. As `_is_whole`, for one clock entry and one sibling."""
    if size < _SINGLE_BYTES or read_i32_be(record, 53) != size - _SINGLE_BYTES:
        return False
    dot, known = read_i64_be(record, 36), read_i64_be(record, 20)
    return (
        read_i64_be(record, 28) == read_i64_be(record, 12)
        and 0 <= dot <= known <= COUNTER_MAX
        and read_i64_be(record, 44) >= 0
        and record[52] <= _KIND_MAX
    )


def _is_whole(record: bytes, size: i64) -> bool:
    """Whether clock, siblings and values have the shape above and make up the record."""
    entries: i64 = i64(read_i16_be(record, 8)) & _COUNT_MASK
    siblings: i64 = i64(read_i16_be(record, 10)) & _COUNT_MASK
    end = _HEADER + _ENTRY * entries
    if not entries or end + _SIBLING * siblings > size or not _is_clock(record, entries):
        return False
    place: i64 = end
    entry: i64 = _HEADER
    last = b""
    for _ in range(siblings):
        if place + _SIBLING > size:
            return False
        dot = record[place : place + _ENTRY]
        actor = dot[:8]
        while entry < end and record[entry : entry + 8] < actor:
            entry += _ENTRY
        if dot <= last or entry == end or record[entry : entry + 8] != actor:
            return False
        if not 0 <= read_i64_be(record, place + 8) <= read_i64_be(record, entry + 8):
            return False
        length = i64(read_i32_be(record, place + 25))
        if read_i64_be(record, place + 16) < 0 or record[place + 24] > _KIND_MAX or length < 0:
            return False
        last = dot
        place += _SIBLING + length
    return place == size


def _is_clock(record: bytes, entries: i64) -> bool:
    """Whether the clock's actors ascend, and its counters are some that a clock can read."""
    last = b""
    place: i64 = _HEADER
    for _ in range(entries):
        actor = record[place : place + 8]
        if actor <= last and place > _HEADER:
            return False
        if not 0 <= read_i64_be(record, place + 8) <= COUNTER_MAX:
            return False
        last = actor
        place += _ENTRY
    return True
