"""Reading the key space in order, page by page, with a quorum: what SCAN, KEYS, DBSIZE and FLUSHALL stand on.

Theory. Storage keys are ordered by (slot, hash of the key), a place of 46 bits that is the same on every node. So a
cursor is a place and nothing else: no node remembers it, any node can go on from it, and a key that is there throughout
is found whatever happens meanwhile, since its place never changes. A page asks all owners of a range and joins what R
of them know, so that neither a stale nor a slow replica hides a key or brings a deleted one back.

Who owned a range when it was asked may have let it go before it answers. So a page counts only if the layout is still the
one by which it was asked for, and who keeps a range no more has nothing to say of it (replica.py).
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any, NamedTuple

from protocol.slots import SLOTS
from server.core.base.errors import CommandError
from server.core.commands.operator import layout_of
from server.core.records import versions
from server.core.records.records import PREFIX_BYTES, SLOT_PREFIX
from server.core.ring.layout import Layout
from server.core.work.procedures import Step

if TYPE_CHECKING:
    from server.core.node import Node

HASH_BITS = 32
END = SLOTS << HASH_BITS


class Page(NamedTuple):
    """Live keys in the order of their places, and the place where the next page begins (END when there is none)."""

    keys: list[bytes]
    next_place: int


class Range(NamedTuple):
    """Adjacent slots with the same owners, up to but without `end_slot`."""

    start_slot: int
    end_slot: int
    owners: tuple[str, ...]


def place_of(stored_at: bytes) -> int:
    """The place of a storage key in the order of the key space."""
    return int.from_bytes(stored_at[:PREFIX_BYTES], "big")


def ranges_of(layout: Layout) -> list[Range]:
    """The key space cut where owners change; neighbours with the same owners, in whatever order, are one range."""
    ranges: list[Range] = []
    for partition in range(layout.partitions):
        first, last = layout.slot_range(partition)
        same = tuple(sorted(layout.readers(partition)))
        if ranges and ranges[-1].owners == same:
            ranges[-1] = ranges[-1]._replace(end_slot=last + 1)
        else:
            ranges.append(Range(first, last + 1, same))
    return ranges


def read_page(node: Node, place: int, limit: int) -> Generator[Step, Any, Page]:
    """At least one live key from `place` on, about `limit`, or the end. Raises CommandError without a quorum, and without
    a layout."""
    keys: list[bytes] = []
    while place < END and len(keys) < limit:
        page = yield from _page_of_range(node, layout_of(node), place, limit - len(keys))
        if page is not None:
            keys += page.keys
            place = page.next_place
    return Page(keys, place)


def _page_of_range(node: Node, layout: Layout, place: int, limit: int) -> Generator[Step, Any, Page | None]:
    """A page that ends where its owners are others, at the latest; None if the layout has changed meanwhile. A place that
    many keys share is never cut in two."""
    part = next(part for part in ranges_of(layout) if place >> HASH_BITS < part.end_slot)
    end = SLOT_PREFIX[part.end_slot]
    asked = limit + 1
    while True:
        answers = yield node.questions.ask(part.owners, b"PAGE", place.to_bytes(PREFIX_BYTES, "big"), end, asked)
        if node.state.layout is not layout:
            return None
        found: dict[bytes, bytes | None] = {}
        next_place = END if part.end_slot == SLOTS else part.end_slot << HASH_BITS
        for answer in _quorum(node, part, answers):
            if answer[0] == b"1":
                next_place = min(next_place, place_of(answer[-2]))
            for index in range(1, len(answer), 2):
                found[answer[index]] = versions.merge(found.get(answer[index]), answer[index + 1])
        if next_place > place:
            break
        asked *= 2  # more keys share this place than the page was to hold
    now_ms = node.state.time_ms
    keys = [
        stored_at[PREFIX_BYTES:]
        for stored_at, record in sorted(found.items())
        if place_of(stored_at) < next_place and record is not None and versions.value_of(record, now_ms) is not None
    ]
    return Page(keys, next_place)


def _quorum(node: Node, part: Range, answers: dict[str, list[bytes]]) -> list[list[bytes]]:
    """The answers that count, at least R of them."""
    sound = [answers[owner] for owner in part.owners if answers.get(owner)]
    wanted = min(node.state.read_quorum, len(part.owners))
    if len(sound) < wanted:
        node.state.statistics.no_quorum += 1
        raise CommandError(
            f"NOQUORUM scan of slots {part.start_slot}-{part.end_slot - 1}: got={len(sound)} wanted={wanted} hinted=0 "
            f"outcome=unread: {len(sound)} of {len(part.owners)} replicas answered, {wanted} are needed"
        )
    return sound
