"""The table of roles in `State` names each attribute once: a reader knows what a restart or a new layout changes."""

from __future__ import annotations

import re
from inspect import getdoc
from unittest import mock

import pytest

from server.core.base import routing
from server.core.base.room import FOR_DELETIONS, FOR_NOTHING
from server.core.base.state import State
from server.core.gossip import note_room
from tests.core.membership.test_membership import Machine, layout_of

pytestmark = pytest.mark.interpreted  # a compiled class has no docstring
ROLES = ("durable", "view", "memory", "output", "flags")


def _table() -> dict[str, str]:
    """The text of each role."""
    document = (getdoc(State) or "").split("\n\n")[1]
    return dict(re.findall(r"^(\w+) +(.*(?:\n .*)*)", document, re.MULTILINE))


def _attributes(state: State) -> list[str]:
    """What the class and the instance hold, without methods and private names."""
    held = {name for name, value in vars(State).items() if not callable(value) and not isinstance(value, property)}
    return sorted(name for name in held | vars(state).keys() if not name.startswith("_"))


def test_each_attribute_has_one_role() -> None:
    table = _table()
    assert tuple(table) == ROLES
    for name in _attributes(Machine().node.state):
        roles = [role for role, text in table.items() if re.search(rf"\b{name}\b(?!\.py)", text)]
        assert len(roles) == 1, f"{name} has the roles {roles}"


def test_durable_state_is_written_by_itself_or_as_a_document() -> None:
    """A part that is durable holds the records, in whose batch its changes travel; the others name who writes them."""
    state = Machine().node.state
    names = re.findall(r"^ *(\w+(?:, \w+)*)$", _table()["durable"], re.MULTILINE)[0].split(", ")
    for name in names:
        part = getattr(state, name)
        assert part is state.records or state.records in vars(part).values(), f"{name} cannot store its changes"


def test_a_change_of_the_routes_for_deletions_alone_shows_by_another_list() -> None:
    """A client that waits to pop an element goes by these routes, and reviews its keys when it sees another list."""
    machine = Machine(layout=layout_of())
    state = machine.node.state
    for peer in ("n2", "n3"):
        machine.node.greeted(peer, machine.now_ms)
        machine.node.connected(peer, machine.now_ms)
    partition = next(index for index, route in enumerate(state.routes) if route.coordinator == "n2")
    note_room(state, "n2", FOR_DELETIONS)
    before = state.routes
    assert before[partition].coordinator != "n2" and state.deletion_routes[partition].coordinator == "n2"
    note_room(state, "n2", FOR_NOTHING)
    assert state.deletion_routes[partition].coordinator != "n2"
    assert state.routes is not before


def test_a_tick_refreshes_stale_routes() -> None:
    machine = Machine(layout=layout_of())
    node, table = machine.node, machine.node.state.route_table
    assert table is not None
    with mock.patch.object(routing, "DEFER_MIN", 0):
        node.greeted("n2", machine.now_ms)
        node.connected("n2", machine.now_ms)
    assert table.is_stale
    machine.pass_ms(100)
    assert not table.is_stale
