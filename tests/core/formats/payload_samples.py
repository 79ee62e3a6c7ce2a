"""Payloads that redis-server 7.0.15 wrote, older and newer ones, and what they stand for."""

from __future__ import annotations

import struct

from server.core.formats.listpack import pack
from server.core.formats.payloads import HASH, LIST, SET, STRING, ZSET, seal

Expected = tuple[int, bytes, list[tuple[bytes, bytes]]]


def score(number: float) -> bytes:
    """A score as values have it."""
    return struct.pack(">d", number)


def singles(*elements: bytes) -> list[tuple[bytes, bytes]]:
    """Items of a set or a list."""
    return [(element, b"") for element in elements]


# Written by redis-server 7.0.15.
WRITTEN: dict[str, tuple[bytes, Expected]] = {
    "string": (b"\x00\x05hello\n\x00cr\xdfve4 \n", (STRING, b"hello", [])),
    "integer": (b"\x00\xc1.\xfb\n\x00\x9d\xab%\xf0\xf7S\xe9\xb6", (STRING, b"-1234", [])),
    "compressed": (b"\x00\xc3\n<\x02aba\xe0.\x01\x01ab\n\x00\xbb\x16\xd3\xeb\xaeo\xc5t", (STRING, b"ab" * 30, [])),
    "intset": (
        b"\x0b\x14\x04\x00\x00\x00\x03\x00\x00\x00\x90\xee\xfe\xff\x01\x00\x00\x00\x02\x00\x00\x00\n\x00]\x9d\xf7\xda/C\xd0k",
        (SET, b"", singles(b"-70000", b"1", b"2")),
    ),
    "set": (b"\x02\x02\x01a\x01b\n\x00\xfed!%\xeb\x03=\r", (SET, b"", singles(b"a", b"b"))),
    "hash": (
        b"\x10\x12\x12\x00\x00\x00\x04\x00\x81f\x02\x81v\x02\x81g\x02\x01\x01\xff\n\x00#\xc1\xa5\xe3]\xfa\xe8\x1c",
        (HASH, b"", [(b"f", b"v"), (b"g", b"1")]),
    ),
    "large hash": (
        b"\x04\x01\x01f\xc3\t@A\x01vv\xe04\x00\x01vv\n\x00=q\xbeR7\x86\xcfE",
        (HASH, b"", [(b"f", b"v" * 65)]),
    ),
    "sorted set": (
        b"\x11\x1c\x1c\x00\x00\x00\x06\x00\x81a\x02\x01\x01\x81b\x02\x832.5\x04\x81c\x02\x83inf\x04\xff\n\x00"
        b"k\x1d\xde\xdc\xe8\xe2\xc3\x99",
        (ZSET, b"", [(b"a", score(1)), (b"b", score(2.5)), (b"c", score(float("inf")))]),
    ),
    "large sorted set": (
        b"\x05\x02\xc3\t@A\x01aa\xe04\x00\x01aa\x00\x00\x00\x00\x00\x00\xf8?\x01b\x00\x00\x00\x00\x00\x00\xf0\xff\n\x00"
        b"\xd05\xb3p\x0b\xd4\xc0\r",
        (ZSET, b"", [(b"a" * 65, score(1.5)), (b"b", score(float("-inf")))]),
    ),
    "list": (
        b"\x12\x01\x02\x15\x15\x00\x00\x00\x03\x00\x83one\x04\x02\x01\x85three\x06\xff\n\x00\xa2\xcd\xcbA\x82s\x17\xf5",
        (LIST, b"", singles(b"one", b"2", b"three")),
    ),
}


def _block(data: bytes) -> bytes:
    """A block that is neither an integer nor compressed, of less than 16 KB."""
    return (0x4000 | len(data)).to_bytes(2, "big") + data


def ziplist(*entries: bytes) -> bytes:
    """A ziplist; each entry comes with its type and size, and is shorter than 254 bytes."""
    body, before = b"", 0
    for entry in entries:
        body += bytes((before,)) + entry
        before = len(entry) + 1
    header = (len(body) + 11).to_bytes(4, "little") + (10 + len(body) - before).to_bytes(4, "little")
    return header + len(entries).to_bytes(2, "little") + body + b"\xff"


