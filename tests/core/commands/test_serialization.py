"""DUMP and RESTORE at one node."""

from __future__ import annotations

import hiredis
import pytest
import redis as redis_py

from server.core.formats import payload_writer
from server.core.formats.pausing import run_through
from server.core.formats.payloads import seal
from tests.core.commands.talking import CONFIG, WALL_MS, Client, make_node
from tests.core.formats.payload_samples import NEWER, OLDER, WRITTEN

VALUE = payload_writer.dump_string(b"value")
MAKERS = (
    "SET k value", "SET k 12345", "PFADD k a b c", "HSET k f v g 1", "SADD k 1 2 3", "SADD k a b", "ZADD k 1 a 2.5 b inf c",
    "INCRBY k 7", "XADD k 5-1 a 1 b two",
)  # fmt: skip


def _say(client: Client, *words: bytes | str | int) -> object:
    """The reply to a command whose words may be any bytes."""
    command = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    client.node.command(client.session, command, client.now_ms)
    reader = hiredis.Reader()
    reader.feed(client.raw())
    return reader.gets()


def _error(client: Client, *words: bytes | str | int) -> str:
    reply = _say(client, *words)
    assert isinstance(reply, hiredis.ReplyError), reply
    return str(reply)


@pytest.mark.parametrize("line", MAKERS)
def test_a_value_comes_back(line: str) -> None:
    client = Client(make_node())
    client.ask(line)
    payload = _say(client, "DUMP", "k")
    assert isinstance(payload, bytes)
    assert _say(client, "RESTORE", "copy", 0, payload) == b"OK"
    assert _say(client, "DUMP", "copy") == payload
    assert client.ask("TYPE copy") == client.ask("TYPE k")
    assert client.ask("TTL copy") == -1


@pytest.mark.parametrize("line", MAKERS)
def test_redis_dumps_the_same(redis: redis_py.Redis, line: str) -> None:
    client = Client(make_node())
    client.ask(line)
    redis.execute_command(*line.split())
    assert _say(client, "DUMP", "k") == redis.execute_command("DUMP", "k") or line == "SADD k a b"


@pytest.mark.parametrize("name", [name for name in (*WRITTEN, *OLDER) if "list" not in name and "node" not in name])
def test_what_redis_wrote_is_restored(name: str) -> None:
    payload, (_, string, items) = (WRITTEN | OLDER)[name]
    client = Client(make_node())
    assert _say(client, "RESTORE", "k", 0, payload) == b"OK"
    kind = client.ask("TYPE k")
    if kind == "string":
        assert _say(client, "GET", "k") == string
    for item, value in items:
        if kind == "hash":
            assert _say(client, "HGET", "k", item) == value
        elif kind == "set":
            assert _say(client, "SISMEMBER", "k", item) == 1
        else:
            assert _say(client, "ZSCORE", "k", item) is not None


def test_a_stream_of_redis_without_entries_takes_the_place_of_a_key(redis: redis_py.Redis) -> None:
    redis.execute_command("XADD", "k", "1-1", "a", "b")
    redis.execute_command("XGROUP", "CREATE", "k", "group", "0")
    client = Client(make_node())
    assert _say(client, "RESTORE", "k", 0, redis.execute_command("DUMP", "k")) == b"OK"
    assert client.ask("XRANGE k - +") == [["1-1", ["a", "b"]]]
    redis.execute_command("XDEL", "k", "1-1")
    emptied = redis.execute_command("DUMP", "k")
    assert _error(client, "RESTORE", "k", 0, emptied).startswith("BUSYKEY")
    assert _say(client, "RESTORE", "k", 0, emptied, "REPLACE") == b"OK"
    assert client.ask("EXISTS k") == 0
    assert _say(client, "RESTORE", "other", WALL_MS, emptied) == b"OK"
    assert client.ask("EXISTS other") == 0


def test_nothing_is_dumped_of_a_key_that_is_not_there() -> None:
    assert Client(make_node()).ask("DUMP none") is None


def test_a_key_in_use_is_replaced_only_if_asked() -> None:
    client = Client(make_node())
    client.ask("HSET k f v")
    assert _error(client, "RESTORE", "k", 0, VALUE) == "BUSYKEY Target key name already exists."
    assert client.ask("TYPE k") == "hash"
    assert _say(client, "RESTORE", "k", 0, VALUE, "replace") == b"OK"
    assert client.ask("GET k") == "value"


