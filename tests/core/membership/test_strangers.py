"""Who has come in before a fresh node became a member, and what becomes of that client's commands (services/users.py).

A fresh node lets everybody in, because it knows no users. A member sends it the users, then the layout. Both may come in
the turn in which the commands of clients came, and a large document of users takes longer on its way than a layout.
"""

from __future__ import annotations

import random

import pytest

from protocol.frames import FrameReader
from protocol.peer_versions import CAPABILITIES
from server.core.node import Node
from tests.core.commands.talking import (
    CONFIG,
    WALL_MS,
    Client,
    Store,
    finish_turn,
    go_by_own_clock,
    layout_of,
    make_node,
    member,
)

NOT_YET = b"-ERR this node is not part of a cluster yet: run `dyn cluster init` or `dyn up` first\r\n"
MEMBER = 1


def _members_messages(*lines: str) -> tuple[list[list[object]], list[bytes]]:
    """What a member whose operator has given these commands sends to a fresh node, which is member 2 by its layout: the
    small messages in order, and the large ones, which are on their way for longer."""
    node = make_node(0)
    node.services.membership.offer(layout_of((member(MEMBER), member(2))))
    Client(node).raw(*lines)
    node.connected(member(2).id, 0, CAPABILITIES)
    outbox = finish_turn(node)
    reader = FrameReader()
    reader.feed(outbox.messages[member(2).id])
    return list(iter(reader.next, None)), outbox.large.get(member(2).id, [])


def _fresh() -> Node:
    node = Node(member(2), b"actor--2", 1, CONFIG, Store(), random.Random(2), WALL_MS)
    node.tick(0, WALL_MS)
    finish_turn(node)
    node.greeted(member(MEMBER).id, 0, CAPABILITIES)
    return node


@pytest.mark.parametrize("line", ["GET k", "SET k v", "DEL a b", "MGET a b", "SADD s m", "KEYS *", "EVAL return{} 0"])
def test_commands_that_came_before_the_layout_get_no_data_in_its_turn(line: str) -> None:
    messages, _ = _members_messages("ACL SETUSER default off")
    fresh = _fresh()
    stranger = Client(fresh)
    for words in (line, line, "GET k"):  # the last ones would wait in the lanes of the first one
        fresh.command(stranger.session, words.encode().split(), 0)
    for message in messages:
        fresh.receive(member(MEMBER).id, message, 0)
    (reply,) = [data for session, data in finish_turn(fresh).replies if session is stranger.session]
    assert fresh.state.layout is not None, "it was adopted in this turn"
    assert reply == NOT_YET * 3
    assert not fresh.state.in_flight and not fresh.state.commands_waiting
    go_by_own_clock(fresh)
    assert stranger.raw("GET k").startswith(b"-NOAUTH")
    assert Client(fresh).raw("GET k").startswith(b"-NOAUTH")


def test_a_wrong_command_is_told_so_without_a_layout_too() -> None:
    assert Client(make_node(0)).raw("GET") == b"-ERR wrong number of arguments for 'get' command\r\n"


def test_who_has_subscribed_before_the_users_came_hears_nothing_after() -> None:
    messages, _ = _members_messages("ACL SETUSER default off")
    fresh = _fresh()
    stranger = Client(fresh)
    assert stranger.raw("SUBSCRIBE news")
    for message in messages:
        fresh.receive(member(MEMBER).id, message, 0)
    assert finish_turn(fresh).closing == [stranger.session]


def test_a_layout_does_not_overtake_a_large_document_of_users() -> None:
    long = " ".join(f"~{'p' * 1000}{number}" for number in range(300))
    small, large = _members_messages(f"ACL SETUSER app on >x {long}", "ACL SETUSER default off")
    assert [message[0] for message in small if message[0] in (b"USERS", b"LAYOUT")] == []
    assert [b"USERS" in message[:60] for message in large] == [True, False]
    assert b"LAYOUT" in large[1][:60]
