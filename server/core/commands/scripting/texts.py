"""Finds the text of a script: here, or on any other node that can be reached."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Final

from server.core.base.errors import CommandError
from server.core.messages.script_questions import SCRIPT
from server.core.services.scripts import SHA_BYTES
from server.core.services.services import Services
from server.core.work.procedures import Step

NOSCRIPT: Final = "NOSCRIPT No matching script. Please use EVAL."


def scripting_peers(services: Services) -> list[str]:
    """The other nodes that can be reached and know scripts, in order."""
    state = services.state
    return [peer for peer in sorted(state.links) if peer in state.scripting]


def find_script(services: Services, sha: bytes) -> Generator[Step, Any, None]:
    """Makes sure that a script is known here. Raises CommandError if no node that can be reached knows it.

    The first node that knows it is enough: a frozen one would hold up the command until its own deadline.
    """
    scripts = services.scripts
    if scripts.text_of(sha) is not None:
        return
    peers = scripting_peers(services)
    if len(sha) == SHA_BYTES and peers:
        answers = yield services.questions.ask(peers, SCRIPT, sha, one_is_enough=True)
        for text in answers.values():
            if text is not None and scripts.load(text) == sha:
                return
    raise CommandError(NOSCRIPT)
