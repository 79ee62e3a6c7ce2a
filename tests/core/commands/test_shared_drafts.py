"""Commands of one turn that change one key share a draft and a quorum read: the effect is that of one after the other."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import hiredis
import pytest

from protocol.peer_versions import CAPABILITIES
from server.core.base.room import FOR_NOTHING
from server.core.commands import shared_drafts
from server.core.commands.lists import edits
from server.core.node import Node
from server.core.records.records import storage_key_of
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in


class Crowd:
    """Clients that say one command each in the same turn."""

    def __init__(self, node: Node, size: int = 8) -> None:
        self.node = node
        self.clients = [Client(node) for _ in range(size)]

    def say(self, *lines: str) -> list[Any]:
        """Returns the replies by client; errors as text."""
        replies = dict.fromkeys(range(len(lines)), b"")
        for number, line in enumerate(lines):
            self.node.command(self.clients[number].session, [word.encode() for word in line.split()], 0)
        outbox = finish_turn(self.node)
        for session, data in outbox.replies:
            number = next(place for place, each in enumerate(self.clients) if each.session is session)
            replies[number] += data if isinstance(data, bytes) else b"".join(data)
        return [_decoded(replies[number]) for number in range(len(lines))]

    def pipeline(self, *lines: str) -> list[Any]:
        """Returns the replies to one client that says all of them at once."""
        client = self.clients[0]
        self.node.commands(client.session, [[word.encode() for word in line.split()] for line in lines], 0)
        reader = hiredis.Reader(encoding="utf-8")
        for _ in lines:
            for session, part in finish_turn(self.node).replies:
                assert session is client.session
                reader.feed(part if isinstance(part, bytes) else b"".join(part))
        found = [reader.gets() for _ in lines]
        return [str(reply) if isinstance(reply, hiredis.ReplyError) else reply for reply in found]

    def made(self) -> int:
        """How many records were made of shared drafts."""
        return self.node.state.records.pending.made


def _decoded(data: bytes) -> Any:
    reader = hiredis.Reader(encoding="utf-8")
    reader.feed(data)
    reply = reader.gets()
    return str(reply) if isinstance(reply, hiredis.ReplyError) else reply


def test_pushes_of_many_clients_make_one_record() -> None:
    crowd = Crowd(make_node(), 50)
    assert crowd.say(*[f"RPUSH q {number}" for number in range(50)]) == list(range(1, 51))
    assert crowd.made() == 1
    assert crowd.say("LRANGE q 0 -1") == [[str(number) for number in range(50)]]


def test_pipelines_of_many_clients_make_few_records() -> None:
    """What has waited for the first command of each client, a chain each, shares a draft as well."""
    crowd = Crowd(make_node(), 8)
    lines = [b"RPUSH q x", b"LPUSH q y", b"LRANGE q 0 0", b"RPUSH q x", b"LPOP q", b"RPUSH q x"]
    for client in crowd.clients:
        chosen = lines if client is crowd.clients[-1] else [line for line in lines if b"LRANGE" not in line]
        crowd.node.commands(client.session, [line.split() for line in chosen], 0)
    for _ in range(4):
        finish_turn(crowd.node)
    assert crowd.made() <= 3, "of the first commands, before the LRANGE, and behind it"
    assert crowd.say("LLEN q", "LRANGE q 0 0", "LRANGE q -1 -1") == [24, ["x"], ["x"]]


def test_pops_beside_pushes_see_them() -> None:
    crowd = Crowd(make_node())
    crowd.say("RPUSH q a b c")
    assert crowd.say("RPOP q", "RPUSH q x", "RPOP q", "LPUSH q y z", "LPOP q", "LPOP q", "RPOP q") == [
        "c", 3, "x", 4, "z", "y", "b",
    ]  # fmt: skip
    assert crowd.made() == 2
    assert crowd.say("LRANGE q 0 -1") == [["a"]]


def test_a_key_without_fields_is_gone_for_the_next_command() -> None:
    crowd = Crowd(make_node())
    assert crowd.say("RPUSH q a", "LPOP q", "RPUSHX q b", "SADD q m") == [1, "a", 0, 1]
    assert crowd.say("SREM q m", "HSET q f v") == [1, 1]
    assert crowd.say("TYPE q") == ["hash"]


def test_another_type_is_refused_and_the_others_are_not() -> None:
    crowd = Crowd(make_node())
    wrong = "WRONGTYPE Operation against a key holding the wrong kind of value"
    assert crowd.say("HSET h f 1", "SADD h m", "HINCRBY h f 2", "HINCRBY h f x") == [
        1, wrong, 3, "ERR value is not an integer or out of range",
    ]  # fmt: skip
    assert crowd.say("HGET h f") == ["3"]


def test_who_reads_or_overwrites_the_key_comes_after_those_before_it() -> None:
    crowd = Crowd(make_node())
    assert crowd.pipeline("INCR n", "INCR n", "SET n 10", "INCR n", "GET n") == [1, 2, "OK", 11, "11"]
    assert crowd.say("INCR n", "APPEND n 5", "DEL n", "INCR n") == [12, 3, 1, 1]
    assert crowd.say("GET n") == ["1"]


KEYS = ("a", "b")
CHANGES = (
    ("HSET {} f{} {}", "HSETNX {} f{} {}", "HDEL {} f{}", "HINCRBY {} f{} {}", "HPEXPIRE {} 0 FIELDS 1 f{}"),
    ("SADD {} f{} f{}", "SREM {} f{}"),
    ("ZADD {} {} f{}", "ZINCRBY {} {} f{}", "ZREM {} f{}", "ZPOPMIN {}"),
    (
        "RPUSH {} {}",
        "LPUSH {} {} {}",
        "LPOP {}",
        "RPOP {}",
        "LPOP {} 2",
        "LSET {} 0 {}",
        "LREM {} 0 {}",
        "LPUSHX {} {}",
    ),
    ("INCR {}", "DECRBY {} {}", "APPEND {} {}", "DEL {}", "EXPIRE {} 100", "PERSIST {}"),
)
READS = (
    "HGETALL {}", "HLEN {}", "SCARD {}", "SISMEMBER {} f{}", "ZRANGE {} 0 -1 WITHSCORES", "LRANGE {} 0 -1", "GET {}",
    "TYPE {}", "SET {} {}", "TTL {}",
)  # fmt: skip


def _lines(rng: random.Random, words: list[str]) -> list[str]:
    return [
        rng.choice(words).format(rng.choice(KEYS), rng.randrange(4), rng.randrange(4))
        for _ in range(rng.randrange(1, 9))
    ]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("is_pipelined", [True, False])
def test_a_turn_is_as_good_as_many(seed: int, is_pipelined: bool) -> None:
    """Random commands in few turns, from a client or from many, have the replies and the effect of a turn each."""
    rng = random.Random(seed)
    together, apart = Crowd(make_node()), Crowd(make_node())
    for _ in range(100):
        words = [*rng.choice(CHANGES), rng.choice(rng.choice(CHANGES)), "DEL {}", *(READS if is_pipelined else ())]
        lines = _lines(rng, words)
        replies = together.pipeline(*lines) if is_pipelined else together.say(*lines)
        assert replies == [apart.say(line)[0] for line in lines], lines
        for shown in (f"{name} {key}" for key in KEYS for name in ("TYPE", "TTL", "HGETALL", "LLEN")):
            assert together.say(shown) == apart.say(shown), lines
    assert together.made()


def test_very_many_changes_are_not_gathered() -> None:
    crowd = Crowd(make_node(), 12)
    lines = [f"HSET h {' '.join(f'{number}-{field} v' for field in range(30))}" for number in range(12)]
    assert crowd.say(*lines) == [30] * 12
    assert crowd.made() == 2
    assert crowd.say("HLEN h") == [360]


def _talking(node: Node, number: int) -> str:
    reach(node, number)
    other = member(number).id
    node.state.note_capabilities(other, CAPABILITIES)
    return other


def _key_here(node: Node) -> str:
    route = node.services.route
    return next(f"k{n}" for n in range(99) if route(b"k%d" % n).coordinator is None)


def test_one_quorum_read_and_one_write_for_all() -> None:
    node = make_node(3)
    other = _talking(node, 2)
    _talking(node, 3)
    key = _key_here(node)
    clients = [Client(node) for _ in range(5)]
    for client in clients:
        node.command(client.session, [b"INCR", key.encode()], 0)
    asked = [
        each for data in finish_turn(node).messages.values() for each in messages_in(data) if each[0] == b"COMPARE"
    ]
    assert len(asked) == 1
    assert len(asked[0]) == 5, "one key: kind, clock, number, checksums, key"
    awaited = node.services.reads._groups[int(asked[0][2])].awaited
    peer = next(peer for peer in (other, member(3).id) if peer in awaited)
    node.receive(peer, [b"SAME", b"0", asked[0][2]], 0)
    assert node.state.in_flight == 0
    messages = finish_turn(node).messages
    stored = [each for each in messages_in(messages[other]) if each[0] == b"STORE"]
    assert [len(each) for each in stored] == [5], "one record"
    assert node.state.in_flight == 5
    node.receive(other, [b"STORED", b"0", stored[0][2]], 0)
    replies = dict(finish_turn(node).replies)
    assert [replies[client.session] for client in clients] == [b":%d\r\n" % number for number in range(1, 6)]
    assert node.state.in_flight == 0


def test_clients_with_another_w_do_not_share() -> None:
    crowd = Crowd(make_node())
    crowd.say("DYN.QUORUM W 1")
    assert crowd.say("INCR n", "INCR n", "INCR n") == [1, 2, 3]
    assert crowd.made() == 2


def test_too_large_together_is_not_too_large_for_each() -> None:
    """What fits is written, whoever else wants to write in the same turn."""
    crowd = Crowd(make_node(config=replace(CONFIG, record_bytes_max=20_000, value_bytes_max=20_000)))
    long = "x" * 8_000
    replies = crowd.say(*[f"RPUSH q {long}" for _ in range(3)], "RPUSH q short")
    assert replies[:2] == [1, 2]
    assert str(replies[2]).startswith("ERR the key would have 24")
    assert replies[3] == 3


@pytest.mark.interpreted
def test_all_who_share_hear_why_nothing_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    crowd = Crowd(node)
    crowd.say("INCR n")

    def refuse(*args: object) -> Any:
        raise shared_drafts.CommandError("ERR not today")

    monkeypatch.setattr(shared_drafts, "record_of", refuse)
    assert crowd.say("INCR n", "INCR n") == ["ERR not today"] * 2
    monkeypatch.undo()
    assert crowd.say("GET n", "INCR n") == ["1", 2]


@pytest.mark.interpreted
def test_an_unexpected_exception_leaves_nothing_half_done(monkeypatch: pytest.MonkeyPatch) -> None:
    node = make_node()
    crowd = Crowd(node)
    crowd.say("RPUSH q a")
    put_all = edits._put_all

    def broken(*args: Any) -> Any:
        yield from put_all(*args)
        raise KeyError("planted")

    lines = ["RPUSH q b", "LPUSH q c"]
    for client, line in zip(crowd.clients, lines, strict=False):
        node.command(client.session, line.encode().split(), 0)
    monkeypatch.setattr(edits, "_put_all", lambda *args: (broken if args[2] is edits.before else put_all)(*args))
    replies = [_decoded(data) for _, data in finish_turn(node).replies if isinstance(data, bytes)]
    assert len(replies) == 2
    assert all(str(reply).startswith("ERR internal error") for reply in replies)
    monkeypatch.undo()
    assert crowd.say("LRANGE q 0 -1", "RPUSH q z") == [["a"], 2]
    assert not node.state.records.pending.by_key
    assert node.state.records.get(storage_key_of(b"q")) is not None


def test_a_refused_write_leaves_nothing_in_flight() -> None:
    """The disk is full: the key can be read, and not written."""
    crowd = Crowd(make_node())
    crowd.say("RPUSH q a")
    crowd.node.disk_changed(FOR_NOTHING, 0)
    errors = crowd.say("RPUSH q b", "RPUSH q c", "RPUSH q d")
    assert [error.split()[0] for error in errors] == ["DISKFULL"] * 3
    assert crowd.node.state.in_flight == 0
    assert crowd.say("LRANGE q 0 -1") == [["a"]]


def test_each_command_of_a_turn_causes_its_event() -> None:
    lines = ["RPUSH k a", "RPUSH k b", "LPOP k", "LPOP k", "SADD k m", "INCR n", "INCR n", "HSET h f v", "HDEL h f"]
    told = []
    for in_one_turn in (True, False):
        client, listener = Client(node := make_node()), Client(node)
        client.ask("CONFIG SET notify-keyspace-events KA")
        listener.raw("PSUBSCRIBE __keyspace*")
        heard = b""
        for each in [lines] if in_one_turn else [[line] for line in lines]:
            client.raw(*each)
            heard += client.pushed.get(listener.session, b"")
        told.append([message.split(b"\r\n")[4:7:2] for message in heard.split(b"pmessage")[1:]])
    by_key = [{key: [event for name, event in found if name == key] for key, _ in found} for found in told]
    assert by_key[0] == by_key[1]
    assert by_key[0][b"__keyspace@0__:k"] == [b"rpush", b"rpush", b"lpop", b"lpop", b"del", b"sadd"]


def test_a_draft_of_the_turn_in_which_events_are_switched_on_is_written() -> None:
    crowd = Crowd(make_node())
    replies = crowd.say("RPUSH q a", "CONFIG SET notify-keyspace-events KEA", "RPUSH q b", "RPUSH q c")
    assert replies == [1, "OK", 2, 3]
    assert crowd.say("LRANGE q 0 -1") == [["a", "b", "c"]]
