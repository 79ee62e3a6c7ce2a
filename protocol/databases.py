"""Databases: sixteen name spaces of one key space, as SELECT chooses them.

The problem. A key of database 3 is not the key of the same name in database 0, and both have the same slot, as in Redis.
Nodes store, relay, merge and repair keys as plain bytes, and a key of database 0 may be any bytes. SWAPDB exchanges two
databases, whatever they hold.

The idea. There are sixteen *spaces*. The *inner key* is what stands for a key behind the dispatcher, in storage keys, and
between nodes:

    key of space 0                                the key itself
    key of space N > 0                            MARK, a byte N, the key
    key of space 0 that begins with MARK          MARK, a byte 0, the key

So no two keys have the same inner key. `key_slot` (slots.py) leaves MARK and the byte out. MARK contains a `{`, so that it
costs keys without a hash tag nothing to look for it. The keys of space 0 look as they did before there were others,
except those that begin with MARK, eight bytes that were drawn for this purpose.

A *number* is what clients call a database. A `Numbering` says which space each number stands for: its own, until SWAPDB
exchanges the spaces of two numbers. No key is touched by that. All nodes share the numbering (shared/numberings.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

DATABASES: Final = 16
EVERY_SPACE: Final = -1  # stands for every space
MARK: Final = b"\xffdb{\x00\xb6\x5e\x91"
INNER_BYTES: Final = len(MARK) + 1  # by so much an inner key of another space is longer than the key
PREFIXES: Final = tuple(MARK + bytes([space]) for space in range(DATABASES))


def inner_key(space: int, key: bytes) -> bytes:
    """Returns the inner key of a key of a space, 0 to 15."""
    return PREFIXES[space] + key if space or key.startswith(MARK) else key


def space_of(inner: bytes) -> int:
    """HOT. Returns the space of an inner key."""
    if not inner.startswith(MARK) or len(inner) < INNER_BYTES:
        return 0
    return inner[INNER_BYTES - 1] if inner[INNER_BYTES - 1] < DATABASES else 0


def client_key(inner: bytes) -> bytes:
    """Returns the key, as clients name it, of an inner key."""
    return inner[INNER_BYTES:] if inner.startswith(MARK) else inner


class Numbering:
    """Which space the number of each database stands for, and the reverse."""

    def __init__(self, spaces: Sequence[int] = range(DATABASES)) -> None:
        """`spaces`: by number."""
        self.spaces = tuple(spaces)
        self.numbers = tuple(sorted(range(DATABASES), key=lambda number: self.spaces[number]))  # by space

    def swapped(self, first: int, second: int) -> Numbering:
        """Returns the numbering after the spaces of two numbers were exchanged."""
        spaces = list(self.spaces)
        spaces[first], spaces[second] = spaces[second], spaces[first]
        return Numbering(spaces)

    def shown_key(self, inner: bytes) -> str:
        """Returns an inner key as messages to operators show it."""
        number = self.numbers[space_of(inner)]
        return f"{client_key(inner)!r} of database {number}" if number else repr(client_key(inner))


UNSWAPPED: Final = Numbering()


def numbering_of(spaces: tuple[int, ...]) -> Numbering:
    """The numbering with these spaces, by number."""
    return UNSWAPPED if spaces == UNSWAPPED.spaces else Numbering(spaces)


def spaces_word(spaces: Sequence[int]) -> bytes:
    """The spaces of a numbering in a message between nodes: a hexadecimal digit for each."""
    return b"".join([b"%x" % space for space in spaces])


def spaces_in(word: bytes) -> tuple[int, ...] | None:
    """The reverse of `spaces_word`; None if the word is malformed."""
    if len(word) != DATABASES or any(digit not in b"0123456789abcdef" for digit in word):
        return None
    spaces = tuple([int(word[place : place + 1], 16) for place in range(DATABASES)])
    return spaces if len(set(spaces)) == DATABASES else None
