"""The replica's side of scans: lists keys with skeletons of their records, and counts keys.

Theory. A scan (SCAN, KEYS, DBSIZE) asks several owners of a range and merges their answers. It does not need the values.
So a replica sends a *skeleton* of each record: the record without its values. A skeleton is enough to merge it with those
of other owners, to see whether the key is live, and to list the key. For a hash, a set or the like, a LIVE page has only
a *summary*: a skeleton without most of the fields. If the summaries of a key differ, they cannot be merged. Then the node
that scans (the *asker*) asks for the skeletons (HEADS). Each answer is bounded in keys, in records examined and in bytes
read, so that no answer takes too long a part of a turn.

    question                     answer
    PAGE start end limit         [b"1" if there is more else b"0", key, skeleton, key, skeleton, …], dead records included
    PAGE start end limit LIVE    [LIVE, next, key, summary, …]: only records with a live sibling, of one space if the
    [space]                      question names one. A prefix is the first 6 bytes of a storage
                                 key: the slot and a hash of the key. The answer is complete for all storage keys before
                                 the prefix `next`. All keys with the same prefix are in the same answer.
    HEADS key …                  the skeleton of each key, dead or live, empty if there is none. The answer may end early.
    KEYCOUNTS partitions         for each partition: its hash, how many live keys it has (of one space if the question
    [space]                      names one), and how many of these have an expiry

Why a LIVE page may leave out dead records: the siblings of a merge all come from the merged records. So if no owner has
a live sibling of a key, the merge has no live sibling either. If one owner lists a key and another does not, the other
may hold nothing, an older record that is dead, or a newer tombstone. The asker then asks that owner with HEADS
(commands/pages.py). The hash trees count the live keys of each slot, so slots without live keys are skipped. There is
one exception: if the slots without live keys between two slots with live keys hold fewer than `_SKIPPED_KEYS` records
together, they are read, too, because another seek would cost more.

In these cases the answer is empty (KEYCOUNTS: `UNKNOWN` for that partition), and the asker uses another owner:
- a record in the range is damaged;
- this node does not own the range under its present layout;
- this node is being filled, so it lacks records that other owners have (membership/filling.py).

Nodes of the previous version ignore LIVE, and give empty answers to HEADS and KEYCOUNTS.
"""

from __future__ import annotations

from collections.abc import Sequence

from protocol.databases import EVERY_SPACE, space_of
from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.messages.record_questions import Counting, KeyCount, PageAnswer, PageQuestion
from server.core.records import versions
from server.core.records.live_slots import has_live, is_uncounted, next_live_slot
from server.core.records.paging import PAGE_BYTES, may_have_more
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.records.versions import PERSISTENT, DamagedRecord

EXAMINED_MAX = 1000  # records examined for one answer: reading them from RocksDB's memtables takes a few ms
_CHUNK_KEYS = 64  # keys of the first read; later reads are larger, because each read costs RocksDB milliseconds
_SKIPPED_KEYS = 64  # dead records in a row; reading so many costs more than another seek
UNKNOWN = KeyCount(b"unknown!", 0, 0xFFFFFFFF)  # stands for a partition whose keys this node cannot count


def page(state: State, asked: PageQuestion) -> PageAnswer | None:
    """Answers PAGE (see above)."""
    start, end, limit = asked.start, asked.end, asked.limit
    first, last = int.from_bytes(start[:2], "big"), int.from_bytes(end[:2], "big") - 1
    shift = state.route_shift
    if state.lacks_records or not all(route.owned for route in state.routes[first >> shift : (last >> shift) + 1]):
        return None
    try:
        if asked.live:
            return _LivePage(state, end, limit, asked.space).read(start)
        return _whole_page(state, start, end, limit)
    except DamagedRecord:
        return None


def _whole_page(state: State, start: bytes, end: bytes, limit: int) -> PageAnswer:
    """Answers PAGE without LIVE.

    The asker continues at the last prefix that it has seen, so it would make no progress with a page of a single prefix.
    If `PAGE_BYTES` are reached before `limit`, the page ends only if it has keys of two prefixes or more."""
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
        more = may_have_more(pairs, asked, PAGE_BYTES)
        may_end = size >= PAGE_BYTES and found[0][:PREFIX_BYTES] != found[-2][:PREFIX_BYTES]
        if count == limit or not more or may_end:
            return PageAnswer(found, more)
        start = pairs[-1][0] + b"\0"


