"""Reads the key space in order, page by page, with a quorum: for SCAN, KEYS, DBSIZE, FLUSHALL and DYN.SIBLINGS.

Theory. Storage keys are ordered by (slot, hash of the key), a place of 46 bits that is the same on every node. So a
cursor is just a place: no node stores it, any node can continue from it, and a key that exists throughout the scan is
found whatever happens meanwhile, since its place never changes. A page asks all live owners of a range and joins what
they know, R at least, so that neither a stale nor a slow replica hides a key or brings a deleted one back.

Mostly the owners hold the same. So a node that is one of them reads its own page and asks the others for the hash of the
leaves that the page touches: where all who answer, R at least, have the same, their records are the same, and so is the
join. No records travel then. Otherwise, and if this node is no owner, all owners are asked for a page. An owner that keeps
silent is waited for as long as work/questions.py says, if R others have answered.

Dead records cost nothing: an owner sends only records with a live sibling (requests/page_answers.py). The page is still
that of the joined records. Let `A` be the owners that answer (R at least):

- A key that no owner in `A` sends is dead or absent on each. The siblings of a join are among those of its parts, so the
  join is dead. It is not listed.
- A key that every owner in `A` sends: all their records are here, and are joined. (Two different summaries of a hash or
  the like cannot be joined. Such a key falls under the third case.)
- A key that some owners in `A` send, and others do not: the others may hold a newer tombstone, an older one that a newer
  value has superseded, or nothing. So it is read again, as a quorum read of skeletons (HEADS) whose answers leave out
  nothing; the records that were sent before are not used. That happens for keys written at this moment, and where owners
  differ.

An expiry that passes on one owner's clock and not on another's falls under the third case.

An owner may have dropped a range, after a change of the layout, before it answers. So a page counts only if the layout is
still the one by which it was asked for, and a node that is no keeper of a range answers nothing. An owner of the version
before sends dead records, too, and a page from its last key on: then all owners are asked in that way.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

from protocol.databases import EVERY_SPACE, space_of
from protocol.slots import SLOTS
from server.core.base.errors import CommandError, Failure, no_read_quorum
from server.core.commands.operator import layout_of
from server.core.commands.slices import next_turn
from server.core.messages import exchange_questions, record_questions
from server.core.messages.asking import Question
from server.core.messages.exchange_questions import HASHES
from server.core.messages.record_questions import HEADS, KEYCOUNTS, PAGE, KeyCount, PageAnswer
from server.core.records import versions
from server.core.records.entries import has_entries
from server.core.records.kinds import NONE
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.records.trees import SLOT_BITS
from server.core.records.versions import DamagedRecord
from server.core.requests import page_answers
from server.core.ring.layout import Layout
from server.core.services.services import Services
from server.core.work.procedures import Step
from server.core.work.questions import READ_PATIENCE_MS, Answers, Enough

Q = TypeVar("Q")
HASH_BITS = 32
END = SLOTS << HASH_BITS


class Range(NamedTuple):
    """Adjacent slots with the same owners, up to but without `end_slot`."""

    start_slot: int
    end_slot: int
    owners: tuple[str, ...]


class KeyPage(NamedTuple):
    """Live keys, inner ones, in the order of their places, their types, and the place where the next page begins (END if
    there is none)."""

    keys: list[bytes]
    next_place: int
    types: Sequence[int] = ()


class Heads(NamedTuple):
    """Keys that may be live, each with the join of its skeletons or summaries, and the place where the next page begins."""

    records: list[tuple[bytes, bytes]]
    next_place: int


class UnreadRange(CommandError):
    """Fewer owners of a range than a read needs have answered."""

    def __init__(self, part: Range, error: Failure) -> None:
        super().__init__(error)
        self.part = part


def place_of(storage_key: bytes) -> int:
    """The place of a storage key in the order of the key space."""
    return int.from_bytes(storage_key[:PREFIX_BYTES], "big")


def ranges_of(layout: Layout) -> list[Range]:
    """Splits the key space where owners change; adjacent partitions with the same owners, in whatever order, are one
    range."""
    ranges: list[Range] = []
    for partition in range(layout.partitions):
        first, last = layout.slot_range(partition)
        same = tuple(sorted(layout.readers(partition)))
        if ranges and ranges[-1].owners == same:
            ranges[-1] = ranges[-1]._replace(end_slot=last + 1)
        else:
            ranges.append(Range(first, last + 1, same))
    return ranges


def read_page(
    services: Services,
    place: int,
    limit: int,
    rounds_max: int = 1 << 30,
    end_slot: int = SLOTS,
    space: int = EVERY_SPACE,
) -> Generator[Step, Any, KeyPage]:
    """Live keys of a space from `place` up to a slot, about `limit`; fewer at the end, or when that takes more than so
    many rounds of questions. Raises CommandError without a quorum, and without a layout."""
    keys: list[bytes] = []
    types: list[int] = []
    while place < end_slot << HASH_BITS and len(keys) < limit and rounds_max:
        heads = yield from read_heads(services, place, limit - len(keys), end_slot, space)
        rounds_max -= 1
        place = heads.next_place
        now_ms = services.state.time_ms
        for key, record in heads.records:
            key_type = versions.type_of(record, now_ms)
            if key_type != NONE:
                keys.append(key)
                types.append(key_type)
    return KeyPage(keys, place, tuple(types))


def read_heads(
    services: Services, place: int, limit: int, end_slot: int = SLOTS, space: int = EVERY_SPACE
) -> Generator[Step, Any, Heads]:
    """About `limit` keys of a space from `place` up to a slot, by one round of questions or two: fewer where the owners
    change, none if the layout has changed meanwhile. Raises UnreadRange without a quorum, and CommandError without a
    layout."""
    layout = layout_of(services)
    asked = record_questions.PageQuestion(
        place.to_bytes(PREFIX_BYTES, "big"), SLOT_PREFIX[end_slot], limit, True, _asked_of(services, layout, space)
    )
    heads = yield from _page_of_range(services, layout, asked)
    if heads is None:
        return Heads([], place)
    if space == EVERY_SPACE:
        return heads
    return heads._replace(records=[each for each in heads.records if space_of(each[0]) == space])


def _asked_of(services: Services, layout: Layout, space: int) -> int:
    """The space to ask owners for. A node of an earlier version has never heard of any, and has keys of 0 only."""
    return space if services.state.with_databases.has_all(layout) else EVERY_SPACE


def page_after(
    services: Services, page: KeyPage, end_slot: int = SLOTS, space: int = EVERY_SPACE
) -> Generator[Step, Any, KeyPage]:
    """The page after `page`, for commands that read all pages: it ends in a later turn, so that other clients are
    served."""
    turn = services.state.turn
    limit = services.state.config.scan_page_keys
    found = yield from read_page(services, page.next_place, limit, 1, end_slot, space)
    if services.state.turn == turn:  # no other node was asked
        yield next_turn(services)
    return found


def _page_of_range(
    services: Services, layout: Layout, asked: record_questions.PageQuestion
) -> Generator[Step, Any, Heads | None]:
    """A page that ends at the latest where the owners change; None if the layout has changed meanwhile."""
    place = place_of(asked.start)
    part = next(part for part in ranges_of(layout) if place >> HASH_BITS < part.end_slot)
    part = part._replace(end_slot=min(part.end_slot, int.from_bytes(asked.end, "big")))
    asked = asked._replace(end=SLOT_PREFIX[part.end_slot])
    if services.state.id in part.owners:
        own = page_answers.page(services.state, asked)
        if own is not None:
            next_place = place_of(own.next_prefix)
            if (yield from _is_agreed(services, layout, part, place, next_place)):
                return _heads_page(_pairs_of(own), next_place)
        if services.state.layout is not layout:
            return None
    answers = yield _ask_quorum(services, part, PAGE, asked)
    if services.state.layout is not layout:
        return None
    sound: list[PageAnswer] = _quorum(services, part, answers)
    if any(not answer.next_prefix for answer in sound):
        return (yield from _whole_page(services, layout, part, place, asked.limit))
    next_place = min([place_of(answer.next_prefix) for answer in sound])
    if all(answer == sound[0] for answer in sound):
        return _heads_page(_pairs_of(sound[0]), next_place)
    found: dict[bytes, bytes | None] = {}
    senders: dict[bytes, int] = {}
    for answer in sound:
        for storage_key, record in _pairs_of(answer):
            if place_of(storage_key) < next_place:
                known = found.get(storage_key)
                if known is None or known == record or not (has_entries(known) or has_entries(record)):
                    senders[storage_key] = senders.get(storage_key, 0) + 1
                    found[storage_key] = versions.merge(known, record)
    doubtful = [storage_key for storage_key, times in senders.items() if times < len(sound)]
    if doubtful:
        found |= yield from _heads(services, part, doubtful)
        if services.state.layout is not layout:
            return None
    return _heads_page(sorted(found.items()), next_place)


def _is_agreed(
    services: Services, layout: Layout, part: Range, place: int, next_place: int
) -> Generator[Step, Any, bool]:
    """Whether this owner and all others that answer, R at least, hold the same between two places, by their trees.

    Leaves are asked for in runs of few lengths: a tree remembers the hash of an empty run of each length."""
    trees = services.state.records.trees
    slot_leaves = 1 << trees.leaf_bits - SLOT_BITS
    leaf_bits = HASH_BITS + SLOT_BITS - trees.leaf_bits
    first, end = place >> leaf_bits, -(-next_place >> leaf_bits)
    step = max(1, 1 << (end - first).bit_length() - 3) if end - first > 7 else 1
    first = max(first // step * step, part.start_slot * slot_leaves)
    end = min(-(-end // step) * step, part.end_slot * slot_leaves)
    content = trees.hash_of((first, end))
    others = [owner for owner in _live_among(services, part.owners) if owner != services.state.id]
    asked = exchange_questions.Hashes(layout.epoch, trees.leaf_bits, 1, [(first, end)])
    wanted = _quorum_of(services, part.owners)
    answers = yield services.questions.ask(
        others, HASHES, asked, patience_ms=READ_PATIENCE_MS, can_spare=lambda answers: 1 + _sound(answers) >= wanted
    )
    hashes = [answer.hashes for answer in answers.values() if answer is not None]
    is_quorum = services.state.layout is layout and 1 + len(hashes) >= wanted
    return is_quorum and all(each == [content] for each in hashes)


def _live_among(services: Services, owners: Sequence[str]) -> Sequence[str]:
    """The owners to ask: those that are believed live, or all if these are too few."""
    state = services.state
    live = [owner for owner in owners if owner == state.id or state.is_usable(owner)]
    return live if len(live) >= _quorum_of(services, owners) else owners


def _quorum_of(services: Services, owners: Sequence[str]) -> int:
    return min(services.state.read_quorum, len(owners))


def _sound(answers: Answers) -> int:
    """How many nodes have an answer."""
    return sum(answer is not None for answer in answers.values())


def _ask_quorum(services: Services, part: Range, question: Question[Q, Any], content: Q) -> Step:
    """Asks the owners of a range. A node that hangs is believed live for a while: R answers of others will do, then."""
    wanted = _quorum_of(services, part.owners)
    return services.questions.ask(
        _live_among(services, part.owners),
        question,
        content,
        patience_ms=READ_PATIENCE_MS,
        can_spare=lambda answers: _sound(answers) >= wanted,
    )


def _heads_page(records: Iterable[tuple[bytes, bytes | None]], next_place: int) -> Heads:
    return Heads([(storage_key[PREFIX_BYTES:], record) for storage_key, record in records if record], next_place)


def _heads(services: Services, part: Range, keys: list[bytes]) -> Generator[Step, Any, dict[bytes, bytes | None]]:
    """The join of what R owners hold under these storage keys, without the values."""
    found: dict[bytes, bytes | None] = {}
    while keys:
        answers = yield _ask_quorum(services, part, HEADS, keys)
        sound = _quorum(services, part, answers)
        count = min([len(answer) for answer in sound])
        for index, storage_key in enumerate(keys[:count]):
            joined = None
            for answer in sound:
                joined = _join(joined, answer[index] or None)
            found[storage_key] = joined
        keys = keys[count:]
    return found


def _join(one: bytes | None, other: bytes | None) -> bytes | None:
    """The join of two records of a key; if they contradict each other (joins.py), one of them: the key is listed."""
    try:
        return versions.merge(one, other)
    except DamagedRecord:
        return max(one or b"", other or b"")


def _whole_page(
    services: Services, layout: Layout, part: Range, place: int, limit: int
) -> Generator[Step, Any, Heads | None]:
    """A page of all records, dead ones included, in the form of the previous version. Keys that share a place are always on
    the same page."""
    start, end = place.to_bytes(PREFIX_BYTES, "big"), SLOT_PREFIX[part.end_slot]
    asked = limit + 1
    while True:
        content = record_questions.PageQuestion(start, end, asked, False)
        answers = yield _ask_quorum(services, part, PAGE, content)
        if services.state.layout is not layout:
            return None
        found: dict[bytes, bytes | None] = {}
        next_place = END if part.end_slot == SLOTS else part.end_slot << HASH_BITS
        for answer in _quorum(services, part, answers):
            if answer.has_more:
                next_place = min(next_place, place_of(answer.pairs[-2]))
            for storage_key, record in _pairs_of(answer):
                found[storage_key] = _join(found.get(storage_key), record)
        if next_place > place:
            break
        asked *= 2  # more keys share this place than the page was to hold
    records = sorted((key, record) for key, record in found.items() if place_of(key) < next_place)
    return _heads_page(records, next_place)


def _pairs_of(answer: PageAnswer) -> Iterable[tuple[bytes, bytes]]:
    return zip(answer.pairs[::2], answer.pairs[1::2], strict=True)


def _quorum(services: Services, part: Range, answers: Answers) -> list[Any]:
    """The answers that count, at least R of them."""
    sound = [answers[owner] for owner in part.owners if answers.get(owner) is not None]
    wanted = _quorum_of(services, part.owners)
    if len(sound) < wanted:
        services.state.statistics.no_quorum += 1
        replicas = f"replicas of slots {part.start_slot}-{part.end_slot - 1}"
        raise UnreadRange(part, no_read_quorum(replicas, len(sound), wanted, len(part.owners)))
    return sound


def count_keys(services: Services, space: int = EVERY_SPACE) -> Generator[Step, Any, int]:
    """How many live keys the cluster has in a space.

    Where R owners of a partition have the same hash they hold the same records, and any of them knows how many of these
    are values: nothing is read. The partition is read where owners differ, since keys are written at this moment, or where
    keys expire, which no count follows.
    """
    while True:
        layout = layout_of(services)
        owners = _live_among(services, [member.id for member in layout.members])
        asked = record_questions.Counting(layout.partitions, _asked_of(services, layout, space))
        answers = yield services.questions.ask(
            owners, KEYCOUNTS, asked, patience_ms=READ_PATIENCE_MS, can_spare=_covers_all(services, layout)
        )
        counts_of: dict[str, list[KeyCount]] = {
            owner: counts for owner, counts in answers.items() if counts is not None
        }
        counts = [_agreed(services, layout, partition, counts_of) for partition in range(layout.partitions)]
        size = 0
        for partition, count in enumerate(counts):
            if services.state.layout is not layout:
                break
            size += count if count is not None else (yield from _count_by_reading(services, layout, partition, space))
        else:
            return size


def _covers_all(services: Services, layout: Layout) -> Enough:
    """Whether R readers of each partition have answered."""
    parts = list(dict.fromkeys([tuple(layout.readers(partition)) for partition in range(layout.partitions)]))
    return lambda answers: all(
        sum(answers.get(reader) is not None for reader in readers) >= _quorum_of(services, readers) for readers in parts
    )


def _agreed(services: Services, layout: Layout, partition: int, counts_of: dict[str, list[KeyCount]]) -> int | None:
    """The number of live keys, if R readers of the partition agree on it; None if they do not, or if keys expire."""
    counts = [counts_of[owner][partition] for owner in layout.readers(partition) if owner in counts_of]
    wanted = _quorum_of(services, layout.readers(partition))
    agreed = [count.live for count in counts if not count.expiring and counts.count(count) >= wanted]
    return agreed[0] if agreed else None


def _count_by_reading(services: Services, layout: Layout, partition: int, space: int) -> Generator[Step, Any, int]:
    first, last = layout.slot_range(partition)
    count = 0
    page = KeyPage([], first << HASH_BITS)
    while page.next_place < last + 1 << HASH_BITS:
        page = yield from page_after(services, page, last + 1, space)
        count += len(page.keys)
    return count
