"""Questions: what one declares, and the forms that several answers have in common.

Theory. A question travels in an ASK, which names its kind, and its answer in an ANSWER, which has only the number: whoever
asked knows what the number stands for. So a question is declared together with its answer. `read` reads what it needs, and
answers what the answerer gets (answerers.py); `read_answer` reads the answer beside the words that were asked, and answers
what the asker gets. An answer without items says that there is none: another layout rules there, say, or nobody knows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from protocol.slots import SLOTS
from server.core.messages import shapes
from server.core.messages.reader import Malformed, Reader

V = TypeVar("V")
Items = Sequence[bytes]
NAME_BYTES_MAX: Final = 512  # of kinds, ballots, jobs, tasks


class Question(Generic[V]):
    """A kind of question: its name, how it is read, and how its answer is read beside what was asked."""

    def __init__(
        self, name: bytes, read: Callable[[Reader], V], read_answer: Callable[[Reader, Items], Any], version: int = 1
    ) -> None:
        self.name = name
        self.read = read
        self.read_answer = read_answer
        self.version = version


def done(items: Reader, asked: Items) -> list[bytes]:
    """The one word that says it is done."""
    return [items.word((b"1",))]


def yes_or_no(items: Reader, asked: Items) -> list[bytes]:
    """`1` or `0`."""
    return [items.word((b"1", b"0"))]


def numbers(items: Reader, asked: Items) -> list[bytes]:
    """One number for each word behind the epoch."""
    if items.left() != len(asked) - 1:
        raise Malformed(f"{items.left()} numbers, {len(asked) - 1} were asked for")
    return [b"%d" % items.count() for _ in asked[1:]]


def bytes_for(pairs: int, items: Reader) -> list[bytes]:
    """One word with a byte, 0 or 1, for each of so many keys."""
    word = items.data(pairs, pairs)
    if word.strip(b"\0\1"):
        raise Malformed("a byte that is neither 0 nor 1")
    return [word]


def json_answer(shape: shapes.Shape) -> Callable[[Reader, Items], Any]:
    """A document of that shape, as the value that it holds."""
    return lambda items, asked: document(items, shape)


def document(items: Reader, shape: shapes.Shape) -> Any:
    """The value that a JSON document of that shape holds."""
    try:
        return shapes.parse(items.data(shapes.DOCUMENT_BYTES_MAX), shape, "a document")
    except ValueError as error:
        raise Malformed(str(error)) from None


def is_text(name: bytes) -> bool:
    """Whether a client's word may stand in a question as a name."""
    try:
        return 0 < len(name) <= NAME_BYTES_MAX and name.decode() != ""
    except UnicodeDecodeError:
        return False


def partitions_in(items: Reader) -> int:
    """A number of partitions: a power of two."""
    partitions = items.integer(SLOTS, 1)
    if partitions & (partitions - 1):
        raise Malformed(f"{partitions} is no power of two")
    return partitions


def read_answer(question: Question[Any], items: Reader, asked: Items) -> Any:
    """What the asker of a question gets for an answer; an empty list for one that says nothing. Raises Malformed."""
    return question.read_answer(items, asked) if items.left() else []
