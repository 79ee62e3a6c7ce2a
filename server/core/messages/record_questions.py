"""The questions about records: pages of keys, exchanges, copies, hints, and votes.

Theory. Every record in a question or an answer is verified whole when it is read, every range lies within the key space,
and an answer has no more parts than were asked for (asking.py says what a question declares). What each question is for
stands with its answerer: page_answers.py, exchange_answers.py, mending.py, cleanup.py, hint_replay.py, votes.py.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from protocol.bounds import COUNTER_MAX
from protocol.slots import SLOTS
from server.core.messages import shapes
from server.core.messages.asking import NAME_BYTES_MAX, Items, Question, bytes_for, done, json_answer, partitions_in
from server.core.messages.reader import CHECKSUM_BYTES, Malformed, Reader, is_storage_key, shown
from server.core.records.structure import verify

UNREADABLE: Final = b"?"  # in place of a record that is damaged: shorter than any key or record
LIVE: Final = b"live"
DROPPED, PRUNED = b"drop", b"prune"
_RECORD_WORDS: Final = (b"", UNREADABLE)
_LEAF_BITS_MAX: Final = 30
_PARTS_MAX: Final = 1024
_PLACE_BYTES: Final = 6
_COUNTS_BYTES: Final = 16  # of a partition
_spans_in: Final = Struct(">II").iter_unpack


# --- pages of keys (page_answers.py)


class Page(NamedTuple):
    """What lies between two places of the key space, about `limit` keys of it; only what may be live, if asked so."""

    start: bytes
    end: bytes
    limit: int
    live: bool


def _range(items: Reader) -> tuple[bytes, bytes]:
    """A range of storage keys, the end excluded. Slots are whole in it: each place has two bytes at least."""
    start, end = items.data(), items.data()
    if not b"\0\0" <= start < end <= b"\x40\0\0\0" or min(len(start), len(end)) < 2:
        raise Malformed(f"from {shown(start)} to {shown(end)} is no range of storage keys")
    return start, end


def _page(items: Reader) -> Page:
    start, end = _range(items)
    limit = items.integer(1 << 40, 1)
    return Page(start, end, limit, items.left() > 0 and items.word((LIVE,)) == LIVE)


def _page_answer(items: Reader, asked: Items) -> list[bytes]:
    head = [items.word((b"0", b"1", LIVE))]
    if head[0] == LIVE:
        head.append(items.data(_PLACE_BYTES, _PLACE_BYTES))
    pairs = items.pairs()
    if head[0] == b"1" and not pairs:
        raise Malformed("there is more behind nothing")
    return [*head, *pairs]


def _heads_answer(items: Reader, asked: Items) -> list[bytes]:
    return _at_most(len(asked), items.records((b"",)))


def _at_most(count: int, records: list[bytes]) -> list[bytes]:
    if len(records) > count:
        raise Malformed(f"{len(records)} records, {count} were asked for")
    return records


PAGE: Final = Question(b"PAGE", _page, _page_answer)
HEADS: Final = Question(b"HEADS", lambda items: items.storage_keys(), _heads_answer)
KEYCOUNTS: Final = Question(
    b"KEYCOUNTS", partitions_in, lambda items, asked: [items.data(*[_COUNTS_BYTES * int(asked[0])] * 2)]
)


# --- exchanges (exchange_answers.py): all of them name the epoch, and all answers begin with whether clients are served


class Hashes(NamedTuple):
    """The hashes of the parts of some ranges of leaves, so many parts each."""

    epoch: int
    leaf_bits: int
    parts: int
    spans: list[tuple[int, int]]


class Listing(NamedTuple):
    """What lies in ranges of storage keys: checksums, or whole records."""

    epoch: int
    mode: bytes
    ranges: list[tuple[bytes, bytes]]


class Keys(NamedTuple):
    """Storage keys under the layout of an epoch."""

    epoch: int
    keys: list[bytes]


class Pairs(NamedTuple):
    """Storage key, record, … under the layout of an epoch."""

    epoch: int
    pairs: list[bytes]


def _hashes(items: Reader) -> Hashes:
    epoch, leaf_bits, parts = items.epoch(), items.integer(_LEAF_BITS_MAX), items.integer(_PARTS_MAX, 1)
    spans: list[tuple[int, int]] = list(_spans_in(items.packed(8)))
    if not all(start < end <= 1 << leaf_bits for start, end in spans):
        raise Malformed("a range of leaves that is none")
    return Hashes(epoch, leaf_bits, parts, spans)


def _hashes_answer(items: Reader, asked: Items) -> list[bytes]:
    return [b"%d" % items.flag(), items.packed(8)]


def _listing(items: Reader) -> Listing:
    epoch, mode = items.epoch(), items.word((b"c", b"r"))
    if not items.left():
        raise Malformed("no ranges")
    return Listing(epoch, mode, [_range(items) for _ in range((items.left() + 1) // 2)])


def _place(items: Reader) -> bytes:
    """A place of the key space, its end included."""
    place = items.data()
    if not len(place) >= 2 or place > b"\x40\0\0\0":
        raise Malformed(f"{shown(place)} is no place of the key space")
    return place


def _listing_answer(items: Reader, asked: Items) -> list[bytes]:
    head = [b"%d" % items.flag(), items.data()]
    if head[1] == UNREADABLE:
        return head + ([_place(items)] if items.left() else [])  # where the gap ends; the version before does not say
    if head[1] and not is_storage_key(head[1]):
        raise Malformed(f"{shown(head[1])} is no storage key")
    if asked[1] == b"r":
        return head + items.pairs(_RECORD_WORDS)
    listed = items.blobs()
    if not all(is_storage_key(item[CHECKSUM_BYTES:]) for item in listed):
        raise Malformed("a checksum without a storage key")
    return head + listed


def _fetch_answer(items: Reader, asked: Items) -> list[bytes]:
    busy = b"%d" % items.flag()
    records = _at_most(len(asked) - 1, items.records(_RECORD_WORDS))
    if not records:
        raise Malformed("no record")
    return [busy, *records]


def _merge_answer(items: Reader, asked: Items) -> list[bytes]:
    """How many have changed what was there, and how many could not be taken; no numbers where nothing is taken."""
    busy = b"%d" % items.flag()
    return [busy, b"%d" % items.count(), b"%d" % items.count()] if items.left() else [busy]


HASHES: Final = Question(b"HASHES", _hashes, _hashes_answer)
LIST: Final = Question(b"LIST", _listing, _listing_answer)
FETCH: Final = Question(b"FETCH", lambda items: Keys(items.epoch(), items.storage_keys()), _fetch_answer)
MERGE: Final = Question(b"MERGE", lambda items: Pairs(items.epoch(), items.pairs()), _merge_answer)
ABSORB: Final = Question(b"ABSORB", lambda items: items.pairs(), done)


# --- mending (mending.py), letting go (cleanup.py), hints (hint_replay.py)


class Sums(NamedTuple):
    """Storage keys, and the checksum of the record that the asker has of each, under the layout of an epoch."""

    epoch: int
    sums: dict[bytes, bytes]


def _sums(items: Reader) -> dict[bytes, bytes]:
    count = items.left()
    sums = {items.storage_key(): items.checksum() for _ in range((count + 1) // 2)}
    if 2 * len(sums) != count:
        raise Malformed("a storage key twice")
    return sums


def _copies_answer(items: Reader, asked: Items) -> list[bytes]:
    """Of each key, or of the first ones, a record behind `=`, or `-` for nothing, `!` for damaged bytes."""
    copies = _at_most(len(asked), items.blobs())
    for copy in copies:
        if copy not in (b"-", b"!") and not (copy[:1] == b"=" and verify(copy[1:])):
            raise Malformed(f"{shown(copy)} is no copy of a record")
    return copies


class Verify(NamedTuple):
    """A run that reads all that is held of some partitions (verification.py): begun, or asked how far it is."""

    epoch: int
    run: str
    partitions: list[int]


def _verify(items: Reader) -> Verify:
    epoch, run = items.epoch(), items.text(NAME_BYTES_MAX)
    return Verify(epoch, run, [items.integer(SLOTS - 1) for _ in range(items.left())])


VERIFY: Final = Question(b"VERIFY", _verify, json_answer(shapes.VERIFY))
COPIES: Final = Question(b"COPIES", lambda items: items.storage_keys(), _copies_answer)
HOLDS: Final = Question(
    b"HOLDS",
    lambda items: Sums(items.epoch(), _sums(items)),
    lambda items, asked: bytes_for((len(asked) - 1) // 2, items),
)
HINTS: Final = Question(
    b"HINTS", lambda items: items.left() > 0 and items.word((b"REPLAY",)) == b"REPLAY", json_answer(shapes.HINTS)
)


# --- votes (votes.py)


class Ballot(NamedTuple):
    """A ballot under the layout of an epoch: what is to be done with some records, each named by its checksum."""

    name: bytes
    epoch: int
    mode: bytes
    sums: dict[bytes, bytes]


class Line(NamedTuple):
    """A ballot whose line is to be drawn."""

    name: bytes
    epoch: int


class Fence(NamedTuple):
    """A ballot, and the clock of each member's line."""

    name: bytes
    epoch: int
    lines: dict[str, int]


