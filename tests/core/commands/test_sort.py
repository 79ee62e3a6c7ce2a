"""SORT orders elements as Redis does, however many there are."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.base.errors import CommandError
from server.core.commands import sort_command
from server.core.commands.sort_command import SortOptions, cut, in_order, key_of, number_of, parse_options, weights_of
from tests.core.commands.talking import Client, make_node
from tests.core.commands.test_bits import run

ALL = SortOptions(None, (), 0, -1, is_descending=False, is_alphabetic=False)


@pytest.mark.parametrize(("text", "number"), [
    (b"1", 1), (b"-1.5", -1.5), (b"", 0), (b" 7", 7), (b"1e3", 1000), (b"0x10", 16), (b"inf", float("inf")),
    (b"5\0x", 5), (b"x", None), (b"1 ", None), (b"nan", None), (b"1e400", None), (b"1x", None),
])  # fmt: skip
def test_weights_are_read_as_strtod_reads_them(text: bytes, number: float | None) -> None:
    if number is None:
        with pytest.raises(CommandError, match="scores can't be converted into double"):
            number_of(text)
    else:
        assert number_of(text) == number


@pytest.mark.parametrize(("pattern", "named"), [
    (b"w_*", (b"w_e", b"")), (b"*", (b"e", b"")), (b"w_*_x", (b"w_e_x", b"")), (b"h_*->f", (b"h_e", b"f")),
    (b"h_*_x->f", (b"h_e_x", b"f")), (b"h_*->", (b"h_e->", b"")), (b"a->b*", (b"a->be", b"")), (b"*-*", (b"e-*", b"")),
])  # fmt: skip
def test_a_pattern_names_a_key_and_perhaps_a_field(pattern: bytes, named: tuple[bytes, bytes]) -> None:
    assert key_of(pattern, b"e") == named


@given(st.integers(0, 6), st.integers(-2, 9), st.integers(-3, 9))
def test_limit_cuts_as_redis_does(size: int, start: int, limit: int) -> None:
    rows = list(range(size))[cut(size, ALL._replace(start=start, limit=limit))]
    first = max(start, 0)
    assert rows == [row for row in range(size) if row >= first and (limit < 0 or row < first + limit)]


@given(st.lists(st.integers(-9, 9), max_size=40), st.booleans())
def test_equal_weights_are_ordered_by_their_elements(numbers: list[int], is_descending: bool) -> None:
    elements = [b"%d" % place for place in range(len(numbers))]
    weights = weights_of(elements, [b"%d" % number for number in numbers], ALL._replace(by=b"w_*"))
    places, _ = run(in_order(weights, is_descending))
    pairs = sorted(zip(numbers, elements, strict=True), reverse=is_descending)
    assert [(numbers[place], elements[place]) for place in places] == pairs


def test_elements_without_a_weight_come_first_or_count_as_zero() -> None:
    values = [b"5", None, b"-5"]
    for is_alphabetic, order in ((True, [1, 2, 0]), (False, [2, 1, 0])):
        wanted = ALL._replace(by=b"w_*", is_alphabetic=is_alphabetic)
        assert run(in_order(weights_of([b"a", b"b", b"c"], values, wanted), False))[0] == order


def test_many_elements_are_sorted_in_slices() -> None:
    elements = [b"%d" % number for number in range(3 * sort_command._SLICE_ELEMENTS)]
    random.Random(1).shuffle(elements)
    weights = weights_of(elements, elements, ALL)
    for is_descending in (False, True):
        places, pauses = run(in_order(weights, is_descending))
        assert [int(elements[place]) for place in places] == sorted(map(int, elements), reverse=is_descending)
        assert pauses >= 6


def test_options_are_read_as_redis_reads_them() -> None:
    words = b"by w_* get # GET h_*->f LIMIT 1 2 desc ALPHA".split()
    assert parse_options(words, False) == SortOptions(b"w_*", (b"#", b"h_*->f"), 1, 2, True, True)
    for line in (b"BY", b"GET", b"LIMIT 1", b"NOSUCH", b"STORE"):
        with pytest.raises(CommandError, match="syntax error"):
            parse_options(line.split(), True)
    with pytest.raises(CommandError, match="syntax error"):
        parse_options([b"STORE", b"k"], False)
    assert parse_options([b"STORE", b"k"], True).destination == b"k"


def test_without_an_order_desc_means_from_the_end() -> None:
    client = Client(make_node())
    client.ask("RPUSH l b c a d")
    assert client.ask("SORT l BY nosort") == ["b", "c", "a", "d"]
    assert client.ask("SORT_RO l BY nosort DESC LIMIT 1 2") == ["a", "c"]
    client.ask("SADD s b a c")
    client.ask("SORT s BY nosort DESC STORE d")  # what is stored has an order in Redis, too
    assert client.ask("LRANGE d 0 -1") == ["c", "b", "a"]


def test_keys_of_other_types_are_refused() -> None:
    client = Client(make_node())
    assert client.ask("SORT none") == []
    client.ask("SET k v")
    assert client.error("SORT k").startswith("WRONGTYPE")
    client.ask("HSET h a 1")
    assert client.error("SORT_RO h").startswith("WRONGTYPE")
    assert client.error("SORT k LIMIT x 1") == "ERR value is not an integer or out of range"


def test_more_values_than_a_node_can_hold_are_refused() -> None:
    client = Client(make_node())
    client.ask("SADD s a b")
    gets = (sort_command._CELLS_MAX // 2 + 1) * [b"GET", b"#"]
    assert b"use LIMIT" in client.raw_words([b"SORT", b"s", b"BY", b"nosort", *gets])
