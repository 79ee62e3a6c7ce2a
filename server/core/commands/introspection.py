"""COMMAND, INFO, CONFIG, TIME: facts about the node (https://redis.io/docs/latest/commands/?group=server)."""

from __future__ import annotations

from protocol import resp
from server.core.base.sinks import Sink
from server.core.commands.command_docs import COMMAND
from server.core.commands.config_command import CONFIG
from server.core.commands.info_command import INFO
from server.core.commands.shapes import word
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.services import Services


def _time(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """TIME: seconds and microseconds since 1970 by cluster time, which keys expire by."""
    now_ms = services.state.time_ms
    return resp.array([word(str(now_ms // 1000)), word(str(now_ms % 1000 * 1000))])


COMMANDS: tuple[CommandSpec, ...] = (
    COMMAND,
    INFO,
    CONFIG,
    CommandSpec(
        "time",
        1,
        IMMEDIATE,
        _time,
        "Returns the time that keys expire by.",
        "server",
        "loading stale fast",
        since="2.6.0",
        tips="nondeterministic_output",
    ),
)
