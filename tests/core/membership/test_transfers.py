"""Who fetches what from whom: pure functions of the layout."""

from __future__ import annotations

from collections import Counter

import pytest

from server.core.membership.transfers import in_turns, incoming, sources
from server.core.ring.change import LEAVE, REMOVE
from server.core.ring.layout import Layout
from server.core.ring.preview import moves
from server.core.ring.succession import commit, hand_over
from tests.core.membership.test_membership import NAMES, change, layout_of

JOINED = commit(layout_of(NAMES), [change("join", "n5")])
LEFT = commit(layout_of((*NAMES, "n5")), [change(LEAVE, "n2")])
REMOVED = commit(layout_of((*NAMES, "n5")), [change(REMOVE, "n2")])
GROWN = commit(layout_of(NAMES[:2]), [change("join", "n3")])


def test_only_new_owners_fetch_and_only_while_that_is_the_phase() -> None:
    assert incoming(JOINED, "n5") == [p for p, owners in enumerate(JOINED.owners) if "n5" in owners]
    assert incoming(JOINED, "n1") == []
    assert incoming(hand_over(JOINED), "n5") == []


@pytest.mark.parametrize("layout", [JOINED, LEFT, REMOVED, GROWN])
def test_every_former_owner_is_a_source_and_those_who_leave_come_first(layout: Layout) -> None:
    for member in layout.members:
        for partition in incoming(layout, member.id):
            found = sources(layout, partition, member.id)
            assert sorted(found) == sorted(layout.former_owners(partition))
            leaving = [owner for owner in found if owner not in layout.owners[partition]]
            assert not leaving or found[0] in leaving


@pytest.mark.parametrize("layout", [JOINED, LEFT])
def test_the_source_is_the_one_that_the_plan_names(layout: Layout) -> None:
    before = layout_of(NAMES) if layout is JOINED else layout_of((*NAMES, "n5"))
    for move in moves(before.owners, layout.owners):
        for partition in move.partitions:
            assert sources(layout, partition, move.target)[0] == move.source


@pytest.mark.parametrize("layout", [JOINED, REMOVED, GROWN])
def test_sources_share_the_work_and_take_turns(layout: Layout) -> None:
    for member in layout.members:
        order = in_turns(incoming(layout, member.id), layout, member.id)
        assert sorted(order) == incoming(layout, member.id)
        first = [sources(layout, partition, member.id)[0] for partition in order]
        counts = Counter(first)
        assert not first or len(set(first[: len(counts)])) == len(counts)
        if layout is GROWN and first:
            assert max(counts.values()) - min(counts.values()) <= 1
