"""The questions of an exchange: two owners compare their records and send each other what differs.

Theory. Every question has the epoch of the asker's layout. Every answer says whether the answering node serves clients at
the moment. exchange_answers.py says what each question is for.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from server.core.messages.asking import (
    UNREADABLE,
    Items,
    Question,
    as_item,
    as_they_are,
    at_most,
    flattened,
    range_in,
    read_done,
    write_done,
)
from server.core.messages.reader import CHECKSUM_BYTES, Malformed, Reader, is_storage_key, shown

_RECORD_WORDS: Final = (b"", UNREADABLE)
_LEAF_BITS_MAX: Final = 30
_PARTS_MAX: Final = 1024
_SPAN: Final = Struct(">II")


class Hashes(NamedTuple):
    """Asks for hashes: each range of leaves is cut into `parts` parts, and each part has a hash."""

    epoch: int
    leaf_bits: int
    parts: int
    spans: list[tuple[int, int]]


class Listing(NamedTuple):
    """Asks for the content of ranges of storage keys: checksums (mode c) or whole records (mode r)."""

    epoch: int
    mode: bytes
    ranges: list[tuple[bytes, bytes]]


class Keys(NamedTuple):
    """Storage keys, and the epoch of the asker's layout."""

    epoch: int
    keys: list[bytes]


class Pairs(NamedTuple):
    """Storage key, record, …, and the epoch of the asker's layout."""

    epoch: int
    pairs: list[bytes]


def _hashes(items: Reader) -> Hashes:
    epoch, leaf_bits, parts = items.epoch(), items.integer(_LEAF_BITS_MAX), items.integer(_PARTS_MAX, 1)
    spans: list[tuple[int, int]] = list(_SPAN.iter_unpack(items.packed(8)))
    if not all(start < end <= 1 << leaf_bits for start, end in spans):
        raise Malformed("a range of leaves that is none")
    return Hashes(epoch, leaf_bits, parts, spans)


def _hashes_items(asked: Hashes) -> list[bytes]:
    spans = b"".join([_SPAN.pack(*span) for span in asked.spans])
    return [*map(as_item, (asked.epoch, asked.leaf_bits, asked.parts)), spans]


class HashesAnswer(NamedTuple):
    """The hash of each part of each range, in order; no hashes if the leaves of the answering node have another size.

    `is_busy`, here and in the other answers of an exchange: clients of the answering node wait longer at the moment because
    of background work (work/pace.py). Older versions say so as long as they serve clients.
    """

    is_busy: bool
    hashes: list[bytes]


class ListAnswer(NamedTuple):
    """By storage key: what is stored in some ranges up to the key `cut`, or up to their end if that is empty.

    With `has_records` (mode r) these are records, UNREADABLE for a damaged one; else their checksums. With a `gap_end`
    there is nothing: the engine cannot read the ranges up to there. An empty `gap_end`, of the previous version, does not
    say up to where.
    """

    is_busy: bool
    has_records: bool
    cut: bytes
    stored: dict[bytes, bytes]
    gap_end: bytes | None = None


class FetchAnswer(NamedTuple):
    """The records of the first keys that were asked for: empty for none, UNREADABLE for a damaged one."""

    is_busy: bool
    records: list[bytes]


class MergeAnswer(NamedTuple):
    """How many records have changed what was stored, and how many could not be stored.

    `changed` is -1 if the answering node takes no records at all, because its disk is full.
    """

    is_busy: bool
    changed: int
    failed: int


def _flag(is_set: bool) -> bytes:
    return b"1" if is_set else b"0"


def _hashes_answer(items: Reader, asked: Items) -> HashesAnswer:
    is_busy, packed = items.flag(), items.packed(8)
    return HashesAnswer(is_busy, [packed[place : place + 8] for place in range(0, len(packed), 8)])


def _hashes_answer_items(answer: HashesAnswer) -> list[bytes]:
    return [_flag(answer.is_busy), b"".join(answer.hashes)]


