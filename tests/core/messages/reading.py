"""Reads questions from their items on the wire, as answerers get them."""

from __future__ import annotations

from typing import TypeVar

from server.core.messages.asking import Question
from server.core.messages.reader import Reader

V = TypeVar("V")


def read(question: Question[V], *words: bytes) -> V:
    """Returns what the answerer of a question gets for these items."""
    items = Reader(list(words), 0, 0)
    content = question.read(items)
    items.end()
    return content
