"""Reads that commands of one turn share."""

from __future__ import annotations

from protocol.peer_versions import CAPABILITIES
from tests.core.commands.talking import Client, finish_turn, go_by_own_clock, make_node, member, reach
from tests.core.requests.test_reads import messages_in


def test_no_command_joins_a_read_that_is_over() -> None:
    """Without enough live owners each read is a group of its own, and fails in the turn in which it begins."""
    node = make_node(3)
    go_by_own_clock(node)
    finish_turn(node)
    first, second = Client(node), Client(node)
    node.commands(first.session, [[b"DEL", b"k"], [b"DEL", b"k"]], 0)  # the last one begins when the turn ends
    assert dict(finish_turn(node).replies)[first.session].count(b"-NOQUORUM") == 2
    node.command(second.session, [b"DEL", b"k"], 0)
    assert dict(finish_turn(node).replies)[second.session].count(b"-NOQUORUM") == 1


def test_commands_of_a_turn_that_write_one_key_share_its_read() -> None:
    node = make_node(2)
    reach(node, 2)
    node.state.note_capabilities(member(2).id, CAPABILITIES)
    key = next(key for n in range(99) if node.services.route(key := b"k%d" % n).coordinator is None)
    clients = [Client(node) for _ in range(3)]
    for client in clients:
        node.command(client.session, [b"INCR", key], 0)
    ((_, _, number, _, *keys),) = messages_in(finish_turn(node).messages[member(2).id])
    assert len(keys) == 1 and node.state.in_flight == 3
    node.receive(member(2).id, [b"SAME", b"0", number], 0)
    outbox = finish_turn(node)
    kinds = [each[0] for each in messages_in(outbox.messages[member(2).id])]
    assert kinds == [b"STORE"] and node.state.in_flight == 3
