"""The payloads of DUMP and RESTORE: one value in the format of Redis' RDB files, with a version and a checksum.

    u8 type, the value as of that type, u16 version of the format, u64 checksum (CRC-64 of Jones), little endian

Theory. DUMP writes version 10 as Redis 7.0 does, byte for byte where Redis' own choice depends on the value alone: small
collections as intsets and listpacks, larger ones item by item. (Redis writes fields in the order in which they came, and
large sets and hashes in the order of its hash table; here they come in the order of their bytes.) Fields with an expiry of
their own came with Redis 7.4, so a hash that has some is written as 7.4 writes it, in version 12, which is also the latest
that is read. Of a stream its entries are read, and not its consumer groups; one without entries is one without items. What
is read comes from anyone: every length is checked before it is used, nothing larger than what a payload
of this size can stand for is made, and a value that Redis refuses is refused: an empty collection, an item that comes
twice, a score that is no number.

payload_writer.py and payload_reader.py have the two directions; this file has what both share.

Source: rdb.c and cluster.c of Redis 7.0.15, and rdb.c of 7.4 for the types 22 to 25.
"""

from __future__ import annotations

from typing import Final

import anycrc

# What a payload holds; the types of the format are encodings of these.
STRING: Final = 0
LIST: Final = 1
SET: Final = 2
ZSET: Final = 3
HASH: Final = 4
STREAM: Final = 5

VERSION: Final = 10
VERSION_OF_FIELD_EXPIRIES: Final = 12
VERSION_MAX: Final = 12

# Types of the format.
TYPE_STRING: Final = 0
TYPE_LIST: Final = 1
TYPE_SET: Final = 2
TYPE_ZSET: Final = 3  # scores as text
TYPE_HASH: Final = 4
TYPE_ZSET_2: Final = 5  # scores in eight bytes
TYPE_HASH_ZIPMAP: Final = 9
TYPE_LIST_ZIPLIST: Final = 10
TYPE_SET_INTSET: Final = 11
TYPE_ZSET_ZIPLIST: Final = 12
TYPE_HASH_ZIPLIST: Final = 13
TYPE_LIST_QUICKLIST: Final = 14
TYPE_STREAM: Final = 15  # of Redis 5.0
TYPE_HASH_LISTPACK: Final = 16
TYPE_ZSET_LISTPACK: Final = 17
TYPE_LIST_QUICKLIST_2: Final = 18
TYPE_STREAM_2: Final = 19  # of 7.0, with ids of what was deleted
TYPE_SET_LISTPACK: Final = 20
TYPE_STREAM_3: Final = 21  # of 7.2, with times of consumers
TYPE_HASH_METADATA_OLD: Final = 22  # of a release candidate of 7.4: field expiries are absolute
TYPE_HASH_LISTPACK_EX_OLD: Final = 23
TYPE_HASH_METADATA: Final = 24
TYPE_HASH_LISTPACK_EX: Final = 25
FUNCTION: Final = 245  # a library of functions, in the payload of FUNCTION DUMP

FOOTER_BYTES: Final = 10
_CHECKSUM_BYTES: Final = 8
_CRC: Final = anycrc.Model("CRC64-REDIS")

WRONG_CHECKSUM: Final = "DUMP payload version or checksum are wrong"
BAD_FORMAT: Final = "Bad data format"


class PayloadError(Exception):
    """A payload that RESTORE refuses; the text is Redis'."""


class TooLarge(Exception):
    """A payload that stands for more than the caller allows."""


class Value:
    """What a payload stands for.

    A string has `string`. A collection has `items`: of a list (element, empty) in order, of a set (element, empty), of a
    hash (field, value), of a sorted set (member, score as a big-endian double), of a stream (id, fields and values as an
    array) as in stream_nodes.py. `expiries_ms` has the fields of a hash that expire by themselves, in ms since 1970.
    """

    __slots__ = ("expiries_ms", "items", "kind", "string")

    def __init__(
        self, kind: int, string: bytes, items: list[tuple[bytes, bytes]], expiries_ms: dict[bytes, int]
    ) -> None:
        self.kind = kind
        self.string = string
        self.items = items
        self.expiries_ms = expiries_ms


def seal(body: bytes, version: int = VERSION) -> bytes:
    """A payload from its type and value."""
    covered = body + version.to_bytes(2, "little")
    checksum: int = _CRC.calc(covered)
    return covered + checksum.to_bytes(_CHECKSUM_BYTES, "little")


def unseal(payload: bytes) -> bytes:
    """The type and value of a payload. Raises PayloadError for another version or checksum."""
    if len(payload) < FOOTER_BYTES:
        raise PayloadError(WRONG_CHECKSUM)
    version = int.from_bytes(payload[-FOOTER_BYTES:-_CHECKSUM_BYTES], "little")
    covered = payload[:-_CHECKSUM_BYTES]
    if version > VERSION_MAX or _CRC.calc(covered) != int.from_bytes(payload[-_CHECKSUM_BYTES:], "little"):
        raise PayloadError(WRONG_CHECKSUM)
    return payload[:-FOOTER_BYTES]
