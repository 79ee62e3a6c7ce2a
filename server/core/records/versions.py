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
from typing import Final

from librt.strings import BytesWriter, read_i16_be, read_i32_be, read_i64_be, write_i32_be, write_i64_be
from mypy_extensions import i64
from xxhash import xxh3_64, xxh3_64_digest

from server.core.records import deaths, entries, joins
from server.core.records.contexts import Clock as Clock
from server.core.records.contexts import context_after as context_after
from server.core.records.contexts import write as write
from server.core.records.kinds import NONE, STRING
from server.core.records.siblings import COUNT_MAX as COUNT_MAX
from server.core.records.siblings import TOMBSTONE as TOMBSTONE
from server.core.records.siblings import VALUE as VALUE
from server.core.records.siblings import DamagedRecord as DamagedRecord
from server.core.records.siblings import ForeignDot as ForeignDot
from server.core.records.siblings import Sibling as Sibling
from server.core.records.siblings import by_time as _by_time
from server.core.records.siblings import decode as decode
from server.core.records.siblings import encode as encode
from server.core.records.structure import has_checksum as has_checksum
from server.core.records.structure import verify as verify
from server.core.records.views import View

DEAD: Final = deaths.DEAD  # expiry class: a reader gets no value, now or later
PERSISTENT: Final = deaths.PERSISTENT  # the value has no expiry
EXPIRING: Final = deaths.EXPIRING  # the value has an expiry, which may have passed
ACTOR_BYTES: Final = 8
KEY: Final = 255  # of a Sibling that stands for a key of another type than string (`visible`)

_digest: Final = xxh3_64_digest  # compiled code looks an imported function up by its name, and a constant not
_HEADER: Final = 12
_ENTRY: Final = 16
_SIBLING: Final = 29
_VALUE: Final = 41  # in a record with one sibling the value begins here, plus the size of the clock
_ONE = b"\x00\x01"
# The commonest record has one clock entry and one sibling, with that entry as its dot: one actor alone wrote the key.
_SINGLE: Final = 0x00010001  # its two counts
_SINGLE_BYTES: Final = 57  # its size without the value
_LARGE_BYTES: Final = 64 << 10  # of a value: it is copied once only, for some objects more
_pack_counts = struct.Struct(">HH").pack
_pack_entry = struct.Struct(">8sQ").pack
_unpack_entry = struct.Struct(">8sQ").unpack_from
_pack_rest = struct.Struct(">QBI").pack  # of a sibling, after its dot


def clock_of(record: bytes) -> tuple[tuple[bytes, int], ...]:
    """Returns the clock, sorted by actor. Clients get it as their causal context."""
    size = int.from_bytes(record[8:10], "big")
    if not size:
        return tuple(entries.clock_of(record).items())
    return tuple(_unpack_entry(record, _HEADER + _ENTRY * index) for index in range(size))


def siblings_of(record: bytes | None) -> list[Sibling]:
    """Returns the siblings, the oldest dot first (by counter, then actor); none if there is no record."""
    if record is None:
        return []
    if entries.has_entries(record):
        return _siblings_among(record)
    return sorted(decode(record)[1], key=_by_time)


def _siblings_among(record: bytes) -> list[Sibling]:
    """Returns the values and tombstones among the entries of a record."""
    found = []
    for _, kind, dot, expires_at_ms, payload in entries.key_entries(record):
        if kind <= TOMBSTONE:
            actor, counter = entries.unpack_dot(dot)
            found.append(Sibling(actor, counter, expires_at_ms, kind, payload))
    return sorted(found, key=_by_time)


def newest(record: bytes | None) -> Sibling | None:
    """Returns the sibling with the newest dot, which may be a tombstone. Plain Redis commands use this one."""
    if record is None:
        return None
    siblings = siblings_of(record)
    return siblings[-1] if siblings else None


