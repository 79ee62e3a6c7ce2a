"""SORT and SORT_RO: the elements of a list, a set or a sorted set in an order (https://redis.io/docs/latest/commands/sort/).

Theory. The key is read by a quorum, and so is each key that BY or GET names, of any slots; SORT is not atomic. Which keys
those are follows from the elements, so the command runs alone on its connection. Elements of equal weight are ordered by
their bytes, as in Redis; those of equal texts (ALPHA with BY) stay in their order. Long work is done in slices: runs of
elements are sorted one by one and then merged, so that other clients are served meanwhile.

STORE makes the result a list, by one write; it deletes the destination if there are no elements.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple

from protocol import resp
from protocol.databases import inner_key, space_of
from server.core.base.errors import SYNTAX, WRONGTYPE, CommandError
from server.core.base.sinks import Sink
from server.core.commands.arguments import integer
from server.core.commands.key_specs import SORT_PATTERNS, SORT_STORE, KeySpec
from server.core.commands.slices import in_slices, next_turn
from server.core.commands.spec import ALONE, CommandSpec
from server.core.commands.typed_steps import content_with, gather, replace
from server.core.formats.numbers import double_of
from server.core.records.kinds import HASH, LIST, NONE, SET, STRING, ZSET
from server.core.records.orders import by_score
from server.core.records.positions import FIRST, after
from server.core.records.slicing import each_of, made_of
from server.core.records.views import View
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps

_SLICE_ELEMENTS = 4096  # about 5 ms
_GATHERED_KEYS = 1000  # read at once
_CELLS_MAX = 1 << 20  # of GET: a short command could ask for so many that the node has no memory left
_BLANKS = b" \t\n\v\f\r"


class SortOptions(NamedTuple):
    """The options of a call. `limit` is negative for all elements."""

    by: bytes | None
    gets: tuple[bytes, ...]
    start: int
    limit: int
    is_descending: bool
    is_alphabetic: bool
    destination: bytes | None = None

    def sorts(self) -> bool:
        """Whether there is an order to make: BY without a * asks for none."""
        return self.by is None or b"*" in self.by


def parse_options(words: list[bytes], may_store: bool) -> SortOptions:
    """The options that follow the key. Raises CommandError as Redis does."""
    wanted = SortOptions(None, (), 0, -1, is_descending=False, is_alphabetic=False)
    gets: list[bytes] = []
    place = 0
    while place < len(words):
        name, left = words[place].upper(), len(words) - place - 1
        if name in (b"ASC", b"DESC"):
            wanted = wanted._replace(is_descending=name == b"DESC")
        elif name == b"ALPHA":
            wanted = wanted._replace(is_alphabetic=True)
        elif name == b"LIMIT" and left >= 2:
            wanted = wanted._replace(start=integer(words[place + 1]), limit=integer(words[place + 2]))
            place += 2
        elif name == b"BY" and left:
            place += 1
            wanted = wanted._replace(by=words[place])
        elif name == b"GET" and left:
            place += 1
            gets.append(words[place])
        elif name == b"STORE" and left and may_store:
            place += 1
            wanted = wanted._replace(destination=words[place])
        else:
            raise CommandError(SYNTAX)
        place += 1
    return wanted._replace(gets=tuple(gets))


def key_of(pattern: bytes, element: bytes, space: int = 0) -> tuple[bytes, bytes]:
    """The inner key that a pattern with a * names for an element, and the field of a hash, empty for a string."""
    prefix, _, rest = pattern.partition(b"*")
    suffix, _, field = rest.partition(b"->")
    return inner_key(space, prefix + element + (suffix if field else rest)), field


def number_of(text: bytes) -> float:
    """The number that C's strtod reads, as Redis uses it for weights; 0 for nothing. Raises CommandError."""
    digits = text.partition(b"\0")[0]
    number = double_of(digits.lstrip(_BLANKS)) if digits else 0.0
    if number is None:
        raise CommandError("ERR One or more scores can't be converted into double")
    return number


def weights_of(elements: Sequence[bytes], values: Sequence[bytes | None], wanted: SortOptions) -> list[Any]:
    """What the elements are ordered by, `values` being what BY has found: first a weight, then the element itself."""
    if wanted.is_alphabetic:
        if wanted.by is None:
            return list(elements)
        return [(value is not None, value or b"") for value in values]
    return [
        (0.0 if value is None else number_of(value), element) for value, element in zip(values, elements, strict=True)
    ]


def cut(size: int, wanted: SortOptions) -> slice:
    """The elements that LIMIT leaves of so many."""
    start = min(max(wanted.start, 0), size)
    limit = min(max(wanted.limit, -1), size)
    return slice(start, size if limit < 0 else start + limit)


def in_order(weights: list[Any], is_descending: bool) -> Generator[None, None, list[int]]:
    """The places of the weights, in the order of the weights; pauses after each slice of its work."""
    runs = []
    for start in range(0, len(weights), _SLICE_ELEMENTS):
        places = range(start, min(start + _SLICE_ELEMENTS, len(weights)))
        runs.append(sorted(places, key=weights.__getitem__, reverse=is_descending))
        yield
    if len(runs) < 2:
        return runs[0] if runs else []
    ordered: list[int] = []
    for place in merge(*runs, key=weights.__getitem__, reverse=is_descending):
        ordered.append(place)
        if not len(ordered) % _SLICE_ELEMENTS:
            yield
    return ordered


