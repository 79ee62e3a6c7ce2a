"""The cache of records: an approximate LRU in two generations, each a dictionary in 256 shards.

Theory. When the young generation is full, it becomes the old generation, and the former old one is dropped. A record
that is used again moves from the old to the young generation. So the cache keeps about the most recently used records.
A hit costs one look-up and no bookkeeping.

Why shards: a dictionary of a million records takes 100 ms to grow and 400 ms to be freed (measured, CPython 3.11). A
turn must not stop for so long. So each generation is divided into shards by one byte of the key's hash, and the shards
rotate one after the other. To rotate one shard takes a millisecond or two in a cache of a gigabyte.

Why a third of the bytes is young: shards rotate one by one, so a young shard has on average been filled for half as
long as an old one. The size of a shard is computed when it rotates. Until then one number counts the bytes of all young
shards.
"""

from __future__ import annotations

from typing import Final

SHARDS: Final = 256
SHARD_BYTE: Final = (
    5  # index in a storage key of the last byte of the hash, so the keys of one slot spread over all shards
)
ENTRY_OVERHEAD_BYTES: Final = 180  # two bytes objects and a dictionary entry (measured)

_NOT_CACHED: Final = b"not in the young shard"  # compared by identity
Shard = dict[bytes, bytes | None]  # storage key -> record; None: known to be absent


class RecordCache:
    """The shards and their sizes. `young[key[SHARD_BYTE]]` is the young shard of a storage key."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.young: list[Shard] = [{} for _ in range(SHARDS)]
        self.old: list[Shard] = [{} for _ in range(SHARDS)]
        self.young_bytes = 0
        self._old_bytes = [0] * SHARDS
        self._next = 0  # the shard to rotate next

    @property
    def size_bytes(self) -> int:
        """The counted size of all cached records."""
        return self.young_bytes + sum(self._old_bytes)

    def rotate(self) -> None:
        """Makes young shards old, the oldest first, until the young ones take at most a third of `bytes_max`."""
        for _ in range(SHARDS):
            if self.young_bytes <= self.bytes_max // 3:
                return
            shard = self._next
            self._next = (shard + 1) % SHARDS
            size = size_of(self.young[shard])
            self.old[shard], self.young[shard] = self.young[shard], {}
            self._old_bytes[shard] = size
            self.young_bytes -= size
        self.young_bytes = 0  # all young shards are empty now

    def young_of(self, keys: list[bytes]) -> list[bytes | None] | None:
        """HOT. Returns what is cached under storage keys, in order, if all of them are in the young shards; else None."""
        young = self.young
        try:
            return [young[key[SHARD_BYTE]][key] for key in keys]
        except KeyError:
            return None

    def peek(self, key: bytes) -> bytes | None:
        """Returns the record that is cached under a storage key; None if none is, or if it is known to be absent."""
        shard = key[SHARD_BYTE]
        return self.young[shard][key] if key in self.young[shard] else self.old[shard].get(key)

    def drop(self, key: bytes) -> None:
        """Drops what is cached under a storage key. The caller has the record elsewhere."""
        shard = key[SHARD_BYTE]
        if key in self.young[shard]:
            self.young_bytes -= size_of({key: self.young[shard].pop(key)})
        if key in self.old[shard]:
            self._old_bytes[shard] -= size_of({key: self.old[shard].pop(key)})

    def show(self, key: bytes, record: bytes | None) -> bytes | None:
        """Makes `Records.get` return `record` for a storage key, and returns what `hide` needs to end that. It must end in
        the same turn (commands/transactions/snapshot.py)."""
        shard = self.young[key[SHARD_BYTE]]
        before = shard.get(key, _NOT_CACHED)
        shard[key] = record
        return before

    def hide(self, key: bytes, before: bytes | None) -> None:
        """Ends `show`, which has returned `before`."""
        shard = self.young[key[SHARD_BYTE]]
        if before is _NOT_CACHED:
            del shard[key]
        else:
            shard[key] = before

    def clear(self) -> None:
        """Drops everything, for tests. The caller must have committed all writes."""
        for shards in (self.young, self.old):
            for shard in shards:
                shard.clear()
        self.young_bytes = 0
        self._old_bytes = [0] * SHARDS


def size_of(shard: Shard) -> int:
    """Returns the bytes that a shard takes in memory."""
    size = ENTRY_OVERHEAD_BYTES * len(shard)
    for key, record in shard.items():
        size += len(key)
        if record is not None:
            size += len(record)
    return size
