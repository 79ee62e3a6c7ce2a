"""Records: dotted version vector sets as canonical, checksummed bytes (promises P3 and P11).

Theory. All that is stored under a key is one *record*: a clock {actor: counter} and the siblings that no write has yet
superseded, each named by the dot (actor, counter) of the write that made it. A clock entry (a, c) says: every write of
this key by actor a up to counter c is known here. So, when two records meet, a sibling that only one of them holds was
either never seen by the other (its dot lies beyond the other's clock: keep it) or seen and superseded there (drop it).
That rule makes merge commutative, associative and idempotent. (Almeida et al., "Scalable and Accurate Causality
Tracking for Eventually Consistent Stores", 2014; the Dynamo paper's section 4.4 is the plain vector this improves on.)

An actor never skips: whoever holds a record with clock entry (a, c) got it, directly or not, from the record that `a`
itself kept at c, which held everything `a` had issued before. Counters may therefore have gaps (they are hybrid logical
clock readings, see clock.py) and still act as version vector entries.

Records live as bytes, never as objects: equality of records is equality of bytes (disk, wire and tree leaf alike), and
the garbage collector has nothing to walk. The layout, all integers big endian:

    0   checksum        xxh3_64 of everything after it
    8   clock entries   u16 count
    10  siblings        u16 count
    12  clock           16 bytes an entry: actor 8, counter u64; sorted by actor
    ..  siblings        29 bytes and the value each: actor 8, counter u64, expiry u64 (ms since 1970, 0 never),
                        kind u8 (0 value, 1 tombstone), size u32, value; sorted by dot

The common record has one sibling, so the hot functions work on slices and leave decoding to the cold ones. The clever
versions are checked against a naive model in tests/core/records/test_versions.py.
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
DEAD: Final = 0  # no plain reader gets a value, now or later
LASTING: Final = 1  # a value without an expiry
EXPIRING: Final = 2  # a value until its expiry, and no matter whether that has passed
ACTOR_BYTES: Final = 8
COUNT_MAX: Final = 0xFFFF

_HEADER: Final = 12
_ENTRY: Final = 16
_SIBLING: Final = 29
_VALUE: Final = 41  # where the value of an only sibling begins, but for the clock
_ONE = b"\x00\x01"
# The record of a key that one actor alone has written: a clock of one entry, and a sibling whose dot is that entry.
_SINGLE: Final = 0x00010001  # its counts
_SINGLE_BYTES: Final = 57  # its size, but for the value
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
        """Whether a reader at wall time `now_ms` gets this value."""
        return self.kind == VALUE and (not self.expires_at_ms or self.expires_at_ms > now_ms)


class DamagedRecord(Exception):
    """The bytes are not a sound record: the checksum or the structure is wrong. Such a record is never served."""

    def __init__(self, message: str, storage_key: bytes | None = None) -> None:
        super().__init__(message)
        self.storage_key = storage_key  # the storage key, where a single one is to blame


class ForeignDot(Exception):
    """The record's clock names a write of the actor that is about to write, later than any that it has made.

    Nodes never make such a record, but a client may forge a context that does. The actor cannot write this key any more.
    """


def encode(clock: dict[bytes, int], siblings: list[Sibling]) -> bytes:
    """The canonical bytes of a record. Raises ValueError over 65,535 clock entries or siblings."""
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
    """The clock and the siblings of a record. Raises DamagedRecord when the structure does not hold together."""
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
    """The clock, sorted by actor: what a client gets as its causal context."""
    entries = int.from_bytes(record[8:10], "big")
    return tuple(_unpack_entry(record, _HEADER + _ENTRY * index) for index in range(entries))


def siblings_of(record: bytes | None) -> list[Sibling]:
    """The siblings, oldest dot first by time (counter, then actor); none for an absent record."""
    return [] if record is None else sorted(decode(record)[1], key=_age)


def _age(sibling: Sibling) -> tuple[int, bytes]:
    return sibling.counter, sibling.actor


def newest(record: bytes | None) -> Sibling | None:
    """The sibling with the newest dot, tombstones included: the one that plain Redis commands speak of."""
    if record is None:
        return None
    siblings = decode(record)[1]
    return max(siblings, key=_age) if siblings else None


def visible(record: bytes | None, now_ms: int) -> Sibling | None:
    """The newest sibling if a reader may see it at wall time `now_ms`, else None."""
    sibling = newest(record)
    return sibling if sibling is not None and sibling.is_live(now_ms) else None


def value_of(record: bytes, now_ms: int) -> bytes | None:
    """HOT. The value a plain GET answers at wall time `now_ms`, or None."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        if not read_i64_be(record, start - 13) and not record[start - 5]:  # no expiry, kind VALUE
            return record[start:]
    sibling = visible(record, now_ms)
    return None if sibling is None else sibling.value


