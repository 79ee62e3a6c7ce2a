"""The GEO commands at one node: replies, options, errors."""

from __future__ import annotations

import pytest

from tests.core.commands.talking import Client, make_node

PALERMO = ["13.36138933897018433", "38.11555639549629859"]
WRONGTYPE = "WRONGTYPE Operation against a key holding the wrong kind of value"
SYNTAX = "ERR syntax error"
INCOMPATIBLE = "is not compatible with WITHDIST, WITHHASH and WITHCOORD options"
NO_CENTRE = "ERR exactly one of FROMMEMBER or FROMLONLAT can be specified for"
NO_SHAPE = "ERR exactly one of BYRADIUS and BYBOX can be specified for"
NO_FLOAT = "ERR value is not a valid float"


@pytest.fixture
def client() -> Client:
    """A client of a node that knows two towns of Sicily."""
    client = Client(make_node())
    assert client.ask("GEOADD s 13.361389 38.115556 Palermo 15.087269 37.502669 Catania") == 2
    return client


def test_places_are_members_of_a_sorted_set(client: Client) -> None:
    assert (client.ask("TYPE s"), client.ask("ZSCORE s Palermo")) == ("zset", "3479099956230698")
    assert client.ask("GEOADD s NX 1 1 Palermo 1 1 New") == 1
    assert client.ask("GEOADD s XX CH 2 2 New 2 2 Other") == 1
    assert client.ask("GEOPOS s Palermo Other") == [PALERMO, None]
    assert client.ask("GEOHASH s Catania Other") == ["sqdtr74hyu0", None]
    assert client.ask("ZREM s New") == 1
    assert client.ask("GEOPOS none a") == [None]


def test_distances(client: Client) -> None:
    assert client.ask("GEODIST s Palermo Catania") == "166274.1516"
    assert client.ask("GEODIST s Palermo Catania KM") == "166.2742"
    assert client.ask("GEODIST s Palermo Catania mi") == "103.3182"
    assert client.ask("GEODIST s Palermo Palermo ft") == "0.0000"
    assert client.ask("GEODIST s Palermo none") is None
    assert client.ask("GEODIST none a b") is None


def test_searches(client: Client) -> None:
    near = "FROMLONLAT 15 37"
    assert client.ask(f"GEOSEARCH s {near} BYRADIUS 200 km ASC") == ["Catania", "Palermo"]
    assert client.ask(f"GEOSEARCH s {near} BYRADIUS 200 km DESC COUNT 1") == ["Palermo"]
    assert client.ask(f"GEOSEARCH s {near} BYRADIUS 200 km COUNT 1") == ["Catania"]
    assert client.ask(f"GEOSEARCH s {near} BYRADIUS 200 km COUNT 1 ANY") == ["Palermo"]
    assert client.ask(f"GEOSEARCH s {near} BYRADIUS 200 km COUNT 1 ANY ASC") == ["Palermo"]  # it ends at the first one
    assert client.ask(f"GEOSEARCH s {near} BYBOX 100 400 km") == ["Catania"]
    assert client.ask("GEOSEARCH s FROMMEMBER Palermo BYRADIUS 0 m WITHCOORD WITHHASH WITHDIST") == [
        ["Palermo", "0.0000", 3479099956230698, PALERMO]
    ]
    assert client.ask("GEORADIUS s 15 37 100 km WITHDIST") == [["Catania", "56.4413"]]
    assert client.ask("GEORADIUS_RO s 15 37 100 km") == ["Catania"]
    assert client.ask("GEORADIUSBYMEMBER s Palermo 100 km") == ["Palermo"]
    assert client.ask("GEORADIUSBYMEMBER_RO s Palermo 200 km ASC") == ["Palermo", "Catania"]
    client.ask("HELLO 3")
    assert client.ask("GEOPOS s Palermo") == [[float(part) for part in PALERMO]]


def test_what_is_found_is_stored(client: Client) -> None:
    assert client.ask("GEOSEARCHSTORE t s FROMLONLAT 15 37 BYRADIUS 200 km") == 2
    assert client.ask("GEOPOS t Palermo") == [PALERMO]
    assert client.ask("GEOSEARCHSTORE t s FROMMEMBER Palermo BYRADIUS 200 km STOREDIST COUNT 1 DESC") == 1
    assert client.ask("ZRANGE t 0 -1 WITHSCORES") == ["Catania", "166.27415156960032"]
    client.ask("SET string x")
    assert client.ask("GEORADIUS s 15 37 100 km STORE string") == 1
    assert client.ask("ZCARD string") == 1
    assert client.ask("GEORADIUSBYMEMBER s Palermo 100 km STOREDIST string") == 1
    assert client.ask("ZSCORE string Palermo") == "0"
    assert client.ask("GEORADIUS s 0 0 1 m STORE string") == 0
    assert client.ask("EXISTS string") == 0
    client.ask("SET string x")
    assert client.ask("GEOSEARCHSTORE string none FROMMEMBER a BYRADIUS 1 m") == 0
    assert client.ask("EXISTS string") == 0


