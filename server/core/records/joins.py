"""The join of two records of which one at least has entries (P3; entries.py has the layout).

Theory. The rule is that of versions.py: an entry is dropped if the other record's clock covers its dot and the other
record does not hold it. There are two short cuts, and one exception.

*Dominance.* If one clock covers the other, the record with the greater clock is the join. It has seen all that the other
one has (an actor never skips a write), so it holds each entry of the other one that nothing has superseded. That is so
because every change of a record of entries takes a dot, also one that only removes. Nothing is decoded.

*Equal chunks.* Else both records are walked chunk by chunk. A chunk that both hold with the same bytes is kept whole.

*Slices.* A join of two large records takes about a microsecond an entry, so it pauses. Where it may be waited for, it is
made before the message with the record is handled (preparing.py).

*Folded sums.* Of two entries with the same identity, one may be a sum that was folded (folds.py). It stands for both.

Contradictions. Two records with equal clocks and different entries cannot both be right, and no more can two entries with
the same identity and different contents otherwise. Only a fault of a program makes them. A join of such records would lose
data or bring removed data back, and nodes might disagree about it. So it is refused with `Contradiction`, a kind of
DamagedRecord: a client that reads the key gets the error, a replica refuses the record, repair reports it, and no node
ends. A write that supersedes everything (SET, DEL) at an owner makes the key whole again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from server.core.formats.pausing import Pace, Slices, run_through
from server.core.records.entries import (
    ROW_BYTES,
    Assembly,
    Entry,
    Index,
    clock_of,
    covers,
    decode,
    encode,
    field_at,
    has_entries,
    unpack_dot,
)
from server.core.records.kinds import COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA
from server.core.records.numbers import is_folded
from server.core.records.siblings import DamagedRecord

_LONG_BYTES: Final = 64 << 10  # of both records: to join some thousand entries takes some milliseconds
_DELTAS: Final = (COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA)


class Contradiction(DamagedRecord):
    """Two records contradict each other: they have equal dots and different contents."""


def join(one: bytes, other: bytes) -> bytes:
    """Returns the join of two different records. If it equals one of them, returns that same object.

    Raises Contradiction.
    """
    return run_through(join_in_slices(one, other))


def is_long(one: bytes, other: bytes) -> bool:
    """Whether the join of two records takes more than one slice: both are large, and neither clock covers the other."""
    if not has_entries(one) or not has_entries(other) or len(one) < _LONG_BYTES or len(other) < _LONG_BYTES:
        return False
    one_clock, other_clock = clock_of(one), clock_of(other)
    return not covers(one_clock, other_clock) and not covers(other_clock, one_clock)


def join_in_slices(one: bytes, other: bytes) -> Slices[bytes]:
    """As `join`, in slices."""
    one_clock, other_clock = clock_of(one), clock_of(other)
    one_covers, other_covers = covers(one_clock, other_clock), covers(other_clock, one_clock)
    if one_covers and other_covers:
        raise Contradiction(f"records of {len(one)} and {len(other)} bytes have equal clocks and different entries")
    if one_covers:
        return one
    if other_covers:
        return other
    clock = one_clock | {actor: counter for actor, counter in other_clock.items() if counter > one_clock.get(actor, -1)}
    if has_entries(one) and has_entries(other):
        return (yield from _join_chunks(one, other, one_clock, other_clock, clock))
    kept = yield from _survivors(decode(one)[1], decode(other)[1], one_clock, other_clock)
    return encode(clock, kept)


def _survivors(
    one: list[Entry], other: list[Entry], one_clock: Mapping[bytes, int], other_clock: Mapping[bytes, int]
) -> Slices[list[Entry]]:
    """Returns the entries that the join keeps, in order. Both lists are in order."""
    kept: list[Entry] = []
    place = other_place = 0
    pace = Pace()
    while place < len(one) or other_place < len(other):
        if pace.is_full():
            yield
        entry = one[place] if place < len(one) else other[other_place]
        twin = other[other_place] if other_place < len(other) else entry
        identity, twin_identity = entry[:3], twin[:3]
        if place == len(one) or twin_identity < identity:
            other_place += 1
            if not _is_covered(twin, one_clock):
                kept.append(twin)
        elif other_place == len(other) or identity < twin_identity:
            place += 1
            if not _is_covered(entry, other_clock):
                kept.append(entry)
        else:
            place += 1
            other_place += 1
            kept.append(entry if twin == entry else _folded_twin(entry, twin))
    return kept


def _is_covered(entry: Entry, clock: Mapping[bytes, int]) -> bool:
    """Whether a clock covers the dot of an entry."""
    actor, counter = unpack_dot(entry[2])
    is_covered: bool = counter <= clock.get(actor, -1)
    return is_covered


def _folded_twin(entry: Entry, twin: Entry) -> Entry:
    """Returns that of two entries with the same identity and different contents which is a folded sum (folds.py)."""
    if entry[1] in _DELTAS and is_folded(entry[4]) != is_folded(twin[4]):
        return entry if is_folded(entry[4]) else twin
    raise Contradiction(f"an entry of kind {entry[1]} has one dot and two contents")


def _join_chunks(
    one: bytes,
    other: bytes,
    one_clock: Mapping[bytes, int],
    other_clock: Mapping[bytes, int],
    clock: Mapping[bytes, int],
) -> Slices[bytes]:
    """Joins two records of entries; chunks with equal bytes are kept whole, and not decoded."""
    first, second = Index(one), Index(other)
    of_second = {_chunk(second, chunk): chunk for chunk in range(second.count)}
    equal = [chunk for chunk in range(first.count) if of_second.pop(_chunk(first, chunk), None) is not None]
    of_both = dict.fromkeys(equal)
    loose = yield from _entries_of(first, [chunk for chunk in range(first.count) if chunk not in of_both])
    theirs = yield from _entries_of(second, list(of_second.values()))
    pace = Pace()
    kept = yield from _survivors(loose, theirs, one_clock, other_clock)
    assembly = yield from _assembled(first, equal, kept, pace)
    return assembly.record(clock, first.entries - len(loose) + len(kept))


def _assembled(index: Index, chunks: list[int], entries: list[Entry], pace: Pace) -> Slices[Assembly]:
    """Returns these chunks of a record and these entries, in order."""
    assembly, place = Assembly(), 0
    for chunk in chunks:
        field = field_at(index.record, index.starts[chunk])
        while place < len(entries) and entries[place][0] < field:
            if pace.is_full(2):
                yield
            assembly.add(entries[place])
            place += 1
        row = index.directory + ROW_BYTES * chunk
        assembly.add_chunks(index.record[row : row + ROW_BYTES], _chunk(index, chunk))
    for entry in entries[place:]:
        if pace.is_full(2):
            yield
        assembly.add(entry)
    return assembly


def _entries_of(index: Index, chunks: list[int]) -> Slices[list[Entry]]:
    """Returns the entries of some chunks."""
    found: list[Entry] = []
    pace = Pace()
    for chunk in chunks:
        found += index.entries_in(chunk)
        if pace.is_full(index.row(chunk)[1]):
            yield
    return found


def _chunk(index: Index, chunk: int) -> bytes:
    return index.record[index.starts[chunk] : index.starts[chunk + 1]]
