"""Scripts that run command by command, with an engine whose scripts are functions of Python."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from server.core.node import Node
from server.core.scripts.engine import Call, Function, Limits, Program
from tests.core.commands.talking import CONFIG, Client, make_node


class Engine:
    """Runs one function, whatever the text is."""

    def __init__(self, function: Callable[[Call], bytes]) -> None:
        self._function = function

    def compile(self, sha: bytes, text: bytes) -> None:
        """Any text is sound."""

    def load(self, sha: bytes, text: bytes, limits: Limits) -> list[Function]:
        """There are no functions."""
        return []

    def run(
        self, program: Program, keys: Sequence[bytes], args: Sequence[bytes], call: Call, limits: Limits, resp3: bool
    ) -> bytes:
        """Runs the function."""
        return self._function(call)


def node_with(function: Callable[[Call], bytes], gathered_bytes_max: int = CONFIG.gathered_bytes_max) -> Node:
    node = make_node(1, replace(CONFIG, gathered_bytes_max=gathered_bytes_max))
    node.services.scripts.make_engine = lambda: Engine(function)
    return node


def test_a_script_that_is_forgotten_while_it_runs_goes_on() -> None:
    def function(call: Call) -> bytes:
        node.services.scripts.flush()
        call([b"SET", b"a", b"1"], False)
        call([b"PUBLISH", b"channel", b"m"], False)  # so it cannot run on a snapshot
        return b"+done\r\n"

    node = node_with(function)
    assert Client(node).ask("EVAL text 1 a") == "done"


def test_the_replies_that_a_script_needs_are_bounded() -> None:
    def function(call: Call) -> bytes:
        call([b"PUBLISH", b"channel", b"m"], False)
        for _ in range(10):
            call([b"GET", b"a"], False)
        return b"+done\r\n"

    client = Client(node_with(function, 1000))
    client.ask("SET a " + 300 * "x")
    assert client.error("EVAL text 1 a").startswith("ERR the replies that the script needs have more than")
    client.ask("SET a x")
    assert client.ask("EVAL text 1 a") == "done"
