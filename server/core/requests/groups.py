"""The table of request groups in flight: what quorum reads and quorum writes have in common.

Theory. The requests of one turn that ask the same owners for the same quorum form one *group*, until that is sent. A
group has one message to each owner, one tally, one deadline and one row in this table. So replication costs once per
group, not once per request. A request in flight has no task, no future and no timer of its own. All groups have the
same timeout. So their deadlines expire in the order in which the groups were made, and a deque is enough to keep them
in order.

A group answers its waiters as soon as its tally has a verdict. It stays in the table longer: until every awaited node
has answered, or the deadline has passed. Only then does the coordinator know which owners lack which records. Read
repair (reads.py) and hints (writes.py) need that.

The words of this module:

    number      of a group: its id in this table and in its messages; of a waiter: which command of its sink it is
    waiter      one client request of the group; it gets one reply
    awaited     the nodes whose answers are still to come
    owner       the replica that an answer counts for; the node that answers may be a stand-in of that owner
    tally       which owners have acknowledged or failed, and the verdict on that (base/quorum.py)
    detach      take the waiters out of the group, in order to answer them
    close       remove the group from the table; then `_settle` queues read repair, or keeps hints, for its owners
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar, Generic, TypeVar

from protocol.resp import Reply
from server.core.base.errors import ErrorReply, NoLayout, no_quorum, timed_out
from server.core.base.histogram import Histogram
from server.core.base.quorum import Tally, Verdict
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.base.unexpected import Fatal

# One request of a group: the function that makes its reply, its sink, and its number within that sink. The function may
# return None and give the reply to the sink in a later turn. A write without a function is answered +OK.
Waiter = tuple[Callable[..., Reply | None] | None, Sink, int]


class SeparateWaiter:
    """A waiter with its own tally: some replica voted for the other keys of the group, but not for this one."""

    __slots__ = ("is_answered", "tally", "waiter")

    def __init__(self, waiter: Waiter, tally: Tally) -> None:
        self.waiter = waiter
        self.tally = tally
        self.is_answered = False


class Group:
    """Requests of one turn that ask the same owners for the same quorum."""

    __slots__ = ("awaited", "deadline_ms", "number", "opened_number", "plan", "separate", "tally", "waiters")

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        self.number = number
        # Tells how old the plan is. A part of a divided group keeps the number of the undivided group here.
        self.opened_number = number
        self.plan = plan
        self.tally = tally
        self.deadline_ms = deadline_ms
        self.waiters: list[Waiter] = []
        self.awaited: dict[str, str] = {}  # node whose answer is to come -> owner that the answer counts for
        self.separate: dict[int, SeparateWaiter] = {}  # by index in `waiters`


G = TypeVar("G", bound=Group)


class GroupTable(Generic[G]):
    """The read groups or the write groups: those opened in this turn, and those sent and not yet closed."""

    operation: ClassVar[str]  # "read" or "write", for error replies
    outcome: ClassVar[str]  # what is known of the data after a failure, for error replies

    def __init__(self, state: State) -> None:
        self._state = state
        self.quorum_times = Histogram()  # how long quorums took to answer, in us, measured in whole ms
        self._opened: list[tuple[dict[int, Any], int, G]] = []
        self._groups: dict[int, G] = {}
        self._deadlines: deque[G] = deque()

    def _register(self, make: type[G], plan: Plan, gathering: dict[int, G], name: int, wanted: int) -> G:
        """Makes a group that needs `wanted` acknowledgements, and enters it as `gathering[name]` until its launch.

        `name` is normally the quorum: later requests of the turn with that quorum find the group under it, and join. If
        the live owners alone cannot make the quorum, stand-ins are asked. A stand-in may hold one key and lack another,
        and a stand-in of an earlier version votes for all keys of a group or for none. So each request then gets a
        group of its own. That group is entered under its own number, which no request looks up. Raises NoLayout on a
        node without a layout.
        """
        state = self._state
        if not plan.replicas:
            raise NoLayout(state.no_layout)  # the node has left the cluster between two steps of a command
        tally = plan.tally(wanted)
        number = state.next_number()
        group = make(number, plan, tally, state.now_ms + state.config.request_timeout_ms)
        if plan.absent and plan.replicas - len(plan.absent) < tally.wanted:
            name = number
        gathering[name] = group
        self._opened.append((gathering, name, group))
        return group

    def launch(self) -> bool:
        """At the end of the turn: sends every group opened since the last launch. Returns whether there was one."""
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
        """Handles an exception of `_launch`. `changes` is the value of `Records.changes` before the launch."""
        raise Fatal(f"a group of {self.operation}s could not be sent: {error!r}") from error

    def _launch(self, group: G) -> None:
        """Sends the group to its owners, and enters it in the table."""
        raise NotImplementedError

    def _complete(self, group: G) -> None:
        """Answers the waiters: the quorum is met."""
        raise NotImplementedError

    def _count_ack(self, group: G, owner: str) -> None:
        """HOT. Counts an acknowledgement of `owner` or of its stand-in."""
        group.tally.ack(owner)

    def _count_failure(self, group: G, owner: str) -> None:
        """Counts `owner` as failed. The node that was to answer for it is no longer in `group.awaited`."""
        group.tally.fail(owner)

    def _settle(self, group: G) -> None:
        """Queues read repair or keeps hints, once the last awaited node has answered or the deadline has passed."""

    def _track(self, group: G) -> None:
        """Enters a group in the table. Its messages have been queued."""
        self._state.in_flight += len(group.waiters)
        self._groups[group.number] = group
        self._deadlines.append(group)
        self._apply_verdict(group)

    def acked(self, node: str, number: int) -> None:
        """HOT. `node` has acknowledged group `number`. If that group is closed, only the statistics change."""
        group = self._groups.get(number)
        if group is None or not (group.waiters or group.separate):
            self._state.statistics.unneeded_answers += 1  # such a message alone schedules no turn (inbound.py)
            if group is None:
                return
        owner = group.awaited.pop(node, None)
        if owner is None:
            if node not in group.plan.peers:
                return  # a stand-in that has answered before
            owner = node
        self._count_ack(group, owner)
        if group.waiters or group.separate or not group.awaited:
            self._apply_verdict(group)

    def refused(self, node: str, number: int) -> None:
        """Counts a failure: `node` has refused group `number`."""
        group = self._groups.get(number)
        if group is not None:
            self._fail_vote(group, node)

    def peer_lost(self, peer: str) -> None:
        """Counts all awaited answers of `peer` as failed: the connection to it broke."""
        for group in list(self._groups.values()):
            self._fail_vote(group, peer)

    def _fail_vote(self, group: G, node: str) -> None:
        owner = group.awaited.pop(node, None)
        if owner is not None:
            self._count_failure(group, owner)
            self._apply_verdict(group)

    def expire(self, now_ms: int) -> None:
        """Answers and closes the groups whose deadline has passed. Removes closed groups from the front of the deque."""
        state = self._state
        deadlines = self._deadlines
        while deadlines and (deadlines[0].deadline_ms <= now_ms or deadlines[0].number not in self._groups):
            group = deadlines.popleft()
            if group.waiters:
                timeout_ms = state.config.request_timeout_ms
                error = timed_out(group.tally, self.operation, self.outcome, timeout_ms)
                state.statistics.timeouts += self._fail(group, error)
            self._close(group)

    def has_group_before(self, number: int) -> bool:
        """Whether a group whose `opened_number` is less than `number` is not closed yet."""
        return any(group.opened_number < number for group in self._groups.values()) or any(
            group.opened_number < number for _, _, group in self._opened
        )

    def is_busy(self) -> bool:
        """Whether any group is opened or in the table."""
        return bool(self._groups or self._opened)

    def is_overdue(self) -> bool:
        """Whether a request has waited past its deadline, which happens only if this node was suspended or is too slow."""
        now_ms = self._state.now_ms
        for group in self._deadlines:
            if group.deadline_ms > now_ms:
                return False
            if group.waiters or any(not one.is_answered for one in group.separate.values()):
                return True
        return False

    def _apply_verdict(self, group: G) -> None:
        if group.waiters:
            verdict = group.tally.verdict
            if verdict is Verdict.MET:
                waited_ms = self._state.now_ms - group.deadline_ms + self._state.config.request_timeout_ms
                self.quorum_times.add(1000 * waited_ms, len(group.waiters))
                self._complete(group)
            elif verdict is Verdict.IMPOSSIBLE:
                error = no_quorum(group.tally, self.operation, self.outcome)
                self._state.statistics.no_quorum += self._fail(group, error)
        if not group.awaited and not group.waiters:
            self._close(group)

    def _close(self, group: G) -> None:
        if self._groups.pop(group.number, None) is not None:
            self._settle(group)

    def _fail(self, group: G, error: ErrorReply) -> int:
        """Answers the waiters of a group with an error. Returns how many it has answered."""
        waiters = self._detach_waiters(group)
        for _, sink, number in waiters:
            sink.answer(number, error)
        return len(waiters)

    def _detach_waiters(self, group: G) -> list[Waiter]:
        """Takes the waiters out of the group for the caller to answer, so that each is answered exactly once (P5)."""
        waiters, group.waiters = group.waiters, []
        self._state.in_flight -= len(waiters)
        return waiters
