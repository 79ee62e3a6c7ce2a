"""FCALL and FCALL_RO (https://redis.io/docs/latest/commands/fcall/)."""

from __future__ import annotations

from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.databases import numbering_for
from server.core.commands.scripting.eval_commands import (
    ARGUMENTS,
    FLAGS,
    READS,
    SEED_MAX,
    WRITES,
    WRITING_SCRIPT,
    numbered_keys,
)
from server.core.commands.scripting.job import Job
from server.core.commands.scripting.steps import run_job
from server.core.commands.scripting.texts import NO_FUNCTION, find_library
from server.core.commands.shapes import session_of
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.scripts.engine import NO_WRITES
from server.core.services.services import Services
from server.core.work.procedures import Steps

_DEPENDS = "Depends on the function that is executed."


def _call(services: Services, sink: Sink, args: list[bytes], number: int, read_only: bool) -> None:
    found = services.functions.find(args[1])
    if found is None:
        raise CommandError(NO_FUNCTION)
    library, function = found
    keys = numbered_keys(args, "ERR Bad number of keys provided")
    reads = NO_WRITES in function.flags
    if read_only and not reads:
        raise CommandError(WRITING_SCRIPT)
    session, seed = session_of(sink), services.state.rng.randrange(SEED_MAX)
    rest = args[3 + len(keys) :]
    spaces = numbering_for(services.state, sink).spaces
    job = Job(library.sha, session.user, reads, seed, keys, rest, [], sink.space, spaces, function.name)

    def steps() -> Steps:
        script = yield from find_library(services, library.sha)
        return (yield from run_job(services, sink, job, script))

    services.run_steps(steps(), sink, number)


def _fcall(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FCALL function numkeys key … argument …."""
    _call(services, sink, args, number, False)


def _fcall_ro(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """FCALL_RO: the same for functions with the flag no-writes."""
    _call(services, sink, args, number, True)


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "fcall", -3, EXCLUSIVE, _fcall, "Calls a function.", "scripting", FLAGS, since="7.0.0", complexity=_DEPENDS,
        arguments=ARGUMENTS % "function", key_specs=(WRITES,), alone_without_keys=True,
    ),
    CommandSpec(
        "fcall_ro", -3, EXCLUSIVE, _fcall_ro, "Calls a function that only reads.", "scripting", f"readonly {FLAGS}",
        since="7.0.0", complexity=_DEPENDS, arguments=ARGUMENTS % "function", key_specs=(READS,), alone_without_keys=True,
    ),
)  # fmt: skip
