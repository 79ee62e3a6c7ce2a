"""Reads that commands of one turn share."""

from __future__ import annotations

from tests.core.commands.talking import Client, finish_turn, go_by_own_clock, make_node


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
