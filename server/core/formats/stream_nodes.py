"""The nodes of a stream within a payload: listpacks of some entries each, as Redis keeps streams.

    node: the id of its first entry in 16 bytes, big endian; a listpack
    listpack: live entries, deleted entries, number of fields, the first entry's fields, 0; then the entries
    entry: flags, ms and sequence as differences to the node's id; then the values alone if its fields are those of the
           first entry (flag 2), else the number of fields, field and value in turn; at last how many items it has taken
    a deleted entry has flag 1, and stays until all of its node are deleted

So the fields of the first entry stand for those of every other one: a small node may stand for very much. Whoever reads it
is told of each entry before it is kept (`add`), and may refuse it.

Here an entry is its id in 16 bytes and its fields and values as an array (commands/streams/). Of two entries that have one
id, which both sides of a partition have chosen, both are written, into one node: Redis shows both, but has no place for two
nodes of one id.

Source: t_stream.c of Redis 7.0.15.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from struct import Struct
from typing import Final

from protocol import resp
from server.core.formats import listpack
from server.core.formats.numbers import integer_of
from server.core.formats.pausing import Pace, Slices

ID: Final = Struct(">QQ")  # ms and sequence
_ID_BYTES: Final = 16
_DELETED: Final = 1
_SAME_FIELDS: Final = 2
_NODE_ENTRIES_MAX: Final = 100  # as Redis' stream-node-max-entries and stream-node-max-bytes
_NODE_BYTES_MAX: Final = 4096
_LISTPACK_EMPTY_BYTES: Final = 7
_COUNT_BYTES: Final = 2  # of the number of entries, as of a new node
_HALF: Final = 1 << 63
_MASK: Final = (1 << 64) - 1

Entry = tuple[bytes, bytes]  # id and array
Node = tuple[bytes, bytes]  # id and listpack


def unpack(first: bytes, words: Sequence[bytes], add: Callable[[Entry], None], pace: Pace) -> Slices[None]:
    """Adds the live entries of a node, from its id and the strings of its listpack. Raises ValueError for what Redis would
    not write."""
    if len(first) != _ID_BYTES:
        raise ValueError("a node of a stream has no id")
    first_ms, first_sequence = ID.unpack(first)
    size = _number(words, 2)
    fields = _some(words, 3, size)
    place = 3 + size
    if _number(words, place) or not fields:
        raise ValueError("a node of a stream has no fields")
    heads = [resp.bulk(field) for field in fields]
    place += 1
    while place < len(words):
        start = place
        flags, ms, sequence = _number(words, place), _number(words, place + 1), _number(words, place + 2)
        place += 3
        if flags & _SAME_FIELDS:
            values = _some(words, place, size)
            array = _array(heads, values)
            place += size
        else:
            count = 2 * _number(words, place)
            values = _some(words, place + 1, count)
            array = resp.array([resp.bulk(word) for word in values])
            place += 1 + count
        if _number(words, place) != place - start or not values:
            raise ValueError("an entry of a stream has another size")
        place += 1
        if not flags & _DELETED:
            add((ID.pack(first_ms + ms & _MASK, first_sequence + sequence & _MASK), array))
        if pace.is_full(1 + 2 * len(values)):
            yield


def _array(heads: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """Fields and values as an array, from the encoded fields."""
    pairs = [b"%b$%d\r\n%b\r\n" % (head, len(value), value) for head, value in zip(heads, values, strict=True)]
    return b"*%d\r\n%b" % (2 * len(pairs), b"".join(pairs))


def _number(words: Sequence[bytes], place: int) -> int:
    """The number at a place. Raises ValueError if there is none."""
    number = integer_of(words[place]) if place < len(words) else None
    if number is None:
        raise ValueError("a node of a stream lacks a number")
    return number


def _some(words: Sequence[bytes], place: int, count: int) -> list[bytes]:
    """So many strings from a place on. Raises ValueError if there are fewer."""
    if not 0 <= count <= len(words) - place:
        raise ValueError("an entry of a stream ends too early")
    return list(words[place : place + count])


def pack(entries: Iterable[Entry], pace: Pace) -> Slices[list[Node]]:
    """Returns the nodes of entries, which are in the order of their ids, as if they had been added one by one."""
    nodes: list[Node] = []
    node = None
    for field, array in entries:
        words = resp.bulks_of(array)
        if pace.is_full(1 + len(words)):
            yield
        if node is None or not node.has_room(field, words):
            if node is not None:
                nodes.append(node.packed())
            node = _OpenNode(field, words[::2])
        node.add(field, words)
    if node is not None:
        nodes.append(node.packed())
    return nodes


class _OpenNode:
    """A node that entries are added to."""

    __slots__ = ("_body", "_count", "_fields", "_first", "_items", "_last", "_ms", "_sequence")

    def __init__(self, first: bytes, fields: list[bytes]) -> None:
        self._first = self._last = first
        self._ms, self._sequence = ID.unpack(first)
        self._fields = fields
        self._count = 0
        self._items = 0
        self._body = bytearray()  # all behind the number of entries
        self._number(0)
        self._number(len(fields))
        self._append(fields)
        self._number(0)

    def _number(self, number: int) -> None:
        listpack.append_integer(self._body, number)
        self._items += 1

    def _append(self, words: list[bytes]) -> None:
        for word in words:
            listpack.append(self._body, word)
        self._items += len(words)

    def has_room(self, field: bytes, words: list[bytes]) -> bool:
        """Whether Redis would add the entry to this node."""
        if field == self._last:
            return True
        size_bytes = _LISTPACK_EMPTY_BYTES + _COUNT_BYTES + len(self._body) + sum(map(len, words))
        return self._count < _NODE_ENTRIES_MAX and size_bytes < _NODE_BYTES_MAX

    def add(self, field: bytes, words: list[bytes]) -> None:
        """Adds an entry."""
        ms, sequence = ID.unpack(field)
        has_same_fields = words[::2] == self._fields
        self._number(_SAME_FIELDS if has_same_fields else 0)
        self._number(_signed(ms - self._ms))
        self._number(_signed(sequence - self._sequence))
        if has_same_fields:
            items = words[1::2]
        else:
            items = words
            self._number(len(words) // 2)
        self._append(items)
        self._number(3 + len(items) + (not has_same_fields))
        self._count += 1
        self._last = field

    def packed(self) -> Node:
        """The node."""
        count = bytearray()
        listpack.append_integer(count, self._count)
        return self._first, listpack.sealed(count + self._body, self._items + 1)


def _signed(difference: int) -> int:
    """A difference of two numbers of 64 bits, as one that has a sign."""
    return (difference + _HALF & _MASK) - _HALF
