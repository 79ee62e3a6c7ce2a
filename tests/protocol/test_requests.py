"""Requests: any commands, cut anywhere, read back; anything else ends in a ProtocolError, within little memory."""

from __future__ import annotations

import gc
import random
import tracemalloc
from itertools import pairwise

import hiredis
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from protocol.requests import ProtocolError, RequestLimits, RequestReader, split_arguments

Outcome = tuple[list[list[bytes]], str]

ROOMY = RequestLimits()
NARROW = RequestLimits(request_bytes_max=120, arguments_max=5, inline_bytes_max=40)
BETWEEN = RequestLimits(request_bytes_max=3000, arguments_max=150, inline_bytes_max=60)
LIMITS = st.sampled_from([ROOMY, NARROW, BETWEEN])

LIKE_HEADERS = b"\r\n*1000000000\r\n$99999999999\r\n*1\r\n$4\r\nPING\r\n~500\r\n>9\r\n"
values = st.binary(max_size=30) | st.sampled_from(
    [b"", b"\r\n", b"\r\n*", b"*", b"$5\r\n", b"+1", b"(=", b"~1>2|3%4", b"PING", b"x" * 300, LIKE_HEADERS]
)
commands = st.lists(st.lists(values, min_size=1, max_size=5), max_size=8)
lines = st.sampled_from(
    [
        b"PING\r\n",
        b"GET a\n",
        b"\r\n",
        b"\n",
        b" \t\r \n",
        b"\r*1\n",
        b"  set 'a b' \"\\x41\\r\\n\"  \r\n",
        b"echo \xff\x00\x01\r\n",
        b"''\n",
    ]
)
HEADERS = b"*1 *1 *2 *2 *3 *0 *-1 *-7 *01 *6 *100 *151 *1000000000 $-1 $007 $119 $2999 $999999999999 $x ~1 %1 >1 |1 ~99"
ITEMS = [
    b"$0\r\n\r\n",
    b"$1\r\nx\r\n",
    b"$2\r\n+b\r\n",
    b"$4\r\nPING\r\n",
    b"$3\r\nabcXX",
    b"$12\r\n\r\n*1\r\n$4\r\nPI\r\n",
]
OTHERS = [
    b"+OK\r\n",
    b"-ERR\r\n",
    b":1\r\n",
    b"(1\r\n",
    b"=5\r\ntxt:a\r\n",
    b"_\r\n",
    b"#t\r\n",
    b"#f\r\n",
    b",1.5\r\n",
]
SCRAPS = [b"*", b"$", b"$1", b"*1", b"\r", b"\n", b'"open\r\n', b"!3\r\n", b"*1\r\n$4\r\nPING\r\n", b"y" * 50]
fragments = st.lists(
    st.sampled_from([header + b"\r\n" for header in HEADERS.split()])
    | st.sampled_from(ITEMS)
    | st.sampled_from(ITEMS + OTHERS + SCRAPS)
    | lines
    | values,
    max_size=25,
).map(b"".join)
cuts = st.lists(st.integers(0, 400), max_size=8)


def encode(command: list[bytes]) -> bytes:
    return b"*%d\r\n" % len(command) + b"".join([b"$%d\r\n%b\r\n" % (len(item), item) for item in command])


def cut(stream: bytes, positions: list[int]) -> list[bytes]:
    bounds = [0, *sorted(position % (len(stream) + 1) for position in positions), len(stream)]
    return [stream[a:b] for a, b in pairwise(bounds)]


def read(chunks: list[bytes], limits: RequestLimits = ROOMY, take_max: int = 0) -> Outcome:
    """All commands of the chunks, by `next` or by `take`, and the error they end in, if any."""
    reader = RequestReader(limits)
    found: list[list[bytes]] = []
    try:
        for chunk in chunks:
            reader.feed(chunk)
            if take_max:
                while batch := reader.next_batch(take_max):
                    assert len(batch) <= take_max
                    found += batch
            else:
                while (command := reader.next()) is not None:
                    found.append(command)
    except ProtocolError as error:
        with pytest.raises(ProtocolError, match=r"^Protocol error: "):
            reader.next()
        return found, str(error)
    return found, ""


class Incomplete(Exception):
    """The naive reading came to the end of the stream."""


