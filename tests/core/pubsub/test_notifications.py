"""Keyspace notifications at one node: which events a command causes, and how the setting travels."""

from __future__ import annotations

import re

import pytest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import PUBLISHING
from server.core.messages.publications import EventSetting, encode_notify
from server.core.node import Node
from server.core.pubsub.events import events_of, flags_of, text_of
from server.core.records.records import storage_key_of
from server.core.scripts.engine import Call
from tests.core.commands.scripting.test_command_by_command import Engine
from tests.core.commands.talking import WALL_MS, Client, finish_turn, go_by_own_clock, make_node, member


def _node(flags: str = "AKEn") -> Node:
    node = make_node(1)
    assert Client(node).ask(f"CONFIG SET notify-keyspace-events {flags}") == "OK"
    return node


def _listener(node: Node, pattern: str = "__key*") -> Client:
    listener = Client(node)
    listener.raw(f"PSUBSCRIBE {pattern}")
    return listener


def _events(node: Node, listener: Client, *lines: str) -> list[str]:
    """What the listener is told of these commands, as `event key`."""
    found: list[str] = []
    client = Client(node)
    for line in lines:
        client.raw(line)
        said = client.pushed.get(listener.session, b"")
        for now_ms in range(2, 10, 2):  # what is done in slices goes on
            node.wake(node.state.now_ms + now_ms)
            said += dict(finish_turn(node).pushes).get(listener.session, b"")
        matches = re.findall(r"__keyevent@0__:(\S+)\r\n\$\d+\r\n(\S+)\r\n", said.decode())
        found += [f"{event} {key}" for event, key in matches]
    return found


def test_nothing_is_noted_unless_asked_for() -> None:
    node = make_node(1)
    assert node.state.noted is None and Client(node).ask("CONFIG GET notify-keyspace-events")[1] == ""
    listener = _listener(node)
    assert _events(node, listener, "SET a 1") == []
    admin = Client(node)
    admin.raw("CONFIG SET notify-keyspace-events KE", "CONFIG SET notify-keyspace-events A")
    assert node.state.noted is None, "neither K nor E"


CASES = [
    ("SET a 1", "set a"), ("SET a 1 EX 9", "set a,expire a"), ("SETEX a 9 1", "set a,expire a"), ("INCR n", "incrby n"),
    ("APPEND a x", "append a"), ("SETRANGE a 0 x", "setrange a"), ("INCRBYFLOAT n 1", "incrbyfloat n"),
    ("MSET a 1 b 2", "set a,set b"), ("SETBIT a 0 1", "setbit a"), ("PFADD p x", "pfadd p"), ("BITOP NOT d a", "set d"),
    ("LPUSH l 1 2", "lpush l"), ("RPUSHX l 3", "rpush l"), ("LPOP l", "lpop l"), ("LSET l 0 x", "lset l"),
    ("LMOVE l m LEFT RIGHT", "rpush m,lpop l"), ("RPOP l", "rpop l,del l"), ("LTRIM m 1 0", "ltrim m,del m"),
    ("HSET h f 1 g 2", "hset h"), ("HINCRBY h f 1", "hincrby h"), ("HDEL h f", "hdel h"), ("HDEL h g", "hdel h,del h"),
    ("SADD s 1 2", "sadd s"), ("SMOVE s t 1", "sadd t,srem s"), ("SUNIONSTORE u s t", "sunionstore u"),
    ("SINTERSTORE u s t", "del u"), ("SREM s 2", "srem s,del s"), ("SPOP t", "spop t,del t"),
    ("ZADD z 1 a 2 b", "zadd z"), ("ZADD z INCR 1 a", "zincr z"), ("ZINCRBY z 1 a", "zincr z"),
    ("ZUNIONSTORE y 1 z", "zunionstore y"), ("ZRANGESTORE x z 0 0", "zrangestore x"), ("ZPOPMIN z", "zpopmin z"),
    ("ZREM z a b", "zrem z,del z"), ("GEOADD g 1 1 m", "zadd g"), ("EXPIRE a 100", "expire a"),
    ("PERSIST a", "persist a"), ("GETEX a EX 9", "expire a"), ("GETEX a PERSIST", "persist a"), ("EXPIRE a -1", "del a"),
    ("RENAME b c", "rename_to c,rename_from b"), ("COPY c e", "copy_to e"), ("DEL c e nope", "del c,del e"),
    ("GETDEL n", "del n"), ("DEL nope", ""), ("SET q 1 XX", ""), ("DYN.SET k v", "set k"), ("DYN.DEL k", "del k"),
    ("RPUSH l 1 2 3 4", "rpush l"), ("BLPOP l 0", "lpop l"), ("BRPOP l 0", "rpop l"), ("BLMPOP 0 1 l RIGHT", "rpop l"),
    ("BLMOVE l m LEFT RIGHT 0", "rpush m,lpop l,del l"), ("ZADD zz 1 a 2 b 3 c", "zadd zz"),
    ("BZPOPMIN zz 0", "zpopmin zz"), ("BZMPOP 0 2 none zz MAX", "zpopmax zz"), ("ZMPOP 1 zz MIN", "zpopmin zz,del zz"),
    ("SORT y BY nosort STORE w", "sortstore w"),
    ("SETBIT a 0 1", "setbit a"), ("SETBIT a 0 1", ""), ("SETBIT a 99 0", "setbit a"), ("GEOADD g 1 1 m", ""),
    ("GEOADD g 2 2 m", "zadd g"), ("ZADD z 5 a", "zadd z"), ("ZADD z 5 a", ""), ("ZINCRBY z 0 a", ""),
    ("ZADD z INCR 0 a", ""), ("SADD s 1", "sadd s"), ("SADD s 1", ""), ("HSET h f 1", "hset h"), ("HSET h f 1", "hset h"),
    ("RPUSH r 1 2", "rpush r"), ("RPOPLPUSH r r", "lpush r,rpop r"), ("LMOVE r r LEFT RIGHT", "rpush r,lpop r"),
    ("BLMOVE r r LEFT RIGHT 0", "rpush r,lpop r"), ("BRPOPLPUSH r r 0", "lpush r,rpop r"), ("LPOP r 2", "lpop r,del r"),
    ("XADD x1 1-1 a b", "xadd x1"), ("XADD x1 MAXLEN 2 2-1 a b", "xadd x1"), ("XADD x1 MINID 1 3-1 a b", "xadd x1"),
    ("XADD x1 MAXLEN 2 4-1 a b", "xadd x1,xtrim x1"), ("XADD x1 NOMKSTREAM MINID 4 5-1 a b", "xadd x1,xtrim x1"),
    ("XADD x2 NOMKSTREAM MAXLEN 1 5-1 a b", ""), ("XADD x2 MAXLEN 0 5-1 a b", "xadd x2,xtrim x2"),
    ("XADD x1 MAXLEN 0 6-1 a b", "xadd x1,xtrim x1"), ("XADD x1 7-1 a b", "xadd x1"), ("XADD x1 8-1 a b", "xadd x1"),
    ("XTRIM x1 MAXLEN 9", ""), ("XTRIM x1 MAXLEN 1", "xtrim x1"), ("XDEL x1 7-1", ""), ("XDEL x1 8-1", "xdel x1"),
    ("XADD x1 9-1 a b", "xadd x1"), ("XTRIM x1 MAXLEN 0", "xtrim x1"), ("XADD x1 9-1 a b", "xadd x1"), ("DEL x1", "del x1"),
]  # fmt: skip


