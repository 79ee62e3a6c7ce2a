"""Conflicts: which records have one, what it is said to be, and the record after the decision."""

from __future__ import annotations

from decimal import Decimal

import pytest

from server.core.records import entries, versions
from server.core.records.conflicts import Conflict, conflict_in, decided, types_in
from server.core.records.draft import Draft
from server.core.records.kinds import HASH, KEY_EXPIRY, NONE, SET, STRING
from server.core.records.views import View

ONE, OTHER, THIRD = b"actor--1", b"actor--2", b"actor--3"
NOW = 1000


def value(actor: bytes, counter: int, text: bytes, expires_at_ms: int = 0) -> bytes:
    return versions.supersede(None, actor, counter, text, expires_at_ms)


def deletion(actor: bytes, counter: int) -> bytes:
    return versions.supersede(None, actor, counter, b"", 0, versions.TOMBSTONE)


def hash_of(actor: bytes, counter: int, **fields: bytes) -> bytes:
    draft = Draft(None, 0, HASH)
    for field, payload in fields.items():
        draft.put(field.encode(), payload)
    return draft.record(actor, counter)


def joined(*records: bytes) -> bytes:
    found: bytes | None = None
    for record in records:
        found = versions.merge(found, record)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (value(ONE, 1, b"a"), None),
        (hash_of(ONE, 1, f=b"1"), None),
        (deletion(ONE, 1), None),
        (joined(value(ONE, 1, b"a"), value(OTHER, 2, b"b")), Conflict(STRING, 2, 0, {})),
        (joined(value(ONE, 1, b"a"), deletion(OTHER, 2)), Conflict(NONE, 1, 1, {})),
        (joined(deletion(ONE, 1), value(OTHER, 2, b"b")), Conflict(STRING, 1, 1, {})),
        (joined(deletion(ONE, 1), deletion(OTHER, 2)), None),
        (joined(value(ONE, 1, b"a", NOW), value(OTHER, 2, b"b")), None),  # one has expired
        (joined(value(ONE, 1, b"a"), hash_of(OTHER, 2, f=b"1", g=b"2")), Conflict(HASH, 0, 0, {STRING: 1})),
        (joined(hash_of(ONE, 1, f=b"1", g=b"2"), value(OTHER, 2, b"a")), Conflict(STRING, 1, 0, {HASH: 2})),
        (
            joined(hash_of(ONE, 1, f=b"1"), value(OTHER, 2, b"a"), value(THIRD, 3, b"b")),
            Conflict(STRING, 2, 0, {HASH: 1}),
        ),
        (joined(deletion(ONE, 1), hash_of(OTHER, 2, f=b"1")), None),  # what was added stays, as it should
        (joined(value(ONE, 1, b"a"), deletion(OTHER, 2), hash_of(THIRD, 3, f=b"1")), Conflict(HASH, 0, 0, {STRING: 1})),
    ],
)
def test_what_is_a_conflict(record: bytes, expected: Conflict | None) -> None:
    assert conflict_in(record, NOW) == expected
    assert conflict_in(versions.skeleton(record), NOW) == expected, "the owners of a page send skeletons"
    if expected is not None:
        assert conflict_in(versions.summary(record), NOW) == expected


def test_what_a_later_version_has_written_is_no_conflict() -> None:
    record = entries.encode({ONE: 1, OTHER: 2}, [
        (b"f", 40, entries.pack_dot(ONE, 1), 0, b"?"), (b"f", 3, entries.pack_dot(OTHER, 2), 0, b"v"),
    ])  # fmt: skip
    assert conflict_in(record, NOW) is None


def test_the_newest_live_value_is_kept_with_a_new_dot() -> None:
    record = joined(value(ONE, 1, b"a"), value(OTHER, 2, b"b"), value(THIRD, 3, b"c", NOW))
    kept = decided(record, STRING, NOW, ONE, 9)
    assert kept == versions.supersede(record, ONE, 9, b"b"), "as a SET would have left it"
    assert conflict_in(kept, NOW) is None
    assert versions.merge(kept, record) == kept


def test_a_deletion_that_is_newest_can_be_kept_or_overruled() -> None:
    record = joined(value(ONE, 1, b"a"), deletion(OTHER, 2))
    conflict = conflict_in(record, NOW)
    assert conflict is not None and types_in(conflict) == [NONE, STRING]
    assert versions.is_dead(decided(record, NONE, NOW, ONE, 9), NOW)
    assert versions.value_of(decided(record, STRING, NOW, ONE, 9), NOW) == b"a"


@pytest.mark.parametrize("kept_type", [HASH, SET, STRING])
def test_one_type_is_kept_whole_and_the_rest_goes(kept_type: int) -> None:
    members = Draft(None, 0, SET)
    members.put(b"x", b"")
    record = joined(value(ONE, 3, b"a"), hash_of(OTHER, 1, f=b"1", g=b"2"), members.record(THIRD, 2))
    conflict = conflict_in(record, NOW)
    assert conflict is not None and sorted(types_in(conflict)) == [STRING, HASH, SET]
    kept = decided(record, kept_type, NOW, ONE, 9)
    view = View(kept, NOW)
    assert (view.key_type, conflict_in(kept, NOW)) == (kept_type, None)
    expected = {HASH: [(b"f", b"1"), (b"g", b"2")], SET: [(b"x", b"")], STRING: []}[kept_type]
    assert list(view.items()) == expected and (kept_type != STRING or view.string() == b"a")
    assert versions.merge(record, kept) == kept, "what the decision has seen does not come back"


def test_increments_beside_the_decision_are_not_lost() -> None:
    counter = Draft(None, 0, STRING)
    counter.add(b"", Decimal(5))
    first = counter.record(OTHER, 1)
    record = joined(first, value(ONE, 2, b"10"), value(THIRD, 3, b"20"))
    more = Draft(record, 0, STRING)
    more.add(b"", Decimal(1))
    kept = decided(record, STRING, NOW, THIRD, 9)
    assert View(kept, NOW).string() == b"25"
    assert View(joined(kept, more.record(OTHER, 8)), NOW).string() == b"26"


def test_the_expiry_of_the_key_stays_with_what_is_kept() -> None:
    expiring = Draft(value(ONE, 1, b"5"), 0, STRING)
    expiring.add(b"", Decimal(1))
    first = expiring.record(ONE, 2)
    timed = Draft(first, 0, STRING)
    timed.expire(5000)
    record = joined(timed.record(ONE, 3), hash_of(OTHER, 1, f=b"1"))
    assert any(entry[1] == KEY_EXPIRY for entry in entries.decode(record)[1])
    assert conflict_in(record, NOW) == Conflict(STRING, 1, 0, {HASH: 1})
    assert conflict_in(record, 5000) is None, "all of it has expired"
    kept = View(decided(record, STRING, NOW, ONE, 9), NOW)
    assert (kept.string(), kept.expires_at_ms) == (b"6", 5000)
