"""Places: scores, coordinates, distances and searches, from golden values and as redis-server has them."""

from __future__ import annotations

import random
from bisect import bisect_left

import pytest
import redis as redis_py

from server.core.formats.geohash import (
    LATITUDE_MAX,
    UNITS_M,
    Area,
    decode,
    distance_m,
    distance_text,
    encode,
    integer_of_score,
    text_of,
)
from server.core.formats.numbers import long_double_text

# From the documentation of GEOADD and its family.
PALERMO, CATANIA = (13.361389, 38.115556), (15.087269, 37.502669)
ODD_SCORES = (-1.0, 1e20, 2.0**63, -(2.0**63), 2.0**64, float("inf"), float("-inf"), 0.5, -0.5, 2.0**60 + 2**30)
Places = dict[str, float]


def test_places_of_the_documentation() -> None:
    assert encode(*PALERMO) == 3479099956230698
    assert text_of(encode(*PALERMO)) == b"sqc8b49rny0"
    assert text_of(encode(*CATANIA)) == b"sqdtr74hyu0"
    assert [long_double_text(part) for part in decode(encode(*PALERMO))] == [
        b"13.36138933897018433",
        b"38.11555639549629859",
    ]
    assert distance_text(distance_m(*decode(encode(*PALERMO)), *decode(encode(*CATANIA)))) == b"166274.1516"


@pytest.mark.parametrize(
    ("distance", "text"),
    [
        (0.0, b"0.0000"),
        (0.00005, b"0.0000"),
        (0.00016, b"0.0002"),
        (1.0, b"1.0000"),
        (-2.5, b"-2.5000"),
        (1234.56785, b"1234.5678"),
    ],
)
def test_a_distance_has_four_digits_after_the_point(distance: float, text: bytes) -> None:
    assert distance_text(distance) == text


def test_edges_and_scores_that_are_no_places() -> None:
    assert encode(-180.0, -LATITUDE_MAX) == 0
    assert encode(180.0, LATITUDE_MAX) == 13510798882111488
    assert decode(0.0) == (-179.99999731779099, -85.05112751263943)
    for score in ODD_SCORES:
        decode(score)
        text_of(score)
        integer_of_score(score)
    assert [integer_of_score(score) for score in (1.9, -1.9, 1e19, float("-inf"))] == [1, -1, -(1 << 63), -(1 << 63)]


def _found(order: list[tuple[float, str]], area: Area) -> list[list[bytes]]:
    found = []
    for low, high in area.score_ranges():
        for score, name in order[bisect_left(order, (low, "")) : bisect_left(order, (high, ""))]:
            distance = area.distance_within_m(*decode(score))
            if distance is not None:
                found.append([name.encode(), distance_text(distance / area.unit_m)])
    return found


def test_a_search_finds_what_a_look_at_every_place_finds() -> None:
    chance = random.Random(4)
    places = {f"m{number}": float(encode(chance.uniform(-40, 40), chance.uniform(-60, 60))) for number in range(500)}
    order = sorted((score, name) for name, score in places.items())
    for _ in range(200):
        area = Area()
        area.longitude, area.latitude = chance.uniform(-40, 40), chance.uniform(-60, 60)
        area.is_box, area.unit_m = chance.random() < 0.5, 1000.0
        area.radius, area.width, area.height = (10 ** chance.uniform(0, 3.3) for _ in range(3))
        every = [name.encode() for score, name in order if area.distance_within_m(*decode(score)) is not None]
        assert sorted(name for name, _ in _found(order, area)) == sorted(every)


def _some_places(redis: redis_py.Redis, chance: random.Random) -> Places:
    places: Places = {}
    for number in range(400):
        longitude = chance.choice([chance.uniform(-180, 180), chance.uniform(13, 14), -180.0, 180.0, 0.0])
        latitude = chance.choice([chance.uniform(-85, 85), chance.uniform(37, 39), LATITUDE_MAX, -LATITUDE_MAX, 0.0])
        redis.execute_command("GEOADD", "places", repr(longitude), repr(latitude), f"m{number}")
        places[f"m{number}"] = float(encode(longitude, latitude))
    for score in ODD_SCORES:
        redis.zadd("places", {f"odd{score}": score})
        places[f"odd{score}"] = score
    return places


def test_redis_has_the_same_places(redis: redis_py.Redis) -> None:
    chance = random.Random(1)
    places = _some_places(redis, chance)
    for name, score in places.items():
        assert float(redis.execute_command("ZSCORE", "places", name)) == score
        assert redis.execute_command("GEOHASH", "places", name) == [text_of(score)]
        position = [long_double_text(part) for part in decode(score)]
        assert redis.execute_command("GEOPOS", "places", name) == [position]
        other, unit = chance.choice(list(places)), chance.choice(list(UNITS_M))
        distance = distance_m(*decode(score), *decode(places[other])) / UNITS_M[unit]
        assert redis.execute_command("GEODIST", "places", name, other, unit) == distance_text(distance)


@pytest.mark.parametrize("seed", range(2))
def test_redis_finds_the_same_in_the_same_order(redis: redis_py.Redis, seed: int) -> None:
    chance = random.Random(seed)
    order = sorted((score, name) for name, score in _some_places(redis, chance).items())

    def size() -> float:
        return chance.choice([0.0, 1.0, chance.uniform(0, 500), 10 ** chance.uniform(0, 8), float("inf")])

    for _ in range(300):
        area = Area()
        area.longitude = chance.choice([chance.uniform(-180, 180), 13.5, 180.0, -180.0])
        area.latitude = chance.choice([chance.uniform(-85, 85), 38.0, 70.0, -82.0])
        unit = chance.choice(list(UNITS_M))
        area.is_box, area.unit_m = chance.random() < 0.5, UNITS_M[unit]
        area.radius, area.width, area.height = size(), size(), size()
        shape = ["BYBOX", repr(area.width), repr(area.height)] if area.is_box else ["BYRADIUS", repr(area.radius)]
        words = ["FROMLONLAT", repr(area.longitude), repr(area.latitude), *shape, unit, "WITHDIST"]
        assert redis.execute_command("GEOSEARCH", "places", *words) == _found(order, area), words
