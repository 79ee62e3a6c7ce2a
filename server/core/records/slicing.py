"""Work in slices: a generator pauses after each slice, so that whoever runs it can serve others in between.

Theory. One turn serves all clients. To decode, sort or encode the 500,000 fields of one collection takes a second, and
nobody else would be answered meanwhile. So such work is a generator that yields after each few milliseconds, and returns
its result. A small collection takes one slice and never pauses: then the generator costs a call.

What a slice may hold is counted, never timed, so that a test can count it and a replay of the simulator repeats it.

To sort in slices: runs of a slice each are sorted by themselves, and merged a slice at a time. Measured for 500,000 pairs
of a score and a member: 1.4 times the time of one `sorted`. Buckets around sampled borders would cost less, but a client
that knows how they are sampled can put all members into one bucket.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from server.core.formats.pausing import SLICE_FIELDS, Pace, Result, Slices, run_through
from server.core.records.views import View

__all__ = ["SLICE_CHANGES", "SLICE_FIELDS", "Pace", "Result", "Slices", "run_through"]

Item = TypeVar("Item")
Made = TypeVar("Made")

SLICE_CHANGES: Final = 240  # fields that are looked up and changed in one slice: up to 20 µs each in a large collection


def parts_of(items: Sequence[Item], size: int = SLICE_FIELDS) -> Iterator[Sequence[Item]]:
    """Yields the items in runs of a slice each. The caller pauses between them."""
    for first in range(0, len(items), size):
        yield items[first : first + size]


def each_of(make: Callable[[Item], Made], items: Sequence[Item], size: int = SLICE_FIELDS) -> Slices[list[Made]]:
    """Returns what `make` makes of each item."""
    made: list[Made] = []
    for part in parts_of(items, size):
        if made:
            yield
        made += map(make, part)
    return made


def in_order(items: Sequence[Any]) -> Slices[list[Any]]:
    """Returns the items in their order."""
    if len(items) <= SLICE_FIELDS:
        return sorted(items)
    runs = []
    for part in parts_of(items):
        runs.append(sorted(part))
        yield
    merged = heapq.merge(*runs)
    ordered: list[Any] = []
    while len(ordered) < len(items):
        ordered += islice(merged, SLICE_FIELDS)
        yield
    return ordered


def items_of(view: View) -> Slices[list[tuple[bytes, bytes]]]:
    """Returns the live fields of a collection and their payloads, sorted by field. `view` has no changes of a command."""
    found: list[tuple[bytes, bytes]] = []
    pace = Pace()
    for chunk in range(view.chunks()):
        if pace.is_full(view.chunk_size(chunk)):
            yield
        found += view.items_in(chunk)
    return found


def made_of(make: Callable[[tuple[bytes, bytes]], Made], view: View) -> Slices[list[Made]]:
    """Returns what `make` makes of each live field of a collection and its payload, sorted by field. As `each_of` of all
    items, but these are dropped chunk by chunk: to free 100,000 of them takes 5 ms, which nothing can divide."""
    found: list[Made] = []
    pace = Pace()
    for chunk in range(view.chunks()):
        if pace.is_full(view.chunk_size(chunk)):
            yield
        found += map(make, view.items_in(chunk))
    return found


def collected(items: Iterable[Item], pace: Pace | None = None) -> Slices[list[Item]]:
    """Returns what an iterator yields."""
    found: list[Item] = []
    pace = pace or Pace()
    for item in items:
        found.append(item)
        if pace.is_full():
            yield
    return found


def fields_of(view: View) -> Slices[list[bytes]]:
    """Returns the live fields of a collection, sorted."""
    return (yield from made_of(_first, view))


def _first(item: tuple[bytes, bytes]) -> bytes:
    return item[0]
