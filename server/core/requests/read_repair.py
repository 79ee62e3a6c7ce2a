"""Read repair: queues the records that reads have found missing on owners, and sends or stores many of them at once.

Theory (Dynamo, section 5). After a read, the coordinator knows which owners do not hold the merge of all records. One
repair message for each read would cost as much as the read. So the merged records are queued, and with the next tick
each owner gets its records in one KEEP message. This node stores its own in one batch. A large queue is sent at once.

If the fence of tombstone collection (collection/collection.py) has risen since a read began, the read may have returned a
deleted value whose tombstone is gone now. If that value were stored again, the deletion would be undone. So if the queue
holds the result of such a read, the whole queue is dropped. Later reads find the differences again.
"""

from __future__ import annotations

from contextlib import suppress

from server.core.base.state import State
from server.core.messages.kinds import encode_keep
from server.core.records.versions import DamagedRecord

_QUEUED_MAX = 128  # items (storage keys and records) for one node; a longer queue is sent at once


class ReadRepair:
    """The queue of read repair."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.queued: dict[str, list[bytes]] = {}  # node -> storage key, record, storage key, record, …
        self._bytes = 0
        self._stamp = 0  # the hybrid clock at the start of the oldest read in the queue

    def queue(self, node: str, pairs: list[bytes], stamp: int) -> None:
        """Queues storage key, record, … for `node`. The read that found them began when the hybrid clock showed `stamp`."""
        queued = self.queued.setdefault(node, [])
        queued += pairs
        self._stamp = min(self._stamp or stamp, stamp)
        self._bytes += sum(map(len, pairs))
        if self._bytes > self._state.config.batch_bytes_max or len(queued) > _QUEUED_MAX:
            self.send()

    def send(self) -> None:
        """Sends the queued records to the peers, and stores the records that this node itself lacks."""
        state = self._state
        if not self.queued:
            return
        queued, self.queued = self.queued, {}
        self._bytes = 0
        stamp, self._stamp = self._stamp, 0
        if state.fence >= stamp:
            return
        for node, pairs in queued.items():
            state.statistics.read_repairs += len(pairs) // 2
            if node == state.id and state.may_store(pairs):
                with suppress(DamagedRecord):  # found damaged meanwhile: mending.py restores it
                    state.records.merge_all(pairs)
            elif node in state.links and node != state.id:
                state.send(node, encode_keep(state.clock_reading(), state.next_number(), pairs))
