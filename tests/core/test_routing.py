"""Routes for every view of who is live: one coordinator whom all agree on, and stand-ins that are no owners."""

from __future__ import annotations

from functools import cache

from hypothesis import given
from hypothesis import strategies as st

from server.core.commands.operator import first_layout
from server.core.layout import Layout
from server.core.routing import build_routes


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
