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
    place += 1
    while place < len(words):
        start = place
        flags, ms, sequence = _number(words, place), _number(words, place + 1), _number(words, place + 2)
        place += 3
        if flags & _SAME_FIELDS:
            values = _some(words, place, size)
            pairs = [each for pair in zip(fields, values, strict=True) for each in pair]
            place += size
        else:
            count = 2 * _number(words, place)
            pairs = _some(words, place + 1, count)
            place += 1 + count
        if _number(words, place) != place - start or not pairs:
            raise ValueError("an entry of a stream has another size")
        place += 1
        if not flags & _DELETED:
            field = ID.pack(first_ms + ms & _MASK, first_sequence + sequence & _MASK)
            add((field, resp.array([resp.bulk(word) for word in pairs])))
        if pace.is_full(1 + len(pairs)):
            yield


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

    __slots__ = ("_body", "_bytes", "_count", "_fields", "_first", "_last", "_ms", "_sequence")

    def __init__(self, first: bytes, fields: list[bytes]) -> None:
        self._first = self._last = first
        self._ms, self._sequence = ID.unpack(first)
        self._fields = fields
        self._count = 0
        self._body: list[bytes] = []
        self._bytes = _LISTPACK_EMPTY_BYTES + listpack.packed_bytes(b"0")
        self._extend([b"0", b"%d" % len(fields), *fields, b"0"])

    def _extend(self, words: list[bytes]) -> None:
        self._body += words
        self._bytes += sum(map(listpack.packed_bytes, words))

    def has_room(self, field: bytes, words: list[bytes]) -> bool:
        """Whether Redis would add the entry to this node."""
        has_room = self._count < _NODE_ENTRIES_MAX and self._bytes + sum(map(len, words)) < _NODE_BYTES_MAX
        return has_room or field == self._last

    def add(self, field: bytes, words: list[bytes]) -> None:
        """Adds an entry."""
        ms, sequence = ID.unpack(field)
        has_same_fields = words[::2] == self._fields
        items = words[1::2] if has_same_fields else [b"%d" % (len(words) // 2), *words]
        flags = _SAME_FIELDS if has_same_fields else 0
        places = [b"%d" % _signed(ms - self._ms), b"%d" % _signed(sequence - self._sequence)]
        self._extend([b"%d" % flags, *places, *items, b"%d" % (3 + len(items))])
        self._count += 1
        self._last = field

    def packed(self) -> Node:
        """The node."""
        return self._first, listpack.pack([b"%d" % self._count, *self._body])


def _signed(difference: int) -> int:
    """A difference of two numbers of 64 bits, as one that has a sign."""
    return (difference + _HALF & _MASK) - _HALF
