"""A disk: the store of one node, and everything that has ever been on it.

Theory. A commit is one batch, whole or not at all. `kill -9` loses no commit (the page cache outlives the process); a
power loss loses a suffix of the batches that no finished sync covers, as a write-ahead log does; a wiped disk has lost
all. The log of commits is not the node's: it is the checkers' evidence, and keeps what the disk has lost.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from server.core.records import RECORDS_END


class Commit(NamedTuple):
    """A record that was put on a disk: at which step of the simulation, on which node's."""

    step: int
    node: str
    key: bytes  # the storage key
    record: bytes


Batch = Mapping[bytes, bytes | None]


class Disk:
    """`get` and `scan` are `server.core.records.Store`; the rest is the shell's and the faults'."""

    def __init__(self, node: str, log: list[Commit]) -> None:
        self.node = node
        self.data: dict[bytes, bytes] = {}
        self._synced: dict[bytes, bytes] = {}
        self._unsynced: list[Batch] = []
        self._log = log
        self._sorted: list[bytes] | None = None  # the keys in order, until they change

    def get(self, key: bytes) -> bytes | None:
        """The value under a storage key."""
        return self.data.get(key)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> list[tuple[bytes, bytes]]:
        """Up to `limit` pairs from `start` (included) to `end` (not), ascending."""
        if self._sorted is None:
            self._sorted = sorted(self.data)
        keys = self._sorted
        first = bisect_left(keys, start)
        last = len(keys) if end is None else bisect_left(keys, end)
        return [(key, self.data[key]) for key in keys[first : min(last, first + limit)]]

    def commit(self, batch: Batch, step: int) -> None:
        """Writes a turn's batch."""
        _apply(self.data, batch)
        self._sorted = None
        self._unsynced.append(batch)
        for key, record in batch.items():
            if record is not None and key < RECORDS_END:
                self._log.append(Commit(step, self.node, key, record))

    def unsynced(self) -> int:
        """How many batches a sync that begins now will cover."""
        return len(self._unsynced)

    def sync(self, batches: int) -> None:
        """A sync that covered the oldest `batches` has ended."""
        for batch in self._unsynced[:batches]:
            _apply(self._synced, batch)
        del self._unsynced[:batches]

    def lose_power(self, rng: random.Random) -> int:
        """What no sync covered is lost from some batch on; answers how many batches are."""
        kept = rng.randint(0, len(self._unsynced))
        lost = len(self._unsynced) - kept
        self.sync(kept)
        self._unsynced.clear()
        self.data = dict(self._synced)
        self._sorted = None
        return lost

    def damage(self, key: bytes, data: bytes) -> None:
        """The bytes under a storage key are wrong from now on, whatever was synced. The log stays true."""
        self.data[key] = data
        if key in self._synced:
            self._synced[key] = data
        self._sorted = None

    def wipe(self) -> None:
        """A new, empty disk."""
        self.data, self._synced, self._sorted = {}, {}, None
        self._unsynced.clear()

    def count(self) -> int:
        """The number of records."""
        return sum(key < RECORDS_END for key in self.data)


def _apply(data: dict[bytes, bytes], batch: Batch) -> None:
    for key, value in batch.items():
        if value is None:
            data.pop(key, None)
        else:
            data[key] = value
