"""Reading around damaged blocks: every readable key is returned, and a gap ends where its block ends."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from protocol.slots import SLOTS
from server.core.records.gaps import read_stretch
from server.core.records.records import SLOT_PREFIX, Records, storage_key_of
from server.core.records.versions import supersede
from tests.bounded import bounded

KEYS = sorted(storage_key_of(b"key-%d" % number) for number in range(60))
RECORD = supersede(None, b"actor-a.", 1, b"value")
END = SLOT_PREFIX[SLOTS]
NO_LIMIT = 1 << 30


class Damage(Exception):
    """The error of this engine for a damaged block."""


@dataclass
class Store:
    """An engine with blocks of three keys. The blocks in `bad` cannot be read. A seek into a block reads it."""

    bad: list[int]
    pairs: dict[bytes, bytes] = field(default_factory=lambda: dict.fromkeys(KEYS, RECORD))
    reads: int = 0

    def get(self, key: bytes) -> bytes | None:
        """The value."""
        return self.pairs.get(key)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values."""
        return [self.pairs.get(key) for key in keys]

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        """Raises Damage if it has to read a bad block. Like RocksDB it knows the last key of each block without reading."""
        self.reads += 1
        found = bounded(self.pairs, start, end, limit, bytes_max)
        ahead = [key for key in KEYS if key >= start and (end is None or key < end)]
        looked_at = [key for key, _ in found]
        if len(found) < limit:
            looked_at += [key for key in KEYS if key >= start][len(ahead) : len(ahead) + 1]  # to see that it is behind
        if any(KEYS.index(key) // 3 in self.bad for key in looked_at):
            raise Damage("a block fails its checksum")
        return found


@given(st.lists(st.integers(0, 19), max_size=5), st.sampled_from([1, 4, 16, 100]))
def test_all_that_can_be_read_is_read(bad: list[int], limit: int) -> None:
    store = Store([])
    records = Records(store, 0, Damage)
    records.open()
    store.bad = bad
    found: list[bytes] = []
    gaps: list[tuple[bytes, bytes]] = []
    start = SLOT_PREFIX[0]
    while start < END:
        store.reads = 0
        stretch = read_stretch(records, start, END, limit, NO_LIMIT)
        assert store.reads < 200
        assert stretch.end > start
        assert not (stretch.pairs and stretch.is_gap)
        found += [key for key, _ in stretch.pairs]
        gaps += [(start, stretch.end)] if stretch.is_gap else []
        start = stretch.end
    sound = [key for place, key in enumerate(KEYS) if place // 3 not in bad]
    assert set(found) <= set(sound)
    assert all(key in found or any(first <= key < end for first, end in gaps) for key in sound)
    if len(set(bad)) < 2:  # else what lies between two bad blocks may be taken for a part of one gap
        assert found == sound
    assert bool(gaps) == bool(bad)
    hit = {int.from_bytes(key[:2], "big") for place, key in enumerate(KEYS) if place // 3 in bad}
    assert hit <= set(records.unreadable)
    assert bool(records.damaged) == bool(bad)
