"""The questions about records: pages of keys, exchanges, copies, hints, and votes.

Theory. Each record in a question or an answer is verified whole when it is read. Each range is within the key space. An
answer has no more parts than were asked for. (asking.py says what a question declares.) What each question is for is
described where it is answered: page_answers.py, exchange_answers.py, mending.py, cleanup.py, hint_replay.py, votes.py.
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

UNREADABLE: Final = b"?"  # stands for a damaged record; it is shorter than any key or record
LIVE: Final = b"live"
DROPPED, PRUNED = b"drop", b"prune"
_RECORD_WORDS: Final = (b"", UNREADABLE)
_LEAF_BITS_MAX: Final = 30
_PARTS_MAX: Final = 1024
_PREFIX_BYTES: Final = 6
_COUNTS_BYTES: Final = 16  # the counts of one partition
_spans_in: Final = Struct(">II").iter_unpack


# --- pages of keys (page_answers.py)


class Page(NamedTuple):
    """Asks for about `limit` keys of a range of storage keys; `live`: only those that may be live."""

    start: bytes
    end: bytes
    limit: int
    live: bool


def _range(items: Reader) -> tuple[bytes, bytes]:
    """Reads a range of storage keys, the end excluded. Each boundary has at least the two bytes of a slot."""
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
        head.append(items.data(_PREFIX_BYTES, _PREFIX_BYTES))
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


# --- exchanges (exchange_answers.py). All questions have the epoch; all answers begin with "are clients served here".


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


def _boundary(items: Reader) -> bytes:
    """Reads a boundary in the key space, its end included."""
    boundary = items.data()
    if not len(boundary) >= 2 or boundary > b"\x40\0\0\0":
        raise Malformed(f"{shown(boundary)} is no boundary in the key space")
    return boundary


def _listing_answer(items: Reader, asked: Items) -> list[bytes]:
    head = [b"%d" % items.flag(), items.data()]
    if head[1] == UNREADABLE:
        return head + ([_boundary(items)] if items.left() else [])  # the end of the gap; the version before omits it
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
    """Reads how many records have changed what was stored, and how many could not be stored; nothing if refused."""
    busy = b"%d" % items.flag()
    return [busy, b"%d" % items.count(), b"%d" % items.count()] if items.left() else [busy]


HASHES: Final = Question(b"HASHES", _hashes, _hashes_answer)
LIST: Final = Question(b"LIST", _listing, _listing_answer)
FETCH: Final = Question(b"FETCH", lambda items: Keys(items.epoch(), items.storage_keys()), _fetch_answer)
MERGE: Final = Question(b"MERGE", lambda items: Pairs(items.epoch(), items.pairs()), _merge_answer)
ABSORB: Final = Question(b"ABSORB", lambda items: items.pairs(), done)


# --- mending (mending.py), cleanup (cleanup.py), hints (hint_replay.py)


class Sums(NamedTuple):
    """Storage keys with the checksums of the asker's records, and the epoch of the asker's layout."""

    epoch: int
    sums: dict[bytes, bytes]


def _sums(items: Reader) -> dict[bytes, bytes]:
    count = items.left()
    sums = {items.storage_key(): items.checksum() for _ in range((count + 1) // 2)}
    if 2 * len(sums) != count:
        raise Malformed("a storage key twice")
    return sums


def _copies_answer(items: Reader, asked: Items) -> list[bytes]:
    """Reads for each key, or the first ones: `=` and a record, `-` for no record, or `!` for a damaged one."""
    copies = _at_most(len(asked), items.blobs())
    for copy in copies:
        if copy not in (b"-", b"!") and not (copy[:1] == b"=" and verify(copy[1:])):
            raise Malformed(f"{shown(copy)} is no copy of a record")
    return copies


class Verify(NamedTuple):
    """Begins a run that reads all records of some partitions (verification.py), or asks for its progress."""

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
    """A ballot: what is to be done with some records (storage key -> checksum), and the epoch of the layout."""

    name: bytes
    epoch: int
    mode: bytes
    sums: dict[bytes, bytes]


class Line(NamedTuple):
    """Asks a member to draw the line of a ballot."""

    name: bytes
    epoch: int


class Fence(NamedTuple):
    """Asks a member to raise its fences: a ballot, and the clock reading of each member's line."""

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
