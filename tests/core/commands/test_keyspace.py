"""SCAN and FLUSHALL read their arguments as Redis does, and commands over many keys or pages let others be served."""

from __future__ import annotations

from typing import Any

import hiredis
import pytest

from server.core.commands.slices import PARTS_PER_TURN, PARTS_UNANSWERED_MAX, Parts
from server.core.node import Node
from tests.core.commands.talking import Client, finish_turn, make_node, reach
from tests.core.commands.test_slices import Asker

INVALID, SYNTAX = "ERR invalid cursor", "ERR syntax error"
NO_INTEGER = "ERR value is not an integer or out of range"

# Asked of redis-server 7.0.15 with nothing stored. Blanks separate words, so that a word may hold what it likes.
CURSORS = [
    (b"0", ""), (b"-1", ""), (b"+0", ""), (b"00", ""), (b"-0", ""), (b"", ""), (b" 0", INVALID), (b"0 ", INVALID),
    (b"abc", INVALID), (b"0x10", INVALID), (b"18446744073709551615", ""), (b"18446744073709551616", INVALID),
    (b"-18446744073709551615", ""), (b"-18446744073709551616", INVALID), (b"0\0abc", ""), (b"+", INVALID),
    (b"-", INVALID), (b"--1", INVALID), (b"\t1", INVALID), (b"9" * 50, INVALID), (b"0" * 40 + b"1", ""),
    (b"\0", ""), (b"1.0", INVALID),
]  # fmt: skip
OPTIONS = [
    ("COUNT", SYNTAX), ("COUNT 5 COUNT 6", ""), ("COUNT 0", SYNTAX), ("COUNT -1", SYNTAX), ("COUNT x", NO_INTEGER),
    ("COUNT 5 COUNT x", NO_INTEGER), ("COUNT x COUNT 5", NO_INTEGER), ("MATCH a MATCH b", ""), ("MATCH", SYNTAX),
    ("TYPE hash TYPE string", ""), ("TYPE", SYNTAX), ("FOO", SYNTAX), ("COUNT 5 FOO", SYNTAX), ("COUNT 0 FOO", SYNTAX),
    ("FOO COUNT 0", SYNTAX), ("count 5 match * type string", ""), ("COUNT +5", NO_INTEGER), ("COUNT 05", NO_INTEGER),
    ("COUNT 9223372036854775807", ""), ("COUNT 9223372036854775808", NO_INTEGER), ("MATCH COUNT COUNT 5", ""),
    ("TYPE nosuch", ""),
]  # fmt: skip


def reply_to(node: Node, *args: bytes) -> Any:
    """What the node answers in this turn; False for nothing."""
    session = node.open_session("10.9.9.9:5000", "10.0.0.1:7001", 0)
    node.command(session, list(args), 0)
    reader = hiredis.Reader()
    reader.feed(b"".join(data for _, data in finish_turn(node).replies))
    return reader.gets()


@pytest.mark.parametrize(("cursor", "error"), CURSORS)
def test_cursors_are_read_as_redis_reads_them(cursor: bytes, error: str) -> None:
    reply = reply_to(make_node(), b"SCAN", cursor)
    assert str(reply) == error if error else reply == [b"0", []]


@pytest.mark.parametrize(("words", "error"), OPTIONS)
def test_options_of_scan_are_read_as_redis_reads_them(words: str, error: str) -> None:
    reply = reply_to(make_node(), b"SCAN", b"0", *words.encode().split(b" "))
    assert str(reply) == error if error else reply == [b"0", []]


def test_the_last_of_equal_options_counts() -> None:
    node = make_node()
    assert reply_to(node, b"SET", b"key", b"value") == b"OK"
    for words, found in (
        ("MATCH x MATCH k*", [b"key"]),
        ("MATCH k* MATCH x", []),
        ("TYPE hash TYPE STRING", [b"key"]),
        ("TYPE string TYPE hash", []),
    ):
        assert reply_to(node, b"SCAN", b"0", *words.encode().split(b" ")) == [b"0", found]


