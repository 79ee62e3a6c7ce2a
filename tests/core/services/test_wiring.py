"""What two parts of a node share, so that neither is set into the other: each shared thing works in a whole node."""

from __future__ import annotations

from server.core.base.errors import ErrorReply
from server.core.base.sinks import Session
from server.core.messages.questions import QUESTIONS
from server.core.records.records import storage_key_of
from tests.core.commands.talking import (
    ADDRESS,
    LOCAL_ADDRESS,
    Client,
    Store,
    finish_turn,
    layout_of,
    make_node,
    member,
    reach,
)

TWO, THREE = member(2).id, member(3).id


def _key_of(coordinator: str) -> str:
    """A key whose writes member 2 or 3 coordinates."""
    node = make_node(3)
    reach(node, 2)
    reach(node, 3)
    return next(key for key in map(str, range(100)) if node.services.route(key.encode()).coordinator == coordinator)


def test_a_relayed_command_whose_coordinator_is_lost_is_routed_anew_in_the_same_turn() -> None:
    node = make_node(3)
    reach(node, 2)
    reach(node, 3)
    client = Client(node)
    assert client.raw(f"SET {_key_of(TWO)} v") == b"", "it was relayed"
    node.disconnected(TWO, 0)
    assert node.services.relays.returned, "the dispatcher has not seen it yet"
    outbox = finish_turn(node)
    assert not node.services.relays.returned
    assert THREE in outbox.messages, "the next owner, or this node, runs it"
    assert node.state.statistics.relays_retried == 1


def test_a_command_that_cannot_be_relayed_is_refused_once_and_in_the_same_turn() -> None:
    node = make_node(3)
    session = node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
    number = session.open([b"GET", b"k"])
    node.services.relays.forward(session, number, [b"GET", b"k"], TWO)
    ((_, reply),) = finish_turn(node).replies
    assert isinstance(reply, bytes) and reply.startswith(b"-NOQUORUM ") and b"outcome=unread" in reply
    assert finish_turn(node).replies == []


def test_a_damaged_record_is_told_to_those_who_repair_it() -> None:
    node = make_node(1)
    store, actor = node.state.records._store, node.state.actor
    assert isinstance(store, Store)
    store.pairs[storage_key_of(b"k")] = b"junk"
    Client(node).raw("GET k")
    assert len(node.services.mending) == 1 and node.state.actor != actor


def test_every_question_that_nodes_ask_has_somebody_who_answers_it() -> None:
    assert sorted(make_node(1).services.questions.kinds) == sorted(QUESTIONS)


def test_a_change_of_the_layout_is_told_to_the_parts_that_follow_it() -> None:
    node = make_node(3)
    assert node.state.cleanup_due and node.services.hint_replay._review_due
    node.state.cleanup_due = node.services.hint_replay._review_due = False
    members = tuple([member(number) for number in (1, 2, 3)])
    layout = layout_of(members)
    assert node.services.membership.offer(type(layout)(**{**_fields(layout), "epoch": layout.epoch + 1}))
    finish_turn(node)
    assert node.state.layout is not None and node.state.layout.epoch == layout.epoch + 1
    assert node.state.cleanup_due and node.services.hint_replay._review_due


def _fields(layout: object) -> dict[str, object]:
    names = ("cluster", "epoch", "partitions", "n", "r", "w", "members", "owners")
    return {name: getattr(layout, name) for name in names}


def test_clients_are_refused_with_the_reason_until_they_are_served_again() -> None:
    node = make_node(1)
    client = Client(node)
    node.state.refuse_clients(ErrorReply.of("ERR not now"))
    assert client.raw("GET k", "PING") == b"-ERR not now\r\n+PONG\r\n", "what needs no keys is served"
    node.state.serve_clients()
    assert client.raw("SET k v", "GET k") == b"+OK\r\n$1\r\nv\r\n"


def test_a_killed_session_closes_once_its_replies_are_out() -> None:
    node = make_node(3)
    reach(node, 2)
    reach(node, 3)
    client = Client(node)
    client.raw(f"GET {_key_of(TWO)}")
    waiting: Session = client.session
    node.kill_session(waiting)
    assert finish_turn(node).closing == [], "a command is in flight"
    node.tick(0, 0)
    node.tick(500, 500)
    for now_ms in range(1000, 10_000, 500):
        node.tick(now_ms, now_ms)
        if closing := finish_turn(node).closing:
            assert closing == [waiting] and not waiting.in_flight
            return
    raise AssertionError("it never closes")
