"""The common case of a read, a merge and a write, in C (protocol/c/records.h): with one look-up of each kind for a record.

A process without the module in C has no `CommonCase`, and records.py then does everything by itself, as it does all that is
not common. A SET at -P 16 takes 27,019 instructions over three nodes with what is in C (messages included), 30,077 without.
"""

from __future__ import annotations

import sys
from typing import Any, Final

from mypy_extensions import i16, i64

from protocol.native import native
from server.core.records.cache import RecordCache
from server.core.records.trees import Trees

_young_of: Final = native("young_of")
_merge_pairs: Final = native("merge_pairs")
_overwrite: Final = native("overwrite")
Dot = tuple[bytes, int]  # an actor and its counter
Overwritten = tuple[bytes, bytes, bytes | None]  # the storage key, its new record, and the one before


class CommonCase:
    """Changes the cache, the tree, and the batch that is given. `changed` and `created` tell how many records the last
    merge has changed, and how many of these are new."""

    __slots__ = ("_cache", "_shelf", "changed", "created")

    def __init__(self, trees: Trees, cache: RecordCache, record_bytes_max: int) -> None:
        self._cache = cache
        self._shelf: Any = trees.shelf(cache.young, min(record_bytes_max, sys.maxsize))
        self.changed = self.created = 0

    def young_of(self, keys: list[bytes]) -> list[bytes | None] | None:
        """HOT. As `RecordCache.young_of`."""
        found: list[bytes | None] | None = _young_of(self._shelf, keys)
        return found

    def merge(self, pairs: list[bytes], index: i64, writes: dict[bytes, bytes | None]) -> i64:
        """HOT. Merges storage key, record, … from `index` on. Returns the index of the first pair that is left."""
        found: tuple[int, int, int, int] = _merge_pairs(self._shelf, pairs, index, writes)
        self.changed, self.created = found[1], found[2]
        self._cache.young_bytes += found[3]
        return found[0]

    def overwrite(
        self, slot: i16, key: bytes, dot: Dot, value: bytes, writes: dict[bytes, bytes | None]
    ) -> Overwritten | None:
        """HOT. Writes a value that supersedes what is stored. Returns storage key, record, and the record before; or None,
        if nothing has changed."""
        found: Overwritten | None = _overwrite(self._shelf, key, slot, dot[0], dot[1], value, writes)
        if found is not None:
            old = found[2]
            self._cache.young_bytes += len(found[1]) - (0 if old is None else len(old))
        return found


def common_case(trees: Trees, cache: RecordCache, record_bytes_max: int) -> CommonCase | None:
    """Returns the common case in C, if this process has it. Records of more than `record_bytes_max` are not common."""
    return None if _merge_pairs is None else CommonCase(trees, cache, record_bytes_max)