@pytest.mark.parametrize("words", ["ASYNC SYNC", "SYNC ASYNC", "ASYNC ASYNC", "CONFIRM CONFIRM", "x", "SYNC x CONFIRM"])
def test_flushall_takes_one_word_beside_its_confirmation(words: str) -> None:
    node = make_node()
    for confirmation in ([], [b"CONFIRM"]):
        reply = reply_to(node, b"FLUSHALL", *words.encode().split(b" "), *confirmation)
        assert str(reply) == SYNTAX


MANY = 5 * PARTS_PER_TURN + 7


def run_over_turns(client: Client, *args: bytes) -> list[int]:
    """How many reads and writes each turn of the command has begun."""
    node = client.node
    statistics = node.state.statistics
    begun = []
    node.command(client.session, list(args), client.now_ms)
    while client.session.in_flight or not begun:
        before = statistics.reads + statistics.writes
        node.wake(client.now_ms)
        client.now_ms += 1
        client.replies = b"".join(data for _, data in finish_turn(node).replies)  # type: ignore[attr-defined]
        begun.append(statistics.reads + statistics.writes - before)
        assert len(begun) < 100, "the command does not end"
    return begun


def test_commands_of_many_keys_begin_a_part_of_them_in_a_turn() -> None:
    client = Client(make_node())
    client.node.tick(0, 0)
    keys = [b"k%d" % number for number in range(MANY)]
    pairs = [word for key in keys for word in (key, b"v" + key)]
    for args, expected in (
        ([b"MSET", *pairs], b"+OK\r\n"),
        ([b"EXISTS", *keys, b"none"], b":%d\r\n" % MANY),
        ([b"MGET", *keys], b"*%d\r\n" % MANY + b"".join(b"$%d\r\nv%b\r\n" % (len(key) + 1, key) for key in keys)),
        ([b"DEL", *keys, b"none"], b":%d\r\n" % MANY),
        ([b"TOUCH", *keys], b":0\r\n"),
    ):
        begun = run_over_turns(client, *args)
        assert client.replies == expected  # type: ignore[attr-defined]
        assert len(begun) >= 6
        assert max(begun) <= 2 * PARTS_PER_TURN, "a DEL reads and writes"


def test_a_write_behind_a_long_mset_waits_for_it() -> None:
    client = Client(make_node())
    client.node.tick(0, 0)
    keys = [b"k%d" % number for number in range(MANY)]
    batch = [[b"MSET", *[word for key in keys for word in (key, b"old")]], [b"SET", keys[-1], b"new"]]
    client.node.commands(client.session, batch, 0)
    run_over_turns(client, b"PING")
    assert client.ask(f"GET {keys[-1].decode()}") == "new"


def test_parts_tell_the_first_error_in_their_order_once_all_are_there() -> None:
    asker = Asker()
    answers = asker.answers
    parts = Parts(asker, 7, 4, lambda parts: b":%d\r\n" % parts.total)
    for part, reply in ((1, b"-ERR one\r\n"), (3, b":1\r\n"), (2, b"-ERR two\r\n"), (0, b":1\r\n")):
        assert not answers
        parts.answer(part, reply)
    assert answers == [(7, b"-ERR one\r\n")]
    with pytest.raises(AssertionError, match="twice"):
        parts.answer(0, b":1\r\n")


def test_parts_wait_for_those_that_are_unanswered() -> None:
    """No reply comes from the other owners: no more than the limit is begun."""
    client = Client(make_node(3))
    node = client.node
    reach(node, 2)
    reach(node, 3)
    node.tick(0, 0)
    keys = [b"k%d" % number for number in range(3 * PARTS_UNANSWERED_MAX)]
    node.command(client.session, [b"EXISTS", *keys], 0)
    for _ in range(50):
        node.wake(client.now_ms)
        client.now_ms += 1
        finish_turn(node)
    assert PARTS_UNANSWERED_MAX <= node.state.in_flight <= PARTS_UNANSWERED_MAX + PARTS_PER_TURN
