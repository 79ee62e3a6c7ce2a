"""No command on a large collection, or with very many arguments, does more in one turn than others may wait for.

Work is counted in calls, Python's and C's, between two ends of a turn; so the tests are the same on every machine. In the
sources a call takes some 0.2 µs, so that the bound is about 16 ms; compiled, less. Each command below does more than the
bound in all.
"""

from __future__ import annotations

import random
import struct
import sys
from typing import Any

import hiredis
import pytest

from server.core.base.config import Config
from server.core.formats import listpack, payload_writer
from server.core.formats.pausing import run_through
from server.core.formats.payloads import seal
from server.core.records.draft import Draft
from server.core.records.kinds import HASH, LIST, SET, ZSET
from server.core.records.records import storage_key_of
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node

pytestmark = pytest.mark.interpreted  # compiled code makes calls that nobody counts

CALLS_MAX = 80_000
SIZE = 12_000
FIELDS = [b"m%05d" % number for number in range(SIZE)]
FEW = FIELDS[::4]
NEW = [b"n%05d" % number for number in range(SIZE)]


def scored(members: list[bytes]) -> list[bytes]:
    """A score before each member, in no order."""
    rng = random.Random(2)
    return [word for member in members for word in (b"%d" % rng.randrange(1 << 20), member)]


def placed(members: list[bytes]) -> list[bytes]:
    """A longitude and a latitude before each member."""
    rng = random.Random(3)
    return [word for member in members for word in (b"%f" % rng.uniform(-9, 9), b"%f" % rng.uniform(-9, 9), member)]


def paired(words: list[bytes]) -> list[bytes]:
    """A value behind each field."""
    return [word for field in words for word in (field, b"v")]


class Turns:
    """A client that counts the calls of each turn."""

    def __init__(self, config: Config = CONFIG) -> None:
        self.node = make_node(config=config)
        self.client = Client(self.node)
        self.now_ms = 0
        self.calls: list[int] = []  # of each turn of the last command
        self._counts = True

    def prepare(self, *words: bytes) -> None:
        """Asks for what the command under test finds. Uncounted, which takes a part of the time."""
        self._counts = False
        self.ask(*words)
        self._counts = True

    def ask(self, *words: bytes) -> Any:
        """The decoded reply; the turns until it came are counted."""
        self.calls = []
        self._count(lambda: self.node.command(self.client.session, list(words), self.now_ms))
        while not (replies := self._end_turn()):
            self.now_ms += 1
            self._count(lambda: self.node.wake(self.now_ms))
        reader = hiredis.Reader()
        for reply in replies:
            reader.feed(reply)
        return reader.gets()

    def _end_turn(self) -> list[bytes]:
        found: list[bytes] = []
        self._count(lambda: found.extend(self._replies()), adds=True)
        return found

    def _replies(self) -> list[bytes]:
        replies = finish_turn(self.node).replies
        return [
            bytes(part)
            for session, data in replies
            if session is self.client.session
            for part in ([data] if isinstance(data, bytes) else data)
        ]

    def _count(self, work: Any, adds: bool = False) -> None:
        calls = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += event in ("call", "c_call")

        sys.setprofile(note if self._counts else None)
        try:
            work()
        finally:
            sys.setprofile(None)
        if adds:
            self.calls[-1] += calls
        else:
            self.calls.append(calls)


S, H, Z, G = [b"SADD", b"s", *FIELDS], [b"HSET", b"h", *paired(FIELDS)], [b"ZADD", b"z", *scored(FIELDS)], [
    b"GEOADD", b"g", *placed(FIELDS)]  # fmt: skip
