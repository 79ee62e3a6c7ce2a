"""Records: dotted version vector sets as canonical, checksummed bytes (promises P3 and P11).

Theory. All that is stored under a key is one *record*. A record has a clock {actor: counter} and siblings. Siblings are
the values that no write has superseded yet; each has the dot (actor, counter) of the write that made it. A clock entry
(a, c) says that every write of this key by actor a up to counter c is known here. The merge follows from that. Suppose
only one of two records holds a sibling. If the other's clock does not cover its dot, the other has never seen the
sibling, and the merge keeps it. If the other's clock covers its dot, the other has seen and superseded it, and the
merge drops it. This rule makes the merge commutative, associative and idempotent. (Almeida et al., "Scalable and
Accurate Causality Tracking for Eventually Consistent Stores", 2014. Section 4.4 of the Dynamo paper has the plain
version vector.)

An actor never skips a write. If a record has the clock entry (a, c), it comes, directly or not, from the record that
`a` itself stored at c, and that one held everything that `a` had issued before. So counters may have gaps (they are
readings of a hybrid logical clock, see base/clock.py) and still work as version vector entries.

Records are bytes, never objects. So equal records are equal bytes on disk, on the wire and in the hash tree, and the
garbage collector has no objects to visit. The layout, all integers big endian:

    0   checksum        xxh3_64 of everything after it
    8   clock entries   u16 count
    10  siblings        u16 count
    12  clock           16 bytes an entry: actor 8, counter u64; sorted by actor
    ..  siblings        29 bytes and the value each: actor 8, counter u64, expiry u64 (ms since 1970, 0 never),
                        kind u8 (0 value, 1 tombstone), size u32, value; sorted by dot

The common record has one sibling. So the hot functions work on slices of the bytes, and only the others decode. The
tests check the hot functions against a naive model (tests/core/records/test_versions.py).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i32_be, write_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64_digest

from server.core.records.structure import verify as verify

Clock = Sequence[tuple[bytes, int]]

VALUE: Final = 0
TOMBSTONE: Final = 1
DEAD: Final = 0  # expiry class: a plain GET gets no value, now or later
PERSISTENT: Final = 1  # the value has no expiry
EXPIRING: Final = 2  # the value has an expiry, which may have passed
ACTOR_BYTES: Final = 8
COUNT_MAX: Final = 0xFFFF

_HEADER: Final = 12
_ENTRY: Final = 16
_SIBLING: Final = 29
_VALUE: Final = 41  # in a record with one sibling the value begins here, plus the size of the clock
_ONE = b"\x00\x01"
# The commonest record has one clock entry and one sibling, with that entry as its dot: one actor alone wrote the key.
_SINGLE: Final = 0x00010001  # its two counts
_SINGLE_BYTES: Final = 57  # its size without the value
_pack_counts = struct.Struct(">HH").pack
_pack_entry = struct.Struct(">8sQ").pack
_pack_sibling = struct.Struct(">8sQQBI").pack
_unpack_counts = struct.Struct(">HH").unpack_from
_unpack_entry = struct.Struct(">8sQ").unpack_from
_unpack_sibling = struct.Struct(">8sQQBI").unpack_from
_pack_rest = struct.Struct(">QBI").pack  # of a sibling, after its dot


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


def clock_of(record: bytes) -> tuple[tuple[bytes, int], ...]:
    """Returns the clock, sorted by actor. Clients get it as their causal context."""
    entries = int.from_bytes(record[8:10], "big")
    return tuple(_unpack_entry(record, _HEADER + _ENTRY * index) for index in range(entries))


def siblings_of(record: bytes | None) -> list[Sibling]:
    """Returns the siblings, the oldest dot first (by counter, then actor); none if there is no record."""
    return [] if record is None else sorted(decode(record)[1], key=_by_time)


def _by_time(sibling: Sibling) -> tuple[int, bytes]:
    return sibling.counter, sibling.actor


def newest(record: bytes | None) -> Sibling | None:
    """Returns the sibling with the newest dot, which may be a tombstone. Plain Redis commands use this one."""
    if record is None:
        return None
    siblings = decode(record)[1]
    return max(siblings, key=_by_time) if siblings else None


def visible(record: bytes | None, now_ms: int) -> Sibling | None:
    """Returns the newest sibling if it is live at time `now_ms`, else None."""
    sibling = newest(record)
    return sibling if sibling is not None and sibling.is_live(now_ms) else None


def value_of(record: bytes, now_ms: int) -> bytes | None:
    """HOT. Returns the value for a plain GET at time `now_ms`, or None."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        if not read_i64_be(record, start - 13) and not record[start - 5]:  # no expiry, kind VALUE
            return record[start:]
    sibling = visible(record, now_ms)
    return None if sibling is None else sibling.value