def naive(stream: bytes, limits: RequestLimits) -> Outcome:
    """The plain reading of a whole stream, byte after byte, with the same limits and errors."""
    found: list[list[bytes]] = []
    position = 0
    try:
        while position < len(stream):
            if stream[position] == ord("*"):
                command, position = naive_array(stream, position, limits)
            else:
                command, position = naive_line(stream, position, limits)
            if command:
                found.append(command)
    except Incomplete:
        return found, ""
    except ProtocolError as error:
        return found, str(error)
    return found, ""


def naive_number(stream: bytes, position: int, complaint: str) -> tuple[int, int]:
    end = stream.find(b"\r\n", position)
    if end < 0 and len(stream) - position < 32:
        raise Incomplete
    text = stream[position + 1 : end] if end >= 0 else b""
    if not text.removeprefix(b"-").isdigit() or b"%d" % int(text) != text or len(text.removeprefix(b"-")) > 19:
        raise ProtocolError(complaint)
    return int(text), end + 2


def naive_array(stream: bytes, start: int, limits: RequestLimits) -> tuple[list[bytes], int]:
    count, position = naive_number(stream, start, "Protocol error: invalid multibulk length")
    if count > limits.arguments_max:
        many = f"Protocol error: too many arguments: arguments_max is {limits.arguments_max}"
        raise ProtocolError(many if count < 1 << 31 else "Protocol error: invalid multibulk length")
    command: list[bytes] = []
    for _ in range(count):
        if position >= len(stream):
            raise Incomplete
        if stream[position] != ord("$"):
            raise ProtocolError(f"Protocol error: expected '$', got '{chr(stream[position])}'")
        length, position = naive_number(stream, position, "Protocol error: invalid bulk length")
        if not 0 <= length <= max(limits.request_bytes_max, 512 << 20):
            raise ProtocolError("Protocol error: invalid bulk length")
        command.append(stream[position : position + length])
        position += length + 2
        if position - start > limits.request_bytes_max:
            big = f"Protocol error: too big request: request_bytes_max is {limits.request_bytes_max}"
            raise ProtocolError(big)
    if position > len(stream):
        raise Incomplete
    return command, position


def naive_line(stream: bytes, start: int, limits: RequestLimits) -> tuple[list[bytes], int]:
    if stream[start] in b"$+-:_#,(!=%~>|":
        raise ProtocolError(f"Protocol error: expected '*', got '{chr(stream[start])}'")
    line, newline, _ = stream[start:].partition(b"\n")
    if len(line.removesuffix(b"\r")) > limits.inline_bytes_max:
        raise ProtocolError("Protocol error: too big inline request")
    if not newline:
        raise Incomplete
    return split_arguments(line), start + len(line) + 1


@given(commands, cuts)
@example([[b"SET", b"k", LIKE_HEADERS * 3], [b"GET", b"k"]], [60])
def test_any_commands_cut_anywhere_read_back_the_same(sent: list[list[bytes]], positions: list[int]) -> None:
    stream = b"".join(map(encode, sent))
    assert read(cut(stream, positions)) == (sent, "")
    assert read([stream[i : i + 1] for i in range(len(stream))]) == (sent, "")


@given(st.lists(st.lists(values, min_size=1, max_size=4).map(encode) | lines, max_size=10).map(b"".join), cuts)
def test_inline_lines_and_resp_mix_and_may_be_cut_anywhere(stream: bytes, positions: list[int]) -> None:
    expected = naive(stream, ROOMY)
    assert expected[1] == ""
    assert read(cut(stream, positions)) == read([stream], take_max=3) == expected


@given(fragments, cuts, LIMITS)
@example(b"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nabcXX+PING\r\n", [], ROOMY)  # no newline before the simple string
@example(b"*2\r\n$1\r\na\r\n=5\r\ntxt:a\r\n", [], ROOMY)
@example(b"*1\r\n~1\r\n$4\r\nPING\r\n", [], ROOMY)
@example(b"*1\r\n$4\r\nPING\r\n%1\r\n$1\r\na\r\n$1\r\nb\r\n", [], ROOMY)
@example(b"*1\r\n$4\r\nPING\r\n>1\r\n$4\r\nPING\r\n", [], ROOMY)
@example(b"*1\r\n$4\r\nPING\r\n~1\r\n$4\r\nPING\r\n", [], ROOMY)
@example(b"*1\r\n$4\r\nPING\r\n|1\r\n$1\r\na\r\n$1\r\nb\r\n", [], ROOMY)
@example(b"*1\r\n$4\r\nPING\r\n*0\r\n*1\r\n$4\r\nPING\r\n*-1\r\nPING\r\n", [], ROOMY)
@example(b"*\n", [], ROOMY)
@example(b"*1\r\n$1\r\na\r\n$0\r\n\r\n", [], ROOMY)
def test_junk_ends_in_the_same_commands_and_error_wherever_it_is_cut(
    stream: bytes, positions: list[int], limits: RequestLimits
) -> None:
    expected = naive(stream, limits)
    assert read([stream], limits) == expected
    assert read(cut(stream, positions), limits, take_max=2) == expected
    assert read([stream[i : i + 1] for i in range(len(stream))], limits) == expected


