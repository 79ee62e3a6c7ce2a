"""LCS finds the same as the table of lengths that Redis fills and goes back through."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.errors import CommandError
from server.core.commands.lcs import LcsOptions, lcs, parse_options
from tests.core.commands.talking import Client, make_node
from tests.core.commands.test_bits import run

TEXTS = st.text(alphabet="abc", max_size=20).map(str.encode)
LETTERS = LcsOptions(length=False, indexes=False, match_bytes_min=0, with_lengths=False)


def redis_matches(one: bytes, other: bytes) -> tuple[int, list[list[int]]]:
    """The length, and start and end of each match in both values, the last one first: as Redis computes them."""
    lengths = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, byte in enumerate(one, 1):
        for j, another in enumerate(other, 1):
            equal = byte == another
            lengths[i][j] = lengths[i - 1][j - 1] + 1 if equal else max(lengths[i - 1][j], lengths[i][j - 1])
    matches: list[list[int]] = []
    i, j = len(one), len(other)
    goes_on = False
    while i and j:
        equal = one[i - 1] == other[j - 1]
        if equal:
            i, j = i - 1, j - 1
            if goes_on:
                matches[-1][0], matches[-1][2] = i, j
            else:
                matches.append([i, i, j, j])
        elif lengths[i - 1][j] > lengths[i][j - 1]:
            i -= 1
        else:
            j -= 1
        goes_on = equal
    return lengths[-1][-1], matches


@given(TEXTS, TEXTS, st.integers(0, 4), st.booleans())
def test_the_sequence_of_redis_is_found(one: bytes, other: bytes, size_min: int, with_lengths: bool) -> None:
    length, matches = redis_matches(one, other)
    assert run(lcs(one, other, LETTERS._replace(length=True)))[0] == length
    found = b"".join([one[start : end + 1] for start, end, _, _ in reversed(matches)])
    assert run(lcs(one, other, LETTERS))[0] == found
    wanted = LcsOptions(False, True, size_min, with_lengths)
    shown = [
        [match[:2], match[2:], *([match[1] - match[0] + 1] if with_lengths else [])]
        for match in matches
        if match[1] - match[0] + 1 >= size_min
    ]
    assert run(lcs(one, other, wanted))[0] == {"matches": shown, "len": length}


def test_long_values_take_several_slices_and_find_the_same() -> None:
    rng = random.Random(1)
    one = bytes(rng.choices(b"abcdefgh", k=9000))
    other = one[:3000] + bytes(rng.choices(b"xyz", k=500)) + one[4000:] + b"!"  # no common end, which costs nothing
    answer, pauses = run(lcs(one, other, LcsOptions(False, True, 0, True)))
    assert answer["len"] == sum(size for _, _, size in answer["matches"]) == 8000
    for (start, end), (other_start, other_end), size in answer["matches"]:
        assert one[start : end + 1] == other[other_start : other_end + 1]
        assert size == end + 1 - start
    assert pauses > 10
    for shape in ((1, 300_000), (300_000, 1), (7, 300_001)):
        values = [rng.randbytes(size) for size in shape]
        assert (
            run(lcs(values[0], values[1], LETTERS))[0] in (b"", *[bytes([byte]) for byte in range(256)]) or 7 in shape
        )


def test_nothing_in_common_with_nothing_and_equal_ends_cost_nothing() -> None:
    rng = random.Random(2)
    large = rng.randbytes(4 << 20)
    for one, other in ((large, b""), (b"", large)):
        for wanted in (LETTERS, LETTERS._replace(length=True), LETTERS._replace(indexes=True)):
            assert run(lcs(one, other, wanted))[1] == 0, "no pause"
    middle = rng.randbytes(3000)
    assert run(lcs(b"x" + middle, b"y" + middle, LETTERS))[:2] == (middle, 0)
    short, long = middle[:9], bytes(rng.choices(b"ab", k=300_000))
    both_ways = [run(lcs(*pair, LETTERS._replace(length=True))) for pair in ((short, long), (long, short))]
    assert both_ways[0] == both_ways[1], "the shorter one has the rows"


def test_what_would_take_redis_too_much_memory_is_refused_as_redis_does() -> None:
    with pytest.raises(CommandError, match="transient memory for LCS exceeds proto-max-bulk-len"):
        run(lcs(b"a" * 11_600, b"b" * 11_600, LETTERS))


def test_options_are_read_as_redis_reads_them() -> None:
    assert parse_options([b"idx", b"MINMATCHLEN", b"-3", b"WithMatchLen"]) == LcsOptions(False, True, 0, True)
    client = Client(make_node())
    client.ask("SET a ohmytext")
    client.ask("SET b mynewtext")
    assert client.ask("LCS a b") == "mytext"
    assert client.ask("LCS a none LEN") == 0
    assert client.ask("LCS a b IDX MINMATCHLEN 4 WITHMATCHLEN") == ["matches", [[[4, 7], [5, 8], 4]], "len", 6]
    client.ask("HELLO 3")
    assert client.ask("LCS a b IDX MINMATCHLEN 4") == {"matches": [[[4, 7], [5, 8]]], "len": 6}
    assert client.error("LCS a b LEN IDX").startswith("ERR If you want both the length and indexes")
    assert client.error("LCS a b MINMATCHLEN") == "ERR syntax error"