def visible(record: bytes | None, now_ms: int) -> Sibling | None:
    """Returns the newest sibling if it is live at time `now_ms`, else None.

    Of a string with other entries it has the value that they make together. A key of another type is of kind KEY.
    """
    if record is not None and entries.has_entries(record):
        return _visible_entries(record, now_ms)
    sibling = newest(record)
    return sibling if sibling is not None and sibling.is_live(now_ms) else None


def _visible_entries(record: bytes, now_ms: int) -> Sibling | None:
    view = View(record, now_ms)
    if view.key_type == NONE:
        return None
    actor, counter = max(clock_of(record), key=_counter_of)
    value = view.string()
    return Sibling(actor, counter, view.expires_at_ms, KEY if value is None else VALUE, value or b"")


def values_in(record: bytes | None) -> dict[entries.Entry, None]:
    """Returns the entries of a record that are no tombstones, expired ones included."""
    return {} if record is None else dict.fromkeys([each for each in entries.decode(record)[1] if each[1] != TOMBSTONE])


def values_of(record: bytes, now_ms: int) -> list[bytes]:
    """Returns the live values, the newest last: what was added to a number is part of the newest one."""
    present = siblings_of(record)
    found = [sibling.value for sibling in present if sibling.is_live(now_ms)]
    if entries.has_entries(record):
        view = View(record, now_ms)
        if view.newest is not None and found:
            found.pop()
        value = view.string()
        if value is not None:
            found.append(value)
    return found


def is_of_other_type(record: bytes, now_ms: int) -> bool:
    """Whether the key exists at time `now_ms` and is no string."""
    return entries.has_entries(record) and View(record, now_ms).key_type not in (NONE, STRING)


def _counter_of(entry: tuple[bytes, int]) -> tuple[int, bytes]:
    return entry[1], entry[0]


def value_of(record: bytes, now_ms: int) -> bytes | None:
    """HOT. Returns the value for a plain GET at time `now_ms`, or None."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        if not read_i64_be(record, start - 13) and not record[start - 5]:  # no expiry, kind VALUE
            return record[start:]
    sibling = visible(record, now_ms)
    return None if sibling is None or sibling.kind != VALUE else sibling.value


def value_view(record: bytes, now_ms: int) -> memoryview | None:
    """Returns the same as `value_of`, as a view of the record's bytes if it has one sibling."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        expires_at_ms = read_i64_be(record, start - 13)
        if record[start - 5] == VALUE and (not expires_at_ms or expires_at_ms > now_ms):
            return memoryview(record)[start:]
        return None
    sibling = visible(record, now_ms)
    return None if sibling is None or sibling.kind != VALUE else memoryview(sibling.value)


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
    if entries.has_entries(record):
        return deaths.expiry_class(record)
    sibling = newest(record)
    if sibling is None or sibling.kind != VALUE:
        return DEAD
    return EXPIRING if sibling.expires_at_ms else PERSISTENT


def is_dead(record: bytes, now_ms: int) -> bool:
    """Whether no sibling is live at time `now_ms` or later."""
    if read_i16_be(record, 10) == 1:
        start = _VALUE + _ENTRY * clock_entries(record)
        return record[start - 5] != VALUE or 0 < read_i64_be(record, start - 13) <= now_ms
    if entries.has_entries(record):
        return deaths.is_dead(record, now_ms)
    return not any(sibling.is_live(now_ms) for sibling in decode(record)[1])


def last_expiry(record: bytes) -> int:
    """Returns the latest expiry of anything in the record; 0 if nothing expires."""
    if entries.has_entries(record):
        return deaths.last_expiry(record)
    return max([sibling.expires_at_ms for sibling in decode(record)[1]], default=0)


def clock_entries(record: bytes) -> i64:
    """Returns how many entries the clock has."""
    size = i64(read_i16_be(record, 8)) & COUNT_MAX
    return i64(read_i32_be(record, 14)) if not size and entries.has_entries(record) else size


