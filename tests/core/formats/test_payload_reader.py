"""Reading payloads: samples of every type, and what is hostile.

The property of the fuzz test: whatever bytes come, `load` either gives a value or raises PayloadError or TooLarge. And what
it takes, redis-server takes, and it is the same value. (The reverse does not hold: redis-server reads a value that has been
cut short on into the version and the checksum, and takes a score of which only the beginning is a number.)
"""

from __future__ import annotations

import random
import struct
import tracemalloc

import pytest
import redis as redis_py
from hypothesis import given
from hypothesis import strategies as st

from protocol import resp
from server.core.formats import listpack, payload_reader, payload_writer
from server.core.formats.pausing import run_through
from server.core.formats.payloads import HASH, LIST, SET, STREAM, STRING, ZSET, PayloadError, TooLarge, Value, seal
from tests.core.formats.payload_samples import NEWER, OLDER, WRITTEN, Expected, singles, ziplist

BYTES_MAX = 1 << 20
KNOWN_TO_7_0 = [payload for payload, _ in (*WRITTEN.values(), *OLDER.values())]
STREAM_FIELDS = (b"1", b"0", b"1", b"f", b"0")  # live entries, deleted ones, the fields, and what ends them
STREAM_ENTRIES = (
    b"0",
    b"3",
    b"-1",
    b"1",
    b"g",
    b"w",
    b"6",
    b"2",
    b"5",
    b"0",
    b"v",
    b"4",
)  # of its own fields; of those


def stream(*words: bytes, kind: int = 15, entries: int = 2) -> bytes:
    """The type and value of a stream of one node, whose id is 1-1."""
    node = listpack.pack(words)
    first = struct.pack(">QQ", 1, 1)
    size = b"\x80" + len(node).to_bytes(4, "big")
    return bytes((kind, 1, 16)) + first + size + node + bytes((entries,)) + bytes(3 if kind == 15 else 8)


STREAMS = [seal(stream(*STREAM_FIELDS, *STREAM_ENTRIES, kind=kind), 11) for kind in (15, 19, 21)]
ALL = [*KNOWN_TO_7_0, *[payload for payload, _, _ in NEWER.values()], *STREAMS]


def _read(payload: bytes) -> Expected:
    value = run_through(payload_reader.load(payload, BYTES_MAX))
    return value.kind, value.string, sorted(value.items) if value.kind != LIST else value.items


@pytest.mark.parametrize("name", WRITTEN)
def test_what_redis_wrote_is_read(name: str) -> None:
    payload, expected = WRITTEN[name]
    assert _read(payload) == expected


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_read_is_written_as_redis_wrote_it(name: str) -> None:
    payload, (kind, string, items) = WRITTEN[name]
    names = [item for item, _ in items]
    written = {
        STRING: lambda: payload_writer.dump_string(string),
        LIST: lambda: run_through(payload_writer.dump_list(names)),
        SET: lambda: run_through(payload_writer.dump_set(names)),
        HASH: lambda: run_through(payload_writer.dump_hash(items)),
        ZSET: lambda: run_through(
            payload_writer.dump_zset(sorted((struct.unpack(">d", score)[0], member) for member, score in items))
        ),
    }[kind]()
    assert written == payload


@pytest.mark.parametrize("name", OLDER)
def test_what_older_versions_wrote_is_read(name: str) -> None:
    payload, expected = OLDER[name]
    assert _read(payload) == expected


@pytest.mark.parametrize("name", NEWER)
def test_what_newer_versions_write_is_read(name: str) -> None:
    payload, expected, expiries_ms = NEWER[name]
    assert _read(payload) == expected
    assert run_through(payload_reader.load(payload, BYTES_MAX)).expiries_ms == expiries_ms


