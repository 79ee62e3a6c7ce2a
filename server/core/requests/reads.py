"""Quorum reads: this node reads its own replica, asks the other owners in parallel, answers when R have answered.

Theory (Dynamo, section 4.5). Whichever R replicas are fastest make the answer, so one slow owner does not set the
latency. The question carries a digest of our own records: an owner that holds the same answers with one word for the
whole group and nothing is decoded; one that differs sends its records, and ours become the join of both. A damaged
record here is no vote: the other owners must make up the quorum. Where too few owners are live their stand-ins are asked,
too. One that holds the record (it keeps it with a hint) votes as the owner it stands for; its ignorance is no vote.

A group of large records is cut: what does not fit into `batch_bytes_max` is read in later turns, so that many reads of
large values take no more memory at once than their clients can be sent.

Read repair (section 5): when all owners have answered, or their time is up, those whose record differs from what all know
together get that, whole. Not if a fence has been passed since the group began: then what was read may be older than a
deletion that everybody has forgotten since (see collection.py).

An owner that differs answers with whole records. So a group whose records here make more than `batch_bytes_max` is cut into
groups of about that size, and an owner refuses what would be more than one message may be (replica.py).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import pairwise

from xxhash import xxh3_64_digest

from protocol.resp import Reply
from server.core.base.quorum import Tally
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.records.versions import DamagedRecord, merge
from server.core.requests.groups import Group, GroupTable

# Makes the reply out of the record that the quorum agreed on: (record, sink, now_ms) -> encoded reply
Finish = Callable[[bytes | None, Sink, int], Reply]


def digest(records: list[bytes | None]) -> bytes:
    """HOT. Equal lists of records have equal digests. A record names its own write, so positions cannot be confused."""
    return xxh3_64_digest(_joined(records))


def short_digest(records: list[bytes | None]) -> bytes:
    """As `digest`, of the records' own checksums: for large records, whose bytes cost more than the rest of a read. It is
    told from a digest by its length; nodes of the version before take it for a difference."""
    return b"s" + xxh3_64_digest(b"".join([record[:8] if record else _ABSENT for record in records]))


def _size(records: list[bytes | None]) -> int:
    total = 0
    for record in records:
        if record is not None:
            total += len(record)
    return total


def _joined(records: list[bytes | None]) -> bytes:
    try:
        return b"".join(records)  # type: ignore[arg-type]
    except TypeError:
        return b"".join([record or b"-" for record in records])


DIGESTED_BYTES_MAX = 64 << 10  # of records that are digested whole
SHORT_BYTES = 9  # of a short digest
_ABSENT = bytes(8)
_REPAIRS_MAX = 128  # keys and records that wait for one node


class ReadGroup(Group):
    """The reads of one turn that ask the same owners: storage keys, and what is known of their records so far."""

    __slots__ = ("differing", "keys", "ours", "records", "stamp")

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, plan, tally, deadline_ms)
        self.keys: list[bytes] = []
        self.ours: list[bytes | None] = []  # what we held at the start
        self.records: list[bytes | None] = []  # the join of all that was answered so far
        self.differing: dict[str, list[bytes]] = {}  # what those owners hold that do not hold ours
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
        group.members.append((finish, sink, number))

    def _launch(self, group: ReadGroup) -> None:
        state = self._state
        group.stamp = state.clock.last
        try:
            group.ours = group.records = state.records.get_within(group.keys, state.config.batch_bytes_max)
            if len(group.ours) < len(group.keys):
                self._postpone(group, len(group.ours))
            if group.plan.owned:
                group.tally.ack(state.id)
            elif group.plan.absent and group.plan.stand_ins[0][1] == state.id:
                self._vote_as(group, group.plan.absent[0])
        except DamagedRecord:
            group.ours = group.records = [self._sound(key) for key in group.keys]
            group.tally.fail(state.id)
        size_bytes = _size(group.ours)
        if size_bytes > state.config.batch_bytes_max and len(group.keys) > 1:
            self._divide(group)
            return
        state.statistics.reads += len(group.keys)
        is_short = size_bytes > DIGESTED_BYTES_MAX and len(state.orderly) == len(state.links)
        word = short_digest(group.ours) if is_short else digest(group.ours)
        message = state.message(b"READ", group.number, word, *group.keys)
        plan = group.plan
        if plan.stand_ins and plan.replicas - len(plan.absent) < group.tally.wanted:
            self._ask_voters(group, message)
        else:
            for peer in plan.peers:
                if peer in state.links:
                    state.send(peer, message)
                    group.waiting[peer] = peer
                else:
                    group.tally.fail(peer)
        self._track(group)

    def _postpone(self, group: ReadGroup, count: int) -> None:
        """All but the first `count` reads of the group are read in the next turn."""
        number, timeout_ms = self._state.number(), self._state.config.request_timeout_ms
        rest = ReadGroup(number, group.plan, group.plan.tally(group.tally.wanted), self._state.now_ms + timeout_ms)
        rest.keys, group.keys = group.keys[count:], group.keys[:count]
        rest.members, group.members = group.members[count:], group.members[:count]
        self._postponed.append(rest)
        self._state.in_flight += len(rest.members)

    def begin_turn(self) -> None:
        """What was postponed is read now."""
        if self._postponed:
            postponed, self._postponed = self._postponed, []
            for group in postponed:
                self._state.in_flight -= len(group.members)
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
            part.keys, part.members = group.keys[start:end], group.members[start:end]
            self._try_launch(part)

    def _launch_failed(self, group: ReadGroup, error: Exception, changes: int) -> None:
        """Nothing was stored, so the reads are begun one by one: only the one that is to blame gets the error."""
        if group.number in self._groups or len(group.members) != len(group.keys):
            super()._launch_failed(group, error, changes)  # it is followed already, or has answered
        state = self._state
        if len(group.members) == 1:
            reply = state.unexpected.contain(error, changes, "a read", "unread")
            for _, sink, number in group.members:
                sink.answer(number, reply)
            return
        state.unexpected.note(error, changes, "a group of reads")
        for key, member in zip(group.keys, group.members, strict=True):
            alone = ReadGroup(state.number(), group.plan, group.plan.tally(group.tally.wanted), group.deadline_ms)
            alone.keys, alone.members = [key], [member]
            self._try_launch(alone)

    def _vote_as(self, group: ReadGroup, owner: str) -> None:
        """This node stands in for `owner`."""
        if None in group.ours:
            group.tally.fail(owner)
        else:
            group.tally.ack(owner)

    def _ask_voters(self, group: ReadGroup, message: bytes) -> None:
        """Too few owners are live: those that are, and the stand-ins of the others."""
        state, plan = self._state, group.plan
        voters = [(peer, peer) for peer in plan.peers if peer not in plan.absent]
        voters += [(node or owner, owner) for owner, node in plan.stand_ins if node != state.id]
        for node, owner in voters:
            if node in state.links:
                state.send(node, message)
                group.waiting[node] = owner
            else:
                group.tally.fail(owner)

    def _sound(self, key: bytes) -> bytes | None:
        try:
            return self._state.records.get(key)
        except DamagedRecord:
            return None

    def keys_in(self, number: int) -> int | None:
        """How many keys a group that is followed asks for; None if no such group is."""
        group = self._groups.get(number)
        return None if group is None else len(group.keys)

    def differ(self, peer: str, number: int, records: list[bytes]) -> None:
        """`peer` holds `records` (empty for none), in the order of the keys asked, where not all equal ours."""
        group = self._groups.get(number)
        if group is None or peer not in group.waiting:
            return
        joined = list(group.records)
        try:
            for index, (record, present) in enumerate(zip(records, group.records, strict=True)):
                if record != (present or b""):
                    self._state.statistics.read_differences += 1
                    joined[index] = merge(present, record or None)
        except Exception as error:  # noqa: BLE001 else one bad record of `peer` would end each node that reads its key
            self._state.unexpected.note(error, self._state.records.changes, "joining what a replica has answered")
            self._state.statistics.messages_undigested += 1
            self.refused(peer, number)
            return
        group.records = joined
        group.differing[peer] = records
        self.acked(peer, number)

    def _complete(self, group: ReadGroup) -> None:
        now_ms = self._state.time_ms
        state = self._state
        changes = state.records.changes
        for (finish, sink, number), record in zip(self._take_members(group), group.records, strict=True):
            assert finish is not None
            try:
                reply = finish(record, sink, now_ms)
            except Exception as error:  # noqa: BLE001 of this command alone: the others of the group have their answers
                reply = state.unexpected.contain(error, changes, "the reply to a read", "unread")
            sink.answer(number, reply)
            changes = state.records.changes

    def _settle(self, group: ReadGroup) -> None:
        """All have answered who will: whoever differs gets the join, with the next tick or when much has gathered."""
        if not group.differing:
            return
        plan, acked = group.plan, group.tally.acked
        for node in (*plan.peers, self._state.id) if plan.owned else plan.peers:
            if node in acked and node not in plan.absent:
                pairs = _lacking(group, group.differing.get(node, group.ours))
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


def _lacking(group: ReadGroup, held: Sequence[bytes | None]) -> list[bytes]:
    """Storage key, record, … of what somebody who holds `held` lacks."""
    pairs: list[bytes] = []
    for key, record, joined in zip(group.keys, held, group.records, strict=True):
        if joined is not None and joined != (record or None):
            pairs += (key, joined)
    return pairs