def _ballot(items: Reader) -> Ballot:
    return Ballot(items.data(NAME_BYTES_MAX), items.epoch(), items.word((DROPPED, PRUNED)), _sums(items))


def _fence(items: Reader) -> Fence:
    name, epoch = items.data(NAME_BYTES_MAX), items.epoch()
    return Fence(name, epoch, {items.node_id(): items.integer(COUNTER_MAX) for _ in range((items.left() + 1) // 2)})


def _line_answer(items: Reader, asked: Items) -> list[bytes]:
    word = items.data(20)
    if word != b"wait" and not (word.isdigit() and int(word) <= COUNTER_MAX):
        raise Malformed(f"{shown(word)} is no reading of a clock")
    return [word]


VOTE: Final = Question(b"VOTE", _ballot, lambda items, asked: bytes_for((len(asked) - 3) // 2, items))
LINE: Final = Question(b"LINE", lambda items: Line(items.data(NAME_BYTES_MAX), items.epoch()), _line_answer)
FENCE: Final = Question(b"FENCE", _fence, lambda items, asked: [items.word((b"done",)), *items.storage_keys()])
DROP: Final = Question(b"DROP", _ballot, lambda items, asked: [b"%d" % items.count()])

ALL: Final = (
    PAGE, HEADS, KEYCOUNTS, HASHES, LIST, FETCH, MERGE, ABSORB, COPIES, HOLDS, HINTS, VOTE, LINE, FENCE, DROP,
    VERIFY,
)  # fmt: skip
