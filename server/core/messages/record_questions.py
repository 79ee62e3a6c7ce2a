"""The questions about records: pages of keys, copies, hints, and votes (and exchanges: exchange_questions.py).

Theory. Each record in a question or an answer is verified whole when it is read. Each range is within the key space. An
answer has no more parts than were asked for. (asking.py says what a question declares.) What each question is for is
described where it is answered: page_answers.py, exchange_answers.py, mending.py, cleanup.py, hint_replay.py, votes.py.
"""

from __future__ import annotations

from struct import Struct
from typing import Any, Final, NamedTuple

from protocol.bounds import COUNTER_MAX
from protocol.databases import DATABASES, EVERY_SPACE
from protocol.slots import SLOTS
from server.core.messages import shapes
from server.core.messages.asking import (
    NAME_BYTES_MAX,
    UNREADABLE,
    Items,
    Question,
    as_item,
    as_they_are,
    at_most,
    flattened,
    json_answer,
    partitions_in,
    range_in,
    read_flags,
    write_document,
    write_flags,
)
from server.core.messages.reader import Malformed, Reader, shown
from server.core.records.structure import verify

LIVE: Final = b"live"
DROPPED, PRUNED, FOLDED = b"drop", b"prune", b"fold"
WAIT: Final = -1  # the answer to LINE while our vote is not on the disk
_PREFIX_BYTES: Final = 6
_ACTOR_BYTES: Final = 8
_COUNT: Final = Struct(">8sII")  # a KeyCount


# --- pages of keys (page_answers.py)


class PageQuestion(NamedTuple):
    """Asks for about `limit` keys of a range of storage keys; `live`: only those that may be live, of one space or of
    all."""

    start: bytes
    end: bytes
    limit: int
    live: bool
    space: int = EVERY_SPACE


def _page(items: Reader) -> PageQuestion:
    start, end = range_in(items)
    limit = items.integer(1 << 40, 1)
    live = items.left() > 0 and items.word((LIVE,)) == LIVE
    return PageQuestion(start, end, limit, live, _space(items))


def _space(items: Reader) -> int:
    """The space at the end of a question; EVERY_SPACE if there is none."""
    return items.integer(DATABASES - 1) if items.left() else EVERY_SPACE


def _page_items(page: PageQuestion) -> list[bytes]:
    items = [page.start, page.end, b"%d" % page.limit]
    if not page.live:
        return items
    return [*items, LIVE] if page.space == EVERY_SPACE else [*items, LIVE, b"%d" % page.space]


class Counting(NamedTuple):
    """Asks for the counts of each of so many partitions: of the keys of one space, or of all."""

    partitions: int
    space: int = EVERY_SPACE


def _counting_items(asked: Counting) -> list[bytes]:
    items = [as_item(asked.partitions)]
    return items if asked.space == EVERY_SPACE else [*items, as_item(asked.space)]


class PageAnswer(NamedTuple):
    """Keys of a range with skeletons or summaries of their records: storage key, record, …

    A page of live keys is complete up to the storage key prefix `next_prefix`. Any other page has none: `has_more` says
    whether keys are left behind its last key.
    """

    pairs: list[bytes]
    has_more: bool = False
    next_prefix: bytes = b""


class KeyCount(NamedTuple):
    """A hash of all records of a partition, how many keys are live, and how many of these have an expiry."""

    hash: bytes
    live: int
    expiring: int


def _page_answer(items: Reader, asked: Items) -> PageAnswer:
    word = items.word((b"0", b"1", LIVE))
    if word == LIVE:
        next_prefix = items.data(_PREFIX_BYTES, _PREFIX_BYTES)
        return PageAnswer(items.pairs(), next_prefix=next_prefix)
    pairs = items.pairs()
    if word == b"1" and not pairs:
        raise Malformed("there is more behind nothing")
    return PageAnswer(pairs, word == b"1")


def _page_answer_items(answer: PageAnswer) -> list[bytes]:
    if answer.next_prefix:
        return [LIVE, answer.next_prefix, *answer.pairs]
    return [b"1" if answer.has_more else b"0", *answer.pairs]


def _heads_answer(items: Reader, asked: Items) -> list[bytes]:
    return at_most(len(asked), items.records((b"",)))


def _key_counts(items: Reader, asked: Items) -> list[KeyCount]:
    size = _COUNT.size * int(asked[0])
    return [KeyCount(*fields) for fields in _COUNT.iter_unpack(items.data(size, size))]


PAGE: Final = Question(b"PAGE", _page_items, _page, _page_answer_items, _page_answer)
HEADS: Final = Question(b"HEADS", as_they_are, lambda items: items.storage_keys(), as_they_are, _heads_answer)
KEYCOUNTS: Final[Question[Counting, list[KeyCount]]] = Question(
    b"KEYCOUNTS",
    _counting_items,
    lambda items: Counting(partitions_in(items), _space(items)),
    lambda counts: [b"".join([_COUNT.pack(*count) for count in counts])],
    _key_counts,
)


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


def _copies_answer(items: Reader, asked: Items) -> list[bytes | None]:
    """Reads for each key, or the first ones: a record, None for no record, or UNREADABLE for a damaged one."""
    words = at_most(len(asked), items.blobs())
    for word in words:
        if word not in (b"-", b"!") and not (word[:1] == b"=" and verify(word[1:])):
            raise Malformed(f"{shown(word)} is no copy of a record")
    return [None if word == b"-" else UNREADABLE if word == b"!" else word[1:] for word in words]


