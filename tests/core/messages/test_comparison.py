"""How a replica answers a read group, key by key."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.messages.comparison import ABSENT, UNREADABLE, by_index, checksums, differences
from server.core.records.versions import supersede

ACTOR = b"actor-a."
ONE, TWO, THREE = (supersede(None, ACTOR, number, b"value") for number in (1, 2, 3))
NO_LIMIT = 1 << 30
RECORD = st.sampled_from([None, ONE, TWO, THREE])


@pytest.mark.parametrize(
    ("ours", "theirs", "may_lack", "told"),
    [
        # theirs: the coordinator's; "?" cannot be read
        (ONE, ONE, False, "="),
        (TWO, ONE, False, "+"),
        (TWO, None, False, "+"),
        (TWO, "?", False, "+"),
        (None, None, False, "="),
        (None, ONE, False, "-"),
        (None, "?", False, "-"),
        (None, None, True, "?"),
        (None, ONE, True, "?"),
        (ONE, ONE, True, "="),
        ("?", ONE, False, "?"),
        ("?", None, False, "?"),
        ("?", "?", False, "?"),
    ],
)
def test_the_table_of_states(ours: bytes | str | None, theirs: bytes | str | None, may_lack: bool, told: str) -> None:
    asked = checksums([theirs if isinstance(theirs, bytes) else None], [0] if theirs == "?" else ())
    record = ours if isinstance(ours, bytes) else None
    items = differences(asked, [record], [0] if ours == "?" else (), may_lack, NO_LIMIT)
    assert items == [told.encode(), *([record] if told == "+" else [])]


def test_a_key_that_differs_costs_that_key() -> None:
    theirs: list[bytes | None] = [ONE] * 200
    ours = [*theirs[:77], TWO, *theirs[78:]]
    items = differences(checksums(theirs, ()), ours, (), False, NO_LIMIT)
    assert items[1:] == [TWO]
    assert sum(map(len, items)) == 200 + len(TWO)


@given(st.lists(st.tuples(RECORD, RECORD, st.booleans(), st.booleans()), max_size=30))
def test_the_coordinator_knows_afterwards_what_the_replica_holds(
    rows: list[tuple[bytes | None, bytes | None, bool, bool]],
) -> None:
    unreadable_here = [place for place, row in enumerate(rows) if row[2]]
    unreadable_there = [place for place, row in enumerate(rows) if row[3]]
    coordinator = [None if row[2] else row[0] for row in rows]
    replica = [None if row[3] else row[1] for row in rows]
    items = differences(checksums(coordinator, unreadable_here), replica, unreadable_there, False, NO_LIMIT)
    told, unknown = by_index(items[0], items[1:])
    assert unknown == unreadable_there
    for place, record in enumerate(replica):
        if place not in unknown:
            assert told.get(place, coordinator[place]) == record


def test_records_that_have_no_room_together_are_no_vote() -> None:
    size = len(ONE)
    items = differences(ABSENT * 4, [ONE, TWO, THREE, ONE], (), False, 2 * size)
    assert items == [b"++??", ONE, TWO]
    assert differences(ABSENT, [ONE], (), False, 1) == [b"+", ONE], "one alone always has room"


def test_what_cannot_be_read_has_no_checksum_of_a_record() -> None:
    assert checksums([ONE, None, TWO], [1]) == ONE[:8] + UNREADABLE + TWO[:8]
    assert checksums([ONE, None, TWO], ()) == ONE[:8] + ABSENT + TWO[:8]
