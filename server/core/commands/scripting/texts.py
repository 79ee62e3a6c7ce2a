"""Finds the text of a script or library: here, or on any other node that can be reached."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from server.core.base.errors import CommandError
from server.core.commands.scripting.job import Job
from server.core.messages.libraries import LIBRARY
from server.core.messages.script_questions import SCRIPT
from server.core.scripts.library import library_body
from server.core.scripts.shebang import Script
from server.core.services.scripts import SHA_BYTES
from server.core.services.services import Services
from server.core.work.procedures import Step
from server.core.work.questions import READ_PATIENCE_MS, one_answer

NOSCRIPT: Final = "NOSCRIPT No matching script. Please use EVAL."
_NO_PATIENCE: Final = 0  # waits until one node has it, all have answered, or the deadline
NO_FUNCTION: Final = "ERR Function not found"


def scripting_peers(services: Services) -> list[str]:
    """The other nodes that can be reached and know scripts, in order."""
    state = services.state
    return [peer for peer in sorted(state.links) if peer in state.scripting]


def find_script(services: Services, sha: bytes, patience_ms: int = READ_PATIENCE_MS) -> Generator[Step, Any, Script]:
    """A script. Raises CommandError if no node that can be reached knows it.

    The first node that knows it is enough. If none does, a frozen node is not waited for: the client sends the script
    again.
    """
    scripts = services.scripts
    if scripts.text_of(sha) is not None:
        return scripts.script(sha)
    peers = scripting_peers(services)
    if len(sha) == SHA_BYTES and peers:
        answers = yield services.questions.ask(peers, SCRIPT, sha, patience_ms=patience_ms, is_complete=one_answer)
        for text in answers.values():
            if text is not None and scripts.load(text) == sha:
                return scripts.script(sha)
    raise CommandError(NOSCRIPT)


def find_library(services: Services, sha: bytes, patience_ms: int = READ_PATIENCE_MS) -> Generator[Step, Any, Script]:
    """The text of a library. Raises CommandError if no node that can be reached knows it."""
    functions = services.functions
    text = functions.text_of(sha)
    if text is None:
        answers = yield services.questions.ask(
            functions.sharing.reachable(), LIBRARY, sha, patience_ms=patience_ms, is_complete=one_answer
        )
        text = next((each for each in answers.values() if each is not None and functions.keep(each) == sha), None)
        if text is None:
            raise CommandError(NO_FUNCTION)
    return Script(library_body(text), ())


def find_text(services: Services, job: Job) -> Generator[Step, Any, Script]:
    """What a job runs. The node that has sent the job knows it, so its answer is waited for, however busy it is."""
    return (yield from (find_library if job.function else find_script)(services, job.sha, _NO_PATIENCE))
