"""Shutdown: a node that stops or leaves ends first what it has begun, so that neither costs anybody an answer.

Theory. A request that is cut off in the middle has an unknown outcome, and whoever asks again may find that it was done
already (a DEL that answers 0). So a node that stops takes no new commands of its clients, and tells its fellows: from then
on they coordinate without it, and send it nothing to run. Messages keep their order, so with a fellow's answer to that all
of its relays have come. Once nothing is in flight any more it asks again, for by the same order they then have all that it
has said: or else they might see its connections end before they see its last replies, and take these for lost. Then, or
when the longest request has had its time, the node may go.

A node that leaves its cluster owns nothing at last, so nobody sends it anything to run. But what its own clients sent it
is with the coordinators, whose replies are not heard any more once it is no member. So it refuses its clients before it
says that it may go (EMPTY, see steward.py), and says so only once they all have their answers. It is asked again and
again; if that ends, for those who asked have died, say, it serves on.

Whether anything is in flight is judged at the end of a turn: between two steps of a command it may look as if not.
"""

from __future__ import annotations

from server.core.base.errors import is_leaving
from server.core.base.state import State
from server.core.work.background import Background
from server.core.work.procedures import Steps
from server.core.work.questions import Questions

LOOK_MS = 5
REOPEN_MS = 3000  # a node that leaves and was not asked whether it may go for so long serves its clients again


class Shutdown:
    """The end of a node that is asked to stop or leaves, and what it knows of others that stop."""

    def __init__(self, state: State, questions: Questions, background: Background) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self.over = False  # the process may end
        self._agreed = False  # nobody sends us anything to run any more
        self._idle = False  # and all that they sent has run
        self._asked_ms: int | None = None  # when it was last asked whether it has rested, since it refuses its clients
        self._rested = False  # it refuses them, and all of them have their answers

    def begin(self) -> None:
        """The shell takes no commands any more; `over` says when it may close."""
        self._background.run_to_end("shutdown", self._steps)

    def look(self) -> None:
        """The end of a turn: what was begun in it is in flight now."""
        state = self._state
        is_idle = not state.in_flight and not state.commands_waiting
        if self._agreed and is_idle and not state.clients_queued:
            self._idle = True
        self._rested = self._asked_ms is not None and is_idle

    def is_drained(self) -> bool:
        """This node leaves, and could be let go now: whether its clients' requests have ended, and none will begin."""
        if self._asked_ms is None:
            self._state.refuse_clients(is_leaving(self._state.member.name))
        self._asked_ms = self._state.now_ms
        return self._rested

    def tick(self, now_ms: int) -> None:
        """Serves again if nobody means to let this node go any more."""
        if self._asked_ms is not None and now_ms - self._asked_ms > REOPEN_MS:
            self.serve()

    def serve(self) -> None:
        """Clients are served again: there is another layout than the one by which this node may go, or nobody asks now."""
        if self._asked_ms is not None:
            self._asked_ms, self._rested = None, False
            self._state.serve_clients()

    def told(self, node: str) -> list[bytes]:
        """GOING: that node is about to stop."""
        state = self._state
        state.draining[node] = None
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
