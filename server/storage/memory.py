"""The memory engine: a dict, and a sorted list of its keys that is made when a scan needs it.

Gets and commits are nearly all of the work, and a dict does them in a tenth of a microsecond; scans are rare. So the
first scan after keys were added or deleted makes the sorted list. A write over an existing key leaves the list alone. New
keys are appended and sorted in, which costs Timsort about one pass over a list that is nearly in order. After a deletion
the list is made anew.
"""

from __future__ import annotations

from bisect import bisect_left
from pathlib import Path

from server.storage.engine import NO_BYTES_MAX, StorageError

SNAPSHOT_BATCH_KEYS = 10_000


class MemoryEngine:
    """Keeps everything in this process and loses it with the process. Implements `Engine`."""

    def __init__(self) -> None:
        self._data: dict[bytes, bytes] = {}
        self._order: list[bytes] = []  # sorted; lacks `_added`, and may hold deleted keys when `_shrunk`
        self._added: list[bytes] = []
        self._shrunk = False
        self._closed = False
        self._marks: dict[str, None] = {}

    def get(self, key: bytes) -> bytes | None:
        """HOT. The value under `key`, or None."""
        if self._closed:
            self._refuse()
        return self._data.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order."""
        self._check_open()
        return [self._data.get(key) for key in keys]

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. Applies all writes; None deletes."""
        if self._closed:
            self._refuse()
        data = self._data
        for key, value in writes.items():
            if value is None:
                if data.pop(key, None) is not None:
                    self._shrunk = True
            else:
                if key not in data:
                    self._added.append(key)
                data[key] = value

    def sync(self, waits: bool = True) -> bool:
        """Does nothing: there is no disk."""
        self._check_open()
        return True

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs with start <= key < end in ascending order."""
        self._check_open()
        order = self._sorted_keys()
        first = bisect_left(order, start)
        stop = len(order) if end is None else bisect_left(order, end)
        pairs: list[tuple[bytes, bytes]] = []
        for key in order[first : min(stop, first + limit)]:
            value = self._data[key]
            pairs.append((key, value))
            bytes_max -= len(value)
            if bytes_max <= 0:
                break
        return pairs

    def snapshot(self, path: Path) -> None:
        """Writes all pairs into a new rocksdb store at `path`."""
        # Imported here so that tests and the simulator, which never take snapshots, do not load RocksDB.
        from server.storage.rocksdb import RocksEngine

        self._check_open()
        if path.exists():
            raise StorageError(f"cannot write a snapshot to {path}: it exists already; name a new directory")
        copy = RocksEngine(path)
        try:
            for mark in self._marks:
                copy.require(mark)
            pairs = list(self._data.items())
            for first in range(0, len(pairs), SNAPSHOT_BATCH_KEYS):
                copy.commit(dict(pairs[first : first + SNAPSHOT_BATCH_KEYS]))
        finally:
            copy.close()

    def flush(self) -> None:
        """Does nothing: there are no files."""
        self._check_open()

    def compact(self, start: bytes, end: bytes) -> None:
        """Does nothing: there are no files."""
        self._check_open()

    def set_compaction(self, wanted: bool) -> None:
        """Does nothing: there is no compaction."""
        self._check_open()

    def cancel(self) -> None:
        """Does nothing: no call ever waits."""
        self._check_open()

    def reopen(self, compacts: bool = True) -> None:
        """Does nothing: no write is ever refused."""
        self._check_open()

    def close(self) -> None:
        """Forgets everything."""
        self._closed = True
        self._data, self._order, self._added = {}, [], []

    def is_congested(self) -> bool:
        """Never: there is nothing to flush."""
        return False

    def require(self, mark: str) -> bool:
        """Notes the mark for snapshots."""
        self._check_open()
        self._marks[mark] = None
        return True

    def stats(self) -> dict[str, int | str]:
        """`engine` and `keys_estimate`, which is exact here."""
        self._check_open()
        return {"engine": "memory", "keys_estimate": len(self._data)}

    def _sorted_keys(self) -> list[bytes]:
        if self._shrunk:
            self._order = sorted(self._data)
        elif self._added:
            self._order += self._added
            self._order.sort()
        self._shrunk = False
        self._added = []
        return self._order

    def _check_open(self) -> None:
        if self._closed:
            self._refuse()

    def _refuse(self) -> None:
        raise StorageError("the memory store is closed")
