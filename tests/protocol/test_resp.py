"""Replies: each type on the wire as the specification shows it, and what hiredis, a client's parser, makes of it."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol import resp


def parse(wire: bytes) -> Any:
    reader = hiredis.Reader()
    reader.feed(wire)
    value = reader.gets()
    assert not reader.has_data()
    return value


@pytest.mark.parametrize(
    ("wire", "expected"),
    [
        (resp.OK, b"+OK\r\n"),
        (resp.PONG, b"+PONG\r\n"),
        (resp.null(False), b"$-1\r\n"),
        (resp.null(True), b"_\r\n"),
        (resp.bulk(b""), b"$0\r\n\r\n"),
        (resp.bulk(b"a\r\nb"), b"$4\r\na\r\nb\r\n"),
        (resp.simple("RESET"), b"+RESET\r\n"),
        (resp.integer(-7), b":-7\r\n"),
        (resp.error("ERR a\r\nb\n"), b"-ERR a  b \r\n"),
        (resp.error(b"ERR \xff"), b"-ERR \xff\r\n"),
        (resp.error("ERR \udcff é"), b"-ERR \xff \xc3\xa9\r\n"),
        (resp.array([]), b"*0\r\n"),
        (resp.array([resp.OK, resp.bulk(b"x")]), b"*2\r\n+OK\r\n$1\r\nx\r\n"),
        (resp.map_([(resp.bulk(b"a"), resp.integer(1))], True), b"%1\r\n$1\r\na\r\n:1\r\n"),
        (resp.map_([(resp.bulk(b"a"), resp.integer(1))], False), b"*2\r\n$1\r\na\r\n:1\r\n"),
        (resp.set_([resp.integer(1), resp.integer(2)], True), b"~2\r\n:1\r\n:2\r\n"),
        (resp.set_([resp.integer(1), resp.integer(2)], False), b"*2\r\n:1\r\n:2\r\n"),
        (resp.double(1.5, True), b",1.5\r\n"),
        (resp.double(3.0, True), b",3\r\n"),
        (resp.double(0.1, False), b"$19\r\n0.10000000000000001\r\n"),
        (resp.double(float("inf"), True), b",inf\r\n"),
        (resp.double(float("-inf"), False), b"$4\r\n-inf\r\n"),
        (resp.double(float("nan"), True), b",nan\r\n"),
        (resp.boolean(True, True), b"#t\r\n"),
        (resp.boolean(False, True), b"#f\r\n"),
        (resp.boolean(True, False), b":1\r\n"),
        (resp.boolean(False, False), b":0\r\n"),
        (resp.verbatim("Some é", True), b"=11\r\ntxt:Some \xc3\xa9\r\n"),
        (resp.verbatim(b"# x", True, "mkd"), b"=7\r\nmkd:# x\r\n"),
        (resp.verbatim("Some", False), b"$4\r\nSome\r\n"),
    ],
)
def test_each_type_is_on_the_wire_as_specified(wire: bytes, expected: bytes) -> None:
    assert wire == expected


texts = st.text(st.characters(codec="utf-8"))
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.binary() | texts,
    lambda items: st.lists(items, max_size=4) | st.dictionaries(texts, items, max_size=4),
    max_leaves=12,
)


def as_parsed(value: Any, resp3: bool) -> Any:
    """What a client's parser shows of `value`."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, bool):
        return value if resp3 else int(value)
    if isinstance(value, float) and not resp3:
        return b"%.17g" % value
    if isinstance(value, list):
        return [as_parsed(item, resp3) for item in value]
    if isinstance(value, dict):
        pairs = [(key.encode(), as_parsed(item, resp3)) for key, item in value.items()]
        return dict(pairs) if resp3 else [part for pair in pairs for part in pair]
    return value


@given(plain, st.booleans())
def test_any_plain_value_reads_back_as_its_protocol_shows_it(value: Any, resp3: bool) -> None:
    parsed = parse(resp.encode(value, resp3))
    assert parsed == as_parsed(value, resp3)
    assert type(parsed) is type(as_parsed(value, resp3))


def test_a_tuple_is_an_array_and_a_set_no_plain_value() -> None:
    assert resp.encode((1, (b"a",)), True) == b"*2\r\n:1\r\n*1\r\n$1\r\na\r\n"
    with pytest.raises(TypeError, match="no type for set"):
        resp.encode({1}, True)  # type: ignore[arg-type]


@given(st.lists(st.binary() | texts | st.integers(), min_size=1))
def test_a_command_is_an_array_of_bulk_strings(arguments: list[bytes | str | int]) -> None:
    expected = [item if isinstance(item, bytes) else str(item).encode() for item in arguments]
    assert resp.command(*arguments) == resp.array([resp.bulk(item) for item in expected])


@pytest.mark.parametrize("argument", [None, True, [b"a"]])
def test_a_command_takes_no_arguments_of_other_types(argument: Any) -> None:
    with pytest.raises(TypeError):
        resp.command(b"GET", argument)


@pytest.mark.parametrize("resp3", [False, True])
def test_one_whole_reply_is_told_from_all_else(resp3: bool) -> None:
    samples = [
        resp.OK, resp.null(resp3), b"*-1\r\n", resp.bulk(b"a\r\nb"), resp.bulk(b""), resp.integer(-5),
        resp.error("ERR no"), resp.double(1.5, resp3), resp.boolean(True, resp3), resp.verbatim("text", resp3),
        resp.map_([(resp.OK, resp.bulk(b"v"))], resp3), resp.set_([resp.OK], resp3), resp.array([]),
        resp.array([resp.bulk(b"*1\r\n"), resp.array([resp.null(resp3), resp.OK])]),
    ]  # fmt: skip
    for sample in samples:
        assert resp.is_reply(sample)
        assert not resp.is_reply(sample + resp.OK)
        for end in range(len(sample)):
            assert not resp.is_reply(sample[:end]), sample[:end]


@pytest.mark.parametrize(
    "data", [b"OK\r\n", b"\r\n", b"*-2\r\n", b"*999999999\r\n", b"$1\r\nabc\r\n", b"*x\r\n", b"$+1\r\na\r\n"]
)
def test_what_is_no_reply(data: bytes) -> None:
    assert not resp.is_reply(data)