def value_view(record: bytes, now_ms: int) -> memoryview | None:
    """Returns the same as `value_of`, as a view of the record's bytes if it has one sibling."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        expires_at_ms = read_i64_be(record, start - 13)
        if record[start - 5] == VALUE and (not expires_at_ms or expires_at_ms > now_ms):
            return memoryview(record)[start:]
        return None
    sibling = visible(record, now_ms)
    return None if sibling is None else memoryview(sibling.value)


def expiry_class(record: bytes) -> i64:
    """HOT. Returns DEAD, PERSISTENT or EXPIRING for the newest sibling. It does not depend on the time."""
    if read_i32_be(record, 8) == _SINGLE:
        if record[_SINGLE_BYTES - 5] != VALUE:
            return DEAD
        return EXPIRING if read_i64_be(record, _SINGLE_BYTES - 13) else PERSISTENT
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        if record[start - 5] != VALUE:
            return DEAD
        return EXPIRING if read_i64_be(record, start - 13) else PERSISTENT
    sibling = newest(record)
    if sibling is None or sibling.kind != VALUE:
        return DEAD
    return EXPIRING if sibling.expires_at_ms else PERSISTENT


def is_dead(record: bytes, now_ms: int) -> bool:
    """Whether no sibling is live at time `now_ms` or later."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        return record[start - 5] != VALUE or 0 < read_i64_be(record, start - 13) <= now_ms
    return not any(sibling.is_live(now_ms) for sibling in decode(record)[1])


def clock_entries(record: bytes) -> i64:
    """Returns how many entries the clock has."""
    return i64(read_i16_be(record, 8)) & COUNT_MAX


def pruned(record: bytes) -> bytes:
    """Returns the record with a clock that has only the entries of the siblings' actors.

    Its clock no longer covers all superseded writes. So it may replace the record only if no older copy can come back
    (collection.py). Merged with the whole record it gives the whole record.
    """
    clock, siblings = decode(record)
    return encode({sibling.actor: clock[sibling.actor] for sibling in siblings}, siblings)


def merge(one: bytes | None, other: bytes | None) -> bytes | None:
    """Returns the merge of two records (P3). If it equals one of the arguments, returns that same object."""
    if one is None:
        return other
    if other is None or one == other:
        return one
    newer = _newer_of_one_writer(one, other)
    if newer is not None:
        return newer
    merged = _merge_decoded(one, other)
    return one if merged == one else other if merged == other else merged


def _newer_of_one_writer(one: bytes, other: bytes) -> bytes | None:
    """HOT. Returns the later of two records that differ by writes of one actor, without decoding; None if unsure.

    The case: both clocks have the same actors, and differ only in the entry of the actor that made the later record's
    only sibling. Then the dot of that sibling is not covered by the earlier clock, and the later clock covers all
    siblings of the earlier record. So the later record is the merge.
    """
    if len(one) < _SINGLE_BYTES or len(other) < _SINGLE_BYTES:
        return None
    if (
        read_i32_be(one, 8) == _SINGLE
        and read_i32_be(other, 8) == _SINGLE
        and read_i64_be(one, _HEADER) == read_i64_be(other, _HEADER)
    ):
        counter, other_counter = read_i64_be(one, 20), read_i64_be(other, 20)
        if counter > other_counter:
            return one if _made_by_its_entry(one) else None
        if counter < other_counter:
            return other if _made_by_its_entry(other) else None
    entries = clock_entries(one)
    if entries != clock_entries(other):
        return None
    end = _HEADER + _ENTRY * entries
    late, late_clock, early_clock = one, one[_HEADER:end], other[_HEADER:end]
    if late_clock < early_clock:  # if both have the same actors, the later clock has the greater bytes
        late, late_clock, early_clock = other, early_clock, late_clock
    if late[10:12] != _ONE or late_clock == early_clock:
        return None
    offset = late_clock.find(late[end : end + _ENTRY])
    if offset % _ENTRY:  # absent, or found across two entries
        return None
    counter_at = offset + ACTOR_BYTES
    after = offset + _ENTRY
    if late_clock[:counter_at] == early_clock[:counter_at] and late_clock[after:] == early_clock[after:]:
        return late
    return None


def _made_by_its_entry(record: bytes) -> bool:
    """Whether the first sibling's dot is the only clock entry."""
    return read_i64_be(record, 28) == read_i64_be(record, 12) and read_i64_be(record, 36) == read_i64_be(record, 20)


def _merge_decoded(one: bytes, other: bytes) -> bytes:
    one_clock, one_siblings = decode(one)
    other_clock, other_siblings = decode(other)
    held_by_one = {(s.actor, s.counter) for s in one_siblings}
    held_by_other = {(s.actor, s.counter) for s in other_siblings}
    kept = [s for s in one_siblings if s[:2] in held_by_other or s.counter > other_clock.get(s.actor, -1)]
    kept += [s for s in other_siblings if s[:2] not in held_by_one and s.counter > one_clock.get(s.actor, -1)]
    clock = one_clock
    for actor, counter in other_clock.items():
        if counter > clock.get(actor, -1):
            clock[actor] = counter
    return encode(clock, kept)


