"""Random fields of a collection, and scans of one: SRANDMEMBER, HRANDFIELD, ZRANDMEMBER, SSCAN, HSCAN, ZSCAN.

Theory. Fields lie in the order of their bytes, and the sizes of the chunks tell in which of them an index is. So a random
choice is a random index, and decodes one chunk. A positive count asks for distinct fields, a negative one for
independent choices.

A scan must return each field that exists throughout, whatever else changes, and no node remembers a scan. So a cursor must
be a place that does not depend on other fields. It is the hash of a field: fields are scanned in the order of their
hashes, and all fields with one hash come on the same page. A small collection comes whole, as in Redis.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from itertools import accumulate

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import cursor, integer
from server.core.commands.glob import glob_of
from server.core.records.kinds import NONE
from server.core.records.orders import scan_place
from server.core.records.slicing import SLICE_CHANGES, SLICE_FIELDS, Pace, Slices, each_of, items_of
from server.core.records.views import View

WHOLE_FIELDS_MAX = 128  # a collection of so many fields is scanned in one page, whatever COUNT says
RANDOM_FIELDS_MAX = 1 << 20  # in one reply, with repetitions
_PAIRED_MAX = (1 << 62) - 1
_COUNT_MAX = (1 << 63) - 1

Item = tuple[bytes, bytes]  # (field, payload)


def random_count(text: bytes) -> int:
    """Returns the count of a random choice. Raises CommandError as Redis does."""
    count = integer(text)
    if count < -_COUNT_MAX:
        raise CommandError(f"ERR value is out of range, value must between {-_COUNT_MAX} and {_COUNT_MAX}")
    if count < -RANDOM_FIELDS_MAX:
        raise CommandError(f"ERR a reply holds at most {RANDOM_FIELDS_MAX} random fields")
    return count


def check_paired(count: int) -> None:
    """Refuses a count for which the fields and their values are too many. Raises CommandError as Redis does."""
    if not -_PAIRED_MAX <= count <= _PAIRED_MAX:
        raise CommandError("ERR value is out of range")


def choose(view: View, count: int, rng: random.Random) -> Slices[list[Item]]:
    """Returns `count` distinct random fields, or all if there are fewer; if it is negative, -count independent ones."""
    size = yield from view.count_in_slices()
    if not size or not count:
        return []
    if count >= size:
        return (yield from items_of(view))
    if count < 0:
        indexes = yield from each_of(lambda _: rng.randrange(size), range(-count))
    else:
        indexes = yield from _distinct(size, count, rng)
    sizes = [view.chunk_size(chunk) for chunk in range(view.chunks())]
    if len(indexes) * 8 < size and sum(sizes) == size:
        return (yield from _items_at(view, sizes, indexes))
    items = yield from items_of(view)
    return (yield from each_of(items.__getitem__, indexes))


def _distinct(size: int, count: int, rng: random.Random) -> Slices[list[int]]:
    """Returns `count` distinct random indexes below `size`, in a random order."""
    if count <= SLICE_FIELDS:
        return rng.sample(range(size), count)
    moved: dict[int, int] = {}  # the changes of a shuffled list of all indexes
    found: list[int] = []
    pace = Pace()
    for place in range(count):
        if pace.is_full():
            yield
        other = rng.randrange(place, size)
        found.append(moved.get(other, other))
        moved[other] = moved.get(place, place)
    return found


def _items_at(view: View, sizes: list[int], indexes: list[int]) -> Slices[list[Item]]:
    """Returns the fields with these indexes and decodes each of their chunks once. `sizes` are those of the chunks, all
    live."""
    ends = list(accumulate(sizes))
    decoded: dict[int, list[Item]] = {}
    found: list[Item] = []
    pace = Pace()
    for index in indexes:
        chunk = bisect_right(ends, index)
        if pace.is_full(1 if chunk in decoded else sizes[chunk]):
            yield
        if chunk not in decoded:
            decoded[chunk] = view.items_in(chunk)
        found.append(decoded[chunk][index - ends[chunk] + sizes[chunk]])
    return found


def scan(
    name: str, encode: Callable[[Item, Sink], list[bytes]]
) -> Callable[[View, list[bytes], Sink, State], Slices[Reply]]:
    """Returns the function of HSCAN, SSCAN or ZSCAN: key cursor [MATCH pattern] [COUNT count] [NOVALUES].

    `encode` makes the encoded items of one field in the reply.
    """

    def run(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
        place = cursor(args[2])
        if view.key_type == NONE:
            return resp.array([resp.bulk(b"0"), resp.array([])])
        count, match, keys_only = _scan_options(args[3:], name)
        pattern = glob_of(match, state.config)
        items, following = yield from _page(args[1], view, place, count, state)
        found = dict(items)
        if match != b"*":
            found = {field: found[field] for field in (yield from pattern.matching(found))}
        cells = [resp.bulk(field) for field in found] if keys_only else []
        if not keys_only:
            for item in found.items():
                cells += encode(item, sink)
        return resp.array([resp.bulk(b"%d" % following), resp.array(cells)])

    return run


def _scan_options(args: list[bytes], name: str) -> tuple[int, bytes, bool]:
    """Returns COUNT, the pattern, and whether values are left out."""
    count, match, keys_only = 10, b"*", False
    index = 0
    while index < len(args):
        word = args[index].upper()
        if word == b"NOVALUES" and name == "hscan":
            keys_only = True
            index += 1
            continue
        if index + 1 == len(args) or word not in (b"MATCH", b"COUNT"):
            raise CommandError(SYNTAX)
        if word == b"MATCH":
            match = args[index + 1]
        else:
            count = integer(args[index + 1])
            if count < 1:
                raise CommandError(SYNTAX)
        index += 2
    return count, match, keys_only


def _page(key: bytes, view: View, place: int, count: int, state: State) -> Slices[tuple[list[Item], int]]:
    """Returns the fields of a page from a place on, and the place of the next page, 0 if there is none."""
    if (yield from view.count_in_slices()) <= WHOLE_FIELDS_MAX:
        return (list(view.items()), 0) if not place else (_rest(view, place), 0)
    order = yield from state.orders.scans.of(key, view)
    first = bisect_left(order, (place, b""))
    end = min(first + min(count, state.config.scan_page_keys), len(order))
    while 0 < end < len(order) and order[end][0] == order[end - 1][0]:
        end += 1
    fields, following = [field for _, field in order[first:end]], order[end][0] if end < len(order) else 0
    payloads = yield from each_of(view.get, fields, SLICE_CHANGES)  # after a pause `order` may be another one
    found = zip(fields, payloads, strict=True)
    return [(field, payload) for field, payload in found if payload is not None], following


def _rest(view: View, place: int) -> list[Item]:
    """Returns the fields whose hashes are not before a place: a collection that has become small during a scan."""
    return [item for item in view.items() if scan_place(item[0]) >= place]
