"""Conflicts: what concurrent writes have left under one key for somebody to decide, and the record after the decision.

Theory. Most concurrent writes need no decision: sums add up, fields and elements stand beside each other (kinds.py). Two
things remain. A string may have several values, or a value and a deletion: siblings. And a key may have entries of more
than one type: all but those of the newest dot are hidden (views.py). Both go with the next write that has seen them. Until
then they cost room, and no plain command shows them. So an operator wants to find them.

A decision keeps one type, and of a string its newest live value. It is a write: it takes a dot, and supersedes all else
that it has seen. The value that is kept gets this dot, so the result is what a SET would have left. Sums, fields, elements
and members keep their dots: an increment or an addition that is made elsewhere at this moment is not lost.

Not counted as hidden: entries of unknown kinds (only a later version knows what they mean; a decision keeps them), and
whatever has expired. A deletion beside a collection or a sum is no conflict: what was added at the same time stays.
"""

from __future__ import annotations

from typing import NamedTuple

from server.core.records import entries
from server.core.records.entries import Entry, Index, newness
from server.core.records.kinds import KEY_EXPIRY, NONE, OPAQUE, STRING, type_of_kind
from server.core.records.siblings import TOMBSTONE, VALUE
from server.core.records.versions import sibling_count, supersede
from server.core.records.views import View


class Conflict(NamedTuple):
    """What a key has beside what it shows. `key_type` is the type that it shows, NONE for a key that is deleted."""

    key_type: int
    values: int  # live values of the string that it shows
    deletions: int  # written at the same time as these
    hidden: dict[int, int]  # type -> fields that are hidden; of a string its values


def conflict_in(record: bytes, now_ms: int) -> Conflict | None:
    """Returns the conflict under a key at time `now_ms`, or None. A skeleton of the record says the same."""
    if not entries.has_entries(record) and sibling_count(record) < 2:
        return None
    view = View(record, now_ms)
    if view.has_expired:
        return None
    present = entries.key_entries(record) if entries.has_entries(record) else entries.decode(record)[1]
    values = len([entry for entry in present if entry[1] == VALUE and _is_live(entry, now_ms)])
    deletions = len([entry for entry in present if entry[1] == TOMBSTONE])
    hidden = _hidden(record, view) if view.hides else {}
    if view.key_type not in (NONE, STRING):
        values = deletions = 0
    elif view.key_type == NONE:
        hidden.pop(STRING, None)  # the values of a deleted string are `values`
    if hidden or (values and values + deletions > 1):
        return Conflict(view.key_type, values, deletions, hidden)
    return None


def _hidden(record: bytes, view: View) -> dict[int, int]:
    """Returns what a record hides. All is decoded: such records are rare and short-lived."""
    index = Index(record)
    fields: dict[int, dict[bytes, None]] = {}
    for chunk in range(index.count):
        for entry in index.entries_in(chunk):
            each = type_of_kind(entry[1])
            if each not in (NONE, OPAQUE, view.key_type) and _is_live(entry, view.now_ms):
                fields.setdefault(each, {})[entry[2] if entry[1] == VALUE else entry[0]] = None
    return {each: len(fields[each]) for each in sorted(fields)}


def _is_live(entry: Entry, now_ms: int) -> bool:
    return not entry[3] or entry[3] > now_ms


def types_in(conflict: Conflict) -> list[int]:
    """Returns the types of which one can be kept, the one that the key shows first; NONE stands for a deletion."""
    found = [conflict.key_type, *conflict.hidden]
    return found if STRING in found or not conflict.values else [*found, STRING]


def decided(record: bytes, key_type: int, now_ms: int, actor: bytes, counter: int) -> bytes:
    """Returns the record after a decision for one type, by the write (actor, counter). Raises ForeignDot."""
    if key_type == NONE:
        return supersede(record, actor, counter, b"", 0, TOMBSTONE)
    clock, present = entries.decode(record)
    entries.advance(clock, actor, counter)
    kept: list[Entry] = []
    value: Entry | None = None
    for entry in present:
        kind = entry[1]
        if kind == VALUE:
            if (
                key_type == STRING
                and _is_live(entry, now_ms)
                and (value is None or newness(entry[2]) > newness(value[2]))
            ):
                value = entry
        elif kind == KEY_EXPIRY or type_of_kind(kind) in (key_type, OPAQUE):
            kept.append(entry)
    if value is not None:
        kept.append((b"", VALUE, entries.pack_dot(actor, counter), _expiry_of(value, kept), value[4]))
    return entries.encode(clock, kept)


def _expiry_of(value: Entry, kept: list[Entry]) -> int:
    """Returns the expiry that a value has when it gets a newer dot than the key's expiry, which it then governs."""
    expiries = [entry for entry in kept if entry[1] == KEY_EXPIRY and newness(entry[2]) > newness(value[2])]
    return max(expiries, key=lambda entry: newness(entry[2]))[3] if expiries else value[3]