def _listing(items: Reader) -> Listing:
    epoch, mode = items.epoch(), items.word((b"c", b"r"))
    if not items.left():
        raise Malformed("no ranges")
    return Listing(epoch, mode, [range_in(items) for _ in range((items.left() + 1) // 2)])


def _boundary(items: Reader) -> bytes:
    """Reads a boundary in the key space, its end included."""
    boundary = items.data()
    if not len(boundary) >= 2 or boundary > b"\x40\0\0\0":
        raise Malformed(f"{shown(boundary)} is no boundary in the key space")
    return boundary


def _listing_answer(items: Reader, asked: Items) -> ListAnswer:
    is_busy, cut, has_records = items.flag(), items.data(), asked[1] == b"r"
    if cut == UNREADABLE:
        return ListAnswer(is_busy, has_records, b"", {}, _boundary(items) if items.left() else b"")
    if cut and not is_storage_key(cut):
        raise Malformed(f"{shown(cut)} is no storage key")
    if has_records:
        pairs = items.pairs(_RECORD_WORDS)
        return ListAnswer(is_busy, True, cut, dict(zip(pairs[::2], pairs[1::2], strict=True)))
    listed = items.blobs()
    if not all(is_storage_key(item[CHECKSUM_BYTES:]) for item in listed):
        raise Malformed("a checksum without a storage key")
    return ListAnswer(is_busy, False, cut, {item[CHECKSUM_BYTES:]: item[:CHECKSUM_BYTES] for item in listed})


def _listing_answer_items(answer: ListAnswer) -> list[bytes]:
    head = _flag(answer.is_busy)
    if answer.gap_end is not None:
        return [head, UNREADABLE, answer.gap_end] if answer.gap_end else [head, UNREADABLE]
    if answer.has_records:
        return [head, answer.cut, *flattened(answer.stored.items())]
    return [head, answer.cut, *[checksum + key for key, checksum in answer.stored.items()]]


def _fetch_answer(items: Reader, asked: Items) -> FetchAnswer:
    is_busy = items.flag()
    records = at_most(len(asked) - 1, items.records(_RECORD_WORDS))
    if not records:
        raise Malformed("no record")
    return FetchAnswer(is_busy, records)


def _merge_answer(items: Reader, asked: Items) -> MergeAnswer:
    is_busy = items.flag()
    return MergeAnswer(is_busy, items.count(), items.count()) if items.left() else MergeAnswer(is_busy, -1, 0)


def _merge_answer_items(answer: MergeAnswer) -> list[bytes]:
    counts = [as_item(answer.changed), as_item(answer.failed)] if answer.changed >= 0 else []
    return [_flag(answer.is_busy), *counts]


HASHES: Final = Question(b"HASHES", _hashes_items, _hashes, _hashes_answer_items, _hashes_answer)
LIST: Final[Question[Listing, ListAnswer]] = Question(
    b"LIST",
    lambda listing: [as_item(listing.epoch), listing.mode, *flattened(listing.ranges)],
    _listing,
    _listing_answer_items,
    _listing_answer,
)
FETCH: Final[Question[Keys, FetchAnswer]] = Question(
    b"FETCH",
    lambda asked: [as_item(asked.epoch), *asked.keys],
    lambda items: Keys(items.epoch(), items.storage_keys()),
    lambda answer: [_flag(answer.is_busy), *answer.records],
    _fetch_answer,
)
MERGE: Final[Question[Pairs, MergeAnswer]] = Question(
    b"MERGE",
    lambda asked: [as_item(asked.epoch), *asked.pairs],
    lambda items: Pairs(items.epoch(), items.pairs()),
    _merge_answer_items,
    _merge_answer,
)
ABSORB: Final = Question(b"ABSORB", as_they_are, lambda items: items.pairs(), write_done, read_done)

EXCHANGE_QUESTIONS: Final = (HASHES, LIST, FETCH, MERGE, ABSORB)
