"""Reads payloads of RESTORE; payloads.py has the theory.

A compressed string may be 88 times as long as its compressed form, and a listpack of such a size may have an entry for
every two bytes. So a small payload can stand for very much. `bytes_max` bounds the sum of all strings, and of a fixed cost
of each; what exceeds it is refused before it is made. The work is done in slices: an item is a step, and so is each run of
a compressed string.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf, isnan
from struct import Struct
from typing import Final

from server.core.formats import listpack, lzf, payloads, stream_nodes, ziplist
from server.core.formats.numbers import double_of
from server.core.formats.pausing import Pace, Slices, run_through
from server.core.formats.payloads import (
    BAD_FORMAT,
    HASH,
    LIST,
    SET,
    STREAM,
    STRING,
    ZSET,
    PayloadError,
    TooLarge,
    Value,
)

_DOUBLE: Final = Struct("<d")
_SCORE: Final = Struct(">d")
_EXPIRY_MS_MAX: Final = (1 << 48) - 2  # as in Redis 7.4
_INTSET_WIDTHS: Final = (2, 4, 8)
_PLAIN_NODE: Final = 1
_PACKED_NODE: Final = 2
_ITEM_BYTES: Final = 16  # the cost of a string beside its bytes: about half of what an entry of a record costs

Pair = tuple[bytes, bytes]
_Unpack = Callable[[bytes, int, Pace], Slices[list[bytes]]]


class _Reader:
    """The rest of a payload. It raises ValueError beyond the end, and TooLarge for more than it may make."""

    __slots__ = ("body", "bytes_left", "pace", "place")

    def __init__(self, body: bytes, bytes_max: int) -> None:
        self.body = body
        self.place = 0
        self.bytes_left = bytes_max
        self.pace = Pace()

    def read(self, size: int) -> bytes:
        """The next bytes."""
        end = self.place + size
        if end > len(self.body):
            raise ValueError("the payload ends too early")
        found = self.body[self.place : end]
        self.place = end
        return found

    def length(self) -> int:
        """A length, or any other number of up to 64 bits."""
        first = self.read(1)[0]
        if first < 0x40 or first >= 0xC0:
            return first & 0x3F
        if first < 0x80:
            return (first & 0x3F) << 8 | self.read(1)[0]
        if first > 0x81:
            raise ValueError("a length has an unknown form")
        return int.from_bytes(self.read(4 if first == 0x80 else 8), "big")

    def string(self) -> Slices[bytes]:
        """Returns a string that becomes an item or a part of one."""
        return self.charged((yield from self.block()))

    def charged(self, string: bytes) -> bytes:
        """The same string, once it is certain that it may be an item."""
        self._charge(len(string), 1)
        return string

    def block(self) -> Slices[bytes]:
        """Returns a string: an integer spelled out, or decompressed, or as it is."""
        if self.pace.is_full():
            yield
        first = self.body[self.place] if self.place < len(self.body) else 0
        if first < 0xC0:
            return self.read(self.length())
        self.place += 1
        if first <= 0xC2:
            return b"%d" % int.from_bytes(self.read(1 << (first & 3)), "little", signed=True)
        if first > 0xC3:
            raise ValueError("a string has an unknown form")
        compressed_bytes, size = self.length(), self.length()
        compressed = self.read(compressed_bytes)
        if size > self.bytes_left:
            raise TooLarge
        return (yield from lzf.decompress(compressed, size, self.pace))

    def entries(self, unpack: _Unpack) -> Slices[list[bytes]]:
        """Returns the entries of a block that is a list of its own."""
        block = yield from self.block()
        return (yield from self.unpacked(unpack, block))

    def unpacked(self, unpack: _Unpack, block: bytes) -> Slices[list[bytes]]:
        """As `entries`, of a block that has been read."""
        entries = yield from unpack(block, self.bytes_left // _ITEM_BYTES, self.pace)
        self._charge(sum(map(len, entries)), len(entries))
        return entries

    def _charge(self, size: int, count: int) -> None:
        self.bytes_left -= size + _ITEM_BYTES * count
        if self.bytes_left < 0:
            raise TooLarge

    def strings(self, each: int) -> Slices[list[bytes]]:
        """Returns `each` strings for each item of a count that comes first."""
        count = self.length()
        if count * each > len(self.body):
            raise ValueError("a payload has fewer items than it says")
        found: list[bytes] = []
        while len(found) < count * each:
            string = yield from self.string()
            found.append(string)
        return found


def load(payload: bytes, bytes_max: int) -> Slices[Value]:
    """Returns what a payload stands for. Raises PayloadError with Redis' text, or TooLarge."""
    body = payloads.unseal(payload)
    read = _READERS.get(body[0]) if body else None
    if read is None:
        raise PayloadError(BAD_FORMAT)
    reader = _Reader(body, bytes_max)
    reader.place = 1
    try:
        value = yield from read(reader)
    except ValueError as error:
        raise PayloadError(BAD_FORMAT) from error
    if value.kind not in (STRING, LIST, STREAM):
        names: set[bytes] = set()
        for name, _ in value.items:
            if reader.pace.is_full():
                yield
            names.add(name)
        if len(names) != len(value.items):
            raise PayloadError(BAD_FORMAT)
    if value.kind not in (STRING, STREAM) and not value.items:
        raise PayloadError(BAD_FORMAT)
    return value


