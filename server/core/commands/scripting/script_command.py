"""SCRIPT: which scripts are known (https://redis.io/docs/latest/commands/?name=script).

Theory. A script that one node knows works through all of them (texts.py). So EXISTS asks the others about what this node
does not know, and FLUSH reaches all that can be reached: one that cannot brings its scripts back when it returns. Neither
waits for a node that hangs: what only that one knows does not exist for now, and it forgets its scripts when it goes on.
KILL is in kill.py.
"""

from __future__ import annotations

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.containers import container
from server.core.commands.scripting.kill import kill
from server.core.commands.scripting.texts import scripting_peers
from server.core.commands.spec import ALONE, IMMEDIATE, CommandSpec
from server.core.messages.script_questions import SCRIPTFLUSH, SCRIPTS
from server.core.services.services import Services
from server.core.work.procedures import Steps
from server.core.work.questions import READ_PATIENCE_MS, REPORT_PATIENCE_MS, Answers


def _load(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SCRIPT LOAD script."""
    return resp.bulk(services.scripts.load(args[2]))


def _exists(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SCRIPT EXISTS sha1 …: 1 for those that some node knows that can be reached."""
    shas = [word.lower() for word in args[2:]]

    def steps() -> Steps:
        known = services.scripts.known(shas)
        wanted = [sha for sha, here in zip(shas, known, strict=True) if not here and len(sha) == 40]
        peers = scripting_peers(services)
        found: dict[bytes, None] = {}
        if wanted and peers:
            answers = yield services.questions.ask(
                peers,
                SCRIPTS,
                wanted,
                patience_ms=READ_PATIENCE_MS,
                is_complete=lambda answers: len(_found(wanted, answers)) == len(dict.fromkeys(wanted)),
            )
            found = _found(wanted, answers)
        return resp.array([
            resp.integer(here or sha in found) for sha, here in zip(shas, known, strict=True)
        ])  # fmt: skip

    services.run_steps(steps(), sink, number)


def _found(wanted: list[bytes], answers: Answers) -> dict[bytes, None]:
    """Those that some node knows."""
    return {sha: None for flags in answers.values() for sha, flag in zip(wanted, flags or b"", strict=False) if flag}


def _flush(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SCRIPT FLUSH [ASYNC|SYNC]."""
    if len(args) > 3 or (len(args) == 3 and args[2].upper() not in (b"SYNC", b"ASYNC")):
        raise CommandError("ERR SCRIPT FLUSH only support SYNC|ASYNC option")

    def steps() -> Steps:
        services.scripts.flush()
        peers = scripting_peers(services)
        if peers:
            yield services.questions.ask(peers, SCRIPTFLUSH, None, patience_ms=REPORT_PATIENCE_MS)
        return resp.OK

    services.run_steps(steps(), sink, number)


def _kill(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SCRIPT KILL."""
    services.run_steps(kill(services, functions=False), sink, number)


def _debug(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
    """SCRIPT DEBUG YES|SYNC|NO: there is no debugger, so only NO succeeds."""
    word = args[2].upper()
    if word == b"NO":
        return resp.OK
    if word not in (b"YES", b"SYNC"):
        raise CommandError("ERR Use SCRIPT DEBUG YES/SYNC/NO")
    raise CommandError("ERR this server has no debugger for scripts")


def known_here(services: Services, shas: list[bytes]) -> bytes:
    """The answer to another node that asks which scripts are known here: a byte for each, 0 or 1."""
    return bytes(services.scripts.known(shas))


def flush_here(services: Services) -> bool:
    """Forgets all scripts because another node was told to."""
    services.scripts.flush()
    return True


SCRIPT: CommandSpec = container(
    "script",
    "A container for commands about Lua scripts.",
    "scripting",
    (
        CommandSpec(
            "script|debug", 3, IMMEDIATE, _debug, "Sets the debug mode of scripts.", "scripting", "noscript",
            since="3.2.0", arguments="(YES|SYNC|NO)",
        ),
        CommandSpec(
            "script|exists", -3, ALONE, _exists, "Says which scripts are known.", "scripting", "noscript", since="2.6.0",
            complexity="O(N) with N being the number of scripts to check (so checking a single script is an O(1) "
            "operation).",
            arguments="sha1 [sha1 ...]",
        ),
        CommandSpec(
            "script|flush", -2, ALONE, _flush, "Forgets all scripts.", "scripting", "noscript", since="2.6.0",
            complexity="O(N) with N being the number of scripts in cache", arguments="[ASYNC|SYNC]",
        ),
        CommandSpec(
            "script|kill", 2, ALONE, _kill, "Ends the script that runs.", "scripting", "noscript allow_busy",
            since="2.6.0",
        ),
        CommandSpec(
            "script|load", 3, IMMEDIATE, _load, "Makes a script known, without running it.", "scripting", "noscript stale",
            since="2.6.0", complexity="O(N) with N being the length in bytes of the script body.", arguments="script",
        ),
    ),
    since="2.6.0",
)  # fmt: skip
