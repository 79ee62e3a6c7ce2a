"""Ranges of sorted sets against a naive reading of the manual: filter all members, then turn, skip and count."""

from __future__ import annotations

import random
from itertools import product

import pytest

from server.core.base.errors import CommandError
from server.core.commands.sorted_sets.order import Ranked
from server.core.commands.sorted_sets.ranges import LEX, RANK, SCORE, parse_selection

SCORES = (-2.0, -1.0, 0.0, 0.5, 1.0, 1.0, 3.0, float("inf"))
BY_SCORE: Ranked = sorted((score, b"m%d" % index) for index, score in enumerate(SCORES))
BY_BYTES: Ranked = sorted((0.0, member) for member in (b"", b"a", b"ab", b"b", b"c", b"\xff"))


def _naive(order: Ranked, fits: list[bool], descends: bool, offset: int, count: int) -> Ranked:
    found = [pair for pair, fit in zip(order, fits, strict=True) if fit]
    if descends:
        found.reverse()
    if offset < 0:
        return []
    return found[offset:] if count < 0 else found[offset : offset + count]


def _selected(order: Ranked, bounds: list[bytes], options: list[bytes]) -> Ranked:
    return [order[place] for place in parse_selection(bounds, options).places(order)]


@pytest.mark.parametrize("descends", [False, True])
def test_a_range_by_score(descends: bool) -> None:
    texts = [b"-inf", b"-2", b"(-1", b"0", b"(0.5", b"1", b"(1", b"3", b"+inf", b"(inf"]
    for low, high, (offset, count) in product(texts, texts, [(0, -1), (1, 2), (-1, 5), (0, 0), (7, 9)]):
        fits = []
        for score, _ in BY_SCORE:
            above = score > float(low[1:]) if low[:1] == b"(" else score >= float(low)
            below = score < float(high[1:]) if high[:1] == b"(" else score <= float(high)
            fits.append(above and below)
        bounds = [high, low] if descends else [low, high]
        options = [b"BYSCORE", b"LIMIT", b"%d" % offset, b"%d" % count] + [b"REV"] * descends
        assert _selected(BY_SCORE, bounds, options) == _naive(BY_SCORE, fits, descends, offset, count), (low, high)


@pytest.mark.parametrize("descends", [False, True])
def test_a_range_by_bytes(descends: bool) -> None:
    texts = [b"-", b"+", b"[a", b"(a", b"[ab", b"(b", b"[", b"(", b"[\xff", b"(\xff"]
    for low, high in product(texts, texts):
        fits = []
        for _, member in BY_BYTES:
            above = low == b"-" or (low != b"+" and (member > low[1:] if low[:1] == b"(" else member >= low[1:]))
            below = high == b"+" or (high != b"-" and (member < high[1:] if high[:1] == b"(" else member <= high[1:]))
            fits.append(above and below)
        bounds = [high, low] if descends else [low, high]
        options = [b"bylex"] + [b"rev"] * descends
        assert _selected(BY_BYTES, bounds, options) == _naive(BY_BYTES, fits, descends, 0, -1), (low, high)


@pytest.mark.parametrize("descends", [False, True])
def test_a_range_by_rank(descends: bool) -> None:
    order = BY_SCORE[::-1] if descends else BY_SCORE
    size = len(order)
    for first, last in product(range(-size - 2, size + 2), repeat=2):
        start, end = max(first + size if first < 0 else first, 0), last + size if last < 0 else last
        wanted = order[start : max(end + 1, 0)]
        assert _selected(BY_SCORE, [b"%d" % first, b"%d" % last], [b"REV"] * descends) == wanted, (first, last)


def test_equal_scores_are_in_the_order_of_their_members_bytes() -> None:
    rng = random.Random(7)
    members = [b"%d" % number for number in range(50)]
    rng.shuffle(members)
    order: Ranked = sorted((1.0, member) for member in members)
    assert [member for _, member in _selected(order, [b"0", b"-1"], [])] == sorted(members)


@pytest.mark.parametrize(
    ("bounds", "options", "message"),
    [
        ((b"a", b"1"), (), "ERR value is not an integer or out of range"),
        ((b"x", b"1"), (b"BYSCORE",), "ERR min or max is not a float"),
        ((b"nan", b"1"), (b"BYSCORE",), "ERR min or max is not a float"),
        ((b"a", b"[b"), (b"BYLEX",), "ERR min or max not valid string range item"),
        ((b"0", b"1"), (b"BYLEX", b"BYSCORE"), "ERR syntax error"),
        ((b"0", b"1"), (b"REV", b"REV"), "ERR syntax error"),
        ((b"0", b"1"), (b"LIMIT", b"0"), "ERR syntax error"),
        ((b"0", b"1"), (b"LIMIT", b"0", b"1"), "ERR syntax error, LIMIT is only supported in combination with either"),
        ((b"[a", b"[b"), (b"BYLEX", b"WITHSCORES"), "ERR syntax error, WITHSCORES not supported in combination with"),
    ],
)
def test_wrong_bounds_and_options_are_refused(
    bounds: tuple[bytes, ...], options: tuple[bytes, ...], message: str
) -> None:
    with pytest.raises(CommandError, match=message):
        parse_selection(list(bounds), list(options))


def test_a_named_direction_and_kind_cannot_be_said_again() -> None:
    with pytest.raises(CommandError, match="ERR syntax error"):
        parse_selection([b"0", b"1"], [b"REV"], SCORE, False)
    with pytest.raises(CommandError, match="ERR syntax error"):
        parse_selection([b"[a", b"[b"], [b"BYLEX"], LEX, True)
    assert parse_selection([b"0", b"1"], [b"withscores"], RANK, True).with_scores
