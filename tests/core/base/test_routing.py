"""Routes for every combination of live nodes: all nodes agree on one coordinator, and stand-ins are no owners."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base import routing
from server.core.base.quorum import DoubleTally, Verdict
from server.core.base.routing import REFRESHED_MAX, Plan, Route, RouteTable, build_routes
from server.core.commands.operator import first_layout
from server.core.ring.change import READ_QUORUM, REPLICA_COUNT, WRITE_QUORUM, Change
from server.core.ring.layout import HANDOVER, TRANSFER, Layout, Member
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


def _shape(route: Route) -> tuple[object, ...]:
    plans = [
        (plan.peers, plan.owned, plan.stand_ins, plan.owner_sets, plan.numbers)
        for plan in (route.plan, route.read_plan)
    ]
    return route.owners, route.owned, route.coordinator, route.reader, route.lacks_room, plans


def _with_n(nodes: int, n: int) -> Layout:
    """The layout, while N changes to `n`."""
    numbers = {REPLICA_COUNT: n, READ_QUORUM: n // 2 + 1, WRITE_QUORUM: n // 2 + 1}
    return commit(_layout(nodes), [Change("c", kind, "", weight=number) for kind, number in numbers.items()])


CHANGED: dict[str, Callable[[int], Layout]] = {
    "settled": _layout,
    "a node leaves": lambda nodes: commit(_layout(nodes), [Change("c1", "leave", "n0")]),
    "N grows": lambda nodes: _with_n(nodes, 5),
    "N has grown": lambda nodes: hand_over(_with_n(nodes, 5)),
    "N shrinks": lambda nodes: _with_n(nodes, 2),
}


@given(
    st.integers(5, 9),
    st.integers(0, 4),
    st.lists(st.tuples(st.integers(0, 2**9 - 1), st.integers(0, 2**9 - 1)), max_size=6),
    st.sampled_from(list(CHANGED)),
    st.booleans(),
)
def test_an_update_gives_the_routes_that_a_computation_from_nothing_gives(
    nodes: int, self_place: int, masks: list[tuple[int, int]], what: str, are_many: bool
) -> None:
    """With many members (here with any number) some may be stale: these name able nodes, and a refresh ends it."""
    layout = CHANGED[what](nodes)
    ids = [member.id for member in layout.members]
    table = RouteTable(layout, ids[self_place])
    for live_mask, room_mask in masks:
        live = [node for index, node in enumerate(ids) if live_mask >> index & 1]
        roomy = [node for index, node in enumerate(ids) if room_mask >> index & 1]
        able = [node for node in ids if node in roomy and (node in live or node == ids[self_place])]
        anew = build_routes(layout, ids[self_place], live.__contains__, roomy.__contains__)
        if are_many:
            with mock.patch.object(routing, "DEFER_MIN", 0):
                routes = table.update(live.__contains__, roomy.__contains__)
            for route, fresh in zip(routes, anew, strict=True):
                assert route.plan.absent == fresh.plan.absent and route.coordinator in (None, *able)
                assert all(node in ("", ids[self_place], *able) for _, node in route.plan.stand_ins)
        routes = table.update(live.__contains__, roomy.__contains__, refresh=are_many)
        assert list(map(_shape, routes)) == list(map(_shape, anew)) and not table.is_stale


def test_a_node_that_comes_to_a_large_cluster_changes_few_routes_at_once() -> None:
    """When a node starts, nearly all partitions have fallen back: to compute them with each link took minutes."""
    layout = _large_layout()
    live = ["m010"]
    table = RouteTable(layout, "m000")
    before = table.update(live.__contains__, lambda node: True)
    live.append("m050")
    after = table.update(live.__contains__, lambda node: True)
    anew = [partition for partition in range(1024) if after[partition] is not before[partition]]
    assert anew == [partition for partition in range(1024) if "m050" in layout.owners[partition]] and table.is_stale
    live.remove("m010")
    lost = table.update(live.__contains__, lambda node: True)
    assert not [route for route in lost if route.coordinator == "m010"]
    present, refreshed = lost, 0
    while table.is_stale:  # some in each tick, and all in the end
        following = table.update(live.__contains__, lambda node: True, refresh=True)
        count = sum(one is not other for one, other in zip(present, following, strict=True))
        assert count <= REFRESHED_MAX
        present, refreshed = following, refreshed + count
    assert refreshed > 3 * REFRESHED_MAX
    anew = build_routes(layout, "m000", live.__contains__)
    assert list(map(_shape, present)) == list(map(_shape, anew))


def _large_layout() -> Layout:
    """100 members, of which each owns a few partitions."""
    members = tuple(Member(f"m{index:03}", f"n{index}", f"h:{index + 1}", "z", 1) for index in range(100))
    owners = tuple(tuple(members[(7 * p + step) % 100].id for step in range(3)) for p in range(1024))
    return Layout("c", 1, 1024, 3, 2, 2, members, owners)


def test_a_node_that_comes_during_a_refresh_is_found_by_the_next_one() -> None:
    layout = _large_layout()
    live = ["m010"]
    table = RouteTable(layout, "m000")
    table.update(live.__contains__, lambda node: True)
    for node in ("m020", "m030", "m040"):
        live.append(node)
        routes = table.update(live.__contains__, lambda node: True, refresh=True)
    while table.is_stale:
        routes = table.update(live.__contains__, lambda node: True, refresh=True)
    anew = build_routes(layout, "m000", live.__contains__)
    assert list(map(_shape, routes)) == list(map(_shape, anew))


def test_a_change_of_one_node_computes_its_own_partitions_anew() -> None:
    """In a large cluster these are few; and a change of nothing makes no other list, by which others see a change."""
    layout = _large_layout()
    gone: list[str] = []
    table = RouteTable(layout, "m000")
    before = table.update(lambda node: node not in gone, lambda node: True)
    assert table.update(lambda node: node not in gone, lambda node: True) is before
    gone.append("m050")
    after = table.update(lambda node: node not in gone, lambda node: True)
    anew = [partition for partition in range(1024) if after[partition] is not before[partition]]
    assert anew == [partition for partition in range(1024) if "m050" in layout.owners[partition]]
