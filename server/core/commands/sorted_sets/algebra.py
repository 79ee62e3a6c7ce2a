"""Unions, intersections and differences of sorted sets: ZUNION, ZINTER, ZDIFF, their STORE forms, and ZINTERCARD.

Theory. The inputs are read by a quorum each, so the result may mix states of different moments. A plain set counts as a
sorted set whose scores are 1. As in Redis, a score that is not a number (infinity minus infinity) becomes 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from server.core.base.errors import NOT_AN_INTEGER, SYNTAX, WRONGTYPE, CommandError
from server.core.commands.arguments import counted_keys, double, integer
from server.core.commands.sets.algebra import QUESTION_UNITS, those
from server.core.commands.sorted_sets.order import Ranked
from server.core.records.kinds import NONE, SET, ZSET
from server.core.records.slicing import Pace, Slices, each_of, in_order
from server.core.records.views import View, unpack_score

UNION, INTERSECTION, DIFFERENCE = "union", "intersection", "difference"
Scores = dict[bytes, float]
Aggregate = Callable[[float, float], float]
_AGGREGATES: dict[bytes, Aggregate] = {b"SUM": lambda a, b: a + b, b"MIN": min, b"MAX": max}


@dataclass(frozen=True, slots=True)
class Combination:
    """What the options of a command ask for."""

    weights: list[float]
    aggregate: bytes = b"SUM"
    with_scores: bool = False
    limit: int = 0  # of ZINTERCARD; 0: none


def input_keys(args: list[bytes], numkeys_at: int, name: str) -> list[bytes]:
    """Returns the input keys of a command, which follow their number. Raises CommandError as Redis does."""
    too_few = f"ERR at least 1 input key is needed for '{name}' command"
    return counted_keys(args, numkeys_at, SYNTAX, too_few, NOT_AN_INTEGER)


def parse_options(options: list[bytes], keys: int, operation: str, is_stored: bool, is_counted: bool) -> Combination:
    """Parses what follows the input keys, of which there are `keys`. Raises CommandError as Redis does."""
    weights, aggregate, with_scores, limit = [1.0] * keys, b"SUM", False, 0
    index = 0
    while index < len(options):
        word = options[index].upper()
        left = len(options) - index
        if is_counted:
            if word != b"LIMIT" or left < 2:
                raise CommandError(SYNTAX)
            limit = _limit(options[index + 1])
            index += 2
        elif word == b"WEIGHTS" and operation != DIFFERENCE and left > keys:
            texts = options[index + 1 : index + 1 + keys]
            weights = [double(text, "ERR weight value is not a float") for text in texts]
            index += 1 + keys
        elif word == b"AGGREGATE" and operation != DIFFERENCE and left > 1:
            aggregate = options[index + 1].upper()
            if aggregate not in _AGGREGATES:
                raise CommandError(SYNTAX)
            index += 2
        elif word == b"WITHSCORES" and not is_stored:
            with_scores = True
            index += 1
        else:
            raise CommandError(SYNTAX)
    return Combination(weights, aggregate, with_scores, limit)


def _limit(text: bytes) -> int:
    limit = integer(text, "ERR LIMIT can't be negative")
    if limit < 0:
        raise CommandError("ERR LIMIT can't be negative")
    return limit


def check_inputs(views: list[View]) -> None:
    """Raises WRONGTYPE if an input is neither a sorted set nor a set."""
    for view in views:
        if view.key_type not in (NONE, SET, ZSET):
            raise CommandError(WRONGTYPE)


def combine(operation: str, views: list[View], options: Combination) -> Slices[Ranked]:
    """Returns the result in its order."""
    pace = Pace()
    if operation == DIFFERENCE:
        result = yield from _scores(views[0], 1.0, pace)
        for view in views[1:]:
            left = yield from those(list(result), view, False, pace)
            result = {member: result[member] for member in left}
        return (yield from _in_order(result))
    inputs = sorted(zip(views, options.weights, strict=True), key=lambda each: len(each[0]))
    aggregate = _AGGREGATES[options.aggregate]
    result = yield from _scores(*inputs[0], pace)
    for view, weight in inputs[1:]:
        if operation == INTERSECTION:
            result = yield from _intersected(result, view, weight, aggregate, pace)
            continue
        other = yield from _scores(view, weight, pace)
        for member, score in other.items():
            result[member] = _number(aggregate(result[member], score)) if member in result else score
            if pace.is_full():
                yield
    return (yield from _in_order(result))


def _intersected(result: Scores, view: View, weight: float, aggregate: Aggregate, pace: Pace) -> Slices[Scores]:
    """Returns the members that a view has, too, with their scores in both."""
    other: Scores = {}
    if len(result) * QUESTION_UNITS > len(view):
        other = yield from _scores(view, weight, pace)
    found: Scores = {}
    for member, score in result.items():
        if pace.is_full(1 if other else QUESTION_UNITS):
            yield
        theirs = other.get(member) if other else _score(view, member, weight)
        if theirs is not None:
            found[member] = _number(aggregate(score, theirs))
    return found


def _score(view: View, member: bytes, weight: float) -> float | None:
    payload = view.get(member)
    if payload is None:
        return None
    return _number(weight if view.key_type == SET else unpack_score(payload) * weight)


def _scores(view: View, weight: float, pace: Pace) -> Slices[Scores]:
    found: Scores = {}
    is_set = view.key_type == SET
    for chunk in range(view.chunks()):
        for member, payload in view.items_in(chunk):
            found[member] = _number(weight if is_set else unpack_score(payload) * weight)
        if pace.is_full(view.chunk_size(chunk) + 1):
            yield
    return found


def _number(score: float) -> float:
    return 0.0 if math.isnan(score) else score


def _in_order(scores: Scores) -> Slices[Ranked]:
    pairs = yield from each_of(lambda member: (scores[member], member), list(scores))
    return (yield from in_order(pairs))