@pytest.mark.parametrize("chunk_bytes", [1000, 8192, 65536])
def test_long_pipelines_of_all_sizes_in_chunks_of_a_socket(chunk_bytes: int) -> None:
    rng = random.Random(chunk_bytes)
    sizes = [0, 5, 100, 1000, 3000, 9000, 40000]
    sent = [[b"SET", b"key:%d" % i, rng.randbytes(rng.choice(sizes[: 3 + i % 5]))] for i in range(400)]
    sent += [[b"MGET"] + [b"k%d" % i for i in range(3000)], [b"GET", b"k"]]
    stream = b"".join(map(encode, sent))
    chunks = [stream[i : i + chunk_bytes] for i in range(0, len(stream), chunk_bytes)]
    assert read(chunks) == read(chunks, take_max=7) == (sent, "")


def test_the_commands_before_an_error_come_first_and_the_error_stays() -> None:
    reader = RequestReader()
    reader.feed(b"*1\r\n$4\r\nPING\r\nECHO hi\r\n*1\r\n:7\r\n*1\r\n$4\r\nPING\r\n")
    assert reader.next_batch(10) == [[b"PING"]]
    assert reader.next() == [b"ECHO", b"hi"]
    for _ in range(2):
        with pytest.raises(ProtocolError, match=r"^Protocol error: expected '\$', got ':'$"):
            reader.next()
    reader.feed(b"PING\r\n")
    with pytest.raises(ProtocolError):
        reader.next_batch(1)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        (b"*2147483648\r\n", "invalid multibulk length"),
        (b"*2147483647\r\n", "too many arguments: arguments_max is 1048576"),
        (b"*1048577\r\n", "too many arguments: arguments_max is 1048576"),
        (b"*99999999999999999999\r\n", "invalid multibulk length"),
        (b"*abc\r\n", "invalid multibulk length"),
        (b"*" + b"1" * 40, "invalid multibulk length"),
        (b"*1\r\n$999999999999\r\n", "invalid bulk length"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$" + b"1" * 40, "invalid bulk length"),
        (b"*1\r\n$67108864\r\n", "too big request: request_bytes_max is 67108864"),
        (b"*1\r\n$536870912\r\n", "too big request: request_bytes_max is 67108864"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (
            b"*2\r\n$40000000\r\n" + b"x" * 40000000 + b"\r\n$40000000\r\n",
            "too big request: request_bytes_max is 67108864",
        ),
        (b"*1\r\n*1\r\n$1\r\nx\r\n", "expected '$', got '*'"),
        (b"*1\r\n" * 5000, "expected '$', got '*'"),
        (b"*2\r\n$0\r\n\r\n" * 5000, "expected '$', got '*'"),
        (b"*1\r\n+PING\r\n", "expected '$', got '+'"),
        (b"*1\r\n_\r\n", "expected '$', got '_'"),
        (b"+OK\r\n", "expected '*', got '+'"),
        (b"$3\r\nfoo\r\n", "expected '*', got '$'"),
        (b"%1\r\n+a\r\n+b\r\n", "expected '*', got '%'"),
        (b"x" * 65537, "too big inline request"),
        (b'set "a b\r\n', "unbalanced quotes in request"),
    ],
)
def test_errors_are_worded_as_in_redis(stream: bytes, message: str) -> None:
    assert read([stream]) == ([], f"Protocol error: {message}")


