"""Hints: which owners miss which of the records that this node holds (promise P6; Dynamo, section 4.6).

Theory. A hint is a debt: "owner B has not confirmed what I hold under this key". It names the owner and the key, not the
record, which stands where all records stand: so a second write of the key needs no second hint, and what is delivered is
the newest. A coordinator that owns the key keeps such debts itself when nobody stands in; a stand-in that does not own the
key holds the record only for the sake of the debt, and lets it go after the last. A hint goes away when its owner has
confirmed the very record that is held at that moment; in no other way, but for the two bounds below. When a new layout
takes the key from its owner the debt changes hands: it is owed to all present keepers of the key instead.

Hints are kept on disk, in the batch of the turn that acknowledges them, under prefix, owner and storage key. They are
listed in memory by owner, oldest first: that order is the order of replay. `hints_bytes_max` bounds both. At the bound a
stand-in refuses, and is not counted; an owner, whose own record the debt is about, forgets the debt but not to whom: that
node is `behind`, the status says so, and Merkle repair makes it whole. The same happens to an owner's debts that are older
than `hint_age_ms_max`; a stand-in's never grow too old, for it may have the only copy.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice

from server.core.base.statistics import Statistics
from server.core.records.records import HINTS, Records

HINT_OVERHEAD_BYTES = 200  # of the list in memory, a hint
_PAGE = 1000


class Hints:
    """The hints that this node keeps for other nodes."""

    def __init__(self, records: Records, statistics: Statistics, bytes_max: int) -> None:
        self._records = records
        self._statistics = statistics
        self._bytes_max = bytes_max
        self._open: dict[str, dict[bytes, int]] = {}  # owner -> storage key -> kept at (wall clock), oldest first
        self._touched_ms: dict[bytes, int] = {}  # when a hint of a key came or went, by the monotonic clock
        self._forgotten_ms = -1  # what was touched before that is not remembered
        self._bytes: dict[str, int] = {}  # by owner
        self.dropped_hints: dict[
            str, int
        ] = {}  # owner -> hints that there was no room for, since it was last made whole
        self._load()

    def _load(self) -> None:
        """What an earlier life of this node has kept."""
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
        return sum(self._bytes.values()) >= self._bytes_max

    def keep(self, owner: str, storage_key: Sequence[bytes], wall_ms: int, now_ms: int, only_copy: bool) -> None:
        """From this turn's commit on, this node owes `owner` what it holds under these storage keys.

        `only_copy`: this node holds the records for the owner's sake; the caller has seen that there is room.
        """
        for key in storage_key:
            self._touched_ms[key] = now_ms
            if self.is_open(owner, key):
                continue
            if self.full and not only_copy:
                self._statistics.hints_refused += 1
                self._fall_behind(owner)
                continue
            self._add(owner, key, wall_ms)
            self._statistics.hints_kept += 1
            self._records.put_raw(_name(owner, key), wall_ms.to_bytes(8, "big"))

    def _fall_behind(self, owner: str) -> None:
        self.dropped_hints[owner] = self.dropped_hints.get(owner, 0) + 1

    def confirm(self, owner: str, storage_key: bytes, now_ms: int) -> None:
        """`owner` has what is held here: the debt is paid."""
        self._statistics.hints_delivered += 1
        self._remove(owner, storage_key, now_ms)

    def give_up(self, owner: str, storage_key: bytes, now_ms: int) -> None:
        """The debt has grown too old. Only for a record that this node owns itself."""
        self._statistics.hints_expired += 1
        self._fall_behind(owner)
        self._remove(owner, storage_key, now_ms)

    def _remove(self, owner: str, storage_key: bytes, now_ms: int) -> None:
        keys = self._open[owner]
        del keys[storage_key]
        self._bytes[owner] -= len(storage_key) + HINT_OVERHEAD_BYTES
        if not keys:
            del self._open[owner], self._bytes[owner]
        self._touched_ms[storage_key] = now_ms
        self._records.put_raw(_name(owner, storage_key), None)

    def change_hands(
        self, owner: str, storage_key: bytes, keepers: Sequence[str], now_ms: int, only_copy: bool
    ) -> None:
        """`owner` takes no writes of that key any more: the debt is to its present `keepers`, as old as it is."""
        kept_at_ms = self._open[owner][storage_key]
        for keeper in keepers:
            self.keep(keeper, [storage_key], kept_at_ms, now_ms, only_copy)
        self._remove(owner, storage_key, now_ms)

    def forget_all(self) -> None:
        """Whoever something was owed to is no fellow any more."""
        for owner, keys in self._open.items():
            for storage_key in keys:
                self._records.put_raw(_name(owner, storage_key), None)
        for rows in (self._open, self._bytes, self.dropped_hints):
            rows.clear()

    def holds(self, storage_key: bytes) -> bool:
        """Whether there is an open hint of that key, for whatever owner."""
        return any(storage_key in keys for keys in self._open.values())

    def touched_since(self, storage_key: bytes, since_ms: int) -> bool:
        """Whether a hint of that key came or went here since `since_ms` (monotonic); True when unsure."""
        return self._forgotten_ms >= since_ms or self._touched_ms.get(storage_key, -1) >= since_ms

    def forget_touches(self, before_ms: int) -> None:
        """Nobody will ask for what was touched before `before_ms`."""
        if self._touched_ms:
            self._touched_ms = {storage_key: ms for storage_key, ms in self._touched_ms.items() if ms >= before_ms}
            self._forgotten_ms = max(self._forgotten_ms, before_ms - 1)

    def owners(self) -> list[str]:
        """The owners that something is owed to."""
        return list(self._open)

    def keys(self, owner: str) -> list[bytes]:
        """The storage keys of what is owed to `owner`, oldest first."""
        return list(self._open.get(owner, ()))

    def is_open(self, owner: str, storage_key: bytes) -> bool:
        """Whether this is owed to `owner`."""
        return storage_key in self._open.get(owner, ())

    def count(self, owner: str) -> int:
        """How much is owed to `owner`."""
        return len(self._open.get(owner, ()))

    @property
    def total(self) -> int:
        """All that is owed."""
        return sum(len(keys) for keys in self._open.values())

    def oldest_ms(self, owner: str) -> int:
        """Since when the oldest hint for `owner` is kept (wall clock)."""
        return next(iter(self._open[owner].values()))

    def older_than(self, owner: str, wall_ms: int, limit: int) -> list[bytes]:
        """The oldest storage keys owed to `owner` since before `wall_ms`, `limit` of them at most."""
        oldest = islice(self._open[owner].items(), limit)
        return [storage_key for storage_key, kept_at_ms in oldest if kept_at_ms < wall_ms]

    def summary(self, wall_ms: int) -> list[tuple[str, int, int, int]]:
        """For each owner: its id, hints, their bytes, and the age of the oldest in seconds."""
        return [
            (owner, len(keys), self._bytes[owner], max(0, wall_ms - self.oldest_ms(owner)) // 1000)
            for owner, keys in self._open.items()
        ]


def _name(owner: str, storage_key: bytes) -> bytes:
    encoded = owner.encode()
    return HINTS + bytes((len(encoded),)) + encoded + storage_key


def _split(name: bytes) -> tuple[str, bytes]:
    begin = len(HINTS) + 1
    end = begin + name[begin - 1]
    return name[begin:end].decode(), name[end:]
