"""The GEO commands (https://redis.io/docs/latest/commands/?group=geo): places as members of sorted sets.

Theory. A place's score is its geohash, so GEOADD is a ZADD with computed scores, and every command of sorted sets works on
the same keys. What is written on two sides of a partition merges as sorted sets do: the newest place of each member.

The forms that store read the source by a quorum and then make the target, of any slot, a new sorted set by one write. So
they are not atomic: what is added to the source meanwhile is not in the target.
"""

from __future__ import annotations

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.arguments import check_sizes
from server.core.commands.geo_search import (
    COORDINATES,
    MEMBER,
    SEARCH_STORE,
    Found,
    Search,
    coordinates,
    find,
    parse,
    position_reply,
    reply_of,
    unit_m,
)
from server.core.commands.sliced_replies import Sliced, array_reply
from server.core.commands.slices import in_slices
from server.core.commands.sorted_sets.edits import zadd
from server.core.commands.sorted_sets.several import store_members
from server.core.commands.spec import Handler
from server.core.commands.typed import ANY, check_type, reading, with_state
from server.core.commands.typed_steps import gather
from server.core.formats.geohash import decode, distance_m, distance_text, encode, text_of
from server.core.records.draft import Draft
from server.core.records.kinds import ZSET
from server.core.records.slicing import SLICE_CHANGES, Pace, Slices
from server.core.records.views import View, unpack_score
from server.core.services.services import Services
from server.core.work.procedures import Steps


def geoadd(draft: Draft, args: list[bytes], sink: Sink) -> Slices[resp.Reply]:
    """GEOADD key [NX|XX] [CH] longitude latitude member …."""
    place = 2
    while place < len(args) and args[place].upper() in (b"NX", b"XX", b"CH"):
        place += 1
    options = args[2:place]
    if (len(args) - place) % 3 or {b"NX", b"XX"} <= {option.upper() for option in options}:
        raise CommandError(SYNTAX)
    words, pace = [b"ZADD", args[1], *options], Pace(SLICE_CHANGES)
    for first in range(place, len(args), 3):
        if pace.is_full():
            yield
        words += (b"%d" % encode(*coordinates(args[first], args[first + 1])), args[first + 2])
    return (yield from zadd(draft, words, sink))


def _place_of(view: View, member: bytes) -> tuple[float, float] | None:
    payload = view.get(member)
    return None if payload is None else decode(unpack_score(payload))


def geopos(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """GEOPOS key member …: for each its longitude and latitude, or null."""

    def position_of(member: bytes) -> bytes:
        place = _place_of(view, member)
        return resp.null_array(sink.resp3) if place is None else position_reply(*place, sink.resp3)

    return array_reply(position_of, args[2:])


def geohash(view: View, args: list[bytes], sink: Sink) -> Sliced:
    """GEOHASH key member …: for each its usual geohash, or null."""

    def text(member: bytes) -> bytes:
        payload = view.get(member)
        return resp.null(sink.resp3) if payload is None else resp.bulk(text_of(unpack_score(payload)))

    return array_reply(text, args[2:])


def _distance(view: View, args: list[bytes], sink: Sink) -> bytes:
    one, other = _place_of(view, args[2]), _place_of(view, args[3])
    if one is None or other is None:
        return resp.null(sink.resp3)
    unit = unit_m(args[4]) if len(args) > 4 else 1.0
    return resp.bulk(distance_text(distance_m(*one, *other) / unit))


def geodist(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
    """GEODIST key member member [M|KM|FT|MI]: the unit is checked first, as in Redis."""
    if len(args) > 5:
        raise CommandError(SYNTAX)
    if len(args) == 5:
        unit_m(args[4])
    return _distance_of(services, sink, number, args)


_distance_of = reading(ZSET, _distance)


def searching(form: str, can_store: bool = False) -> Handler:
    """Returns the handler of a command that answers with what it finds."""

    def search_view(view: View, args: list[bytes], sink: Sink, state: State) -> Slices[resp.Reply]:
        check_type(view, ZSET)  # before the arguments, as in Redis
        search = parse(view, args, form, can_store)
        order = yield from state.orders.scores.of(args[1], view)
        found = yield from find(order, search)
        return (yield from reply_of(found, search, sink.resp3))

    return with_state(reading, ANY, search_view)


def storing(form: str) -> Handler:
    """Returns the handler of a command that may store what it finds."""
    source = 2 if form == SEARCH_STORE else 1
    options = {COORDINATES: 6, MEMBER: 5}.get(form, 0)
    answer = searching(form, can_store=True)

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        if options and not any(word.upper() in (b"STORE", b"STOREDIST") for word in args[options:]):
            return answer(services, sink, number, args)
        services.run_steps(steps(services, sink, args), sink, number)
        return None

    def steps(services: Services, sink: Sink, args: list[bytes]) -> Steps:
        (view,) = yield gather(services, [args[source]])
        check_type(view, ZSET)
        search = parse(view, args, form, can_store=True)
        found = yield from in_slices(services, _found(services.state, args[source], view, search))
        if search.target is None:
            return (yield from in_slices(services, reply_of(found, search, sink.resp3)))
        check_sizes(search.target, b"", services.state.config)
        pairs = [(each.distance if search.stores_distances else each.score, each.member) for each in found]
        yield from store_members(services, search.target, pairs)
        return resp.integer(len(found))

    return handle


def _found(state: State, key: bytes, view: View, search: Search) -> Slices[list[Found]]:
    order = yield from state.orders.scores.of(key, view)
    return (yield from find(order, search))
