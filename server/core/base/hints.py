"""Hints: which owners lack which of the records that this node stores (promise P6; Dynamo, section 4.6).

Theory. A hint says: "owner B has not confirmed the record that I store under this key". It has the owner and the key,
but not the record; the record is stored like all records. So a second write of the key needs no second hint, and hint
replay always sends the newest record. Who keeps hints:

- A coordinator that owns the key keeps a hint itself if there is no stand-in.
- A stand-in does not own the key. It stores the record only because of the hint, and deletes the record after the last
  hint for it.

A hint is removed when its owner has confirmed the very record that is stored at that moment. There are two exceptions,
both only on a node that owns the key itself: the hint grows older than `hint_age_ms_max`, or there is no room for it.
Then the owner is counted in `dropped_hints`, the status says so, and anti-entropy brings it the records. A stand-in
never drops a hint, because it may have the only copy. If it has no room, it refuses the write, and is not counted for
the quorum.

When a new layout takes the key from its owner, the hint is replaced by hints for all present owners of the key.

Hints are stored under the prefix HINTS, the owner and the storage key, in the batch of the turn that acknowledges the
write. In memory they are listed by owner, the oldest first; replay follows that order. `hints_bytes_max` limits both.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from server.core.base.statistics import Statistics
from server.core.records.records import HINTS, Records

HINT_OVERHEAD_BYTES = 200  # what the list in memory costs for each hint, besides the storage key
_PAGE = 1000


class Hints:
    """The hints that this node keeps for others."""

    def __init__(self, records: Records, statistics: Statistics, bytes_max: int) -> None:
        self._records = records
        self._statistics = statistics
        self.bytes_max = bytes_max
        self._open: dict[str, dict[bytes, int]] = {}  # owner -> storage key -> kept at (wall clock), oldest first
        self._changed_ms: dict[bytes, int] = {}  # storage key -> when a hint for it came or went (monotonic)
        self._forgotten_ms = -1  # changes up to this moment are no longer in `_changed_ms`
        self._bytes: dict[str, int] = {}  # by owner
        self.dropped_hints: dict[str, int] = {}  # owner -> hints dropped since its last full repair
        self._load()

    def _load(self) -> None:
        """Loads the hints that an earlier run of this node has stored."""
        rows: list[tuple[int, str, bytes]] = []
        start = HINTS
        while page := self._records.page(start, HINTS + b"\xff", _PAGE):
            for name, value in page:
                owner, storage_key = _split(name)
                rows.append((int.from_bytes(value, "big"), owner, storage_key))
            start = page[-1][0] + b"\0"
        for kept_at_ms, owner, storage_key in sorted(rows):
            self._add(owner, storage_key, kept_at_ms)

    def _add(self, owner: str, storage_key: bytes, kept_at_ms: int) -> None:
        self._open.setdefault(owner, {})[storage_key] = kept_at_ms
        self._bytes[owner] = self._bytes.get(owner, 0) + len(storage_key) + HINT_OVERHEAD_BYTES

    @property
    def full(self) -> bool:
        """Whether there is no room for another hint."""
        return sum(self._bytes.values()) >= self.bytes_max

    def keep(self, owner: str, storage_keys: Sequence[bytes], wall_ms: int, now_ms: int, only_copy: bool) -> None:
        """Keeps a hint for `owner` for each of these storage keys, with this turn's batch.

        `only_copy`: this node does not own the keys and may have the only copy. The caller has checked that there is
        room.
        """
        for key in storage_keys:
            self._changed_ms[key] = now_ms
            if self.is_open(owner, key):
                continue
            if self.full and not only_copy:
                self._statistics.hints_refused += 1
                self._count_dropped(owner)
                continue
            self._add(owner, key, wall_ms)
            self._statistics.hints_kept += 1
            self._records.put_raw(_row_key(owner, key), wall_ms.to_bytes(8, "big"))

    def _count_dropped(self, owner: str) -> None:
        self.dropped_hints[owner] = self.dropped_hints.get(owner, 0) + 1

    def confirm(self, owner: str, storage_key: bytes, now_ms: int) -> None:
        """Removes a hint: `owner` has confirmed the record that is stored here."""
        self._statistics.hints_delivered += 1
        self._remove(owner, storage_key, now_ms)

    def expire(self, owner: str, storage_key: bytes, now_ms: int) -> None:
        """Drops a hint that is too old. Only for a key that this node owns itself."""
        self._statistics.hints_expired += 1
        self._count_dropped(owner)
        self._remove(owner, storage_key, now_ms)

    def _remove(self, owner: str, storage_key: bytes, now_ms: int) -> None:
        keys = self._open[owner]
        del keys[storage_key]
        self._bytes[owner] -= len(storage_key) + HINT_OVERHEAD_BYTES
        if not keys:
            del self._open[owner], self._bytes[owner]
        self._changed_ms[storage_key] = now_ms
        self._records.put_raw(_row_key(owner, storage_key), None)

    def reassign(self, owner: str, storage_key: bytes, keepers: Sequence[str], now_ms: int, only_copy: bool) -> None:
        """Replaces a hint for `owner`, which no longer owns the key, by hints of the same age for its present `keepers`."""
        kept_at_ms = self._open[owner][storage_key]
        for keeper in keepers:
            self.keep(keeper, [storage_key], kept_at_ms, now_ms, only_copy)
        self._remove(owner, storage_key, now_ms)

    def drop_all(self) -> None:
        """Drops all hints: this node has left its cluster."""
        for owner, keys in self._open.items():
            for storage_key in keys:
                self._records.put_raw(_row_key(owner, storage_key), None)
        for rows in (self._open, self._bytes, self.dropped_hints):
            rows.clear()

    def holds(self, storage_key: bytes) -> bool:
        """Whether there is a hint for that storage key, for any owner."""
        return any(storage_key in keys for keys in self._open.values())

    def changed_since(self, storage_key: bytes, since_ms: int) -> bool:
        """Whether a hint for that storage key came or went since `since_ms` (monotonic). True if that is not known."""
        return self._forgotten_ms >= since_ms or self._changed_ms.get(storage_key, -1) >= since_ms

    def forget_changes(self, before_ms: int) -> None:
        """Forgets which hints changed before `before_ms`; nobody will ask about these."""
        if self._changed_ms:
            self._changed_ms = {storage_key: ms for storage_key, ms in self._changed_ms.items() if ms >= before_ms}
            self._forgotten_ms = max(self._forgotten_ms, before_ms - 1)

    def owners(self) -> list[str]:
        """Returns the owners that there are hints for."""
        return list(self._open)

    def keys(self, owner: str) -> list[bytes]:
        """Returns the storage keys of the hints for `owner`, the oldest first."""
        return list(self._open.get(owner, ()))

    def is_open(self, owner: str, storage_key: bytes) -> bool:
        """Whether there is a hint for `owner` for that storage key."""
        return storage_key in self._open.get(owner, ())

    def count(self, owner: str) -> int:
        """Returns the number of hints for `owner`."""
        return len(self._open.get(owner, ()))

    @property
    def total(self) -> int:
        """The number of all hints."""
        return sum(len(keys) for keys in self._open.values())

    def oldest_ms(self, owner: str) -> int:
        """Returns when the oldest hint for `owner` was kept (ms since 1970)."""
        return next(iter(self._open[owner].values()))

    def older_than(self, owner: str, wall_ms: int, limit: int) -> list[bytes]:
        """Returns the storage keys of hints for `owner` from before `wall_ms`: of the `limit` oldest ones."""
        oldest = islice(self._open[owner].items(), limit)
        return [storage_key for storage_key, kept_at_ms in oldest if kept_at_ms < wall_ms]

    def summary(self, wall_ms: int) -> list[tuple[str, int, int, int]]:
        """Returns for each owner: its id, the number and bytes of its hints, the age of the oldest in seconds."""
        return [
            (owner, len(keys), self._bytes[owner], max(0, wall_ms - self.oldest_ms(owner)) // 1000)
            for owner, keys in self._open.items()
        ]


def _row_key(owner: str, storage_key: bytes) -> bytes:
    encoded = owner.encode()
    return HINTS + bytes((len(encoded),)) + encoded + storage_key


def _split(name: bytes) -> tuple[str, bytes]:
    begin = len(HINTS) + 1
    end = begin + name[begin - 1]
    return name[begin:end].decode(), name[end:]
