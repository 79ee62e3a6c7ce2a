"""The order of a sorted set, by score and then by the bytes of the member, and the places that a range selects in it.

Theory. A record of entries is in the order of the members' bytes, so that a command finds one member without decoding the
others. Ranges and ranks need the order by score. It is made by decoding the whole set once; `Orders` keeps it for the
next command that reads the same record. A range is then two binary searches.

Redis leaves it open what a range by bytes (BYLEX) selects if the scores of the members differ; here, too.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass

Ranked = list[tuple[float, bytes]]  # (score, member), in order
Places = range  # places in the order, ascending or descending


def _score(pair: tuple[float, bytes]) -> float:
    return pair[0]


def _member(pair: tuple[float, bytes]) -> bytes:
    return pair[1]


@dataclass(frozen=True, slots=True)
class ScoreRange:
    """Scores from `low` to `high`. A bound that is excluded is not in the range."""

    low: float
    high: float
    excludes_low: bool = False
    excludes_high: bool = False

    def places(self, order: Ranked) -> Places:
        """Returns the places in `order` whose scores are in the range."""
        first = (bisect_right if self.excludes_low else bisect_left)(order, self.low, key=_score)
        end = (bisect_left if self.excludes_high else bisect_right)(order, self.high, key=_score)
        return range(first, max(first, end))


@dataclass(frozen=True, slots=True)
class LexRange:
    """Members from `low` to `high` by their bytes; None is the least or greatest member. `is_empty`: none at all."""

    low: bytes | None
    high: bytes | None
    excludes_low: bool = False
    excludes_high: bool = False
    is_empty: bool = False

    def places(self, order: Ranked) -> Places:
        """Returns the places in `order` whose members are in the range."""
        if self.is_empty:
            return range(0)
        first, end = 0, len(order)
        if self.low is not None:
            first = (bisect_right if self.excludes_low else bisect_left)(order, self.low, key=_member)
        if self.high is not None:
            end = (bisect_left if self.excludes_high else bisect_right)(order, self.high, key=_member)
        return range(first, max(first, end))


@dataclass(frozen=True, slots=True)
class RankRange:
    """Ranks from `first` to `last`, both included; a negative one counts from the end."""

    first: int
    last: int

    def places(self, order: Ranked) -> Places:
        """Returns the places in `order` that are in the range."""
        size = len(order)
        first = max(self.first + size if self.first < 0 else self.first, 0)
        last = min(self.last + size if self.last < 0 else self.last, size - 1)
        return range(first, max(first, last + 1))


Range = ScoreRange | LexRange | RankRange


def limited(places: Places, offset: int, count: int) -> Places:
    """Returns `count` places after the first `offset`; all that follow if `count` is negative, none if `offset` is."""
    if offset < 0:
        return places[:0]
    return places[offset:] if count < 0 else places[offset : offset + count]


def rank_of(order: Ranked, score: float, member: bytes) -> int:
    """Returns the place of a member that is in `order` with this score."""
    return bisect_left(order, (score, member))
