"""Replies made in slices: of all fields of a collection, or of one item for each of very many arguments.

Theory. See records/slicing.py. What fits into one slice is done at once, as a plain call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from protocol import resp
from protocol.resp import Reply
from server.core.records.slicing import SLICE_CHANGES, SLICE_FIELDS, Pace, Slices, parts_of
from server.core.records.views import View

Sliced = Reply | Slices[Reply]  # a reply, or slices of work that make one


def sum_reply(change: Callable[[Any], int], items: Sequence[Any]) -> Sliced:
    """The sum of what `change`, which changes a field, answers for each item."""
    return resp.integer(sum(map(change, items))) if len(items) <= SLICE_CHANGES else _sum_in_slices(change, items)


def _sum_in_slices(change: Callable[[Any], int], items: Sequence[Any]) -> Slices[Reply]:
    total = 0
    for part in parts_of(items, SLICE_CHANGES):
        total += sum(map(change, part))
        yield
    return resp.integer(total)


def then(result: Sliced, reply: bytes) -> Sliced:
    """Another reply, after the same work."""
    return reply if isinstance(result, bytes) else _then(result, reply)


def _then(result: Any, reply: bytes) -> Slices[Reply]:
    yield from result
    return reply


def array_reply(encode: Callable[[Any], bytes], items: Sequence[Any], size: int = SLICE_CHANGES) -> Sliced:
    """An array of what `encode` makes of each item, `size` of them in a slice: the usual number if it looks up a field."""
    if len(items) <= size:
        return resp.array(list(map(encode, items)))
    return joined_reply(b"*%d\r\n" % len(items), encode, items, size)


def joined_reply(
    opening: bytes, encode: Callable[[Any], bytes], items: Sequence[Any], size: int = SLICE_FIELDS
) -> Slices[bytes]:
    """What `encode` makes of each item, behind an opening."""
    pieces = [opening]
    for part in parts_of(items, size):
        if len(pieces) > 1:
            yield
        pieces.append(b"".join(map(encode, part)))
    return b"".join(pieces)


def fields_reply(
    view: View, encode: Callable[[tuple[bytes, bytes]], bytes], opening: bytes = b"*", width: int = 1
) -> Slices[bytes]:
    """What `encode` makes of each live field and its payload: `width` encoded items. `opening` is the type byte."""
    pieces, count, pace = [b""], 0, Pace()
    for chunk in range(view.chunks()):
        if pace.is_full(view.chunk_size(chunk)):
            yield
        items = view.items_in(chunk)
        count += len(items)
        pieces.append(b"".join(map(encode, items)))
    pieces[0] = b"%b%d\r\n" % (opening, count * width)
    return b"".join(pieces)
