"""An exception that nobody expects is its command's answer, in compiled code as in the sources."""

from __future__ import annotations

import pytest

from server.core.commands.table import commands_by_name
from tests.core.commands.talking import Client, make_node
from tests.faults import broken_handler

WAYS = {
    "the fast path": ("get", ("GET a",), 0),
    "the way of all other commands": ("get", ("gEt a",), 0),
    "a step of a transaction": ("set", ("MULTI", "SET a 1", "EXEC"), 2),
}


@pytest.mark.parametrize("way", WAYS)
def test_an_unexpected_exception_is_answered_and_the_next_command_runs(way: str) -> None:
    name, lines, place = WAYS[way]
    node = make_node()
    with broken_handler(commands_by_name()[name.encode()], node) as struck:
        said = Client(node).raw(*lines, "PING").split(b"\r\n")
    assert struck and said[-2] == b"+PONG"
    assert b"ERR internal error" in said[place if place < 2 else -3]
    assert node.state.statistics.internal_errors == 1
