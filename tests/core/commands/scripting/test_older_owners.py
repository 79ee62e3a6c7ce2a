"""A script, or an attempt for a client that waits, is sent again and meets an owner of an earlier version."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.peer_versions import CAPABILITIES
from server.core.base.errors import unknown_command
from server.core.commands.table import COMMANDS
from server.core.node import Node
from tests.core.commands.scripting.test_command_by_command import Engine
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach
from tests.core.commands.transactions.test_relayed import _relay_in, remote_key


def _node(multi_slots: str) -> tuple[Node, str]:
    """A node, and a key of its peer."""
    node = make_node(2, replace(CONFIG, multi_slots=multi_slots))
    reach(node, 2)
    node.state.note_capabilities(member(2).id, CAPABILITIES)
    key = remote_key(node)
    node.services.scripts.make_engine = lambda: Engine(lambda call: call([b"SET", key, b"1"], False))
    return node, key.decode()


def _told_by_an_older_peer(node: Node, client: Client, line: str) -> tuple[bytes, bytes]:
    """Says a command whose relay the peer does not know: the messages to the peer then, and what the client is told."""
    node.command(client.session, line.encode().split(), 0)
    relay = _relay_in(finish_turn(node).messages[member(2).id])
    (call, *_) = relay[5:]
    assert isinstance(call, list)
    node.receive(member(2).id, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", unknown_command(call)], 0)
    outbox = finish_turn(node)
    return outbox.messages.get(member(2).id, b""), b"".join([data for _, data in outbox.replies])


def test_whatever_its_coordinator_does_not_know_is_answered_with_the_name_of_that_node() -> None:
    """Over the table: calls with the least arguments that are relayed as they are. Blocking ones have their own error."""
    node, key = _node("relaxed")
    relayed = []
    for spec in COMMANDS:
        if spec.keys != (1, 1, 1) or spec.subcommands or spec.group == "scripting":
            continue
        client = Client(node)
        call = [spec.name.upper(), key, *["1"] * (abs(spec.arity) - 2)]
        node.command(client.session, " ".join(call).encode().split(), 0)
        message = finish_turn(node).messages.get(member(2).id, b"")
        if b"RELAY" not in message or (relay := _relay_in(message))[5][0] != call[0].encode():
            continue
        node.receive(member(2).id, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", unknown_command(relay[5])], 0)
        told = b"".join([data for _, data in finish_turn(node).replies])
        assert told.startswith(b"-ERR node n2, which coordinates this key, runs an earlier version"), (call, told)
        assert spec.name.upper().encode() in told
        relayed.append(spec.name)
    assert len(relayed) > 30 and {"set", "append", "sadd"} <= {*relayed}, relayed


@pytest.mark.parametrize("command", ["EVAL", "EVAL_RO"])
def test_a_script_runs_command_by_command_where_its_next_owner_does_not_know_scripts(command: str) -> None:
    node, key = _node("relaxed")
    sent, told = _told_by_an_older_peer(node, Client(node), f"{command} text 1 {key}")
    if command == "EVAL":
        assert _relay_in(sent)[5:] == [[b"SET", key.encode(), b"1"]] and told == b""
    else:
        assert told.startswith(b"-ERR Write commands are not allowed from read-only scripts")


def test_without_relaxed_slots_it_names_what_to_do() -> None:
    node, key = _node("strict")
    _, told = _told_by_an_older_peer(node, Client(node), f"EVAL text 1 {key}")
    assert told.startswith(b"-ERR the node that coordinates these keys is of an earlier version: nothing was")


def test_a_client_that_would_wait_is_told_that_the_next_owner_cannot_keep_its_row() -> None:
    node, key = _node("relaxed")
    _, told = _told_by_an_older_peer(node, Client(node), f"BLPOP {key} 0")
    assert told.startswith(b"-ERR blocking commands need a version that has them on every node")
