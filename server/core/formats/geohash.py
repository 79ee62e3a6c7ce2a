"""Places on the earth as Redis keeps them: 52 bits, the score of a member of a sorted set.

Theory. Longitude and latitude are each cut into 2 ** 26 steps, and the bits of both alternate. So a square of the earth is
a range of scores, and a search in some area reads the members in nine ranges: the square that the centre lies in, of a size
that fits the area, and its eight neighbours. Then the distance of each decides. Distances are those of the haversine
formula on a sphere.

Every operation is done in the order in which Redis does it, so that scores, coordinates and distances are its own to the
last bit. Longitudes come before latitudes everywhere.

Source: geohash.c, geohash_helper.c and geo.c of Redis 7.0.15.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import asin, cos, inf, isfinite, isnan, nan, pi, sin, sqrt
from typing import Final

LONGITUDE_MAX: Final = 180.0
LATITUDE_MAX: Final = 85.05112878
UNITS_M: Final = {b"m": 1.0, b"km": 1000.0, b"ft": 0.3048, b"mi": 1609.34}

_STEPS: Final = 26
_RADIAN: Final = pi / 180.0
_EARTH_RADIUS_M: Final = 6372797.560856
_MERCATOR_MAX: Final = 20037726.37
_ALPHABET: Final = b"0123456789bcdefghjkmnpqrstuvwxyz"
_MASK_32: Final = (1 << 32) - 1
_INT64_MIN: Final = -(1 << 63)
# The steps of spreading 32 bits over 64, from the last to the first.
_SPREADS: Final = (
    (16, 0x0000FFFF0000FFFF),
    (8, 0x00FF00FF00FF00FF),
    (4, 0x0F0F0F0F0F0F0F0F),
    (2, 0x3333333333333333),
    (1, 0x5555555555555555),
)
# The squares around one, in the order in which Redis looks at them.
_AROUND: Final = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0), (1, 1), (-1, 1), (1, -1), (-1, -1))
_EVEN_BITS: Final = 0x5555555555555555


def _spread(number: int) -> int:
    """32 bits at the even places of 64."""
    for shift, mask in _SPREADS:
        number = (number | number << shift) & mask
    return number


def _gathered(number: int) -> int:
    """The bits at the even places of 64."""
    number &= _EVEN_BITS
    for shift, mask in ((1, _SPREADS[3][1]), (2, _SPREADS[2][1]), (4, _SPREADS[1][1]), (8, _SPREADS[0][1])):
        number = (number | number >> shift) & mask
    return (number | number >> 16) & _MASK_32


def _square(longitude: float, latitude: float, steps: int, latitude_max: float = LATITUDE_MAX) -> tuple[int, int]:
    """The place of a square of 2 ** steps a side: (column, row)."""
    row = (latitude + latitude_max) / (latitude_max + latitude_max) * (1 << steps)
    column = (longitude + LONGITUDE_MAX) / (LONGITUDE_MAX + LONGITUDE_MAX) * (1 << steps)
    return int(column), int(row)


def encode(longitude: float, latitude: float) -> int:
    """The score of a place, which is within the bounds."""
    column, row = _square(longitude, latitude, _STEPS)
    return _spread(row) | _spread(column) << 1


def _edges(column: int, row: int, steps: int) -> tuple[float, float, float, float]:
    """The edges of a square: west, south, east, north."""
    scale, latitudes = float(1 << steps), LATITUDE_MAX + LATITUDE_MAX
    return (
        -LONGITUDE_MAX + (column * 1.0 / scale) * 360.0,
        -LATITUDE_MAX + (row * 1.0 / scale) * latitudes,
        -LONGITUDE_MAX + ((column + 1 & _MASK_32) * 1.0 / scale) * 360.0,
        -LATITUDE_MAX + ((row + 1 & _MASK_32) * 1.0 / scale) * latitudes,
    )


def integer_of_score(score: float) -> int:
    """A score as C makes a signed integer of it; what does not fit is the least one."""
    return int(score) if isfinite(score) and -(2.0**63) <= score < 2.0**63 else _INT64_MIN


def _bits_of_score(score: float) -> int:
    """A score as C makes an unsigned integer of it; sorted sets have scores that are no places, too."""
    if score >= 2.0**63:
        return int(score) if score < 2.0**64 else 0
    return integer_of_score(score) & (1 << 64) - 1


def decode(score: float) -> tuple[float, float]:
    """The longitude and the latitude of the middle of the square that a score stands for."""
    bits = _bits_of_score(score)
    west, south, east, north = _edges(_gathered(bits >> 1), _gathered(bits), _STEPS)
    longitude = min(max((west + east) / 2, -LONGITUDE_MAX), LONGITUDE_MAX)
    return longitude, min(max((south + north) / 2, -LATITUDE_MAX), LATITUDE_MAX)


def text_of(score: float) -> bytes:
    """The usual geohash of a place in eleven characters, the last of which is always 0."""
    column, row = _square(*decode(score), _STEPS, 90.0)
    bits = _spread(row) | _spread(column) << 1
    return bytes([_ALPHABET[bits >> shift & 31] for shift in range(47, -1, -5)]) + b"0"


def distance_m(longitude: float, latitude: float, other_longitude: float, other_latitude: float) -> float:
    """The distance of two places in metres."""
    v = sin((other_longitude * _RADIAN - longitude * _RADIAN) / 2)
    if v == 0.0:
        return _latitude_distance_m(latitude, other_latitude)
    one, other = latitude * _RADIAN, other_latitude * _RADIAN
    u = sin((other - one) / 2)
    a = u * u + cos(one) * cos(other) * v * v
    return 2.0 * _EARTH_RADIUS_M * asin(min(sqrt(a), 1.0))


def _latitude_distance_m(latitude: float, other_latitude: float) -> float:
    return _EARTH_RADIUS_M * abs(other_latitude * _RADIAN - latitude * _RADIAN)


def distance_text(distance: float) -> bytes:
    """A distance with four digits after the point."""
    scaled = distance * 10_000
    number = _INT64_MIN if isnan(scaled) or abs(scaled) >= 2.0**63 else round(scaled)
    whole, rest = divmod(abs(number), 10_000)
    return b"%b%d.%04d" % (b"-" if number < 0 else b"", whole, rest)


class Area:
    """A circle or a box around a place. `unit_m` is what the sizes are given in; a circle has no width and no height."""

    __slots__ = ("height", "is_box", "latitude", "longitude", "radius", "unit_m", "width")

    def __init__(self) -> None:
        self.longitude = self.latitude = 0.0
        self.is_box = False
        self.radius = self.width = self.height = 0.0
        self.unit_m = 1.0

    def distance_within_m(self, longitude: float, latitude: float) -> float | None:
        """The distance of a place from the centre; None if the place is outside."""
        if not self.is_box:
            distance = distance_m(self.longitude, self.latitude, longitude, latitude)
            return None if distance > self.radius * self.unit_m else distance
        if _latitude_distance_m(latitude, self.latitude) > self.height * self.unit_m / 2:
            return None
        if distance_m(longitude, latitude, self.longitude, latitude) > self.width * self.unit_m / 2:
            return None
        return distance_m(self.longitude, self.latitude, longitude, latitude)

    def score_ranges(self) -> Iterator[tuple[int, int]]:
        """The ranges of scores, from the first to before the second, in which the members of the area are."""
        west, south, east, north = self._bounds()
        steps = self._steps()
        column, row = _square(self.longitude, self.latitude, steps)
        if steps > 1 and not _neighbours_cover((west, south, east, north), column, row, steps):
            steps -= 1
            column, row = _square(self.longitude, self.latitude, steps)
        inner_west, inner_south, inner_east, inner_north = _edges(column, row, steps)
        unreached: list[tuple[int, int]] = []  # what lies to one side of the square: (column, 0) or (0, row)
        if steps >= 2:
            sides = (
                (inner_west < west, -1, 0),
                (inner_east > east, 1, 0),
                (inner_south < south, 0, -1),
                (inner_north > north, 0, 1),
            )
            unreached = [(x, y) for is_unreached, x, y in sides if is_unreached]
        shift = 52 - 2 * steps
        before = -1
        for x, y in _AROUND:
            if (x and (x, 0) in unreached) or (y and (0, y) in unreached):
                continue
            bits = _spread(_moved(row, y, steps)) | _spread(_moved(column, x, steps)) << 1
            if bits == before and (x or y):
                continue
            before = bits if x or y else -1
            yield bits << shift, bits + 1 << shift

    def _bounds(self) -> tuple[float, float, float, float]:
        """The edges of a box around the area: west, south, east, north."""
        height = self.unit_m * (self.height / 2 if self.is_box else self.radius)
        width = self.unit_m * (self.width / 2 if self.is_box else self.radius)
        latitudes = height / _EARTH_RADIUS_M / _RADIAN
        nearer_pole = self.latitude - latitudes if self.latitude < 0 else self.latitude + latitudes
        longitudes = width / _EARTH_RADIUS_M / _cosine(nearer_pole * _RADIAN) / _RADIAN
        return (
            self.longitude - longitudes,
            self.latitude - latitudes,
            self.longitude + longitudes,
            self.latitude + latitudes,
        )

    def _steps(self) -> int:
        """Into how many steps the earth is cut, so that a square is about as large as the area."""
        reach_m = self.radius
        if self.is_box:
            reach_m = sqrt((self.width / 2) * (self.width / 2) + (self.height / 2) * (self.height / 2))
        reach_m *= self.unit_m
        if reach_m == 0:
            return _STEPS
        steps = 1
        while reach_m < _MERCATOR_MAX:
            reach_m *= 2
            steps += 1
        steps -= 2
        if abs(self.latitude) > 66:
            steps -= 2 if abs(self.latitude) > 80 else 1
        return min(max(steps, 1), _STEPS)


def _cosine(angle: float) -> float:
    return cos(angle) if -inf < angle < inf else nan


def _moved(place: int, step: int, steps: int) -> int:
    """A column or a row beside another one; beyond an edge of the earth comes the opposite one."""
    return place + step & (1 << steps) - 1 if step else place


def _neighbours_cover(bounds: tuple[float, float, float, float], column: int, row: int, steps: int) -> bool:
    """Whether the eight squares around a square reach as far as the bounds: west, south, east, north."""
    west = _edges(_moved(column, -1, steps), row, steps)[0]
    south = _edges(column, _moved(row, -1, steps), steps)[1]
    east = _edges(_moved(column, 1, steps), row, steps)[2]
    north = _edges(column, _moved(row, 1, steps), steps)[3]
    return not (north < bounds[3] or south > bounds[1] or east < bounds[2] or west > bounds[0])
