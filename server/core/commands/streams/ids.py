"""Ids of the entries of a stream: milliseconds and a sequence number, both of 64 bits.

As a field of a record an id is 16 bytes, big endian, so that the fields' order is that of the ids.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from server.core.base.errors import CommandError

INVALID: Final = "ERR Invalid stream ID specified as stream command argument"
NUMBER_MAX: Final = (1 << 64) - 1
_DIGITS_MAX: Final = 20
_pair = struct.Struct(">QQ")


class Id(NamedTuple):
    """The id of an entry."""

    ms: int
    sequence: int

    def field(self) -> bytes:
        """The field of the entry."""
        return _pair.pack(self.ms, self.sequence)

    def text(self) -> bytes:
        """The id as clients read it."""
        return b"%d-%d" % (self.ms, self.sequence)

    def following(self) -> Id | None:
        """The next id; None behind the last one."""
        number = (self.ms << 64 | self.sequence) + 1
        return None if number >> 128 else Id(number >> 64, number & NUMBER_MAX)

    def previous(self) -> Id | None:
        """The id before; None before the first one."""
        number = (self.ms << 64 | self.sequence) - 1
        return None if number < 0 else Id(number >> 64, number & NUMBER_MAX)


FIRST: Final = Id(0, 0)
LAST: Final = Id(NUMBER_MAX, NUMBER_MAX)


def id_of(field: bytes) -> Id:
    """The id that a field stands for."""
    ms, sequence = _pair.unpack(field)
    return Id(ms, sequence)


def parse_number(word: bytes) -> int:
    """One half of an id. Raises CommandError."""
    word = word.removeprefix(b"+")  # Redis reads it by strtoull
    if not word.isdigit() or len(word) > _DIGITS_MAX or int(word) > NUMBER_MAX:
        raise CommandError(INVALID)
    return int(word)


def parse_id(word: bytes, missing: int) -> Id:
    """An id whose sequence number may be left out: then it is `missing`. Raises CommandError."""
    ms, dash, sequence = word.partition(b"-")
    return Id(parse_number(ms), parse_number(sequence) if dash else missing)


def parse_bound(word: bytes, is_start: bool) -> Id:
    """One end of a range: an id, `-`, `+`, or an id behind `(`, which is left out. Raises CommandError."""
    if word == b"-":
        return FIRST
    if word == b"+":
        return LAST
    if word.startswith(b"("):
        bound = parse_id(word[1:], 0 if is_start else NUMBER_MAX)
        found = bound.following() if is_start else bound.previous()
        if found is None:
            raise CommandError(f"ERR invalid {'start' if is_start else 'end'} ID for the interval")
        return found
    return parse_id(word, 0 if is_start else NUMBER_MAX)
