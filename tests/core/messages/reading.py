"""Questions as their answerers get them, read from the words that travel."""

from __future__ import annotations

from typing import TypeVar

from server.core.messages.asking import Question
from server.core.messages.reader import Reader

V = TypeVar("V")


def read(question: Question[V], *words: bytes) -> V:
    """What the answerer of a question gets for these words."""
    items = Reader(list(words), 0, 0)
    content = question.read(items)
    items.end()
    return content