@pytest.mark.parametrize("payload", STREAMS)
def test_entries_of_a_stream_have_fields_of_their_own_or_those_of_the_node(payload: bytes) -> None:
    value = run_through(payload_reader.load(payload, BYTES_MAX))
    own, same = struct.pack(">QQ", 4, 0), struct.pack(">QQ", 6, 1)
    arrays = [resp.array([resp.bulk(word) for word in words]) for words in ((b"g", b"w"), (b"f", b"v"))]
    assert (value.kind, value.items) == (STREAM, list(zip((own, same), arrays, strict=True)))


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x00" * 9,
        WRITTEN["string"][0][:-1],
        WRITTEN["string"][0][:-1] + b"\x0b",
        b"\x00\x06" + WRITTEN["string"][0][2:],
        seal(b"\x00\x05hello", 13),
    ],
)
def test_a_wrong_version_or_checksum_is_told(payload: bytes) -> None:
    with pytest.raises(PayloadError, match="DUMP payload version or checksum are wrong"):
        run_through(payload_reader.load(payload, BYTES_MAX))


def _in_block(kind: int, data: bytes) -> bytes:
    return bytes((kind, len(data))) + data


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x06\x01a",
        b"\x0f\x01a",
        b"\xff",
        b"\x00",
        b"\x00\x05hell",
        b"\x00\x82\x00\x00\x00\x01a",
        b"\x00\x81" + b"\xff" * 8,
        b"\x00\xc4\x01",
        b"\x00\xc3\x02\x15\xe0\xff",
        b"\x00\xc3\x03\x3f\x00a\x00",
        b"\x02\x00",
        b"\x02\x02\x01a\x01a",
        b"\x02\x81" + b"\xff" * 8 + b"\x01a",
        b"\x04\x02\x01a\x01v\x01a\x01w",
        b"\x05\x01\x01a" + struct.pack("<d", float("nan")),
        b"\x03\x01\x01a\xfd",
        b"\x03\x01\x01a\x03nan",
        b"\x03\x01\x01a\x021x",
        _in_block(11, bytes.fromhex("0200000000000000")),
        _in_block(11, bytes.fromhex("02000000020000000100")),
        _in_block(11, bytes.fromhex("020000000200000002000100")),
        _in_block(11, bytes.fromhex("030000000100000001000000")),
        _in_block(16, listpack.pack([])),
        _in_block(16, listpack.pack([b"a"])),
        _in_block(16, listpack.pack([b"a", b"1", b"a", b"2"])),
        _in_block(16, listpack.pack([b"a", b"1"])[:-1] + b"\xfe"),
        _in_block(
            16,
            listpack.pack([b"a", b"1"])
            .replace(b"\x04\x00\x81", b"\x05\x00\x81")
            .replace(b"\x02\x00\x81", b"\x03\x00\x81"),
        ),
        _in_block(17, listpack.pack([b"a", b"one"])),
        _in_block(17, listpack.pack([b"a", b"nan"])),
        _in_block(13, ziplist(b"\x01a", b"\x01b")[:-4] + b"\x04\x01b\xff"),
        _in_block(10, ziplist(b"\x01a")[:-2] + b"\xff"),
        _in_block(10, ziplist()),
        _in_block(10, ziplist(b"\xff")),
        _in_block(9, b"\x00\xff"),
        _in_block(9, b"\x02\x01a\x01\x00b\xff"),
        _in_block(9, b"\x01\x01a\x01\x02b\xff"),
        b"\x12\x01\x03\x01a",
        b"\x12\x01\x01\x00",
        b"\x12\x00",
        b"\x18" + b"\x00" * 8 + b"\x01\x81" + b"\xff" * 8 + b"\x01f\x01v",
        b"\x19" + b"\x00" * 8 + _in_block(25, listpack.pack([b"f", b"v"]))[1:],
        b"\x19" + b"\x00" * 8 + _in_block(25, listpack.pack([b"f", b"v", b"-1"]))[1:],
        b"\x19" + b"\x00" * 8 + _in_block(25, listpack.pack([b"f", b"v", b"x"]))[1:],
        _in_block(20, listpack.pack([b"a", b"a"])),
        b"\x0f\x01\x0f" + bytes(15) + _in_block(0, listpack.pack([*STREAM_FIELDS, *STREAM_ENTRIES]))[1:] + b"\x02",
        stream(),
        stream(*STREAM_FIELDS, *STREAM_ENTRIES, entries=1),
        stream(*STREAM_FIELDS, *STREAM_ENTRIES)[:-4],
        stream(*STREAM_FIELDS[:-1], b"1", *STREAM_ENTRIES),
        stream(b"0", b"0", b"0", b"0", b"2", b"1", b"0", b"3", entries=1),
        stream(b"1", b"0", b"-1", b"0", *STREAM_ENTRIES),
        stream(b"1", b"0", b"99", b"f", b"0", *STREAM_ENTRIES),
        stream(*STREAM_FIELDS, b"two", *STREAM_ENTRIES[1:]),
        stream(*STREAM_FIELDS, *STREAM_ENTRIES[:-1]),
        stream(*STREAM_FIELDS, *STREAM_ENTRIES[:-1], b"5"),
        stream(*STREAM_FIELDS, *STREAM_ENTRIES[:-3]),
        stream(*STREAM_FIELDS, b"0", b"0", b"0", b"-1", b"3", entries=1),
        stream(*STREAM_FIELDS, b"0", b"0", b"0", b"0", b"4", entries=1),
    ],
)
def test_a_value_that_is_none_is_told(body: bytes) -> None:
    for version in (10, 12):
        with pytest.raises(PayloadError, match="Bad data format"):
            run_through(payload_reader.load(seal(body, version), BYTES_MAX))


