"""Quorum reads: reads the local replica, asks R - 1 other owners, and answers the client once R replicas have answered.

Theory (Dynamo, section 4.5). A read is answered from the records of R replicas. The coordinator asks R - 1 other
owners, and prefers those that have answered fast lately. If an answer is late, it asks another owner, so that one slow
owner does not set the latency (hedging.py). If an owner fails, or has no vote for a key, the coordinator asks the next
one at once.

The COMPARE message carries the checksums of the coordinator's own records. An owner that holds the same records answers
SAME for the whole group, and no record is decoded. An owner with other records answers DIFFER: it sends only the records
that differ, and the coordinator merges them with its own (messages/comparison.py).

    the replica's record is                             it counts as
    the same as the coordinator's                       a vote
    another record                                      a vote
    missing, on an owner                                a vote
    missing, on a stand-in or on a node that is         no vote: the owners may have the record
    being filled
    unreadable (damaged)                                no vote
    too large for the rest of the answer                no vote

If too few owners are live, the stand-ins of the other owners are asked, too. A stand-in that holds the record of a key
votes in place of the owner.

One tally counts the votes of the whole group. If a replica has no vote for one key, that key gets a tally of its own
(`Group.separate`), and its quorum must come from the other replicas. The rest of the group is not affected.

Size limits. A group loads records of about `batch_bytes_max` from the engine in one turn, besides those in the cache;
its other keys are postponed to the next turn. This bounds the memory for many reads of large values. An owner with
other records answers with whole records, so its answer must be bounded, too: if the records of a group are together
larger than `batch_bytes_max`, the group is divided into smaller groups of about that size.

Order. Small messages overtake large records and their patches (patching.py). If a COMPARE overtook a large write of its
key, the owner would still hold the former record, and would answer with the whole of it. So keys whose large writes are
still on their way (`State.slow_writes`) are read by a separate group, which is sent behind those writes.

Read repair (section 5). If an answer differs from the coordinator's records, the coordinator asks all live owners. It
also asks all of them for one group in a hundred, chosen at random: otherwise an owner that is always slower than
another one would never be compared. When all nodes that were asked have answered, or at the deadline, the repair
begins: each live owner that has voted and does not hold the merge of all answers gets that merge (read_repair.py).

Nodes of earlier versions are asked with READ: it carries one digest of all records, and they vote for all keys or none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from protocol.resp import Reply
from server.core.base.errors import ErrorReply, no_quorum, timed_out
from server.core.base.quorum import Verdict
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import MISSED, State
from server.core.messages.comparison import by_index, checksums
from server.core.messages.kinds import encode_compare, encode_read
from server.core.records.versions import is_dead, visible
from server.core.requests.digests import digest, short_digest
from server.core.requests.groups import GroupTable, SeparateWaiter, Waiter
from server.core.requests.hedging import Hedging
from server.core.requests.read_groups import ReadGroup, absent_in, division_of, merge_answer, missing_pairs, size_of
from server.core.requests.read_repair import ReadRepair
from server.core.work.timers import Timers

# Makes the reply from the merge of the quorum's records: (record, sink, cluster time in ms) -> encoded reply
FinishRead = Callable[[bytes | None, Sink, int], Reply | None]

DIGESTED_BYTES_MAX = 64 << 10  # if a group's records are larger than this, READ carries a short digest (digests.py)


class Reads(GroupTable[ReadGroup]):
    """The table of read groups."""

    operation = "read"
    outcome = "unread"

    def __init__(self, state: State, timers: Timers) -> None:
        super().__init__(state)
        self.hedging = Hedging(state, timers, self._hedge)
        # Storage key -> the merge of a quorum's records. Used while a chain runs (chains.py) or while a command runs on a
        # snapshot (commands/transactions/snapshot.py): these commands use the merge instead of asking the owners again.
        self.quorum_records: dict[bytes, bytes | None] = {}
        # The keys that the snapshot lacks and that its command has asked for; None while no command runs on a snapshot.
        self.missing: list[bytes] | None = None
        self.repair = ReadRepair(state)
        self._postponed: list[ReadGroup] = []  # groups to launch in the next turn

    def open(self, plan: Plan, quorum: int) -> ReadGroup:
        """Returns this turn's group of reads with R = `quorum`; 0 stands for the layout's R."""
        return plan.reading.get(quorum) or self._register(
            ReadGroup, plan, plan.reading, quorum, quorum or self._state.read_quorum
        )

    def start(self, plan: Plan, key: bytes, finish: FinishRead, sink: Sink, number: int, quorum: int = 0) -> None:
        """Adds a read of storage key `key` to this turn's group. R is the first of these that is not 0:
        `quorum`, the sink's R, the layout's R."""
        group = self.open(plan, quorum or sink.read_quorum)
        group.keys.append(key)
        group.waiters.append((finish, sink, number))

    def _launch(self, group: ReadGroup) -> None:
        """Reads the local records, counts this node's own vote, and asks as many other owners as the quorum still needs."""
        state = self._state
        group.stamp = state.clock.last
        group.ours, group.unreadable = state.records.get_each(group.keys, state.config.batch_bytes_max)
        group.records = group.ours
        if len(group.ours) < len(group.keys):
            self._postpone(group, len(group.ours))
        if parts := division_of(group, state.config.batch_bytes_max, state.slow_writes):
            for indexes in parts:
                self._try_launch(self._part(group, indexes))
            return
        plan = group.plan
        if plan.owned:
            lacking = absent_in(group.ours) if state.lacks_records else group.unreadable
            self._count_partial_ack(group, state.id, lacking)
        elif plan.absent and plan.stand_ins[0][1] == state.id:  # this node stands in for an owner
            self._count_partial_ack(group, plan.absent[0], absent_in(group.ours))
        reads = len(group.keys)
        state.statistics.reads += reads
        self.hedging.earn(reads)
        if plan.stand_ins and plan.replicas - len(plan.absent) < group.tally.wanted:
            self._ask(group, group.await_voters(state.id))
        elif self.hedging.is_sampled():
            self._ask(group, plan.live_peers)
        self._ask_needed(group)
        self._track(group)

    def _ask_needed(self, group: ReadGroup) -> None:
        """HOT. Asks further owners until the quorum can be met, or until all have been asked."""
        while (count := group.needed()) > 0 and self._ask_further(group, count):
            pass

    def _ask_further(self, group: ReadGroup, count: int) -> bool:
        """HOT. Asks `count` more owners, live ones first. Returns False if all owners have been asked already."""
        owners = group.unasked(group.plan.live_peers) or group.unasked(group.plan.absent)
        if owners:
            self._ask(group, self.hedging.choose(owners, count))
        return bool(owners)

    def _hedge(self, group: ReadGroup) -> bool:
        """Asks one more owner, because an answer is late. Returns False if all have been asked."""
        is_asked = self._ask_further(group, 1)
        self._apply_verdict(group)
        return is_asked

    def _ask(self, group: ReadGroup, nodes: Sequence[str]) -> None:
        """HOT. Sends COMPARE or READ to nodes, and awaits their answers. A node without a connection counts as failed.
        Stand-ins are in `group.awaited` already (`ReadGroup.await_voters`)."""
        state, comparing = self._state, self._state.comparing
        send = state.send_behind if group.keys[0] in state.slow_writes else state.send
        question = short_question = whole_question = b""
        for node in nodes:
            owner = group.awaited.get(node, node)
            if node not in state.links:
                group.awaited.pop(node, None)
                self._count_failure(group, owner)
                continue
            group.awaited[node] = owner
            self.hedging.asked(node, group)
            if node in comparing:
                question = question or encode_compare(
                    state.clock_reading(), group.number, checksums(group.ours, group.unreadable), group.keys
                )
                send(node, question)
            elif node in state.orderly and size_of(group.ours) > DIGESTED_BYTES_MAX:
                short_question = short_question or self._encode_read(group, short_digest(group.ours))
                send(node, short_question)
            else:
                whole_question = whole_question or self._encode_read(group, digest(group.ours))
                send(node, whole_question)

    def _encode_read(self, group: ReadGroup, ours: bytes) -> bytes:
        """Returns READ, with the digest `ours` of the records here."""
        return encode_read(self._state.clock_reading(), group.number, ours, group.keys)

    def _postpone(self, group: ReadGroup, count: int) -> None:
        """Moves all but the first `count` reads of a group to a group for the next turn."""
        rest = self._part(group, range(count, len(group.keys)))
        rest.deadline_ms = self._state.now_ms + self._state.config.request_timeout_ms
        del group.keys[count:], group.waiters[count:]
        self._postponed.append(rest)
        self._state.in_flight += len(rest.waiters)

    def begin_turn(self) -> None:
        """Opens the postponed groups again, so that this turn launches them."""
        if self._postponed:
            postponed, self._postponed = self._postponed, []
            for group in postponed:
                self._state.in_flight -= len(group.waiters)
                self._opened.append(({group.number: group}, group.number, group))

    def has_group_before(self, number: int) -> bool:
        """Whether a group whose `opened_number` is less than `number` is not closed yet. Postponed groups count, too."""
        return super().has_group_before(number) or any(group.opened_number < number for group in self._postponed)

    @property
    def has_postponed(self) -> bool:
        """Whether reads wait for the next turn."""
        return bool(self._postponed)

    def _part(self, group: ReadGroup, indexes: Sequence[int]) -> ReadGroup:
        """Returns a new group with some of the reads of a group that has not been sent.

        The part has the plan of that group, and so its `opened_number`: `has_group_before` must see how old the plan is.
        """
        part = ReadGroup(self._state.next_number(), group.plan, group.plan.tally(group.tally.wanted), group.deadline_ms)
        part.opened_number = group.opened_number
        part.keys = [group.keys[index] for index in indexes]
        part.waiters = [group.waiters[index] for index in indexes]
        return part

    def _launch_failed(self, group: ReadGroup, error: Exception, changes: int) -> None:
        """Launches each read of the group alone, so that only the read that causes the error gets an error.

        That is safe as long as nothing was stored and no waiter was answered. Otherwise raises Fatal."""
        if group.number in self._groups or len(group.waiters) != len(group.keys):
            super()._launch_failed(group, error, changes)  # it is in the table already, or has answered waiters
        state = self._state
        if len(group.waiters) == 1:
            _, sink, number = group.waiters[0]
            sink.answer(number, state.unexpected.contain(error, changes, "a read", "unread", sink, number))
            return
        state.unexpected.note(error, changes, "a group of reads")
        for index in range(len(group.keys)):
            self._try_launch(self._part(group, [index]))

    # --- votes

    def key_count(self, number: int) -> int | None:
        """Returns how many keys group `number` reads, or None if it is not in the table."""
        group = self._groups.get(number)
        return None if group is None else len(group.keys)

    def _count_partial_ack(self, group: ReadGroup, owner: str, abstained: Sequence[int]) -> None:
        """Counts a vote of `owner`, or of its stand-in, for all keys except those at the indexes `abstained`."""
        if abstained:
            group.abstained[owner] = abstained
            for index in abstained if group.waiters else ():
                if index not in group.separate:
                    group.separate[index] = SeparateWaiter(group.waiters[index], group.tally.copy())
        self._count_ack(group, owner)

    def _count_ack(self, group: ReadGroup, owner: str) -> None:
        group.tally.ack(owner)
        if group.separate:
            abstained = group.abstained.get(owner, ())
            for index, one in group.separate.items():
                if index in abstained:
                    one.tally.fail(owner)
                else:
                    one.tally.ack(owner)

    def _count_failure(self, group: ReadGroup, owner: str) -> None:
        group.tally.fail(owner)
        for one in group.separate.values():
            one.tally.fail(owner)

    def differ_answered(self, peer: str, number: int, states: bytes, records: list[bytes]) -> None:
        """Handles DIFFER, the answer of `peer`: a state for each key, and the records that differ from ours."""
        group = self._groups.get(number)
        if group is not None and peer in group.awaited:
            theirs, abstained = by_index(states, records)
            self._count_answer(group, peer, theirs, abstained)

    def records_answered(self, peer: str, number: int, records: list[bytes]) -> None:
        """Handles RECORDS, the answer of `peer` to a READ: its record of each key; empty if it has none."""
        group = self._groups.get(number)
        if group is not None and peer in group.awaited:
            pairs = enumerate(zip(records, group.ours, strict=True))
            theirs = {index: one or None for index, (one, ours) in pairs if one != (ours or b"")}
            self._count_answer(group, peer, theirs, ())

    def _count_answer(
        self, group: ReadGroup, peer: str, theirs: dict[int, bytes | None], abstained: Sequence[int]
    ) -> None:
        """Counts an answer of `peer`: its records that differ (index -> record), and the indexes without a vote."""
        owner = group.awaited[peer]
        if abstained:
            self.hedging.gave_no_vote(peer)
        if theirs and not merge_answer(self._state, group, theirs):
            self.refused(peer, group.number)
            return
        if theirs:
            group.differing[peer] = theirs
            self._ask(group, group.unasked(group.plan.live_peers))
        if abstained:
            self._count_partial_ack(group, owner, abstained)
        self.acked(peer, group.number)

    # --- answers

    def acked(self, node: str, number: int) -> None:
        """HOT. `node` has answered group `number`."""
        group = self._groups.get(number)
        if group is not None:
            self.hedging.answered(node, group)
        super().acked(node, number)

    def refused(self, node: str, number: int) -> None:
        """`node` has refused to answer group `number`."""
        if number in self._groups:
            self.hedging.gave_no_vote(node)
        super().refused(node, number)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke: the next owners are asked instead."""
        self.hedging.lost(peer)
        super().peer_lost(peer)

    def _apply_verdict(self, group: ReadGroup) -> None:
        if group.separate or (group.waiters and group.tally.verdict is Verdict.PENDING):
            self._ask_needed(group)
        if group.separate:
            for index, one in group.separate.items():
                if not one.is_answered and one.tally.verdict is not Verdict.PENDING:
                    self._answer_separate(group, index, one)
        super()._apply_verdict(group)

    def _answer_separate(self, group: ReadGroup, index: int, one: SeparateWaiter) -> None:
        state = self._state
        _, sink, number = one.waiter
        one.is_answered = True
        state.in_flight -= 1
        if one.tally.verdict is Verdict.MET:
            self.answer(one.waiter, group.records[index], group.keys[index])
        elif one.tally.verdict is Verdict.IMPOSSIBLE:
            state.statistics.no_quorum += 1
            sink.answer(number, no_quorum(one.tally, self.operation, self.outcome))
        else:
            state.statistics.timeouts += 1
            timeout_ms = state.config.request_timeout_ms
            sink.answer(number, timed_out(one.tally, self.operation, self.outcome, timeout_ms))

    def _complete(self, group: ReadGroup) -> None:
        separate = group.separate
        for index, (waiter, record) in enumerate(zip(self._detach_waiters(group), group.records, strict=True)):
            if not separate or index not in separate:
                self.answer(waiter, record, group.keys[index])

    def answer(self, waiter: Waiter, record: bytes | None, key: bytes) -> None:
        """HOT. Answers one read with the merge of the quorum's records. An error here affects this command only.

        If several commands share the read (key_reads.py), this runs once for the shared read, with `key`, and then once for
        each command, with an empty key. Only a call with a key notes a miss, so a shared miss is noted once."""
        finish, sink, number = waiter
        state, changes = self._state, self._state.records.changes
        if state.noted is not None and key and visible(record, state.time_ms) is None:
            state.noted.append((key, MISSED, None, sink.command(number)))
        assert finish is not None
        try:
            reply = finish(record, sink, state.time_ms)
        except Exception as error:  # noqa: BLE001
            reply = state.unexpected.contain(error, changes, "the reply to a read", "unread", sink, number)
        if reply is not None:  # None: the reply follows in a later turn, or this read was the first step of a write
            if sink.counts_lookups:
                state.statistics.count_lookup(record is None or is_dead(record, state.time_ms))
            sink.answer(number, reply)

    def _fail(self, group: ReadGroup, error: ErrorReply) -> int:
        """Answers the waiters that have no tally of their own with an error. Returns how many it has answered."""
        waiters = self._detach_waiters(group)
        for index, (_, sink, number) in enumerate(waiters):
            if index not in group.separate:
                sink.answer(number, error)
        return len(waiters) - len(group.separate)

    def _detach_waiters(self, group: ReadGroup) -> list[Waiter]:
        """Detaches all waiters. A waiter with a tally of its own counts as in flight until `_answer_separate`."""
        self._state.in_flight += len(group.separate)
        return super()._detach_waiters(group)

    def _settle(self, group: ReadGroup) -> None:
        """Queues read repair for each owner that has voted and does not hold the merge of all records."""
        for index, one in group.separate.items():
            if not one.is_answered:  # the deadline has passed
                self._answer_separate(group, index, one)
        if not group.differing:
            return
        indexes = sorted({index: None for theirs in group.differing.values() for index in theirs})
        plan, acked = group.plan, group.tally.acked
        for node in (*plan.peers, self._state.id) if plan.owned else plan.peers:
            if node in acked and node not in plan.absent:
                pairs = missing_pairs(group, node, indexes)
                if pairs:
                    self.repair.queue(node, pairs, group.stamp)