def value_view(record: bytes, now_ms: int) -> memoryview | None:
    """The value that a plain GET answers at wall time `now_ms`, or None; as a view of the record, if it has one sibling."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        expires_at_ms = read_i64_be(record, start - 13)
        if record[start - 5] == VALUE and (not expires_at_ms or expires_at_ms > now_ms):
            return memoryview(record)[start:]
        return None
    sibling = visible(record, now_ms)
    return None if sibling is None else memoryview(sibling.value)


def standing(record: bytes) -> i64:
    """HOT. How the record counts among keys: DEAD, LASTING or EXPIRING, by its newest sibling, whatever the time."""
    if read_i32_be(record, 8) == _SINGLE:
        if record[_SINGLE_BYTES - 5] != VALUE:
            return DEAD
        return EXPIRING if read_i64_be(record, _SINGLE_BYTES - 13) else LASTING
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        if record[start - 5] != VALUE:
            return DEAD
        return EXPIRING if read_i64_be(record, start - 13) else LASTING
    sibling = newest(record)
    if sibling is None or sibling.kind != VALUE:
        return DEAD
    return EXPIRING if sibling.expires_at_ms else LASTING


def is_dead(record: bytes, now_ms: int) -> bool:
    """Whether no reader at wall time `now_ms` or later gets anything out of the record."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        return record[start - 5] != VALUE or 0 < read_i64_be(record, start - 13) <= now_ms
    return not any(sibling.is_live(now_ms) for sibling in decode(record)[1])


def clock_entries(record: bytes) -> i64:
    """How many actors the record's clock names."""
    return i64(read_i16_be(record, 8)) & COUNT_MAX


def pruned(record: bytes) -> bytes:
    """The record with a clock that names the actors of its siblings only.

    It has forgotten writes that it had superseded. So it may stand for the record only where no copy older than that can
    come back (collection.py). Joined with the whole one it gives the whole one.
    """
    clock, siblings = decode(record)
    return encode({sibling.actor: clock[sibling.actor] for sibling in siblings}, siblings)


def merge(one: bytes | None, other: bytes | None) -> bytes | None:
    """The join of two records (P3): what both know. If that is one of the arguments, returns that very object."""
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
    """HOT. The later of two records that differ by writes of a single actor, without decoding; None if unsure.

    Both hold clocks of the same actors, equal but in the entry of the actor that made the later record's only sibling.
    That sibling's dot then lies beyond the earlier clock, and the later clock covers all that the earlier record holds:
    the later one is the join.
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
    if late_clock < early_clock:  # for equal sets of actors the later clock has the greater bytes
        late, late_clock, early_clock = other, early_clock, late_clock
    if late[10:12] != _ONE or late_clock == early_clock:
        return None
    place = late_clock.find(late[end : end + _ENTRY])
    if place % _ENTRY:  # absent, or found across two entries
        return None
    counter_at = place + ACTOR_BYTES
    after = place + _ENTRY
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
    """HOT. The record after a write by `actor` that has seen all of `old`: one sibling, the new one.

    `counter` must be greater than any that the actor has issued before (clock.py sees to it). Raises ForeignDot.
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
    """HOT. The record of a key that this one write alone has made."""
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
    """What stands before and after the actor's entry in the bytes of a clock, or where that entry will stand."""
    place = 0
    while place < len(clock) and clock[place : place + ACTOR_BYTES] < actor:
        place += _ENTRY
    known = clock[place : place + ACTOR_BYTES] == actor  # and its bytes occur across two entries before
    return clock[:place], clock[place + _ENTRY if known else place :]


def write(
    old: bytes | None,
    actor: bytes,
    counter: int,
    value: bytes,
    expires_at_ms: int = 0,
    kind: int = VALUE,
    context: Clock = (),
) -> bytes:
    """The record after a write whose author has seen exactly `context`: what that covers goes, all else stays beside.

    An empty context is that of a writer who has seen nothing. The context joins the clock, so that other replicas drop
    what the author has seen, also what this one has not got yet. Raises ForeignDot.
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
    """The record with its values emptied: enough to merge, to judge liveness, and to list keys. Never stored."""
    if record[10:12] == _ONE and not record[8]:
        body = record[8 : _HEADER + _ENTRY * record[9] + _SIBLING - 4] + b"\x00\x00\x00\x00"
        return xxh3_64_digest(body) + body
    clock, siblings = decode(record)
    return encode(clock, [s._replace(value=b"") for s in siblings])


def sibling_count(record: bytes) -> int:
    """How many siblings a record holds, tombstones included."""
    return (record[10] << 8) + record[11]


def context_after(record: bytes, context: Clock, actor: bytes, counter: int) -> Clock:
    """What the author of the write (actor, counter) has seen: its context and its own write; the context alone if a
    clock cannot say that without covering a sibling in `record` that the author has not seen.

    Then the author's next write stands beside this one: at worst there is a sibling too many, and nothing is lost.
    """
    seen = dict(context)
    seen[actor] = max(counter, seen.get(actor, 0))
    for sibling in decode(record)[1]:
        if sibling.counter <= seen.get(sibling.actor, -1) and (sibling.actor, sibling.counter) != (actor, counter):
            return context
    return tuple(sorted(seen.items()))
