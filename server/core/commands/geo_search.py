"""Searches for places: the arguments of GEOSEARCH, GEORADIUS and their family, and what they find.

Theory. All of them are one search with other arguments, as in Redis. They are parsed once the source is known, because
Redis does so: a key that does not exist needs no centre, and a member may be the centre. What the nine ranges of scores of
the area have (formats/geohash.py) comes out of the order by score that is kept for the record (records/orders.py).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field

from protocol import resp
from server.core.base.errors import SYNTAX, CommandError
from server.core.commands.arguments import double, integer
from server.core.commands.sliced_replies import joined_reply
from server.core.commands.sorted_sets.order import Ranked
from server.core.formats.geohash import (
    LATITUDE_MAX,
    LONGITUDE_MAX,
    UNITS_M,
    Area,
    decode,
    distance_text,
    integer_of_score,
)
from server.core.formats.numbers import long_double_text
from server.core.records.kinds import NONE
from server.core.records.slicing import Slices, each_of, in_order, parts_of
from server.core.records.views import View, unpack_score

# How a command is called.
COORDINATES = "coordinates"  # GEORADIUS key longitude latitude radius unit
MEMBER = "member"  # GEORADIUSBYMEMBER key member radius unit
SEARCH = "search"  # GEOSEARCH key, then options
SEARCH_STORE = "search and store"  # GEOSEARCHSTORE destination source, then options
_NO_MEMBER = "ERR could not decode requested zset member"
_SLICE_PLACES = 512  # of places, about 10 µs each
_WITHOUT_VALUE = (b"WITHDIST", b"WITHHASH", b"WITHCOORD", b"ANY", b"ASC", b"DESC")


@dataclass(slots=True)
class Search:
    """What a command searches, and what it does with it."""

    form: str
    can_store: bool
    area: Area = field(default_factory=Area)
    flags: set[bytes] = field(default_factory=set)
    is_descending: bool = False
    is_sorted: bool = False
    count: int = 0  # 0 for all
    target: bytes | None = None
    stores_distances: bool = False
    centre: str = ""  # FROMMEMBER or FROMLONLAT
    shape: str = ""  # BYRADIUS or BYBOX


@dataclass(slots=True)
class Found:
    """A member within the area."""

    distance: float  # in the unit of the search
    score: float
    member: bytes
    longitude: float
    latitude: float


def coordinates(longitude: bytes, latitude: bytes) -> tuple[float, float]:
    """A longitude and a latitude. Raises CommandError as Redis does."""
    x, y = double(longitude), double(latitude)
    if abs(x) > LONGITUDE_MAX or abs(y) > LATITUDE_MAX:
        raise CommandError(f"ERR invalid longitude,latitude pair {x:f},{y:f}")
    return x, y


def unit_m(text: bytes) -> float:
    """How many metres a unit has. Raises CommandError as Redis does."""
    unit = UNITS_M.get(text.lower())
    if unit is None:
        raise CommandError("ERR unsupported unit provided. please use M, KM, FT, MI")
    return unit


def parse(view: View, args: list[bytes], form: str, can_store: bool) -> Search:
    """The search that a command asks for. Raises CommandError as Redis does, in its order."""
    search = Search(form, can_store)
    place = 2
    if form == COORDINATES:
        search.area.longitude, search.area.latitude = coordinates(args[2], args[3])
        _set_radius(search, args[4], args[5])
        place = 6
    elif form == MEMBER:
        if view.key_type != NONE:
            _set_centre(search, view, args[2])
            _set_radius(search, args[3], args[4])
        place = 5
    elif form == SEARCH_STORE:
        search.target = args[1]
        place = 3
    while place < len(args):
        place = _take_option(search, view, args, place)
    _check(search, args[0])
    return search


def _take_option(search: Search, view: View, args: list[bytes], place: int) -> int:
    """Takes in the option at a place, and returns where the next one is."""
    name = args[place].upper()
    values = len(args) - place - 1
    if name in _WITHOUT_VALUE:
        search.flags.add(name)
        if name in (b"ASC", b"DESC"):
            search.is_sorted, search.is_descending = True, name == b"DESC"
        return place + 1
    if name == b"COUNT" and values >= 1:
        search.count = integer(args[place + 1])
        if search.count <= 0:
            raise CommandError("ERR COUNT must be > 0")
        return place + 2
    if search.form in (COORDINATES, MEMBER):
        if name in (b"STORE", b"STOREDIST") and values >= 1 and search.can_store:
            search.target, search.stores_distances = args[place + 1], name == b"STOREDIST"
            return place + 2
        raise CommandError(SYNTAX)
    if name == b"STOREDIST" and search.form == SEARCH_STORE:
        search.stores_distances = True
        return place + 1
    return _take_area(search, view, args, place, name)


def _take_area(search: Search, view: View, args: list[bytes], place: int, name: bytes) -> int:
    """Takes in the centre or the shape at a place."""
    values = args[place + 1 :]
    if name == b"FROMMEMBER" and len(values) >= 1 and search.centre != "FROMLONLAT":
        if view.key_type != NONE:
            _set_centre(search, view, values[0])
        search.centre = "FROMMEMBER"
        return place + 2
    if name == b"FROMLONLAT" and len(values) >= 2 and search.centre != "FROMMEMBER":
        search.area.longitude, search.area.latitude = coordinates(values[0], values[1])
        search.centre = "FROMLONLAT"
        return place + 3
    if name == b"BYRADIUS" and len(values) >= 2 and search.shape != "BYBOX":
        _set_radius(search, values[0], values[1])
        search.shape = "BYRADIUS"
        return place + 3
    if name == b"BYBOX" and len(values) >= 3 and search.shape != "BYRADIUS":
        width, height = double(values[0], "ERR need numeric width"), double(values[1], "ERR need numeric height")
        if width < 0 or height < 0:
            raise CommandError("ERR height or width cannot be negative")
        area = search.area
        area.is_box, area.width, area.height, area.unit_m = True, width, height, unit_m(values[2])
        search.shape = "BYBOX"
        return place + 4
    raise CommandError(SYNTAX)


def _set_centre(search: Search, view: View, member: bytes) -> None:
    payload = view.get(member)
    if payload is None:
        raise CommandError(_NO_MEMBER)
    search.area.longitude, search.area.latitude = decode(unpack_score(payload))


def _set_radius(search: Search, radius: bytes, unit: bytes) -> None:
    search.area.radius = double(radius, "ERR need numeric radius")
    if search.area.radius < 0:
        raise CommandError("ERR radius cannot be negative")
    search.area.unit_m = unit_m(unit)


def _check(search: Search, name: bytes) -> None:
    """Raises CommandError for options that do not go together."""
    if search.target is not None and search.flags & {b"WITHDIST", b"WITHHASH", b"WITHCOORD"}:
        what = "GEOSEARCHSTORE" if search.form == SEARCH_STORE else "STORE option in GEORADIUS"
        raise CommandError(f"ERR {what} is not compatible with WITHDIST, WITHHASH and WITHCOORD options")
    called = name.decode("utf-8", "surrogateescape")
    if search.form in (SEARCH, SEARCH_STORE):
        if not search.centre:
            raise CommandError(f"ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for {called}")
        if not search.shape:
            raise CommandError(f"ERR exactly one of BYRADIUS and BYBOX can be specified for {called}")
    if b"ANY" in search.flags and not search.count:
        raise CommandError("ERR the ANY argument requires COUNT argument")


def find(order: Ranked, search: Search) -> Slices[list[Found]]:
    """The members in the area, in the order in which the command wants them, and as many."""
    is_any = b"ANY" in search.flags
    found = yield from _within(order, search.area, search.count if is_any else 0)
    if search.is_sorted or (search.count and not is_any):
        sign = -1 if search.is_descending else 1
        nearness = [(sign * each.distance, place) for place, each in enumerate(found)]
        places = yield from in_order(nearness)
        if search.count:
            places = places[: search.count]
        found = yield from each_of(lambda each: found[each[1]], places)
    return found[: search.count] if search.count else found


def _within(order: Ranked, area: Area, limit: int) -> Slices[list[Found]]:
    """The members in the area; no more than the limit, unless it is 0."""
    found: list[Found] = []
    # Copies, because the order may be another one after a pause.
    ranges = [
        order[bisect_left(order, (low, b"")) : bisect_left(order, (end, b""))] for low, end in area.score_ranges()
    ]
    for pairs in ranges:
        for part in parts_of(pairs, _SLICE_PLACES):
            for score, member in part:
                longitude, latitude = decode(score)
                distance = area.distance_within_m(longitude, latitude)
                if distance is not None:
                    found.append(Found(distance / area.unit_m, score, member, longitude, latitude))
                    if len(found) == limit:
                        return found
            if len(part) == _SLICE_PLACES:
                yield
    return found


def position_reply(longitude: float, latitude: float, resp3: bool) -> bytes:
    """A place as its longitude and its latitude."""
    texts = [long_double_text(longitude), long_double_text(latitude)]
    return resp.array([b",%b\r\n" % text if resp3 else resp.bulk(text) for text in texts])


def reply_of(found: list[Found], search: Search, resp3: bool) -> Slices[resp.Reply]:
    """The members, each with what the options ask for beside it."""
    with_distance, with_hash, with_place = (
        option in search.flags for option in (b"WITHDIST", b"WITHHASH", b"WITHCOORD")
    )

    def encode(each: Found) -> bytes:
        reply = [resp.bulk(each.member)]
        if with_distance:
            reply.append(resp.bulk(distance_text(each.distance)))
        if with_hash:
            reply.append(resp.integer(integer_of_score(each.score)))
        if with_place:
            reply.append(position_reply(each.longitude, each.latitude, resp3))
        return reply[0] if len(reply) == 1 else resp.array(reply)

    return joined_reply(b"*%d\r\n" % len(found), encode, found, _SLICE_PLACES)
