"""The kinds of messages for what nodes tell clients unasked (pubsub/): what others have published, which keys have changed.

They go only to nodes that have announced the capability `publishing`, and ALTERED, MADE and FLUSHED to those that have
announced `origins`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from protocol.bounds import COUNT_MAX, COUNTER_MAX
from protocol.frames import encode_message
from server.core.messages.kinds import Kind, nothing
from server.core.messages.reader import Reader

_ITEMS: Final = 3  # of each publication
_PLAIN, _SHARDED = b"m", b"s"


class Publication(NamedTuple):
    """A message that a client has published to a channel, or to a sharded channel."""

    is_sharded: bool
    channel: bytes
    payload: bytes


def _published(items: Reader) -> list[Publication]:
    count = (items.left() + _ITEMS - 1) // _ITEMS
    return [Publication(items.word((_PLAIN, _SHARDED)) == _SHARDED, items.data(), items.data()) for _ in range(count)]


PUBLISHED: Final = Kind(b"PUBLISHED", _published)


def encode_published(reading: int, publications: Sequence[Publication]) -> bytes:
    """Encodes PUBLISHED: what clients of this node have published, in order."""
    items: list[Any] = [b"PUBLISHED", reading, 0]
    for each in publications:
        items += (_SHARDED if each.is_sharded else _PLAIN, each.channel, each.payload)
    return encode_message(tuple(items))


def _keys(items: Reader) -> list[bytes]:
    return [items.data() for _ in range(items.header_number(COUNT_MAX, 1))]


# 1: the sender wants to know of changed keys; 2: by ALTERED and MADE, as some clients do not want to know of their own.
WATCHING: Final = Kind(b"WATCHING", lambda items: items.header_number(2))
CHANGED: Final = Kind(b"CHANGED", _keys)  # keys whose records have changed at the sender; their count is the number


def encode_watching(reading: int, wants: int) -> bytes:
    """Encodes WATCHING: whether this node wants to know which keys change, and how."""
    return encode_message((b"WATCHING", reading, wants))


def encode_changed(reading: int, keys: Sequence[bytes]) -> bytes:
    """Encodes CHANGED: keys whose records have changed here."""
    return encode_message((b"CHANGED", reading, len(keys), *keys))


_DIGEST: Final = 8  # bytes of the digest of a record


class KeyChange(NamedTuple):
    """The change of a key: the digests of its record before and after. Two equal ones stand for a change of which no more
    is known."""

    key: bytes
    before: bytes
    after: bytes


def _change(items: Reader) -> KeyChange:
    return KeyChange(items.data(), items.data(_DIGEST, _DIGEST), items.data(_DIGEST, _DIGEST))


ALTERED: Final = Kind(b"ALTERED", lambda items: [_change(items) for _ in range(items.header_number(COUNT_MAX, 1))])
MADE: Final = Kind(b"MADE", _change)  # a command of the relay with this number has made this change
FLUSHED: Final = Kind(b"FLUSHED", nothing)  # a client of the sender has deleted all keys of a database, or of all


def encode_altered(reading: int, changes: Sequence[KeyChange]) -> bytes:
    """Encodes ALTERED: CHANGED with the records before and after (base/origins.py)."""
    return encode_message((b"ALTERED", reading, len(changes), *[item for change in changes for item in change]))


def encode_made(reading: int, number: int, change: KeyChange) -> bytes:
    """Encodes MADE: a command of relay `number` has made a change."""
    return encode_message((b"MADE", reading, number, *change))


def encode_flushed(reading: int) -> bytes:
    """Encodes FLUSHED: all keys of a database, or of all, were deleted."""
    return encode_message((b"FLUSHED", reading, 0))


class EventSetting(NamedTuple):
    """Which keyspace events are published, by classes (pubsub/events.py), and the clock reading of the change."""

    counter: int
    flags: int


_FLAGS_MAX: Final = (1 << 14) - 1
NOTIFY: Final = Kind(b"NOTIFY", lambda items: EventSetting(items.integer(COUNTER_MAX), items.integer(_FLAGS_MAX)))


def encode_notify(reading: int, setting: EventSetting) -> bytes:
    """Encodes NOTIFY: which keyspace events are published."""
    return encode_message((b"NOTIFY", reading, 0, setting.counter, setting.flags))
