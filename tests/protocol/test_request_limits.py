"""The limits of a request: what lies within them is read, what does not is named."""

from __future__ import annotations

import re
import tracemalloc

import pytest

from protocol import requests
from protocol.requests import RequestLimits, RequestReader
from tests.protocol.test_requests import NARROW, encode, read


def test_what_lies_within_the_limits_is_read() -> None:
    limits = RequestLimits(request_bytes_max=1000, arguments_max=200, inline_bytes_max=10)
    largest = [b"SET", b"k", b"x" * 972]
    assert len(encode(largest)) == 1000
    many = [b"a"] * 120
    assert read([encode(largest) + encode(many) + b"0123456789\n"], limits) == ([largest, many, [b"0123456789"]], "")
    assert (
        read([encode([b"SET", b"k", b"x" * 973])], limits)[1]
        == "Protocol error: too big request: request_bytes_max is 1000"
    )
    assert read([b"0123456789a\n"], limits)[1] == "Protocol error: too big inline request"
    assert read([b"0123456789\r\n"], limits) == ([[b"0123456789"]], "")
    assert read([b"0123456789\rx\n"], limits)[1] == "Protocol error: too big inline request"
    assert read([encode([b"a"] * 201)], limits)[1] == "Protocol error: too many arguments: arguments_max is 200"
    assert read([encode([b"a"] * 5) + encode([b"a"] * 6)], NARROW) == (
        [[b"a"] * 5],
        "Protocol error: too many arguments: arguments_max is 5",
    )


def test_a_command_of_many_arguments_is_read_the_quick_way_though_it_comes_in_pieces(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The exact way looks at the header at which each piece ends, and at no other."""
    sent = [b"EXISTS", *(b"key:%d" % number for number in range(20_000))]
    stream = encode(sent)
    chunks = [stream[i : i + 65536] for i in range(0, len(stream), 65536)]
    looked: list[int] = []
    exact = requests._match_bulk

    def match_bulk(data: bytes, start: int) -> re.Match[bytes] | None:
        looked.append(start)
        return exact(data, start)

    monkeypatch.setattr(requests, "_match_bulk", match_bulk)
    assert read(chunks) == ([sent], "")
    assert 0 < len(looked) <= 4 * len(chunks)


@pytest.mark.parametrize("options", [0, 1, 6])
def test_a_large_value_is_copied_twice(options: int) -> None:
    """It arrives in parts: they are gathered, and the value is cut out of them. No third copy of it is ever there."""
    command = [b"SET", b"key", b"v" * (4 << 20), *[b"option"] * options]
    request = encode(command)
    reader = RequestReader()
    tracemalloc.start()
    try:
        for start in range(0, len(request), 256 << 10):
            assert not reader.next_batch(8)
            reader.feed(request[start : start + (256 << 10)])
        taken = reader.next_batch(8)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert taken == [command] and not reader.pending_bytes
    assert peak_bytes < 2.5 * len(request)