def test_the_time_to_live_is_taken() -> None:
    client = Client(make_node())
    assert _say(client, "RESTORE", "k", 5_000, VALUE) == b"OK"
    assert client.ask("PTTL k") == 5_000
    assert _say(client, "RESTORE", "k", WALL_MS + 7_000, VALUE, "ABSTTL", "REPLACE") == b"OK"
    assert client.ask("PTTL k") == 7_000
    assert _say(client, "RESTORE", "h", 9_000, WRITTEN["hash"][0]) == b"OK"
    assert client.ask("PTTL h") == 9_000
    assert _say(client, "RESTORE", "h", 0, WRITTEN["hash"][0], "REPLACE") == b"OK"
    assert client.ask("PTTL h") == -1


def test_a_time_that_has_passed_deletes() -> None:
    client = Client(make_node())
    for ttl, option in ((1, "ABSTTL"), (WALL_MS, "ABSTTL"), ((1 << 63) - 1, "REPLACE")):
        client.ask("SET k old")
        assert _say(client, "RESTORE", "k", ttl, VALUE, option, "REPLACE") == b"OK"
        assert client.ask("EXISTS k") == 0


def test_fields_expire_by_themselves() -> None:
    client = Client(make_node())
    payload = NEWER["expiring fields"][0]
    assert _say(client, "RESTORE", "k", 0, payload) == b"OK"
    assert client.ask("HLEN k") == 3
    assert _say(client, "DUMP", "k") == payload
    gone = run_through(payload_writer.dump_expiring_hash([(b"f", b"v", WALL_MS), (b"g", b"w", 0)], 2, WALL_MS))
    assert _say(client, "RESTORE", "k", 0, gone, "REPLACE") == b"OK"
    assert [client.ask("HLEN k"), client.ask("HGET k f"), client.ask("HGET k g")] == [1, None, "w"]
    gone = run_through(payload_writer.dump_expiring_hash([(b"f", b"v", 5)], 1, 5))
    assert _say(client, "RESTORE", "k", 0, gone, "REPLACE") == b"OK"
    assert client.ask("EXISTS k") == 0


def test_a_hash_whose_expiring_fields_are_gone_is_dumped_as_a_plain_one() -> None:
    client = Client(make_node())
    client.ask("HSET k f v g w")
    plain = _say(client, "DUMP", "k")
    client.ask("HSET k h x")
    client.ask("HPEXPIRE k 10 FIELDS 1 h")
    assert _say(client, "DUMP", "k") != plain
    client.now_ms += 20
    client.node.tick(client.now_ms, WALL_MS + client.now_ms)
    assert _say(client, "DUMP", "k") == plain


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ((0, b"x"), "ERR DUMP payload version or checksum are wrong"),
        ((0, VALUE[:-1] + b"x"), "ERR DUMP payload version or checksum are wrong"),
        ((0, seal(b"\x02\x00")), "ERR Bad data format"),
        ((0, seal(b"\x00")), "ERR Bad data format"),
        ((-1, VALUE), "ERR Invalid TTL value, must be >= 0"),
        (("x", VALUE), "ERR value is not an integer or out of range"),
        ((0, VALUE, "NX"), "ERR syntax error"),
        ((0, VALUE, "IDLETIME"), "ERR syntax error"),
        ((0, VALUE, "IDLETIME", -1), "ERR Invalid IDLETIME value, must be >= 0"),
        ((0, VALUE, "IDLETIME", "x"), "ERR value is not an integer or out of range"),
        ((0, VALUE, "FREQ", 256), "ERR Invalid FREQ value, must be >= 0 and <= 255"),
        ((0, VALUE, "FREQ", 1, "IDLETIME", 1), "ERR syntax error"),
    ],
)
def test_what_is_refused_changes_nothing(words: tuple[bytes | str | int, ...], text: str) -> None:
    client = Client(make_node())
    client.ask("SET k old")
    assert _error(client, "RESTORE", "new", *words) == text
    assert _error(client, "RESTORE", "k", *words[:2], "REPLACE", *words[2:]) == text
    assert (client.ask("EXISTS new"), client.ask("GET k")) == (0, "old")


def test_options_are_taken_and_limits_hold() -> None:
    node = make_node()
    client = Client(node)
    assert _say(client, "RESTORE", "a", 0, VALUE, "IDLETIME", 5) == b"OK"
    assert _say(client, "RESTORE", "b", 0, VALUE, "FREQ", 255, "FREQ", 0) == b"OK"
    large = payload_writer.dump_string(b"x" * (CONFIG.value_bytes_max + 1))
    assert "value_bytes_max" in _error(client, "RESTORE", "c", 0, large)
