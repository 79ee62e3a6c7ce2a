"""SLOWLOG: the last commands that took long (https://redis.io/docs/latest/commands/slowlog/).

Theory. It shows what core/services/latencies.py keeps: what clients have waited for, quorums and commits included. Redis
times the processor only.
"""

from __future__ import annotations

from protocol import resp
from protocol.resp import Value
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.containers import container
from server.core.commands.shapes import show
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.services.latencies import SlowCommand
from server.core.services.services import Services

_SHOWN_COUNT = 10


def _slowlog_get(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SLOWLOG GET [count]: the last slow commands, the latest first; -1 for all."""
    count = _SHOWN_COUNT
    if len(args) > 3:
        raise CommandError(
            f"ERR unknown subcommand or wrong number of arguments for '{show(args[1])}'. Try SLOWLOG HELP."
        )
    if len(args) == 3:
        count = integer(args[2], "ERR count should be greater than or equal to -1")
        if count < -1:
            raise CommandError("ERR count should be greater than or equal to -1")
    slow = list(services.latencies.slow)
    return resp.array([_line(each, sink.resp3) for each in (slow if count == -1 else slow[:count])])


def _line(slow: SlowCommand, resp3: bool) -> bytes:
    arguments: list[Value] = list(slow.arguments)
    return resp.encode(
        [slow.number, slow.time_ms // 1000, slow.took_us, arguments, slow.address, slow.client_name], resp3
    )


def _slowlog_len(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.integer(len(services.latencies.slow))


def _slowlog_reset(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.latencies.slow.clear()
    return resp.OK


def _spec(
    name: str, arity: int, handler: Handler, summary: str, arguments: str = "", tips: str = "nondeterministic_output"
) -> CommandSpec:
    return CommandSpec(
        name, arity, IMMEDIATE, handler, summary, "server", "admin loading stale", since="2.2.12", complexity="O(N)",
        arguments=arguments, tips=tips,
    )  # fmt: skip


SLOWLOG: CommandSpec = container(
    "slowlog",
    "The last commands of this node's clients that took long.",
    "server",
    (
        _spec("slowlog|get", -2, _slowlog_get, "Returns the last slow commands.", "[count]"),
        _spec("slowlog|len", 2, _slowlog_len, "Returns how many slow commands are kept."),
        _spec("slowlog|reset", 2, _slowlog_reset, "Forgets the slow commands.", tips=""),
    ),
    since="2.2.12",
    help_since="6.2.0",
)
COMMANDS = (SLOWLOG,)
