"""The table of the GEO commands."""

from __future__ import annotations

from server.core.commands.geo import geoadd, geodist, geohash, geopos, searching, storing
from server.core.commands.geo_search import COORDINATES, MEMBER, SEARCH, SEARCH_STORE
from server.core.commands.key_specs import KeySpec
from server.core.commands.shared_drafts import if_few
from server.core.commands.spec import EXCLUSIVE, READ, CommandSpec
from server.core.commands.typed import always, reading, updating
from server.core.records.kinds import ZSET

_UNIT = "(M|KM|FT|MI)"
_CIRCLE = f"radius {_UNIT} [WITHCOORD] [WITHDIST] [WITHHASH] [COUNT count [ANY]] [ASC|DESC]"
_STORE = "[STORE key] [STOREDIST key]"
_CENTRE = "(FROMMEMBER member|FROMLONLAT longitude latitude)"
_AREA = f"{_CENTRE} (BYRADIUS radius {_UNIT}|BYBOX width height {_UNIT})"


def _storing_keys(options: int) -> tuple[KeySpec, ...]:
    """The keys of a command whose options begin at a place, and may name a target."""
    return (
        KeySpec("RO access", 1),
        KeySpec("OW update", options, keyword="STORE"),
        KeySpec("OW update", options, keyword="STOREDIST"),
    )


COMMANDS: tuple[CommandSpec, ...] = (
    CommandSpec(
        "geoadd",
        -5,
        EXCLUSIVE,
        updating(ZSET, geoadd, shares=if_few),
        "Adds places to a sorted set, or moves them.",
        "geo",
        "write denyoom",
        (1, 1, 1),
        since="3.2.0",
        complexity="O(log(N))",
        access="RW update",
        arguments="key [NX|XX] [CH] longitude latitude member [longitude latitude member ...]",
    ),
    CommandSpec(
        "geodist",
        -4,
        READ,
        geodist,
        "Returns the distance of two places.",
        "geo",
        "readonly",
        (1, 1, 1),
        since="3.2.0",
        complexity="O(log(N))",
        access="RO access",
        arguments="key member1 member2 [M|KM|FT|MI]",
    ),
    CommandSpec(
        "geohash",
        -2,
        READ,
        reading(ZSET, geohash, sees_changes=always),
        "Returns places as geohash texts.",
        "geo",
        "readonly",
        (1, 1, 1),
        since="3.2.0",
        complexity="O(log(N))",
        access="RO access",
        arguments="key member [member ...]",
    ),
    CommandSpec(
        "geopos",
        -2,
        READ,
        reading(ZSET, geopos, sees_changes=always),
        "Returns the longitudes and latitudes of places.",
        "geo",
        "readonly",
        (1, 1, 1),
        since="3.2.0",
        complexity="O(N)",
        access="RO access",
        arguments="key member [member ...]",
    ),
    CommandSpec(
        "georadius",
        -6,
        EXCLUSIVE,
        storing(COORDINATES),
        "Finds or stores the places around a point; a target may be of any slot.",
        "geo",
        "write denyoom",
        since="3.2.0",
        complexity="O(N+log(M))",
        key_specs=_storing_keys(6),
        arguments=f"key longitude latitude {_CIRCLE} {_STORE}",
        deprecated=("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` argument"),
    ),
    CommandSpec(
        "georadius_ro",
        -6,
        READ,
        searching(COORDINATES),
        "Finds the places around a point.",
        "geo",
        "readonly",
        (1, 1, 1),
        since="3.2.10",
        complexity="O(N+log(M))",
        access="RO access",
        arguments=f"key longitude latitude {_CIRCLE}",
        deprecated=("6.2.0", "`GEOSEARCH` with the `BYRADIUS` argument"),
    ),
    CommandSpec(
        "georadiusbymember",
        -5,
        EXCLUSIVE,
        storing(MEMBER),
        "Finds or stores the places around a member; a target may be of any slot.",
        "geo",
        "write denyoom",
        since="3.2.0",
        complexity="O(N+log(M))",
        key_specs=_storing_keys(5),
        arguments=f"key member {_CIRCLE} {_STORE}",
        deprecated=("6.2.0", "`GEOSEARCH` and `GEOSEARCHSTORE` with the `BYRADIUS` and `FROMMEMBER` arguments"),
    ),
    CommandSpec(
        "georadiusbymember_ro",
        -5,
        READ,
        searching(MEMBER),
        "Finds the places around a member.",
        "geo",
        "readonly",
        (1, 1, 1),
        since="3.2.10",
        complexity="O(N+log(M))",
        access="RO access",
        arguments=f"key member {_CIRCLE}",
        deprecated=("6.2.0", "`GEOSEARCH` with the `BYRADIUS` and `FROMMEMBER` arguments"),
    ),
    CommandSpec(
        "geosearch",
        -7,
        READ,
        searching(SEARCH),
        "Finds the places in a circle or a box.",
        "geo",
        "readonly",
        (1, 1, 1),
        since="6.2.0",
        complexity="O(N+log(M))",
        access="RO access",
        arguments=f"key {_AREA} [ASC|DESC] [COUNT count [ANY]] [WITHCOORD] [WITHDIST] [WITHHASH]",
    ),
    CommandSpec(
        "geosearchstore",
        -8,
        EXCLUSIVE,
        storing(SEARCH_STORE),
        "Stores the places in a circle or a box, under a key of any slot; not atomic.",
        "geo",
        "write denyoom",
        since="6.2.0",
        complexity="O(N+log(M))",
        key_specs=(KeySpec("OW update", 1), KeySpec("RO access", 2)),
        arguments=f"destination source {_AREA} [ASC|DESC] [COUNT count [ANY]] [STOREDIST]",
    ),
)
