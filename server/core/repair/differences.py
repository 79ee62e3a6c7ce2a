"""Ranges of leaves in which two nodes differ, and how many of them one question is about (exchange.py)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple, TypeVar

from server.core.records.trees import Span

_SPANS_MAX = 64  # in one question
T = TypeVar("T")


class How(Enum):
    """How a range in which two nodes differ is settled."""

    OPEN = "compare its parts"
    LIST = "compare it key by key"
    PULL = "fetch all of it: nothing is stored here"
    PUSH = "send all of it: nothing is stored there"


class LeafDifference(NamedTuple):
    """A range of leaves in which two nodes differ."""

    span: Span
    how: How


def leaves_in(span: Span) -> int:
    """How many leaves a range has."""
    return span[1] - span[0]


def has_same_how(one: LeafDifference, other: LeafDifference) -> bool:
    """Whether two differences are settled in the same way."""
    return one.how is other.how


def pop_batch(
    stack: list[T], weight: Callable[[T], int], weight_max: int, alike: Callable[[T, T], bool] | None = None
) -> list[T]:
    """Removes from the end of `stack` the items for one question: at least one, all alike, within `weight_max`."""
    batch = [stack.pop()]
    total = weight(batch[0])
    while stack and len(batch) < _SPANS_MAX and (alike is None or alike(batch[0], stack[-1])):
        total += weight(stack[-1])
        if total > weight_max:
            break
        batch.append(stack.pop())
    return batch
