"""Writes with a causal context, and the contexts that clients get for them (Dynamo, section 4.4; DYN.SET)."""

from __future__ import annotations

from collections.abc import Sequence

from server.core.records import entries
from server.core.records.siblings import VALUE, ForeignDot, Sibling, decode, encode

Clock = Sequence[tuple[bytes, int]]


def write(
    old: bytes | None,
    actor: bytes,
    counter: int,
    value: bytes,
    expires_at_ms: int = 0,
    kind: int = VALUE,
    context: Clock = (),
) -> bytes:
    """Returns the record after a write with a causal context. It supersedes exactly the siblings that `context` covers.

    An empty context means that the author has seen nothing. The context is merged into the clock, so that other
    replicas also drop siblings that the author has seen and that are not stored here yet. Raises ForeignDot.
    """
    if old is not None and entries.has_entries(old):
        return _write_entry(old, actor, counter, value, expires_at_ms, kind, context)
    clock, siblings = ({}, []) if old is None else decode(old)
    seen = dict(context)
    siblings = [s for s in siblings if s.counter > seen.get(s.actor, -1)]
    for seen_actor, seen_counter in context:
        if seen_counter > clock.get(seen_actor, -1):
            clock[seen_actor] = seen_counter
    if counter <= clock.get(actor, -1):
        raise ForeignDot
    clock[actor] = counter
    siblings.append(Sibling(actor, counter, expires_at_ms, kind, value))
    return encode(clock, siblings)


def _write_entry(
    old: bytes, actor: bytes, counter: int, value: bytes, expires_at_ms: int, kind: int, context: Clock
) -> bytes:
    """As `write`, over a record of entries."""
    clock, present = entries.decode(old)
    seen = dict(context)
    kept = []
    for entry in present:
        maker, made = entries.unpack_dot(entry[2])
        if made > seen.get(maker, -1):
            kept.append(entry)
    for seen_actor, seen_counter in context:
        clock[seen_actor] = max(seen_counter, clock.get(seen_actor, -1))
    entries.advance(clock, actor, counter)
    return entries.encode(clock, [*kept, (b"", kind, entries.pack_dot(actor, counter), expires_at_ms, value)])


def context_after(record: bytes, context: Clock, actor: bytes, counter: int) -> Clock:
    """Returns the causal context for the author of the write (actor, counter): `context` and the write itself.

    A clock entry covers all earlier writes of the actor, too. If `record` has a sibling among these that the author has
    not seen, the result is `context` alone. Then the author's next write does not supersede this one: there may be a
    sibling too many, but nothing is lost.
    """
    seen = dict(context)
    seen[actor] = max(counter, seen.get(actor, 0))
    for entry in entries.decode(record)[1]:
        maker, made = entries.unpack_dot(entry[2])
        if made <= seen.get(maker, -1) and (maker, made) != (actor, counter):
            return context
    return tuple(sorted(seen.items()))
