"""CLIENT PAUSE and CLIENT UNPAUSE (https://redis.io/docs/latest/commands/client-pause/): see services/client_pause.py."""

from __future__ import annotations

from typing import Final

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.commands.arguments import integer
from server.core.commands.pubsub.guard import is_operators
from server.core.commands.registry import find_command, find_for_client
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.services.client_pause import PAUSE_ALL, PAUSE_WRITES
from server.core.services.services import Services

_MAY_WRITE: Final = frozenset(("eval", "evalsha", "fcall", "publish", "spublish"))
_MODES: Final = {b"WRITE": PAUSE_WRITES, b"ALL": PAUSE_ALL}


def is_held(mode: int, session: Session, spec: CommandSpec, args: list[bytes]) -> bool:
    """Whether a command of a session waits for the end of a pause.

    mode      held
    WRITE     what writes: also scripts, PUBLISH, and EXEC of a transaction that writes
    ALL       everything but operators' commands and logins

    DYN.TRACE is held if the command is that it runs.
    """
    if spec.name == "dyn.trace":
        spec = find_for_client(args[1:]) or spec
    flags = spec.flags.split()
    if session.client() is not session or is_operators(spec) or "no_auth" in flags:
        return False  # the first: its EXEC has begun before
    return mode == PAUSE_ALL or _writes(session, spec)


def _writes(session: Session, spec: CommandSpec) -> bool:
    if spec.name == "exec" and session.transaction is not None:
        found = [find_command(args) for args in session.transaction.commands]
        return any(each is not None and _writes(session, each) for each in found)
    return "write" in spec.flags.split() or spec.name in _MAY_WRITE


def _pause(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """CLIENT PAUSE timeout [WRITE|ALL]."""
    if len(args) > 4:
        raise CommandError("ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.")
    mode = _MODES.get(args[3].upper() if len(args) == 4 else b"ALL")
    if mode is None:
        raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
    span_ms = integer(args[2], "ERR timeout is not an integer or out of range")
    if span_ms < 0:
        raise CommandError("ERR timeout is negative")
    services.clients.pause.begin(services.state.now_ms + span_ms, mode)
    return resp.OK


def _unpause(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    services.clients.pause.end()
    return resp.OK


_FLAGS: Final = "admin noscript loading stale"
SUBCOMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "client|pause",
        -3,
        IMMEDIATE,
        _pause,
        "Holds commands of this node's clients for some time. Other nodes go on.",
        "connection",
        _FLAGS,
        since="2.9.50",
        arguments="timeout [(WRITE|ALL)]",
    ),
    CommandSpec(
        "client|unpause",
        2,
        IMMEDIATE,
        _unpause,
        "Lets the clients of this node go on.",
        "connection",
        _FLAGS,
        since="6.2.0",
        complexity="O(N) where N is the number of paused clients",
    ),
)
