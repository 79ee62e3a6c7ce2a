"""Commands that read one sorted set: scores, ranks, counts, ranges, random members."""

from __future__ import annotations

from collections.abc import Callable

from protocol import resp
from protocol.resp import Reply
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.choices import check_paired, choose, random_count
from server.core.commands.sliced_replies import Sliced, array_reply
from server.core.commands.sorted_sets.order import Places, Ranked, rank_of
from server.core.commands.sorted_sets.ranges import Selection, parse_selection, range_of
from server.core.commands.sorted_sets.replies import members_reply
from server.core.records.orders import by_score
from server.core.records.slicing import Slices, each_of
from server.core.records.views import View, unpack_score

Query = Callable[[View, list[bytes], Sink, State], Slices[Reply]]


def zcard(view: View, args: list[bytes], sink: Sink) -> Slices[Reply]:
    """ZCARD key: how many members there are."""
    return resp.integer((yield from view.count_in_slices()))


def zscore(view: View, args: list[bytes], sink: Sink) -> Reply:
    """ZSCORE key member: its score, or null."""
    return _score_reply(view, args[2], sink)


def zmscore(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """ZMSCORE key member …: the score of each, or null."""
    return array_reply(lambda member: _score_reply(view, member, sink), args[2:])


def _score_reply(view: View, member: bytes, sink: Sink) -> bytes:
    payload = view.get(member)
    return resp.null(sink.resp3) if payload is None else resp.double(unpack_score(payload), sink.resp3)


def rank_query(descends: bool) -> Query:
    """Returns the function of ZRANK or ZREVRANK: key member [WITHSCORE]."""

    def run(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
        with_score = len(args) > 3
        if with_score and (len(args) > 4 or args[3].upper() != b"WITHSCORE"):
            raise CommandError(SYNTAX)
        payload = view.get(args[2])
        if payload is None:
            return resp.null_array(sink.resp3) if with_score else resp.null(sink.resp3)
        score = unpack_score(payload)
        order = yield from state.orders.scores.of(args[1], view)
        rank = rank_of(order, score, args[2])
        place = resp.integer(len(order) - 1 - rank if descends else rank)
        return resp.array([place, resp.double(score, sink.resp3)]) if with_score else place

    return run


def count_query(kind: int) -> Query:
    """Returns the function of ZCOUNT or ZLEXCOUNT: key min max."""

    def run(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
        bounds = range_of(kind, args[2], args[3])
        order = yield from state.orders.scores.of(args[1], view)
        return resp.integer(len(bounds.places(order)))

    return run


def range_query(kind: int | None, descends: bool | None) -> Query:
    """Returns the function of a range command: key, two bounds, options. See ranges.py for the spellings."""

    def run(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
        selection = parse_selection(args[2:4], args[4:], kind, descends)
        order = yield from state.orders.scores.of(args[1], view)
        return (yield from members_reply(selected(order, selection), selection.with_scores, sink.resp3))

    return run


def selected(order: Ranked, selection: Selection) -> Ranked:
    """Returns the (score, member) pairs that a selection has in an order: a copy, which is still right after a pause."""
    return pairs_at(order, selection.places(order))


def pairs_at(order: Ranked, places: Places) -> Ranked:
    """Returns the pairs at adjacent places, ascending or descending."""
    if not places:
        return []
    if places.step > 0:
        return order[places.start : places[-1] + 1]
    return order[places[-1] : places.start + 1][::-1]


def member_items(item: tuple[bytes, bytes], sink: Sink) -> list[bytes]:
    """Returns what ZSCAN answers for a member: it and its score, as a bulk string in both protocols."""
    return [resp.bulk(item[0]), resp.double(unpack_score(item[1]), False)]


def zrandmember(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[Reply]:
    """ZRANDMEMBER key [count [WITHSCORES]]: random members, distinct ones if the count is positive."""
    if len(args) == 2:
        chosen = yield from choose(view, 1, state.rng)
        return resp.bulk(chosen[0][0]) if chosen else resp.null(sink.resp3)
    count = random_count(args[2])
    if len(args) > 4 or (len(args) == 4 and args[3].upper() != b"WITHSCORES"):
        raise CommandError(SYNTAX)
    if len(args) == 4:
        check_paired(count)
    chosen = yield from choose(view, count, state.rng)
    pairs = yield from each_of(by_score, chosen)
    return (yield from members_reply(pairs, len(args) == 4, sink.resp3))
