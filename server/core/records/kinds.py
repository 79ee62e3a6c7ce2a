"""Kinds of entries, and which kinds make which type of key (entries.py has the layout of an entry).

| kind | number | type | field | payload |
|---|---|---|---|---|
| VALUE | 0 | string | empty | the bytes |
| TOMBSTONE | 1 | none | empty | empty |
| COUNTER_DELTA | 2 | string | empty | decimal text: the sum of what this actor has added |
| HASH_FIELD | 3 | hash | the field | its value |
| HASH_DELTA | 4 | hash | the field | decimal text, as COUNTER_DELTA |
| SET_ELEMENT | 5 | set | the element | empty |
| MEMBER | 6 | sorted set | the member | its score: 8 bytes, big endian double |
| MEMBER_DELTA | 7 | sorted set | the member | decimal text, as COUNTER_DELTA |
| LIST_ITEM | 8 | list | its position (positions.py) | its value |
| HYPERLOGLOG | 9 | string | empty | the registers, in Redis' own bytes |
| KEY_EXPIRY | 10 | none | empty | empty; the entry's expiry is that of the whole key, 0 for never |
| STREAM_ENTRY | 11 | stream | its id, 16 bytes | its fields and values, as they are answered |

A field of a hash, a set or a sorted set has one value, that of its newest entry. Of a list or a stream each entry
is an item: after concurrent writes a position or an id may have several, which stand in the order of their dots.

A kind that is not in the table comes from a node of a later version. Such an entry is alive and opaque: it is kept and
merged, and its record is never collected.
"""

from __future__ import annotations

from typing import Final

from server.core.records.siblings import TOMBSTONE, VALUE

COUNTER_DELTA: Final = 2
HASH_FIELD: Final = 3
HASH_DELTA: Final = 4
SET_ELEMENT: Final = 5
MEMBER: Final = 6
MEMBER_DELTA: Final = 7
LIST_ITEM: Final = 8
HYPERLOGLOG: Final = 9
KEY_EXPIRY: Final = 10
STREAM_ENTRY: Final = 11

# Types of keys
NONE: Final = 0
STRING: Final = 1
HASH: Final = 2
SET: Final = 3
ZSET: Final = 4
LIST: Final = 5
OPAQUE: Final = 6  # all that the key has was written by a later version
STREAM: Final = 7
COLLECTIONS: Final = (HASH, SET, ZSET, LIST, STREAM)
TYPE_NAMES: Final = ("none", "string", "hash", "set", "zset", "list", "unknown", "stream")

_NO_KIND: Final = -1
# By type: the kind of the entries that have the value of a field, and of those that have what was added to it.
BASE_KINDS: Final = (_NO_KIND, VALUE, HASH_FIELD, SET_ELEMENT, MEMBER, LIST_ITEM, _NO_KIND, STREAM_ENTRY)
DELTA_KINDS: Final = (_NO_KIND, COUNTER_DELTA, HASH_DELTA, _NO_KIND, MEMBER_DELTA, _NO_KIND, _NO_KIND, _NO_KIND)

# Marks: which kinds there are in a record or a chunk, one bit a kind, and whether some field has an expiry of its own.
_MARKED_KINDS: Final = 15  # kinds from here on share one bit
EXPIRY_MARK: Final = 1 << 16
KINDS_MASK: Final = 0xFFFF
PLAIN_MARKS: Final = 1 << VALUE | 1 << TOMBSTONE
TYPE_MARKS: Final = (
    0,
    1 << VALUE | 1 << COUNTER_DELTA | 1 << HYPERLOGLOG,
    1 << HASH_FIELD | 1 << HASH_DELTA,
    1 << SET_ELEMENT,
    1 << MEMBER | 1 << MEMBER_DELTA,
    1 << LIST_ITEM,
    0,
    1 << STREAM_ENTRY,
)
KEY_MARKS: Final = PLAIN_MARKS | 1 << COUNTER_DELTA | 1 << HYPERLOGLOG | 1 << KEY_EXPIRY  # kinds whose field is empty
COLLECTION_MARKS: Final = TYPE_MARKS[HASH] | TYPE_MARKS[SET] | TYPE_MARKS[ZSET] | TYPE_MARKS[LIST] | TYPE_MARKS[STREAM]
OPAQUE_MARKS: Final = KINDS_MASK & ~(KEY_MARKS | COLLECTION_MARKS)
_TYPES: Final = (STRING, NONE, STRING, HASH, HASH, SET, ZSET, ZSET, LIST, STRING, NONE, STREAM)


def mark_of(kind: int, expires_at_ms: int) -> int:
    """Returns the mark of an entry."""
    mark = 1 << min(kind, _MARKED_KINDS)
    return mark | EXPIRY_MARK if expires_at_ms and kind > TOMBSTONE and kind != KEY_EXPIRY else mark


def type_of_kind(kind: int) -> int:
    """Returns the type of a key whose newest entry has this kind; NONE for kinds that make no type."""
    return _TYPES[kind] if kind < len(_TYPES) else OPAQUE


def type_name(key_type: int) -> str:
    """Returns Redis' word for a type."""
    return TYPE_NAMES[key_type]