def load_libraries(payload: bytes, bytes_max: int) -> list[bytes]:
    """The texts of the libraries in a payload of FUNCTION DUMP. Raises PayloadError with Redis' text, or TooLarge."""
    reader, found = _Reader(payloads.unseal(payload), bytes_max), list[bytes]()
    while reader.place < len(reader.body):
        if reader.read(1)[0] != payloads.FUNCTION:
            raise PayloadError("given type is not a function")
        try:
            found.append(run_through(reader.string()))
        except ValueError as error:
            raise PayloadError("Failed loading library payload") from error
    return found


def _string(reader: _Reader) -> Slices[Value]:
    return Value(STRING, (yield from reader.string()), [], {})


def _of_singles(kind: int, read: Slices[list[bytes]]) -> Slices[Value]:
    strings = yield from read
    return Value(kind, b"", _singles(strings), {})


def _singles(strings: list[bytes]) -> list[Pair]:
    """The items of a list or a set."""
    return [(string, b"") for string in strings]


def _of_pairs(strings: list[bytes]) -> list[Pair]:
    if len(strings) % 2:
        raise ValueError("a payload ends within a pair")
    return list(zip(strings[::2], strings[1::2], strict=True))


def _hash(read: Slices[list[bytes]]) -> Slices[Value]:
    return Value(HASH, b"", _of_pairs((yield from read)), {})


def _zset(read: Slices[list[bytes]]) -> Slices[Value]:
    items: list[Pair] = []
    pace = Pace()
    for member, text in _of_pairs((yield from read)):
        if pace.is_full():
            yield
        items.append((member, _score(double_of(text))))
    return Value(ZSET, b"", items, {})


def _score(score: float | None) -> bytes:
    if score is None or isnan(score):
        raise ValueError("a score is no number")
    return _SCORE.pack(score)


def _zset_of_texts(reader: _Reader) -> Slices[Value]:
    """Scores as a byte, their size, and a text; the largest sizes are words of their own."""
    items: list[Pair] = []
    for _ in range(reader.length()):
        member = yield from reader.string()
        size = reader.read(1)[0]
        if size >= 0xFD:
            score: float | None = {0xFF: -inf, 0xFE: inf}.get(size)
        else:
            score = double_of(reader.read(size))
        items.append((member, _score(score)))
    return Value(ZSET, b"", items, {})


def _zset_2(reader: _Reader) -> Slices[Value]:
    items: list[Pair] = []
    for _ in range(reader.length()):
        member = yield from reader.string()
        score: float = _DOUBLE.unpack(reader.read(8))[0]
        items.append((member, _score(score)))
    return Value(ZSET, b"", items, {})


def _intset(reader: _Reader) -> Slices[Value]:
    data = yield from reader.block()
    width, count = int.from_bytes(data[:4], "little"), int.from_bytes(data[4:8], "little")
    if width not in _INTSET_WIDTHS or len(data) != 8 + width * count:
        raise ValueError("an intset has another size")
    places = range(8, len(data), width)
    items: list[Pair] = []
    before: int | None = None
    for place in places:
        if reader.pace.is_full():
            yield
        number = int.from_bytes(data[place : place + width], "little", signed=True)
        if before is not None and number <= before:
            raise ValueError("an intset is not sorted")
        before = number
        items.append((reader.charged(b"%d" % number), b""))
    return Value(SET, b"", items, {})


def _quicklist(reader: _Reader) -> Slices[Value]:
    items: list[Pair] = []
    for _ in range(reader.length()):
        node = _filled((yield from reader.block()))
        items += _singles((yield from reader.unpacked(ziplist.unpack, node)))
    return Value(LIST, b"", items, {})


def _quicklist_2(reader: _Reader) -> Slices[Value]:
    items: list[Pair] = []
    for _ in range(reader.length()):
        container = reader.length()
        node = _filled((yield from reader.block()))
        if container == _PLAIN_NODE:
            items.append((reader.charged(node), b""))
        elif container == _PACKED_NODE:
            items += _singles((yield from reader.unpacked(listpack.unpack, node)))
        else:
            raise ValueError("a node of a list has an unknown form")
    return Value(LIST, b"", items, {})


def _filled(node: bytes) -> bytes:
    if not node:
        raise ValueError("a node of a list is empty")
    return node


