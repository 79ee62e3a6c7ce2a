"""The places where a fault can be planted in a node, by name, and planting one: for tests and for the simulator.

The names come from the node's own tables and from its sources. So the tests that go over all of them also break each new
message, question, procedure or command. Messages, questions and procedures have a hook in the core
(server/core/base/unexpected.py). Commands have none, because their path is hot: their handlers are replaced here.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from server.core.base.sinks import Sink
from server.core.base.unexpected import PlantedFault
from server.core.commands.spec import CommandSpec
from server.core.commands.table import COMMANDS
from server.core.node import Node
from server.core.services.services import Services

CORE = Path(__file__).parent.parent / "server" / "core"
_STARTERS = {"run": 0, "run_to_end": 0, "run_forever": 0, "Procedure": 1}  # the position of the name in the arguments


def messages(node: Node) -> list[str]:
    """The places of all kinds of messages."""
    return [f"message {kind.decode()}" for kind in node._peer_messages.kinds]


def questions(node: Node) -> list[str]:
    """The places of all kinds of questions."""
    return [f"question {kind.decode()}" for kind in node.services.questions.kinds]


@cache
def procedures() -> tuple[str, ...]:
    """The places of all procedures that the core starts, found in its sources."""
    names: dict[str, None] = {}
    for path in sorted(CORE.rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call):
                called = call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")
                place = _STARTERS.get(called, len(call.args))
                arguments = call.args[place : place + 1]
                names |= {
                    arg.value: None for arg in arguments if isinstance(arg, ast.Constant) and type(arg.value) is str
                }
    return tuple([f"procedure {name}" for name in names])


def commands() -> list[CommandSpec]:
    """All commands, and all subcommands."""
    return [each for spec in COMMANDS for each in (spec.subcommands or (spec,))]


@contextmanager
def broken_handler(spec: CommandSpec, at: Node) -> Iterator[list[Node]]:
    """Makes the handler of a command raise at one node, once, before anything else. Yields the nodes where it has."""
    handler = spec.handler
    struck: list[Node] = []

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        if services.state is at.state and not struck:
            struck.append(at)
            raise PlantedFault(f"planted in {spec.name}")
        return handler(services, sink, number, args)

    object.__setattr__(spec, "handler", handle)
    try:
        yield struck
    finally:
        object.__setattr__(spec, "handler", handler)
