"""Cleanup: a node deletes records that it does not own, each one only after all present owners have confirmed it (P8).

The problem. A node may store records of partitions that it does not own: it was an owner before the layout changed, or it
crashed while it held the record as a hint. Such a record may be the only copy.

The idea. Each record goes through three steps:

 1. The owners say whether they hold exactly this record (HOLDS, one byte a key).
 2. An owner that does not is sent the record (ABSORB). Its answer leaves after its commit.
 3. Once all owners have confirmed the record by either step, and this node still stores exactly that record, it deletes it.

If an owner cannot be reached or does not store the record, the record stays and is tried again. Keys with an open hint stay
until the hint is confirmed. Keys with writes in flight stay, too.

A round visits the partitions that this node does not own and that hold keys. The key counts of the hash trees name them
without a scan.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any

from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.messages.asking import flattened
from server.core.messages.exchange_questions import ABSORB
from server.core.messages.record_questions import HOLDS, Sums
from server.core.records.versions import DamagedRecord
from server.core.repair.exchange_answers import PAGE_BYTES, Range, read_ranges, rest_of, split
from server.core.ring.layout import Layout
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.procedures import Step, Steps
from server.core.work.questions import Answers, Questions

POLL_MS = 250
RETRY_MS = 1000


class Cleanup:
    """Deletes records of partitions that this node does not own, once every owner has confirmed that it holds them.

    `in_flight` says which of some keys have unconfirmed writes. `scrub` verifies the records from one slot to another.
    """

    def __init__(
        self,
        state: State,
        questions: Questions,
        background: Background,
        in_flight: Callable[[Sequence[bytes]], dict[bytes, None]],
        scrub: Callable[[int, int], Generator[Step, Any, int]],
    ) -> None:
        self._state = state
        self._questions = questions
        self._background = background
        self._in_flight = in_flight
        self._scrub = scrub
        background.run_forever("cleanup", self._steps)

    def remaining(self) -> int:
        """How many keys this node stores and does not own."""
        layout, trees = self._state.layout, self._state.records.trees
        if layout is None:
            return 0
        return sum(trees.keys_in(trees.span_of(layout.partitions, partition)) for partition in self._foreign(layout))

    def holds(self, asked: Sums) -> bytes | None:
        """Answers HOLDS: a byte for each key, 1 if this node owns it and stores exactly that record."""
        layout = self._state.layout
        if layout is None or asked.epoch != layout.epoch:
            return None
        return bytes(self._holds(key, checksum) for key, checksum in asked.sums.items())

    def _holds(self, key: bytes, checksum: bytes) -> bool:
        try:
            record = self._state.records.get(key)
        except DamagedRecord:
            return False
        return record is not None and record[:8] == checksum and self._state.owns(key)

    def _foreign(self, layout: Layout) -> list[int]:
        return [p for p in range(layout.partitions) if self._state.id not in layout.keepers(p)]

    def _steps(self) -> Steps:
        yield self._background.sleep(0)
        while True:
            layout = self._state.layout
            if layout is not None and self._state.cleanup_due and self._state.room != FOR_NOTHING:
                self._state.cleanup_due = False
                yield from self._round(layout)
                if self._state.cleanup_due:
                    yield self._background.sleep(RETRY_MS)
            yield self._background.sleep(POLL_MS)

    def _round(self, layout: Layout) -> Generator[Step, Any, None]:
        trees = self._state.records.trees
        for partition in self._foreign(layout):
            span = trees.span_of(layout.partitions, partition)
            ranges = [trees.bounds_of(span)] if trees.keys_in(span) else []
            while ranges:
                ranges = yield from self._page(layout, partition, ranges)
                if self._state.layout is not layout:
                    self._state.cleanup_due = True
                    return

    def _page(self, layout: Layout, partition: int, ranges: list[Range]) -> Generator[Step, Any, list[Range]]:
        """Deletes what is confirmed of the next few records of a partition; returns the ranges that are left."""
        keepers = layout.keepers(partition)
        if not all(self._state.is_usable(keeper) for keeper in keepers):
            self._state.cleanup_due = True
            return []
        yield from self._background.spend(BATCH_KEYS)
        if self._state.layout is not layout:
            return []
        page = read_ranges(self._state.records, ranges)
        if page.gap_end:  # the engine cannot read there: the scrub mends what others have, and a later round repeats
            self._state.cleanup_due = True
            first_slot, last_slot = layout.slot_range(partition)
            yield from self._scrub(first_slot, last_slot + 1)
            return split(ranges, page.gap_end)[1]
        keys = [key for key, _ in page.pairs if not self._state.hints.holds(key)]
        batch = self._batch(keys)
        confirmed = (yield from self._confirm(layout, keepers, batch)) if batch else batch
        for key, record in confirmed.items():
            self._delete(layout, key, record)
        if len(confirmed) < len(keys):
            self._state.cleanup_due = True
        return rest_of(ranges, page.cut)

    def _batch(self, keys: list[bytes]) -> dict[bytes, bytes]:
        """The records of those keys that can be read and have no hint and no write in flight."""
        state = self._state
        busy = self._in_flight(keys)
        batch = {}
        for key in keys:
            try:
                record = state.records.get(key)
            except DamagedRecord:
                continue
            if record is not None and key not in busy and not state.hints.holds(key):
                batch[key] = record
        return batch

    def _confirm(
        self, layout: Layout, keepers: Sequence[str], batch: dict[bytes, bytes]
    ) -> Generator[Step, Any, dict[bytes, bytes]]:
        """The records of `batch` that all owners have confirmed."""
        sums = {key: record[:8] for key, record in batch.items()}
        answers: Answers = yield self._questions.ask(keepers, HOLDS, Sums(layout.epoch, sums))
        confirmed = dict(batch)
        for keeper in keepers:
            flags: bytes | None = answers.get(keeper)
            if flags is None:
                return {}
            lacking = {key: batch[key] for key, is_held in zip(batch, flags, strict=True) if not is_held}
            stored = (yield from self._send_missing(layout, keeper, lacking)) if lacking else lacking
            for key in lacking:
                if key not in stored:
                    confirmed.pop(key, None)
        return confirmed

    def _send_missing(
        self, layout: Layout, keeper: str, lacking: dict[bytes, bytes]
    ) -> Generator[Step, Any, dict[bytes, bytes]]:
        """Sends an owner records that it lacks, if they are unchanged here; returns those that it has stored."""
        if self._state.layout is not layout:
            return {}
        present = self._batch(list(lacking))
        sent: dict[bytes, bytes] = {}
        size = 0
        for key, record in lacking.items():
            size += len(record)
            if present.get(key) == record and (not sent or size <= PAGE_BYTES):
                sent[key] = record
        if not sent:
            return {}
        answers = yield self._questions.ask([keeper], ABSORB, flattened(sent.items()))
        return sent if answers.get(keeper) else {}

    def _delete(self, layout: Layout, key: bytes, record: bytes) -> None:
        """Deletes a confirmed record, if it is still the one that is stored and neither the layout nor its use changed."""
        state = self._state
        if state.layout is layout and self._batch([key]).get(key) == record and not state.owns(key):
            state.forget_guest(key, record)
            state.statistics.records_evicted += 1
