"""Numbers: a table of what each reader takes and each printer prints, and the same compared with redis-server."""

from __future__ import annotations

import random
from decimal import Decimal
from functools import reduce
from math import copysign, inf, isnan

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st

from server.core.formats.numbers import (
    bound_of,
    decimal_text,
    double_of,
    double_text,
    increased,
    integer_of,
    is_in_range,
    long_double_of,
    long_double_text,
    score_text,
)
from server.core.records.numbers import plus

TEXTS = (
    b"0", b"-0", b"+0", b"1", b"+1", b"-1", b"01", b"00", b"--1", b"+-1", b"-", b"+", b".", b"", b" ", b" 1", b"1 ", b"\t1",
    b"1\n", b"1\0", b"1\0x", b"\0", b"1_0", b"1,0", b"1.0", b".5", b"5.", b"-.5", b"1e3", b"1E3", b"1e+3", b"1e-3", b"1e",
    b"1e+", b"e3", b"1.5e3.0", b"inf", b"+inf", b"-inf", b"INF", b"Infinity", b"-infinity", b"infinit", b"infinityx",
    b" inf", b"nan", b"-nan", b"NaN", b"nan(1)", b"0x1p3", b"0X1P3", b"0x", b"0x.", b"0x.8", b"0x1.8", b"-0x1.8p-1",
    b"0x1p", b"0x1p+", b"0xg", b"0x1.8p3.0", b"1p3", b"1e308", b"1.7976931348623157e308", b"1.7976931348623159e308",
    b"1e309", b"-1e309", b"1e-307", b"4.9e-324", b"2.5e-324", b"2.4e-324", b"1e-400", b"0e-400", b"0e99999999999999999999",
    b"1e99999999999999999999", b"1e-99999999999999999999", b"0x1p1023", b"0x1p1024", b"0x1p-1074", b"0x1p-1075",
    b"0x1.8p-1075", b"0x1p99999999999999999999", b"0x1p-99999999999999999999", b"0x0p99999999999999999999", b"1e4932",
    b"1.18973149535723176502e+4932", b"1.18973149535723176508e+4932", b"1e-4950", b"1.9e-4951", b"1.8e-4951",
    b"0x1p16383", b"0x1.fffffffffffffffep16383", b"0x1.ffffffffffffffffp16383", b"0x1p16384", b"0x1p-16445",
    b"0x1p-16446", b"0x1.8p-16446", b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808",
    b"-9223372036854775809", b"18446744073709551616", b"99999999999999999999", b"999999999999999999999", b"1" * 400,
    b"0" * 400 + b"1", b"0." + b"0" * 400 + b"1", b"1" * 5_000, b"0" * 5_118 + b"1", b"0" * 5_119 + b"1",
    b"3.14159265358979323846",
    b"0.1", b"0.10000000000000001", b"17179869184.333", b"5000000000000.3", b"\xb2", b"\xd9\xa1", b"\xef\xbc\x91",
)  # fmt: skip


def test_an_integer_has_one_spelling() -> None:
    taken = {text: integer_of(text) for text in TEXTS if integer_of(text) is not None}
    assert taken == {
        b"0": 0,
        b"1": 1,
        b"-1": -1,
        b"9223372036854775807": 2**63 - 1,
        b"-9223372036854775808": -(2**63),
    }


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (b"1e3", 1000.0),
        (b".5", 0.5),
        (b"5.", 5.0),
        (b"0x1.8p1", 3.0),
        (b"inf", inf),
        (b"-Infinity", -inf),
        (b"4.9e-324", 5e-324),
        (b"0e-400", 0.0),
        (b" 1", None),
        (b"1 ", None),
        (b"1\0", None),
        (b"1_0", None),
        (b"nan", None),
        (b"1e309", None),
        (b"1e-400", None),
        (b"0x1p-1080", None),
        (b"0x1p1024", None),
        (b"", None),
    ],
)
def test_a_double_is_the_whole_text(text: bytes, number: float | None) -> None:
    assert double_of(text) == number


def test_the_sign_of_zero_is_kept() -> None:
    zero = double_of(b"-0")
    assert zero == 0
    assert copysign(1, zero) == -1
    assert score_text(-0.0) == b"-0"


@pytest.mark.parametrize(
    ("text", "bound"),
    [
        (b"(1.5", (1.5, True)),
        (b"(", (0.0, True)),
        (b"", (0.0, False)),
        (b" 1", (1.0, False)),
        (b"( 1", (1.0, True)),
        (b" ", None),
        (b"1\0x", (1.0, False)),
        (b"1e999", (inf, False)),
        (b"-inf", (-inf, False)),
        (b"((1", None),
        (b"nan", None),
    ],
)
def test_a_bound_may_be_exclusive(text: bytes, bound: tuple[float, bool] | None) -> None:
    assert bound_of(text) == bound