def pruned(record: bytes) -> bytes:
    """Returns the record with a clock that has only the entries of the siblings' actors.

    Its clock no longer covers all superseded writes. So it may replace the record only if no older copy can come back
    (collection.py). Merged with the whole record it gives the whole record.
    """
    if entries.has_entries(record):
        return deaths.pruned(record)
    clock, siblings = decode(record)
    return encode({sibling.actor: clock[sibling.actor] for sibling in siblings}, siblings)


def merge(one: bytes | None, other: bytes | None) -> bytes | None:
    """Returns the merge of two records, the same in any order (P3). If it equals an argument, returns that same object."""
    if one is None:
        return other
    if other is None or ((newer := _newer_of_one_writer(one, other)) is None and one == other):
        return one
    if newer is not None:
        return newer
    if entries.has_entries(one) or entries.has_entries(other):
        merged = joins.join(one, other)
    else:
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
    size = i64(read_i16_be(one, 8)) & COUNT_MAX
    if size != i64(read_i16_be(other, 8)) & COUNT_MAX:
        return None
    end = _HEADER + _ENTRY * size
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
    size = i64(read_i16_be(old, 8)) & COUNT_MAX
    if size == 1 and read_i64_be(old, _HEADER) == read_i64_be(actor, 0):
        if read_i64_be(old, 20) >= counter:
            raise ForeignDot
        return _single(actor, counter, value, expires_at_ms, kind)
    dot = _pack_entry(actor, counter)
    clock = old[_HEADER : _HEADER + _ENTRY * size] if size else entries.encode_clock(entries.clock_of(old))
    before, found, after = clock.partition(actor)
    if found and not len(before) % _ENTRY:
        if after >= dot[ACTOR_BYTES:]:  # `after` begins with the counter
            raise ForeignDot
        after = after[8:]
    else:
        before, after = _around(clock, actor)
    rest = _pack_rest(expires_at_ms, kind, len(value))
    size = (len(before) + len(after)) // _ENTRY + 1
    body = b"".join((_pack_counts(size, 1), before, dot, after, dot, rest, value))
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
    if len(value) >= _LARGE_BYTES:
        head = front.getvalue()
        checksum = xxh3_64(head)
        checksum.update(value)
        return b"".join((checksum.digest(), head, value))
    front.write(value)
    return _digest(body := front.getvalue()) + body


def _around(clock: bytes, actor: bytes) -> tuple[bytes, bytes]:
    """Returns the bytes of a clock before and after the entry of an actor, or around the gap where it would be."""
    offset = 0
    while offset < len(clock) and clock[offset : offset + ACTOR_BYTES] < actor:
        offset += _ENTRY
    known = clock[offset : offset + ACTOR_BYTES] == actor  # the same bytes may also occur across two earlier entries
    return clock[:offset], clock[offset + _ENTRY if known else offset :]


def skeleton(record: bytes) -> bytes:
    """Returns the record with empty values: enough to merge, to tell live from dead, and to list keys. Never stored."""
    if record[10:12] == _ONE and not record[8]:
        body = record[8 : _HEADER + _ENTRY * record[9] + _SIBLING - 4] + b"\x00\x00\x00\x00"
        return xxh3_64_digest(body) + body
    if entries.has_entries(record):
        return deaths.skeleton(record)
    clock, siblings = decode(record)
    return encode(clock, [s._replace(value=b"") for s in siblings])


def summary(record: bytes) -> bytes:
    """Returns a record that tells whether the key exists and of which type it is: for lists of keys. Never stored."""
    return deaths.summary(record) if entries.has_entries(record) else skeleton(record)


def type_of(record: bytes, now_ms: int) -> int:
    """Returns the type of the key at time `now_ms`; NONE if it does not exist then (kinds.py)."""
    if entries.has_entries(record):
        return View(record, now_ms).key_type
    return NONE if value_of(record, now_ms) is None else STRING


def sibling_count(record: bytes) -> int:
    """Returns how many siblings a record has, tombstones included."""
    if entries.has_entries(record):
        return len(siblings_of(record))
    return (record[10] << 8) + record[11]
