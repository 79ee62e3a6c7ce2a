"""Commands of one transaction or script share drafts: the effect is that of one after the other, and records are few."""

from __future__ import annotations

import gc
import sys
from dataclasses import replace
from typing import Any

import pytest

from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Sink
from server.core.commands import registry
from server.core.commands.lists import edits
from server.core.commands.steps import at_coordinator
from server.core.commands.transactions import snapshot
from server.core.commands.typed_steps import run_command
from server.core.records.draft import Draft
from server.core.records.records import storage_key_of
from server.core.records.slicing import SLICE_CHANGES
from server.core.requests.relays import Relays
from server.core.services.services import Services
from server.core.work.procedures import Steps
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node
from tests.core.commands.transactions.asking import ask, exec_all, one_by_one
from tests.scripting.nodes import PatientClient, node_with_scripts, run_lua

WRONG = "WRONGTYPE Operation against a key holding the wrong kind of value"


class Made:
    """Counts the records that are made of drafts."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        make = Draft.record_in_slices

        def record_in_slices(draft: Draft, actor: bytes, counter: int) -> Any:
            self.count += 1
            return make(draft, actor, counter)

        monkeypatch.setattr(Draft, "record_in_slices", record_in_slices)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """How many records the test has made so far."""
    return Made(monkeypatch)


@pytest.mark.interpreted
def test_many_pushes_of_a_transaction_make_few_records(made: Made) -> None:
    node = make_node()
    client = Client(node)
    client.ask("RPUSH q a")
    made.count = 0
    assert exec_all(client, [f"RPUSH q {number}" for number in range(300)]) == list(range(2, 302))
    assert made.count == -(-300 // (SLICE_CHANGES + 1))
    assert client.ask("LRANGE q 0 1") + client.ask("LRANGE q -1 -1") == ["a", "0", "299"]


@pytest.mark.interpreted
def test_a_script_makes_one_record_of_a_key(made: Made) -> None:
    client = Client(node_with_scripts())
    text = b"for i = 1, 100 do redis.call('RPUSH', KEYS[1], i) end return redis.call('LLEN', KEYS[1])"
    assert client.raw_words([b"EVAL", text, b"1", b"q"]) == b":100\r\n"
    assert made.count == 1


# Each has changes and reads of one key that need no record.
BESIDE = (
    ("RPUSH k a", "LLEN k", "LINDEX k -1", "LINDEX k 0", "LRANGE k 0 9", "LPUSH k b", "LSET k -1 c", "RPOP k", "LPOP k",
     "TYPE k", "EXISTS k", "EXPIRE k 100", "TTL k", "PERSIST k", "RPUSHX k d"),
    ("HSET k f v", "HGET k f", "HLEN k", "HEXISTS k g", "HMGET k f g", "HSTRLEN k f", "HINCRBY k n 2",
     "HINCRBYFLOAT k n 1.5", "HSETNX k f w",
     "HEXPIRE k 100 FIELDS 1 f", "HTTL k FIELDS 1 f", "HPERSIST k FIELDS 1 f", "HDEL k n",
     "HGETEX k EX 50 FIELDS 1 f", "PEXPIRE k 100000", "PTTL k"),
    ("SADD k a b", "SISMEMBER k a", "SMISMEMBER k a c", "SCARD k", "SREM k b", "EXPIRETIME k"),
    ("ZADD k 1 a 2 b", "ZCARD k", "ZSCORE k a", "ZMSCORE k a c", "ZINCRBY k 2 a", "ZREM k b", "EXPIRE k 60 NX",
     "GEOADD k 13.4 52.5 place", "GEOPOS k place", "GEOHASH k place"),
    ("INCR k", "INCRBY k 5", "GET k", "STRLEN k", "INCRBYFLOAT k 1.5", "TTL k", "EXPIRE k 10"),
    ("APPEND k abc", "SETBIT k 7 1", "GETBIT k 7", "GETRANGE k 0 1", "SETRANGE k 1 x", "GET k", "APPEND k d"),
    ("XADD k 1-1 f v", "XADD k 1-* f v", "XLEN k"),
)  # fmt: skip


@pytest.mark.interpreted
@pytest.mark.parametrize("lines", BESIDE)
def test_changes_and_reads_that_take_turns_make_one_record(lines: tuple[str, ...], made: Made) -> None:
    node, apart = make_node(), make_node()
    client, other = Client(node), Client(apart)
    expected = one_by_one(other, list(lines))
    made.count = 0
    assert exec_all(client, list(lines)) == expected
    assert made.count == (2 if lines[0][:4] == "INCR" and "STRLEN k" in lines else 1), "STRLEN reads the record"
    assert client.raw("DUMP k") == other.raw("DUMP k")


def test_each_command_causes_its_event() -> None:
    told = []
    for in_one in (True, False):
        node = make_node()
        client, listener = Client(node), Client(node)
        client.ask("CONFIG SET notify-keyspace-events KEA")
        listener.raw("PSUBSCRIBE __keyevent*")
        lines = ["RPUSH k a", "RPUSH k b", "EXPIRE k 10", "LPOP k", "LPOP k", "SADD k m", "SADD k m"]
        heard = b""
        if in_one:
            exec_all(client, lines)
            heard = client.pushed[listener.session]
        else:
            for line in lines:
                client.ask(line)
                heard += client.pushed.get(listener.session, b"")
        told.append(heard)
    assert told[0] == told[1]
    assert told[0].count(b"pmessage") == 7


def test_what_is_too_large_is_refused_and_what_fits_is_written() -> None:
    node = make_node(config=replace(CONFIG, record_bytes_max=20_000, value_bytes_max=20_000))
    client = Client(node)
    long = "x" * 8_000
    replies = exec_all(client, [*[f"RPUSH q {long}"] * 3, "LLEN q", "RPUSH q short", "LLEN q"])
    assert replies[:2] == [1, 2]
    assert replies[2].startswith("ERR the key would have 24")
    assert replies[3:] == [2, 3, 3]
    assert client.ask("LLEN q") == 3


@pytest.mark.parametrize(
    ("fill", "increment"),
    [("HSET k f {}", "HINCRBYFLOAT k n"), ("ZADD k 1 {}", "ZINCRBY k"), ("ZADD k 1 {}", "ZADD k INCR")],
)
def test_a_sum_with_too_many_digits_is_refused_alone(fill: str, increment: str) -> None:
    """Its draft is found too large before the command is answered, not at the end of the transaction."""
    size, small, large = (19_400, "1", "1e900") if fill[:1] == "H" else (19_700, "1 m", "1e300 m")
    node = make_node(config=replace(CONFIG, record_bytes_max=20_000, value_bytes_max=19_900))
    client = Client(node)
    client.ask(fill.format("x" * size))
    replies = exec_all(client, [f"{increment} {small}", f"{increment} {large}", "SET {k}beside x"])
    assert replies[0] == "1" and replies[2] == "OK"
    assert replies[1].startswith("ERR the key would have 20")
    assert client.ask("GET {k}beside") == "x"


@pytest.mark.interpreted
def test_a_command_that_fails_drops_the_draft_that_it_has_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    client = Client(node)
    spec = registry.find_command([b"HSET", b"h", b"f", b"v"])
    assert spec is not None

    def write_and_fail(services: Services, sink: Sink, number: int, args: list[bytes]) -> Reply | None:
        reply = spec.handler(services, sink, number, args)
        if args[3] == b"bad":
            raise CommandError("ERR planted")
        return reply

    monkeypatch.setitem(registry.commands_by_name(), b"HSET", replace(spec, handler=write_and_fail))
    assert exec_all(client, ["HSET h f bad", "EXISTS h", "HSET h f good", "HGET h f"]) == ["ERR planted", 0, 1, "good"]
    assert client.ask("HGETALL h") == ["f", "good"]


@pytest.mark.interpreted
@pytest.mark.parametrize("before", ["SADD s a", "PING"])
def test_a_step_of_a_command_that_fails_is_undone(before: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted command adds an element by a step, and then fails."""
    client = Client(make_node())
    spec = registry.find_command([b"SPOP", b"s"])
    assert spec is not None

    def steps(services: Services, sink: Sink, number: int, args: list[bytes]) -> Steps:
        yield run_command(services, [b"SADD", args[1], b"m"])
        raise CommandError("ERR planted")

    monkeypatch.setitem(registry.commands_by_name(), b"SPOP", replace(spec, handler=at_coordinator(steps)))
    assert exec_all(client, [before, "SPOP s", "SISMEMBER s m", "SADD s b"])[1:] == ["ERR planted", 0, 1]
    assert client.ask("SISMEMBER s m") == 0
    assert client.ask("SCARD s") == (2 if before != "PING" else 1)


