"""Quorum writes: the coordinator merges at its own replica, sends the whole record to the other owners, answers at W.

Theory (Dynamo, section 4.5). The coordinator's own vote is counted at once though the commit comes at the end of the
turn: every answer leaves after that commit (commit, then speak), so nobody hears of a vote that is not on disk. An
owner takes a group as one batch, so it acknowledges the group as one.

A plain write that another owner relayed to us needs no answer when W is two: our STORE proves to that owner that we have
the write on disk, and once it has stored it, too, it answers its client itself (`Covered`). That saves a message and a
hop for most writes, and it is the same quorum: two distinct replicas on disk, counted where the client waits.

When fewer than W owners can be reached nothing is written, and the error says so; when they get lost on the way the
error says that the write may survive (P5).
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.resp import OK
from server.core.errors import CommandError, QuorumUnreachable
from server.core.groups import Group, GroupTable
from server.core.quorum import Tally
from server.core.relays import RelayedBatch, encode_indexes
from server.core.routing import Plan
from server.core.sinks import Sink

# Makes the reply of a write that has met its quorum: (acknowledgements so far, sink) -> reply; None answers +OK
Finish = Callable[[int, Sink], bytes] | None


class WriteGroup(Group):
    """The writes of one turn that go to the same owners: storage key, record, storage key, record, …"""

    __slots__ = ("covered", "payload", "size_bytes")

    def __init__(self, number: int, peers: tuple[str, ...], tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, peers, tally, deadline_ms)
        self.payload: list[bytes] = []
        self.covered: dict[RelayedBatch, list[int]] = {}  # relayed plain writes, by batch: their numbers in it
        self.size_bytes = 0


class Writes(GroupTable[WriteGroup]):
    """The write groups in flight."""

    operation = "write"
    outcome = "maybe-written"

    def group_for(self, plan: Plan, sink: Sink, quorum: int = 0) -> WriteGroup:
        """HOT. This turn's group for a write; `quorum` 0 takes the asker's or the layout's.

        Raises CommandError when nothing may be written: too few owners can be reached, or the disk is full.
        """
        name = quorum or sink.write_quorum
        return plan.writing.get(name) or self._open(plan, name)

    def _open(self, plan: Plan, name: int) -> WriteGroup:
        state = self._state
        if state.disk_full:
            raise CommandError(f"DISKFULL node {state.member.name} refuses writes: free some disk space there")
        replicas = [state.id, *(peer for peer in plan.peers if peer in state.links)]
        wanted = min(name or state.write_quorum, len(plan.peers) + 1)
        if len(replicas) < wanted:
            tally = Tally(len(plan.peers) + 1, wanted)
            for replica in replicas:
                tally.ack(replica)
            state.statistics.no_quorum += 1
            raise QuorumUnreachable(tally)
        return self._register(WriteGroup, plan, plan.writing, name, wanted)

    def add(
        self, group: WriteGroup, key: bytes, record: bytes, old: bytes | None, finish: Finish, sink: Sink, number: int
    ) -> None:
        """HOT. Writes `record` for `old`, which `Records.get` has just answered, here and at the other owners."""
        self._state.records.put(key, record, old)
        group.payload += (key, record)
        if finish is None and sink.relayed and isinstance(sink, RelayedBatch) and sink.peer in group.peers:
            group.covered.setdefault(sink, []).append(number)
        else:
            group.members.append((finish, sink, number))
        group.size_bytes += len(record)
        if group.size_bytes > self._state.config.batch_bytes_max:
            self.launch()

    def _launch(self, group: WriteGroup) -> None:
        state = self._state
        group.tally.ack(state.id)
        self._cover(group)
        payload, group.payload = group.payload, []
        state.statistics.writes += len(payload) // 2
        # A group that has nobody left to answer needs no acknowledgement, and so wakes nobody for it.
        self._track(group, state.message(b"STORE" if group.members else b"KEEP", group.number, *payload))

    def _cover(self, group: WriteGroup) -> None:
        """Leaves the answers of relayed plain writes to the owners who relayed them, if our vote and theirs suffice."""
        state = self._state
        for batch, numbers in group.covered.items():
            if group.tally.wanted == 2 and batch.peer in state.links:
                indexes = encode_indexes(numbers)
                state.send(batch.peer, state.message(b"COVERED", batch.number, group.number, indexes))
            else:
                group.members += [(None, batch, number) for number in numbers]

    def _complete(self, group: WriteGroup) -> None:
        acks = len(group.tally.acked)
        for finish, sink, number in self._close(group):
            sink.answer(number, OK if finish is None else finish(acks, sink))
