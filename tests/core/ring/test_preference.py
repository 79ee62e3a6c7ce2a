"""Preference lists are those that the plain computation gives, and neither their time nor their size grows with members."""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.ring.change import READ_QUORUM, REPLICA_COUNT, WRITE_QUORUM, Change
from server.core.ring.computation import compute_now
from server.core.ring.layout import TRANSFER, Layout, Member
from server.core.ring.preference import Fallbacks
from server.core.ring.succession import commit, hand_over
from tests.core.ring.naive_preference import preference_lists

PARTITIONS = 32


def _layout(zones: str, weights: list[int], n: int, rng: random.Random) -> Layout:
    """Any owners, so that loads are uneven."""
    members = tuple(
        Member(f"m{index:03}", f"n{index}", f"h:{index + 1}", zone, weight)
        for index, (zone, weight) in enumerate(zip(zones, weights, strict=False))
    )
    n = min(n, len(members))
    owners = tuple(tuple(rng.sample([member.id for member in members], n)) for _ in range(PARTITIONS))
    return Layout("c", 1, PARTITIONS, n, 1, 1, members, owners)


LAYOUTS = st.builds(
    _layout,
    zones=st.text("abcd", min_size=1, max_size=40),
    weights=st.lists(st.integers(1, 3), min_size=40, max_size=40),
    n=st.integers(1, 4),
    rng=st.randoms(use_true_random=False),
)


@given(LAYOUTS)
@settings(max_examples=200)
def test_the_lists_are_those_of_the_plain_computation(layout: Layout) -> None:
    assert tuple(map(layout.preference_list, range(PARTITIONS))) == preference_lists(layout)


@given(LAYOUTS, st.data())
@settings(max_examples=50)
def test_so_they_are_while_members_leave_and_partitions_move(layout: Layout, data: st.DataObject) -> None:
    ids = [member.id for member in layout.members]
    gone = data.draw(st.lists(st.sampled_from(ids), max_size=len(ids) - 1, unique=True))
    moving = commit(layout, [Change(f"c{index}", "leave", node) for index, node in enumerate(gone)])
    assert tuple(map(moving.preference_list, range(PARTITIONS))) == preference_lists(moving)


@given(LAYOUTS, st.integers(1, 5))
@settings(max_examples=50)
def test_so_they_are_while_n_changes(layout: Layout, n: int) -> None:
    n = min(n, len(layout.members))
    numbers = {REPLICA_COUNT: n, READ_QUORUM: n, WRITE_QUORUM: n}
    moving = commit(layout, [Change("c", kind, "", weight=number) for kind, number in numbers.items()])
    for phase in (moving, hand_over(moving) if moving.phase == TRANSFER else moving):
        assert tuple(map(phase.preference_list, range(PARTITIONS))) == preference_lists(phase)


@given(LAYOUTS, st.data())
def test_a_few_nodes_are_ranked_as_in_the_list(layout: Layout, data: st.DataObject) -> None:
    ids = [member.id for member in layout.members]
    few = data.draw(st.lists(st.sampled_from(ids), unique=True))
    for partition, keepers in enumerate(layout.owners):
        listed = [node for node in layout.preference_list(partition)[len(keepers) :] if node in few]
        for count in (1, 2, len(few)):
            assert layout.fallbacks.first_of(partition, keepers, few, count) == listed[:count]


def test_the_computation_does_not_grow_with_the_members() -> None:
    """Units are steps: with the plain computation they are partitions times members."""

    def units(nodes: int) -> int:
        rng = random.Random(1)
        layout = replace(_layout("abc" * (nodes // 3), [1] * nodes, 3, rng), n=3)
        return sum(Fallbacks(layout).compute(layout))

    assert units(900) <= 2 * units(30)
    compute_now(_layout("abc", [1, 1, 1], 3, random.Random(1)).prepared())