def supersede(
    old: bytes | None, actor: bytes, counter: int, value: bytes, expires_at_ms: int = 0, kind: int = VALUE
) -> bytes:
    """HOT. Returns the record after a write by `actor` that has seen all of `old`. The new value is its only sibling.

    `counter` must be greater than all that the actor has issued before (base/clock.py ensures that). Raises ForeignDot.
    """
    if old is None:
        return _single(actor, counter, value, expires_at_ms, kind)
    entries = clock_entries(old)
    if entries == 1 and read_i64_be(old, _HEADER) == read_i64_be(actor, 0):
        if read_i64_be(old, 20) >= counter:
            raise ForeignDot
        return _single(actor, counter, value, expires_at_ms, kind)
    dot = _pack_entry(actor, counter)
    clock = old[_HEADER : _HEADER + _ENTRY * entries]
    before, found, after = clock.partition(actor)
    if found and not len(before) % _ENTRY:
        if after >= dot[ACTOR_BYTES:]:  # `after` begins with the counter
            raise ForeignDot
        after = after[8:]
    else:
        before, after = _around(clock, actor)
        entries = (len(before) + len(after)) // _ENTRY + 1
    rest = _pack_rest(expires_at_ms, kind, len(value))
    body = b"".join((_pack_counts(entries, 1), before, dot, after, dot, rest, value))
    return xxh3_64_digest(body) + body


def _single(actor: bytes, counter: i64, value: bytes, expires_at_ms: i64, kind: int) -> bytes:
    """HOT. Returns a record with one clock entry and one sibling, both of the write (actor, counter)."""
    front = BytesWriter()
    write_i32_be(front, _SINGLE)
    for _ in range(2):  # the clock entry, the dot
        front.write(actor)
        write_i64_be(front, counter)
    write_i64_be(front, expires_at_ms)
    front.append(kind)
    write_i32_be(front, len(value))
    body = front.getvalue() + value
    return xxh3_64_digest(body) + body


def _around(clock: bytes, actor: bytes) -> tuple[bytes, bytes]:
    """Returns the bytes of a clock before and after the entry of an actor, or around the gap where it would be."""
    offset = 0
    while offset < len(clock) and clock[offset : offset + ACTOR_BYTES] < actor:
        offset += _ENTRY
    known = clock[offset : offset + ACTOR_BYTES] == actor  # the same bytes may also occur across two earlier entries
    return clock[:offset], clock[offset + _ENTRY if known else offset :]


def write(
    old: bytes | None,
    actor: bytes,
    counter: int,
    value: bytes,
    expires_at_ms: int = 0,
    kind: int = VALUE,
    context: Clock = (),
) -> bytes:
    """Returns the record after a write with a causal context. It supersedes exactly the siblings that `context` covers.

    An empty context means that the author has seen nothing. The context is merged into the clock, so that other
    replicas also drop siblings that the author has seen and that are not stored here yet. Raises ForeignDot.
    """
    clock, siblings = ({}, []) if old is None else decode(old)
    seen = dict(context)
    siblings = [s for s in siblings if s.counter > seen.get(s.actor, -1)]
    for seen_actor, seen_counter in context:
        if seen_counter > clock.get(seen_actor, -1):
            clock[seen_actor] = seen_counter
    if counter <= clock.get(actor, -1):
        raise ForeignDot
    clock[actor] = counter
    siblings.append(Sibling(actor, counter, expires_at_ms, kind, value))
    return encode(clock, siblings)


def skeleton(record: bytes) -> bytes:
    """Returns the record with empty values: enough to merge, to tell live from dead, and to list keys. Never stored."""
    if record[10:12] == _ONE and not record[8]:
        body = record[8 : _HEADER + _ENTRY * record[9] + _SIBLING - 4] + b"\x00\x00\x00\x00"
        return xxh3_64_digest(body) + body
    clock, siblings = decode(record)
    return encode(clock, [s._replace(value=b"") for s in siblings])


def sibling_count(record: bytes) -> int:
    """Returns how many siblings a record has, tombstones included."""
    return (record[10] << 8) + record[11]


def context_after(record: bytes, context: Clock, actor: bytes, counter: int) -> Clock:
    """Returns the causal context for the author of the write (actor, counter): `context` and the write itself.

    A clock entry covers all earlier writes of the actor, too. If `record` has a sibling among these that the author has
    not seen, the result is `context` alone. Then the author's next write does not supersede this one: there may be a
    sibling too many, but nothing is lost.
    """
    seen = dict(context)
    seen[actor] = max(counter, seen.get(actor, 0))
    for sibling in decode(record)[1]:
        if sibling.counter <= seen.get(sibling.actor, -1) and (sibling.actor, sibling.counter) != (actor, counter):
            return context
    return tuple(sorted(seen.items()))
