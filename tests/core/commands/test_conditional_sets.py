"""SET with a condition, and SETNX: a quorum read and a decision, which are one command to whoever waits for its end."""

from __future__ import annotations

import pytest

from protocol.peer_versions import CAPABILITIES
from server.core.base.config import Config
from server.core.base.unexpected import Fatal
from server.core.node import Node
from server.core.requests.relay_sinks import RelayedBatch
from server.core.requests.relays import STALE
from tests.core.commands.talking import WALL_MS, Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in
from tests.core.requests.test_second_attempts import OPTIONS, own_key

COMMANDS = {"SET k v NX": b"+OK", "SETNX k v": b":1", "SET k v GET": b"$-1", "SET k v KEEPTTL": b"+OK"}


@pytest.fixture
def node() -> Node:
    """One of three, which the two others can reach."""
    node = make_node(3, Config(engine="memory"))
    for number in (2, 3):
        reach(node, number)
        node.state.note_capabilities(member(number).id, CAPABILITIES)
    finish_turn(node)
    return node


def command(node: Node, text: str) -> list[bytes]:
    """The words of a command whose key this node coordinates."""
    return [own_key(node) if word == b"k" else word for word in text.encode().split()]


def answer_all(node: Node) -> list[bytes]:
    """Both replicas answer all questions, as ones that hold what this node holds. Returns the replies to clients."""
    replies: list[bytes] = []
    for _ in range(4):
        outbox = finish_turn(node)
        replies += [bytes(data) for _, data in outbox.replies]  # type: ignore[arg-type]
        for peer, data in outbox.messages.items():
            for message in messages_in(data):
                if message[0] == b"COMPARE":
                    node.receive(peer, [b"SAME", b"0", message[2]], 1)
                elif message[0] == b"STORE":
                    node.receive(peer, [b"STORED", b"0", message[2]], 1)
    return replies


@pytest.mark.parametrize("text", COMMANDS)
def test_a_node_that_stops_waits_for_it(node: Node, text: str) -> None:
    """`procedures` counts it from its beginning to its reply."""
    client = Client(node)
    node.command(client.session, command(node, text), 0)
    assert node.state.procedures == 1
    [reply] = answer_all(node)
    assert reply.startswith(COMMANDS[text]) and node.state.procedures == 0


def test_of_two_in_one_turn_one_succeeds(node: Node) -> None:
    clients = [Client(node), Client(node)]
    for client in clients:
        node.command(client.session, command(node, "SET k v NX"), 0)
    assert sorted(answer_all(node)) == [b"$-1\r\n", b"+OK\r\n"]
    assert node.state.procedures == 0


@pytest.mark.parametrize("text", COMMANDS)
def test_one_that_has_become_stale_while_it_read_writes_nothing(node: Node, text: str) -> None:
    """Whoever relayed it may have sent it elsewhere by now."""
    words = command(node, text)
    batch = RelayedBatch(member(2).id, 7, OPTIONS, [words], [], 1000, 0)
    node._dispatcher.run_all(batch, [words])
    [compare] = [
        message
        for data in finish_turn(node).messages.values()
        for message in messages_in(data)
        if message[0] == b"COMPARE"
    ]
    node.state.at(500)  # this node does not stand still: then the read would begin again first (base/pauses.py)
    for peer in (member(2).id, member(3).id):
        node.receive(peer, [b"SAME", b"0", compare[2]], 1001)
    assert batch.replies == [STALE] and not finish_turn(node).writes and node.state.procedures == 0


def test_an_unexpected_error_behind_its_write_ends_the_node(node: Node) -> None:
    client = Client(node)
    node.command(client.session, command(node, "SETNX k v"), 0)
    node.state.unexpected.plant("procedure command")
    with pytest.raises(Fatal, match="has stored something and then raised"):
        answer_all(node)


def test_an_unexpected_error_before_its_decision_is_its_reply(node: Node) -> None:
    client = Client(node)
    node.state.unexpected.plant("procedure command")
    node.command(client.session, command(node, "SETNX k v"), 0)
    [reply] = answer_all(node)
    assert reply.startswith(b"-ERR internal error ") and b"outcome=unwritten" in reply
    assert node.state.procedures == 0


@pytest.mark.parametrize("name", ["SET", "SETNX"])
@pytest.mark.parametrize(
    ("before", "exists"),
    [
        ("SET k v", True),
        ("SET k v PX 1000", True),
        ("SET k v PX 1", False),
        ("DEL k", False),
        ("RPUSH k v", True),
        ("APPEND k v", True),
        ("INCR k", True),
        ("HSET k f v", True),
    ],
)
def test_nx_sees_what_exists(name: str, before: str, exists: bool) -> None:
    client = Client(make_node())
    client.ask("SET k old")
    client.ask("DEL k")
    client.ask(before)
    client.now_ms += 5
    client.node.tick(client.now_ms, WALL_MS + client.now_ms)
    reply = client.ask("SET k new NX" if name == "SET" else "SETNX k new")
    assert reply == ({"SET": None, "SETNX": 0} if exists else {"SET": "OK", "SETNX": 1})[name]


def test_nx_sees_siblings_as_a_plain_get_does() -> None:
    """The newest one counts: here a deletion that has not seen the value."""
    client = Client(make_node())
    assert client.ask("DYN.SET k old") and client.ask("DYN.DEL k")
    assert client.ask("GET k") is None and client.ask("SET k new NX") == "OK"