def test_ordinary_pipelines_are_read_the_quick_way(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = [[b"SET", b"key:%012d" % i, b"+x(=" * (i % 3 * 10)] for i in range(16)] + [[b"GET", b"k"]]
    pipeline = b"".join(map(encode, sent))
    monkeypatch.setattr(RequestReader, "_read_exactly", None)
    assert read([encode([b"PING"]), pipeline, pipeline * 20, encode([b"PING"])]) == (
        [[b"PING"], *sent * 21, [b"PING"]],
        "",
    )


@pytest.mark.parametrize(
    "stream",
    [
        b"*1048576\r\n" * 1500,
        b"*4294967295\r\n~4294967295\r\n",
        b"*1\r\n~99999999\r\n" + b"~99999999\r\n" * 500,
        b"*99\r\n" * 12000,
        b"*99\r\n$0\r\n\r\n" * 6000,
        b"*1\r\n$4\r\nPING\r\n" + b">99\r\n" * 1000 + b"\r\n",
        b"*1048576\r\n",
        b"*1\r\n$60000000\r\n",
    ],
)
def test_announcements_cost_no_memory(stream: bytes) -> None:
    reader = RequestReader()
    gc.collect()
    tracemalloc.start()
    try:
        reader.feed(stream)
        read_until_error(reader)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert reader.pending_bytes <= len(stream)


def read_until_error(reader: RequestReader) -> None:
    try:
        while reader.next() is not None:
            pass
    except ProtocolError:
        return


def test_a_large_value_is_read_once_and_then_let_go() -> None:
    reader = RequestReader()
    wire = encode([b"SET", b"k", b"x" * 5_000_000])
    tracemalloc.start()
    try:
        for i in range(0, len(wire), 50_000):
            assert reader.next() is None
            reader.feed(wire[i : i + 50_000])
        assert reader.pending_bytes == len(wire)
        command = reader.next()
        assert command is not None
        assert len(command[2]) == 5_000_000
        del command
        assert reader.pending_bytes == 0
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()


def test_a_caller_may_stop_within_a_pipeline_and_go_on_later() -> None:
    sent = [[b"SET", b"key:%d" % i, b"x" * 100] for i in range(300)]
    stream = b"".join(map(encode, sent))
    reader = RequestReader()
    reader.feed(stream[:20000])
    found = [reader.next() for _ in range(10)]
    assert len(stream) > 20000 > reader.pending_bytes > 15000
    reader.feed(stream[20000:])
    found += reader.next_batch(1)
    found += reader.next_batch(5)
    while batch := reader.next_batch(1000):
        found += batch
    assert found == sent
    assert reader.pending_bytes == 0
    assert reader.next() is None


def test_pending_bytes_are_those_of_the_incomplete_request() -> None:
    reader = RequestReader()
    reader.feed(encode([b"PING"]) + b"*2\r\n$3\r\nGET\r\n$10\r\nabc")
    assert reader.next() == [b"PING"]
    assert reader.next() is None
    assert reader.pending_bytes == len(b"*2\r\n$3\r\nGET\r\n$10\r\nabc")
    reader.feed(b"defghij\r\nPI")
    assert reader.next() == [b"GET", b"abcdefghij"]
    assert reader.next() is None
    assert reader.pending_bytes == 2


@pytest.mark.parametrize(
    ("line", "arguments"),
    [
        (b"", []),
        (b" \t\r", []),
        (b"set a  b\t c\r", [b"set", b"a", b"b", b"c"]),
        (rb'"a b" "\x41\xfF\n\r\t\b\a\q\"\\"', [b"a b", b'A\xff\n\r\t\b\aq"\\']),
        (rb"'a \n \' b' ''", [rb"a \n ' b", b""]),
        (rb"'\\x' x", [rb"\\x", b"x"]),
        (b"foo\"bar\" x'y'", [b"foobar", b"xy"]),
        (rb'"\x4" \x41', [b"x4", rb"\x41"]),
        (b"a b\0c d", [b"a", b"b"]),
        (b"\xff\xfe", [b"\xff\xfe"]),
    ],
)
def test_inline_lines_are_split_as_sdssplitargs_does(line: bytes, arguments: list[bytes]) -> None:
    assert split_arguments(line) == arguments


@pytest.mark.parametrize("line", [b'"', b"'", b'"a"b', b"'a'b", b'a"b', rb'"\"', rb"'\'", rb"'\\'", b'"a\0"', b"''''"])
def test_quotes_have_to_balance(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="unbalanced quotes"):
        split_arguments(line)


@given(st.lists(st.binary(), max_size=5))
def test_arguments_in_quotes_read_back_the_same(arguments: list[bytes]) -> None:
    line = b" ".join([b'"' + b"".join([b"\\x%02x" % byte for byte in argument]) + b'"' for argument in arguments])
    assert split_arguments(line) == arguments


def test_hiredis_encodes_what_the_reader_reads() -> None:
    reader = RequestReader()
    reader.feed(hiredis.pack_command(("SET", "k", 5)) + hiredis.pack_command(("PING",)))
    assert reader.next_batch(10) == [[b"SET", b"k", b"5"], [b"PING"]]