def _check(state: State, key: bytes, record: bytes) -> None:
    """Raises DamagedRecord if the checksum of a record is wrong or its storage key is too short."""
    if len(key) < PREFIX_BYTES or not versions.verify(record):
        raise state.records.damage(key, state.records.listeners.wrong_checksum(key))


class _LivePage:
    """Collects the answer to one PAGE with LIVE."""

    def __init__(self, state: State, end: bytes, limit: int, space: int) -> None:
        self._state = state
        self._space = space
        self._end = end
        self._limit = limit
        self._found: list[bytes] = []
        self._examined = 0
        self._size = 0
        self._prefix = b""  # of the last record examined
        self._chunk_keys = _CHUNK_KEYS  # size of the next read

    def read(self, start: bytes) -> PageAnswer:
        """Returns the answer. Raises DamagedRecord."""
        end_slot = int.from_bytes(self._end[:2], "big")
        slot = int.from_bytes(start[:2], "big")
        cut: bytes | None = None
        while cut is None:
            first, slot = self._next_slots(slot, end_slot)
            if first == slot:
                break
            cut = self._read_slots(max(start, SLOT_PREFIX[first]), SLOT_PREFIX[slot])
        return PageAnswer(self._found, next_prefix=cut or self._end.ljust(PREFIX_BYTES, b"\0"))

    def _next_slots(self, slot: int, end_slot: int) -> tuple[int, int]:
        """Returns the next run of slots (first, end) to read with one seek; both are equal if there is none.

        A run begins with a slot that has live keys. It goes on over slots without live keys while these hold fewer than
        `_SKIPPED_KEYS` records in a row, and ends at about `EXAMINED_MAX` records.
        """
        records = self._state.records
        counts = records.trees.counts
        first = slot = end = next_live_slot(records, slot, end_slot, self._space)
        skipped = keys = 0
        while slot < end_slot and skipped < _SKIPPED_KEYS and keys <= EXAMINED_MAX:
            keys += counts[slot]
            if has_live(records, slot, self._space):
                skipped, end = 0, slot + 1
            else:
                skipped += counts[slot]
            slot += 1
        return first, end

    def _read_slots(self, start: bytes, end: bytes) -> bytes | None:
        """Reads storage keys from `start` to `end`. Returns the first prefix that had no room on the page, or None."""
        records = self._state.records
        while True:
            limit = max(self._chunk_keys, self._limit - len(self._found) // 2 + 1)
            self._chunk_keys *= 4
            bytes_max = max(1, PAGE_BYTES - self._size)
            pairs = records.page(start, end, limit, bytes_max)
            for key, record in pairs:
                prefix = key[:PREFIX_BYTES]
                if prefix != self._prefix and self._is_full():
                    return prefix
                self._prefix = prefix
                self._examine(key, record)
            if not may_have_more(pairs, limit, bytes_max):
                return None
            start = pairs[-1][0] + b"\0"

    def _is_full(self) -> bool:
        return (
            len(self._found) >= 2 * self._limit or self._examined >= EXAMINED_MAX or self._size >= PAGE_BYTES
        ) and self._examined > 0

    def _examine(self, key: bytes, record: bytes) -> None:
        """HOT. Adds a record to the page if it may be live and belongs to the space of the question."""
        self._examined += 1
        if self._space != EVERY_SPACE and space_of(key[PREFIX_BYTES:]) != self._space:
            return
        self._size += len(key) + len(record)
        _check(self._state, key, record)
        if versions.expiry_class(record) == PERSISTENT or not versions.is_dead(record, self._state.time_ms):
            self._found += (key, versions.summary(record))


def heads(state: State, keys: Sequence[bytes]) -> list[bytes] | None:
    """Answers HEADS (see above)."""
    if state.lacks_records or not all(state.owns(key) for key in keys):
        return None
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
        return None
    return found


def key_counts(state: State, asked: Counting) -> list[KeyCount] | None:
    """Answers KEYCOUNTS (see above)."""
    partitions = asked.partitions
    if state.layout is None or state.layout.partitions != partitions:
        return None
    if state.lacks_records:
        return [UNKNOWN] * partitions
    trees = state.records.trees
    width = SLOTS // partitions
    found = []
    for partition in range(partitions):
        first = partition * width
        if not state.routes[partition].owned or is_uncounted(state.records, first, first + width):
            found.append(UNKNOWN)
            continue
        live, expiring = trees.keys_of(asked.space, first, first + width)
        found.append(KeyCount(trees.hash_of(trees.span_of(partitions, partition)), live, expiring))
    return found
