"""The preview of a change: which node gives what to which, the balance, the zones."""

import itertools
from dataclasses import replace

from hypothesis import given, settings

from server.core.ring.assignment import assign
from server.core.ring.layout import Layout, Member
from server.core.ring.preview import PartitionMove, moves, preview, zone_violations
from server.core.ring.reassignment import next_owners, reassign
from tests.core.ring.test_reassignment import MEMBERS, PARTITIONS, N, make_layout, make_member


@settings(max_examples=40)
@given(MEMBERS, MEMBERS, PARTITIONS, N)
def test_each_new_seat_is_in_one_move(before: list[Member], after: list[Member], partitions: int, n: int) -> None:
    old = assign(before, partitions, n)
    new = reassign(old, after, n)
    listed = [(partition, move.target) for move in moves(old, new) for partition in move.partitions]
    seats = [(p, node) for p, (was, now) in enumerate(zip(old, new, strict=True)) for node in now if node not in was]
    assert sorted(listed) == sorted(seats)
    for move in moves(old, new):
        assert all(move.source in old[partition] for partition in move.partitions)
    pairs = [(move.source, move.target) for move in moves(old, new)]
    assert pairs == sorted(set(pairs))


def test_who_leaves_gives_to_who_comes() -> None:
    assert moves((("a", "b"), ("b", "a"), ("a", "c")), (("d", "a"), ("d", "b"), ("c", "a"))) == (
        PartitionMove("a", "d", (1,)),
        PartitionMove("b", "d", (0,)),
    )


def test_who_is_gone_gives_nothing() -> None:
    assert moves((("a", "b"), ("b", "a")), (("d", "b"), ("b", "d")), gone=["a"]) == (PartitionMove("b", "d", (0, 1)),)
    assert moves((("a",),), (("d",),), gone=["a"]) == (PartitionMove("a", "d", (0,)),)


def test_a_further_owner_is_fed_by_the_first() -> None:
    assert moves((("a", "b"),), (("b", "c", "a"),)) == (PartitionMove("a", "c", (0,)),)
    assert moves((("a", "b"),), (("b",),)) == ()


def test_zones_that_a_replacement_violates() -> None:
    layout = make_layout([make_member(number, "abc"[number]) for number in range(3)], 8, 2)
    members = [replace(layout.members[0], zone="b"), *layout.members[1:]]
    wrong = zone_violations(layout.owners, members, 2)
    assert wrong == tuple(p for p, row in enumerate(layout.owners) if "m02" not in row)
    assert zone_violations(layout.owners, layout.members, 2) == ()


def test_the_preview_of_a_join() -> None:
    members = [make_member(number) for number in range(4)]
    present = make_layout(members[:3], 128)
    following: Layout = replace(make_layout(members, 128), owners=next_owners(present, members), epoch=2)
    seen = preview(present, following)
    assert seen.balance_before == seen.balance_after == 1.0
    assert seen.zone_violations == ()
    assert [(move.source, move.target) for move in seen.moves] == [("m00", "m03"), ("m01", "m03"), ("m02", "m03")]
    assert [len(move.partitions) for move in seen.moves] == [32, 32, 32]
    given_once = list(itertools.chain(*(move.partitions for move in seen.moves)))
    assert len(set(given_once)) == len(given_once) == 96