L = [b"RPUSH", b"l", *FIELDS]
PART = b"m0"  # of each item: a search has to decode all chunks
HX = [b"HSETEX", b"h", b"EX", b"99", b"FIELDS", b"%d" % SIZE, *paired(FIELDS)]
DUMPS = {
    SET: run_through(payload_writer.dump_set(FIELDS)),
    HASH: run_through(payload_writer.dump_hash([(field, b"v") for field in FIELDS])),
    ZSET: run_through(payload_writer.dump_zset([(float(place), field) for place, field in enumerate(FIELDS)])),
    LIST: run_through(payload_writer.dump_list(FIELDS)),
}
LISTPACK = seal(b"\x14\x80%b%b" % (struct.pack(">I", len(listpack.pack(FIELDS))), listpack.pack(FIELDS)))
# A string of which each two bytes are literal, and each three a reference.
COMPRESSED = seal(b"\x00\xc3" + struct.pack(">BIBI", 0x80, 5 * 60_000, 0x80, 5 * 60_000) + b"\x01ab\x20\x01" * 60_000)
S2, Z2 = [b"SADD", b"s2", *FIELDS[::2], *NEW[::2]], [b"ZADD", b"z2", *scored(FIELDS[::2])]
COUNT = b"%d" % (SIZE // 2)
FEW_COUNT, MOST = b"%d" % len(FEW), b"%d" % (SIZE - 1)
COMMANDS: dict[str, tuple[list[list[bytes]], list[bytes]]] = {
    "SADD": ([], S),
    "SADD more": ([S], [b"SADD", b"s", *NEW[:4000]]),
    "SREM": ([S], [b"SREM", b"s", *FEW]),
    "SMISMEMBER": ([S], [b"SMISMEMBER", b"s", *FEW]),
    "SMEMBERS": ([S], [b"SMEMBERS", b"s"]),
    "SPOP": ([S], [b"SPOP", b"s", FEW_COUNT]),
    "SRANDMEMBER": ([S], [b"SRANDMEMBER", b"s", COUNT]),
    "SRANDMEMBER again": ([S], [b"SRANDMEMBER", b"s", b"-%d" % SIZE]),
    "SSCAN": ([S], [b"SSCAN", b"s", b"0", b"COUNT", b"1000"]),
    "SORT": ([S], [b"SORT", b"s", b"ALPHA"]),
    "SORT of a sorted set as it is": ([Z], [b"SORT", b"z", b"BY", b"nosort"]),
    "SORT of a list as it is": ([L], [b"SORT", b"l", b"BY", b"nosort", b"DESC"]),
    "SUNION": ([S, S2], [b"SUNION", b"s", b"s2"]),
    "SINTER": ([S, S2], [b"SINTER", b"s", b"s2"]),
    "SDIFF": ([S, S2], [b"SDIFF", b"s", b"s2"]),
    "SUNIONSTORE": ([S, S2], [b"SUNIONSTORE", b"d", b"s", b"s2"]),
    "SINTERCARD": ([S, S2], [b"SINTERCARD", b"2", b"s", b"s2"]),
    "COPY": ([S], [b"COPY", b"s", b"d"]),
    "RENAME": ([S], [b"RENAME", b"s", b"d"]),
    "HSET": ([], H),
    "HSET more": ([H], [b"HSET", b"h", *paired(NEW[:4000])]),
    "HMSET": ([], [b"HMSET", *H[1:]]),
    "HDEL": ([H], [b"HDEL", b"h", *FEW]),
    "HMGET": ([H], [b"HMGET", b"h", *FEW]),
    "HGETALL": ([H], [b"HGETALL", b"h"]),
    "HKEYS": ([H], [b"HKEYS", b"h"]),
    "HVALS": ([H], [b"HVALS", b"h"]),
    "HRANDFIELD": ([H], [b"HRANDFIELD", b"h", COUNT, b"WITHVALUES"]),
    "HSCAN": ([H], [b"HSCAN", b"h", b"0"]),
    "HEXPIRE": ([H], [b"HEXPIRE", b"h", b"99", b"FIELDS", FEW_COUNT, *FEW]),
    "HLEN": ([HX], [b"HLEN", b"h"]),
    "HRANDFIELD of fields that expire": ([HX], [b"HRANDFIELD", b"h", b"1"]),
    "HTTL": ([H], [b"HTTL", b"h", b"FIELDS", FEW_COUNT, *FEW]),
    "HGETDEL": ([H], [b"HGETDEL", b"h", b"FIELDS", FEW_COUNT, *FEW]),
    "HGETEX": ([H], [b"HGETEX", b"h", b"EX", b"99", b"FIELDS", FEW_COUNT, *FEW]),
    "HSETEX": ([H], [b"HSETEX", b"h", b"FXX", b"FIELDS", FEW_COUNT, *paired(FEW)]),
    "ZADD": ([], Z),
    "ZADD more": ([Z], [b"ZADD", b"z", *scored(FIELDS[::8] + NEW[::8])]),
    "ZREM": ([Z], [b"ZREM", b"z", *FEW]),
    "ZMSCORE": ([Z], [b"ZMSCORE", b"z", *FEW]),
    "ZRANGE": ([Z], [b"ZRANGE", b"z", b"0", b"-1"]),
    "ZRANGE WITHSCORES": ([Z], [b"ZRANGE", b"z", b"0", b"-1", b"REV", b"WITHSCORES"]),
    "ZRANGEBYSCORE": ([Z], [b"ZRANGEBYSCORE", b"z", b"-inf", b"+inf"]),
    "ZRANK": ([Z], [b"ZRANK", b"z", b"m00001"]),
    "ZCOUNT": ([Z], [b"ZCOUNT", b"z", b"-inf", b"5"]),
    "ZPOPMIN": ([Z], [b"ZPOPMIN", b"z", FEW_COUNT]),
    "ZREMRANGEBYRANK": ([Z], [b"ZREMRANGEBYRANK", b"z", b"0", FEW_COUNT]),
    "ZRANDMEMBER": ([Z], [b"ZRANDMEMBER", b"z", COUNT, b"WITHSCORES"]),
    "ZSCAN": ([Z], [b"ZSCAN", b"z", b"0"]),
    "ZUNION": ([Z, Z2], [b"ZUNION", b"2", b"z", b"z2", b"WITHSCORES"]),
    "ZINTER": ([Z, Z2], [b"ZINTER", b"2", b"z", b"z2"]),
    "ZDIFF": ([Z, Z2], [b"ZDIFF", b"2", b"z", b"z2"]),
    "ZUNIONSTORE": ([Z, Z2], [b"ZUNIONSTORE", b"d", b"2", b"z", b"z2"]),
    "ZINTERCARD": ([Z, Z2], [b"ZINTERCARD", b"2", b"z", b"z2"]),
    "ZRANGESTORE": ([Z], [b"ZRANGESTORE", b"d", b"z", b"0", b"-1"]),
    "ZMPOP": ([Z], [b"ZMPOP", b"1", b"z", b"MAX", b"COUNT", FEW_COUNT]),
    "BZMPOP": ([Z], [b"BZMPOP", b"1", b"1", b"z", b"MAX", b"COUNT", MOST]),
    "BZMPOP within EXEC": ([Z, [b"MULTI"], [b"BZMPOP", b"1", b"1", b"z", b"MIN", b"COUNT", MOST]], [b"EXEC"]),
    "BZPOPMIN": ([Z], [b"BZPOPMIN", b"z", b"1"]),
    "GEOADD": ([], G),
    "GEOPOS": ([G], [b"GEOPOS", b"g", *FEW]),
    "GEOHASH": ([G], [b"GEOHASH", b"g", *FEW]),
    "GEOSEARCH": ([G], [b"GEOSEARCH", b"g", b"FROMLONLAT", b"0", b"0", b"BYRADIUS", b"800", b"km", b"ASC", b"WITHDIST"]),
    "GEOSEARCHSTORE": ([G], [b"GEOSEARCHSTORE", b"d", b"g", b"FROMLONLAT", b"0", b"0", b"BYBOX", b"2000", b"2000", b"km"]),
    "RPUSH": ([], L),
    "LPUSH more": ([L], [b"LPUSH", b"l", *NEW]),
    "LRANGE": ([L], [b"LRANGE", b"l", b"0", b"-1"]),
    "LPOP": ([L], [b"LPOP", b"l", FEW_COUNT]),
    "LMPOP": ([L], [b"LMPOP", b"1", b"l", b"LEFT", b"COUNT", MOST]),
    "BLMPOP": ([L], [b"BLMPOP", b"1", b"1", b"l", b"RIGHT", b"COUNT", MOST]),
    "LREM": ([L], [b"LREM", b"l", b"0", PART]),
    "LPOS": ([L], [b"LPOS", b"l", PART]),
    "LINSERT": ([L], [b"LINSERT", b"l", b"BEFORE", PART, b"x"]),
    "LTRIM": ([L], [b"LTRIM", b"l", FEW_COUNT, b"-1"]),
    "SORT within EXEC": ([S, [b"MULTI"], [b"SORT", b"s", b"ALPHA"]], [b"EXEC"]),
    "HGETALL within EXEC": ([H, [b"MULTI"], [b"HSET", b"h", b"f", b"v"], [b"HGETALL", b"h"]], [b"EXEC"]),
    "SORT STORE": ([S], [b"SORT", b"s", b"ALPHA", b"STORE", b"d"]),
    "COPY of a list": ([L], [b"COPY", b"l", b"d"]),
    "DUMP of a set": ([S], [b"DUMP", b"s"]),
    "DUMP of a hash": ([H], [b"DUMP", b"h"]),
    "DUMP of a hash whose fields expire": ([HX], [b"DUMP", b"h"]),
    "DUMP of a sorted set": ([Z], [b"DUMP", b"z"]),
    "DUMP of a list": ([L], [b"DUMP", b"l"]),
    "RESTORE of a set": ([], [b"RESTORE", b"s", b"0", DUMPS[SET]]),
    "RESTORE of a hash": ([], [b"RESTORE", b"h", b"0", DUMPS[HASH]]),
    "RESTORE of a sorted set": ([], [b"RESTORE", b"z", b"0", DUMPS[ZSET]]),
    "RESTORE of a list": ([], [b"RESTORE", b"l", b"0", DUMPS[LIST]]),
    "RESTORE of one listpack": ([], [b"RESTORE", b"s", b"0", LISTPACK]),
    "RESTORE of what was compressed": ([], [b"RESTORE", b"k", b"0", COMPRESSED]),
    "SUBSCRIBE": ([], [b"SUBSCRIBE", *FIELDS]),
    "SUBSCRIBE to patterns": ([], [b"PSUBSCRIBE", *FEW]),  # each takes ten times as many calls as others
    "UNSUBSCRIBE": ([[b"SUBSCRIBE", *FIELDS]], [b"UNSUBSCRIBE", *FIELDS]),
    "UNSUBSCRIBE from all": ([[b"SUBSCRIBE", *FIELDS]], [b"UNSUBSCRIBE"]),
    "PFADD": ([], [b"PFADD", b"p", *FIELDS]),
    "MSET": ([], [b"MSET", *paired(FIELDS)]),
    "MGET": ([], [b"MGET", *FIELDS]),
    "DEL": ([], [b"DEL", *FIELDS]),
}  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_no_turn_of_a_large_command_is_long(name: str) -> None:
    turns = Turns()
    before, command = COMMANDS[name]
    for each in before:
        turns.prepare(*each)
    reply = turns.ask(*command)
    assert not isinstance(reply, Exception), reply
    assert max(turns.calls) <= CALLS_MAX, f"{sorted(turns.calls)[::-1][:4]} in {len(turns.calls)} turns"
    assert len(turns.calls) > 2, "there is work for several turns"


def test_the_work_is_linear_in_the_arguments() -> None:
    totals = []
    for count in (3000, 6000):
        turns = Turns()
        turns.prepare(*H)
        total = 0
        for command in (
            [b"HSET", b"h", *paired(NEW[:count])],
            [b"HMGET", b"h", *NEW[:count]],
            [b"HDEL", b"h", *NEW[:count]],
        ):
            turns.ask(*command)
            total += sum(turns.calls)
        totals.append(total)
    assert totals[1] < 2.2 * totals[0]


def test_others_are_served_between_the_slices_and_the_reply_is_one_in_its_order() -> None:
    turns = Turns()
    turns.prepare(*H)
    node, other = turns.node, Client(turns.node)
    for words in ([b"HGETALL", b"h"], [b"HLEN", b"h"], [b"GET", b"none"]):
        node.command(turns.client.session, words, 0)
    assert turns._replies() == [], "the first one takes several turns, and the others answer behind it"
    assert other.ask("PING") == "PONG"
    assert other.ask("HLEN h") == SIZE
    received: list[bytes] = []
    for now_ms in range(1, 50):
        node.wake(now_ms)
        received += turns._replies()
    reader = hiredis.Reader()
    reader.feed(b"".join(received))
    assert reader.gets() == paired(FIELDS)
    assert (reader.gets(), reader.gets(), reader.gets()) == (SIZE, None, False)


def test_a_turn_does_as_much_for_many_clients_as_for_few() -> None:
    turns = Turns()
    turns.prepare(*H)
    node = turns.node
    clients = [Client(node) for _ in range(8)]
    for client in clients:
        node.command(client.session, [b"HGETALL", b"h"], 0)
        finish_turn(
            node
        )  # the first slice of each runs in the turn in which it comes, which has a budget (admission.py)
    turns.calls, answered = [], 0
    for now_ms in range(1, 100):
        turns._count(lambda now_ms=now_ms: node.wake(now_ms))
        answered += sum(bool(data) for _, data in finish_turn(node).replies)
    assert answered == len(clients)
    assert max(turns.calls) <= 2 * CALLS_MAX


def test_what_waits_for_a_key_sees_what_was_written_and_keeps_its_order() -> None:
    turns = Turns()
    node, others = turns.node, [Client(turns.node) for _ in range(3)]
    node.command(turns.client.session, [b"SADD", b"s", *FIELDS], 0)
    assert turns._replies() == []
    for client, words in zip(others, (["SADD", "s", "x"], ["SCARD", "s"], ["SREM", "s", "x", "m00000"]), strict=True):
        node.command(client.session, [word.encode() for word in words], 0)
    replies: dict[int, bytes] = {}
    for now_ms in range(1, 200):
        for session, data in finish_turn(node).replies:
            assert isinstance(data, bytes)
            replies[session.id] = data
        node.wake(now_ms)
    assert replies[turns.client.session.id] == b":%d\r\n" % SIZE
    assert [replies[client.session.id] for client in others] == [b":1\r\n", b":0\r\n", b":2\r\n"]
    assert others[0].ask("SCARD s") == SIZE - 1


def test_a_plain_write_in_between_is_not_lost_and_the_command_begins_anew() -> None:
    turns = Turns()
    node, other = turns.node, Client(turns.node)
    node.command(turns.client.session, [b"SADD", b"s", *FIELDS], 0)
    assert turns._replies() == []
    assert other.ask("SET s text") == "OK"
    received: list[bytes] = []
    for now_ms in range(1, 200):
        node.wake(now_ms)
        received += turns._replies()
    assert received == [b"-WRONGTYPE Operation against a key holding the wrong kind of value\r\n"]
    assert other.ask("GET s") == "text"


def test_a_command_that_is_overtaken_again_and_again_is_refused_and_writes_nothing() -> None:
    turns = Turns()
    node, other = turns.node, Client(turns.node)
    node.command(turns.client.session, [b"HSET", b"h", *paired(FEW)], 0)
    received: list[bytes] = []
    for now_ms in range(1, 400):
        draft = Draft(None, now_ms, HASH)
        draft.put(b"theirs", b"%d" % now_ms)
        node.state.records.merge_all([storage_key_of(b"h"), draft.record(b"actor--2", now_ms)])  # another coordinator's
        received += turns._replies()
        node.wake(now_ms)
    assert len(received) == 1
    assert received[0].startswith(b"-BUSY the key was written by other clients while this command ran, 3 times")
    assert other.ask("HGETALL h") == ["theirs", "399"]


def test_commands_behind_a_long_one_in_a_pipeline_see_what_it_wrote() -> None:
    turns = Turns()
    turns.ask(*Z)
    node, session = turns.node, turns.client.session
    for words in ("ZADD z 1 a", "ZREMRANGEBYRANK z 0 5000", "ZCARD z", "ZADD z 1 b", "ZCARD z"):
        node.command(session, [word.encode() for word in words.split()], turns.now_ms)
    received = b""
    for _ in range(300):
        received += b"".join(turns._replies())
        turns.now_ms += 1
        node.wake(turns.now_ms)
    assert received == b":1\r\n:5001\r\n:%d\r\n:1\r\n:%d\r\n" % (SIZE - 5000, SIZE - 4999)


def test_what_a_command_reads_of_several_keys_is_bounded() -> None:
    config = Config(engine="memory", tree_leaf_bits=14, record_bytes_max=1 << 20, value_bytes_max=1 << 18,
        gathered_bytes_max=4 << 20)  # fmt: skip
    turns = Turns(config)
    for number in range(40):
        turns.ask(b"SADD", b"set%d" % number, *[b"%d:%d" % (number, element) + b"x" * 1000 for element in range(250)])
        turns.ask(b"SET", b"string%d" % number, b"x" * (1 << 18))
    sets, strings = [b"set%d" % number for number in range(40)], [b"string%d" % number for number in range(40)]
    assert turns.ask(b"SINTERCARD", b"40", *sets) == 0
    assert len(turns.ask(b"SDIFF", *sets)) == 250
    assert len(turns.ask(b"SUNION", *sets[:10])) == 2500
    assert "gathered_bytes_max=4194304" in str(turns.ask(b"SUNION", *sets))
    for words in ([b"MGET", *strings], [b"BITOP", b"OR", b"d", *strings], [b"ZUNION", b"40", *sets]):
        error = turns.ask(*words)
        assert "gathered_bytes_max=4194304 bytes: nothing was written. Name fewer keys at once" in str(error)
    assert len(turns.ask(b"MGET", *strings[:10])) == 10
    assert len(turns.ask(b"MGET", *[strings[0]] * 100)) == 100, "one record counts once"


def test_clients_do_not_know_the_commands_of_nodes() -> None:
    client = Client(make_node())
    for words in ("DYN.RECORD k", "DYN.REPLACE k v", "DYN.REMOVE k t", "DYN.PFMERGE k"):
        assert client.error(words).startswith("ERR unknown command")


@pytest.mark.parametrize("pause_ms", [1000, 1001])
def test_a_command_begins_anew_if_its_node_has_stood_still_meanwhile(pause_ms: int) -> None:
    """Another owner may have written the key, and this node not have heard of it yet."""
    turns = Turns()
    node = turns.node
    node.command(turns.client.session, [b"SADD", b"s", *FIELDS], 0)
    assert turns._replies() == []
    received: list[bytes] = []
    for now_ms in range(pause_ms, pause_ms + 200):
        node.wake(now_ms)
        received += turns._replies()
    assert received == [b":%d\r\n" % SIZE]
    assert node.state.statistics.reads == (2 if pause_ms > node.state.config.relay_stale_ms else 1)