@pytest.mark.interpreted
@pytest.mark.parametrize("place", ["half way", "record"])
def test_after_an_unexpected_exception_nothing_is_stored(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    client = Client(node)
    client.ask("RPUSH q a")
    put_all, make = edits._put_all, Draft.record_in_slices

    def broken(*args: Any) -> Any:
        yield from put_all(*args)
        raise KeyError("planted")

    def no_record(draft: Draft, actor: bytes, counter: int) -> Any:
        yield from make(draft, actor, counter)
        raise KeyError("planted")

    with monkeypatch.context() as patch:
        if place == "record":
            patch.setattr(Draft, "record_in_slices", no_record)
        else:
            patch.setattr(edits, "_put_all", lambda *args: (broken if args[2] is edits.before else put_all)(*args))
        reply = exec_all(client, ["RPUSH q b", "LPUSH q c", "LPOS q b", "RPUSH q d"])
    assert str(reply).startswith("ERR internal error"), reply
    assert client.ask("LRANGE q 0 -1") == ["a"]
    assert not node.state.records.pending.by_key
    assert exec_all(client, ["RPUSH q e", "LLEN q"]) == [2, 2]


def test_who_overwrites_a_key_while_its_record_is_made_is_not_lost() -> None:
    """The records of many changes are made in several turns: a SET in between makes the transaction begin anew."""
    node = make_node()
    client, other = Client(node), Client(node)
    client.raw("MULTI", *[f"HSET h{{t}} f{number} v" for number in range(450)], "SET s{t} x")
    assert client.raw("EXEC") == b"", "it takes more than one turn"
    assert other.ask("SET h{t} y") == "OK"
    told, now_ms = b"", 0
    while not told:
        now_ms += 2
        node.wake(now_ms)
        told = b"".join([data for _, data in finish_turn(node).replies if isinstance(data, bytes)])
    assert told.count(WRONG.encode()) == 450
    assert client.ask("GET h{t}") == "y"
    assert client.ask("GET s{t}") == "x"


@pytest.mark.interpreted
@pytest.mark.parametrize(("slices_max", "in_thread"), [(100, False), (5, True)])
def test_commands_of_a_script_do_so_many_slices_together_within_a_turn(
    slices_max: int, in_thread: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshot, "SCRIPT_SLICES_MAX", slices_max)
    node = make_node(1, replace(CONFIG, script_instructions_max=10_000_000))
    client = PatientClient(node, run_lua(node))
    ask(client, b"SADD", b"s", *[b"%d" % number for number in range(9_000)])
    text = b"redis.call('SET', '{s}', 1) for i = 1, 3 do redis.pcall('SMEMBERS', KEYS[1]) end return 1"
    assert ask(client, b"EVAL", text, b"1", b"s") == 1
    assert client.ask("EXISTS {s}") == 1
    assert bool(node.services.scripts.workers._made) == in_thread


def _begin_long(client: Client) -> None:
    """Begins a transaction with a command that has several slices to do, after another one of its key."""
    client.ask("RPUSH q a")
    client.raw_words([b"MULTI"], [b"RPUSH", b"q", b"b"], [b"RPUSH", b"q", *[b"%d" % number for number in range(1_000)]])
    assert client.raw("LLEN q", "EXEC") == b"+QUEUED\r\n", "it takes more than one turn"


def test_a_long_change_in_a_transaction_lets_others_be_served() -> None:
    node = make_node()
    client, other = Client(node), Client(node)
    _begin_long(client)
    turns, now_ms, told = 0, 0, b""
    while not told:
        assert other.ask("SET other x") == "OK"
        assert other.ask("LLEN q") == 1
        turns, now_ms = turns + 1, now_ms + 2
        node.wake(now_ms)
        told = b"".join([data for _, data in finish_turn(node).replies if isinstance(data, bytes)])
    assert told == b"*3\r\n:2\r\n:1002\r\n:1002\r\n"
    assert turns >= 1_000 // SLICE_CHANGES
    assert other.ask("LINDEX q -1") == "999"


@pytest.mark.interpreted
def test_a_transaction_that_ends_in_the_middle_of_a_command_holds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    left: list[Any] = []  # what the collector of garbage had to end
    monkeypatch.setattr(sys, "unraisablehook", left.append)
    node = make_node()
    client = Client(node)
    _begin_long(client)
    assert node.state.holds.is_held(storage_key_of(b"q"))
    with monkeypatch.context() as patch:
        patch.setattr(Relays, "renew_or_refuse", lambda self, sink: ErrorReply.of("ERR planted"))
        node.wake(2)
        told = b"".join([data for _, data in finish_turn(node).replies if isinstance(data, bytes)])
    assert told == b"-ERR planted\r\n"
    assert not node.state.holds.is_held(storage_key_of(b"q"))
    assert client.ask("LRANGE q 0 -1") == ["a"]
    assert client.ask("RPUSH q c") == 2
    gc.collect()
    assert not left