def _stream(reader: _Reader) -> Slices[Value]:
    """The entries. What follows them, ids and consumer groups, has no place here."""
    items: list[Pair] = []

    def add(entry: Pair) -> None:
        if items and entry[0] < items[-1][0]:
            raise ValueError("an entry of a stream is older than the one before")
        reader.charged(entry[1])
        items.append(entry)

    before = b""
    for _ in range(reader.length()):
        first = yield from reader.block()
        if first <= before:
            raise ValueError("a node of a stream is not behind the one before")
        before = first
        node = yield from reader.block()
        left = reader.bytes_left
        words = yield from listpack.unpack(node, left // _ITEM_BYTES, reader.pace)
        yield from stream_nodes.unpack(first, words, add, reader.pace)
        reader.charged(node[: max(0, len(node) - left + reader.bytes_left)])  # deleted entries, which cost time, too
    if reader.length() != len(items):
        raise ValueError("a stream has another number of entries")
    return Value(STREAM, b"", items, {})


def _expiring_hash(reader: _Reader, is_relative: bool) -> Slices[Value]:
    """Field expiries of 7.4: relative to the first one, plus 1; 0 for never."""
    base_ms = int.from_bytes(reader.read(8), "little") - 1 if is_relative else 0
    items: list[Pair] = []
    expiries_ms: dict[bytes, int] = {}
    for _ in range(reader.length()):
        expiry_ms = reader.length()
        field = yield from reader.string()
        items.append((field, (yield from reader.string())))
        if expiry_ms:
            expiries_ms[field] = _checked_expiry_ms(base_ms + expiry_ms)
    return Value(HASH, b"", items, expiries_ms)


def _expiring_listpack(reader: _Reader, has_first: bool) -> Slices[Value]:
    """A listpack of fields, values and expiries in ms since 1970, 0 for never."""
    if has_first:
        reader.read(8)
    strings = yield from reader.entries(listpack.unpack)
    if len(strings) % 3:
        raise ValueError("a listpack ends within a field")
    items = list(zip(strings[::3], strings[1::3], strict=True))
    expiries_ms = {
        field: _checked_expiry_ms(int(text))
        for field, text in zip(strings[::3], strings[2::3], strict=True)
        if text != b"0"
    }
    return Value(HASH, b"", items, expiries_ms)


def _checked_expiry_ms(expiry_ms: int) -> int:
    if not 0 < expiry_ms <= _EXPIRY_MS_MAX:
        raise ValueError("an expiry is out of range")
    return expiry_ms


_READERS: Final[dict[int, Callable[[_Reader], Slices[Value]]]] = {
    payloads.TYPE_STRING: _string,
    payloads.TYPE_LIST: lambda reader: _of_singles(LIST, reader.strings(1)),
    payloads.TYPE_SET: lambda reader: _of_singles(SET, reader.strings(1)),
    payloads.TYPE_ZSET: _zset_of_texts,
    payloads.TYPE_HASH: lambda reader: _hash(reader.strings(2)),
    payloads.TYPE_ZSET_2: _zset_2,
    payloads.TYPE_HASH_ZIPMAP: lambda reader: _hash(reader.entries(ziplist.unpack_zipmap)),
    payloads.TYPE_LIST_ZIPLIST: lambda reader: _of_singles(LIST, reader.entries(ziplist.unpack)),
    payloads.TYPE_SET_INTSET: _intset,
    payloads.TYPE_ZSET_ZIPLIST: lambda reader: _zset(reader.entries(ziplist.unpack)),
    payloads.TYPE_HASH_ZIPLIST: lambda reader: _hash(reader.entries(ziplist.unpack)),
    payloads.TYPE_LIST_QUICKLIST: _quicklist,
    payloads.TYPE_STREAM: _stream,
    payloads.TYPE_HASH_LISTPACK: lambda reader: _hash(reader.entries(listpack.unpack)),
    payloads.TYPE_ZSET_LISTPACK: lambda reader: _zset(reader.entries(listpack.unpack)),
    payloads.TYPE_LIST_QUICKLIST_2: _quicklist_2,
    payloads.TYPE_STREAM_2: _stream,
    payloads.TYPE_SET_LISTPACK: lambda reader: _of_singles(SET, reader.entries(listpack.unpack)),
    payloads.TYPE_STREAM_3: _stream,
    payloads.TYPE_HASH_METADATA_OLD: lambda reader: _expiring_hash(reader, is_relative=False),
    payloads.TYPE_HASH_LISTPACK_EX_OLD: lambda reader: _expiring_listpack(reader, has_first=False),
    payloads.TYPE_HASH_METADATA: lambda reader: _expiring_hash(reader, is_relative=True),
    payloads.TYPE_HASH_LISTPACK_EX: lambda reader: _expiring_listpack(reader, has_first=True),
}
