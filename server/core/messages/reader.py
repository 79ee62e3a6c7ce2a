"""Reads the items of one message as typed values. An item that cannot be read is the peer's fault: `Malformed`.

Theory. A message is a list of byte strings and of lists of byte strings: kind, a reading of the sender's clock, a
number, and then the items of its kind. Each kind declares its items by reading them here, one by one, in order. So the
declaration is the decoder, the validation, and the type of what the handler gets, all in one. A test that reads a
declaration with a reader of its own learns what each item is (tests/core/messages/). An item that is left over is an
error, too: later versions send more items only to nodes that have announced that they can read these
(protocol/peer_versions.py).

The methods check type, length, range and structure; records are verified whole (records/structure.py). Error texts name
an item by its index, and contain at most a few bytes of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from mypy_extensions import i64

from protocol.bounds import COUNT_MAX, EPOCH_MAX, NODE_ID_BYTES_MAX, NUMBER_MAX, TIME_MS_MAX, is_node_id
from protocol.native import native
from server.core.records.patches import verify_patch
from server.core.records.structure import verify

_DIGITS_MAX: Final = 20
_PREFIX_BYTES: Final = 6  # of a storage key: slot and hash
_SLOT_END: Final = 0x40  # greater than the first byte of all storage keys
CHECKSUM_BYTES: Final = 8
HEADER_ITEMS: Final = 3  # kind, clock, number
_SHOWN_BYTES: Final = 40
_native_sound_pairs: Final = native(
    "sound_pairs"
)  # None, or: (pairs, index) -> the first one that is to be looked at here


class Malformed(Exception):
    """A message that does not decode. It has changed nothing. Its connection must be closed."""


def number_in(item: Any, least: int, most: int) -> int:
    """HOT. Returns an item as a decimal number from `least` to `most`. Raises Malformed."""
    if isinstance(item, bytes) and item.isdigit() and len(item) <= _DIGITS_MAX:
        number = int(item)
        if least <= number <= most:
            return number
    raise Malformed(f"{shown(item)} is no number from {least} to {most}")


def request_number_in(item: Any) -> int:
    """HOT. Returns the number of a request. The same as `number_in`, but quicker for nearly all numbers."""
    if isinstance(item, bytes) and item.isdigit() and len(item) < _DIGITS_MAX:
        return int(item)
    return number_in(item, 0, NUMBER_MAX)


def is_storage_key(key: bytes) -> bool:
    """HOT. Whether bytes can be the storage key of a record."""
    return len(key) >= _PREFIX_BYTES and key[0] < _SLOT_END


def shown(item: Any) -> str:
    """Returns an item as an error text shows it: cut if it is long."""
    if type(item) is not bytes:
        return f"an item of type {type(item).__name__}"
    return repr(item) if len(item) <= _SHOWN_BYTES else f"{item[:_SHOWN_BYTES]!r}…"


class Reader:
    """The items of one message, from `index` on. Each method reads the next item or items, or raises Malformed."""

    def __init__(self, message: list[Any], number: int, index: int) -> None:
        self.number = number  # of the request that the message belongs to
        self._message = message
        self._index = index

    def end(self) -> None:
        """HOT. Raises Malformed if there are more items."""
        if self._index != len(self._message):
            raise Malformed(f"{len(self._message) - self._index} items too many")

    def left(self) -> int:
        """Returns how many items are left."""
        return len(self._message) - self._index

    def _next(self) -> Any:
        index = self._index
        if index >= len(self._message):
            raise Malformed(f"it ends before item {index}")
        self._index = index + 1
        return self._message[index]

    # --- one item

    def data(self, bytes_max: int = 1 << 32, bytes_min: int = 0) -> bytes:
        """HOT. A byte string."""
        item = self._next()
        if not isinstance(item, bytes):
            raise Malformed(f"{shown(item)} is no byte string")
        if not bytes_min <= len(item) <= bytes_max:
            raise Malformed(f"an item of {len(item)} bytes, not from {bytes_min} to {bytes_max}")
        return item

    def integer(self, most: int, least: int = 0) -> int:
        """HOT. A decimal number."""
        return number_in(self._next(), least, most)

    def header_number(self, most: int, least: int = 0) -> int:
        """Returns the number in the message's header, for kinds where it carries a value and names no request."""
        if not least <= self.number <= most:
            raise Malformed(f"{self.number} is no number from {least} to {most}")
        return self.number

    def flag(self) -> bool:
        """`1` or `0`."""
        return self.word((b"1", b"0")) == b"1"

    def word(self, words: Sequence[bytes]) -> bytes:
        """One of `words`."""
        item = self.data()
        if item not in words:
            raise Malformed(f"{shown(item)} is none of {b' '.join(words).decode()}")
        return item

    def text(self, bytes_max: int) -> str:
        """A text in UTF-8."""
        try:
            return self.data(bytes_max).decode()
        except UnicodeDecodeError:
            raise Malformed("an item that is not UTF-8") from None

    def node_id(self) -> str:
        """The id of a node."""
        node = self.text(NODE_ID_BYTES_MAX)
        if not is_node_id(node):
            raise Malformed(f"{node!r} is no node's id")
        return node

    def epoch(self) -> int:
        """The epoch or the revision of a layout."""
        return self.integer(EPOCH_MAX)

    def time_ms(self) -> int:
        """Milliseconds since 1970."""
        return self.integer(TIME_MS_MAX)

    def count(self) -> int:
        """A count of keys, bytes or hints."""
        return self.integer(COUNT_MAX)

    def checksum(self) -> bytes:
        """The checksum of a record."""
        return self.data(CHECKSUM_BYTES, CHECKSUM_BYTES)

    def storage_key(self) -> bytes:
        """HOT. The storage key of a record."""
        key = self.data()
        if not is_storage_key(key):
            raise Malformed(f"{shown(key)} is no storage key")
        return key

    def record(self, words: Sequence[bytes] = ()) -> bytes:
        """HOT. A sound record, or one of `words`, which stand for no record."""
        record = self.data()
        if record not in words and not verify(record):
            raise Malformed(
                f"a record of {len(record)} bytes that is not sound: its checksum or its structure is wrong"
            )
        return record

    def packed(self, item_bytes: int) -> bytes:
        """HOT. A byte string of values of `item_bytes` bytes each."""
        packed = self.data()
        if len(packed) % item_bytes:
            raise Malformed(f"{len(packed)} bytes are no values of {item_bytes} bytes each")
        return packed

    def words(self) -> list[bytes]:
        """HOT. A list of byte strings."""
        item = self._next()
        if type(item) is not list:
            raise Malformed(f"{shown(item)} is no list")
        for word in item:
            if not isinstance(word, bytes):
                raise Malformed(f"{shown(word)} in a list of byte strings")
        found: list[bytes] = item
        return found

    # --- all remaining items

    def storage_keys(self) -> list[bytes]:
        """HOT. Storage keys."""
        keys = self._rest()
        for key in keys:
            if not isinstance(key, bytes) or not is_storage_key(key):
                raise Malformed(f"{shown(key)} is no storage key")
        return keys

    def records(self, words: Sequence[bytes]) -> list[bytes]:
        """HOT. Sound records, or `words`, which stand for no record."""
        records = self._rest()
        for record in records:
            if not isinstance(record, bytes) or not (verify(record) or record in words):
                raise Malformed(f"{shown(record)} is no sound record: its checksum or its structure is wrong")
        return records

    def pairs(self, words: Sequence[bytes] = ()) -> list[bytes]:
        """HOT. Storage key, record, storage key, record, …; one of `words` may stand in place of a record."""
        pairs = self._rest()
        if len(pairs) % 2:
            raise Malformed("a storage key without a record")
        index: i64 = 0
        while index < len(pairs):
            if _native_sound_pairs is not None:
                index = _native_sound_pairs(pairs, index)
                if index >= len(pairs):
                    break
            key, record = pairs[index], pairs[index + 1]
            index += 2
            if not isinstance(key, bytes) or not is_storage_key(key):
                raise Malformed(f"{shown(key)} is no storage key")
            if not isinstance(record, bytes) or not (verify(record) or record in words):
                raise Malformed(f"the record of {shown(key)} is not sound: its checksum or its structure is wrong")
        return pairs

    def patched_pairs(self) -> list[bytes]:
        """Storage key, record or patch, storage key, record or patch, …"""
        pairs = self._rest()
        if len(pairs) % 2 or not pairs:
            raise Malformed("a storage key without a record or patch")
        for index in range(0, len(pairs), 2):
            key, value = pairs[index], pairs[index + 1]
            if not isinstance(key, bytes) or not is_storage_key(key):
                raise Malformed(f"{shown(key)} is no storage key")
            if not isinstance(value, bytes) or not (verify_patch(value) or verify(value)):
                raise Malformed(f"what is sent for {shown(key)} is neither a sound record nor a sound patch")
        return pairs

    def blobs(self) -> list[bytes]:
        """HOT. Byte strings."""
        items = self._rest()
        for item in items:
            if not isinstance(item, bytes):
                raise Malformed(f"{shown(item)} is no byte string")
        return items

    def word_lists(self) -> list[list[bytes]]:
        """HOT. Lists of byte strings, none of them empty."""
        lists = self._rest()
        for words in lists:
            if type(words) is not list or not words:
                raise Malformed(f"{shown(words)} is no list" if words else "an empty command")
            for word in words:
                if not isinstance(word, bytes):
                    raise Malformed(f"{shown(word)} in a list of byte strings")
        return lists

    def message(self) -> list[Any]:
        """A whole message; what its items are says its own kind."""
        message = self._rest()
        if len(message) < HEADER_ITEMS:
            raise Malformed(f"a message of {len(message)} items")
        return message

    def _rest(self) -> list[Any]:
        rest = self._message[self._index :]
        self._index = len(self._message)
        return rest
