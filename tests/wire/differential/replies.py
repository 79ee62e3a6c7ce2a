"""When two replies are equal.

Theory. Replies are the same bytes, except where Redis' own replies are not determined by the commands before: the order of
a set's members, the choice of SRANDMEMBER, the time that a key has left. COMMAND INFO says so by its tips:

    nondeterministic_output_order    the elements may come in any order
    nondeterministic_output          of commands that read the clock: a number within some seconds;
                                     of those that choose by chance: as many elements, all of which are in the collection

Which elements belong to each other (field and value, member and score) is in the reply of RESP3, and a rule here in RESP2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

TOLERANCE_S = 30  # between two servers on a busy machine


class Reply(NamedTuple):
    """A reply as a tree: its kind (`*`, `$`, `:` …) and the bytes, or the parts."""

    kind: bytes
    value: bytes
    parts: tuple[Reply, ...] = ()


def parsed(data: bytes) -> Reply:
    """The tree of an encoded reply."""
    reply, place = _parsed(data, 0)
    assert place == len(data), f"{data!r} is more than a reply"
    return reply


def _parsed(data: bytes, place: int) -> tuple[Reply, int]:
    end = data.index(b"\r\n", place)
    kind, text = data[place : place + 1], data[place + 1 : end]
    place = end + 2
    if kind in b"$=!" and text != b"-1":
        size = int(text)
        return Reply(kind, data[place : place + size]), place + size + 2
    parts = []
    if kind in b"*~>%":
        for _ in range(int(text) * (2 if kind == b"%" else 1)):
            part, place = _parsed(data, place)
            parts.append(part)
    return Reply(kind, text, tuple(parts)), place


def elements(reply: Reply, pairs: bool) -> list[tuple[Reply, ...]]:
    """The elements of a collection, which are pairs in a map, or where the command says so."""
    if reply.kind == b"%" or pairs:
        return list(zip(reply.parts[::2], reply.parts[1::2], strict=False))
    return [(part,) for part in reply.parts]


def same_in_any_order(redis: Reply, ours: Reply, pairs: bool = False) -> bool:
    """Whether both have the same elements."""
    if (redis.kind, redis.value) != (ours.kind, ours.value):
        return False
    return sorted(elements(redis, pairs)) == sorted(elements(ours, pairs))


def same_time(redis: Reply, ours: Reply, unit_ms: int) -> bool:
    """Whether both are the same time, or the same time left, but for the moment at which they were asked."""
    if redis.kind != b":" or ours.kind != b":":
        return redis == ours
    theirs, our = int(redis.value), int(ours.value)
    return theirs == our if theirs < 0 or our < 0 else abs(theirs - our) * unit_ms <= TOLERANCE_S * 1000


def same_choice(redis: Reply, ours: Reply, collection: Sequence[tuple[Reply, ...]], pairs: bool, repeats: bool) -> bool:
    """Whether ours is a choice from the collection as Redis' is; elements may come twice only if `repeats`."""
    rows = [tuple(_flat(each)) for each in collection]
    if not redis.parts and not ours.parts:  # one element, an error, null, or nothing
        known = {row[0] for row in rows}
        return redis == ours or (redis.kind == ours.kind == b"$" and ours.value in known and redis.value in known)
    if (redis.kind, redis.value) != (ours.kind, ours.value):
        return False
    chosen = [tuple(_flat(each)) for each in elements(ours, pairs)]
    width = len(chosen[0])
    if not {row[:width] for row in rows} >= set(chosen):
        return False
    return repeats or len(set(chosen)) == len(chosen)


def _flat(row: Sequence[Reply]) -> list[bytes]:
    flat: list[bytes] = []
    for each in row:
        flat += _flat(each.parts) if each.parts else [each.value]
    return flat
