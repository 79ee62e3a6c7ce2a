"""Patterns say what Redis says, and cost little whatever the pattern and the key.

The model is stringmatchlen of Redis 7.0.15 written down anew: recursive, with a memory so that it ends.
"""

from __future__ import annotations

import itertools
import re
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.config import Config
from server.core.base.errors import CommandError
from server.core.commands import glob
from server.core.commands.glob import Glob, glob_of


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _in_class(pattern: bytes, at: int, byte: int) -> tuple[bool, int]:
    """Whether the class that begins behind a bracket at `at` holds `byte`, and where the pattern goes on."""
    negated = pattern[at : at + 1] == b"^"
    at += negated
    found = False
    while at < len(pattern) and pattern[at : at + 1] != b"]":
        if pattern[at : at + 1] == b"\\" and len(pattern) - at >= 2:
            at += 1
            found |= pattern[at] == byte
        elif len(pattern) - at >= 3 and pattern[at + 1 : at + 2] == b"-":
            low, high = sorted((_signed(pattern[at]), _signed(pattern[at + 2])))
            found |= low <= _signed(byte) <= high
            at += 2
        else:
            found |= pattern[at] == byte
        at += 1
    return found != negated, min(at + 1, len(pattern))


def model(pattern: bytes, key: bytes) -> bool:
    """What KEYS of Redis 7.0.15 answers: `*` alone is not even looked at."""

    @cache
    def match(at: int, place: int) -> bool:
        if place == len(key):
            return not pattern[at:].strip(b"*")
        if at == len(pattern):
            return False
        char = pattern[at : at + 1]
        if char == b"*":
            return any(match(at + 1, later) for later in range(place, len(key) + 1))
        if char == b"?":
            return match(at + 1, place + 1)
        if char == b"[":
            fits, at = _in_class(pattern, at + 1, key[place])
            return fits and match(at, place + 1)
        if char == b"\\" and at + 1 < len(pattern):
            at += 1
        return pattern[at] == key[place] and match(at + 1, place + 1)

    return pattern in (b"", b"*") if not key else match(0, 0)


PIECES = st.sampled_from(
    [b"*", b"?", b"[", b"]", b"^", b"-", b"\\", b"a", b"b", b"c", b"\x7f", b"\x80", b"\xff", b"\0"]
)
PATTERNS = st.lists(PIECES, max_size=10).map(b"".join)
KEYS = st.lists(
    st.sampled_from([b"a", b"b", b"c", b"]", b"-", b"^", b"\\", b"\x80", b"\xff", b"\0", b"\n"]), max_size=8
)


def by_bits(pattern: bytes, key: bytes) -> bool:
    """What the matcher for great patterns says."""
    slices = Glob(pattern)._match_by_bits(key)
    while True:
        try:
            next(slices)
        except StopIteration as end:
            return bool(end.value)


@given(PATTERNS, KEYS.map(b"".join))
def test_both_matchers_say_what_redis_says(pattern: bytes, key: bytes) -> None:
    assert Glob(pattern).matches(key) == model(pattern, key)
    if key:
        assert by_bits(pattern, key) == model(pattern, key)


SEGMENTS = st.lists(st.text("ab?", max_size=3), min_size=1, max_size=4)


@given(SEGMENTS, st.lists(st.text("ab", max_size=2), min_size=5, max_size=5), st.integers(0, 2))
def test_stars_find_what_is_there(segments: list[str], between: list[str], lost: int) -> None:
    """Keys made after the pattern, with up to two characters less: others would hardly ever match."""
    pattern = "*".join(segments).encode()
    text = "".join(more + segment for more, segment in zip(between, segments, strict=False)).replace("?", "b")
    for key in (text[lost:], text[: len(text) - lost], text[lost:] + between[-1]):
        assert Glob(pattern).matches(key.encode()) == model(pattern, key.encode())
        if key:
            assert by_bits(pattern, key.encode()) == model(pattern, key.encode())


