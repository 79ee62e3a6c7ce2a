"""Farewell: a node that is asked to stop ends first what it has begun, so that a restart costs nobody an answer.

Theory. A request that is cut off in the middle has an unknown outcome, and whoever asks again may find that it was done
already (a DEL that answers 0). So a node that stops takes no new commands of its clients, and tells its fellows: from then
on they coordinate without it, and send it nothing to run. Messages keep their order, so with a fellow's answer to that all
of its relays have come. Once nothing is in flight any more it asks again, for by the same order they then have all that it
has said: or else they might see its connections end before they see its last replies, and take these for lost. Then, or
when the longest request has had its time, the node may go.

Whether anything is in flight is judged at the end of a turn: between two steps of a command it may look as if not.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.core.background import Background
from server.core.procedures import Steps
from server.core.questions import Questions
from server.core.state import State

LOOK_MS = 5


class Farewell:
    """The end of a node that is asked to stop, and what it knows of others that are."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self.over = False  # the process may end
        self._agreed = False  # nobody sends us anything to run any more
        self._idle = False  # and all that they sent has run

    def begin(self) -> None:
        """The shell takes no commands any more; `over` says when it may close."""
        self._background.run(self._steps())

    def look(self) -> None:
        """The end of a turn: what was begun in it is in flight now."""
        if self._agreed and not self._state.in_flight:
            self._idle = True

    def told(self, args: Sequence[bytes]) -> list[bytes]:
        """GOING node: that node is about to stop."""
        state = self._state
        state.going[args[0].decode()] = None
        state.reroute()
        return [b"1"]

    def _steps(self) -> Steps:
        state = self._state
        until_ms = state.now_ms + state.config.request_timeout_ms
        members = [member.id for member in state.layout.members] if state.layout is not None else []
        fellows = [member for member in members if state.is_usable(member)]
        yield self._questions.ask(fellows, b"GOING", state.id)
        self._agreed = True
        while not self._idle and state.now_ms < until_ms:
            yield self._background.pause(LOOK_MS)
        if self._idle and state.now_ms < until_ms:
            yield self._questions.ask(fellows, b"GOING", state.id)
        self.over = True
        return None
