"""The side of an exchange that is asked: hashes, lists and records of what lies here, and taking what the other has.

Theory. Each question is answered out of the present turn, remembers nothing, and costs no more than a page: so the asker
alone decides how far an exchange goes, and may be lost at any point. All questions name the layout's epoch, and under
another one there is no answer. Each answer begins with a word about whether clients are served here at the moment, so
that the asker, whose budget pays for both (background.py), spends it at our pace.

    HASHES leaf_bits parts spans       the hash of each part of each span; nothing if our leaves are not theirs
    LIST mode start end start end …    what lies in the ranges: cut, then checksum and key of each record, or, in mode
                                       RECORDS, key, record, key, record, …; or UNREADABLE and a place: nothing is known of
                                       what lies before that (the version before says no place)
    FETCH key …                        the record of each key, empty for none, UNREADABLE if it is damaged; perhaps fewer
    MERGE key record …                 merges them: how many have changed what is here, how many could not be taken; or
                                       nothing, when nothing is taken at present

A *page* is what one question moves: a batch of keys, and no more bytes than `PAGE_BYTES` but for the last record. `cut` is
the last key of a page that does not reach the end of the ranges; what lies before it, in all of them, is complete.
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
    """Stored pairs in order, and where they were cut off; an empty `cut` says that there are no more.

    Or, with a `gap_end`, the engine cannot read: nothing is known of the ranges up to there."""

    pairs: list[tuple[bytes, bytes]]
    cut: bytes
    gap_end: bytes = b""


def read_page(records: Records, ranges: Sequence[Range]) -> Page:
    """A page of what is stored in `ranges`, up to the first gap; or the gap, if nothing lies before it."""
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
    """What of `ranges` lies before a place, and what from there on; everything before it if that is empty."""
    if not place:
        return list(ranges), []
    before = [(start, min(end, place)) for start, end in ranges if start < place]
    return before, [(max(start, place), end) for start, end in ranges if end > place]


def rest_of(ranges: Sequence[Range], cut: bytes) -> list[Range]:
    """What is left of `ranges` behind the key `cut`; nothing if that is empty."""
    if not cut:
        return []
    after = cut + b"\0"
    return [(max(start, after), end) for start, end in ranges if end > after]


def absorb(records: Records, key: bytes, record: bytes) -> bool:
    """Merges `record` into what is stored; whether that has changed it. Raises DamagedRecord."""
    old = records.get(key)
    records.merge_all([key, record])
    return records.get(key) is not old


def encode_spans(spans: Sequence[Span]) -> bytes:
    """Ranges of leaves in a message."""
    return b"".join([_pack_span(start, end) for start, end in spans])


def parts_of(span: Span, parts: int) -> list[Span]:
    """The range cut into so many of equal size, the last one perhaps smaller; fewer when it has not so many leaves."""
    start, end = span
    step = -(-(end - start) // parts)
    return [(place, min(place + step, end)) for place in range(start, end, step)]


class ExchangeAnswers:
    """Answers the questions of exchanges."""

    def __init__(self, state: State, background: Background) -> None:
        self._state = state
        self._background = background

    def answerers(self) -> dict[bytes, Answerer]:
        """What the table of questions needs."""
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
            return [page.cut, *[record[:8] + key for key, record in page.pairs]]
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
