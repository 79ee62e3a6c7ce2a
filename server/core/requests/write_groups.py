"""A group of writes: the records that one message carries to the owners, and which nodes have not confirmed them yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mypy_extensions import i64

from server.core.base.origins import Origin, key_change
from server.core.base.quorum import Tally
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.records.records import Records
from server.core.requests.groups import Group
from server.core.requests.relay_sinks import RelayedBatch


class Written(NamedTuple):
    """A key of a write to several keys: storage key, new record, and the record that `Records.get` has just returned."""

    storage_key: bytes
    record: bytes
    old: bytes | None


class WriteGroup(Group):
    """The writes of one turn that go to the same owners."""

    __slots__ = (
        "bases", "batch", "covered", "covered_numbers", "hint_at_ms", "hint_holders", "is_behind", "patched", "payload",
        "repeated", "sent_again", "size_bytes", "unconfirmed_bytes",
    )  # fmt: skip

    def __init__(self, number: int, plan: Plan, tally: Tally, deadline_ms: int) -> None:
        super().__init__(number, plan, tally, deadline_ms)
        self.payload: list[bytes] = []  # storage key, record, storage key, record, …
        # Patches (patching.py).
        self.bases: dict[int, bytes] = {}  # index of a large record in `payload` -> its former version
        self.patched: list[bytes] | None = None  # the payload with patches in place of some of the records
        self.sent_again: tuple[str, ...] = ()  # the owners that were sent the patches a second time
        self.is_behind = False  # it is large or has patches, so small messages overtake it
        self.covered: dict[
            RelayedBatch, list[int]
        ] = {}  # covered writes: relayed batch -> the numbers of their commands
        self.batch: RelayedBatch | None = None  # the relayed batch whose writes were covered last
        self.covered_numbers: list[int] = []  # the same list as `covered[batch]`
        self.hint_holders: dict[str, str] = {}  # owner -> the node that keeps a hint for it; "" stands for this node
        self.repeated: dict[bytes, bytes] = {}  # keys that may have several records in `payload` -> the last one
        self.hint_at_ms = 0  # an owner that has not confirmed the group at this time gets a hint
        self.size_bytes = 0
        self.unconfirmed_bytes = 0  # its part of `Writes.unconfirmed_bytes`: `size_bytes` or 0

    def may_cover(self, sink: Sink) -> bool:
        """Whether writes of a relayed batch may be covered writes of this group (writes.py): its peer is a live owner, this
        node is an owner, and the partition does not move. If so, sets `batch` and `covered_numbers` for that batch."""
        plan = self.plan
        if not isinstance(sink, RelayedBatch) or not plan.owned or plan.owner_sets:
            return False
        if sink.peer not in plan.peers or sink.peer in plan.absent:
            return False
        self.batch = sink
        self.covered_numbers = self.covered.setdefault(sink, [])
        return True

    def write_batch(
        self, records: Records, written: Sequence[Written], patch_bytes_min: int, origin: Origin | None
    ) -> None:
        """Stores records here and adds them to the group. A record of `patch_bytes_min` or more that replaces another one
        may be sent as a patch."""
        for key, record, old in written:
            if records.put(key, record, old):
                self.repeated[key] = record
            self.payload += (key, record)
            if len(record) >= patch_bytes_min and old is not None:
                self.bases[len(self.payload) - 1] = old
            self.size_bytes += len(record)
            if origin is not None:
                origin.made(key_change(key, old, record))


def note(state: State, key: bytes, record: bytes, old: bytes | None, sink: Sink, number: int) -> None:
    """HOT. Notes a write for keyspace notifications and for client tracking (pubsub/)."""
    if state.noted is not None:
        state.noted.append((key, record, old, sink.command(number)))
    if sink.origin is not None:
        sink.origin.made(key_change(key, old, record))


class ShortGroups:
    """For WAIT: remembers when groups were closed without the acknowledgements of all replicas."""

    def __init__(self) -> None:
        self._closed_ms: dict[int, int] = {}  # acknowledgements -> when a group with so many was last closed

    def note(self, group: WriteGroup, now_ms: int) -> None:
        """HOT. Notes that `group` is closed."""
        copies = len(group.tally.acked)
        if copies < group.plan.replicas:
            self._closed_ms[copies] = now_ms

    def least(self, open_groups: Sequence[WriteGroup], since_ms: int, most: int) -> tuple[int, bool]:
        """Finds, among the open groups and those closed since `since_ms`, the one that the fewest replicas have
        acknowledged. Returns how many these are (at most `most`), and whether an open group lacks acknowledgements."""
        least, is_open = most, False
        for copies, closed_ms in self._closed_ms.items():
            if closed_ms >= since_ms:
                least = min(least, copies)
        for group in open_groups:
            if len(group.tally.acked) < group.plan.replicas:
                least = min(least, len(group.tally.acked))
                is_open = True
        return least, is_open


def last_of_each(payload: list[bytes], repeated: dict[bytes, bytes]) -> list[bytes]:
    """Returns the payload with one record for each key of `repeated`: the last one, which `repeated` has as value."""
    kept: list[bytes] = []
    index: i64 = 0
    while index < len(payload):
        key = payload[index]
        if key not in repeated:
            kept.append(key)
            kept.append(payload[index + 1])
        index += 2
    for key, record in repeated.items():
        kept.append(key)
        kept.append(record)
    return kept
