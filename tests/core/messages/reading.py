"""Reads questions from their items on the wire, as answerers get them, and writes answers."""

from __future__ import annotations

from typing import Any, TypeVar

from server.core.messages.asking import Question, write_answer
from server.core.messages.reader import Reader

Q = TypeVar("Q")
A = TypeVar("A")


def read(question: Question[Q, Any], *words: bytes) -> Q:
    """Returns what the answerer of a question gets for these items."""
    items = Reader(list(words), 0, 0)
    content = question.read(items)
    items.end()
    return content


def written(question: Question[Any, A], answer: A | None) -> list[bytes]:
    """Returns the items of an answer on the wire."""
    return list(write_answer(question, answer))
