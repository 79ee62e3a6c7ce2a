"""Payloads of DUMP and RESTORE against redis-server: what it dumps is read, and what is written it restores."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator

import pytest
import redis as redis_py

from protocol import resp
from server.core.formats import payload_reader, payload_writer
from server.core.formats.pausing import run_through
from server.core.formats.payloads import HASH, LIST, SET, STREAM, STRING, ZSET, PayloadError, seal

BYTES_MAX = 64 << 20
STRINGS = (
    b"", b"a", b"0", b"-0", b"127", b"128", b"-128", b"-129", b"32767", b"32768", b"-32768", b"-32769", b"2147483647",
    b"2147483648", b"-2147483648", b"-2147483649", b"9223372036854775807", b"12345678901", b"-1234567890", b" 1",
    b"x" * 20, b"x" * 21, b"x" * 63, b"x" * 64, bytes(range(256)), b"ab" * 5_000, b"x" * 16_383, b"x" * 16_384,
    random.Random(1).randbytes(20_000), random.Random(2).randbytes(70_000), b"word and word and word, and other words",
)  # fmt: skip
NUMBERS = tuple(
    sign * (2**bits) + change
    for bits in (7, 8, 12, 15, 16, 23, 31, 32, 62)
    for sign in (1, -1)
    for change in (-1, 0, 1)
)
SCORES = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.1,
    3.5e-5,
    1e17,
    1e18,
    1e19,
    -1e300,
    4.6e18,
    5e18,
    float("inf"),
    float("-inf"),
    5e-324,
)


@pytest.fixture
def compresses_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compresses strings of any size, as Redis does."""
    monkeypatch.setattr(payload_writer, "_COMPRESSED_BYTES_MAX", 1 << 30)
    monkeypatch.setattr(payload_writer, "_COMPRESSED_BYTES_IN_ALL_MAX", 1 << 30)


def _score_bytes(score: float) -> bytes:
    return struct.pack(">d", score)


def _words(count: int, size: int) -> list[bytes]:
    return [b"%0*d-word" % (size, number) for number in range(count)]


def _restored(redis: redis_py.Redis, payload: bytes) -> redis_py.Redis:
    redis.execute_command("RESTORE", "restored", 0, payload, "REPLACE")
    return redis


def _sets() -> Iterator[list[bytes]]:
    yield [b"1"]
    yield [b"%d" % number for number in (3, 1, 2, -5)]
    for limit in (15, 16, 31, 32, 62):
        yield [b"%d" % number for number in NUMBERS if -(2**limit) <= number < 2**limit]
    yield [b"%d" % number for number in range(512)]
    yield [b"%d" % number for number in range(513)]
    yield [b"1", b"a"]
    yield [b"01", b"1"]
    yield [b"x" * 5_000, b""]
    yield _words(5_000, 8)


def _hashes() -> Iterator[list[tuple[bytes, bytes]]]:
    yield [(b"field", b"value")]
    yield [(b"f%02d" % number, string) for number, string in enumerate(STRINGS) if len(string) <= 64]
    yield [(b"%d" % number, b"%d" % -number) for number in sorted(NUMBERS)]
    yield [(b"%03d" % number, b"v" * (number % 64)) for number in range(512)]
    yield [(b"%03d" % number, b"v") for number in range(513)]
    yield [(b"f", b"v" * 65)]
    yield [(b"f" * 65, b"v")]
    yield [(b"", b"")]
    yield list(zip(_words(3_000, 9), _words(3_000, 60), strict=True))


def _zsets() -> Iterator[dict[bytes, float]]:
    yield {b"m": 1.0}
    yield {b"m%d" % number: score for number, score in enumerate(SCORES)}
    yield {b"%d" % number: float(number) for number in NUMBERS}
    yield {b"%d" % number: float(number % 7) for number in range(128)}
    yield {b"%d" % number: float(number % 7) for number in range(129)}
    yield {b"m" * 64: 0.5}
    yield {b"m" * 65: 0.5}
    yield {word: number / 3 for number, word in enumerate(_words(2_000, 30))}


def _lists() -> Iterator[list[bytes]]:
    yield [b"one"]
    yield [string for string in STRINGS if len(string) < 20_000]
    yield [b"%d" % number for number in (*NUMBERS, *range(-5_000, 5_000, 7))]
    yield _words(3_000, 12)
    yield [b"x" * size for size in range(8_150, 8_200)]
    yield [b"y" * 100_000, b"z", b"z"]
    yield [b"x" * size for size in (*range(124, 129), *range(16_376, 16_381))]


