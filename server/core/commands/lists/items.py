"""Items of a list by index, and from either end.

Theory. Items lie in the order of their positions (records/positions.py), and the directory of the record tells how many
there are in each chunk. So an index leads to a chunk, and only the chunks that are asked for are decoded. A draft with
changes is read whole: a command reads first, and then changes.

An item that equals a value is searched for in the bytes of each chunk. Only a chunk that has these bytes somewhere is
decoded, so that a search of 100,000 items takes some milliseconds.

After a partition two items may stand at one position, because both sides chose it. A write takes one position for one
item. So commands that change or remove items first give such items positions of their own (`spread`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, groupby, islice
from typing import Final

from server.core.records.draft import Draft
from server.core.records.positions import after, between
from server.core.records.slicing import Pace
from server.core.records.views import View

Item = tuple[bytes, bytes]  # (position, value)
_NEAR: Final = 64  # items
_SKIPPED: Final = 16  # items whose bytes are searched in the time of decoding one


def place_of(index: int, size: int) -> int:
    """Returns an index that may count from the end, as one that counts from the beginning; it may lie outside."""
    return index + size if index < 0 else index


def span_of(start: int, stop: int, size: int) -> range:
    """Returns the indexes from `start` to `stop`, both included, as Redis' commands take them."""
    first, last = max(place_of(start, size), 0), min(place_of(stop, size), size - 1)
    return range(first, max(last + 1, first))


def items_from(view: View, index: int) -> Iterator[Item]:
    """Yields the items from an index on."""
    if _has_changes(view):
        yield from islice(view.items(), index, None)
        return
    if index:
        ends = list(accumulate(view.item_counts()))
        first = bisect_right(ends, index)
        skipped = index - (ends[first - 1] if first else 0)
    else:
        first = skipped = 0
    for chunk in range(first, view.chunks()):
        yield from view.items_in(chunk)[skipped:]
        skipped = 0


def items_backwards(view: View) -> Iterator[Item]:
    """Yields the items from the last one to the first one."""
    return view.items_backwards()


def item_at(view: View, index: int) -> Item | None:
    """Returns the item at an index, which may count from the end; None if there is none."""
    size = len(view)
    place = place_of(index, size)
    if not 0 <= place < size:
        return None
    if index < 0 and _has_changes(view):
        return next(islice(items_backwards(view), -1 - index, None), None)
    return next(items_from(view, place), None)


def equal_items(
    view: View, value: bytes, from_end: bool = False, compared_max: int = 0
) -> Iterator[tuple[int, Item] | None]:
    """Yields each item that equals a value, and its index, from the first item on or from the last one; and None wherever
    the caller is to pause. Only so many items are compared, 0 stands for all."""
    size, pace = len(view), Pace()
    if _has_changes(view):
        items = view.items_backwards() if from_end else view.items()
        for place, item in enumerate(islice(items, compared_max or None)):
            if pace.is_full():
                yield None
            if item[1] == value:
                yield size - 1 - place if from_end else place, item
        return
    for first, count, chunk in _chunks(view, from_end):
        left = (compared_max or size) - (size - first - count if from_end else first)
        if left <= 0:
            return
        if not view.may_have(chunk, value):
            if pace.is_full(count // _SKIPPED + 1):
                yield None
            continue
        found = view.items_in(chunk)
        for place in list(range(count - 1, -1, -1) if from_end else range(count))[:left]:
            if found[place][1] == value:
                yield first + place, found[place]
        if pace.is_full(count):
            yield None


def _chunks(view: View, from_end: bool) -> Iterator[tuple[int, int, int]]:
    """Yields the chunks of a list: the index of the first item, how many there are, and the number of the chunk."""
    counts = view.item_counts()
    first = sum(counts) if from_end else 0
    for chunk in range(len(counts) - 1, -1, -1) if from_end else range(len(counts)):
        first -= counts[chunk] if from_end else 0
        yield first, counts[chunk], chunk
        first += 0 if from_end else counts[chunk]


def is_near_end(word: bytes) -> bool:
    """Whether an index is one of the first or the last ones: a draft with changes is read up to there."""
    return word.removeprefix(b"-").isdigit() and len(word) < 4 and abs(int(word)) <= _NEAR


def spread(draft: Draft) -> None:
    """Gives each item a position of its own."""
    if not draft.shares_positions():
        return
    groups = [(position, list(group)) for position, group in groupby(draft.items(), lambda item: item[0])]
    ends = [position for position, _ in groups[1:]] + [after(groups[-1][0])] if groups else []
    for (position, group), end in zip(groups, ends, strict=True):
        if len(group) > 1:
            for _, value in group:
                draft.put(position, value)
                position = between(position, end)


def _has_changes(view: View) -> bool:
    return isinstance(view, Draft) and view.changed