def _elements_of(services: Services, view: View, wanted: SortOptions) -> Generator[Step, Any, list[bytes]]:
    """The elements of a list or a set, or of a sorted set in the order of their scores."""
    is_backwards = wanted.is_descending and not wanted.sorts()
    if view.key_type != ZSET:
        elements = yield from in_slices(services, made_of(itemgetter(view.key_type == LIST), view))
        return elements[::-1] if is_backwards else elements
    pairs = yield from in_slices(services, made_of(by_score, view))
    places = yield from in_slices(services, in_order(pairs, is_backwards))
    return (yield from in_slices(services, each_of(lambda place: pairs[place][1], places)))


def _looked_up(
    services: Services, space: int, pattern: bytes, elements: Sequence[bytes]
) -> Generator[Step, Any, list[bytes | None]]:
    """What a pattern of BY or GET names for each element."""
    if pattern == b"#":
        return list(elements)
    if b"*" not in pattern:
        return [None] * len(elements)
    found: list[bytes | None] = []
    for start in range(0, len(elements), _GATHERED_KEYS):
        named = [key_of(pattern, element, space) for element in elements[start : start + _GATHERED_KEYS]]
        views = yield gather(services, [key for key, _ in named])
        for view, (_, field) in zip(views, named, strict=True):
            if field:
                found.append(view.get(field) if view.key_type == HASH else None)
            else:
                found.append(view.string() if view.key_type == STRING else None)
    return found


def _sorted(services: Services, sink: Sink, key: bytes, wanted: SortOptions) -> Steps:
    (view,) = yield gather(services, [key])
    if view.key_type not in (NONE, LIST, SET, ZSET):
        raise CommandError(WRONGTYPE)
    elements, space = (yield from _elements_of(services, view, wanted)), space_of(key)
    if wanted.sorts():
        elements = yield from _ordered(services, space, elements, wanted)
    elements = elements[cut(len(elements), wanted)]
    if len(elements) * len(wanted.gets) > _CELLS_MAX:
        raise CommandError(f"ERR the GET options of SORT answer at most {_CELLS_MAX} values: use LIMIT")
    columns: list[list[bytes | None]] = []
    for pattern in wanted.gets or (b"#",):
        columns += [(yield from _looked_up(services, space, pattern, elements))]
    if wanted.destination is not None:
        return (yield from _store(services, wanted.destination, columns))
    pieces = [b"*%d\r\n" % (len(elements) * len(columns))]
    for start in range(0, len(elements), _SLICE_ELEMENTS):
        if start:
            yield next_turn(services)
        rows = zip(*[column[start : start + _SLICE_ELEMENTS] for column in columns], strict=True)
        pieces.append(b"".join([resp.encode(value, sink.resp3) for row in rows for value in row]))
    return b"".join(pieces)


def _items_of(columns: list[list[bytes | None]]) -> Iterator[tuple[bytes, bytes]]:
    """Yields the items of a list of the result: positions and values."""
    position = FIRST
    for row in zip(*columns, strict=True):
        for value in row:
            yield position, value or b""
            position = after(position)


def _store(services: Services, destination: bytes, columns: list[list[bytes | None]]) -> Generator[Step, Any, bytes]:
    """Makes the destination a list of the result, row by row. Returns the length."""
    record = yield from in_slices(services, content_with(LIST, _items_of(columns), services.state.time_ms))
    yield replace(services, destination, record)
    return resp.integer(len(columns[0]) * len(columns))


def _ordered(
    services: Services, space: int, elements: list[bytes], wanted: SortOptions
) -> Generator[Step, Any, list[bytes]]:
    """The elements in the order that is asked for."""
    values: Sequence[bytes | None] = elements
    if wanted.by is not None:
        values = yield from _looked_up(services, space, wanted.by, elements)
    weights: list[Any] = []
    for start in range(0, len(elements), _SLICE_ELEMENTS):
        if start:
            yield next_turn(services)
        end = start + _SLICE_ELEMENTS
        weights += weights_of(elements[start:end], values[start:end], wanted)
    places = yield from in_slices(services, in_order(weights, wanted.is_descending))
    return [elements[place] for place in places]


def _sort(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SORT key [BY pattern] [LIMIT offset count] [GET pattern …] [ASC|DESC] [ALPHA] [STORE destination]."""
    services.run_steps(_sorted(services, sink, args[1], parse_options(args[2:], may_store=True)), sink, number)


def _sort_ro(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """SORT_RO: as SORT."""
    services.run_steps(_sorted(services, sink, args[1], parse_options(args[2:], may_store=False)), sink, number)


_ARGUMENTS = "key [BY pattern] [LIMIT offset count] [GET pattern [GET pattern ...]] [ASC|DESC] [ALPHA]"
_KEY = KeySpec("RO access", 1)

COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "sort",
        -2,
        ALONE,
        _sort,
        "Sorts the elements of a list, a set or a sorted set.",
        "generic",
        "write denyoom set sortedset list dangerous",
        complexity="O(N+M*log(M))",
        key_specs=(_KEY, SORT_PATTERNS, SORT_STORE),
        arguments=f"{_ARGUMENTS} [STORE destination]",
    ),
    CommandSpec(
        "sort_ro",
        -2,
        ALONE,
        _sort_ro,
        "Sorts the elements of a list, a set or a sorted set.",
        "generic",
        "readonly set sortedset list dangerous",
        since="7.0.0",
        complexity="O(N+M*log(M))",
        key_specs=(_KEY, SORT_PATTERNS),
        arguments=_ARGUMENTS,
    ),
)
