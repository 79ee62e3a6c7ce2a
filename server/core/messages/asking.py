"""Questions: what a question declares, and forms that several answers share.

Theory. A question travels in an ASK, which names its kind. The answer travels in an ANSWER, which has only the number
of the question; the asking node knows what that number stands for. So a question is declared together with its answer.
`read` reads the content of the question, and returns what the answerer gets (answerers.py). `read_answer` reads the
answer, given the items that were asked, and returns what the asker gets. An answer without items means that there is
none: for example, the answering node has another layout, or does not know.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from protocol.slots import SLOTS
from server.core.messages import shapes
from server.core.messages.reader import Malformed, Reader

V = TypeVar("V")
Items = Sequence[bytes]
NAME_BYTES_MAX: Final = 512  # names of kinds, ballots, jobs, tasks


class Question(Generic[V]):
    """A kind of question: its name, how it is read, and how its answer is read, given the items asked."""

    def __init__(
        self, name: bytes, read: Callable[[Reader], V], read_answer: Callable[[Reader, Items], Any], version: int = 1
    ) -> None:
        self.name = name
        self.read = read
        self.read_answer = read_answer
        self.version = version


def done(items: Reader, asked: Items) -> list[bytes]:
    """Reads an answer of one word, which says that it is done."""
    return [items.word((b"1",))]


def yes_or_no(items: Reader, asked: Items) -> list[bytes]:
    """Reads an answer of `1` or `0`."""
    return [items.word((b"1", b"0"))]


def numbers(items: Reader, asked: Items) -> list[bytes]:
    """Reads an answer with one number for each item asked after the epoch."""
    if items.left() != len(asked) - 1:
        raise Malformed(f"{items.left()} numbers, {len(asked) - 1} were asked for")
    return [b"%d" % items.count() for _ in asked[1:]]


def bytes_for(pairs: int, items: Reader) -> list[bytes]:
    """Reads an answer of one word: a byte, 0 or 1, for each of `pairs` keys."""
    word = items.data(pairs, pairs)
    if word.strip(b"\0\1"):
        raise Malformed("a byte that is neither 0 nor 1")
    return [word]


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


def read_answer(question: Question[Any], items: Reader, asked: Items) -> Any:
    """Reads an answer to `question`; an answer without items becomes an empty list. Raises Malformed."""
    return question.read_answer(items, asked) if items.left() else []
