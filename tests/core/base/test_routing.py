"""Routes for every combination of live nodes: all nodes agree on one coordinator, and stand-ins are no owners."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.quorum import DoubleTally, Verdict
from server.core.base.routing import Plan, build_routes
from server.core.commands.operator import first_layout
from server.core.ring.change import Change
from server.core.ring.layout import HANDOVER, TRANSFER, Layout
from server.core.ring.succession import commit, hand_over


@cache
def _layout(nodes: int) -> Layout:
    members = [
        {"id": f"n{index}", "name": f"n{index}", "address": f"h:{7000 + index}", "zone": "z", "weight": 1}
        for index in range(nodes)
    ]
    return first_layout({"partitions": 32, "n": 3, "r": 2, "w": 2, "members": members}, "c" * 40)


@given(st.integers(1, 9), st.integers(0, 2**9 - 1))
def test_all_live_nodes_agree_on_the_coordinator(nodes: int, mask: int) -> None:
    layout = _layout(nodes)
    live = [member.id for index, member in enumerate(layout.members) if mask >> index & 1]
    routes = {node: build_routes(layout, node, live.__contains__) for node in live}
    for partition in range(layout.partitions):
        first = next((node for node in layout.preference_list(partition) if node in live), None)
        for node in live:
            route = routes[node][partition]
            assert route.coordinator == (None if node == first else first)
            assert route.reader == (None if node in route.owners else route.coordinator)


@given(st.integers(1, 9), st.integers(0, 2**9 - 1))
def test_stand_ins_are_live_fallbacks_one_for_each_absent_owner(nodes: int, mask: int) -> None:
    layout = _layout(nodes)
    live = [member.id for index, member in enumerate(layout.members) if mask >> index & 1]
    for node in live:
        for partition, route in enumerate(build_routes(layout, node, live.__contains__)):
            owners = layout.owners[partition]
            absent = [owner for owner in owners if owner not in live]
            plan = route.plan
            assert plan.replicas == len(owners)
            assert plan.owned == (node in owners)
            if not plan.owned and len(absent) < len(owners):
                continue  # an owner runs it
            assert list(plan.absent) == absent
            standing = [other for _, other in plan.stand_ins if other]
            fallbacks = [other for other in layout.preference_list(partition) if other in live and other not in owners]
            assert len(standing) == len(set(standing)) == min(len(absent), len(fallbacks))
            assert all(other in fallbacks for other in standing)
            if plan.owned:
                assert standing == fallbacks[: len(absent)], "in the order of the preference list"
            else:
                assert standing[0] == node, "who coordinates has the record anyway"


@given(st.integers(1, 9), st.integers(0, 2**9 - 1), st.integers(0, 2**9 - 1))
def test_who_has_no_room_is_read_from_and_not_written_to(nodes: int, mask: int, room: int) -> None:
    layout = _layout(nodes)
    live = [member.id for index, member in enumerate(layout.members) if mask >> index & 1]
    able = [node for index, node in enumerate(live) if room >> index & 1]
    for node in live:
        unhurt = build_routes(layout, node, live.__contains__)
        for partition, route in enumerate(build_routes(layout, node, live.__contains__, able.__contains__)):
            first = next((other for other in layout.preference_list(partition) if other in able), node)
            assert route.coordinator == (None if node == first else first)
            passes_on = node not in able or (not route.owned and route.coordinator in route.owners)
            assert route.coordinator_for(True) == (route.coordinator if passes_on else None)
            if route.owned or route.coordinator is None:
                assert route.plan.absent == tuple(owner for owner in route.owners if owner not in able)
            assert all(other in ("", node, *able) for _, other in route.plan.stand_ins)
            assert route.reader == unhurt[partition].reader
            assert route.read_plan.stand_ins == unhurt[partition].read_plan.stand_ins


@given(st.integers(4, 9))
def test_a_relayed_command_travels_once_more_to_an_owner_and_no_further(nodes: int) -> None:
    layout = _layout(nodes)
    for node in (member.id for member in layout.members):
        for route in build_routes(layout, node, lambda other: True):
            assert route.coordinator_for(True) == (None if route.owned else route.owners[0])
            assert route.reader_for(True) == (None if route.owned else route.owners[0])
        for route in build_routes(layout, node, lambda other: False):
            assert route.coordinator_for(True) is None
            assert route.reader_for(True) is None


@cache
def _moving(nodes: int, phase: str) -> Layout:
    new = {"name": "new", "address": "h:9", "zone": "z", "weight": 1}
    moving = commit(_layout(nodes), [Change("x1", "join", "new", **new), Change("x2", "leave", "n0")])  # type: ignore[arg-type]
    return hand_over(moving) if phase == HANDOVER else moving


@given(st.integers(2, 7), st.integers(0, 2**8 - 1), st.sampled_from([TRANSFER, HANDOVER]))
def test_while_a_partition_moves_those_who_hold_it_coordinate_and_answer(nodes: int, mask: int, phase: str) -> None:
    layout = _moving(nodes, phase)
    live = [member.id for index, member in enumerate(layout.members) if mask >> index & 1]
    for partition in range(layout.partitions):
        readers, keepers = layout.readers(partition), layout.keepers(partition)
        first = next((node for node in (*readers, *layout.preference_list(partition)) if node in live), None)
        for node in live:
            route = build_routes(layout, node, live.__contains__)[partition]
            assert route.owned == (node in keepers) and route.owners == keepers
            if first is not None:
                assert route.coordinator == (None if node == first else first)
            assert route.reader == (None if node in readers else route.coordinator)
            assert sorted(route.plan.peers) == sorted(set(keepers) - {node})
            assert sorted(route.read_plan.peers) == sorted(set(readers) - {node})
            assert route.read_plan.owned == (node in readers) and not route.read_plan.owner_sets
            assert bool(route.plan.owner_sets) == (partition in dict(layout.former))
            assert route.read_plan.absent == tuple(n for n in route.plan.absent if n in readers)
            assert [pair for pair in route.plan.stand_ins if pair[0] in readers] == list(route.read_plan.stand_ins)


@pytest.mark.parametrize(("r", "verdict"), [(3, Verdict.PENDING), (2, Verdict.MET)])
@pytest.mark.parametrize("phase", [TRANSFER, HANDOVER])
def test_one_owner_that_reads_do_not_ask_is_enough_only_if_they_may_miss_writes_anyway(
    r: int, verdict: Verdict, phase: str
) -> None:
    layout = replace(_moving(3, phase), r=r, w=1)
    partition = dict(layout.former).popitem()[0]
    readers, keepers = layout.readers(partition), layout.keepers(partition)
    route = build_routes(layout, readers[0], lambda node: True)[partition]
    others = [node for node in keepers if node not in readers]
    tally = route.plan.tally(1)
    assert tally.ack(others[0]) is verdict
    assert tally.ack(readers[0]) is Verdict.MET


def test_a_write_to_a_partition_that_moves_needs_its_quorum_among_those_who_are_asked_and_wants_the_others() -> None:
    plan = Plan(("b", "c", "x", "y"), True, (), (("a", "b", "c"), ("a", "x", "y")))
    tally = plan.tally(2)
    assert isinstance(tally, DoubleTally)
    tally.ack("a")
    assert tally.ack("b") is Verdict.PENDING and tally.got == 2
    assert tally.ack("x") is Verdict.MET
    assert plan.tally(1).ack("y") is Verdict.MET, "one alone is enough of them all"
    tally = plan.tally(2)
    tally.ack("a")
    tally.ack("b")
    assert tally.fail("x") is Verdict.PENDING, "y may answer yet"
    assert tally.fail("y") is Verdict.MET, "who is to be an owner and cannot be reached gets a hint, and delays nobody"
    tally = plan.tally(2)
    tally.fail("b")
    assert tally.fail("c") is Verdict.IMPOSSIBLE and tally.ack("x") is Verdict.IMPOSSIBLE


def test_who_is_whole_is_told_from_who_is_not_where_the_others_are_the_same() -> None:
    """A node was removed: some partitions still have the readers n1 and n2, others n1, n2 and n3."""
    before = _layout(4)
    layout = commit(before, [Change("x1", "remove", "n0")])
    for node in ("n1", "n2", "n3"):
        for partition, route in enumerate(build_routes(layout, node, lambda other: True)):
            assert route.plan.owned == (node in layout.keepers(partition))
            assert route.read_plan.owned == (node in layout.readers(partition))
            assert route.read_plan.replicas == len(layout.readers(partition))
