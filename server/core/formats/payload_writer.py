"""Writes values as payloads of DUMP; payloads.py has the theory.

Redis compresses strings of more than 20 bytes. Compression is a loop over bytes here, so only strings of up to 16 KB are
compressed, and no more than 64 KB of one payload; the rest is written as it is, which Redis reads as well. That covers
nearly all small collections, which are one string each. Collections are written in slices.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import Final

from server.core.formats import listpack, lzf, payloads, stream_nodes
from server.core.formats.numbers import integer_of, score_text
from server.core.formats.pausing import Pace, Slices

_DOUBLE: Final = Struct("<d")
_INTSET_ENTRIES_MAX: Final = 512
_HASH_LISTPACK_ENTRIES_MAX: Final = 512
_ZSET_LISTPACK_ENTRIES_MAX: Final = 128
_LISTPACK_ITEM_BYTES_MAX: Final = 64
_LIST_NODE_BYTES_MAX: Final = 8192
_LIST_NODE_OVERHEAD_BYTES: Final = 8  # what Redis takes an entry to need besides its own bytes
_LISTPACK_EMPTY_BYTES: Final = 7
_PACKED_NODE: Final = 2

_COMPRESSED_BYTES_MIN: Final = 21
_COMPRESSED_BYTES_MAX: Final = 16 << 10
_COMPRESSED_BYTES_IN_ALL_MAX: Final = 64 << 10
_COMPRESSED_BYTES_PER_UNIT: Final = 8  # as much work as an item
_INTEGER_TEXT_BYTES_MAX: Final = 11


class _Writer:
    """The bytes of a payload so far."""

    __slots__ = ("compressible_bytes", "out", "pace")

    def __init__(self, kind: int) -> None:
        self.out = bytearray((kind,))
        self.compressible_bytes = _COMPRESSED_BYTES_IN_ALL_MAX
        self.pace = Pace()

    def length(self, number: int) -> None:
        """Adds a length, or any other number of 64 bits, in the fewest bytes."""
        self.out += _length(number)

    def string(self, value: bytes) -> None:
        """Adds a string: as an integer of 32 bits, or compressed, or as it is."""
        size = len(value)
        if size <= _INTEGER_TEXT_BYTES_MAX and (number := integer_of(value)) is not None:
            for kind, width in ((0xC0, 1), (0xC1, 2), (0xC2, 4)):
                if -(1 << 8 * width - 1) <= number < 1 << 8 * width - 1:
                    self.out.append(kind)
                    self.out += number.to_bytes(width, "little", signed=True)
                    return
        if _COMPRESSED_BYTES_MIN <= size <= min(_COMPRESSED_BYTES_MAX, self.compressible_bytes):
            self.compressible_bytes -= size
            self.pace.add(size // _COMPRESSED_BYTES_PER_UNIT)
            compressed = lzf.compress(value)
            if compressed is not None:
                self.out += b"\xc3%b%b%b" % (_length(len(compressed)), _length(size), compressed)
                return
        self.out += _length(size)
        self.out += value

    def sealed(self, version: int = payloads.VERSION) -> bytes:
        """The payload."""
        return payloads.seal(bytes(self.out), version)


def _length(number: int) -> bytes:
    if number < 1 << 6:
        return bytes((number,))
    if number < 1 << 14:
        return (number | 0x4000).to_bytes(2, "big")
    if number < 1 << 32:
        return b"\x80" + number.to_bytes(4, "big")
    return b"\x81" + number.to_bytes(8, "big")


def dump_libraries(texts: Iterable[bytes]) -> bytes:
    """The payload of FUNCTION DUMP: the texts of libraries."""
    writer = _Writer(payloads.FUNCTION)
    writer.out.clear()
    for text in texts:
        writer.out.append(payloads.FUNCTION)
        writer.string(text)
    return writer.sealed()


def dump_string(value: bytes) -> bytes:
    """The payload of a string."""
    writer = _Writer(payloads.TYPE_STRING)
    writer.string(value)
    return writer.sealed()


def dump_set(elements: Sequence[bytes]) -> Slices[bytes]:
    """Returns the payload of a set: sorted integers if all of up to 512 elements are integers, else all in order."""
    if len(elements) <= _INTSET_ENTRIES_MAX:
        numbers = [number for element in elements if (number := integer_of(element)) is not None]
        if len(numbers) == len(elements):
            writer = _Writer(payloads.TYPE_SET_INTSET)
            writer.string(_intset(sorted(numbers)))
            return writer.sealed()
    writer = _Writer(payloads.TYPE_SET)
    writer.length(len(elements))
    for element in elements:
        if writer.pace.is_full():
            yield
        writer.string(element)
    return writer.sealed()


def _intset(numbers: list[int]) -> bytes:
    """Sorted integers of 2, 4 or 8 bytes each."""
    width = next(width for width in (2, 4, 8) if -numbers[0] <= 1 << 8 * width - 1 and numbers[-1] < 1 << 8 * width - 1)
    header = width.to_bytes(4, "little") + len(numbers).to_bytes(4, "little")
    return header + b"".join([number.to_bytes(width, "little", signed=True) for number in numbers])


def dump_hash(pairs: Sequence[tuple[bytes, bytes]]) -> Slices[bytes]:
    """Returns the payload of a hash whose fields do not expire by themselves."""
    if len(pairs) <= _HASH_LISTPACK_ENTRIES_MAX and all(
        len(field) <= _LISTPACK_ITEM_BYTES_MAX and len(value) <= _LISTPACK_ITEM_BYTES_MAX for field, value in pairs
    ):
        writer = _Writer(payloads.TYPE_HASH_LISTPACK)
        writer.string(listpack.pack([item for pair in pairs for item in pair]))
        return writer.sealed()
    writer = _Writer(payloads.TYPE_HASH)
    writer.length(len(pairs))
    for field, value in pairs:
        if writer.pace.is_full(2):
            yield
        writer.string(field)
        writer.string(value)
    return writer.sealed()


def dump_expiring_hash(fields: Iterable[tuple[bytes, bytes, int]], count: int, first_ms: int) -> Slices[bytes]:
    """Returns the payload of a hash of `count` fields, each with its value and its expiry, 0 for never; `first_ms` is the
    first expiry. Redis 7.4 writes for each field how much later, plus 1, it expires; 0 for never."""
    writer = _Writer(payloads.TYPE_HASH_METADATA)
    writer.out += first_ms.to_bytes(8, "little")
    writer.length(count)
    for field, value, expires_at_ms in fields:
        if writer.pace.is_full(3):
            yield
        writer.length(expires_at_ms - first_ms + 1 if expires_at_ms else 0)
        writer.string(field)
        writer.string(value)
    return writer.sealed(payloads.VERSION_OF_FIELD_EXPIRIES)


def dump_zset(ranked: Sequence[tuple[float, bytes]]) -> Slices[bytes]:
    """Returns the payload of a sorted set, from its scores and members in their order."""
    if len(ranked) <= _ZSET_LISTPACK_ENTRIES_MAX and all(
        len(member) <= _LISTPACK_ITEM_BYTES_MAX for _, member in ranked
    ):
        writer = _Writer(payloads.TYPE_ZSET_LISTPACK)
        entries: list[bytes] = []
        for score, member in ranked:
            entries += (member, score_text(score) if score else b"0")
        writer.string(listpack.pack(entries))
        return writer.sealed()
    writer = _Writer(payloads.TYPE_ZSET_2)
    writer.length(len(ranked))
    for score, member in reversed(ranked):
        if writer.pace.is_full():
            yield
        writer.string(member)
        writer.out += _DOUBLE.pack(score)
    return writer.sealed()


def dump_list(elements: Sequence[bytes]) -> Slices[bytes]:
    """Returns the payload of a list, in nodes as if its elements had been pushed one by one to its end."""
    nodes: list[bytes] = []
    body, count, room = bytearray(), 0, -1
    writer = _Writer(payloads.TYPE_LIST_QUICKLIST_2)
    for element in elements:
        if writer.pace.is_full(2):
            yield
        if len(element) + _LIST_NODE_OVERHEAD_BYTES > room:
            if count:
                nodes.append(listpack.sealed(body, count))
            body, count, room = bytearray(), 0, _LIST_NODE_BYTES_MAX - _LISTPACK_EMPTY_BYTES
        before = len(body)
        listpack.append(body, element)
        count += 1
        room -= len(body) - before
    if count:
        nodes.append(listpack.sealed(body, count))
    writer.length(len(nodes))
    for node in nodes:
        if writer.pace.is_full(2):
            yield
        writer.length(_PACKED_NODE)
        writer.string(node)
    return writer.sealed()


def dump_stream(entries: Sequence[stream_nodes.Entry]) -> Slices[bytes]:
    """Returns the payload of a stream that has entries, as if these had been added one by one and none had been deleted."""
    writer = _Writer(payloads.TYPE_STREAM_2)
    nodes = yield from stream_nodes.pack(entries, writer.pace)
    writer.length(len(nodes))
    for first, node in nodes:
        if writer.pace.is_full():
            yield
        writer.string(first)
        writer.string(node)
    last, first = entries[-1][0], entries[0][0]
    nothing_deleted, no_groups = bytes(16), 0
    writer.length(len(entries))
    for field in (last, first, nothing_deleted):
        for number in stream_nodes.ID.unpack(field):
            writer.length(number)
    writer.length(len(entries))
    writer.length(no_groups)
    return writer.sealed()
