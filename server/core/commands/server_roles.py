"""ROLE and MODULE LIST: tools ask for them when they connect, and the answers never change here."""

from __future__ import annotations

from protocol import resp
from server.core.base.sinks import Sink
from server.core.commands.containers import container
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.services import Services

_ROLE = resp.array([resp.bulk(b"master"), resp.integer(0), resp.array([])])


def _role(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return _ROLE


def _modules(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.array([])


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "role",
        1,
        IMMEDIATE,
        _role,
        "Returns that this is a master without replicas: every node takes writes.",
        "server",
        "noscript loading stale fast @admin dangerous",
        since="2.8.12",
    ),
    container(
        "module",
        "There are no modules.",
        "server",
        (
            CommandSpec(
                "module|list",
                2,
                IMMEDIATE,
                _modules,
                "Returns an empty list: there are no modules.",
                "server",
                "admin noscript",
                since="4.0.0",
                tips="nondeterministic_output_order",
            ),
        ),
        since="4.0.0",
        help_since="5.0.0",
    ),
)
