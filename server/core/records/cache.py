"""The cache of records: two generations of a dictionary, each in 256 shards, so that no turn pays for its size.

Theory. When the young generation is full it becomes the old one, and what is used again moves back: that keeps about the
most recently used records at the cost of one look-up, with no bookkeeping on a hit. A dictionary of a million records takes
100 ms to grow and 400 ms to be freed (measured, CPython 3.11), and a turn must not stand still for so long. So the
generations are cut into shards by a byte of the key's hash, and turn over one shard after the other: that takes a
millisecond or two in a cache of a gigabyte.

Since shards turn over one by one, a young shard has on average half of the time of an old one to fill: so a third of the
bytes is young. A shard's size is summed up when it turns over; until then one number counts all young shards.
"""

from __future__ import annotations

from typing import Final

SHARDS: Final = 256
SHARD_BYTE: Final = 5  # of a storage key: the last one of the hash, so that keys of one slot are in all shards, too
ENTRY_OVERHEAD_BYTES: Final = 180  # two bytes objects and a dictionary entry, measured

Shard = dict[bytes, bytes | None]  # storage key -> record; None: known to be absent


class RecordCache:
    """The shards, and how many bytes they hold. `young[key[SHARD_BYTE]]` is the shard of a storage key."""

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.young: list[Shard] = [{} for _ in range(SHARDS)]
        self.old: list[Shard] = [{} for _ in range(SHARDS)]
        self.young_bytes = 0
        self._old_bytes = [0] * SHARDS
        self._next = 0  # the shard that turns over next

    @property
    def size_bytes(self) -> int:
        """The size of all that is cached, as far as it is counted here."""
        return self.young_bytes + sum(self._old_bytes)

    def turn_over(self) -> None:
        """Makes young shards old, the oldest first, until the young ones take a third of `bytes_max` at most."""
        for _ in range(SHARDS):
            if self.young_bytes <= self.bytes_max // 3:
                return
            shard = self._next
            self._next = (shard + 1) % SHARDS
            size = size_of(self.young[shard])
            self.old[shard], self.young[shard] = self.young[shard], {}
            self._old_bytes[shard] = size
            self.young_bytes -= size
        self.young_bytes = 0  # nothing is young now

    def clear(self) -> None:
        """Forgets everything, for tests: what this turn has written and not committed must not be among it."""
        for shards in (self.young, self.old):
            for shard in shards:
                shard.clear()
        self.young_bytes = 0
        self._old_bytes = [0] * SHARDS


def size_of(shard: Shard) -> int:
    """The bytes that a shard takes in memory."""
    size = ENTRY_OVERHEAD_BYTES * len(shard)
    for key, record in shard.items():
        size += len(key)
        if record is not None:
            size += len(record)
    return size
