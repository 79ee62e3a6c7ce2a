"""Strings are read and written in parts, alone, in pipelines and over several keys."""

from __future__ import annotations

import hiredis
import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.commands.spec import EXCLUSIVE, READ
from server.core.commands.string_edits import append, get_range, set_range
from server.core.commands.table import find_command
from tests.core.commands.talking import Client, make_node

BYTES_MAX = 1000


@given(st.binary(max_size=8), st.integers(-12, 12), st.integers(-12, 12))
def test_a_range_is_what_redis_cuts_out(value: bytes, start: int, end: int) -> None:
    found = get_range(value, [b"GETRANGE", b"k", b"%d" % start, b"%d" % end])
    first = max(start + len(value) if start < 0 else start, 0)
    last = max(end + len(value) if end < 0 else end, 0)
    wanted = b"" if start < 0 and end < 0 and start > end else bytes(
        [byte for place, byte in enumerate(value) if first <= place <= last])  # fmt: skip
    assert found == wanted


@given(st.binary(max_size=8), st.integers(0, 12), st.binary(max_size=4))
def test_a_part_is_replaced_and_a_gap_filled_with_zeros(value: bytes, offset: int, part: bytes) -> None:
    length, after = set_range(value, [b"SETRANGE", b"k", b"%d" % offset, part], BYTES_MAX)
    if not part:
        assert (length, after) == (len(value), None)
        return
    wanted = bytearray(value.ljust(offset + len(part), b"\0"))
    wanted[offset : offset + len(part)] = part
    assert (length, after) == (len(wanted), bytes(wanted))
    assert append(value, [b"APPEND", b"k", part], BYTES_MAX) == (len(value + part), value + part)


def test_a_pipeline_of_one_key_takes_effect_in_order() -> None:
    """It is one chain: each command sees what those before it have written."""
    client = Client(make_node())
    lines = ["APPEND k ab", "APPEND k cd", "GETRANGE k 1 2", "SETRANGE k 1 XY", "GET k", "SETBIT k 7 0", "BITCOUNT k 0 0",
             "GETBIT k 7", "BITFIELD k INCRBY u8 8 1", "STRLEN k", "GETEX k PERSIST", "SETNX k no", "GETDEL k",
             "APPEND k z"]  # fmt: skip
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(client.raw(*lines))
    replies = [reader.gets() for _ in lines]
    assert replies == [2, 4, "bc", 4, "aXYd", 1, 2, 0, [89], 4, "`YYd", 0, "`YYd", 1]


@pytest.mark.parametrize(("name", "kind", "once"), [
    ("APPEND", EXCLUSIVE, True), ("SETRANGE", EXCLUSIVE, False), ("SETBIT", EXCLUSIVE, True), ("BITOP", EXCLUSIVE, False),
    ("MSETNX", EXCLUSIVE, True), ("LCS", READ, False), ("BITCOUNT", READ, False), ("BITFIELD_RO", READ, False),
])  # fmt: skip
def test_commands_that_read_first_are_alone_on_their_key(name: str, kind: int, once: bool) -> None:
    spec = find_command([name.encode()])
    assert spec is not None
    assert (spec.kind_of([b"x"] * 4), spec.once([b"x"] * 4)) == (kind, once)


def test_getex_and_bitfield_may_run_twice_while_they_only_read() -> None:
    for line, once in (("GETEX k", False), ("GETEX k EX 1", True), ("BITFIELD k GET u8 0", False),
                       ("BITFIELD k SET u8 0 1", True)):  # fmt: skip
        words = line.encode().split()
        spec = find_command(words)
        assert spec is not None
        assert spec.once(words) is once


def test_getex_sets_and_removes_the_expiry() -> None:
    client = Client(make_node())
    client.ask("SET k v")
    for line, ttl in (("GETEX k EX 100", 100), ("GETEX k", 100), ("GETEX k PX 50000", 50), ("GETEX k PERSIST", -1)):
        assert client.ask(line) == "v"
        assert client.ask("TTL k") == ttl
    assert client.error("GETEX k EX 0") == "ERR invalid expire time in 'getex' command"
    assert client.ask("GETEX none EX 0") is None
    assert client.error("GETEX k EX 1 PERSIST") == "ERR syntax error"
    assert client.ask("GETEX k EXAT 1") == "v"
    assert client.ask("EXISTS k") == 0


def test_msetnx_sets_all_keys_or_none() -> None:
    client = Client(make_node())
    assert client.ask("MSETNX a 1 b 2 a 3") == 1
    assert client.ask("MGET a b") == ["3", "2"]
    assert client.ask("MSETNX c 1 a 4") == 0
    assert client.ask("MGET a c") == ["3", None]
    assert client.error("MSETNX a 1 b") == "ERR wrong number of arguments for 'msetnx' command"


def test_msetnx_replaces_nothing_that_was_set_after_it_looked() -> None:
    """Another client sets one of its keys between its look and its write: that value stays, and the answer is 0."""
    node = make_node()
    client, other = Client(node), Client(node)
    node.commands(client.session, [b"MSETNX a 1 b 2".split()], 0)
    node.commands(other.session, [b"SET b other".split()], 0)
    assert client.raw() == b":0\r\n"
    assert other.ask("GET b") == "other"