def test_each_command_causes_the_events_of_its_family() -> None:
    node = _node("AKE")
    listener = _listener(node)
    told = [(line, ",".join(_events(node, listener, line))) for line, _ in CASES]
    assert told == CASES


def test_a_transaction_causes_the_events_of_its_commands() -> None:
    node = _node("AKE")
    listener, client = _listener(node), Client(node)
    client.raw("MULTI", "SET {t}a 1", "INCR {t}a", "LPUSH {t}l x", "DEL {t}a", "GET {t}l")
    assert client.pushed == {}
    client.raw("EXEC")
    said = client.pushed[listener.session].decode()
    events = re.findall(r"__keyevent@0__:(\S+)\r\n\$\d+\r\n(\S+)\r\n", said)
    assert events == [("set", "{t}a"), ("incrby", "{t}a"), ("lpush", "{t}l"), ("del", "{t}a")]
    client.raw("MULTI", "SET {t}b 1", "DISCARD")
    assert client.pushed == {}


def test_the_commands_of_a_script_cause_their_events_once() -> None:
    node = _node("AKE")
    listener, client = _listener(node), Client(node)

    def function(call: Call) -> bytes:
        call([b"SET", b"{t}a", b"1"], False)
        call([b"LPUSH", b"{t}a", b"1"], False)  # WRONGTYPE
        return call([b"RPUSH", b"{t}l", b"x"], False)

    node.services.scripts.make_engine = lambda: Engine(function)
    assert _events(node, listener, "EVAL text 2 {t}a {t}l") == ["set {t}a", "rpush {t}l"]
    client.raw("MULTI", "EVAL text 2 {t}a {t}l", "DEL {t}l")
    assert _events(node, listener, "PING") == []
    client.raw("EXEC")
    said = client.pushed[listener.session] + dict(finish_turn(node).pushes).get(listener.session, b"")
    assert re.findall(rb"__keyevent@0__:(\S+)", said) == [b"set", b"rpush", b"del"]


def test_a_moved_key_is_told_in_both_databases() -> None:
    node = _node("AKE")
    listener, client = _listener(node), Client(node)
    client.raw("SET a 1")
    said = b""
    for line in ("MOVE a 3", "PING"):
        client.raw(line)
        said += client.pushed.get(listener.session, b"")
    assert re.findall(rb"__keyevent(@\d__:\S+)", said) == [b"@3__:move_to", b"@0__:rename_from"]


