"""The replica's side of reading many keys: skeletons, made where the records lie, and only of what may be live.

Theory. A *skeleton* is a record without its values: enough to merge it with those of other owners, to tell live from dead,
and to list its key. Each answer is bounded (keys, records looked at, bytes read), so none holds a turn.

    PAGE start end limit         [b"1" if there is more else b"0", key, skeleton, key, skeleton, …], dead records included
    PAGE start end limit LIVE    [LIVE, next, key, skeleton, …]: of those of which some sibling is live; complete up to
                                 `next`, a place where no key is cut off from others of the same place
    HEADS key …                  the skeleton of each key, dead or not, empty for none; perhaps fewer
    KEYCOUNTS partitions         for each partition its hash, its live keys, and how many of them expire

What may be left out of a page is what is dead whatever other owners hold: if no sibling is live in any of the records
that are joined, none is in the join, whose siblings are among theirs. Where one owner lists a key and another one does
not, the asker cannot know what the other one holds, an older value or a newer tombstone, and asks with HEADS
(commands/pages.py). A slot without live keys is not even read: the trees count them.

A damaged record ends in an answer that says nothing, so another owner speaks. Nothing is said either of what is not kept
here, or not any more: the asker goes by another layout. The version before knows neither LIVE, which it ignores, nor
HEADS and KEYCOUNTS, which it answers with nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct

from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.messages.record_questions import LIVE, Page
from server.core.records import versions
from server.core.records.records import PAGE_BYTES, PREFIX_BYTES, SLOT_PREFIX, may_go_on
from server.core.records.versions import LASTING, DamagedRecord

EXAMINED_MAX = 1000  # records looked at for one answer: a few ms while they lie in memtables
_CHUNK_KEYS = 64  # read at once, at first: it takes RocksDB ms to begin a scan while there are many memtables
_SKIPPED_KEYS = 64  # so many dead records in a row of slots are worth another seek
COUNTS = Struct(">8sII")
UNKNOWN = COUNTS.pack(b"unknown!", 0, 0xFFFFFFFF)  # the counts of a partition where something cannot be read


def page(state: State, asked: Page) -> list[bytes]:
    """PAGE, see above."""
    start, end, limit = asked.start, asked.end, asked.limit
    first, last = int.from_bytes(start[:2], "big"), int.from_bytes(end[:2], "big") - 1
    shift = state.route_shift
    if not all(route.owned for route in state.routes[first >> shift : (last >> shift) + 1]):
        return []
    try:
        if asked.live:
            return _LivePage(state, end, limit).read(start)
        return _whole_page(state, start, end, limit)
    except DamagedRecord:
        return []


def _whole_page(state: State, start: bytes, end: bytes, limit: int) -> list[bytes]:
    """The page has keys of two places at least, or the asker could not go on."""
    found: list[bytes] = []
    count = size = 0
    while True:
        asked = limit - count
        pairs = state.records.page(start, end, asked, PAGE_BYTES)
        for key, record in pairs:
            _check(state, key, record)
            found += (key, versions.skeleton(record))
            size += len(record)
        count += len(pairs)
        more = may_go_on(pairs, asked, PAGE_BYTES)
        may_end = size >= PAGE_BYTES and found[0][:PREFIX_BYTES] != found[-2][:PREFIX_BYTES]
        if count == limit or not more or may_end:
            return [b"1" if more else b"0", *found]
        start = pairs[-1][0] + b"\0"


def _check(state: State, key: bytes, record: bytes) -> None:
    """Raises DamagedRecord if it is."""
    if len(key) < PREFIX_BYTES or not versions.verify(record):
        raise state.records.damage(key, f"the stored record of key {key[PREFIX_BYTES:]!r} fails its checksum")


class _LivePage:
    """A page of live keys in the making."""

    def __init__(self, state: State, end: bytes, limit: int) -> None:
        self._state = state
        self._end = end
        self._limit = limit
        self._found: list[bytes] = []
        self._examined = 0
        self._size = 0
        self._place = b""  # of the last record
        self._chunk_keys = _CHUNK_KEYS  # to be read next

    def read(self, start: bytes) -> list[bytes]:
        """The answer. Raises DamagedRecord."""
        end_slot = int.from_bytes(self._end[:2], "big")
        slot = int.from_bytes(start[:2], "big")
        cut: bytes | None = None
        while cut is None:
            first, slot = self._next_stretch(slot, end_slot)
            if first == slot:
                break
            cut = self._read_stretch(max(start, SLOT_PREFIX[first]), SLOT_PREFIX[slot])
        return [LIVE, cut or self._end.ljust(PREFIX_BYTES, b"\0"), *self._found]

    def _next_stretch(self, slot: int, end_slot: int) -> tuple[int, int]:
        """The next slots that are worth reading in a row; none (both the same) if there are none."""
        records = self._state.records
        counts = records.trees.counts
        first = slot = end = records.next_live_slot(slot, end_slot)
        skipped = keys = 0
        while slot < end_slot and skipped < _SKIPPED_KEYS and keys <= EXAMINED_MAX:
            keys += counts[slot]
            if records.has_live(slot):
                skipped, end = 0, slot + 1
            else:
                skipped += counts[slot]
            slot += 1
        return first, end

    def _read_stretch(self, start: bytes, end: bytes) -> bytes | None:
        """Reads on; the place where the page is cut off, if it is."""
        records = self._state.records
        while True:
            limit = max(self._chunk_keys, self._limit - len(self._found) // 2 + 1)
            self._chunk_keys *= 4
            bytes_max = max(1, PAGE_BYTES - self._size)
            pairs = records.page(start, end, limit, bytes_max)
            for key, record in pairs:
                place = key[:PREFIX_BYTES]
                if place != self._place and self._is_full():
                    return place
                self._place = place
                self._take(key, record)
            if not may_go_on(pairs, limit, bytes_max):
                return None
            start = pairs[-1][0] + b"\0"

    def _is_full(self) -> bool:
        return (
            len(self._found) >= 2 * self._limit or self._examined >= EXAMINED_MAX or self._size >= PAGE_BYTES
        ) and self._examined > 0

    def _take(self, key: bytes, record: bytes) -> None:
        """HOT. Looks at a record."""
        self._examined += 1
        self._size += len(key) + len(record)
        _check(self._state, key, record)
        if versions.standing(record) == LASTING or not versions.is_dead(record, self._state.time_ms):
            self._found += (key, versions.skeleton(record))


def heads(state: State, keys: Sequence[bytes]) -> list[bytes]:
    """HEADS, see above."""
    if not all(state.owns(key) for key in keys):
        return []
    found: list[bytes] = []
    size = 0
    try:
        for key in keys:
            record = state.records.stored(key)
            found.append(b"" if record is None else versions.skeleton(record))
            size += 0 if record is None else len(record)
            if size >= PAGE_BYTES:
                break
    except DamagedRecord:
        return []
    return found


def key_counts(state: State, partitions: int) -> list[bytes]:
    """KEYCOUNTS, see above: one word, COUNTS of each partition."""
    if state.layout is None or state.layout.partitions != partitions:
        return []
    trees = state.records.trees
    width = SLOTS // partitions
    found = []
    for partition in range(partitions):
        first = partition * width
        if not state.routes[partition].owned or state.records.is_spoilt(first, first + width):
            found.append(UNKNOWN)
            continue
        live, expiring = sum(trees.live[first : first + width]), sum(trees.expiring[first : first + width])
        found.append(COUNTS.pack(trees.hash_of(trees.span_of(partitions, partition)), live, expiring))
    return [b"".join(found)]
