"""Unions, intersections and differences of sets: SUNION, SINTER, SDIFF, their STORE forms, and SINTERCARD.

Theory. The inputs are read by a quorum each, so the result may mix states of different moments. They are read some at a
time and added at once, in slices: so a command over a thousand large sets holds a few of them, and the result so far.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from server.core.base.errors import SYNTAX, CommandError
from server.core.commands.arguments import counted_keys, integer
from server.core.records.slicing import SLICE_CHANGES, SLICE_FIELDS, Pace, Slices, fields_of, in_order, parts_of
from server.core.records.views import View

_TOO_MANY = "ERR Number of keys can't be greater than number of args"
QUESTION_UNITS = 10  # fields that are decoded in the time of finding one
_ELEMENT_BYTES = 100  # of an element in memory, beside its own
_LIMIT = "ERR LIMIT can't be negative"


class Algebra(Protocol):
    """An operation on sets, which are added in their order, some at a time."""

    def add_sets(self, views: list[View]) -> Slices[None]:
        """Adds some of the sets, in their order."""

    def result(self) -> Slices[list[bytes]]:
        """Returns the result, in the order of the elements' bytes."""


class Union:
    """The elements of any of the sets. Raises CommandError if they have more than `bytes_max` bytes together."""

    def __init__(self, bytes_max: int) -> None:
        self._found: dict[bytes, None] = {}
        self._bytes = 0
        self._bytes_max = bytes_max

    def add_sets(self, views: list[View]) -> Slices[None]:
        """See Algebra."""
        pace = Pace()
        for view in views:
            for chunk in range(view.chunks()):
                for element, _ in view.items_in(chunk):
                    if element not in self._found:
                        self._found[element] = None
                        self._bytes += len(element) + _ELEMENT_BYTES
                if pace.is_full(view.chunk_size(chunk) + 1):
                    yield
            if self._bytes > self._bytes_max:
                raise CommandError(f"ERR the union has more than gathered_bytes_max={self._bytes_max} bytes")

    def result(self) -> Slices[list[bytes]]:
        """See Algebra."""
        return in_order(list(self._found))


class Intersection:
    """The elements of all sets; the first `limit` of them, unless that is 0."""

    def __init__(self, limit: int = 0) -> None:
        self._found: list[bytes] | None = None
        self._limit = limit

    def add_sets(self, views: list[View]) -> Slices[None]:
        """See Algebra. Of the sets added at once the smallest one is first."""
        pace = Pace()
        for view in sorted(views, key=len):
            if self._found is None:
                self._found = yield from fields_of(view)
            else:
                self._found = yield from those(self._found, view, True, pace)

    def result(self) -> Slices[list[bytes]]:
        """See Algebra."""
        yield from ()
        found = self._found or []
        return found[: self._limit] if self._limit else found


class Difference:
    """The elements of the first set that are in none of the others."""

    def __init__(self) -> None:
        self._found: list[bytes] | None = None

    def add_sets(self, views: list[View]) -> Slices[None]:
        """See Algebra."""
        pace = Pace()
        for view in views:
            if self._found is None:
                self._found = yield from fields_of(view)
            else:
                self._found = yield from those(self._found, view, False, pace)

    def result(self) -> Slices[list[bytes]]:
        """See Algebra."""
        yield from ()
        return self._found or []


def those(elements: list[bytes], view: View, are_in: bool, pace: Pace) -> Slices[list[bytes]]:
    """Returns those of the elements that are in a collection, or are not."""
    has = yield from membership(view, len(elements))
    found: list[bytes] = []
    for part in parts_of(elements, SLICE_CHANGES):
        found += [element for element in part if has(element) is are_in]
        if pace.is_full(QUESTION_UNITS * len(part) + 1):
            yield
    return found


def membership(view: View, questions: int) -> Slices[Callable[[bytes], bool]]:
    """Returns a function that says whether a field is in a collection; it will be asked so many times.

    To find one field costs as much as to decode some ten in a row. So for many questions all are decoded.
    """
    if questions * QUESTION_UNITS <= len(view):
        return view.has
    fields: dict[bytes, None] = {}
    for part in parts_of((yield from fields_of(view))):
        fields.update(dict.fromkeys(part))
        if len(part) == SLICE_FIELDS:
            yield
    return fields.__contains__


def limited_keys(args: list[bytes]) -> tuple[list[bytes], int]:
    """Parses SINTERCARD numkeys key … [LIMIT limit]. Returns the keys and the limit. Raises CommandError as Redis does."""
    keys, limit = counted_keys(args, 1, _TOO_MANY), 0
    rest = args[2 + len(keys) :]
    for index in range(0, len(rest), 2):
        if rest[index].upper() != b"LIMIT" or index + 1 == len(rest):
            raise CommandError(SYNTAX)
        limit = integer(rest[index + 1], _LIMIT)
        if limit < 0:
            raise CommandError(_LIMIT)
    return keys, limit
