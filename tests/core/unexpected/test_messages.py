"""A message that a node cannot digest is refused to its sender and harms nobody, or it ends the node: each kind in turn."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.frames import FrameReader
from server.core.base.config import Config
from server.core.base.unexpected import Fatal, PlantedFault, is_planted
from server.core.node import Node
from server.core.peer_messages import ANSWERS, REQUESTS, SENT_ONCE
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.requests import read_groups
from tests.core.commands.talking import finish_turn, make_node, member, reach
from tests.core.messages.test_damage import message_of, question_of
from tests.faults import messages, questions

PEER = member(2).id
CONFIG = Config(engine="memory", tree_leaf_bits=14)
_NODE = make_node(3, CONFIG)
KINDS = [place.removeprefix("message ").encode() for place in messages(_NODE)]
QUESTIONS = [place.removeprefix("question ").encode() for place in questions(_NODE)]
REFUSED = {
    **dict.fromkeys(REQUESTS, b"REFUSED"),
    b"ASK": b"ANSWER",
    b"RELAY": b"RELAYED",
}  # what answers a request that cannot be done; all other kinds announce something, or are answers


@pytest.fixture
def node() -> Node:
    """One of three, which the two others can reach."""
    node = make_node(3, CONFIG)
    for number in (2, 3):
        reach(node, number)
    return node


def said(node: Node) -> list[list[Any]]:
    """What the turn says to PEER."""
    reader = FrameReader(1 << 20)
    reader.feed(finish_turn(node).messages.get(PEER, b""))
    found = []
    while (message := reader.next()) is not None:
        found.append(message)
    return found


def send(node: Node, kind: bytes, *items: Any) -> None:
    number = b"1" if kind in (b"FULL", b"GOSSIP", b"WATCHING", b"CHANGED", b"ALTERED") else b"77"
    node.receive(PEER, [kind, b"1", number, *items], 0)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.decode())
def test_each_kind_of_message_is_refused_or_ends_the_node(node: Node, kind: bytes) -> None:
    finish_turn(node)
    node.state.unexpected.plant(f"message {kind.decode()}")
    items = [] if kind == b"ANSWER" else message_of(kind)
    if kind in ANSWERS or kind in SENT_ONCE:
        with pytest.raises(Fatal) as raised:
            send(node, kind, *items)
        assert is_planted(raised.value)
        return
    send(node, kind, *items)
    assert [(answer[0], answer[2]) for answer in said(node)] == ([(REFUSED[kind], b"77")] if kind in REFUSED else [])
    assert node.state.statistics.messages_undigested == 1
    (incident,) = node.state.unexpected.drain_incidents()
    assert isinstance(incident.error, PlantedFault) and kind.decode() in incident.doing
    node.receive(PEER, [b"CLOCK", b"1", b"77"], 0)  # the link goes on


@pytest.mark.parametrize("kind", QUESTIONS, ids=lambda kind: kind.decode())
def test_each_kind_of_question_is_answered_with_nothing(node: Node, kind: bytes) -> None:
    finish_turn(node)
    node.state.unexpected.plant(f"question {kind.decode()}")
    send(node, b"ASK", kind, *question_of(kind))
    assert [answer[:1] + answer[2:] for answer in said(node)] == [[b"ANSWER", b"77"]]
    assert node.state.statistics.messages_undigested == 1


def test_all_commands_of_a_relay_that_is_not_digested_are_answered(node: Node) -> None:
    finish_turn(node)
    node.state.unexpected.plant("message RELAY")
    send(node, b"RELAY", b"5", [b"0", b"0", b"0"], [b"GET", b"k"], [b"SET", b"k", b"v"], [b"GET", b"l"])
    (answer,) = said(node)
    indexes, replies = answer[3], answer[4:]
    assert indexes == b"".join(index.to_bytes(4, "big") for index in range(3))
    assert all(reply.startswith(b"-ERR internal error ") and b"outcome=maybe-written" in reply for reply in replies)


def test_a_message_that_has_stored_something_ends_the_node(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in memory is in no batch that was promised, and must not get into one."""
    key = storage_key_of(b"k")
    record = versions.supersede(None, b"actor--2", 5, b"value")
    monkeypatch.setattr(node.state.hints, "keep", lambda *_: [][1] if node.state.records.get(key) else None)
    with pytest.raises(Fatal):
        send(node, b"HINT", member(3).id.encode(), key, record)


def test_a_record_that_cannot_be_merged_is_refused_and_the_others_of_its_message_are_kept(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes again and again, from its coordinator, from repair and as a hint: nobody may end by it."""
    keys = [storage_key_of(b"k%d" % number) for number in range(3)]
    record = versions.supersede(None, b"actor--2", 5, b"value")
    merge = versions.merge

    def bad_merge(one: bytes | None, other: bytes | None) -> bytes | None:
        assert other is None or not other.endswith(b"bad")
        return merge(one, other)

    monkeypatch.setattr(versions, "merge", bad_merge)
    finish_turn(node)
    bad = versions.supersede(None, b"actor--2", 5, b"bad")
    for kind in (b"STORE", b"KEEP", b"HINT"):
        owner = [member(3).id.encode()] if kind == b"HINT" else []
        send(node, kind, *owner, keys[0], record, keys[1], bad, keys[2], record)
        assert [answer[0] for answer in said(node)] == [b"REFUSED"]
    send(node, b"ASK", b"ABSORB", keys[1], bad)
    assert [answer[3:] for answer in said(node)] == [[]]
    layout = node.state.layout
    assert layout is not None
    send(node, b"ASK", b"MERGE", b"%d" % layout.epoch, keys[0], record, keys[1], bad)
    assert [answer[4:] for answer in said(node)] == [[b"0", b"1"]]
    assert [node.state.records.get(key) for key in keys[:2]] == [record, None]
    assert {type(incident.error) for incident in node.state.unexpected.drain_incidents()} == {AssertionError}


def test_an_answer_with_a_record_that_cannot_be_joined_is_a_replica_that_refuses(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = node.open_session("", "", 0)
    node.command(session, [b"GET", b"k"], 0)
    (question,) = [message for message in said(node) if message[0] == b"READ"]
    monkeypatch.setattr(read_groups, "merge", lambda one, other: 1 // 0)
    record = versions.supersede(None, b"actor--2", 5, b"value")
    node.receive(PEER, [b"RECORDS", b"1", question[2], record], 0)
    assert not session.slots or isinstance(session.slots[0], list), "it is no vote"
    node.receive(member(3).id, [b"SAME", b"1", question[2]], 0)
    assert [data for _, data in finish_turn(node).replies] == [b"$-1\r\n"]
