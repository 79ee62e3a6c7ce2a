"""Which values are staged: those that this node is likely to store as they are, in the turn that handles them."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.slots import key_slot
from server.core.base.room import FOR_DELETIONS
from server.core.messages.questions import KINDS
from server.core.node import Node
from tests.core.commands.talking import make_node, reach

LARGE = b"v" * (1 << 20)
SMALL = LARGE[1:]


def cluster_node() -> Node:
    """The first of three nodes; the others are up."""
    node = make_node(3)
    for number in (2, 3):
        reach(node, number)
    node.state.reroute()
    return node


def key_of(node: Node, coordinated: bool) -> bytes:
    """A key that this node coordinates, or not."""
    routes, shift = node.state.routes, node.state.route_shift
    keys = (b"key:%d" % number for number in range(1000))
    return next(key for key in keys if (routes[key_slot(key) >> shift].coordinator is None) == coordinated)


@pytest.mark.parametrize(
    ("before", "behind"),
    [(["SET"], []), (["set"], ["PX", "9"]), (["SETEX", "9"], []), (["psetex", "9"], []), (["GETSET"], []),
     (["DYN.SET"], ["W", "1"])],
)  # fmt: skip
def test_the_value_of_a_write_that_this_node_coordinates(before: list[str], behind: list[str]) -> None:
    node = cluster_node()
    name, rest = before[0].encode(), [word.encode() for word in before[1:]]
    for value, is_staged in ((LARGE, True), (SMALL, False)):
        for coordinated in (True, False):
            args = [name, key_of(node, coordinated), *rest, value, *[word.encode() for word in behind]]
            expected = [value] if is_staged and coordinated else []
            assert node.values_of_commands([[b"PING"], args, [b"GET", b"x"]]) == expected


@pytest.mark.parametrize(
    "args", [[b"ECHO", LARGE], [b"SET"], [b"SET", LARGE], [b"SETEX", b"k", LARGE], [b"APPEND", b"k", LARGE]]
)
def test_no_value_of_anything_else(args: list[bytes]) -> None:
    assert make_node().values_of_commands([args]) == []


def test_records_that_a_message_brings_to_be_stored() -> None:
    node = cluster_node()
    for kind in (b"STORE", b"KEEP", b"HINT", b"ASK"):
        assert kind == b"ASK" or kind in KINDS
        assert node.values_of_message([kind, b"1", b"2", b"key", LARGE, b"key", SMALL]) == [LARGE]
    for kind in (b"RECORDS", b"DIFFER", b"RELAYED", b"ANSWER", b"later"):
        assert node.values_of_message([kind, b"1", b"2", b"key", LARGE]) == []


def test_commands_that_are_relayed_to_this_node() -> None:
    """As an owner it runs what it gets, whoever it takes for the coordinator."""
    node = cluster_node()
    message: list[Any] = [b"RELAY", b"1", b"2", b"3", [b"0", b"0", b"0"]]
    message += [[b"SET", key_of(node, True), LARGE], [b"SET", key_of(node, False), LARGE], [b"GET", b"k"]]
    assert node.values_of_message(message) == [LARGE, LARGE]


def test_nothing_on_a_disk_without_room() -> None:
    node = make_node()
    node.state.room = FOR_DELETIONS
    assert node.values_of_commands([[b"SET", b"k", LARGE]]) == []
    assert node.values_of_message([b"STORE", b"1", b"2", b"key", LARGE]) == []
