"""The table of request groups in flight: what reads and writes have in common.

Theory. All requests of one turn that ask the same owners for the same quorum are one *group*: one message to each
owner, one tally, one deadline, one row here. So the cost of replication is paid by the group, not by the request, and a
request in flight is a row in a table: no task, no future, no timer of its own. Every group has the same time to live,
so deadlines expire in the order in which groups were made, from the front of a deque.

A group answers its waiters as soon as its tally has a verdict, and stays in the table until every node it waits for has
answered or the deadline has passed: only then is it known which owners lack what (read repair, hints).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from protocol.resp import Reply
from server.core.base.errors import ErrorReply, NoLayout, no_quorum, timed_out
from server.core.base.quorum import Tally, Verdict
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.base.unexpected import Fatal

Waiter = tuple[Callable[..., Reply] | None, Sink, int]  # how to make the reply, who asked, under which number


class Apart:
    """A waiter of a group for whose key some replica has no vote, though it votes for the others: its own tally."""

    __slots__ = ("is_answered", "tally", "waiter")

    def __init__(self, waiter: Waiter, tally: Tally) -> None:
        self.waiter = waiter
        self.tally = tally
        self.is_answered = False


class Group:
    """Requests that ask the same owners for the same quorum, begun in one turn."""

    __slots__ = ("apart", "deadline_ms", "number", "plan", "tally", "waiters", "waiting")

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        self.number = number
        self.plan = plan
        self.tally = tally
        self.deadline_ms = deadline_ms
        self.waiters: list[Waiter] = []
        self.waiting: dict[str, str] = {}  # node that we wait for -> the owner for whom its answer counts
        self.apart: dict[int, Apart] = {}  # by their places among the waiters: those with a tally of their own


G = TypeVar("G", bound=Group)


class GroupTable(Generic[G]):
    """Groups of one kind: those opened in this turn, and those launched and waiting for answers."""

    operation: ClassVar[str]
    outcome: ClassVar[str]  # what a failure leaves behind, for the error reply

    def __init__(self, state: State) -> None:
        self._state = state
        self._opened: list[tuple[dict[int, Any], int, G]] = []
        self._groups: dict[int, G] = {}
        self._deadlines: deque[G] = deque()

    def _register(self, make: type[G], plan: Plan, gathering: dict[int, G], name: int, wanted: int) -> G:
        """A new group for `plan` that wants `wanted` replicas, found in `gathering` as `name` for the rest of the turn.

        Requests that cannot be met by live owners alone never share a group: a stand-in may have one key and not the
        other. Raises CommandError on a node without a layout.
        """
        state = self._state
        if not plan.replicas:
            raise NoLayout(state.no_layout)  # the node has left between two steps of a command
        tally = plan.tally(wanted)
        number = state.number()
        group = make(number, plan, tally, state.now_ms + state.config.request_timeout_ms)
        if plan.absent and plan.replicas - len(plan.absent) < tally.wanted:
            name = number
        gathering[name] = group
        self._opened.append((gathering, name, group))
        return group

    def launch(self) -> bool:
        """End of turn: every group gathered since the last one goes to its owners. Answers whether there was one."""
        opened, self._opened = self._opened, []
        for gathering, name, group in opened:
            del gathering[name]
            self._try_launch(group)
        return bool(opened)

    def _try_launch(self, group: G) -> None:
        changes = self._state.records.changes
        try:
            self._launch(group)
        except Exception as error:  # noqa: BLE001
            self._launch_failed(group, error, changes)

    def _launch_failed(self, group: G, error: Exception, changes: int) -> None:
        """The group could not be sent. `changes` is what `Records.changes` was before."""
        raise Fatal(f"a group of {self.operation}s could not be sent: {error!r}") from error

    def _launch(self, group: G) -> None:
        raise NotImplementedError

    def _complete(self, group: G) -> None:
        """The quorum is met: answer the waiters."""
        raise NotImplementedError

    def _vote(self, group: G, owner: str) -> None:
        """HOT. `owner`, or its stand-in, has answered."""
        group.tally.ack(owner)

    def _lost(self, group: G, owner: str) -> None:
        """No answer will come for `owner`, which `group.waiting` does not hold any more."""
        group.tally.fail(owner)

    def _settle(self, group: G) -> None:
        """Everybody has answered whom the group waited for, or nothing more is to be expected of them."""

    def _track(self, group: G) -> None:
        """The group's messages are on their way: from now on it is a row in the table."""
        self._state.in_flight += len(group.waiters)
        self._groups[group.number] = group
        self._deadlines.append(group)
        self._judge(group)

    def acked(self, node: str, number: int) -> None:
        """HOT. `node` has done what the group asked. A group that is no longer waiting is none of our business."""
        group = self._groups.get(number)
        if group is None or not (group.waiters or group.apart):
            self._state.statistics.unneeded_answers += 1  # the shell ends no turn for it
            if group is None:
                return
        owner = group.waiting.pop(node, None)
        if owner is None:
            if node not in group.plan.peers:
                return  # a stand-in's word is counted once
            owner = node
        self._vote(group, owner)
        if group.waiters or group.apart or not group.waiting:
            self._judge(group)

    def refused(self, node: str, number: int) -> None:
        """`node` cannot do what the group asked."""
        group = self._groups.get(number)
        if group is not None:
            self._drop(group, node)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke: it will not answer what was asked over it."""
        for group in list(self._groups.values()):
            self._drop(group, peer)

    def _drop(self, group: G, node: str) -> None:
        owner = group.waiting.pop(node, None)
        if owner is not None:
            self._lost(group, owner)
            self._judge(group)

    def expire(self, now_ms: int) -> None:
        """Answers the groups whose deadline has passed, and forgets the settled ones at the front."""
        state = self._state
        deadlines = self._deadlines
        while deadlines and (deadlines[0].deadline_ms <= now_ms or deadlines[0].number not in self._groups):
            group = deadlines.popleft()
            if group.waiters:
                state.statistics.timeouts += len(group.waiters)
                timeout_ms = state.config.request_timeout_ms
                self._fail(group, timed_out(group.tally, self.operation, self.outcome, timeout_ms))
            self._end(group)

    def began_before(self, number: int) -> bool:
        """Whether a group with a lower number than that is still followed."""
        return any(group.number < number for group in self._groups.values()) or any(
            group.number < number for _, _, group in self._opened
        )

    def is_busy(self) -> bool:
        """Whether any group is followed."""
        return bool(self._groups or self._opened)

    def is_overdue(self) -> bool:
        """Whether somebody waits for an answer past the deadline: this node has slept."""
        now_ms = self._state.now_ms
        for group in self._deadlines:
            if group.deadline_ms > now_ms:
                return False
            if group.waiters or any(not one.is_answered for one in group.apart.values()):
                return True
        return False

    def _judge(self, group: G) -> None:
        if group.waiters:
            verdict = group.tally.verdict
            if verdict is Verdict.MET:
                self._complete(group)
            elif verdict is Verdict.IMPOSSIBLE:
                self._state.statistics.no_quorum += len(group.waiters)
                self._fail(group, no_quorum(group.tally, self.operation, self.outcome))
        if not group.waiting and not group.waiters:
            self._end(group)

    def _end(self, group: G) -> None:
        if self._groups.pop(group.number, None) is not None:
            self._settle(group)

    def _fail(self, group: G, error: ErrorReply) -> None:
        for _, sink, number in self._detach_waiters(group):
            sink.answer(number, error)

    def _detach_waiters(self, group: G) -> list[Waiter]:
        """The waiters, who are answered now; a later answer to the group finds none (P5: answered exactly once)."""
        waiters, group.waiters = group.waiters, []
        self._state.in_flight -= len(waiters)
        return waiters
