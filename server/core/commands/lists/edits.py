"""Commands that change a list: pushes, pops, LSET, LINSERT, LREM, LTRIM.

Theory. A push takes the positions next to the first or the last item, an insertion one between two items, and LSET keeps
the position of its item. A removal takes only the items that it has seen: what was pushed at the same time on the other
side of a partition stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice

from protocol import resp
from protocol.resp import Reply, bulk
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.lists.items import equal_items, item_at, items_backwards, items_from, span_of, spread
from server.core.commands.sliced_replies import Sliced, joined_reply
from server.core.records.draft import Draft
from server.core.records.kinds import NONE
from server.core.records.positions import FIRST, after, before, between
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices, collected, each_of

_NO_KEY = "ERR no such key"
_NO_INDEX = "ERR index out of range"
_NOT_POSITIVE = "ERR value is out of range, must be positive"


def push_left(draft: Draft, values: Iterable[bytes]) -> Slices[None]:
    """Puts values before the first item, one after the other: the last one becomes the first item."""
    first = next(items_from(draft, 0), (None,))[0]
    yield from _put_all(draft, FIRST if first is None else before(first), before, values)


def push_right(draft: Draft, values: Iterable[bytes]) -> Slices[None]:
    """Puts values behind the last item."""
    last = next(items_backwards(draft), (None,))[0]
    yield from _put_all(draft, FIRST if last is None else after(last), after, values)


def _put_all(
    draft: Draft, position: bytes, following: Callable[[bytes], bytes], values: Iterable[bytes]
) -> Slices[None]:
    pace = Pace(SLICE_CHANGES)
    for value in values:
        if pace.is_full():
            yield
        draft.put(position, value)
        position = following(position)


def lpush(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LPUSH key element …: the length afterwards."""
    yield from push_left(draft, args[2:])
    return resp.integer(len(draft))


def rpush(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """RPUSH key element …: the length afterwards."""
    yield from push_right(draft, args[2:])
    return resp.integer(len(draft))


def lpushx(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """LPUSHX key element …: as LPUSH if the list exists; the length afterwards."""
    return lpush(draft, args, sink) if draft.key_type != NONE else resp.integer(0)


def rpushx(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """RPUSHX key element …: as RPUSH if the list exists; the length afterwards."""
    return rpush(draft, args, sink) if draft.key_type != NONE else resp.integer(0)


def pop(draft: Draft, count: int, is_left: bool) -> Slices[list[bytes]]:
    """Removes and returns up to so many items from one end, in the order in which they are met."""
    spread(draft)
    taken = yield from collected(islice(items_from(draft, 0) if is_left else items_backwards(draft), count))
    yield from _remove(draft, [position for position, _ in taken])
    return [value for _, value in taken]


def lpop(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LPOP key [count]: the first item, or the first `count` ones."""
    return _popped(draft, args, sink, is_left=True)


def rpop(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """RPOP key [count]: the last item, or the last `count` ones, the last one first."""
    return _popped(draft, args, sink, is_left=False)


def _popped(draft: Draft, args: list[bytes], sink: Sink, is_left: bool) -> Slices[Reply]:
    if len(args) > 3:
        raise CommandError(f"ERR wrong number of arguments for '{args[0].decode().lower()}' command")
    if len(args) == 2:
        values = yield from pop(draft, 1, is_left)
        return bulk(values[0]) if values else resp.null(sink.resp3)
    count = integer(args[2], _NOT_POSITIVE)
    if count < 0:
        raise CommandError(_NOT_POSITIVE)
    if draft.key_type == NONE:
        return resp.null_array(sink.resp3)
    values = yield from pop(draft, count, is_left)
    return (yield from joined_reply(b"*%d\r\n" % len(values), bulk, values))


def lset(draft: Draft, args: list[bytes], sink: Sink) -> Reply:
    """LSET key index element."""
    if draft.key_type == NONE:
        raise CommandError(_NO_KEY)
    index = integer(args[2])
    spread(draft)
    found = item_at(draft, index)
    if found is None:
        raise CommandError(_NO_INDEX)
    draft.put(found[0], args[3])
    return resp.OK


def linsert(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LINSERT key BEFORE|AFTER pivot element: the length afterwards, -1 if the pivot is not there, 0 without a list."""
    side = args[2].upper()
    if side not in (b"BEFORE", b"AFTER"):
        raise CommandError(SYNTAX)
    if draft.key_type == NONE:
        return resp.integer(0)
    spread(draft)
    for found in equal_items(draft, args[3]):
        if found is not None:
            break
        yield
    else:
        return resp.integer(-1)
    place, (pivot, _) = found
    neighbour = _position_at(draft, place - 1 if side == b"BEFORE" else place + 1)
    left, right = (neighbour, pivot) if side == b"BEFORE" else (pivot, neighbour)
    draft.put(_within(left, right), args[4])
    return resp.integer(len(draft))


def _position_at(draft: Draft, index: int) -> bytes | None:
    found = item_at(draft, index) if index >= 0 else None
    return None if found is None else found[0]


def _within(left: bytes | None, right: bytes | None) -> bytes:
    """Returns a position between two, of which one may be missing."""
    if left is None:
        return before(right) if right is not None else FIRST
    return between(left, right) if right is not None else after(left)


def lrem(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LREM key count element: removes the first `count` equal items, the last -count ones, or all for 0; how many."""
    count = integer(args[2])
    spread(draft)
    found: list[bytes] = []
    for match in equal_items(draft, args[3], from_end=count < 0):
        if match is None:
            yield
            continue
        found.append(match[1][0])
        if len(found) == abs(count):
            break
    yield from _remove(draft, found)
    return resp.integer(len(found))


def ltrim(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """LTRIM key start stop: removes all items but those between two indexes, both included."""
    start, stop, size = integer(args[2]), integer(args[3]), len(draft)
    span = span_of(start, stop, size)
    if not len(span):
        if size:
            draft.clear()
        return resp.OK
    spread(draft)
    left = yield from collected(islice(items_from(draft, 0), span.start))
    right = yield from collected(islice(items_backwards(draft), size - span.stop))
    yield from _remove(draft, [position for position, _ in (*left, *right)])
    return resp.OK


def _remove(draft: Draft, positions: list[bytes]) -> Slices[None]:
    """Removes items that were found, each at a position of its own."""
    yield from each_of(draft.drop, positions)
