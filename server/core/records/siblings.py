"""The parts of a plain record, in which all entries are values and tombstones: its siblings, its bytes, its errors.

versions.py has the theory and the layout of the bytes, and what the node does with records. This module is below it, so
that entries.py can turn siblings into entries and entries into siblings.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from xxhash import xxh3_64_digest

VALUE: Final = 0
TOMBSTONE: Final = 1
COUNT_MAX: Final = 0xFFFF

_HEADER: Final = 12
_ENTRY: Final = 16
_SIBLING: Final = 29
_pack_counts = struct.Struct(">HH").pack
_pack_entry = struct.Struct(">8sQ").pack
_pack_sibling = struct.Struct(">8sQQBI").pack
_unpack_counts = struct.Struct(">HH").unpack_from
_unpack_entry = struct.Struct(">8sQ").unpack_from
_unpack_sibling = struct.Struct(">8sQQBI").unpack_from


class Sibling(NamedTuple):
    """One value (or tombstone) and the dot that names the write which made it."""

    actor: bytes
    counter: int
    expires_at_ms: int
    kind: int
    value: bytes

    def is_live(self, now_ms: int) -> bool:
        """Whether a reader at time `now_ms` (since 1970) gets this value."""
        return self.kind == VALUE and (not self.expires_at_ms or self.expires_at_ms > now_ms)


class DamagedRecord(Exception):
    """The bytes are not a sound record: the checksum or the structure is wrong. Such a record is never served."""

    def __init__(self, message: str, storage_key: bytes | None = None) -> None:
        super().__init__(message)
        self.storage_key = storage_key  # of the damaged record, if it is known


class ForeignDot(Exception):
    """The record's clock has an entry of the writing actor that is later than all writes of this actor.

    Only a client's forged context makes such a record. The actor can never write this key again.
    """


def encode(clock: dict[bytes, int], siblings: list[Sibling]) -> bytes:
    """Returns the canonical bytes of a record. Raises ValueError over 65,535 clock entries or siblings."""
    if len(clock) > COUNT_MAX or len(siblings) > COUNT_MAX:
        raise ValueError(f"a record holds at most {COUNT_MAX} clock entries and siblings")
    parts = [_pack_counts(len(clock), len(siblings))]
    parts += [_pack_entry(actor, clock[actor]) for actor in sorted(clock)]
    for actor, counter, expires_at_ms, kind, value in sorted(siblings):
        parts.append(_pack_sibling(actor, counter, expires_at_ms, kind, len(value)))
        parts.append(value)
    body = b"".join(parts)
    return xxh3_64_digest(body) + body


def decode(record: bytes) -> tuple[dict[bytes, int], list[Sibling]]:
    """Returns the clock and the siblings of a record. Raises DamagedRecord if the structure is wrong."""
    try:
        entries, count = _unpack_counts(record, 8)
        offset = _HEADER
        clock: dict[bytes, int] = {}
        for _ in range(entries):
            actor, counter = _unpack_entry(record, offset)
            clock[actor] = counter
            offset += _ENTRY
        siblings = []
        for _ in range(count):
            actor, counter, expires_at_ms, kind, size = _unpack_sibling(record, offset)
            offset += _SIBLING
            siblings.append(Sibling(actor, counter, expires_at_ms, kind, record[offset : offset + size]))
            offset += size
    except struct.error as error:
        raise DamagedRecord(f"a record of {len(record)} bytes ends too early") from error
    if offset != len(record):
        raise DamagedRecord(f"a record of {len(record)} bytes holds {offset}")
    return clock, siblings


def by_time(sibling: Sibling) -> tuple[int, bytes]:
    """Returns a key by which siblings are sorted in the order of time."""
    return sibling.counter, sibling.actor
