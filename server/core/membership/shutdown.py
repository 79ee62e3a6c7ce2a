"""Shutdown: a node that stops or leaves first finishes what it has begun, so that no client loses a reply.

The problem. A request that is cut off has an unknown outcome. A client that repeats it may find that it was done already (a
DEL that answers 0).

A node that stops accepts no new commands of its clients. Then it does three things:

 1. It tells its peers (GOING). From then on they coordinate without it, and relay nothing to it. Messages keep their order,
    so with a peer's answer all relays of that peer have arrived.
 2. It waits until nothing is in flight.
 3. It asks its peers once more. By the same order they have then received all its replies. Without this step they might
    see the connection end before they read the last replies, and count those as lost.

The process ends after these, or when the longest request has had its time.

A node that leaves its cluster owns nothing in the end, so no peer relays to it. But the requests of its own clients are
with their coordinators, and a node that is no member does not receive their replies. So it refuses its clients before it
says that it may be removed (EMPTY, see change_coordinator.py), and says so only once all earlier commands have their
replies. It is asked again and again. If the questions end, because the node that asked died for example, it serves its
clients again.

Clients in blocking commands have nothing to finish: their connections are closed at once, or with the others if such a
command begins later. Nor has WAIT. Scripts that run in threads are stopped at once, unless they have written what stays:
they may take longer than the process has, and then nobody would know what became of them. Elements on their way to clients
are waited for (waiting/deliveries.py).

Whether anything is in flight is judged at the end of a turn: between two steps of a command nothing may seem to be. A
command that pauses between two slices, or asks other nodes, has no request in flight, so commands of several steps are
counted, too (`State.procedures`).
"""

from __future__ import annotations

from collections.abc import Callable

from server.core.base.errors import is_leaving
from server.core.base.state import State
from server.core.messages.questions import GOING
from server.core.waiting.deliveries import Deliveries
from server.core.work.background import Background
from server.core.work.procedures import Steps
from server.core.work.questions import Questions

POLL_MS = 5
REOPEN_MS = 3000  # a leaving node that was not asked EMPTY for so long serves its clients again


class Shutdown:
    """Drains a node that stops or leaves, and notes peers that stop."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        deliveries: Deliveries,
        close_blocked: Callable[[], None],
        end_scripts: Callable[[], None],
    ) -> None:
        """`close_blocked` closes the connections of clients in blocking commands; `end_scripts` stops long scripts."""
        self._state = state
        self._questions = questions
        self._background = background
        self._deliveries = deliveries
        self._close_blocked = close_blocked
        self._end_scripts = end_scripts
        self.over = False  # the process may end
        self._is_announced = False  # the peers have answered GOING: none relays anything to this node any more
        self._idle = False  # and all that they had relayed is done
        self._asked_ms: int | None = None  # when EMPTY was last asked; None while this node serves its clients
        self._drained = False  # this node refuses its clients, and all earlier commands have their replies

    def begin(self) -> None:
        """Begins the shutdown. The shell has stopped to admit commands; `over` says when the process may end."""
        self._deliveries.stop()
        self._close_blocked()
        self._end_scripts()
        self._background.run_to_end("shutdown", self._steps)

    def note_end_of_turn(self) -> None:
        """Notes at the end of a turn whether anything is in flight."""
        state = self._state
        is_idle = not state.in_flight and not state.procedures and not state.commands_waiting
        if self._is_announced and is_idle and not state.clients_queued and self._deliveries.is_settled():
            self._idle = True
        self._drained = self._asked_ms is not None and is_idle

    def is_drained(self) -> bool:
        """For a leaving node: refuses new commands of clients, and says whether the earlier ones have their replies."""
        if self._asked_ms is None:
            self._state.refuse_clients(is_leaving(self._state.member.name))
        self._asked_ms = self._state.now_ms
        return self._drained

    def tick(self, now_ms: int) -> None:
        """Serves clients again if EMPTY was not asked for `REOPEN_MS`."""
        if self._asked_ms is not None and now_ms - self._asked_ms > REOPEN_MS:
            self.serve()

    def serve(self) -> None:
        """Serves clients again: another layout was adopted, or EMPTY is not asked any more."""
        if self._asked_ms is not None:
            self._asked_ms, self._drained = None, False
            self._state.serve_clients()

    def shutdown_announced(self, node: str) -> bool:
        """Answers GOING: notes that `node` is about to stop, and routes around it."""
        state = self._state
        state.draining[node] = None
        state.reroute()
        return True

    def _steps(self) -> Steps:
        state = self._state
        until_ms = state.now_ms + state.config.request_timeout_ms
        members = [member.id for member in state.layout.members] if state.layout is not None else []
        peers = [member for member in members if state.is_usable(member)]
        yield self._questions.ask(peers, GOING, state.id)
        self._is_announced = True
        while not self._idle and state.now_ms < until_ms:
            yield self._background.sleep(POLL_MS)
        if self._idle and state.now_ms < until_ms:
            yield self._questions.ask(peers, GOING, state.id)
        self.over = True
        return None
