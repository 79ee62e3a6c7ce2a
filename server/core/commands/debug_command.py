"""DEBUG: what test tools need of it, behind the setting `enable_debug_command`, which is Redis' (no, yes, local).

Theory. Nothing here may harm a node: DEBUG SLEEP delays its own reply and nobody else's, and what would change how Redis
stores or expires things is accepted and changes nothing.
"""

from __future__ import annotations

from typing import Final

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.object_command import encoding_of
from server.core.commands.spec import ALONE, CommandSpec, Handler
from server.core.commands.typed import ANY, reading
from server.core.records.kinds import NONE
from server.core.records.views import View
from server.core.ring.addresses import is_loopback
from server.core.services.services import Services
from server.core.work.procedures import Steps

SLEEP_S_MAX = 3600
_NOT_ALLOWED = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local '
    "connection, otherwise you need to set this option in the configuration file, and then restart the server."
)


def _sleep(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DEBUG SLEEP seconds: the reply comes after that time."""
    try:
        span_s = float(args[2])
    except ValueError:
        span_s = 0.0  # as Redis
    span_s = min(span_s, SLEEP_S_MAX) if span_s > 0 else 0.0  # nan is not
    until_ms = services.state.now_ms + int(1000 * span_s)

    def steps() -> Steps:
        yield services.timers.sleep_until(until_ms)
        return resp.OK

    services.run_steps(steps(), sink, number, is_counted=False)


def _object(view: View, args: list[bytes], sink: Sink) -> Reply:
    """DEBUG OBJECT key: `serializedlength` is the size of the record."""
    if view.key_type == NONE:
        raise CommandError("ERR no such key")
    size = len(view.base or b"")
    return resp.simple(
        f"Value at:0x0 refcount:1 encoding:{encoding_of(view)} serializedlength:{size} lru:0 lru_seconds_idle:0"
    )


def _set_active_expire(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    integer(args[2])
    return resp.OK


def _ok(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    return resp.OK


# Subcommand -> the number of words of a call, and its handler.
_SUBCOMMANDS: Final[dict[bytes, tuple[int, Handler]]] = {
    b"sleep": (3, _sleep),
    b"object": (3, reading(ANY, _object, place=2)),
    b"set-active-expire": (3, _set_active_expire),
    b"reload": (2, _ok),
}


def _debug(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """DEBUG subcommand …, for clients that may use it."""
    setting = services.state.config.enable_debug_command
    is_local = isinstance(sink, Session) and is_loopback(sink.address.rpartition(":")[0])
    if setting != "yes" and not (setting == "local" and is_local):
        raise CommandError(_NOT_ALLOWED)
    count, handler = _SUBCOMMANDS.get(args[1].lower(), (0, _ok))
    if len(args) != count:
        name = args[1].decode("utf-8", "surrogateescape")
        raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{name}'. Try DEBUG HELP.")
    return handler(services, sink, number, args)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "debug",
        -2,
        ALONE,
        _debug,
        "What test tools ask for, if the setting enable_debug_command allows it.",
        "server",
        "admin noscript loading stale",
        complexity="Depends on subcommand.",
        arguments="subcommand [argument]",
    ),
)
