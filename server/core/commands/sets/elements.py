"""Commands on one set: SADD, SREM, SISMEMBER, SMISMEMBER, SMEMBERS, SCARD, SPOP, SRANDMEMBER."""

from __future__ import annotations

from protocol import resp
from protocol.resp import Reply, bulk
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import integer
from server.core.commands.choices import Item, choose, random_count
from server.core.commands.sliced_replies import Sliced, array_reply, fields_reply, joined_reply, sum_reply
from server.core.records.draft import Draft
from server.core.records.slicing import SLICE_CHANGES, Slices, each_of
from server.core.records.views import View

_NOT_POSITIVE = "ERR value is out of range, must be positive"


def sadd(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """SADD key element …: how many were not in the set.

    An element that is in the set already is written, too: this add must beat a removal that has not seen it.
    """
    return sum_reply(lambda element: draft.put(element, b""), args[2:])


def srem(draft: Draft, args: list[bytes], sink: Sink) -> Sliced:
    """SREM key element …: how many were removed."""
    return sum_reply(draft.remove, args[2:])


def spop(draft: Draft, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
    """SPOP key [count]: removes and returns random elements."""
    if len(args) > 3:
        raise CommandError(SYNTAX)
    count = integer(args[2], _NOT_POSITIVE) if len(args) > 2 else 1
    if count < 0:
        raise CommandError(_NOT_POSITIVE)
    chosen = yield from choose(draft, count, state.rng)
    yield from each_of(lambda item: draft.remove(item[0]), chosen, SLICE_CHANGES)
    if len(args) == 2:
        return bulk(chosen[0][0]) if chosen else resp.null(sink.resp3)
    return (yield from joined_reply(set_opening(len(chosen), sink), _element, chosen))


def srandmember(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
    """SRANDMEMBER key [count]: random elements, distinct ones if the count is positive."""
    if len(args) > 3:
        raise CommandError(SYNTAX)
    chosen = yield from choose(view, random_count(args[2]) if len(args) > 2 else 1, state.rng)
    if len(args) == 2:
        return bulk(chosen[0][0]) if chosen else resp.null(sink.resp3)
    return (yield from joined_reply(b"*%d\r\n" % len(chosen), _element, chosen))


def scard(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """SCARD key: how many elements there are."""
    return resp.integer((yield from view.count_in_slices()))


def sismember(view: View, args: list[bytes], sink: Sink) -> Reply:
    """SISMEMBER key element: 1 or 0."""
    return resp.integer(view.has(args[2]))


def smismember(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """SMISMEMBER key element …: 1 or 0 for each."""
    return array_reply(lambda element: resp.integer(view.has(element)), args[2:])


def smembers(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """SMEMBERS key: all elements."""
    return fields_reply(view, _element, b"~" if sink.resp3 else b"*")


def _element(item: Item) -> bytes:
    return bulk(item[0])


def element_items(item: tuple[bytes, bytes], sink: Sink) -> list[bytes]:
    """Returns what SSCAN answers for an element."""
    return [bulk(item[0])]


def elements_reply(elements: list[bytes], sink: Sink) -> Slices[Reply]:
    """Returns a set of elements; in RESP2 an array."""
    return joined_reply(set_opening(len(elements), sink), bulk, elements)


def set_opening(count: int, sink: Sink) -> bytes:
    """Returns what a set of so many elements begins with."""
    return b"%b%d\r\n" % (b"~" if sink.resp3 else b"*", count)
