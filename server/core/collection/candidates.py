"""The queue of keys whose records may be collected, each with the time from which a look at it is worthwhile.

Theory. A key enters the queue when a deletion or an expiry is written, or when a long clock is found. It is due at
once, or at its expiry. Only then the record is read, and says whether it can be collected. So the queue holds each key
once, even if the key was written again meanwhile. A value that is deleted long before its expiry becomes due at once.
The queue is bounded. The scrub finds the keys that had no room.
"""

from __future__ import annotations

import heapq

RETRY_MS = 5000  # pause after the first refusal; it doubles with each further one
RETRY_MS_MAX = 600_000


class Candidates:
    """A queue of storage keys by the time they are due."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._heap: list[tuple[int, int, bytes]] = []  # due, order of arrival, key
        self._due_ms: dict[bytes, int] = {}  # key in the queue -> due; an entry of the heap with another time is void
        self._tries: dict[bytes, int] = {}  # key in the queue or popped -> how often it was refused
        self._count = 0

    def __len__(self) -> int:
        return len(self._tries)

    def add(self, key: bytes, due_ms: int) -> None:
        """Adds `key`, due at `due_ms`, unless it is in the queue with an earlier time, or the queue is full.

        A key that was refused keeps the time of its next try.
        """
        if key not in self._tries and len(self._tries) < self._keys_max:
            self._tries[key] = 0
            self._push(key, due_ms)
        elif due_ms < self._due_ms.get(key, due_ms) and not self._tries[key]:
            self._push(key, due_ms)

    def pop_due(self, now_ms: int, limit: int) -> list[bytes]:
        """Returns up to `limit` keys that are due. The caller must `remove`, `retry_later` or `put_back` each of them."""
        keys: list[bytes] = []
        while self._heap and self._heap[0][0] <= now_ms and len(keys) < limit:
            due_ms, _, key = heapq.heappop(self._heap)
            if self._due_ms.get(key) == due_ms:
                del self._due_ms[key]
                keys.append(key)
        return keys

    def remove(self, key: bytes) -> None:
        """Removes a popped key: there is nothing more to do for it."""
        self._tries.pop(key, None)

    def retry_later(self, key: bytes, now_ms: int) -> None:
        """Queues a popped key again after a refusal. The pause grows with each refusal."""
        tries = self._tries.get(key, 0)
        self._tries[key] = tries + 1
        self._push(key, now_ms + min(RETRY_MS << min(tries, 10), RETRY_MS_MAX))

    def put_back(self, key: bytes, due_ms: int) -> None:
        """Queues a popped key again at `due_ms`, without counting a refusal."""
        self._push(key, due_ms)

    def _push(self, key: bytes, due_ms: int) -> None:
        self._count += 1
        self._due_ms[key] = due_ms
        heapq.heappush(self._heap, (due_ms, self._count, key))
