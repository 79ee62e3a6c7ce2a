"""A record that commands of this turn are still changing: it is made when somebody asks for it, or at the end of the turn.

Theory. To make a large record costs a copy of it. If many commands change one key in a turn, the records in between are of
no use to anybody. So the first command leaves its changes as a `Pending`, the next ones add theirs, and the record is made
once. The cache does not have such a key meanwhile: so whoever reads the key comes to the slow path, where the record is
made first, and the hot path asks nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from server.core.records.cache import SHARD_BYTE, RecordCache
from server.core.records.views import View


class Pending:
    """What is to become the record of one key. `old` is the record that is stored until then."""

    def __init__(self, old: bytes | None) -> None:
        self.old = old

    def make(self) -> None:
        """Makes the record and stores it, or stores nothing and says so to those who wait. Called once."""
        raise NotImplementedError

    def includes(self, record: bytes | None) -> bool:
        """Whether the changes are made to all that `record`, what a quorum holds, has."""
        raise NotImplementedError

    def view(self) -> View | None:
        """The key with the changes, for who can read that; None if the record must be made for readers."""
        return None


class PendingRecords:
    """The records that this turn is still to make."""

    def __init__(self, cache: RecordCache) -> None:
        self.by_key: dict[bytes, Pending] = {}  # by storage key
        self.made = 0  # how many were made
        self._young = cache.young

    def add(self, key: bytes, pending: Pending) -> None:
        """The record of a storage key, for which `Records.get` has just returned `pending.old`, is made later."""
        self.by_key[key] = pending
        del self._young[key[SHARD_BYTE]][key]

    def make(self, keys: Iterable[bytes]) -> None:
        """Makes the records of those of the keys that have one to make."""
        for key in keys:
            pending = self.by_key.pop(key, None)
            if pending is not None:
                self.made += 1
                self._young[key[SHARD_BYTE]][key] = pending.old
                pending.make()

    def drop(self, key: bytes) -> None:
        """Forgets what was to become the record of a storage key: the stored one stays."""
        self._young[key[SHARD_BYTE]][key] = self.by_key.pop(key).old

    def make_all(self) -> bool:
        """Makes all of them. Returns whether there was one."""
        has_any = bool(self.by_key)
        while self.by_key:
            self.make(list(self.by_key))
        return has_any
