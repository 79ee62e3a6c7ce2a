"""A group of reads: what it has read, what the owners have answered, and which answers it still needs (reads.py)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from server.core.base.quorum import Tally, Verdict
from server.core.base.routing import Plan
from server.core.base.state import State
from server.core.records.versions import merge
from server.core.requests.groups import Group


class ReadGroup(Group):
    """The reads of one turn that ask the same owners. All lists have one item per key, in the same order."""

    __slots__ = (
        "abstained", "differing", "is_hedge_refused", "keys", "ours", "records", "shared", "stamp", "unreadable",
    )  # fmt: skip

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, plan, tally, deadline_ms)
        self.keys: list[bytes] = []
        self.shared: dict[bytes, int] = {}  # storage key -> index of the read that others may join (key_reads.py)
        self.ours: list[bytes | None] = []  # this node's records at the start
        self.records: list[bytes | None] = []  # the merge of all records received so far
        self.differing: dict[str, dict[int, bytes | None]] = {}  # node -> index -> its record, if other than ours
        self.abstained: dict[str, Sequence[int]] = {}  # owner -> indexes of the keys that it has no vote for
        self.unreadable: Sequence[int] = ()  # indexes of the keys whose records this node cannot read
        self.stamp = 0  # the hybrid clock at the start; read repair needs it
        self.is_hedge_refused = False  # its hedge has waited for the budget (hedging.py)

    @property
    def is_waiting(self) -> bool:
        """Whether a read of the group has no answer yet."""
        return bool(self.waiters) or any(not one.is_answered for one in self.separate.values())

    def needed(self) -> int:
        """Returns how many further owners must be asked, so that each read can have its quorum."""
        count = 0
        if self.waiters and self.tally.verdict is Verdict.PENDING:
            count = self.tally.wanted - len(self.tally.acked)
        for one in self.separate.values():
            if not one.is_answered and one.tally.verdict is Verdict.PENDING:
                count = max(count, one.tally.wanted - len(one.tally.acked))
        return count - len(self.awaited)

    def await_voters(self, own_id: str) -> list[str]:
        """Fills `awaited` with one node for each owner, and returns these nodes: the owner itself if it is live or has no
        stand-in, and else its stand-in. This node (`own_id`) is left out, for it has voted already."""
        voters = {peer: peer for peer in self.plan.peers if peer not in self.plan.absent}
        for owner, node in self.plan.stand_ins:
            if node != own_id:
                voters[node or owner] = owner
        self.awaited = voters
        return list(voters)

    def unasked(self, owners: Sequence[str]) -> list[str]:
        """Returns those of the owners that neither have been asked nor have a stand-in that was asked."""
        asked, tally = self.awaited.values(), self.tally
        return [owner for owner in owners if not (owner in asked or owner in tally.acked or owner in tally.failed)]


def size_of(records: list[bytes | None]) -> int:
    """HOT. Returns the bytes of all records together."""
    total = 0
    for record in records:
        if record is not None:
            total += len(record)
    return total


def absent_in(records: list[bytes | None]) -> list[int]:
    """Returns the indexes at which there is no record."""
    return [index for index, record in enumerate(records) if record is None]


def division_of(group: ReadGroup, bytes_max: int, slow_writes: dict[bytes, int]) -> list[Sequence[int]]:
    """HOT. Divides a group that must not be sent as it is. Returns the indexes of the keys of each part, or [].

    Keys whose large writes are still on their way (`State.slow_writes`) and all other keys become two parts. If the group
    has keys of one of these kinds only, but is larger than `bytes_max`, its parts have about that size. The launch of a
    part may divide it again.
    """
    if len(group.keys) == 1:
        return []
    if slow_writes:
        behind = [index for index, key in enumerate(group.keys) if key in slow_writes]
        if 0 < len(behind) < len(group.keys):
            return [behind, [index for index, key in enumerate(group.keys) if key not in slow_writes]]
    return batches_of(group.ours, bytes_max) if size_of(group.ours) > bytes_max else []


def batches_of(records: list[bytes | None], bytes_max: int) -> list[Sequence[int]]:
    """Divides records into runs of at most `bytes_max` each; a larger record is a run of its own. Returns their indexes."""
    starts, size = [0], 0
    for index, record in enumerate(records):
        size += len(record or b"")
        if size > bytes_max and index > starts[-1]:
            starts.append(index)
            size = len(record or b"")
    return [range(start, end) for start, end in pairwise([*starts, len(records)])]


def merge_answer(state: State, group: ReadGroup, theirs: dict[int, bytes | None]) -> bool:
    """Merges a replica's records (index -> record) into `group.records`. Returns False, and merges none, if one of them
    cannot be merged. That error is contained here: otherwise one bad record on a peer would end every node that reads the
    key."""
    merged = list(group.records)
    try:
        for index, record in theirs.items():
            merged[index] = merge(merged[index], record)
    except Exception as error:  # noqa: BLE001
        state.unexpected.note(error, state.records.changes, "merging what a replica has answered")
        state.statistics.messages_undigested += 1
        return False
    state.statistics.read_differences += len(theirs)
    group.records = merged
    return True


def missing_pairs(group: ReadGroup, node: str, indexes: Sequence[int]) -> list[bytes]:
    """Returns storage key, record, … for the keys at `indexes` of which `node` does not hold the merge.

    Keys that the node had no vote for are left out. If it cannot read a record, mending restores it (repair/mending.py).
    If it lacks the record because it is being filled, filling brings the record. If the record had no room in the answer,
    the node may hold the merge already.
    """
    held, abstained = group.differing.get(node, {}), group.abstained.get(node, ())
    pairs: list[bytes] = []
    for index in indexes:
        merged = group.records[index]
        if merged is not None and index not in abstained and merged != held.get(index, group.ours[index]):
            pairs += (group.keys[index], merged)
    return pairs
