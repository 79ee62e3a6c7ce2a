"""The side of an exchange that answers: it gives hashes, lists and records, and merges what the leader sends.

The idea. Each question is answered in the turn that reads it, leaves nothing behind, and costs at most a page. So the
leader alone decides how far an exchange goes, and may disappear at any point. Every question names the epoch of the
layout; under another epoch there is no answer. Each answer says whether this node serves clients at the moment: the
leader's budget pays for both sides (background.py), and it is spent at the slower pace of the two.

    HASHES leaf_bits parts spans       the hash of each part of each span; none if the leaves here have another size, or
                                       if this node is being filled and `parts` is 1: the hash of a whole span is a vote in
                                       a scan (commands/pages.py), and an exchange opens such a span and goes on
    LIST mode start end start end …    what is stored in the ranges: cut, then checksum and key of each record; in mode
                                       RECORDS cut, key, record, key, record, …; or UNREADABLE and a place: the engine
                                       cannot read the ranges before that place (the previous version names no place)
    FETCH key …                        the record of each key, empty for none, UNREADABLE if it is damaged; perhaps fewer
    MERGE key record …                 merges them: how many records changed here, and how many could not be stored; empty
                                       while this node stores nothing, because its disk is full

A *page* is what one question moves: a batch of keys, and at most `PAGE_BYTES` except for the last record. `cut` is the
last key of a page that does not reach the end of the ranges. The page is complete for all ranges up to `cut`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from server.core.base.state import State
from server.core.messages import exchange_questions as questions
from server.core.messages.asking import UNREADABLE
from server.core.messages.exchange_questions import (
    FetchAnswer,
    Hashes,
    HashesAnswer,
    Keys,
    ListAnswer,
    Listing,
    MergeAnswer,
    Pairs,
)
from server.core.records.gaps import read_stretch
from server.core.records.paging import may_have_more
from server.core.records.records import Records
from server.core.records.trees import Span
from server.core.records.versions import DamagedRecord
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.questions import Answerer, answered_by

PAGE_BYTES = 256 << 10
LISTED_KEYS = 64  # of a page of checksums: more than of one of records, since few of them differ, and are fetched
CHECKSUMS, RECORDS = b"c", b"r"

Range = tuple[bytes, bytes]  # storage keys, the second one excluded; ranges ascend and do not overlap


class RecordPage(NamedTuple):
    """Stored pairs in order, and the key where the page was cut off; an empty `cut` says that there are no more.

    Or, with a `gap_end`, no pairs: the engine cannot read the ranges up to there.
    """

    pairs: list[tuple[bytes, bytes]]
    cut: bytes
    gap_end: bytes = b""


def read_ranges(records: Records, ranges: Sequence[Range], keys_max: int = BATCH_KEYS) -> RecordPage:
    """A page of what is stored in `ranges`, up to the first gap; or the gap, if no pair is before it."""
    pairs: list[tuple[bytes, bytes]] = []
    size = 0
    for start, end in ranges:
        while start < end:
            stretch = read_stretch(records, start, end, keys_max - len(pairs), PAGE_BYTES - size)
            if stretch.is_gap:
                return RecordPage(pairs, pairs[-1][0]) if pairs else RecordPage([], b"", stretch.end)
            pairs += stretch.pairs
            size = sum([len(record) for _, record in pairs])
            if may_have_more(pairs, keys_max, PAGE_BYTES):
                return RecordPage(pairs, pairs[-1][0])
            start = stretch.end
    return RecordPage(pairs, b"")


def split(ranges: Sequence[Range], place: bytes) -> tuple[list[Range], list[Range]]:
    """Splits ranges at a place: what is before it, and the rest. With an empty place everything is before it."""
    if not place:
        return list(ranges), []
    before = [(start, min(end, place)) for start, end in ranges if start < place]
    return before, [(max(start, place), end) for start, end in ranges if end > place]


def rest_of(ranges: Sequence[Range], cut: bytes) -> list[Range]:
    """What is left of `ranges` behind the key `cut`; nothing if `cut` is empty."""
    if not cut:
        return []
    after = cut + b"\0"
    return [(max(start, after), end) for start, end in ranges if end > after]


def absorb(records: Records, key: bytes, record: bytes) -> bool:
    """Merges `record` into the stored one; True if that changed it. Raises DamagedRecord."""
    old = records.get(key)
    records.merge_all([key, record])
    return records.get(key) is not old


def equal_spans(span: Span, parts: int) -> list[Span]:
    """Cuts a range into `parts` of equal size; the last one may be smaller, and there are fewer if it has fewer leaves."""
    start, end = span
    step = -(-(end - start) // parts)
    return [(place, min(place + step, end)) for place in range(start, end, step)]


class ExchangeAnswers:
    """Answers the questions of a leader."""

    def __init__(self, state: State, background: Background) -> None:
        self._state = state
        self._background = background

    def answerers(self) -> dict[bytes, Answerer]:
        """The answerers of this module, by kind of question."""
        table = (
            answered_by(questions.HASHES, self._hashes),
            answered_by(questions.LIST, self._list),
            answered_by(questions.FETCH, self._fetch),
            answered_by(questions.MERGE, self._merge),
        )
        return dict(table)

    def _is_present(self, epoch: int) -> bool:
        layout = self._state.layout
        return layout is not None and epoch == layout.epoch

    def _hashes(self, asked: Hashes) -> HashesAnswer | None:
        if not self._is_present(asked.epoch):
            return None
        trees = self._state.records.trees
        if asked.leaf_bits != trees.leaf_bits or (asked.parts == 1 and self._state.lacks_records):
            return HashesAnswer(self._background.delays_clients, [])
        hashes = [trees.hash_of(part) for span in asked.spans for part in equal_spans(span, asked.parts)]
        return HashesAnswer(self._background.delays_clients, hashes)

    def _list(self, asked: Listing) -> ListAnswer | None:
        if not self._is_present(asked.epoch):
            return None
        busy, has_records = self._background.delays_clients, asked.mode == RECORDS
        page = read_ranges(self._state.records, asked.ranges, BATCH_KEYS if has_records else LISTED_KEYS)
        if page.gap_end:
            return ListAnswer(busy, has_records, b"", {}, page.gap_end)
        if has_records:
            return ListAnswer(busy, True, page.cut, {key: self._readable(key) for key, _ in page.pairs})
        # damaged bytes may be shorter than a checksum
        return ListAnswer(busy, False, page.cut, {key: record[:8].ljust(8, b"\0") for key, record in page.pairs})

    def _fetch(self, asked: Keys) -> FetchAnswer | None:
        if not self._is_present(asked.epoch):
            return None
        found: list[bytes] = []
        size = 0
        for key in asked.keys:
            found.append(self._readable(key))
            size += len(found[-1])
            if size >= PAGE_BYTES:
                break
        return FetchAnswer(self._background.delays_clients, found)

    def _readable(self, key: bytes) -> bytes:
        """The verified record, empty for none."""
        try:
            return self._state.records.get(key) or b""
        except DamagedRecord:
            return UNREADABLE

    def _merge(self, asked: Pairs) -> MergeAnswer | None:
        state, pairs = self._state, asked.pairs
        if not self._is_present(asked.epoch):
            return None
        if state.disk_full:
            return MergeAnswer(self._background.delays_clients, -1, 0)
        changed = failed = 0
        for key, record in zip(pairs[::2], pairs[1::2], strict=True):
            try:
                changed += absorb(state.records, key, record)
            except DamagedRecord:
                failed += 1
        return MergeAnswer(self._background.delays_clients, changed, failed)