@pytest.mark.parametrize("string", STRINGS, ids=range(len(STRINGS)))
def test_strings(redis: redis_py.Redis, compresses_all: None, string: bytes) -> None:
    redis.set("key", string)
    theirs, ours = redis.execute_command("DUMP", "key"), payload_writer.dump_string(string)
    assert ours == theirs
    for payload in (theirs, ours):
        value = run_through(payload_reader.load(payload, BYTES_MAX))
        assert (value.kind, value.string, value.items) == (STRING, string, [])
        assert _restored(redis, payload).get("restored") == string


@pytest.mark.parametrize("elements", list(_sets()), ids=lambda elements: len(elements))
def test_sets(redis: redis_py.Redis, compresses_all: None, elements: list[bytes]) -> None:
    redis.sadd("key", *elements)
    theirs, ours = redis.execute_command("DUMP", "key"), run_through(payload_writer.dump_set(sorted(elements)))
    if redis.execute_command("OBJECT", "ENCODING", "key") == b"intset":
        assert ours == theirs
    for payload in (theirs, ours):
        value = run_through(payload_reader.load(payload, BYTES_MAX))
        assert (value.kind, sorted(value.items)) == (SET, [(element, b"") for element in sorted(elements)])
        assert sorted(_restored(redis, payload).smembers("restored")) == sorted(elements)


@pytest.mark.parametrize("pairs", list(_hashes()), ids=lambda pairs: len(pairs))
def test_hashes(redis: redis_py.Redis, compresses_all: None, pairs: list[tuple[bytes, bytes]]) -> None:
    redis.execute_command("HSET", "key", *[item for pair in pairs for item in pair])
    theirs, ours = redis.execute_command("DUMP", "key"), run_through(payload_writer.dump_hash(pairs))
    if redis.execute_command("OBJECT", "ENCODING", "key") == b"listpack":
        assert ours == theirs
    for payload in (theirs, ours):
        value = run_through(payload_reader.load(payload, BYTES_MAX))
        assert (value.kind, sorted(value.items), value.expiries_ms) == (HASH, sorted(pairs), {})
        told = _restored(redis, payload).execute_command("HGETALL", "restored")
        assert dict(zip(told[::2], told[1::2], strict=True)) == dict(pairs)


@pytest.mark.parametrize("members", list(_zsets()), ids=lambda members: len(members))
def test_sorted_sets(redis: redis_py.Redis, compresses_all: None, members: dict[bytes, float]) -> None:
    redis.zadd("key", members)
    theirs, ours = (
        redis.execute_command("DUMP", "key"),
        run_through(payload_writer.dump_zset(sorted((score, member) for member, score in members.items()))),
    )
    assert ours == theirs
    for payload in (theirs, ours):
        value = run_through(payload_reader.load(payload, BYTES_MAX))
        expected = {member: _score_bytes(score) for member, score in members.items()}
        if payload[0] == 17:  # a listpack does not know -0
            expected = {
                member: score if score != _score_bytes(-0.0) else _score_bytes(0.0)
                for member, score in expected.items()
            }
        assert (value.kind, dict(value.items)) == (ZSET, expected)
        told = _restored(redis, payload).execute_command("ZRANGE", "restored", 0, -1, "WITHSCORES")
        assert told == redis.execute_command("ZRANGE", "key", 0, -1, "WITHSCORES")


@pytest.mark.parametrize("elements", list(_lists()), ids=lambda elements: len(elements))
def test_lists(redis: redis_py.Redis, compresses_all: None, elements: list[bytes]) -> None:
    redis.rpush("key", *elements)
    theirs, ours = redis.execute_command("DUMP", "key"), run_through(payload_writer.dump_list(elements))
    assert ours == theirs
    for payload in (theirs, ours):
        value = run_through(payload_reader.load(payload, BYTES_MAX))
        assert (value.kind, value.items) == (LIST, [(element, b"") for element in elements])
        assert _restored(redis, payload).lrange("restored", 0, -1) == elements


def _entry(ms: int, sequence: int, *words: bytes) -> tuple[bytes, bytes]:
    """An entry of a stream as values have it."""
    return struct.pack(">QQ", ms, sequence), resp.array([resp.bulk(word) for word in words])


def _streams() -> Iterator[list[tuple[bytes, bytes]]]:
    last = (1 << 64) - 1
    yield [_entry(0, 1, b"f", b"v")]
    yield [_entry(1, 5, b"f", b"v"), _entry(2, 0, b"f", b"w"), _entry(last, last, b"g", b"x", b"f", b"v")]
    yield [_entry(1, number, b"f", b"%d" % number, b"g", b"%d" % -number) for number in range(1, 251)]
    yield [_entry(last - 300 + number, last - number, b"f", b"v" * (number % 80)) for number in range(300)]
    yield [_entry(number, 0, b"f%d" % (number % 3), b"%d" % edge) for number, edge in enumerate(NUMBERS, 1)]
    yield [_entry(number, 0, *STRINGS[:number], *STRINGS[:number]) for number in range(1, 28)]
    yield [_entry(number, 0, b"f", b"x" * size) for number, size in enumerate(range(1980, 2050), 1)]
    yield [_entry(1, 0, *(b"%d" % number for number in range(300))), _entry(2, 0, b"a" * 5000, b"b" * 70_000)]


