"""The join of two records of which one at least has entries (P3; entries.py has the layout).

Theory. The rule is that of versions.py: an entry is dropped if the other record's clock covers its dot and the other
record does not hold it. There are two short cuts, and one exception.

*Dominance.* If one clock covers the other, the record with the greater clock is the join. It has seen all that the other
one has (an actor never skips a write), so it holds each entry of the other one that nothing has superseded. That is so
because every change of a record of entries takes a dot, also one that only removes. Nothing is decoded.

*Equal chunks.* Else both records are walked chunk by chunk. A chunk that both hold with the same bytes is kept whole.

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

from server.core.records.entries import (
    Assembly,
    Entry,
    Index,
    clock_of,
    covers,
    decode,
    encode,
    has_entries,
    unpack_dot,
)
from server.core.records.kinds import COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA
from server.core.records.numbers import is_folded
from server.core.records.siblings import DamagedRecord

_DELTAS: Final = (COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA)


class Contradiction(DamagedRecord):
    """Two records contradict each other: they have equal dots and different contents."""


def join(one: bytes, other: bytes) -> bytes:
    """Returns the join of two different records. If it equals one of them, returns that same object.

    Raises Contradiction.
    """
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
        return _join_chunks(one, other, one_clock, other_clock, clock)
    kept = _survivors(decode(one)[1], decode(other)[1], one_clock, other_clock)
    return encode(clock, kept)


def _survivors(
    one: list[Entry], other: list[Entry], one_clock: Mapping[bytes, int], other_clock: Mapping[bytes, int]
) -> list[Entry]:
    """Returns the entries that the join keeps, unsorted."""
    held_by_one = {entry[:3]: entry for entry in one}
    held_by_other = {entry[:3]: entry for entry in other}
    kept: list[Entry] = []
    for identity, entry in held_by_one.items():
        twin = held_by_other.get(identity)
        if twin is None:
            actor, counter = unpack_dot(entry[2])
            if counter > other_clock.get(actor, -1):
                kept.append(entry)
        elif twin == entry:
            kept.append(entry)
        else:
            kept.append(_folded_twin(entry, twin))
    for identity, entry in held_by_other.items():
        if identity not in held_by_one:
            actor, counter = unpack_dot(entry[2])
            if counter > one_clock.get(actor, -1):
                kept.append(entry)
    return kept


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
) -> bytes:
    """Joins two records of entries; chunks with equal bytes are kept whole."""
    first, second = Index(one), Index(other)
    of_second = {_chunk(second, chunk): chunk for chunk in range(second.count)}
    equal: list[tuple[bytes, int]] = []  # first field, chunk of `one`
    loose: list[Entry] = []
    for chunk in range(first.count):
        if of_second.pop(_chunk(first, chunk), None) is None:
            loose += first.entries_in(chunk)
        else:
            equal.append((first.entries_in(chunk)[0][0], chunk))
    theirs = [entry for chunk in of_second.values() for entry in second.entries_in(chunk)]
    kept = _survivors(loose, theirs, one_clock, other_clock)
    kept.sort()
    assembly = Assembly()
    place = count = 0
    for field, chunk in equal:
        while place < len(kept) and kept[place][0] < field:
            assembly.add(kept[place])
            place += 1
        row = first.directory + 12 * chunk
        assembly.add_chunks(one[row : row + 12], _chunk(first, chunk))
        count += len(first.entries_in(chunk))
    for entry in kept[place:]:
        assembly.add(entry)
    return assembly.record(clock, count + len(kept))


def _chunk(index: Index, chunk: int) -> bytes:
    return index.record[index.starts[chunk] : index.starts[chunk + 1]]
