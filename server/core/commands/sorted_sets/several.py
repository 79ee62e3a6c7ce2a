"""Commands on several sorted sets: ZUNION, ZINTER, ZDIFF, their STORE forms, ZINTERCARD, ZRANGESTORE and ZMPOP.

Theory. As for sets (sets/several.py): each key is read by its own quorum, a destination is written as one write. ZMPOP
pops from one key after the other until one of them has members.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol import resp
from protocol.databases import client_key
from protocol.resp import bulk
from server.core.base.sinks import Sink
from server.core.commands.arguments import counted_pops
from server.core.commands.slices import in_slices
from server.core.commands.sorted_sets.algebra import Combination, check_inputs, combine, input_keys, parse_options
from server.core.commands.sorted_sets.order import Ranked
from server.core.commands.sorted_sets.queries import selected
from server.core.commands.sorted_sets.ranges import parse_selection
from server.core.commands.sorted_sets.replies import members_reply, pairs_reply
from server.core.commands.spec import Handler
from server.core.commands.typed import check_type
from server.core.commands.typed_steps import content_with, gather, replace, run_command
from server.core.records.kinds import ZSET
from server.core.records.slicing import Pace, Slices
from server.core.records.views import pack_score
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps


def combined(operation: str) -> Handler:
    """Returns the handler of ZUNION, ZINTER or ZDIFF: numkeys key … and options."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        def steps() -> Steps:
            result, options = yield from _result(services, args, 1, operation)
            return (yield from in_slices(services, members_reply(result, options.with_scores, sink.resp3)))

        services.run_steps(steps(), sink, number)

    return handle


def stored(operation: str) -> Handler:
    """Returns the handler of ZUNIONSTORE, ZINTERSTORE or ZDIFFSTORE: destination numkeys key … and options."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        def steps() -> Steps:
            result, _ = yield from _result(services, args, 2, operation)
            yield from store_members(services, args[1], result)
            return resp.integer(len(result))

        services.run_steps(steps(), sink, number)

    return handle


def zintercard(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """ZINTERCARD numkeys key … [LIMIT limit]: the size of the intersection, or `limit` if it is larger."""

    def steps() -> Steps:
        result, options = yield from _result(services, args, 1, "intersection", is_counted=True)
        return resp.integer(min(len(result), options.limit or len(result)))

    services.run_steps(steps(), sink, number)


def _result(
    services: Services, args: list[bytes], numkeys_at: int, operation: str, is_counted: bool = False
) -> Generator[Step, Any, tuple[Ranked, Combination]]:
    keys = input_keys(args, numkeys_at, args[0].decode("utf-8", "replace").lower())
    views = yield gather(services, keys)
    check_inputs(views)
    rest = args[numkeys_at + 1 + len(keys) :]
    options = parse_options(rest, len(keys), operation, is_stored=numkeys_at > 1, is_counted=is_counted)
    result = yield from in_slices(services, combine(operation, views, options))
    return result, options


def store_members(services: Services, destination: bytes, members: Ranked) -> Generator[Step, Any, None]:
    """Makes the destination a sorted set of these members; without members it is deleted."""
    items = ((member, pack_score(score + 0.0)) for score, member in members)  # 0 for -0, as ZADD writes it
    record = yield from in_slices(services, content_with(ZSET, items, services.state.time_ms))
    yield replace(services, destination, record)


def zrangestore(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """ZRANGESTORE destination source min max [BYSCORE|BYLEX] [REV] [LIMIT offset count]: how many were stored."""
    selection = parse_selection(args[3:5], args[5:], takes_scores=False)

    def steps() -> Steps:
        views = yield gather(services, [args[2]])
        check_type(views[0], ZSET)
        order = yield from in_slices(services, services.state.orders.scores.of(args[2], views[0]))
        result = selected(order, selection)
        yield from store_members(services, args[1], result)
        return resp.integer(len(result))

    services.run_steps(steps(), sink, number)


def zmpop(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """ZMPOP numkeys key … MIN|MAX [COUNT count]: pops from the first sorted set that has members."""
    keys, word, count = counted_pops(args, (b"MIN", b"MAX"))

    def steps() -> Steps:
        for key in keys:
            reply = yield run_command(services, [b"ZPOP" + word, key, count])
            pairs = yield from in_slices(services, _pairs_in(reply))
            if pairs:
                popped = yield from in_slices(services, pairs_reply(pairs, sink.resp3))
                return b"*2\r\n" + bulk(client_key(key)) + popped
        return resp.null_array(sink.resp3)

    services.run_steps(steps(), sink, number)


def _pairs_in(reply: bytes) -> Slices[Ranked]:
    """The members and scores in a reply to ZPOPMIN or ZPOPMAX."""
    pairs, pace, texts = [], Pace(), resp.scalars_of(reply)
    for member in texts:
        if pace.is_full():
            yield
        pairs.append((float(next(texts)), member))
    return pairs
