"""Quorum reads: this node reads its own replica, asks the other owners in parallel, answers when R have answered.

Theory (Dynamo, section 4.5). Whichever R replicas are fastest make the answer, so one slow owner does not set the
latency. The question carries the checksums of our own records: an owner that holds the same answers with one word for the
whole group and nothing is decoded; one that differs sends the records that differ, and ours become the join of both
(comparison.py). Where too few owners are live their stand-ins are asked, too. One that holds the record (it keeps it with a
hint) votes as the owner it stands for; its ignorance is no vote.

One tally counts the votes of a group. A record that some replica cannot read, this node perhaps, is no vote of that replica
for that key: from then on the key has a tally of its own (`Group.apart`), and the other owners must make up its quorum. The
other keys of the group do not notice.

A group of large records is cut: what does not fit into `batch_bytes_max` is read in later turns, so that many reads of
large values take no more memory at once than their clients can be sent.

Read repair (section 5): when all owners have answered, or their time is up, those whose record differs from what all know
together get that, whole. Not if a fence has been passed since the group began: then what was read may be older than a
deletion that everybody has forgotten since (see collection.py).

An owner that differs answers with whole records. So a group whose records here make more than `batch_bytes_max` is cut into
groups of about that size, and an owner does not vote for keys whose records have no room in one message.

Owners of earlier versions are asked with READ: it carries one digest, and they answer for all keys or for none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

from protocol.resp import Reply
from server.core.base.errors import ErrorReply, no_quorum, timed_out
from server.core.base.quorum import Tally, Verdict
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.messages.comparison import by_place, checksums
from server.core.records.versions import DamagedRecord, merge
from server.core.requests.digests import digest, short_digest
from server.core.requests.groups import Apart, Group, GroupTable, Waiter

# Makes the reply out of the record that the quorum agreed on: (record, sink, now_ms) -> encoded reply
Finish = Callable[[bytes | None, Sink, int], Reply]


def _size(records: list[bytes | None]) -> int:
    total = 0
    for record in records:
        if record is not None:
            total += len(record)
    return total


DIGESTED_BYTES_MAX = 64 << 10  # of records that are digested whole
_REPAIRS_MAX = 128  # keys and records that wait for one node


class ReadGroup(Group):
    """The reads of one turn that ask the same owners: storage keys, and what is known of their records so far."""

    __slots__ = ("differing", "keys", "ours", "records", "stamp", "unread")

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, plan, tally, deadline_ms)
        self.keys: list[bytes] = []
        self.ours: list[bytes | None] = []  # what we held at the start
        self.records: list[bytes | None] = []  # the join of all that was answered so far
        self.differing: dict[
            str, dict[int, bytes | None]
        ] = {}  # by owner and place: what it holds, if that is not ours
        self.unread: dict[str, Sequence[int]] = {}  # by owner: the places of keys for which it does not vote
        self.stamp = 0  # the hybrid clock at the start


class Reads(GroupTable[ReadGroup]):
    """The read groups in flight."""

    operation = "read"
    outcome = "unread"

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.agreed: dict[bytes, bytes | None] = {}  # what a quorum holds of the key whose chain runs now (chains.py)
        self._repairs: dict[str, list[bytes]] = {}  # node -> storage key, record, …
        self._repairs_bytes = 0
        self._repairs_stamp = 0  # of the oldest of them
        self._postponed: list[ReadGroup] = []  # to the next turn

    def open(self, plan: Plan, quorum: int) -> ReadGroup:
        """This turn's group of reads with R of `quorum`; 0 stands for the layout's."""
        return plan.reading.get(quorum) or self._register(
            ReadGroup, plan, plan.reading, quorum, quorum or self._state.read_quorum
        )

    def start(self, plan: Plan, key: bytes, finish: Finish, sink: Sink, number: int, quorum: int = 0) -> None:
        """Adds the read of storage key `key` to this turn's group; `quorum` 0 takes the asker's or the layout's."""
        group = self.open(plan, quorum or sink.read_quorum)
        group.keys.append(key)
        group.waiters.append((finish, sink, number))

    def _launch(self, group: ReadGroup) -> None:
        state = self._state
        group.stamp = state.clock.last
        group.ours, unreadable = state.records.get_each(group.keys, state.config.batch_bytes_max)
        group.records = group.ours
        if len(group.ours) < len(group.keys):
            self._postpone(group, len(group.ours))
        size_bytes = _size(group.ours)
        if size_bytes > state.config.batch_bytes_max and len(group.keys) > 1:
            self._divide(group)
            return
        plan = group.plan
        if plan.owned:
            lacking = _absent(group.ours) if state.lacks_records else unreadable
            self._vote_for(group, state.id, lacking)
        elif plan.absent and plan.stand_ins[0][1] == state.id:
            self._vote_for(group, plan.absent[0], _absent(group.ours))
        state.statistics.reads += len(group.keys)
        nodes: Sequence[str] = plan.peers
        if plan.stand_ins and plan.replicas - len(plan.absent) < group.tally.wanted:
            nodes = self._voters(group)
        else:
            for peer in nodes:
                group.waiting[peer] = peer
        self._ask(group, nodes, unreadable, size_bytes)
        self._track(group)

    def _ask(self, group: ReadGroup, nodes: Sequence[str], unreadable: Sequence[int], size_bytes: int) -> None:
        """Sends the question to some nodes, which `group.waiting` has, and fails those that cannot be reached."""
        state, comparing = self._state, self._state.comparing
        question = old_question = b""
        for node in nodes:
            if node not in state.links:
                self._lost(group, group.waiting.pop(node))
            elif node in comparing:
                question = question or state.message(
                    b"COMPARE", group.number, checksums(group.ours, unreadable), *group.keys
                )
                state.send(node, question)
            else:
                is_short = size_bytes > DIGESTED_BYTES_MAX and node in state.orderly
                word = short_digest(group.ours) if is_short else digest(group.ours)
                old_question = old_question or state.message(b"READ", group.number, word, *group.keys)
                state.send(node, old_question)

    def _postpone(self, group: ReadGroup, count: int) -> None:
        """All but the first `count` reads of the group are read in the next turn."""
        number, timeout_ms = self._state.number(), self._state.config.request_timeout_ms
        rest = ReadGroup(number, group.plan, group.plan.tally(group.tally.wanted), self._state.now_ms + timeout_ms)
        rest.keys, group.keys = group.keys[count:], group.keys[:count]
        rest.waiters, group.waiters = group.waiters[count:], group.waiters[:count]
        self._postponed.append(rest)
        self._state.in_flight += len(rest.waiters)

    def begin_turn(self) -> None:
        """What was postponed is read now."""
        if self._postponed:
            postponed, self._postponed = self._postponed, []
            for group in postponed:
                self._state.in_flight -= len(group.waiters)
                self._opened.append(({group.number: group}, group.number, group))

    def began_before(self, number: int) -> bool:
        """Whether a group with a lower number than that is still followed."""
        return super().began_before(number) or any(group.number < number for group in self._postponed)

    @property
    def has_postponed(self) -> bool:
        """Whether reads wait for the next turn."""
        return bool(self._postponed)

    def _divide(self, group: ReadGroup) -> None:
        """Launches the reads of a group in groups of about `batch_bytes_max`."""
        state, plan = self._state, group.plan
        starts, size = [0], 0
        for place, record in enumerate(group.ours):
            size += len(record or b"")
            if size > state.config.batch_bytes_max and place > starts[-1]:
                starts.append(place)
                size = len(record or b"")
        for start, end in pairwise([*starts, len(group.keys)]):
            part = ReadGroup(state.number(), plan, plan.tally(group.tally.wanted), group.deadline_ms)
            part.keys, part.waiters = group.keys[start:end], group.waiters[start:end]
            self._try_launch(part)

    def _launch_failed(self, group: ReadGroup, error: Exception, changes: int) -> None:
        """Nothing was stored, so the reads are begun one by one: only the one that is to blame gets the error."""
        if group.number in self._groups or len(group.waiters) != len(group.keys):
            super()._launch_failed(group, error, changes)  # it is followed already, or has answered
        state = self._state
        if len(group.waiters) == 1:
            reply = state.unexpected.contain(error, changes, "a read", "unread")
            for _, sink, number in group.waiters:
                sink.answer(number, reply)
            return
        state.unexpected.note(error, changes, "a group of reads")
        for key, waiter in zip(group.keys, group.waiters, strict=True):
            alone = ReadGroup(state.number(), group.plan, group.plan.tally(group.tally.wanted), group.deadline_ms)
            alone.keys, alone.waiters = [key], [waiter]
            self._try_launch(alone)

    def _voters(self, group: ReadGroup) -> list[str]:
        """Too few owners are live: asks those that are, and the stand-ins of the others."""
        state, plan = self._state, group.plan
        voters = {peer: peer for peer in plan.peers if peer not in plan.absent}
        for owner, node in plan.stand_ins:
            if node != state.id:
                voters[node or owner] = owner
        group.waiting = voters
        return list(voters)

    # --- votes

    def keys_in(self, number: int) -> int | None:
        """How many keys a group that is followed asks for; None if no such group is."""
        group = self._groups.get(number)
        return None if group is None else len(group.keys)

    def _vote_for(self, group: ReadGroup, owner: str, unread: Sequence[int]) -> None:
        """`owner`, or who stands in for it, votes for all keys but those at some places."""
        if unread:
            group.unread[owner] = unread
            for place in unread if group.waiters else ():
                if place not in group.apart:
                    group.apart[place] = Apart(group.waiters[place], group.tally.copy())
        self._vote(group, owner)

    def _vote(self, group: ReadGroup, owner: str) -> None:
        group.tally.ack(owner)
        if group.apart:
            unread = group.unread.get(owner, ())
            for place, one in group.apart.items():
                if place in unread:
                    one.tally.fail(owner)
                else:
                    one.tally.ack(owner)

    def _lost(self, group: ReadGroup, owner: str) -> None:
        group.tally.fail(owner)
        for one in group.apart.values():
            one.tally.fail(owner)

    def told_differences(self, peer: str, number: int, states: bytes, records: list[bytes]) -> None:
        """DIFFER: `peer` tells key by key where its records are not ours."""
        group = self._groups.get(number)
        if group is not None and peer in group.waiting:
            theirs, unread = by_place(states, records)
            self._told(group, peer, theirs, unread)

    def told_all(self, peer: str, number: int, records: list[bytes]) -> None:
        """RECORDS: `peer` holds these (empty for none), in the order of the keys asked, where not all equal ours."""
        group = self._groups.get(number)
        if group is not None and peer in group.waiting:
            pairs = enumerate(zip(records, group.ours, strict=True))
            self._told(group, peer, {place: one or None for place, (one, ours) in pairs if one != (ours or b"")}, ())

    def _told(self, group: ReadGroup, peer: str, theirs: dict[int, bytes | None], unread: Sequence[int]) -> None:
        """`peer` holds `theirs` by place, what we hold at all others, and cannot tell what it holds at `unread`."""
        owner = group.waiting[peer]
        if theirs and not self._join(group, theirs):
            self.refused(peer, group.number)
            return
        if theirs:
            group.differing[peer] = theirs
        if unread:
            self._vote_for(group, owner, unread)
        self.acked(peer, group.number)

    def _join(self, group: ReadGroup, theirs: dict[int, bytes | None]) -> bool:
        """Joins records of a replica with what is known of theirs by now. False if some record cannot be joined: else one
        bad record of a peer would end each node that reads its key."""
        state = self._state
        joined = list(group.records)
        try:
            for place, record in theirs.items():
                joined[place] = merge(joined[place], record)
        except Exception as error:  # noqa: BLE001
            state.unexpected.note(error, state.records.changes, "joining what a replica has answered")
            state.statistics.messages_undigested += 1
            return False
        state.statistics.read_differences += len(theirs)
        group.records = joined
        return True

    # --- answers

    def _judge(self, group: ReadGroup) -> None:
        if group.apart:
            for place, one in group.apart.items():
                if not one.is_answered and one.tally.verdict is not Verdict.PENDING:
                    self._answer_apart(group, place, one)
        super()._judge(group)

    def _answer_apart(self, group: ReadGroup, place: int, one: Apart) -> None:
        state = self._state
        _, sink, number = one.waiter
        one.is_answered = True
        state.in_flight -= 1
        if one.tally.verdict is Verdict.MET:
            self._answer(one.waiter, group.records[place])
        elif one.tally.verdict is Verdict.IMPOSSIBLE:
            state.statistics.no_quorum += 1
            sink.answer(number, no_quorum(one.tally, self.operation, self.outcome))
        else:
            state.statistics.timeouts += 1
            timeout_ms = state.config.request_timeout_ms
            sink.answer(number, timed_out(one.tally, self.operation, self.outcome, timeout_ms))

    def _complete(self, group: ReadGroup) -> None:
        apart = group.apart
        for place, (waiter, record) in enumerate(zip(self._detach_waiters(group), group.records, strict=True)):
            if not apart or place not in apart:
                self._answer(waiter, record)

    def _answer(self, waiter: Waiter, record: bytes | None) -> None:
        """HOT. Answers one read with what the quorum agreed on. One that fails costs its own command alone."""
        finish, sink, number = waiter
        assert finish is not None
        state = self._state
        changes = state.records.changes
        try:
            reply = finish(record, sink, state.time_ms)
        except Exception as error:  # noqa: BLE001
            reply = state.unexpected.contain(error, changes, "the reply to a read", "unread")
        sink.answer(number, reply)

    def _fail(self, group: ReadGroup, error: ErrorReply) -> None:
        for place, (_, sink, number) in enumerate(self._detach_waiters(group)):
            if place not in group.apart:
                sink.answer(number, error)

    def _detach_waiters(self, group: ReadGroup) -> list[Waiter]:
        """All waiters, those included that have tallies of their own, and may have to wait for longer."""
        self._state.in_flight += len(group.apart)
        return super()._detach_waiters(group)

    def _settle(self, group: ReadGroup) -> None:
        """All have answered who will: whoever differs gets the join, with the next tick or when much has gathered."""
        for place, one in group.apart.items():
            if not one.is_answered:  # the deadline has passed
                self._answer_apart(group, place, one)
        if not group.differing:
            return
        places = sorted({place: None for theirs in group.differing.values() for place in theirs})
        plan, acked = group.plan, group.tally.acked
        for node in (*plan.peers, self._state.id) if plan.owned else plan.peers:
            if node in acked and node not in plan.absent:
                pairs = _lacking(group, node, places)
                if pairs:
                    self._repairs.setdefault(node, []).extend(pairs)
                    self._repairs_stamp = min(self._repairs_stamp or group.stamp, group.stamp)
                    self._repairs_bytes += sum(map(len, pairs))
                    many = self._repairs_bytes > self._state.config.batch_bytes_max
                    if many or len(self._repairs[node]) > _REPAIRS_MAX:
                        self.repair()

    def repair(self) -> None:
        """Sends and stores what reads have found lacking since the last time: many records in one commit."""
        state = self._state
        if not self._repairs:
            return
        repairs, self._repairs = self._repairs, {}
        self._repairs_bytes = 0
        stamp, self._repairs_stamp = self._repairs_stamp, 0
        if state.fence >= stamp:
            return
        for node, pairs in repairs.items():
            state.statistics.read_repairs += len(pairs) // 2
            if node == state.id and state.may_store(pairs):
                with suppress(DamagedRecord):  # found damaged since: it is mended, not repaired
                    state.records.absorb(pairs)
            elif node in state.links and node != state.id:
                state.send(node, state.message(b"KEEP", state.number(), *pairs))


def _absent(records: list[bytes | None]) -> list[int]:
    return [place for place, record in enumerate(records) if record is None]


def _lacking(group: ReadGroup, node: str, places: Sequence[int]) -> list[bytes]:
    """Storage key, record, … of what a replica lacks of the keys at some places. Not of what it cannot read."""
    held, unread = group.differing.get(node, {}), group.unread.get(node, ())
    pairs: list[bytes] = []
    for place in places:
        joined = group.records[place]
        if joined is not None and place not in unread and joined != held.get(place, group.ours[place]):
            pairs += (group.keys[place], joined)
    return pairs
