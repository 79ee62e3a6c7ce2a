"""MONITOR: shows the commands of this node's clients as they begin (https://redis.io/docs/latest/commands/monitor/)."""

from __future__ import annotations

from protocol import resp
from server.core.base.sinks import Sink
from server.core.commands.pubsub.guard import review_guards
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, CommandSpec
from server.core.services.services import Services


def _monitor(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.monitors.begin(session_of(sink))
    review_guards(services)
    return resp.OK


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "monitor",
        1,
        ALONE,
        _monitor,
        "Shows the commands of this node's clients, until RESET or the end of the connection.",
        "server",
        "admin noscript loading stale",
    ),
)
