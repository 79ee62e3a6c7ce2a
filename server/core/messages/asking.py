"""Questions: what a question declares, and forms that several answers share.

Theory. A question travels in an ASK, which names its kind. The answer travels in an ANSWER, which has only the number
of the question; the asking node knows what that number stands for. So a question is declared together with its answer,
and each of both is one typed value on either side:

    value                          the asker            the answerer (answerers.py)
    the content of the question    hands it over        gets it
    the answer                     gets it, or None     returns it, or None

`write` and `read` turn the content into the items of the message and back, `write_answer` and `read_answer` the answer.
`read_answer` also gets the items that were asked: they say how much may be answered. None is an answer without items. It
means that the answering node has no answer: for example, it has another layout, or refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, Generic, TypeVar

from protocol.slots import SLOTS
from server.core.messages import shapes
from server.core.messages.reader import Malformed, Reader, shown

Q = TypeVar("Q")
A = TypeVar("A")
Items = Sequence[bytes]
UNREADABLE: Final = b"?"  # stands for a damaged record; it is shorter than any key or record
NAME_BYTES_MAX: Final = 512  # names of kinds, ballots, jobs, tasks


class Question(Generic[Q, A]):
    """A kind of question: its name, and how its content (Q) and its answer (A) are written and read."""

    def __init__(
        self,
        name: bytes,
        write: Callable[[Q], list[bytes]],
        read: Callable[[Reader], Q],
        write_answer: Callable[[A], list[bytes]],
        read_answer: Callable[[Reader, Items], A],
        in_order: bool = False,
    ) -> None:
        """`in_order`: neither the question nor its answer may overtake what its sender has sent before it."""
        self.name = name
        self.write = write
        self.read = read
        self.write_answer = write_answer
        self.read_answer = read_answer
        self.in_order = in_order


# Forms of answers: a function that writes one, and one that reads it.


def write_done(done: bool) -> list[bytes]:
    """Writes the answer that it is done; without it there is no answer."""
    assert done, "a refusal has no items"
    return [b"1"]


def read_done(items: Reader, asked: Items) -> bool:
    """Reads the answer that it is done."""
    return items.word((b"1",)) == b"1"


def write_yes(yes: bool) -> list[bytes]:
    """Writes an answer of yes or no."""
    return [b"1" if yes else b"0"]


def read_yes(items: Reader, asked: Items) -> bool:
    """Reads an answer of yes or no."""
    return items.word((b"1", b"0")) == b"1"


def write_numbers(numbers: list[int]) -> list[bytes]:
    """Writes an answer of numbers."""
    return [b"%d" % number for number in numbers]


def read_numbers(items: Reader, asked: Items) -> list[int]:
    """Reads an answer with one number for each item asked after the epoch."""
    if items.left() != len(asked) - 1:
        raise Malformed(f"{items.left()} numbers, {len(asked) - 1} were asked for")
    return [items.count() for _ in asked[1:]]


def write_flags(flags: bytes) -> list[bytes]:
    """Writes an answer of one byte for each key, 0 or 1."""
    return [flags]


def read_flags(count: int, items: Reader) -> bytes:
    """Reads an answer of one byte, 0 or 1, for each of `count` keys."""
    flags = items.data(count, count)
    if flags.strip(b"\0\1"):
        raise Malformed("a byte that is neither 0 nor 1")
    return flags


def as_they_are(items: list[bytes]) -> list[bytes]:
    """Writes storage keys, or storage key, record, …"""
    return items


def as_item(number: int) -> bytes:
    """Returns a number as an item."""
    return b"%d" % number


def flattened(pairs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Returns the items of pairs: first, second, first, second, …"""
    return [item for pair in pairs for item in pair]


def range_in(items: Reader) -> tuple[bytes, bytes]:
    """Reads a range of storage keys, the end excluded. Each boundary has at least the two bytes of a slot."""
    start, end = items.data(), items.data()
    if not b"\0\0" <= start < end <= b"\x40\0\0\0" or min(len(start), len(end)) < 2:
        raise Malformed(f"from {shown(start)} to {shown(end)} is no range of storage keys")
    return start, end


def at_most(count: int, records: list[bytes]) -> list[bytes]:
    """Returns `records`. Raises Malformed if they are more than `count`."""
    if len(records) > count:
        raise Malformed(f"{len(records)} records, {count} were asked for")
    return records


def write_document(document: Any) -> list[bytes]:
    """Writes an answer of one JSON document."""
    return [json.dumps(document, separators=(",", ":")).encode()]


def json_answer(shape: shapes.Shape) -> Callable[[Reader, Items], Any]:
    """Returns a function that reads an answer of one JSON document of that shape."""
    return lambda items, asked: document(items, shape)


def document(items: Reader, shape: shapes.Shape) -> Any:
    """Reads a JSON document of that shape, and returns its value."""
    try:
        return shapes.parse(items.data(shapes.DOCUMENT_BYTES_MAX), shape, "a document")
    except ValueError as error:
        raise Malformed(str(error)) from None


def is_text(name: bytes) -> bool:
    """Whether a client's word can be a name in a question."""
    try:
        return 0 < len(name) <= NAME_BYTES_MAX and name.decode() != ""
    except UnicodeDecodeError:
        return False


def partitions_in(items: Reader) -> int:
    """Reads a number of partitions: a power of two."""
    partitions = items.integer(SLOTS, 1)
    if partitions & (partitions - 1):
        raise Malformed(f"{partitions} is no power of two")
    return partitions


def read_answer(question: Question[Any, A], items: Reader, asked: Items) -> A | None:
    """Reads an answer to `question`; None if it has no items. Raises Malformed."""
    return question.read_answer(items, asked) if items.left() else None


def write_answer(question: Question[Any, A], answer: A | None) -> list[bytes]:
    """Returns the items of an answer to `question`; no items for None."""
    return [] if answer is None else question.write_answer(answer)