def _compressed(start: bytes, distance: int, runs: int, end: bytes) -> bytes:
    """A string that begins with up to 32 bytes, goes on with 264 `runs` times, and ends with up to 32."""
    compressed = bytes((len(start) - 1,)) + start
    compressed += (b"\xe0\xff" + bytes((distance - 1,))) * runs + bytes((len(end) - 1,)) + end
    size = len(start) + 264 * runs + len(end)
    return b"\xc3\x80" + len(compressed).to_bytes(4, "big") + b"\x80" + size.to_bytes(4, "big") + compressed


def _stream_of_long_fields() -> bytes:
    """A thousand entries with the fields of the first one, which are long."""
    fields = (b"1", b"0", b"1", b"f" * 20_000, b"0")
    return stream(*fields, *(b"2", b"0", b"0", b"v", b"4") * 1000)


def _bombs() -> dict[str, bytes]:
    runs = 1_000  # more would take long while memory is traced
    size = 6 + 2 + 264 * runs + 1
    many_entries = _compressed(size.to_bytes(4, "little") + b"\xff\xff\x64\x01", 2, runs, b"\xff")
    return {
        "string": b"\x00" + _compressed(b"\x00", 1, runs, b"\x00"),
        "strings": b"\x01\x81" + (1 << 17).to_bytes(8, "big") + b"\x00" * (1 << 17),
        "list": b"\x12\x01\x02" + many_entries,
        "hash": b"\x10" + many_entries,
        "set": b"\x14" + many_entries,
        "stream": _stream_of_long_fields(),
    }


def test_a_bomb_is_a_value_all_the_same() -> None:
    """Else the test below would prove nothing."""
    value = run_through(payload_reader.load(seal(_bombs()["string"]), 8 << 20))
    assert value.string == bytes(2 + 264 * 1_000)


@pytest.mark.parametrize(
    ("name", "bytes_max"),
    [
        ("string", 64 << 10),
        ("strings", 64 << 10),
        ("list", 64 << 10),
        ("list", 320 << 10),
        ("hash", 320 << 10),
        ("set", 320 << 10),
        ("stream", 64 << 10),
        ("stream", 320 << 10),
    ],
)
def test_no_more_is_made_than_the_caller_allows(name: str, bytes_max: int) -> None:
    payload = seal(_bombs()[name], 12)
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge):
            run_through(payload_reader.load(payload, bytes_max))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 8 * bytes_max + 2 * len(payload)


def test_the_deleted_entries_of_a_stream_are_charged() -> None:
    """A node of nothing else has no item, and takes as long to read."""
    node = listpack.pack([b"0", b"300", b"1", b"f", b"0", *[b"3", b"0", b"0", b"0", b"4"] * 300])
    size = payload_writer._length(len(node))
    nodes = b"".join([b"\x10" + bytes(15) + bytes((number,)) + size + node for number in range(63)])
    payload = seal(bytes((15, 63)) + nodes + bytes(4), 10)
    assert run_through(payload_reader.load(payload, 8 << 20)).items == []
    with pytest.raises(TooLarge):
        run_through(payload_reader.load(payload, 63 * len(node)))


