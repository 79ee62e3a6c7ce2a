"""Quorum reads: this node reads its own replica, asks the other owners in parallel, answers when R have answered.

Theory (Dynamo, section 4.5). Whichever R replicas are fastest make the answer, so one slow owner does not set the
latency. The question carries a digest of our own records: an owner that holds the same answers with one word for the
whole group and nothing is decoded; one that differs sends its records, and ours become the join of both. A damaged
record here is no vote: the other owners must make up the quorum.
"""

from __future__ import annotations

from collections.abc import Callable

from xxhash import xxh3_64_digest

from server.core.groups import Group, GroupTable
from server.core.quorum import Tally
from server.core.routing import Plan
from server.core.sinks import Sink
from server.core.versions import DamagedRecord, merge

# Makes the reply out of the record that the quorum agreed on: (record, sink, now_ms) -> encoded reply
Finish = Callable[[bytes | None, Sink, int], bytes]


def digest(records: list[bytes | None]) -> bytes:
    """HOT. Equal lists of records have equal digests. A record names its own write, so positions cannot be confused."""
    try:
        return xxh3_64_digest(b"".join(records))  # type: ignore[arg-type]
    except TypeError:
        return xxh3_64_digest(b"".join([record or b"-" for record in records]))


class ReadGroup(Group):
    """The reads of one turn that ask the same owners: storage keys, and what is known of their records so far."""

    __slots__ = ("keys", "records")

    def __init__(self, number: int, peers: tuple[str, ...], tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, peers, tally, deadline_ms)
        self.keys: list[bytes] = []
        self.records: list[bytes | None] = []


class Reads(GroupTable[ReadGroup]):
    """The read groups in flight."""

    operation = "read"
    outcome = "unread"

    def open(self, plan: Plan, quorum: int) -> ReadGroup:
        """This turn's group of reads with R of `quorum`; 0 stands for the layout's."""
        return plan.reading.get(quorum) or self._register(
            ReadGroup, plan, plan.reading, quorum, quorum or self._state.read_quorum
        )

    def start(self, plan: Plan, key: bytes, finish: Finish, sink: Sink, number: int, quorum: int = 0) -> None:
        """Adds the read of storage key `key` to this turn's group; `quorum` 0 takes the asker's or the layout's."""
        group = self.open(plan, quorum or sink.read_quorum)
        group.keys.append(key)
        group.members.append((finish, sink, number))

    def _launch(self, group: ReadGroup) -> None:
        state = self._state
        state.statistics.reads += len(group.keys)
        try:
            group.records = state.records.get_many(group.keys)
            group.tally.ack(state.id)
        except DamagedRecord:
            group.records = [self._sound(key) for key in group.keys]
            group.tally.fail(state.id)
        self._track(group, state.message(b"READ", group.number, digest(group.records), *group.keys))

    def _sound(self, key: bytes) -> bytes | None:
        try:
            return self._state.records.get(key)
        except DamagedRecord:
            return None

    def differ(self, peer: str, number: int, records: list[bytes]) -> None:
        """`peer` holds `records` (empty for none), in the order of the keys asked, where not all equal ours."""
        group = self._groups.get(number)
        if group is None:
            return
        ours = group.records
        for index, record in enumerate(records):
            if record != (ours[index] or b""):
                self._state.statistics.read_differences += 1
                ours[index] = merge(ours[index], record or None)
        self.acked(peer, number)

    def _complete(self, group: ReadGroup) -> None:
        now_ms = self._state.clock.now_ms
        members = self._close(group)
        for (finish, sink, number), record in zip(members, group.records, strict=True):
            assert finish is not None
            sink.answer(number, finish(record, sink, now_ms))