_LONG = b"\x40\x64" + b"l" * 100
_NUMBERS = ziplist(
    b"\xf1",
    b"\xfd",
    b"\xfe\x80",
    b"\xc0\x00\x80",
    b"\xf0\x00\x00\x80",
    b"\xd0\x00\x00\x00\x80",
    b"\xe0" + bytes(7) + b"\x80",
)
_NUMBERS_READ = (b"0", b"12", b"-128", b"-32768", b"-8388608", b"-2147483648", b"-9223372036854775808")
_PAIRS = ziplist(b"\x01a", b"\xf2", b"\x01b", b"\x032.5")

# As redis-server before 7.0 wrote them; 7.0 reads them.
OLDER: dict[str, tuple[bytes, Expected]] = {
    "list": (seal(b"\x01\x02\x01a\xc0\x05", 1), (LIST, b"", singles(b"a", b"5"))),
    "sorted set": (
        seal(b"\x03\x04\x01a\x032.5\x01b\xfe\x01c\xff\x01d\x02-0", 7),
        (
            ZSET,
            b"",
            [(b"a", score(2.5)), (b"b", score(float("inf"))), (b"c", score(float("-inf"))), (b"d", score(-0.0))],
        ),
    ),
    "zipmap": (
        seal(b"\x09" + _block(b"\x02\x03foo\x03\x00bar\x05hello\x05\x02worldxx\xff"), 2),
        (HASH, b"", [(b"foo", b"bar"), (b"hello", b"world")]),
    ),
    "ziplist of numbers": (seal(b"\x0a" + _block(_NUMBERS), 6), (LIST, b"", singles(*_NUMBERS_READ))),
    "ziplist of a long string": (
        seal(b"\x0a" + _block(ziplist(_LONG, b"\x01a")), 6),
        (LIST, b"", singles(b"l" * 100, b"a")),
    ),
    "quicklist": (
        seal(b"\x0e\x02" + _block(ziplist(b"\x01a")) + _block(ziplist(b"\xf3", _LONG)), 7),
        (LIST, b"", singles(b"a", b"2", b"l" * 100)),
    ),
    "hash in a ziplist": (seal(b"\x0d" + _block(_PAIRS), 9), (HASH, b"", [(b"a", b"1"), (b"b", b"2.5")])),
    "sorted set in a ziplist": (seal(b"\x0c" + _block(_PAIRS), 9), (ZSET, b"", [(b"a", score(1)), (b"b", score(2.5))])),
    "length of eight bytes": (seal(b"\x00\x81" + bytes(7) + b"\x01x", 9), (STRING, b"x", [])),
    "what follows the value": (seal(b"\x00\x01xand more", 9), (STRING, b"x", [])),
    "plain node": (seal(b"\x12\x02\x01\x01x\x02" + _block(pack([b"y"]))), (LIST, b"", singles(b"x", b"y"))),
}

_FIRST_MS = 1_900_000_000_000
_FIELDS = [(b"f", b"v"), (b"g", b"w"), (b"h", b"x")]
_EXPIRIES = {b"f": _FIRST_MS, b"h": _FIRST_MS + 100}
_TRIPLES = pack([b"g", b"w", b"0", b"f", b"v", b"%d" % _FIRST_MS, b"h", b"x", b"%d" % (_FIRST_MS + 100)])
_FIRST = _FIRST_MS.to_bytes(8, "little")
_LATER = (_FIRST_MS + 100).to_bytes(8, "big")

# As redis-server 7.2 and 7.4 write them; 7.0 reads none of them. The last has the expiries of fields.
NEWER: dict[str, tuple[bytes, Expected, dict[bytes, int]]] = {
    "set in a listpack": (seal(b"\x14" + _block(pack([b"a", b"1"])), 11), (SET, b"", singles(b"1", b"a")), {}),
    "expiring fields": (
        seal(b"\x18" + _FIRST + b"\x03\x01\x01f\x01v\x00\x01g\x01w\x40\x65\x01h\x01x", 12),
        (HASH, b"", _FIELDS),
        _EXPIRIES,
    ),
    "expiring fields of a release candidate": (
        seal(
            b"\x16\x03\x81" + _FIRST_MS.to_bytes(8, "big") + b"\x01f\x01v\x00\x01g\x01w\x81" + _LATER + b"\x01h\x01x",
            12,
        ),
        (HASH, b"", _FIELDS),
        _EXPIRIES,
    ),
    "expiring fields in a listpack": (seal(b"\x19" + _FIRST + _block(_TRIPLES), 12), (HASH, b"", _FIELDS), _EXPIRIES),
    "expiring fields in a listpack of a release candidate": (
        seal(b"\x17" + _block(_TRIPLES), 12),
        (HASH, b"", _FIELDS),
        _EXPIRIES,
    ),
}