def _stream_of(*nodes: tuple[int, list[int]]) -> bytes:
    """The payload of a stream: of each node its id in ms, and how many ms later each of its entries is."""
    body, entries = b"", 0
    for first_ms, later_ms in nodes:
        words = [b"%d" % len(later_ms), b"0", b"1", b"f", b"0"]
        for ms in later_ms:
            words += [b"2", b"%d" % ms, b"0", b"v", b"4"]
        node = listpack.pack(words)
        body += b"\x10" + struct.pack(">QQ", first_ms, 0) + payload_writer._length(len(node)) + node
        entries += len(later_ms)
    return seal(bytes((15, len(nodes))) + body + bytes((entries, 0, 0, 0)), 10)


@pytest.mark.parametrize(
    ("nodes", "is_sound"),
    [
        ([(5, [0, 1, 7]), (13, [0])], True),
        ([(5, [0, 0, 1])], True),  # both sides of a partition have chosen this id
        ([(5, [0, -2, 1])], False),
        ([(5, [0, 7, 1])], False),
        ([(7, [0]), (5, [0])], False),
        ([(5, [0, 7]), (11, [0])], False),
        ([(5, [0]), (5, [0])], False),
    ],
)
def test_the_entries_of_a_stream_are_in_their_order(nodes: list[tuple[int, list[int]]], is_sound: bool) -> None:
    """Redis itself takes entries in any order, and then answers them so; only nodes of one id are damage to it, too."""
    if is_sound:
        assert len(run_through(payload_reader.load(_stream_of(*nodes), 1 << 20)).items) == sum(
            len(each) for _, each in nodes
        )
        return
    with pytest.raises(PayloadError, match="Bad data format"):
        run_through(payload_reader.load(_stream_of(*nodes), 1 << 20))


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    body = bytearray(draw(st.sampled_from(ALL))[:-10])
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, len(body)))
        end = place + draw(st.integers(0, 3))
        body[place:end] = draw(st.binary(max_size=3))
    return bytes(body)


@given(_damaged() | st.binary(max_size=40), st.sampled_from([10, 12]))
def test_any_bytes_are_read_or_refused(body: bytes, version: int) -> None:
    try:
        value = run_through(payload_reader.load(seal(body, version), BYTES_MAX))
    except (PayloadError, TooLarge):
        return
    assert isinstance(value, Value)


def _shown(redis: redis_py.Redis, kind: int) -> Expected:
    """What the restored key of redis-server holds."""
    if kind == STRING:
        return kind, redis.get("key"), []
    if kind == LIST:
        return kind, b"", singles(*redis.lrange("key", 0, -1))
    if kind == SET:
        return kind, b"", sorted(singles(*redis.smembers("key")))
    command = ("HGETALL", "key") if kind == HASH else ("ZRANGE", "key", 0, -1, "WITHSCORES")
    told = redis.execute_command(*command)
    values = told[1::2] if kind == HASH else [struct.pack(">d", float(score)) for score in told[1::2]]
    return kind, b"", sorted(zip(told[::2], values, strict=True))


def _without_minus_zero(read: Expected) -> Expected:
    """A listpack does not know -0."""
    kind, string, items = read
    minus = struct.pack(">d", -0.0)
    return kind, string, [(item, bytes(8) if kind == ZSET and value == minus else value) for item, value in items]


@pytest.mark.parametrize("seed", range(3))
def test_redis_takes_what_is_taken(redis: redis_py.Redis, seed: int) -> None:
    redis.config_set("sanitize-dump-payload", "yes")
    chance = random.Random(seed)
    taken = 0
    for round_ in range(600):
        body = bytearray(chance.choice(KNOWN_TO_7_0)[:-10])
        for _ in range(chance.choice((1, 1, 3)) if round_ >= len(KNOWN_TO_7_0) else 0):
            place = chance.randrange(len(body) + 1)
            body[place : place + chance.randint(0, 2)] = chance.randbytes(chance.randint(0, 2))
        payload = seal(bytes(body))
        try:
            read = _read(payload)
        except PayloadError:
            continue
        redis.execute_command("RESTORE", "key", 0, payload, "REPLACE")
        assert _without_minus_zero(_shown(redis, read[0])) == _without_minus_zero(read), payload
        taken += 1
    assert taken > 50
