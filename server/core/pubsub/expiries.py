"""Expiries of cached keys: when clients that track are told that a key has expired.

Theory. An expiry is no write, and the record of an expired key may stay until its owners agree to collect it. So this node
notes the time of an expiry on two occasions: a record with an expiry is written here while some node wants to know of
changes; or a client of this node reads a key that is stored here. At most `keys_max` keys are noted. For keys that find no
room, and for fields of records that are longer than `_FIELDS_BYTES_MAX`, clients are told when the record is collected.
"""

from __future__ import annotations

import heapq
from typing import Final

from server.core.records import versions
from server.core.records.entries import Index, has_entries, key_entries

_FIELDS_BYTES_MAX: Final = 64 << 10
DUE_PER_TICK_MAX: Final = 1000


def next_change_ms(record: bytes, now_ms: int) -> int:
    """When an expiry changes what readers get of a record, after `now_ms`; 0 if none does."""
    if versions.expiry_class(record) != versions.EXPIRING:
        return 0
    if not has_entries(record):
        sibling = versions.newest(record)
        times = [] if sibling is None else [sibling.expires_at_ms]
    else:
        times = [entry[3] for entry in key_entries(record)]
        if len(record) <= _FIELDS_BYTES_MAX:
            index = Index(record)
            times += [entry[3] for chunk in index.expiring_chunks() for entry in index.entries_in(chunk)]
    return min([time_ms for time_ms in times if time_ms > now_ms], default=0)


class Expiries:
    """The storage keys whose next expiry is noted, each once."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._due: dict[bytes, int] = {}  # storage key -> when; an entry of the heap with another time is void
        self._heap: list[tuple[int, bytes]] = []

    def note(self, storage_key: bytes, record: bytes, now_ms: int) -> None:
        """A record was written or read: notes when it changes by itself. What is noted and due by now stays: it is told
        with the next tick, and what comes after it is noted then."""
        due_ms, noted_ms = next_change_ms(record, now_ms), self._due.get(storage_key, 0)
        if due_ms == noted_ms or 0 < noted_ms <= now_ms or len(self._heap) >= self._keys_max:
            return
        if due_ms:
            self._due[storage_key] = due_ms
            heapq.heappush(self._heap, (due_ms, storage_key))
        else:
            del self._due[storage_key]

    def due(self, now_ms: int) -> list[bytes]:
        """Removes and returns storage keys whose time has come, some at a time."""
        heap, found = self._heap, list[bytes]()
        while heap and heap[0][0] <= now_ms and len(found) < DUE_PER_TICK_MAX:
            due_ms, storage_key = heapq.heappop(heap)
            if self._due.get(storage_key) == due_ms:
                del self._due[storage_key]
                found.append(storage_key)
        return found

    def clear(self) -> None:
        """Nobody wants to know any more."""
        self._due.clear()
        self._heap.clear()