def _copies_answer_items(copies: list[bytes | None]) -> list[bytes]:
    return [b"-" if copy is None else b"!" if copy == UNREADABLE else b"=" + copy for copy in copies]


class Verify(NamedTuple):
    """Begins a run that reads all records of some partitions (verification.py), or asks for its progress."""

    epoch: int
    run: str
    partitions: list[int]


def _verify(items: Reader) -> Verify:
    epoch, run = items.epoch(), items.text(NAME_BYTES_MAX)
    return Verify(epoch, run, [items.integer(SLOTS - 1) for _ in range(items.left())])


VERIFY: Final[Question[Verify, dict[str, Any]]] = Question(
    b"VERIFY",
    lambda asked: [as_item(asked.epoch), asked.run.encode(), *map(as_item, asked.partitions)],
    _verify,
    write_document,
    json_answer(shapes.VERIFY),
)
COPIES: Final = Question(
    b"COPIES", as_they_are, lambda items: items.storage_keys(), _copies_answer_items, _copies_answer
)
HOLDS: Final[Question[Sums, bytes]] = Question(
    b"HOLDS",
    lambda asked: [as_item(asked.epoch), *flattened(asked.sums.items())],
    lambda items: Sums(items.epoch(), _sums(items)),
    write_flags,
    lambda items, asked: read_flags((len(asked) - 1) // 2, items),
)
HINTS: Final[Question[bool, dict[str, Any]]] = Question(
    b"HINTS",
    lambda replay: [b"REPLAY"] if replay else [],
    lambda items: items.left() > 0 and items.word((b"REPLAY",)) == b"REPLAY",
    write_document,
    json_answer(shapes.HINTS),
)


# --- votes (votes.py)


class Ballot(NamedTuple):
    """A ballot: what is to be done with some records (storage key -> checksum), and the epoch of the layout.

    `writers` are the actors of all members, if sums of other actors are to be folded."""

    name: bytes
    epoch: int
    mode: bytes
    sums: dict[bytes, bytes]
    writers: tuple[bytes, ...] = ()


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
    name, epoch, mode = items.data(NAME_BYTES_MAX), items.epoch(), items.word((DROPPED, PRUNED, FOLDED))
    writers = _actors(items) if mode == FOLDED else ()
    return Ballot(name, epoch, mode, _sums(items), writers)


def _actors(items: Reader) -> tuple[bytes, ...]:
    packed = items.packed(_ACTOR_BYTES)
    return tuple([packed[at : at + _ACTOR_BYTES] for at in range(0, len(packed), _ACTOR_BYTES)])


def _ballot_items(ballot: Ballot) -> list[bytes]:
    writers = [b"".join(ballot.writers)] if ballot.mode == FOLDED else []
    return [ballot.name, as_item(ballot.epoch), ballot.mode, *writers, *flattened(ballot.sums.items())]


def _fence(items: Reader) -> Fence:
    name, epoch = items.data(NAME_BYTES_MAX), items.epoch()
    return Fence(name, epoch, {items.node_id(): items.integer(COUNTER_MAX) for _ in range((items.left() + 1) // 2)})


def _fence_items(fence: Fence) -> list[bytes]:
    lines = flattened((member.encode(), as_item(reading)) for member, reading in fence.lines.items())
    return [fence.name, as_item(fence.epoch), *lines]


def _line_answer(items: Reader, asked: Items) -> int:
    word = items.data(20)
    if word == b"wait":
        return WAIT
    if not (word.isdigit() and int(word) <= COUNTER_MAX):
        raise Malformed(f"{shown(word)} is no reading of a clock")
    return int(word)


def _fence_answer(items: Reader, asked: Items) -> list[bytes]:
    items.word((b"done",))
    return items.storage_keys()


WRITERS: Final[Question[None, tuple[bytes, ...]]] = Question(  # answered by the actors of the answering node
    b"WRITERS",
    lambda _: [],
    lambda items: None,
    lambda actors: [b"".join(actors)],
    lambda items, asked: _actors(items),
)
VOTE: Final[Question[Ballot, bytes]] = Question(
    b"VOTE", _ballot_items, _ballot, write_flags, lambda items, asked: read_flags((len(asked) - 3) // 2, items)
)
LINE: Final[Question[Line, int]] = Question(  # answered by the clock reading of the line, or WAIT
    b"LINE",
    lambda line: [line.name, as_item(line.epoch)],
    lambda items: Line(items.data(NAME_BYTES_MAX), items.epoch()),
    lambda reading: [b"wait" if reading == WAIT else as_item(reading)],
    _line_answer,
)
FENCE: Final[Question[Fence, list[bytes]]] = Question(  # answered by the keys for which the vote still holds
    b"FENCE", _fence_items, _fence, lambda keys: [b"done", *keys], _fence_answer
)
DROP: Final[Question[Ballot, int]] = Question(
    b"DROP", _ballot_items, _ballot, lambda count: [as_item(count)], lambda items, asked: items.count()
)

ALL: Final = (
    PAGE, HEADS, KEYCOUNTS, COPIES, HOLDS, HINTS, WRITERS, VOTE, LINE, FENCE, DROP,
    VERIFY,
)  # fmt: skip
