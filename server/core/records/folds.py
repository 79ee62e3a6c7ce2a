"""Folds: the sums of actors that are gone, made into one, so that a counter does not grow with every restart of a node.

Theory. What an actor has added to a number is one entry, and each start of a node makes new actors (base/clock.py). So a
counter gathers entries that nobody will change again. `folded` keeps one of them, the newest of those that were never
folded: its payload becomes the sum of all, and the others go. A leading zero marks such a payload, as in `030`. It counts
as the number that it spells, also for a node that knows nothing of folds.

A fold is no write of a client, and two folds of the same sums on two sides would count them twice. It is done by the
agreement that collects (collection/collection.py), to which three things are added:

- All members say which actors they have now, and a member says yes only if its own are among these. An actor of none of
  them is gone for good: a process begins with new ones, and a node that has left cannot come back with its records.
- A member gives one vote to fold a key at a time, and a DROP folds only where that vote is still open. So one fold of a
  record is carried out at most, everywhere with the same result.
- At the fence nobody has anything but this record R, or nothing. So all that is written later is based on R, or on the
  folded record F, where a DROP has arrived.

Why the sums are neither lost nor counted twice, whatever is written on R or F and merged. F has a dot of its own in its
clock, derived from R; no entry carries it, as with a removal. So F supersedes R. Now join a record based on R with one
based on F. The sums that F lacks go, for F's clock covers them. The one that F keeps has the same identity on both sides
(the same dot), and the folded payload stands for it (joins.py). If a write on either side has superseded it, as SET does,
then it has superseded the others, too, and all go. That is why a fold keeps a dot that writers have seen: a SET on R would
not cover a new one. A twin that is folded wins over one that is not, always, so the merge remains commutative, associative
and idempotent. An owner that misses the DROP gets F, or what was made of it, by the next merge.

The clock is pruned afterwards, as always. Of a key that hides entries nothing is folded: the newest dot decides its type.

A context that was read before covers perhaps some of the sums only. DYN.SET with it then leaves the whole folded sum.
(Rejected: a new entry with the dot of the node that folds. A SET on another owner, who has not heard of the fold, would
bring the whole sum back.)

(Considered for a SET beside an increment, README: a SET that remembers how much of each sum it has seen, so that only the
rest counts. xredis-crdt does so. But what a SET or DEL remembers must outlive it until no older sum can come back, and goes
along with each further write: a removed field of a hash would leave an entry behind, removed fields would gather, and no
counter that was ever set would be a plain record again. riak_dt gives the same answer as we: the whole sum of that actor.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_digest

from server.core.records.entries import Entry, by_field, decode, encode, has_entries, marks_of, newness
from server.core.records.kinds import COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA
from server.core.records.numbers import DELTA_BYTES_MAX, decimal_of, folded_text_of, is_folded, plus
from server.core.records.views import View

_DELTAS: Final = (COUNTER_DELTA, HASH_DELTA, MEMBER_DELTA)
_DELTA_MARKS: Final = 1 << COUNTER_DELTA | 1 << HASH_DELTA | 1 << MEMBER_DELTA


def has_sums(record: bytes) -> bool:
    """Whether a record has entries that could be folded, if their actors are gone."""
    return has_entries(record) and marks_of(record) & _DELTA_MARKS > 0


def folded(record: bytes, writers: Sequence[bytes]) -> bytes:
    """Returns the record with the sums of all actors but `writers` folded; the same record if that changes nothing."""
    if not has_sums(record) or View(record, 0).hides:
        return record
    clock, present = decode(record)
    kept: list[Entry] = []
    for _, group in by_field(present):
        kept += _folded_field(group, writers)
    if len(kept) == len(present):
        return record
    clock[xxh3_64_digest(b"fold" + record[:8])] = max(clock.values())
    return encode(clock, kept)


def _folded_field(group: list[Entry], writers: Sequence[bytes]) -> list[Entry]:
    """Returns the entries of one field after the fold."""
    gone = [entry for entry in group if entry[1] in _DELTAS and entry[2][:8] not in writers]
    fresh = [entry for entry in gone if not is_folded(entry[4])]
    if len(gone) < 2 or not fresh:
        return group
    target = fresh[0]
    total = decimal_of(b"0")
    for entry in gone:
        total = plus(total, decimal_of(entry[4]))
    for entry in fresh:
        if newness(entry[2]) > newness(target[2]):
            target = entry
    text = folded_text_of(total)
    if len(text) > DELTA_BYTES_MAX:
        return group
    return [entry for entry in group if entry not in gone] + [(target[0], target[1], target[2], 0, text)]
