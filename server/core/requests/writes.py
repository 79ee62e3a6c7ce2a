"""Quorum writes: the coordinator merges at its own replica, sends the whole record to the other owners, answers at W.

Theory (Dynamo, section 4.5). The coordinator's own vote is counted at once though the commit comes at the end of the
turn: every answer leaves after that commit (commit, then speak), so nobody hears of a vote that is not on disk. An
owner takes a group as one batch, so it acknowledges the group as one.

A plain write that another owner relayed to us needs no answer when W is two: our STORE proves to that owner that we have
the write on disk, and once it has stored it, too, it answers its client itself (`Covered`). That saves a message and a
hop for most writes, and it is the same quorum: two distinct replicas on disk, counted where the client waits.

An owner that is not live is replaced by the next live fallback of the preference list, which keeps the record and a
hint for it (a sloppy quorum, section 4.6): its acknowledgement counts as that owner's. An owner that is lost on the way,
or has not confirmed a write after `hint_after_ms`, is replaced then. Where no fallback is left this node keeps the hint.
An owner that lives and has no room goes on answering reads, which could miss a quorum that holds a stand-in's word for it:
while enough other owners have room this node keeps the hint.

So every group is followed until each owner has confirmed it or a hint is kept for it, also when its waiters have their
answers; owners that nobody waits for (KEEP) confirm at their leisure, many groups in one word (KEPT).

A large record makes a group of its own, for it travels in pieces (protocol/pieces.py) and the other writes of the turn
must not wait for the last of them. An owner that more large messages wait for than it takes gets a hint instead of the
record where the others make the quorum: it has the record later, at its own pace (hint_replay.py).

When fewer than W nodes can be reached nothing is written, and the error says so; when they get lost on the way the
error says that the write may survive (P5).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from protocol.resp import OK, Reply
from server.core.base.errors import CommandError, QuorumUnreachable
from server.core.base.quorum import Tally, Verdict
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.liveness.liveness import State as Life
from server.core.records.versions import DamagedRecord
from server.core.requests.groups import Group, GroupTable
from server.core.requests.relays import RelayedBatch, encode_indexes

# Makes the reply of a write that has met its quorum: (acknowledgements so far, sink) -> reply; None answers +OK
Finish = Callable[[Tally, Sink], bytes] | None


class WriteGroup(Group):
    """The writes of one turn that go to the same owners: storage key, record, storage key, record, …"""

    __slots__ = ("covered", "hinted", "late_ms", "payload", "size_bytes")

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, plan, tally, deadline_ms)
        self.payload: list[bytes] = []
        self.covered: dict[RelayedBatch, list[int]] = {}  # relayed plain writes, by batch: their numbers in it
        self.hinted: dict[str, str] = {}  # owner -> the node asked to keep the hint; "" for this one
        self.late_ms = 0  # when owners that have not confirmed by then get a hint
        self.size_bytes = 0


class Writes(GroupTable[WriteGroup]):
    """The write groups in flight."""

    operation = "write"
    outcome = "maybe-written"

    def __init__(self, state: State) -> None:
        super().__init__(state)
        self._unconfirmed: deque[WriteGroup] = deque()
        self._unconfirmed_bytes = 0
        self._apart_bytes = state.config.large_message_bytes // 2  # a record of so many makes a group of its own

    def group_for(self, plan: Plan, sink: Sink, quorum: int = 0) -> WriteGroup:
        """HOT. This turn's group for a write; `quorum` 0 takes the asker's or the layout's.

        Raises CommandError when nothing may be written: too few nodes can be reached, or the disk is full.
        """
        name = quorum or sink.write_quorum
        return plan.writing.get(name) or self._open(plan, name)

    def _open(self, plan: Plan, name: int) -> WriteGroup:
        state = self._state
        if not plan.owned and state.hints.full:
            raise CommandError(f"NOQUORUM no owner of this key can be reached, and node {state.member.name} has no room "
                               "for another hint: got=0 wanted=1 hinted=0 outcome=unwritten")  # fmt: skip
        wanted = min(name or state.write_quorum, plan.replicas)
        if state.disk_full and state.layout is not None and not state.has_room_for(plan, state.id):
            raise QuorumUnreachable(plan.tally(wanted), self._without_room(plan))
        reached = [state.id] if plan.owned else []
        reached += [peer for peer in plan.peers if self._reaches(plan, peer)]
        if len(reached) < plan.replicas:
            reached += [owner for owner, node in plan.stand_ins if node and owner not in reached]
            tally = plan.tally(wanted)
            for replica in reached:
                tally.ack(replica)
            for peer in plan.peers:
                tally.fail(peer)  # who was reached has not failed
            if tally.verdict is not Verdict.MET:
                state.statistics.no_quorum += 1
                raise QuorumUnreachable(tally, self._without_room(plan))
        return self._register(WriteGroup, plan, plan.writing, name, wanted)

    def _without_room(self, plan: Plan) -> list[str]:
        """The names of those who would take a write of this plan, if there were room on their disks."""
        state = self._state
        return [state.layout_name(node) for node in (state.id, *plan.peers) if not state.has_room_for(plan, node)]

    def _reaches(self, plan: Plan, owner: str) -> bool:
        """Whether a write is sent to the owner itself. One that is only suspected is tried if nobody stands in for it."""
        state = self._state
        if owner not in state.links or (owner in state.full and not state.has_room_for(plan, owner)):
            return False
        return owner not in plan.absent or (
            (owner, "") in plan.stand_ins and state.liveness.state(owner) is not Life.DOWN
        )

    def _sends_to(self, group: WriteGroup, owner: str) -> bool:
        """HOT. Whether a group is sent to the owner itself."""
        return self._reaches(group.plan, owner) and not (self._state.backlogged and self._is_spared(group, owner))

    def _is_spared(self, group: WriteGroup, owner: str) -> bool:
        """Whether a large group goes without an owner that takes its messages too slowly: the others are enough."""
        plan, backlogged = group.plan, self._state.backlogged
        if owner not in backlogged or group.size_bytes < self._apart_bytes or plan.rows:
            return False
        others = [peer for peer in plan.peers if peer not in backlogged and self._reaches(plan, peer)]
        return len(others) + plan.owned >= group.tally.wanted

    def add(
        self, group: WriteGroup, key: bytes, record: bytes, old: bytes | None, finish: Finish, sink: Sink, number: int
    ) -> None:
        """HOT. Writes `record` for `old`, which `Records.get` has just answered, here and at the other owners."""
        self._state.records.put(key, record, old)
        size_bytes = len(record)
        if size_bytes >= self._apart_bytes:
            plan = group.plan
            group = self._register(WriteGroup, plan, plan.writing, self._state.number(), group.tally.wanted)
        group.payload += (key, record)
        if (
            finish is None
            and sink.relayed
            and isinstance(sink, RelayedBatch)
            and self._may_cover(group.plan, sink.peer)
        ):
            group.covered.setdefault(sink, []).append(number)
        else:
            group.waiters.append((finish, sink, number))
        group.size_bytes += size_bytes
        if group.size_bytes > self._state.config.batch_bytes_max:
            self.launch()

    def _may_cover(self, plan: Plan, peer: str) -> bool:
        return plan.owned and peer in plan.peers and peer not in plan.absent and not plan.rows

    def _launch(self, group: WriteGroup) -> None:
        state, plan = self._state, group.plan
        if not group.payload:
            return  # all its writes were refused, or have groups of their own
        group.late_ms = state.now_ms + state.config.hint_after_ms
        if plan.owned:
            group.tally.ack(state.id)
        self._cover(group)
        state.statistics.writes += len(group.payload) // 2
        # A group that has nobody left to answer wants no acknowledgement soon, and so wakes nobody for it.
        message = state.message(b"STORE" if group.waiters else b"KEEP", group.number, *group.payload)
        for peer in plan.peers:
            if self._sends_to(group, peer):
                state.send(peer, message)
                group.waiting[peer] = peer
            elif peer not in plan.absent:
                self._replace(group, peer)
        enough = not plan.rows and plan.replicas - len(plan.absent) >= group.tally.wanted
        for owner, node in plan.stand_ins:
            self._stand_in(group, owner, "" if enough and not state.has_room_for(plan, owner) else node)
        self._unconfirmed.append(group)
        self._unconfirmed_bytes += group.size_bytes
        self._track(group)
        while self._unconfirmed_bytes > state.config.unconfirmed_bytes_max and self._unconfirmed[0] is not group:
            self._hint_late(self._unconfirmed.popleft())

    def _cover(self, group: WriteGroup) -> None:
        """Leaves the answers of relayed plain writes to the owners who relayed them, if our vote and theirs suffice."""
        state = self._state
        for batch, numbers in group.covered.items():
            if group.tally.wanted == 2 and self._sends_to(group, batch.peer):
                indexes = encode_indexes(numbers)
                state.send(batch.peer, state.message(b"COVERED", batch.number, group.number, indexes))
            else:
                group.waiters += [(None, batch, number) for number in numbers]

    def _complete(self, group: WriteGroup) -> None:
        tally = group.tally
        for finish, sink, number in self._detach_waiters(group):
            sink.answer(number, OK if finish is None else self._reply(finish, tally, sink))

    def _reply(self, finish: Callable[[Tally, Sink], Reply], tally: Tally, sink: Sink) -> Reply:
        unexpected, changes = self._state.unexpected, self._state.records.changes
        try:
            return finish(tally, sink)
        except Exception as error:  # noqa: BLE001 of this command alone, and its write has met its quorum
            return unexpected.contain(error, changes, "the reply to a write", "maybe-written")

    def _settle(self, group: WriteGroup) -> None:
        """Owners that are still waited for were silent to the end, or their stand-ins were."""
        for owner in list(group.waiting.values()):
            self._keep_hint(group, owner)
        self._unconfirmed_bytes -= group.size_bytes
        if not group.plan.owned:
            self._state.cleanup_due = True

    # Owners that do not confirm

    def acked(self, node: str, number: int) -> None:
        """HOT. `node` has the group's records on disk: as an owner, or as the stand-in of one."""
        group = self._groups.get(number)
        if group is not None and group.hinted and group.hinted.get(group.waiting.get(node, "")) == node:
            group.tally.hinted += 1
        super().acked(node, number)

    def _lost(self, group: WriteGroup, owner: str) -> None:
        if owner not in group.waiting.values():  # neither it nor a stand-in of its is going to answer
            self._replace(group, owner)

    def _replace(self, group: WriteGroup, owner: str) -> None:
        """`owner` will not confirm the group: the next live fallback stands in for it, or this node keeps the hint."""
        self._stand_in(group, owner, "" if owner in group.hinted else self._next_fallback(group))

    def _next_fallback(self, group: WriteGroup) -> str:
        state = self._state
        layout = state.layout
        if layout is None or not group.payload:
            return ""
        slot = int.from_bytes(group.payload[0][:2], "big")
        partition = layout.partition_of(slot)
        fallbacks = layout.preference_list(partition)[len(layout.keepers(partition)) :]
        # Who was asked as an owner may be none any more, but has one disk all the same.
        taken = [state.id, *group.plan.peers, *group.hinted.values()]
        live = (node for node in fallbacks if node not in taken and self._takes(group.plan, node))
        return next(live, "")

    def _takes(self, plan: Plan, node: str) -> bool:
        return self._state.is_usable(node) and self._state.has_room_for(plan, node)

    def _stand_in(self, group: WriteGroup, owner: str, node: str) -> None:
        """Asks `node` to stand in for `owner`; an empty one, or this node itself, stands for keeping the hint here."""
        state = self._state
        if not node:
            self._keep_hint(group, owner)
            if owner not in group.waiting or self._is_excused(group.plan, owner):
                group.tally.fail(owner)
            return
        if node == state.id:
            self._keep_hint(group, owner)
            group.tally.ack(owner)
            return
        group.hinted[owner] = node
        group.waiting[node] = owner
        state.send(node, state.message(b"HINT", group.number, owner.encode(), *group.payload))

    def _is_excused(self, plan: Plan, owner: str) -> bool:
        """Whether nobody needs to wait for an owner that a hint is kept for: it is not the one who is asked for the key."""
        return bool(plan.rows) and owner not in plan.rows[0]

    def _keep_hint(self, group: WriteGroup, owner: str) -> None:
        if group.hinted.get(owner) == "":
            return
        group.hinted[owner] = ""
        group.tally.hinted += 1
        state = self._state
        if not group.plan.owned:  # the records may have gone with the last of their hints since
            with suppress(DamagedRecord):
                state.records.absorb(group.payload)
        state.hints.keep(owner, group.payload[::2], state.time_ms, state.now_ms, not group.plan.owned)

    def hint_late(self, now_ms: int) -> None:
        """Owners that have not confirmed a group for `hint_after_ms` get a hint; they may still confirm it."""
        unconfirmed = self._unconfirmed
        while unconfirmed and (unconfirmed[0].late_ms <= now_ms or unconfirmed[0].number not in self._groups):
            self._hint_late(unconfirmed.popleft())

    def _hint_late(self, group: WriteGroup) -> None:
        if group.number in self._groups:
            for owner in [owner for node, owner in group.waiting.items() if node == owner]:
                self._replace(group, owner)
            self._judge(group)

    def in_flight(self, storage_key: Sequence[bytes]) -> dict[bytes, None]:
        """Those of the storage keys that were written and have not been confirmed by all their owners yet."""
        wanted = dict.fromkeys(storage_key)
        groups = [*self._groups.values(), *(group for _, _, group in self._opened)]
        return {key: None for group in groups for key in group.payload[::2] if key in wanted}
