"""Requests with elements that no command has, at each place where one could be: the quick way never takes them for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protocol.requests import RequestLimits, RequestReader
from tests.protocol.test_requests import BETWEEN, ROOMY, cut, cuts, encode, naive, read

# What hiredis would read as an element, and what it would read wrongly as a header.
ELEMENTS = b"""+a -a :1 (1 ,1.5 _ #t $-1 *0 *-1 *1 *100 ~1 >1 %1 |1 $01 *01 $+1 $ * $1x $: *99999999999
$9223372036854775808"""
ODD = [element + b"\r\n" for element in ELEMENTS.split()] + [b"=5\r\ntxt:a\r\n", b"!1\r\na\r\n", b"x", b"\r\n"]
ODD += [b"$1\na\r\n", b"$1\ra\r\n", b"*1\n", b"*1\r", b"$1\r\r\na\r\n", b"$1\n\na\r\n", b"*1\r$1\r\na\r\n"]
ENDS = [b"\r\n", b"XX", b"\n\n", b"\r\r", b"\r\n+", b"\r\n="]  # of values: two bytes, which nobody looks at, and more
PING = encode([b"PING"])
BENCHMARK = bytes(range(ord("0"), ord("p")))  # of these characters the values of redis-benchmark are made
characters = st.sampled_from([b"=", b">", b"+", b"(", b"~", b"%", b"|", b"$", b"*", b"\r", b"\n", b"\r\n", b"1", b"a"])
texts = st.lists(characters, max_size=12).map(b"".join)


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("end", ENDS)
def test_an_odd_element_is_found_at_every_place(odd: bytes, end: bytes) -> None:
    for count in (1, 2, 3):
        for place in range(count + 1):
            parts = [b"*%d\r\n" % count, *[b"$3\r\n=>+%b" % end] * count]
            for stream in ([*parts[:place], odd, *parts[place:]], [*parts[:place], odd, *parts[place + 1 :]]):
                for whole in (b"".join(stream), PING + b"".join(stream) + PING):
                    expected = naive(whole, ROOMY)
                    assert read([whole]) == read([whole], take_max=2) == expected
                    assert read([whole[i : i + 1] for i in range(len(whole))]) == expected


@given(st.lists(st.lists(texts, min_size=1, max_size=4), max_size=5), cuts)
def test_values_hold_the_bytes_of_headers(sent: list[list[bytes]], positions: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    assert read([stream]) == read(cut(stream, positions), take_max=2) == (sent, "")


@given(st.lists(texts.map(lambda text: encode([text])) | texts, max_size=6).map(b"".join), cuts, st.data())
def test_commands_with_a_byte_changed(stream: bytes, positions: list[int], data: st.DataObject) -> None:
    if stream:
        place = data.draw(st.integers(0, len(stream) - 1))
        stream = stream[:place] + data.draw(characters) + stream[place + 1 :]
    for limits in (ROOMY, BETWEEN):
        assert read([stream], limits) == read(cut(stream, positions), limits, take_max=2) == naive(stream, limits)


def test_values_of_any_characters_are_read_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [
        [b"SET", b"k", BENCHMARK * 20],
        [b"SET", b"k", b"a>5~1%1|1\n=5\r\n>1\r\n*999\r\n"],
        [b"MGET"] * 2000,
        [b"x"] * 10,
    ]
    monkeypatch.setattr(RequestReader, "_read_exactly", None)
    assert read([encode(command) for command in sent]) == read([b"".join(map(encode, sent))]) == (sent, "")


@pytest.mark.parametrize("count", [9, 10, 98, 99, 100, 101])
@pytest.mark.parametrize("length", [0, 1, 9, 10, 99, 100, 1000])
def test_each_number_of_digits(count: int, length: int) -> None:
    sent = [[b"v" * length] * count, [b"PING"]]
    stream = b"".join(map(encode, sent))
    assert read([stream]) == read([stream[:-1], stream[-1:]]) == (sent, "")
    largest = RequestLimits(request_bytes_max=len(encode(sent[0])))
    assert read([stream], largest) == (sent, "")
    smaller = RequestLimits(request_bytes_max=len(encode(sent[0])) - 1)
    assert read([stream], smaller) == (
        [],
        f"Protocol error: too big request: request_bytes_max is {smaller.request_bytes_max}",
    )


@pytest.mark.parametrize("first_bytes", [9_000, 70_000])
def test_what_follows_a_large_command_is_read(first_bytes: int) -> None:
    sent = [[b"SET", b"k", b"x" * first_bytes], [b"PING"], [b"SET", b"k", b"y" * first_bytes], [b"GET", b"k"]]
    stream = b"".join(map(encode, sent))
    for chunk_bytes in (first_bytes - 300, first_bytes + 30, first_bytes + 60):
        chunks = [stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)]
        assert read(chunks) == read(chunks, take_max=1) == (sent, "")
