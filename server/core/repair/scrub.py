"""The scrub: every record is read and verified once in `scrub_interval_ms`, whether anybody asks for it or not (P11).

Theory. Damage that nobody reads is found only when the other copies are gone, too. So a procedure walks over all that is
stored, at a pace that takes it round once in the interval, and never faster than the budget of background work allows.
It reads what is on the disk and not what is in the cache. What it finds damaged is mended (mending.py); what is dead, or
has a long clock, becomes a candidate for collection at the key's coordinator (collection.py); what is not kept here is
brought to those who keep it (cleanup.py).

The engine may refuse a whole range because one block in it is damaged. Then another owner tells which keys should be
there, and they are read one by one: those that can still be read are well, the others are mended.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.collection.collection import Collection
from server.core.records import versions
from server.core.records.gaps import read_stretch
from server.core.records.records import PAGE_BYTES, PREFIX_BYTES, SLOT_PREFIX
from server.core.records.versions import DamagedRecord
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

PAUSE_MS_MAX = 60_000
UNPACED_BYTES_PER_MS = 100_000


class Scrub:
    """Reads all records of this node, round and round."""

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        collection: Collection,
        met_stray: Callable[[], None],
    ) -> None:
        self._state = state
        self._met_stray = met_stray
        self._questions = questions
        self._background = background
        self._collection = collection

    def start(self) -> None:
        """Begins, for as long as the node runs."""
        self._background.run_forever("scrub", self._rounds)

    def _rounds(self) -> Steps:
        state = self._state
        yield self._background.pause(0)  # until it is known what time it is
        yield self._background.pause(min(PAUSE_MS_MAX, state.config.scrub_interval_ms))
        while True:
            begun_ms = state.now_ms
            yield from self._round()
            state.statistics.scrubs += 1
            rest_ms = begun_ms + state.config.scrub_interval_ms - state.now_ms
            yield self._background.pause(max(1, rest_ms))

    def _round(self) -> Generator[Step, Any, None]:
        state = self._state
        state.records.rescan_uncounted()
        pages = state.records.keys // BATCH_KEYS + 1
        pause_ms = min(PAUSE_MS_MAX, state.config.scrub_interval_ms // pages * 9 // 10)
        yield from self.walk(0, SLOTS, pause_ms)

    def walk(
        self, first_slot: int, end_slot: int, pause_ms: int = 1, batch_keys: int = BATCH_KEYS, paced: bool = True
    ) -> Generator[Step, Any, None]:
        """Verifies what is stored in some slots, so many keys in a turn. Not `paced`, it spends nothing of the budget of
        background work, and pauses for `pause_ms` after so many keys."""
        records = self._state.records
        start, last = SLOT_PREFIX[first_slot], SLOT_PREFIX[end_slot]
        readable = first_slot  # all slots from here on have been read up to `start`
        while start < last:
            if paced:
                yield from self._background.spend(batch_keys)
            stretch = read_stretch(records, start, last, batch_keys, PAGE_BYTES)
            if stretch.is_gap:
                shift = self._state.route_shift  # a partition has owners of its own
                end = min(stretch.end, SLOT_PREFIX[(_slot(start) >> shift) + 1 << shift])
                yield from self._around_damage(start, end)
                start, readable = end, _slot(end) + 1
                continue
            for key, record in stretch.pairs:
                self._verify(key, record)
            start = stretch.end
            if records.unreadable:
                for slot in range(readable, _slot(start)):
                    records.unreadable.pop(slot, None)
            readable = max(readable, _slot(start))
            if paced:
                yield self._background.pause(pause_ms if stretch.pairs or start == last else 1)
            else:
                size_bytes = sum([len(record) for _, record in stretch.pairs])
                yield self._background.pause(
                    max(pause_ms * len(stretch.pairs) // batch_keys, size_bytes // UNPACED_BYTES_PER_MS)
                )

    def _verify(self, key: bytes, record: bytes) -> None:
        state = self._state
        state.statistics.records_scrubbed += 1
        if not versions.verify(record):
            state.records.damage(key, f"the stored record of key {key[PREFIX_BYTES:]!r} fails its checksum")
            return
        slot = int.from_bytes(key[:2], "big")
        route = state.routes[slot >> state.route_shift]
        if not route.owned:
            self._met_stray()
        elif route.coordinator is None:
            long = versions.clock_entries(record) > state.config.clock_entries_max
            if long or versions.is_dead(record, state.time_ms):
                self._collection.add_candidate(key, 0)

    def _around_damage(self, start: bytes, end: bytes) -> Generator[Step, Any, None]:
        """The engine cannot read from `start` to `end`, places of one partition. Reads what other owners have there, key by
        key. Where nobody answers that is left to the next round."""
        state = self._state
        owners = [owner for owner in state.routes[_slot(start) >> state.route_shift].owners if owner != state.id]
        while start < end:
            answers: Answers = yield self._questions.ask(owners, b"PAGE", start, end, BATCH_KEYS)
            sound = [answer for answer in answers.values() if answer]
            keys = sorted({key: None for answer in sound for key in answer[1::2]})
            full = [answer[-2] for answer in sound if answer[0] == b"1"]
            last = min(full) if full else None
            for key in keys:
                if last is None or key <= last:
                    self._read(key)
            if last is None:
                return
            start = last + b"\0"

    def _read(self, key: bytes) -> None:
        try:
            record = self._state.records.stored(key)
        except DamagedRecord:
            return  # noted by `Records.damage`
        if record is not None:
            self._verify(key, record)


def _slot(key: bytes) -> int:
    return int.from_bytes(key[:2].ljust(2, b"\0"), "big")
