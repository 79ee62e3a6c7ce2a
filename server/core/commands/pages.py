"""Reads the key space in order, page by page, with a quorum: for SCAN, KEYS, DBSIZE and FLUSHALL.

Theory. Storage keys are ordered by (slot, hash of the key), a place of 46 bits that is the same on every node. So a
cursor is just a place: no node stores it, any node can continue from it, and a key that exists throughout the scan is
found whatever happens meanwhile, since its place never changes. A page asks all owners of a range and joins what R
of them know, so that neither a stale nor a slow replica hides a key or brings a deleted one back.

Mostly the owners hold the same. So a node that is one of them reads its own page and asks the others for the hash of the
leaves that the page touches: where all who answer, R at least, have the same, their records are the same, and so is the
join. No records travel then. Otherwise, and if this node is no owner, all owners are asked for a page.

Dead records cost nothing: an owner sends only records with a live sibling (requests/page_answers.py). The page is still
that of the joined records. Let `A` be the owners that answer (R at least):

- A key that no owner in `A` sends is dead or absent on each. The siblings of a join are among those of its parts, so the
  join is dead. It is not listed.
- A key that every owner in `A` sends: all their records are here, and are joined.
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

from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

from protocol.slots import SLOTS
from server.core.base.errors import CommandError
from server.core.commands.operator import layout_of
from server.core.commands.slices import next_turn
from server.core.messages import record_questions
from server.core.messages.record_questions import LIVE
from server.core.records import versions
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.records.trees import SLOT_BITS
from server.core.repair.exchange_answers import encode_spans
from server.core.requests import page_answers
from server.core.requests.page_answers import COUNTS
from server.core.ring.layout import Layout
from server.core.services.services import Services
from server.core.work.procedures import Step

HASH_BITS = 32
END = SLOTS << HASH_BITS


class Page(NamedTuple):
    """Live keys in the order of their places, and the place where the next page begins (END if there is none)."""

    keys: list[bytes]
    next_place: int


class Range(NamedTuple):
    """Adjacent slots with the same owners, up to but without `end_slot`."""

    start_slot: int
    end_slot: int
    owners: tuple[str, ...]


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
    services: Services, place: int, limit: int, rounds_max: int = 1 << 30, end_slot: int = SLOTS
) -> Generator[Step, Any, Page]:
    """Live keys from `place` up to a slot, about `limit`; fewer at the end, or when that takes more than so many rounds of
    questions. Raises CommandError without a quorum, and without a layout."""
    keys: list[bytes] = []
    while place < end_slot << HASH_BITS and len(keys) < limit and rounds_max:
        page = yield from _page_of_range(services, layout_of(services), place, end_slot, limit - len(keys))
        rounds_max -= 1
        if page is not None:
            keys += page.keys
            place = page.next_place
    return Page(keys, place)


def page_after(services: Services, page: Page, end_slot: int = SLOTS) -> Generator[Step, Any, Page]:
    """The page after `page`, for commands that read all pages: it ends in a later turn, so that other clients are
    served."""
    turn = services.state.turn
    found = yield from read_page(services, page.next_place, services.state.config.scan_page_keys, 1, end_slot)
    if services.state.turn == turn:  # no other node was asked
        yield next_turn(services)
    return found


def _page_of_range(
    services: Services, layout: Layout, place: int, end_slot: int, limit: int
) -> Generator[Step, Any, Page | None]:
    """A page that ends at the latest where the owners change; None if the layout has changed meanwhile."""
    part = next(part for part in ranges_of(layout) if place >> HASH_BITS < part.end_slot)
    part = part._replace(end_slot=min(part.end_slot, end_slot))
    start, end = place.to_bytes(PREFIX_BYTES, "big"), SLOT_PREFIX[part.end_slot]
    if services.state.id in part.owners:
        own = page_answers.page(services.state, record_questions.Page(start, end, limit, True))
        if own and (yield from _is_agreed(services, layout, part, place, place_of(own[1]))):
            return Page(_live_keys(services, zip(own[2::2], own[3::2], strict=True)), place_of(own[1]))
        if services.state.layout is not layout:
            return None
    answers = yield services.questions.ask(part.owners, b"PAGE", start, end, limit, LIVE)
    if services.state.layout is not layout:
        return None
    sound = _quorum(services, part, answers)
    if any(answer[0] != LIVE for answer in sound):
        return (yield from _whole_page(services, layout, part, place, limit))
    next_place = min([place_of(answer[1]) for answer in sound])
    if all(answer == sound[0] for answer in sound):
        return Page(_live_keys(services, zip(sound[0][2::2], sound[0][3::2], strict=True)), next_place)
    found: dict[bytes, bytes | None] = {}
    senders: dict[bytes, int] = {}
    for answer in sound:
        for storage_key, record in zip(answer[2::2], answer[3::2], strict=True):
            if place_of(storage_key) < next_place:
                found[storage_key] = versions.merge(found.get(storage_key), record)
                senders[storage_key] = senders.get(storage_key, 0) + 1
    doubtful = [storage_key for storage_key, times in senders.items() if times < len(sound)]
    if doubtful:
        found |= yield from _heads(services, part, doubtful)
        if services.state.layout is not layout:
            return None
    return Page(_live_keys(services, sorted(found.items())), next_place)


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
    others = [owner for owner in part.owners if owner != services.state.id]
    spans = encode_spans([(first, end)])
    answers = yield services.questions.ask(others, b"HASHES", layout.epoch, trees.leaf_bits, 1, spans)
    hashes = [answer[1:] for answer in answers.values() if answer]
    wanted = min(services.state.read_quorum, len(part.owners))
    is_quorum = services.state.layout is layout and 1 + len(hashes) >= wanted
    return is_quorum and all(each == [content] for each in hashes)


def _live_keys(services: Services, records: Iterable[tuple[bytes, bytes | None]]) -> list[bytes]:
    now_ms = services.state.time_ms
    return [
        storage_key[PREFIX_BYTES:]
        for storage_key, record in records
        if record is not None and versions.value_of(record, now_ms) is not None
    ]


def _heads(services: Services, part: Range, keys: list[bytes]) -> Generator[Step, Any, dict[bytes, bytes | None]]:
    """The join of what R owners hold under these storage keys, without the values."""
    found: dict[bytes, bytes | None] = {}
    while keys:
        answers = yield services.questions.ask(part.owners, b"HEADS", *keys)
        sound = _quorum(services, part, answers)
        count = min([len(answer) for answer in sound])
        for index, storage_key in enumerate(keys[:count]):
            joined = None
            for answer in sound:
                joined = versions.merge(joined, answer[index] or None)
            found[storage_key] = joined
        keys = keys[count:]
    return found


def _whole_page(
    services: Services, layout: Layout, part: Range, place: int, limit: int
) -> Generator[Step, Any, Page | None]:
    """A page of all records, dead ones included, in the form of the version before. Keys that share a place are always on
    the same page."""
    start, end = place.to_bytes(PREFIX_BYTES, "big"), SLOT_PREFIX[part.end_slot]
    asked = limit + 1
    while True:
        answers = yield services.questions.ask(part.owners, b"PAGE", start, end, asked)
        if services.state.layout is not layout:
            return None
        found: dict[bytes, bytes | None] = {}
        next_place = END if part.end_slot == SLOTS else part.end_slot << HASH_BITS
        for answer in _quorum(services, part, answers):
            if answer[0] == b"1":
                next_place = min(next_place, place_of(answer[-2]))
            for index in range(1, len(answer), 2):
                found[answer[index]] = versions.merge(found.get(answer[index]), answer[index + 1])
        if next_place > place:
            break
        asked *= 2  # more keys share this place than the page was to hold
    records = sorted((key, record) for key, record in found.items() if place_of(key) < next_place)
    return Page(_live_keys(services, records), next_place)


def _quorum(services: Services, part: Range, answers: dict[str, list[bytes]]) -> list[list[bytes]]:
    """The answers that count, at least R of them."""
    sound = [answers[owner] for owner in part.owners if answers.get(owner)]
    wanted = min(services.state.read_quorum, len(part.owners))
    if len(sound) < wanted:
        services.state.statistics.no_quorum += 1
        raise CommandError(
            f"NOQUORUM scan of slots {part.start_slot}-{part.end_slot - 1}: got={len(sound)} wanted={wanted} hinted=0 "
            f"outcome=unread: {len(sound)} of {len(part.owners)} replicas answered, {wanted} are needed"
        )
    return sound


def count_keys(services: Services) -> Generator[Step, Any, int]:
    """How many live keys the cluster has.

    Where R owners of a partition have the same hash they hold the same records, and any of them knows how many of these
    are values: nothing is read. The partition is read where owners differ, since keys are written at this moment, or where
    keys expire, which no count follows.
    """
    while True:
        layout = layout_of(services)
        owners = [member.id for member in layout.members]
        answers = yield services.questions.ask(owners, b"KEYCOUNTS", layout.partitions)
        counts_of = {owner: answer[0] for owner, answer in answers.items() if answer}
        counts = [_agreed(services, layout, partition, counts_of) for partition in range(layout.partitions)]
        size = 0
        for partition, count in enumerate(counts):
            if services.state.layout is not layout:
                break
            size += count if count is not None else (yield from _count_by_reading(services, layout, partition))
        else:
            return size


def _agreed(services: Services, layout: Layout, partition: int, counts_of: dict[str, bytes]) -> int | None:
    """The number of live keys, if R readers of the partition agree on it; None if they do not, or if keys expire."""
    counts = [
        COUNTS.unpack_from(counts_of[owner], partition * COUNTS.size)
        for owner in layout.readers(partition)
        if owner in counts_of
    ]
    wanted = min(services.state.read_quorum, len(layout.readers(partition)))
    agreed = [live for content, live, expiring in counts if not expiring and counts.count((content, live, 0)) >= wanted]
    return agreed[0] if agreed else None


def _count_by_reading(services: Services, layout: Layout, partition: int) -> Generator[Step, Any, int]:
    first, last = layout.slot_range(partition)
    count = 0
    page = Page([], first << HASH_BITS)
    while page.next_place < last + 1 << HASH_BITS:
        page = yield from page_after(services, page, last + 1)
        count += len(page.keys)
    return count
