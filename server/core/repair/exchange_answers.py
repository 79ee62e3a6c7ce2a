"""The side of an exchange that answers: it gives hashes, lists and records, and merges what the leader sends.

The idea. Each question is answered in the turn that reads it, leaves nothing behind, and costs at most a page. So the
leader alone decides how far an exchange goes, and may disappear at any point. Every question names the epoch of the
layout; under another epoch the answer is empty. Each answer begins with a word that says whether this node serves clients
at the moment: the leader's budget pays for both sides (background.py), and it is spent at the slower pace of the two.

    HASHES leaf_bits parts spans       the hash of each part of each span; empty if the leaves here have another size
    LIST mode start end start end …    what is stored in the ranges: cut, then checksum and key of each record; in mode
                                       RECORDS cut, key, record, key, record, …; or UNREADABLE and a place: the engine
                                       cannot read the ranges before that place (the version before names no place)
    FETCH key …                        the record of each key, empty for none, UNREADABLE if it is damaged; perhaps fewer
    MERGE key record …                 merges them: how many records changed here, and how many could not be stored; empty
                                       while this node stores nothing, because its disk is full

A *page* is what one question moves: a batch of keys, and at most `PAGE_BYTES` except for the last record. `cut` is the
last key of a page that does not reach the end of the ranges. The page is complete for all ranges up to `cut`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from typing import NamedTuple

from server.core.base.state import State
from server.core.messages import record_questions as questions
from server.core.messages.record_questions import UNREADABLE, Hashes, Listing
from server.core.records.gaps import read_stretch
from server.core.records.records import Records, may_have_more
from server.core.records.trees import Span
from server.core.records.versions import DamagedRecord
from server.core.work.background import BATCH_KEYS, Background
from server.core.work.questions import Answerer, answered_by

PAGE_BYTES = 256 << 10
CHECKSUMS, RECORDS = b"c", b"r"
_pack_span = Struct(">II").pack

Range = tuple[bytes, bytes]  # storage keys, the second one excluded; ranges ascend and do not overlap


class Page(NamedTuple):
    """Stored pairs in order, and the key where the page was cut off; an empty `cut` says that there are no more.

    Or, with a `gap_end`, no pairs: the engine cannot read the ranges up to there.
    """

    pairs: list[tuple[bytes, bytes]]
    cut: bytes
    gap_end: bytes = b""


def read_page(records: Records, ranges: Sequence[Range]) -> Page:
    """A page of what is stored in `ranges`, up to the first gap; or the gap, if no pair is before it."""
    pairs: list[tuple[bytes, bytes]] = []
    size = 0
    for start, end in ranges:
        while start < end:
            stretch = read_stretch(records, start, end, BATCH_KEYS - len(pairs), PAGE_BYTES - size)
            if stretch.is_gap:
                return Page(pairs, pairs[-1][0]) if pairs else Page([], b"", stretch.end)
            pairs += stretch.pairs
            size = sum([len(record) for _, record in pairs])
            if may_have_more(pairs, BATCH_KEYS, PAGE_BYTES):
                return Page(pairs, pairs[-1][0])
            start = stretch.end
    return Page(pairs, b"")


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


def encode_spans(spans: Sequence[Span]) -> bytes:
    """Encodes ranges of leaves for a message."""
    return b"".join([_pack_span(start, end) for start, end in spans])


def parts_of(span: Span, parts: int) -> list[Span]:
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
            answered_by(questions.HASHES, lambda asked: self._under_layout(asked.epoch, lambda: self._hashes(asked))),
            answered_by(questions.LIST, lambda asked: self._under_layout(asked.epoch, lambda: self._list(asked))),
            answered_by(
                questions.FETCH, lambda asked: self._under_layout(asked.epoch, lambda: self._fetch(asked.keys))
            ),
            answered_by(
                questions.MERGE, lambda asked: self._under_layout(asked.epoch, lambda: self._merge(asked.pairs))
            ),
        )
        return dict(table)

    def _under_layout(self, epoch: int, answer: Callable[[], list[bytes]]) -> list[bytes]:
        layout = self._state.layout
        if layout is None or epoch != layout.epoch:
            return []
        return [b"1" if self._background.busy else b"0", *answer()]

    def _hashes(self, asked: Hashes) -> list[bytes]:
        trees = self._state.records.trees
        if asked.leaf_bits != trees.leaf_bits:
            return [b""]
        return [b"".join([trees.hash_of(part) for span in asked.spans for part in parts_of(span, asked.parts)])]

    def _list(self, asked: Listing) -> list[bytes]:
        page = read_page(self._state.records, asked.ranges)
        if page.gap_end:
            return [UNREADABLE, page.gap_end]
        if asked.mode == CHECKSUMS:
            # damaged bytes may be shorter than a checksum
            return [page.cut, *[record[:8].ljust(8, b"\0") + key for key, record in page.pairs]]
        return [page.cut, *[item for key, _ in page.pairs for item in (key, self._readable(key))]]

    def _fetch(self, keys: Sequence[bytes]) -> list[bytes]:
        found: list[bytes] = []
        size = 0
        for key in keys:
            found.append(self._readable(key))
            size += len(found[-1])
            if size >= PAGE_BYTES:
                break
        return found

    def _readable(self, key: bytes) -> bytes:
        """The verified record, empty for none."""
        try:
            return self._state.records.get(key) or b""
        except DamagedRecord:
            return UNREADABLE

    def _merge(self, pairs: Sequence[bytes]) -> list[bytes]:
        state = self._state
        if state.disk_full:
            return []
        changed = refused = 0
        for key, record in zip(pairs[::2], pairs[1::2], strict=True):
            try:
                changed += absorb(state.records, key, record)
            except DamagedRecord:
                refused += 1
        return [b"%d" % changed, b"%d" % refused]
