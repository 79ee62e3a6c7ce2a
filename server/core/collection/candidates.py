"""Candidates: keys whose records may be worth collecting, each with the time from when on it is worth a look.

Theory. A deletion is noticed when it is written, an expiry when it is set, and both are looked at once they are due: the
record itself then says what it is, so a key stands here once, whatever has happened to it since: a value that is deleted
long before it would expire is due at once. The queue is bounded;
what does not fit is found again by the scrub.
"""

from __future__ import annotations

import heapq

RETRY_MS = 5000  # after a first refusal; twice as long after each further one
RETRY_MS_MAX = 600_000


class Candidates:
    """A queue of storage keys by the time they are due."""

    def __init__(self, keys_max: int) -> None:
        self._keys_max = keys_max
        self._heap: list[tuple[int, int, bytes]] = []  # due, order of arrival, key
        self._due_ms: dict[bytes, int] = {}  # of the keys here; another time in the heap is void
        self._tries: dict[bytes, int] = {}  # all keys here or handed out, and how often each was refused
        self._count = 0

    def __len__(self) -> int:
        return len(self._tries)

    def add(self, key: bytes, due_ms: int) -> None:
        """`key` is worth a look from `due_ms` on, unless it is waiting for one before that or the queue is full.

        One that was refused waits for its next try all the same.
        """
        if key not in self._tries and len(self._tries) < self._keys_max:
            self._tries[key] = 0
            self._push(key, due_ms)
        elif due_ms < self._due_ms.get(key, due_ms) and not self._tries[key]:
            self._push(key, due_ms)

    def take(self, now_ms: int, limit: int) -> list[bytes]:
        """Up to `limit` keys that are due; for each `done`, `again` or `wait` is to be called."""
        keys: list[bytes] = []
        while self._heap and self._heap[0][0] <= now_ms and len(keys) < limit:
            due_ms, _, key = heapq.heappop(self._heap)
            if self._due_ms.get(key) == due_ms:
                del self._due_ms[key]
                keys.append(key)
        return keys

    def done(self, key: bytes) -> None:
        """`key` needs no further look."""
        self._tries.pop(key, None)

    def again(self, key: bytes, now_ms: int) -> None:
        """`key` was refused: it is tried later, and ever later."""
        tries = self._tries.get(key, 0)
        self._tries[key] = tries + 1
        self._push(key, now_ms + min(RETRY_MS << min(tries, 10), RETRY_MS_MAX))

    def wait(self, key: bytes, due_ms: int) -> None:
        """`key` is to be looked at once more, by no fault of its own."""
        self._push(key, due_ms)

    def _push(self, key: bytes, due_ms: int) -> None:
        self._count += 1
        self._due_ms[key] = due_ms
        heapq.heappush(self._heap, (due_ms, self._count, key))