# Asked of redis-server 7.0.15 on x86-64: pattern, key, whether KEYS answers it.
ASKED = [
    (b"*", b"", True),
    (b"**", b"", False),
    (b"", b"", True),
    (b"[a-\xff]", b"\xff", True),
    (b"[a-\xff]", b"a", True),
    (b"[a-\xff]", b"A", True),
    (b"[a-\xff]", b"b", False),
    (b"[a-\xff]", b"\xfe", False),
    (b"[\x80-\x90]", b"\x85", True),
    (b"[z-a]", b"m", True),
    (b"[a-]", b"]", True),
    (b"[a-]", b"-", False),
    (b"[ab", b"b", True),
    (b"[", b"[", False),
    (b"[^", b"x", True),
    (b"[^]", b"]", True),
    (b"[]", b"]", False),
    (b"[\\", b"\\", True),
    (b"a\\", b"a\\", True),
    (b"[\\]]", b"]", True),
    (b"ab*b", b"ab", False),
    (b"a*a", b"a", False),
    (b"*ab*ba", b"xaba", False),
    (b"*a*b*", b"aba", True),
    (b"*a*", b"b", False),
    (b"[]*", b"x", False),
    (b"a*b", b"a\n\nb", True),
    (b"?", b"\n", True),
]


@pytest.mark.parametrize(("pattern", "key", "expected"), ASKED)
def test_oddities_that_redis_was_asked_for(pattern: bytes, key: bytes, expected: bool) -> None:
    assert Glob(pattern).matches(key) is expected
    assert not key or by_bits(pattern, key) is expected
    assert model(pattern, key) is expected


# A pattern, a key, and what a matcher that goes back behind stars would need: more steps than there is time.
MANY_STARS = [
    (b"*ab*ab*ab*zz", b"session:" + b"ab:" * 700),
    (b"a*" * 100 + b"c", b"a" * 20_000 + b"b"),
    (b"*a?" * 80 + b"c", b"a" * 8_000),
    (b"*" + b"[ab]" * 15_000 + b"c", b"ab" * 32_000),
    (b"*" + b"a?" * 32_000 + b"c", b"a" * 65_536),
    (b"*a" * 32_000 + b"c", b"a" * 65_536),
]


@pytest.mark.parametrize(("pattern", "key"), MANY_STARS)
def test_the_work_up_to_a_pause_is_bounded(pattern: bytes, key: bytes) -> None:
    """Bounded by the slices: each is what SLICE_STEPS allow, and their number is that of pattern * key."""
    pauses, found = _pauses(Glob(pattern), key)
    tokens = len(Glob(pattern)._tokens)
    least, most = tokens * (30 + len(key) // 100), len(pattern) * (60 + len(key) // 100)
    assert not found and least // glob.SLICE_STEPS <= pauses <= 1 + most // glob.SLICE_STEPS


def test_the_places_of_each_class_are_work_too() -> None:
    """300 classes, each to be looked up in a key of 65,000 bytes."""
    classes = [b"[^%c%c]" % pair for pair in itertools.combinations(range(1, 26), 2)]
    pauses, found = _pauses(Glob(b"*" + b"".join(classes)), b"a" * 65_000)
    assert found and pauses > 300 * 65_000 // glob.SLICE_STEPS // 2


def _pauses(matcher: Glob, key: bytes) -> tuple[int, bool]:
    """How many pauses a match makes, and its answer."""
    slices = matcher.match_in_slices(key)
    for pauses in itertools.count():
        try:
            next(slices)
        except StopIteration as end:
            return pauses, bool(end.value)
    raise AssertionError


def test_a_short_pattern_and_a_long_key_are_matched_by_bits_too() -> None:
    """The regular expression would cost the product of both."""
    matcher = Glob(b"a*" * 100 + b"c")
    matcher._quick = re.compile(b"nothing that this key could match")
    assert not matcher.matches(b"a" * 20_000 + b"b") and matcher.matches(b"a" * 20_000 + b"c")


def test_a_pattern_over_the_limit_is_refused() -> None:
    config = Config(pattern_bytes_max=10)
    assert glob_of(b"*" * 10, config).matches(b"x")
    with pytest.raises(CommandError) as refused:
        glob_of(b"*" * 11, config)
    assert refused.value.reply == b"-ERR pattern of 11 bytes exceeds pattern_bytes_max=10\r\n"
