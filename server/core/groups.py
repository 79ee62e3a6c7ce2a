"""The table of request groups in flight: what reads and writes have in common.

Theory. All requests of one turn that ask the same owners for the same quorum are one *group*: one message to each
owner, one tally, one deadline, one row here. So the cost of replication is paid by the group, not by the request, and a
request in flight is a row in a table: no task, no future, no timer of its own. Every group has the same time to live,
so deadlines expire in the order in which groups were made, from the front of a deque.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from server.core.errors import ErrorReply, no_quorum, timed_out
from server.core.quorum import Tally, Verdict
from server.core.routing import Plan
from server.core.sinks import Sink
from server.core.state import State

Member = tuple[Callable[..., bytes] | None, Sink, int]  # how to make the reply, who asked, under which number


class Group:
    """Requests that ask the same owners for the same quorum, begun in one turn."""

    __slots__ = ("deadline_ms", "members", "number", "peers", "tally")

    def __init__(self, number: int, peers: tuple[str, ...], tally: Tally, deadline_ms: int) -> None:
        self.number = number
        self.peers = peers
        self.tally = tally
        self.deadline_ms = deadline_ms
        self.members: list[Member] = []


G = TypeVar("G", bound=Group)


class GroupTable(Generic[G]):
    """Groups of one kind: those opened in this turn, and those launched and waiting for their quorum."""

    operation: ClassVar[str]
    outcome: ClassVar[str]  # what a failure leaves behind, for the error reply

    def __init__(self, state: State) -> None:
        self._state = state
        self._opened: list[tuple[dict[int, Any], int, G]] = []
        self._groups: dict[int, G] = {}
        self._deadlines: deque[G] = deque()

    def _register(self, make: type[G], plan: Plan, gathering: dict[int, G], name: int, wanted: int) -> G:
        """A new group for `plan` that wants `wanted` replicas, found in `gathering` as `name` for the rest of the turn."""
        state = self._state
        replicas = len(plan.peers) + 1
        tally = Tally(replicas, min(wanted, replicas))
        group = make(state.number(), plan.peers, tally, state.now_ms + state.config.request_timeout_ms)
        gathering[name] = group
        self._opened.append((gathering, name, group))
        return group

    def launch(self) -> bool:
        """End of turn: every group gathered since the last one goes to its owners. Answers whether there was one."""
        opened, self._opened = self._opened, []
        for gathering, name, group in opened:
            del gathering[name]
            self._launch(group)
        return bool(opened)

    def _launch(self, group: G) -> None:
        raise NotImplementedError

    def _complete(self, group: G) -> None:
        """The quorum is met: answer the members."""
        raise NotImplementedError

    def _track(self, group: G, message: bytes) -> None:
        """Sends `message` to the group's owners and waits; those out of reach have failed at once."""
        state = self._state
        if group.members:  # a group that answers nobody is not waited for
            state.in_flight += len(group.members)
            self._groups[group.number] = group
            self._deadlines.append(group)
        links = state.links
        for peer in group.peers:
            if peer in links:
                state.send(peer, message)
            else:
                group.tally.fail(peer)
        if group.members:
            self._judge(group)

    def acked(self, peer: str, number: int) -> None:
        """`peer` has done what the group asked. A group that is no longer waiting is none of our business."""
        group = self._groups.get(number)
        if group is not None:
            group.tally.ack(peer)
            self._judge(group)

    def refused(self, peer: str, number: int) -> None:
        """`peer` cannot do what the group asked."""
        group = self._groups.get(number)
        if group is not None:
            group.tally.fail(peer)
            self._judge(group)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke: it will not answer what was asked over it."""
        for group in list(self._groups.values()):
            if peer in group.peers:
                group.tally.fail(peer)
                self._judge(group)

    def expire(self, now_ms: int) -> None:
        """Answers the groups whose deadline has passed, and forgets the answered ones at the front."""
        state = self._state
        deadlines = self._deadlines
        while deadlines and (not deadlines[0].members or deadlines[0].deadline_ms <= now_ms):
            group = deadlines.popleft()
            if group.members:
                state.statistics.timeouts += len(group.members)
                timeout_ms = state.config.request_timeout_ms
                self._fail(group, timed_out(group.tally, self.operation, self.outcome, timeout_ms))

    def next_deadline_ms(self) -> int | None:
        """When `expire` has something to do."""
        return self._deadlines[0].deadline_ms if self._deadlines else None

    def _judge(self, group: G) -> None:
        verdict = group.tally.verdict
        if verdict is Verdict.MET:
            self._complete(group)
        elif verdict is Verdict.IMPOSSIBLE:
            self._state.statistics.no_quorum += len(group.members)
            self._fail(group, no_quorum(group.tally, self.operation, self.outcome))

    def _fail(self, group: G, error: ErrorReply) -> None:
        for _, sink, number in self._close(group):
            sink.answer(number, error)

    def _close(self, group: G) -> list[Member]:
        """Takes the group out of the table; a later answer to it finds nothing (P5: answered exactly once)."""
        del self._groups[group.number]
        members, group.members = group.members, []
        self._state.in_flight -= len(members)
        return members
