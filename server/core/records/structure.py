"""Verifies that bytes are a record: the checksum, and the structure as a whole.

Theory. A checksum proves that the bytes are as somebody wrote them. It does not prove that they are a record. If a
record with a right checksum and a wrong structure were stored, each node that reads it would raise an exception, and
repair would bring it to more nodes. So every record from a disk or from another node is verified here before it is
merged, stored or served. No other module checks the structure. versions.py describes the layout of the bytes. A sound
record is one that `versions.encode` can make:

    clock     actors are in ascending order; each counter is in the range of a hybrid clock (protocol/bounds.py)
    siblings  dots are in ascending order, and the clock covers each of them; the kind is known; the expiry is not negative
    values    fill the rest of the bytes exactly

The check is one pass without decoding. Clock and siblings are both sorted by actor, so the clock entries are walked
along with the siblings. The common record has one writer; for it the check costs a few comparisons besides the
checksum.
"""

from __future__ import annotations

from typing import Final

from librt.strings import read_i16_be, read_i32_be, read_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest

from protocol.bounds import COUNTER_MAX
from server.core.records.entry_structure import is_sound

_digest: Final = xxh3_64_digest  # compiled code looks an imported function up by its name, and a constant not
_HEADER: Final = 12
_ENTRY: Final = 16
_SIBLING: Final = 29
_SINGLE: Final = 0x00010001  # the two counts of a record with one clock entry and one sibling
_SINGLE_BYTES: Final = 57  # the size of such a record without its value
_KIND_MAX: Final = 1
_COUNT_MASK: Final = 0xFFFF
_COPIED_BYTES_MAX: Final = 64 << 10  # a longer record is hashed in offset


def verify(record: bytes) -> bool:
    """HOT. Whether the bytes are a sound record: checksum and structure are right (P11)."""
    size: i64 = len(record)
    if size < _HEADER + _ENTRY or not has_checksum(record):
        return False
    if read_i32_be(record, 8) == _SINGLE:
        return _is_single(record, size)
    return _is_whole(record, size) if record[8] or record[9] else is_sound(record)


def has_checksum(record: bytes) -> bool:
    """HOT. Whether the checksum of at least 8 bytes is right. For a record that another node has verified."""
    body = record[8:] if len(record) <= _COPIED_BYTES_MAX else memoryview(record)[8:]
    return bool(read_i64_be(record, 0) == read_i64_be(_digest(body), 0))


def _is_single(record: bytes, size: i64) -> bool:
    """HOT. The same as `_is_whole`, for a record with one clock entry and one sibling."""
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
    """Whether clock, siblings and values are as described above and fill the record exactly."""
    entries: i64 = i64(read_i16_be(record, 8)) & _COUNT_MASK
    siblings: i64 = i64(read_i16_be(record, 10)) & _COUNT_MASK
    end = _HEADER + _ENTRY * entries
    if not entries or end + _SIBLING * siblings > size or not _is_clock(record, entries):
        return False
    offset: i64 = end
    entry: i64 = _HEADER
    last = b""
    for _ in range(siblings):
        if offset + _SIBLING > size:
            return False
        dot = record[offset : offset + _ENTRY]
        actor = dot[:8]
        while entry < end and record[entry : entry + 8] < actor:
            entry += _ENTRY
        if dot <= last or entry == end or record[entry : entry + 8] != actor:
            return False
        if not 0 <= read_i64_be(record, offset + 8) <= read_i64_be(record, entry + 8):
            return False
        length = i64(read_i32_be(record, offset + 25))
        if read_i64_be(record, offset + 16) < 0 or record[offset + 24] > _KIND_MAX or length < 0:
            return False
        last = dot
        offset += _SIBLING + length
    return offset == size


def _is_clock(record: bytes, entries: i64) -> bool:
    """Whether the clock's actors are in ascending order, and its counters are in the range of a hybrid clock."""
    last = b""
    offset: i64 = _HEADER
    for _ in range(entries):
        actor = record[offset : offset + 8]
        if actor <= last and offset > _HEADER:
            return False
        if not 0 <= read_i64_be(record, offset + 8) <= COUNTER_MAX:
            return False
        last = actor
        offset += _ENTRY
    return True