def test_a_key_that_is_not_there_is_empty() -> None:
    client = Client(make_node())
    for line in (
        "GEOSEARCH none FROMMEMBER a BYRADIUS 1 m",
        "GEORADIUS none 1 1 1 m",
        "GEORADIUSBYMEMBER none a x y",
        "GEORADIUSBYMEMBER_RO none a 1 m ASC",
    ):
        assert client.ask(line) == []
    assert client.ask("GEORADIUSBYMEMBER none a 1 m STORE t") == 0


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("GEOADD s 1 1 a 2", SYNTAX),
        ("GEOADD s NX XX 1 1 a", SYNTAX),
        ("GEOADD s NX CH CH", SYNTAX),
        ("GEOADD s x 1 a", NO_FLOAT),
        ("GEOADD s 181 1 a", "ERR invalid longitude,latitude pair 181.000000,1.000000"),
        ("GEOADD s 1 inf a", "ERR invalid longitude,latitude pair 1.000000,inf"),
        ("GEODIST s a b mm", "ERR unsupported unit provided. please use M, KM, FT, MI"),
        ("GEODIST s a b m m", SYNTAX),
        ("GEORADIUS s 1 1 -1 m", "ERR radius cannot be negative"),
        ("GEORADIUS s 1 1 x m", "ERR need numeric radius"),
        ("GEORADIUS_RO s 1 1 1 m STORE t", SYNTAX),
        ("GEORADIUS s 1 1 1 m STORE t WITHDIST", f"ERR STORE option in GEORADIUS {INCOMPATIBLE}"),
        ("GEORADIUS s 1 1 1 m COUNT 0", "ERR COUNT must be > 0"),
        ("GEORADIUS s 1 1 1 m COUNT x", "ERR value is not an integer or out of range"),
        ("GEORADIUS s 1 1 1 m ANY", "ERR the ANY argument requires COUNT argument"),
        ("GEORADIUSBYMEMBER s none 1 m", "ERR could not decode requested zset member"),
        ("GEOSEARCH s BYRADIUS 1 m ASC COUNT 1", f"{NO_CENTRE} GEOSEARCH"),
        ("geosearch s FROMMEMBER Palermo ASC COUNT 1", f"{NO_SHAPE} geosearch"),
        ("GEOSEARCH s FROMMEMBER Palermo FROMLONLAT 1 1 BYRADIUS 1 m", SYNTAX),
        ("GEOSEARCH s FROMMEMBER Palermo BYBOX 1 1 m BYRADIUS 1 m", SYNTAX),
        ("GEOSEARCH s FROMMEMBER Palermo BYBOX x 1 m", "ERR need numeric width"),
        ("GEOSEARCH s FROMMEMBER Palermo BYBOX 1 x m", "ERR need numeric height"),
        ("GEOSEARCH s FROMMEMBER Palermo BYBOX -1 1 m", "ERR height or width cannot be negative"),
        ("GEOSEARCH s FROMMEMBER Palermo BYRADIUS 1 m STOREDIST", SYNTAX),
        ("GEOSEARCHSTORE t s FROMMEMBER Palermo BYRADIUS 1 m WITHDIST", f"ERR GEOSEARCHSTORE {INCOMPATIBLE}"),
    ],
)  # fmt: skip
def test_errors_are_those_of_redis(client: Client, line: str, text: str) -> None:
    assert client.error(line) == text
    assert client.ask("EXISTS t") == 0


def test_other_types_are_told(client: Client) -> None:
    client.ask("SET x v")
    for line in (
        "GEOADD x 1 1 a", "GEODIST x a b", "GEOPOS x a", "GEOHASH x a", "GEORADIUS x a b c d", "GEORADIUS_RO x a b c d",
        "GEORADIUSBYMEMBER x a 1 m STORE t", "GEOSEARCH x a b c d e", "GEOSEARCHSTORE t x a b c d e",
    ):  # fmt: skip
        assert client.error(line) == WRONGTYPE