@pytest.mark.parametrize(
    ("number", "reply", "score", "long"),
    [
        (3.0, b"3", b"3", b"3"),
        (0.1, b"0.10000000000000001", b"0.10000000000000001", b"0.10000000000000001"),
        (-0.0, b"-0", b"-0", b"0"),
        (1e17, b"1e+17", b"100000000000000000", b"100000000000000000"),
        (1e19, b"1e+19", b"1e+19", b"10000000000000000000"),
        (1e-7, b"9.9999999999999995e-08", b"9.9999999999999995e-08", b"0.0000001"),
        (1e-20, b"9.9999999999999995e-21", b"9.9999999999999995e-21", b"0"),
        (inf, b"inf", b"inf", b"inf"),
        (-inf, b"-inf", b"-inf", b"-inf"),
    ],
)
def test_texts_of_a_double(number: float, reply: bytes, score: bytes, long: bytes) -> None:
    assert (double_text(number), score_text(number), long_double_text(number)) == (reply, score, long)


def test_sums_of_decimals_are_exact_and_bounded() -> None:
    tenth = long_double_of(b"0.1")
    assert tenth is not None
    assert reduce(plus, [tenth] * 10) == 1
    assert decimal_text(reduce(plus, [tenth] * 3)) == b"0.3"
    largest = long_double_of(b"1.18e4932")
    assert largest is not None
    assert decimal_text(reduce(plus, [largest, tenth, -largest])) == b"0.1"
    assert is_in_range(largest)
    assert not is_in_range(plus(largest, largest))
    assert not is_in_range(increased(Decimal("Infinity"), Decimal("-Infinity"))[0])


@given(st.decimals(allow_nan=False, allow_infinity=False, places=17, min_value=-(10**30), max_value=10**30))
def test_a_decimal_text_reads_as_the_same_number(number: Decimal) -> None:
    assert long_double_of(decimal_text(number)) == number


@given(st.floats(allow_nan=False))
def test_double_and_score_texts_read_as_the_same_number(number: float) -> None:
    assert double_of(double_text(number)) == number
    assert double_of(score_text(number)) == number


@given(st.binary(max_size=12) | st.text("0123456789.eExXpP+-infa( ", max_size=12).map(str.encode))
def test_no_text_is_unexpected(text: bytes) -> None:
    integer = integer_of(text)
    assert integer is None or b"%d" % integer == text
    double, bound, long = double_of(text), bound_of(text), long_double_of(text)
    assert double is None or bound == (double, False)
    assert double is None or not isnan(double)
    assert long is None or not is_in_range(long) or long_double_text(long)


def _asked(redis: redis_py.Redis, *command: bytes) -> bytes | None:
    """The reply to a command; None for an error."""
    try:
        reply = redis.execute_command(*command)
    except redis_py.ResponseError:
        return None
    return b"%d" % reply if isinstance(reply, int) else reply


@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_redis_reads_the_same(redis: redis_py.Redis, text: bytes) -> None:
    redis.set("number", text)
    integer, double, bound, long = integer_of(text), double_of(text), bound_of(text), long_double_of(text)
    assert _asked(redis, b"INCRBY", b"number", b"0") == (None if integer is None else b"%d" % integer)
    assert _asked(redis, b"ZADD", b"scores", b"INCR", text, b"m") == (None if double is None else double_text(double))
    expected = None if long is None or not is_in_range(long) else long_double_text(long)
    assert _asked(redis, b"INCRBYFLOAT", b"sum", text) == expected
    if bound is None:
        assert _asked(redis, b"ZCOUNT", b"bounds", text, text) is None
    else:
        redis.zadd("bounds", {"m": bound[0]})
        assert redis.zcount("bounds", text, text) == 1
        assert redis.zcount("bounds", b"(" + text, text) == 0


def test_redis_adds_and_prints_the_same(redis: redis_py.Redis) -> None:
    """The total is kept as a sum of exact differences, as the deltas of one actor."""
    chance = random.Random(12)
    for number in range(100):
        total, key = Decimal(0), f"sum{number}"
        for _ in range(8):
            term = b"%.*f" % (chance.randint(0, 9), chance.uniform(-1, 1) * 10 ** chance.randint(0, 20))
            amount = long_double_of(term)
            assert amount is not None
            total = plus(total, increased(total, amount)[1])
            assert decimal_text(total) == redis.execute_command("INCRBYFLOAT", key, term)


def test_an_increase_beyond_every_number_is_out_of_range(redis: redis_py.Redis) -> None:
    largest, small = long_double_of(b"1.18e4932"), long_double_of(b"1e4930")
    assert largest is not None and small is not None
    for amount, text in ((small, b"1e4930"), (largest, b"1.18e4932"), (Decimal("Infinity"), b"inf")):
        redis.set("sum", b"1.18e4932")
        total, _ = increased(largest, amount)
        assert _asked(redis, b"INCRBYFLOAT", b"sum", text) == (decimal_text(total) if is_in_range(total) else None)
    assert not is_in_range(increased(Decimal("Infinity"), Decimal("-Infinity"))[0])