def _told(redis: redis_py.Redis, key: str) -> list[tuple[bytes, bytes]]:
    """The entries that redis-server tells."""
    told = redis.execute_command("XRANGE", key, "-", "+")
    return [_entry(*map(int, name.split(b"-")), *words) for name, words in told]


@pytest.mark.parametrize("entries", list(_streams()), ids=lambda entries: len(entries))
def test_streams(redis: redis_py.Redis, compresses_all: None, entries: list[tuple[bytes, bytes]]) -> None:
    for field, array in entries:
        ms, sequence = struct.unpack(">QQ", field)
        redis.execute_command("XADD", "key", f"{ms}-{sequence}", *resp.bulks_of(array))
    theirs, ours = redis.execute_command("DUMP", "key"), run_through(payload_writer.dump_stream(entries))
    assert ours == theirs
    value = run_through(payload_reader.load(ours, BYTES_MAX))
    assert (value.kind, value.items) == (STREAM, entries)
    assert _told(_restored(redis, ours), "restored") == entries


@pytest.mark.parametrize("gone", ["some", "all of a node", "most by MAXLEN", "all"])
def test_deleted_entries_of_a_stream_are_not_read(redis: redis_py.Redis, gone: str) -> None:
    for number in range(1, 301):
        words = (b"f", number, b"g", b"text") if number % 4 else (b"other", b"%d" % -number)
        redis.execute_command("XADD", "key", f"{number}-1", *words)
    redis.execute_command("XGROUP", "CREATE", "key", "group", "0")
    redis.execute_command("XREADGROUP", "GROUP", "group", "consumer", "COUNT", 50, "STREAMS", "key", ">")
    if gone == "most by MAXLEN":
        redis.execute_command("XTRIM", "key", "MAXLEN", 17)
    elif gone == "all":
        redis.execute_command("XTRIM", "key", "MAXLEN", 0)
    else:
        names = range(1, 301, 3) if gone == "some" else range(90, 211)
        redis.execute_command("XDEL", "key", *[f"{number}-1" for number in names])
    value = run_through(payload_reader.load(redis.execute_command("DUMP", "key"), BYTES_MAX))
    assert (value.kind, value.items) == (STREAM, _told(redis, "key"))


def test_entries_of_one_id_are_in_one_node(redis: redis_py.Redis) -> None:
    """Both sides of a partition may choose an id. Redis would begin a node there, and refuses two nodes of one id."""
    large = b"x" * 5_000  # so much fills a node
    entries = [_entry(1, 0, b"f", large), _entry(1, 0, b"g", b"of the other side"), _entry(1, 1, b"f", b"v")]
    payload = run_through(payload_writer.dump_stream(entries))
    assert run_through(payload_reader.load(payload, BYTES_MAX)).items == entries
    assert _told(_restored(redis, payload), "restored") == entries


def test_a_type_of_no_one_is_refused() -> None:
    with pytest.raises(PayloadError, match="Bad data format"):
        run_through(payload_reader.load(seal(b"\x1f\x01a"), BYTES_MAX))


def test_a_value_is_read_back_whole() -> None:
    """Also what redis-server 7.0 does not know: fields with an expiry."""
    pairs = [(b"%03d" % number, b"v" * number) for number in range(600)]
    for count in (1, 100, 600):
        expiries_ms = {
            field: 1_800_000_000_000 + place**3 for place, (field, _) in enumerate(pairs[:count]) if place % 3 == 0
        }
        fields = [(field, value, expiries_ms.get(field, 0)) for field, value in pairs[:count]]
        first_ms = min(expiries_ms.values())
        payload = run_through(payload_writer.dump_expiring_hash(fields, count, first_ms))
        value = run_through(payload_reader.load(payload, BYTES_MAX))
        assert (value.kind, value.items, value.expiries_ms) == (HASH, pairs[:count], expiries_ms)


def test_only_a_bounded_part_is_compressed() -> None:
    """Compression is a loop over bytes, during which a node does nothing else."""
    small, large = b"x" * (16 << 10), b"x" * ((16 << 10) + 1)
    assert len(payload_writer.dump_string(small)) < 1_000
    assert len(payload_writer.dump_string(large)) > 16_000
    payload = run_through(payload_writer.dump_set([small[:-1] + b"%d" % number for number in range(8)]))
    assert 4 << 14 < len(payload) < 5 << 14
