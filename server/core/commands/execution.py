"""Runs one command for a sink, and answers with an error if it fails.

An expected error is the command's answer. A command that meets a damaged record waits until that is mended and then runs
again (repair/mending.py). An unexpected exception is answered with `ERR internal error`, unless the command has stored
something: then the node ends (base/unexpected.py), and the command is refused for a while (base/quarantine.py).
"""

from __future__ import annotations

from server.core.base.errors import CommandError, damaged_here, refused_command
from server.core.base.sinks import Sink
from server.core.commands.spec import Handler
from server.core.records.versions import DamagedRecord
from server.core.requests.relays import STALE
from server.core.services.services import Services


def execute(services: Services, name: str, handler: Handler, sink: Sink, number: int, args: list[bytes]) -> None:
    """Runs `handler`, that of the command `name`, whatever else is in flight."""
    state = services.state
    if state.quarantine.commands and state.quarantine.refuses_command(args, state.wall_ms):
        sink.answer(number, refused_command(state.member.name, "unwritten"))
        return
    changes = state.records.changes
    try:
        reply = handler(services, sink, number, args)
    except (CommandError, DamagedRecord) as error:
        fail(services, name, handler, sink, number, args, error)
        return
    except Exception as fault:  # noqa: BLE001
        reply = state.unexpected.contain(fault, changes, name, sink=sink, number=number)
    if reply is not None:
        sink.answer(number, reply)


def fail(
    services: Services,
    name: str,
    handler: Handler,
    sink: Sink,
    number: int,
    args: list[bytes],
    error: CommandError | DamagedRecord,
) -> None:
    """Answers a command that has met an expected error. One that met a damaged record runs again once that is mended, if
    it can be."""
    if isinstance(error, CommandError):
        sink.answer(number, error.reply)
        return
    refusal = damaged_here(services.state.member.name, error)

    def again() -> None:
        if services.relays.is_stale(sink):
            sink.answer(number, STALE)
        else:
            execute(services, name, handler, sink, number, args)

    if not services.mending.park(error.storage_key, again, lambda: sink.answer(number, refusal)):
        sink.answer(number, refusal)
