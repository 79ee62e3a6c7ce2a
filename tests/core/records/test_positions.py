"""Positions of list items: there is always one more, it lies where it must, and it stays short."""

from __future__ import annotations

import random

import pytest

from server.core.records.positions import FIRST, after, before, between, is_position


def test_pushes_take_the_heads_to_either_side() -> None:
    left, right = before(FIRST), after(FIRST)
    assert before(left) < left < FIRST < right < after(right)
    assert {len(each) for each in (before(left), left, FIRST, right)} == {8}
    inserted = between(FIRST, right)
    assert left < FIRST < inserted < right
    assert before(inserted) < FIRST, "a push comes before all that has the same head"
    assert after(inserted) == right, "the caller pushes behind the last item only"


@pytest.mark.parametrize("seed", range(20))
def test_insertions_anywhere_keep_the_order(seed: int) -> None:
    rng = random.Random(seed)
    positions = [FIRST]
    for _ in range(500):
        place = rng.choice([0, len(positions), rng.randrange(len(positions) + 1), len(positions) // 2])
        if place == 0:
            new = before(positions[0])
        elif place == len(positions):
            new = after(positions[-1])
        else:
            new = between(positions[place - 1], positions[place])
        positions.insert(place, new)
    assert all(map(is_position, positions))
    assert positions == sorted(set(positions))


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_position_grows_by_a_byte_for_seven_insertions_at_one_place(side: str) -> None:
    left, right = FIRST, after(FIRST)
    for _ in range(700):
        new = between(left, right)
        assert left < new < right and is_position(new)
        left, right = (new, right) if side == "left" else (left, new)
    assert len(new) <= 8 + 700 // 7 + 2


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (b"", b"\x01"),
        (b"", b"\x00\x01"),
        (b"\x01", b"\x02"),
        (b"\xff", b"\xff\x01"),
        (b"\xfe\xff", b"\xff"),
        (b"\x01\x80", b"\x01\x81"),
    ],
)
def test_there_is_one_between_the_closest(left: bytes, right: bytes) -> None:
    new = between(FIRST + left, FIRST + right)
    assert FIRST + left < new < FIRST + right
    assert is_position(new)


def test_what_is_no_position() -> None:
    assert not any(map(is_position, (b"", b"short", FIRST + b"\x00", FIRST + b"\x80\x00")))
