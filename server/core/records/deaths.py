"""Whether a record of entries has anything that a reader could get, now or later, and its short forms for scans.

Theory. A record is dead if all its entries are tombstones, have expired, or are about the key only. It may then be
collected (collection/collection.py). An entry of an unknown kind is alive: only a later version knows what it means.
Entries of a hidden type are alive, too, although no plain command shows them.
"""

from __future__ import annotations

from typing import Final

from server.core.records.entries import (
    Entry,
    Index,
    clock_of,
    decode,
    encode,
    key_entries,
    last_expiry_between,
    marks_of,
)
from server.core.records.kinds import (
    BASE_KINDS,
    COLLECTION_MARKS,
    COUNTER_DELTA,
    EXPIRY_MARK,
    HASH_DELTA,
    HYPERLOGLOG,
    KEY_EXPIRY,
    MEMBER,
    MEMBER_DELTA,
    NONE,
    OPAQUE,
    OPAQUE_MARKS,
    STRING,
    type_of_kind,
)
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.views import NO_SCORE, View

DEAD: Final = 0  # expiry class: no reader gets anything, now or later
PERSISTENT: Final = 1  # some reader gets something, whatever the time
EXPIRING: Final = 2  # that depends on the time
_SHORTEST: Final = {COUNTER_DELTA: b"0", HASH_DELTA: b"0", MEMBER_DELTA: b"0", MEMBER: NO_SCORE}
_ALWAYS_MARKS: Final = COLLECTION_MARKS | OPAQUE_MARKS | 1 << COUNTER_DELTA | 1 << HYPERLOGLOG


def expiry_class(record: bytes) -> int:
    """Returns DEAD, PERSISTENT or EXPIRING for a record of entries. It does not depend on the time."""
    marks = marks_of(record)
    if marks & OPAQUE_MARKS:
        return PERSISTENT
    about = key_entries(record)
    if not marks & _ALWAYS_MARKS and not any(entry[1] == VALUE for entry in about):
        return DEAD
    return EXPIRING if marks & EXPIRY_MARK or any(entry[3] for entry in about) else PERSISTENT


def is_dead(record: bytes, now_ms: int) -> bool:
    """Whether a record of entries has nothing that a reader could get at time `now_ms` or later."""
    marks = marks_of(record)
    if marks & OPAQUE_MARKS:
        return False
    view = View(record, now_ms)
    if view.key_type != NONE:
        return False
    if view.has_expired:
        return True
    if not view.hides:  # all fields have expired; what was added to them has no expiry of its own
        return not any(_is_live(entry, now_ms) for entry in key_entries(record))
    index = Index(record)
    return not any(_is_live(entry, now_ms) for chunk in range(index.count) for entry in index.entries_in(chunk))


def _is_live(entry: Entry, now_ms: int) -> bool:
    return entry[1] not in (TOMBSTONE, KEY_EXPIRY) and (not entry[3] or entry[3] > now_ms)


def last_expiry(record: bytes) -> int:
    """Returns the latest expiry in a record of entries; 0 if there is none."""
    last = max([entry[3] for entry in key_entries(record)], default=0)
    if marks_of(record) & EXPIRY_MARK:
        index = Index(record)
        for chunk in index.expiring_chunks():
            last = max(last, last_expiry_between(record, index.starts[chunk], index.starts[chunk + 1]))
    return last


def pruned(record: bytes) -> bytes:
    """Returns a record of entries whose clock has only the actors of its entries; versions.py says when that is safe."""
    clock, entries = decode(record)
    return encode({entry[2][:8]: clock[entry[2][:8]] for entry in entries}, entries)


def skeleton(record: bytes) -> bytes:
    """Returns a record of entries with payloads that are as short as they may be. Never stored."""
    clock, entries = decode(record)
    return encode(
        clock, [(field, kind, dot, expiry, _SHORTEST.get(kind, b"")) for field, kind, dot, expiry, _ in entries]
    )


def summary(record: bytes) -> bytes:
    """Returns a short record with the clock, the type and the life of a record of entries, for lists of keys. Never stored.

    Of all fields it has one, which lives as long as the longest. It is no part of a join: two different summaries say
    nothing about the join of their records.
    """
    view = View(record, 0)  # at that time nothing has expired
    has_unknown = (
        marks_of(record) & OPAQUE_MARKS and view.key_type != OPAQUE
    )  # what it has when all others have expired
    if view.hides or has_unknown or view.key_type in (NONE, STRING):
        return skeleton(record)
    index = Index(record)
    about = [entry for entry in key_entries(record) if entry[1] in (TOMBSTONE, KEY_EXPIRY)]
    last_ms = 0
    if view.key_type == OPAQUE:
        _, kind, dot, _, _ = _first_opaque(index)
    else:
        kind = BASE_KINDS[view.key_type]
        dot = next(entry[2] for entry in index.entries_in(0) if entry[1] not in (TOMBSTONE, KEY_EXPIRY))
        expiries = [at_ms for _, _, at_ms in view.lasting_items()] if marks_of(record) & EXPIRY_MARK else [0]
        last_ms = 0 if 0 in expiries else max(expiries)
    return encode(clock_of(record), [*about, (b"", kind, dot, last_ms, _SHORTEST.get(kind, b""))])


def _first_opaque(index: Index) -> Entry:
    for chunk in range(index.count):
        if index.row(chunk)[2] & OPAQUE_MARKS:
            for entry in index.entries_in(chunk):
                if type_of_kind(entry[1]) == OPAQUE:
                    return entry
    raise AssertionError("an opaque record has an entry of an unknown kind")
