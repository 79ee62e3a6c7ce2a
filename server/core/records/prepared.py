"""The joins of large records that were made in slices, before their message is handled (preparing.py)."""

from __future__ import annotations

from server.core.formats.pausing import Slices
from server.core.records.joins import is_long, join_in_slices
from server.core.records.siblings import DamagedRecord
from server.core.records.versions import merge


class Prepared:
    """The joins that were made for the message that is handled next."""

    __slots__ = ("joins",)

    def __init__(self) -> None:
        self.joins: dict[bytes, tuple[bytes, bytes, bytes]] = {}  # by storage key: two records, and their join

    def merge(self, key: bytes, old: bytes | None, record: bytes) -> bytes | None:
        """HOT. Returns the merge of what is stored under a storage key and a record."""
        if self.joins:
            made = self.joins.pop(key, None)
            if made is not None and made[0] == old and made[1] == record:
                return made[2]
        return merge(old, record)

    def add(self, key: bytes, old: bytes, record: bytes) -> Slices[None]:
        """Joins two sound records for the next `merge`, if that takes long. Those that contradict each other are left."""
        if is_long(old, record):
            try:
                merged = yield from join_in_slices(old, record)
            except DamagedRecord:
                return
            self.joins[key] = (old, record, merged)

    def clear(self) -> None:
        """Forgets the joins: the message was handled."""
        self.joins.clear()
