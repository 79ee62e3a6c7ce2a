"""EVAL, EVALSHA, EVAL_RO and EVALSHA_RO (https://redis.io/docs/latest/commands/eval/)."""

from __future__ import annotations

from typing import Final

from server.core.base.errors import NOT_AN_INTEGER, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import counted_keys
from server.core.commands.databases import numbering_for
from server.core.commands.key_specs import KeySpec
from server.core.commands.scripting.job import Job
from server.core.commands.scripting.steps import run_job
from server.core.commands.scripting.texts import NOSCRIPT, find_script
from server.core.commands.shapes import session_of
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.services.scripts import SHA_BYTES
from server.core.services.services import Services
from server.core.work.procedures import Steps

WRITING_SCRIPT: Final = "ERR Can not execute a script with write flag using *_ro command."
_TOO_MANY: Final = "ERR Number of keys can't be greater than number of args"
SEED_MAX: Final = 1 << 31


def numbered_keys(args: list[bytes], not_a_number: str = NOT_AN_INTEGER) -> list[bytes]:
    """Returns the keys of a call, whose number is the third word. Raises CommandError as Redis does."""
    return counted_keys(args, 2, _TOO_MANY, "ERR Number of keys can't be negative", not_a_number, 0)


def _call(services: Services, sink: Sink, number: int, args: list[bytes], sha: bytes, read_only: bool) -> None:
    keys = numbered_keys(args)
    session = session_of(sink)
    seed = services.state.rng.randrange(SEED_MAX)
    spaces = numbering_for(services.state, sink).spaces
    job = Job(sha, session.user, read_only, seed, keys, args[3 + len(keys) :], [], sink.space, spaces)

    def steps() -> Steps:
        script = yield from find_script(services, sha)
        if read_only and script.flags is not None and script.writes():
            raise CommandError(WRITING_SCRIPT)
        return (yield from run_job(services, sink, job, script))

    services.run_steps(steps(), sink, number)


def _eval(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    numbered_keys(args)
    _call(services, sink, number, args, services.scripts.load(args[1]), False)


def _eval_ro(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    numbered_keys(args)
    _call(services, sink, number, args, services.scripts.load(args[1]), True)


def _evalsha(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    _call(services, sink, number, args, _digest(args[1]), False)


def _evalsha_ro(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    _call(services, sink, number, args, _digest(args[1]), True)


def _digest(word: bytes) -> bytes:
    """The SHA1 in a call. What cannot be one is refused before anything else is looked at, as by Redis."""
    if len(word) != SHA_BYTES:
        raise CommandError(NOSCRIPT)
    return word.lower()


_NOTES: Final = "We cannot tell how the keys will be used so we assume the worst, %s"
WRITES: Final = KeySpec("RW access update", 2, counted=True, notes=_NOTES % "RW and UPDATE")
_WRITES_SHA: Final = KeySpec("RW access update", 2, counted=True)
READS: Final = KeySpec("RO access", 2, counted=True, notes=_NOTES % "RO and ACCESS")
_READS_SHA: Final = KeySpec("RO access", 2, counted=True)
FLAGS: Final = "noscript stale skip_monitor no_mandatory_keys"
DEPENDS: Final = "Depends on the script that is executed."
ARGUMENTS: Final = "%s numkeys [key [key ...]] [arg [arg ...]]"

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "eval", -3, EXCLUSIVE, _eval, "Executes a Lua script.", "scripting", FLAGS, since="2.6.0", complexity=DEPENDS,
        arguments=ARGUMENTS % "script", key_specs=(WRITES,), alone_without_keys=True,
    ),
    CommandSpec(
        "evalsha", -3, EXCLUSIVE, _evalsha, "Executes a Lua script by its SHA1.", "scripting", FLAGS, since="2.6.0",
        complexity=DEPENDS, arguments=ARGUMENTS % "sha1", key_specs=(_WRITES_SHA,), alone_without_keys=True,
    ),
    CommandSpec(
        "eval_ro", -3, EXCLUSIVE, _eval_ro, "Executes a Lua script that only reads.", "scripting", f"readonly {FLAGS}",
        since="7.0.0", complexity=DEPENDS, arguments=ARGUMENTS % "script", key_specs=(READS,), alone_without_keys=True,
    ),
    CommandSpec(
        "evalsha_ro", -3, EXCLUSIVE, _evalsha_ro, "Executes a Lua script that only reads, by its SHA1.", "scripting",
        f"readonly {FLAGS}", since="7.0.0", complexity=DEPENDS, arguments=ARGUMENTS % "sha1", key_specs=(_READS_SHA,),
        alone_without_keys=True,
    ),
)  # fmt: skip