def test_a_database_has_channels_of_its_own() -> None:
    node = _node("KE")
    Client(node).raw("CONFIG SET notify-keyspace-events KEA")
    listener, client = _listener(node, "__key*@3__:*"), Client(node)
    client.raw("SET a 1", "SELECT 3")
    client.raw("SET a 1")
    said = client.pushed[listener.session]
    assert b"__keyspace@3__:a\r\n$3\r\nset" in said and b"__keyevent@3__:set\r\n$1\r\na\r\n" in said


def test_a_new_key_is_told_if_asked_for() -> None:
    node = _node("AKEn")
    listener = _listener(node)
    assert _events(node, listener, "SET a 1", "SET a 2") == ["new a", "set a", "set a"]


def test_both_channels_are_published_to_and_classes_count() -> None:
    node = _node("Kg$")
    keys = _listener(node, "__keyspace@0__:a")
    _listener(node, "__keyevent*")
    client = Client(node)
    client.raw("SET a 1")
    assert client.pushed[keys.session].endswith(b"__keyspace@0__:a\r\n$3\r\nset\r\n") and len(client.pushed) == 1
    client.raw("LPUSH l 1")
    assert client.pushed == {}


def test_an_expired_key_is_told_once() -> None:
    node = _node("Ex")
    listener, client = _listener(node), Client(node)
    client.raw("SET a 1 PX 500", "SET b 1 PX 500")
    client.raw("SET b 2 PX 5000")
    told = []
    for now_ms in range(0, 1000, 100):
        node.tick(now_ms, WALL_MS + now_ms)
        told += [data for session, data in finish_turn(node).pushes if session is listener.session]
    assert len(told) == 1 and told[0].endswith(b"__keyevent@0__:expired\r\n$1\r\na\r\n")


@pytest.mark.parametrize(
    ("given", "shown"), [("KEA", "AKE"), ("Kg$x", "g$xK"), ("", ""), ("AKEn", "AKE"), ("Em", "Em")]
)
def test_the_setting_is_shown_as_redis_shows_it(given: str, shown: str) -> None:
    flags = flags_of(given)
    assert flags is not None and text_of(flags) == shown


def test_a_wrong_class_is_refused() -> None:
    assert Client(make_node(1)).error("CONFIG SET notify-keyspace-events KQ") == (
        "ERR CONFIG SET failed (possibly related to argument 'notify-keyspace-events') - Invalid event class character. "
        "Use 'Ag$lshzxeKEtmdn'."
    )


def _receive(node: Node, message: bytes) -> None:
    reader = FrameReader(1 << 20)
    reader.feed(seal([message]))
    items = reader.next()
    assert items is not None
    node.receive(member(2).id, items, 0)


def test_the_newest_setting_holds_on_all_nodes() -> None:
    node = make_node(2)
    node.connected(member(2).id, 0, (PUBLISHING,))
    node.greeted(member(2).id, 0, (PUBLISHING,))
    go_by_own_clock(node)
    finish_turn(node)
    admin = Client(node)
    node.command(admin.session, b"CONFIG SET notify-keyspace-events KEA".split(), 0)
    assert b"NOTIFY" in finish_turn(node).messages[member(2).id]
    _receive(node, encode_notify(0, EventSetting(1, 0)))
    assert admin.ask("CONFIG GET notify-keyspace-events")[1] == "AKE", "an older one"
    _receive(node, encode_notify(0, EventSetting(1 << 58, flags_of("Kx") or 0)))
    assert admin.ask("CONFIG GET notify-keyspace-events")[1] == "xK"
    admin.raw("CONFIG SET notify-keyspace-events K$")
    assert node.services.notifications._setting.counter > 1 << 58, "what is set now is newer than what was heard of"
    node.connected(member(2).id, 0, (PUBLISHING,))
    assert b"NOTIFY" in finish_turn(node).messages[member(2).id], "a node that was away learns it"


@pytest.mark.parametrize(
    ("made", "attempt", "event"),
    [
        ("RPUSH k a b", "LPOP 1", b"lpop"),
        ("ZADD k 1 a 2 b", "ZPOPMAX 1", b"zpopmax"),
        ("RPUSH k a b", "LMOVE other RIGHT LEFT", b"rpop"),
    ],
)
def test_a_pop_for_a_waiting_client_of_another_node_causes_its_event(made: str, attempt: str, event: bytes) -> None:
    node = make_node(1)
    client = Client(node)
    client.ask(made)
    before = node.state.records.get(storage_key_of(b"k"))
    client.ask("LPOP k" if "RPUSH" in made else "ZPOPMAX k")
    after = node.state.records.get(storage_key_of(b"k"))
    assert before is not None and after is not None
    words = f"DYN.TRY k {'0' * 40} 7 0 {attempt}".encode().split()
    assert [name for _, name in events_of(words, before, after, node.state.time_ms)] == [event]
