"""The scrub: reads and verifies every record once in `scrub_interval_ms`, whether a client reads it or not (P11).

The problem. Damage that no client reads is found only when the other copies are gone, too.

The idea. A procedure walks over everything that is stored. Its pace takes it round once in the interval, within the
budget of background work. It reads the disk, not the cache. It hands on what it finds:

    a damaged record                              mending.py fetches it from other owners
    a dead record, or one with a long clock       a candidate for collection at the key's coordinator (collection.py)
    a record of which this node is no owner       cleanup.py sends it to the owners and deletes it

If one block of a range is damaged, the engine may refuse the whole range. Then other owners say which keys should be
there, and the scrub reads these one by one: some can still be read, and the others are mended.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.collection.collection import Collection
from server.core.messages.record_questions import PAGE, PageAnswer, PageQuestion
from server.core.records import versions
from server.core.records.gaps import read_stretch
from server.core.records.live_slots import rescan_uncounted
from server.core.records.paging import PAGE_BYTES
from server.core.records.records import SLOT_PREFIX
from server.core.records.versions import DamagedRecord
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

PAUSE_MS_MAX = 60_000  # between two batches of keys
UNPACED_BYTES_PER_MS = 100_000  # a walk that is not paced pauses a millisecond for so many bytes


class Scrub:
    """Verifies all records of this node again and again. `met_stray` is called for a record that it does not own."""

    def __init__(self, state: State, questions: Questions, background: Background, collection: Collection) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._collection = collection
        self._with_siblings = 0
        self.keys_with_siblings: int | None = None  # here, as the last complete round has counted them

    def start(self) -> None:
        """Begins the scrub, which runs as long as the process."""
        self._background.run_forever("scrub", self._rounds)

    def _rounds(self) -> Steps:
        state = self._state
        yield self._background.sleep(0)  # the first tick sets the time
        yield self._background.sleep(min(PAUSE_MS_MAX, state.config.scrub_interval_ms))
        while True:
            begun_ms = state.now_ms
            yield from self._round()
            state.statistics.scrubs += 1
            rest_ms = begun_ms + state.config.scrub_interval_ms - state.now_ms
            yield self._background.sleep(max(1, rest_ms))

    def _round(self) -> Generator[Step, Any, None]:
        state = self._state
        rescan_uncounted(state.records)
        pages = state.records.keys // BATCH_KEYS + 1
        pause_ms = min(PAUSE_MS_MAX, state.config.scrub_interval_ms // pages * 9 // 10)
        self._with_siblings = 0
        yield from self.walk(0, SLOTS, pause_ms)
        self.keys_with_siblings = self._with_siblings

    def walk(
        self, first_slot: int, end_slot: int, pause_ms: int = 1, batch_keys: int = BATCH_KEYS, paced: bool = True
    ) -> Generator[Step, Any, int]:
        """Verifies the records from `first_slot` up to `end_slot`, which is excluded; returns how many it has read.

        At most `batch_keys` are read in a turn. A paced walk spends from the budget of background work, and pauses for
        `pause_ms` after each batch. One that is not paced pauses for `pause_ms` per `batch_keys` keys, or longer for many
        bytes.
        """
        records = self._state.records
        start, last = SLOT_PREFIX[first_slot], SLOT_PREFIX[end_slot]
        count = 0
        readable = first_slot  # every slot from here up to `start` could be read
        while start < last:
            if paced:
                yield from self._background.spend(batch_keys)
            stretch = read_stretch(records, start, last, batch_keys, PAGE_BYTES)
            if stretch.is_gap:
                shift = self._state.route_shift  # only one partition at a time: the next one has other owners
                end = min(stretch.end, SLOT_PREFIX[(_slot(start) >> shift) + 1 << shift])
                count += yield from self._around_damage(start, end)
                start, readable = end, _slot(end) + 1
                continue
            for key, record in stretch.pairs:
                self._with_siblings += self._verify(key, record) and paced and versions.sibling_count(record) > 1
            count += len(stretch.pairs)
            start = stretch.end
            if records.unreadable:
                for slot in range(readable, _slot(start)):
                    records.unreadable.pop(slot, None)
            readable = max(readable, _slot(start))
            if paced:
                yield self._background.sleep(pause_ms if stretch.pairs or start == last else 1)
            else:
                size_bytes = sum([len(record) for _, record in stretch.pairs])
                yield self._background.sleep(
                    max(pause_ms * len(stretch.pairs) // batch_keys, size_bytes // UNPACED_BYTES_PER_MS)
                )
        return count

    def _verify(self, key: bytes, record: bytes) -> bool:
        """Whether the record is sound. Tells of what is to be done about it."""
        state = self._state
        state.statistics.records_scrubbed += 1
        if not versions.verify(record):
            state.records.damage(key, state.records.listeners.wrong_checksum(key))
            return False
        slot = int.from_bytes(key[:2], "big")
        route = state.routes[slot >> state.route_shift]
        if not route.owned:
            self._state.cleanup_due = True
        elif route.coordinator is None:
            long = versions.clock_entries(record) > state.config.clock_entries_max
            if long or versions.is_dead(record, state.time_ms):
                self._collection.add_candidate(key, 0)
        return True

    def _around_damage(self, start: bytes, end: bytes) -> Generator[Step, Any, int]:
        """Reads a range of one partition that the engine refuses, by the keys that other owners have in it.

        Returns how many records it could read. If no owner answers, the next round tries again.
        """
        state = self._state
        owners = [owner for owner in state.routes[_slot(start) >> state.route_shift].owners if owner != state.id]
        count = 0
        while start < end:
            answers: Answers = yield self._questions.ask(owners, PAGE, PageQuestion(start, end, BATCH_KEYS, False))
            sound: list[PageAnswer] = [answer for answer in answers.values() if answer is not None]
            keys = sorted({key: None for answer in sound for key in answer.pairs[::2]})
            full = [answer.pairs[-2] for answer in sound if answer.has_more]
            last = min(full) if full else None
            for key in keys:
                if last is None or key <= last:
                    count += self._read(key)
            if last is None:
                break
            start = last + b"\0"
        return count

    def _read(self, key: bytes) -> bool:
        """Reads and verifies one record from the disk; False if there is none, or it cannot be read."""
        try:
            record = self._state.records.stored(key)
        except DamagedRecord:
            return False  # `Records.stored` has reported it for mending
        if record is not None:
            self._verify(key, record)
        return record is not None


def _slot(key: bytes) -> int:
    return int.from_bytes(key[:2].ljust(2, b"\0"), "big")
