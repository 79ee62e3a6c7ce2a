"""Quorum writes: the coordinator stores the record, sends it to the other owners, and answers after W acknowledgements.

Theory (Dynamo, section 4.5). The coordinator merges the write into its own replica. In the same turn it sends the merged
record to the other owners of the key; if the record is large, it sends only what has changed (patching.py). It counts its
own acknowledgement at once, although its commit comes only at the end of the turn. That is safe: every reply leaves after
the commit (commit, then speak). An owner stores a group as one batch, so one message acknowledges the whole group.

Covered writes. Suppose that owner A relays a plain write (its reply is +OK) to the coordinator C, and W is 2. C sends the
record to all owners, A included. C commits before it sends, so this message proves to A that C has the write on disk.
When A has stored the record, too, two replicas have it, and A can answer its client. So C sends no reply to the relay.
Instead it sends COVERED before the record: this tells A which commands the record answers. The quorum is the same (two
distinct replicas on disk), but A counts it instead of C. The client of such a write waits one network round trip less.

Sloppy quorum (section 4.6). If an owner is not live, the next live fallback of the preference list stands in for it.
The stand-in stores the record and a hint, and its acknowledgement counts as the owner's. A stand-in is chosen when the
write begins, or later:

    the owner                                         who keeps the hint
    is not live                                       the next live fallback, or this node if there is none
    refuses, or its connection breaks, or it has      the next live fallback, or this node if there is none
    not confirmed the write within `hint_after_ms`
    reads large messages too slowly, and the other    the next live fallback, or this node if there is none
    owners are enough for W
    has a full disk, and the others are enough        this node
    has a full disk, and the others are too few       the next live fallback, or this node if there is none

An owner with a full disk still answers reads. If a stand-in acknowledged a write for this owner, a read quorum that
contains the owner could miss the write. So as soon as this node knows that an owner has a full disk, it chooses no
stand-in for that owner while the other owners are enough for W.

If one turn writes a key several times, the other owners need only the last record: each record supersedes or includes the
one before it, so an acknowledgement of the last one holds for all these writes. Before a group of many records is sent,
`last_of_each` leaves the others out, unless it has patches.

A group stays in the table until all awaited nodes have answered or the deadline has passed, even if its waiters were
answered before. By then each owner has confirmed it, or a hint is kept for that owner if there is room for one. If all
writes of a group are covered, it has no waiters here, and its acknowledgements may come late. Then the records travel
in a KEEP message instead of a STORE. An owner confirms all KEEP messages that it has received since its last tick in
one KEPT message.

Large records. A large record travels in pieces (protocol/pieces.py). It has a group of its own, so that the other
writes of the turn do not wait for its last piece. If too many large messages to one owner are queued, and the other
owners are enough for W, the record is not sent to that owner. Hint replay sends it later, as fast as the owner reads.

Errors say what is known of the outcome (P5). If fewer than W replicas can be reached, nothing is written, and the error
says so. If replicas are lost after the write was sent, the error says that the write may survive.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

from mypy_extensions import i16, i64

from protocol.resp import OK, Reply
from server.core.base.errors import CommandError, QuorumUnreachable, no_owner_and_no_hint
from server.core.base.quorum import Tally, Verdict
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.messages.kinds import encode_covered, encode_hint, encode_keep, encode_store
from server.core.records.common_case import Dot, Overwritten
from server.core.records.versions import DamagedRecord
from server.core.requests.draft_table import DraftTable
from server.core.requests.groups import GroupTable
from server.core.requests.large_values import Stage, nothing_staged
from server.core.requests.patching import Patching
from server.core.requests.write_groups import ShortGroups, WriteGroup, Written, last_of_each, note
from server.core.requests.write_targets import (
    can_reach,
    is_pending_or_former,
    is_sent_to,
    names_without_room,
    next_fallback,
)

# Makes the reply of a write that has met its quorum: (tally, sink) -> encoded reply. None stands for +OK.
FinishWrite = Callable[[Tally, Sink], bytes] | None

_REPEATING_ITEMS_MIN: Final = 256  # storage keys and records: smaller groups seldom have a key twice
_AMENDED_GROUPS = 4  # how many of the latest groups `amend` searches for the former record


class Writes(GroupTable[WriteGroup]):
    """The table of write groups."""

    operation = "write"
    outcome = "maybe-written"

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self.draft_table: DraftTable | None = None  # that of the atomic run that runs now; None outside an atomic run
        self.stage: Stage = nothing_staged  # the shell sets its own (shell/staging.py)
        self._unconfirmed: deque[WriteGroup] = deque()  # groups that perhaps lack confirmations, by `hint_at_ms`
        self.unconfirmed_bytes = 0
        self._short = ShortGroups()
        self._patching = Patching(state)
        self._patch_bytes_min: i64 = state.config.patch_record_bytes_min
        self._own_group_bytes = state.config.large_message_bytes // 2  # a record of this size has a group of its own

    def group_for(self, plan: Plan, sink: Sink, quorum: int = 0) -> WriteGroup:
        """HOT. Returns this turn's group for a write. W is the first of these that is not 0: `quorum`, the sink's W, the
        layout's W.

        Raises CommandError if nothing may be written: too few nodes can be reached, or the disk is full.
        """
        quorum = quorum or sink.write_quorum
        return plan.writing.get(quorum) or self._open(plan, quorum)

    def _open(self, plan: Plan, quorum: int) -> WriteGroup:
        """Opens a group with W = `quorum`; 0 stands for the layout's W. Raises as `group_for` does."""
        state = self._state
        if not plan.owned and state.hints.full:
            raise CommandError(no_owner_and_no_hint(state.member.name))
        wanted = min(quorum or state.write_quorum, plan.replicas)
        if state.disk_full and state.layout is not None and not state.has_room_for(plan, state.id):
            raise QuorumUnreachable(plan.tally(wanted), names_without_room(state, plan))
        reached = [state.id] if plan.owned else []
        reached += [peer for peer in plan.peers if can_reach(state, plan, peer)]
        if len(reached) < plan.replicas:
            reached += [owner for owner, node in plan.stand_ins if node and owner not in reached]
            tally = plan.tally(wanted)
            for replica in reached:
                tally.ack(replica)
            for peer in plan.peers:
                tally.fail(peer)  # changes nothing for a peer that was counted as reached
            if tally.verdict is not Verdict.MET:
                state.statistics.no_quorum += 1
                raise QuorumUnreachable(tally, names_without_room(state, plan))
        return self._register(WriteGroup, plan, plan.writing, quorum, wanted)

    def add(
        self,
        group: WriteGroup,
        key: bytes,
        record: bytes,
        old: bytes | None,
        finish: FinishWrite,
        sink: Sink,
        number: int,
    ) -> None:
        """HOT. Stores `record` here and adds it to `group`. `old` is the record that `Records.get` has just returned."""
        is_repeated = self._state.records.put(key, record, old)
        self._enter(group, key, record, old, is_repeated, finish, sink, number)

    def overwrite(
        self, group: WriteGroup, slot: i16, key: bytes, dot: Dot, value: bytes, sink: Sink, number: int
    ) -> Overwritten | None:
        """HOT. Writes a value in place of all that is stored under `key`. Returns None, and changes
        nothing, in these cases: the record is not in the cache; it has siblings, an expiry or entries; this process runs
        without the module written in C (records/common_case.py)."""
        records = self._state.records
        size = len(records.writes)
        written = records.overwrite(slot, key, dot, value)
        if written is not None:
            self._enter(group, written[0], written[1], written[2], len(records.writes) == size, None, sink, number)
        return written

    def _enter(
        self,
        group: WriteGroup,
        key: bytes,
        record: bytes,
        old: bytes | None,
        is_repeated: bool,
        finish: FinishWrite,
        sink: Sink,
        number: int,
    ) -> None:
        """HOT. Adds `record`, which is stored here, to `group`. `is_repeated`: the batch of the turn had another one."""
        note(self._state, key, record, old, sink, number)
        size_bytes = len(record)
        if size_bytes >= self._own_group_bytes:
            group = self._own_group(group)
        if is_repeated:
            group.repeated[key] = record
        payload = group.payload
        payload.append(key)
        payload.append(record)
        if size_bytes >= self._patch_bytes_min and old is not None:
            group.bases[len(payload) - 1] = old
        if finish is None and sink.relayed and (sink is group.batch or group.may_cover(sink)):
            group.covered_numbers.append(number)
        else:
            group.waiters.append((finish, sink, number))
        group.size_bytes += size_bytes
        if group.size_bytes > self._state.config.batch_bytes_max:
            self.launch()

    def amend(
        self, group: WriteGroup, key: bytes, record: bytes, old: bytes, finish: FinishWrite, sink: Sink, number: int
    ) -> bool:
        """Replaces `old` by `record` in a group that has not been sent: `record` includes `old`, so it alone need be sent.

        This is possible if `old` is the last record of one of the latest groups, and that group has the same plan and the
        same W as `group`. Otherwise changes nothing and returns False. `finish` is not None."""
        opened = self._opened[-_AMENDED_GROUPS:]
        for place in range(len(opened) - 1, -1, -1):
            added = opened[place][2]
            payload = added.payload
            is_last = payload and payload[-1] is old and payload[-2] == key and added.tally.wanted == group.tally.wanted
            if is_last and added.plan is group.plan:
                self._state.records.put(key, record, old)
                note(self._state, key, record, old, sink, number)
                payload[-1] = added.repeated[key] = record
                added.waiters.append((finish, sink, number))
                added.size_bytes += len(record) - len(old)
                return True
        return False

    def add_batch(
        self, group: WriteGroup, written: Sequence[Written], finish: FinishWrite, sink: Sink, number: int
    ) -> None:
        """Adds records of several keys as one write: every replica, this node included, stores them in one batch. `finish`
        is not None."""
        if sum([len(each.record) for each in written]) >= self._own_group_bytes:
            group = self._own_group(group)
        group.write_batch(self._state.records, written, self._patch_bytes_min, sink.origin)
        group.waiters.append((finish, sink, number))
        if group.size_bytes > self._state.config.batch_bytes_max:
            self.launch()

    def _own_group(self, group: WriteGroup) -> WriteGroup:
        """Returns a new group, like `group`, for one large write alone."""
        plan = group.plan
        return self._register(WriteGroup, plan, plan.writing, self._state.next_number(), group.tally.wanted)

    def _launch(self, group: WriteGroup) -> None:
        """Counts this node's own vote, sends the group to its owners and stand-ins, and enters it in the table."""
        state, plan = self._state, group.plan
        if not group.payload:
            return  # each of its writes was refused or has a group of its own
        if group.repeated and len(group.payload) >= _REPEATING_ITEMS_MIN and not group.bases:
            group.payload = last_of_each(group.payload, group.repeated)
        group.hint_at_ms = state.now_ms + state.config.hint_after_ms
        if plan.owned:
            group.tally.ack(state.id)
        self._cover(group)
        state.statistics.writes += len(group.payload) // 2
        # Without waiters nobody needs the acknowledgements soon, so the owners may confirm many groups in one message.
        encode = encode_store if group.waiters else encode_keep
        patch = self._patching.begin(group)
        message = b""
        enough = not plan.owner_sets and plan.replicas - len(plan.absent) >= group.tally.wanted
        # `_stand_in` reads `awaited`: an owner without a stand-in fails at once, unless its own answer is awaited.
        group.awaited = {peer: peer for peer in plan.peers if is_sent_to(state, group, peer)}
        for owner, node in plan.stand_ins:
            self._stand_in(group, owner, "" if enough and not state.has_room_for(plan, owner) else node)
        # This comes after the plan's stand-ins, so that `_replace_owner` chooses none of them for a second owner.
        for peer in plan.peers:
            if peer in group.awaited:
                if not patch or not self._patching.send(peer, patch):
                    message = message or encode(state.clock_reading(), group.number, group.payload)
                    state.send(peer, message)
            elif peer not in plan.absent:
                self._replace_owner(group, peer)
        self._unconfirmed.append(group)
        group.unconfirmed_bytes = group.size_bytes
        self.unconfirmed_bytes += group.size_bytes
        self._track(group)
        while self.unconfirmed_bytes > state.config.unconfirmed_bytes_max and self._unconfirmed[0] is not group:
            self._hint_awaited_owners(self._unconfirmed.popleft())

    def _cover(self, group: WriteGroup) -> None:
        """If W is 2, sends COVERED to each owner that has relayed covered writes and that gets this group: that owner
        answers its clients. Otherwise the writes become waiters of the group here."""
        state = self._state
        for batch, numbers in group.covered.items():
            if group.tally.wanted == 2 and is_sent_to(state, group, batch.peer):
                state.send(batch.peer, encode_covered(state.clock_reading(), batch.number, group.number, numbers))
            else:
                group.waiters += [(None, batch, number) for number in numbers]

    def _complete(self, group: WriteGroup) -> None:
        tally = group.tally
        for finish, sink, number in self._detach_waiters(group):
            sink.answer(number, OK if finish is None else self._reply(finish, tally, sink, number))

    def _reply(self, finish: Callable[..., Reply | None], tally: Tally, sink: Sink, number: int) -> Reply:
        unexpected, changes = self._state.unexpected, self._state.records.changes
        try:
            reply = finish(tally, sink)
            assert reply is not None, "a write is answered at its quorum"
            return reply
        except Exception as error:  # noqa: BLE001 only this command gets the error: its write has met its quorum
            return unexpected.contain(error, changes, "the reply to a write", "maybe-written", sink, number)

    def _settle(self, group: WriteGroup) -> None:
        """Keeps a hint here for each owner for which an answer is still awaited: its own or its stand-in's."""
        for owner in list(group.awaited.values()):
            self._keep_hint(group, owner)
        self._forget_bytes(group)
        self._patching.settle(group)
        self._short.note(group, self._state.now_ms)
        if not group.plan.owned:
            self._state.cleanup_due = True

    def least_copies(self, since_ms: int, until_ms: int, most: int) -> tuple[int, bool]:
        """For WAIT: calls `ShortGroups.least` with the open groups that were opened until `until_ms`."""
        deadline_ms_max = until_ms + self._state.config.request_timeout_ms
        groups = [group for group in self._groups.values() if group.deadline_ms <= deadline_ms_max]
        return self._short.least(groups, since_ms, most)

    # Owners that do not confirm

    def acked(self, node: str, number: int) -> None:
        """HOT. `node` has the group's records on disk, as an owner or as a stand-in."""
        group = self._groups.get(number)
        if group is not None and group.hint_holders and group.hint_holders.get(group.awaited.get(node, "")) == node:
            group.tally.hinted += 1
        super().acked(node, number)

    def unfit(self, node: str, number: int) -> None:
        """`node` cannot use the patches of group `number` (patching.py)."""
        group = self._groups.get(number)
        if group is not None and group.awaited.get(node) == node:
            self._patching.unfit(group, node)

    def _count_failure(self, group: WriteGroup, owner: str) -> None:
        if owner not in group.awaited.values():  # neither the owner nor a stand-in will answer
            self._replace_owner(group, owner)

    def _replace_owner(self, group: WriteGroup, owner: str) -> None:
        """Asks the next live fallback to stand in for `owner`; if there is none, this node keeps the hint.

        Only one stand-in is tried. If that one fails too, this node keeps the hint.
        """
        self._stand_in(group, owner, "" if owner in group.hint_holders else next_fallback(self._state, group))

    def _stand_in(self, group: WriteGroup, owner: str, node: str) -> None:
        """Asks `node` to store the group and a hint for `owner`.

        node            who keeps the hint      what that counts as
        another node    that node               an acknowledgement of `owner`, once that node answers
        this node       this node               an acknowledgement of `owner`, because this node is no owner itself
        ""              this node               a failure of `owner`: the copy on this node is counted already

        In the last case nothing is counted yet if `owner` may still answer. A pending or former owner is not waited for.
        """
        state = self._state
        if not node:
            self._keep_hint(group, owner)
            if owner not in group.awaited or is_pending_or_former(group.plan, owner):
                group.tally.fail(owner)
            return
        if node == state.id:
            self._keep_hint(group, owner)
            group.tally.ack(owner)
            return
        group.hint_holders[owner] = node
        group.awaited[node] = owner
        state.send(node, encode_hint(state.clock_reading(), group.number, owner, group.payload))

    def _keep_hint(self, group: WriteGroup, owner: str) -> None:
        """Keeps hints for `owner` on this node, once for each group."""
        if group.hint_holders.get(owner) == "":
            return
        group.hint_holders[owner] = ""
        group.tally.hinted += 1
        state = self._state
        if not group.plan.owned:  # cleanup may have deleted the records after their last hint was delivered
            with suppress(DamagedRecord):
                state.records.merge_all(group.payload)
        state.hints.keep(owner, group.payload[::2], state.time_ms, state.now_ms, not group.plan.owned)

    def hint_unconfirmed(self, now_ms: int) -> None:
        """Asks fallbacks to keep hints, or keeps them here, for the owners that have not confirmed a group within
        `hint_after_ms`. Such an owner may still confirm the group later."""
        unconfirmed = self._unconfirmed
        while unconfirmed and (unconfirmed[0].hint_at_ms <= now_ms or unconfirmed[0].number not in self._groups):
            self._hint_awaited_owners(unconfirmed.popleft())

    def _forget_bytes(self, group: WriteGroup) -> None:
        """Subtracts a group from `unconfirmed_bytes`, because it is settled or has left the queue."""
        self.unconfirmed_bytes -= group.unconfirmed_bytes
        group.unconfirmed_bytes = 0

    def _hint_awaited_owners(self, group: WriteGroup) -> None:
        """Finds stand-ins, or keeps hints here, for the awaited owners of a group that has left the queue."""
        self._forget_bytes(group)
        if group.number in self._groups:
            for owner in [owner for node, owner in group.awaited.items() if node == owner]:
                self._replace_owner(group, owner)
            self._apply_verdict(group)

    def holds_only_copy(self) -> bool:
        """Whether there is a write that only this node has acknowledged, and that no client waits for here any more.

        Such a write was answered, at W=1 or with an error, or another owner answers it (a covered write).
        """
        return any(not each.waiters and len(each.tally.acked) < 2 for each in self._groups.values() if each.awaited)

    def unconfirmed(self, storage_keys: Sequence[bytes]) -> dict[bytes, None]:
        """Returns those of the storage keys that have a write which some owner has not confirmed yet."""
        wanted = dict.fromkeys(storage_keys)
        groups = [*self._groups.values(), *(group for _, _, group in self._opened)]
        return {key: None for group in groups for key in group.payload[::2] if key in wanted}
