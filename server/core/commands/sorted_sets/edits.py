"""Commands that change a sorted set: ZADD, ZINCRBY, ZREM, ZREMRANGEBY…, ZPOPMIN and ZPOPMAX.

Theory. ZADD writes a member's score, which supersedes what its coordinator has seen of it. An increment (ZINCRBY, ZADD
INCR) adds a delta of this node's actor instead. So increments on two sides of a partition add up, and one that meets a
score written on the other side is added to that.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import double, integer
from server.core.commands.sliced_replies import Sliced, sum_reply
from server.core.commands.sorted_sets.queries import pairs_at
from server.core.commands.sorted_sets.ranges import range_of
from server.core.commands.sorted_sets.replies import Pair, flat_reply, members_reply
from server.core.records.draft import Draft
from server.core.records.numbers import plus
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices, each_of
from server.core.records.views import pack_score, unpack_score

Edit = Callable[[Draft, list[bytes], Sink, State], Slices[Reply]]

_NOT_A_NUMBER = "ERR resulting score is not a number (NaN)"
_FLAGS = (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR")


@dataclass(frozen=True, slots=True)
class Addition:
    """What a ZADD asks for."""

    flags: frozenset[bytes]
    scores: list[float]  # or an increment
    members: list[bytes]

    def allows(self, before: float | None, after: float) -> bool:
        """Whether the flags let a member's score become `after`. `before` is None for a member that is new."""
        if before is None:
            return b"XX" not in self.flags
        if b"NX" in self.flags:
            return False
        return not (b"GT" in self.flags and after <= before) and not (b"LT" in self.flags and after >= before)


def parse_addition(args: list[bytes]) -> Slices[Addition]:
    """Parses ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member …. Raises CommandError as Redis does."""
    index = 2
    while index < len(args) and args[index].upper() in _FLAGS:
        index += 1
    flags = frozenset(arg.upper() for arg in args[2:index])
    rest = args[index:]
    if not rest or len(rest) % 2:
        raise CommandError(SYNTAX)
    if {b"NX", b"XX"} <= flags:
        raise CommandError("ERR XX and NX options at the same time are not compatible")
    if len(flags & {b"GT", b"LT", b"NX"}) > 1:
        raise CommandError("ERR GT, LT, and/or NX options at the same time are not compatible")
    if b"INCR" in flags and len(rest) > 2:
        raise CommandError("ERR INCR option supports a single increment-element pair")
    scores = yield from each_of(double, rest[::2])
    return Addition(flags, scores, rest[1::2])


def zadd(draft: Draft, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """ZADD key [NX|XX] [GT|LT] [CH] [INCR] score member [score member …]."""
    return (yield from add_members(draft, (yield from parse_addition(args)), sink))


def add_members(draft: Draft, addition: Addition, sink: Sink) -> Slices[Reply]:
    """Does what a ZADD asks for."""
    if b"INCR" in addition.flags:
        return _add_increment(draft, addition, sink)
    added = updated = 0
    pace = Pace(SLICE_CHANGES)
    for score, member in zip(addition.scores, addition.members, strict=True):
        if pace.is_full():
            yield
        before = _score_before(draft, member)
        if not addition.allows(before, score):
            continue
        if before is None:
            added += 1
        elif before != score:
            updated += 1
        draft.put(member, pack_score(score + 0.0))  # 0 for -0, as small sorted sets of Redis have it
    return resp.integer(added + updated if b"CH" in addition.flags else added)


def _score_before(draft: Draft, member: bytes) -> float | None:
    payload = draft.get(member)
    return None if payload is None else unpack_score(payload)


def _add_increment(draft: Draft, addition: Addition, sink: Sink) -> Reply:
    increment, member = addition.scores[0], addition.members[0]
    before = _score_before(draft, member)
    after = _incremented(before, increment)
    if not addition.allows(before, after):
        return resp.null(sink.resp3)
    return resp.double(_increment(draft, member, increment), sink.resp3)


def _incremented(before: float | None, increment: float) -> float:
    after = increment if before is None else before + increment
    if math.isnan(after):
        raise CommandError(_NOT_A_NUMBER)
    return after


def _increment(draft: Draft, member: bytes, increment: float) -> float:
    """Adds a delta to a member's score and returns the new score. A sum with an infinity in it is written as a score.

    Redis rounds each sum to a double: 0.1 and 0.2 make 0.30000000000000004. So the delta is the difference of the two
    scores that are seen, and not the increment, which may be a rounding error more or less."""
    before = _score_before(draft, member)
    after = _incremented(before, increment)
    if math.isinf(after) or (before is not None and math.isinf(before)):
        draft.put(member, pack_score(after))
        return after
    seen = Decimal(0) if before is None else Decimal(repr(before))
    draft.add(member, plus(Decimal(repr(after)), -seen))
    return after if before is None else unpack_score(draft.get(member) or pack_score(after))


def zincrby(draft: Draft, args: list[bytes], sink: Sink) -> Reply:
    """ZINCRBY key increment member: the new score. Redis reads it as ZADD INCR: a flag in place of the increment leaves it
    without its member."""
    if args[2].upper() in _FLAGS:
        raise CommandError(SYNTAX)
    increment = double(args[2])
    return resp.double(_increment(draft, args[3], increment), sink.resp3)


def zrem(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """ZREM key member …: how many were removed."""
    return sum_reply(draft.remove, args[2:])


def removal(kind: int) -> Edit:
    """Returns the function of a ZREMRANGEBY… command, for a range of this kind."""

    def remove(draft: Draft, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
        bounds = range_of(kind, args[2], args[3])
        order = yield from state.orders.scores.of(args[1], draft)
        removed = yield from _remove(draft, pairs_at(order, bounds.places(order)))
        return resp.integer(len(removed))

    return remove


def _remove(draft: Draft, pairs: list[Pair]) -> Slices[list[Pair]]:
    """Removes members of the order, which has live ones only: none is looked up."""
    yield from each_of(lambda pair: draft.drop(pair[1]), pairs)
    return pairs


def pop_members(draft: Draft, key: bytes, state: State, count: int, highest: bool) -> Slices[list[Pair]]:
    """Removes and returns up to `count` members, those with the lowest or highest scores, in that order."""
    order = yield from state.orders.scores.of(key, draft)
    size = len(order)
    places = range(size - 1, max(size - 1 - count, -1), -1) if highest else range(min(count, size))
    return (yield from _remove(draft, pairs_at(order, places)))


def popper(highest: bool) -> Edit:
    """Returns the function of ZPOPMIN or ZPOPMAX: key [count]."""

    def run(draft: Draft, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
        if len(args) > 3:
            raise CommandError(SYNTAX)
        count = pop_count(args[2]) if len(args) > 2 else 1
        pairs = yield from pop_members(draft, args[1], state, count, highest)
        if len(args) == 2:
            return (yield from flat_reply(pairs, sink.resp3))
        return (yield from members_reply(pairs, True, sink.resp3))

    return run


def pop_count(text: bytes) -> int:
    """Returns the count of a ZPOP. Raises CommandError."""
    count = integer(text, "ERR value is out of range, must be positive")
    if count < 0:
        raise CommandError("ERR value is out of range, must be positive")
    return count
