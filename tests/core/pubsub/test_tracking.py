"""CLIENT TRACKING at one node: which changes a client is told of, when, and in which form."""

from __future__ import annotations

from dataclasses import replace

import pytest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import COMPARES, PUBLISHING
from protocol.resp import array, bulk
from server.core.base.sinks import Session
from server.core.messages.publications import (
    encode_changed,
    encode_watching,
)
from server.core.node import Node
from server.core.pubsub.expiries import Expiries
from server.core.records.records import storage_key_of
from tests.core.commands.scripting.test_command_by_command import Engine
from tests.core.commands.talking import CONFIG, WALL_MS, Client, finish_turn, go_by_own_clock, make_node, member

NULL = b">2\r\n$10\r\ninvalidate\r\n_\r\n"


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone."""
    return make_node(1)


def _invalid(*keys: bytes) -> bytes:
    return b">2\r\n$10\r\ninvalidate\r\n" + array([bulk(key) for key in keys])


def _tracking(node: Node, *options: str) -> Client:
    client = Client(node)
    client.raw("HELLO 3")
    assert client.ask(" ".join(("CLIENT TRACKING ON", *options))) == "OK"
    return client


def _connect(node: Node, number: int, *capabilities: bytes) -> None:
    node.connected(member(number).id, 0, capabilities)
    node.greeted(member(number).id, 0, capabilities)
    go_by_own_clock(node)
    finish_turn(node)


def _told(node: Node, client: Client, *lines: str) -> bytes:
    """What a client is told when another one says this."""
    other = Client(node)
    other.raw(*lines)
    return other.pushed.get(client.session, b"")


def _receive(node: Node, number: int, message: bytes) -> dict[Session, bytes]:
    reader = FrameReader(1 << 20)
    reader.feed(seal([message]))
    items = reader.next()
    assert items is not None
    node.receive(member(number).id, items, 0)
    return dict(finish_turn(node).pushes)


def test_what_a_client_has_read_it_is_told_of_once(node: Node) -> None:
    client = _tracking(node)
    client.raw("SET a 1")
    client.raw("GET a", "GET b", "MGET c d", "HGETALL h")
    assert _told(node, client, "SET a 2") == _invalid(b"a")
    assert _told(node, client, "SET a 3") == b"", "it has not read it again"
    assert _told(node, client, "SET z 3", "SET d 1", "HSET h f v") == _invalid(b"d", b"h")
    client.raw("GET a")
    assert _told(node, client, "DEL a") == _invalid(b"a")
    client.raw("CLIENT TRACKING OFF", "GET a")
    assert _told(node, client, "SET a 2") == b"" and client.session.guard is None
    assert not node.services.tracking.is_used and not node.services.tracking.keys


def test_the_client_is_told_behind_the_reply_that_it_would_cache() -> None:
    node = make_node(3)
    for number in (2, 3):
        _connect(node, number, PUBLISHING, COMPARES)
    client = _tracking(node)
    node.command(client.session, [b"GET", b"a"], 0)
    outbox = finish_turn(node)
    assert outbox.replies == [] and outbox.pushes == [], "no owner answers"
    tracker = client.session.tracker
    assert tracker is not None and tracker.reading
    node.services.tracking.invalidate([b"a"])
    assert finish_turn(node).pushes == [] and tracker.changed_in_flight
    for now_ms in range(0, 4000, 100):
        node.tick(now_ms, WALL_MS + now_ms)
    outbox = finish_turn(node)
    assert [session for session, _ in outbox.replies] == [client.session], "the read has ended, with an error"
    assert outbox.pushes == [(client.session, _invalid(b"a"))]
    assert not tracker.reads and not tracker.reading and not tracker.changed_in_flight


def test_in_doubt_all_is_dropped() -> None:
    node = make_node(2)
    _connect(node, 2, PUBLISHING)
    client = _tracking(node)
    node.disconnected(member(2).id, 0)
    assert finish_turn(node).pushes == [(client.session, NULL)]
    node.connected(member(2).id, 0, (PUBLISHING,))
    outbox = finish_turn(node)
    assert outbox.pushes == [(client.session, NULL)] and encode_watching(0, 1)[:20] in outbox.messages[member(2).id]
    node.greeted(member(2).id, 0, (PUBLISHING,))
    assert finish_turn(node).pushes == [(client.session, NULL)], "what its former connection has brought may be lost"


def test_in_doubt_of_a_silent_node_all_is_dropped() -> None:
    node = make_node(2)
    _connect(node, 2, PUBLISHING)
    _tracking(node)
    node.tick(0, WALL_MS)
    finish_turn(node)
    pushes = []
    for now_ms in range(100, 20_000, 100):
        node.tick(now_ms, WALL_MS + now_ms)
        pushes += finish_turn(node).pushes
    assert NULL in [data for _, data in pushes], "its link stands, and nothing comes"


def test_a_peer_that_wants_to_know_is_told_of_every_change_here() -> None:
    node = make_node(2)
    _connect(node, 2, PUBLISHING)
    writer = Client(node)
    node.command(writer.session, [b"SET", b"quiet", b"1"], 0)
    assert b"CHANGED" not in finish_turn(node).messages.get(member(2).id, b"")
    _receive(node, 2, encode_watching(0, 1))
    for key in [b"key:%d" % number for number in range(8)]:  # this node coordinates some of them
        node.command(writer.session, [b"SET", key, b"1"], 0)
    assert b"CHANGED" in finish_turn(node).messages[member(2).id]
    node.greeted(member(2).id, 0, (PUBLISHING,))
    assert not node.services.tracking.is_used, "a new process of the peer has no clients yet"


def test_peers_hear_when_the_first_client_tracks_and_when_none_does_any_more() -> None:
    node = make_node(2)
    _connect(node, 2, PUBLISHING)
    clients = [Client(node), Client(node)]
    said = []
    for line in ("ON", "OFF"):
        for client in clients:
            node.command(client.session, f"CLIENT TRACKING {line}".encode().split(), 0)
            said.append(finish_turn(node).messages.get(member(2).id, b"").count(b"WATCHING"))
    assert said == [1, 0, 0, 1]


def test_noted_expiries_are_bounded_and_forgotten(node: Node) -> None:
    client = Client(node)
    client.raw("SET a 1 PX 100", "SET b 1 PX 50", "SET c 1 PX 10", "SET d 1")
    names = (b"a", b"b", b"c", b"d")
    records = {name: node.state.records.get(storage_key_of(name)) for name in names}
    expiries = Expiries(2)
    for name in (b"d", b"a", b"a", b"b", b"c"):
        expiries.note(name, records[name] or b"", WALL_MS)
    assert expiries.due(WALL_MS + 50) == [b"b"], "a is noted once, and there was no room for c"
    expiries.note(b"a", records[b"d"] or b"", WALL_MS)
    assert expiries.due(WALL_MS + 1000) == [], "its expiry was taken away"
    expiries.note(b"a", records[b"a"] or b"", WALL_MS)
    expiries.clear()
    assert expiries.due(WALL_MS + 1000) == []
    tracker = _tracking(node)
    tracker.raw("GET a", "CLIENT TRACKING OFF")
    assert node.services.tracking._expiries.due(WALL_MS + 1000) == []


def test_what_has_expired_is_told_although_it_is_read_before_the_next_tick(node: Node) -> None:
    records = []
    for line in ("SET a 1 PX 100", "SET a 1 PX 5000"):
        Client(node).raw(line)
        records.append(node.state.records.get(storage_key_of(b"a")) or b"")
    for later in records:
        expiries = Expiries(2)
        expiries.note(b"a", records[0], WALL_MS)
        expiries.note(b"a", later, WALL_MS + 101)
        assert expiries.due(WALL_MS + 101) == [b"a"]


def test_changes_at_a_peer_are_told_here() -> None:
    node = make_node(2)
    _connect(node, 2, PUBLISHING)
    client = _tracking(node, "BCAST", "PREFIX", "user:")
    assert _receive(node, 2, encode_changed(0, [b"user:1", b"x", b"user:2"])) == {
        client.session: _invalid(b"user:1", b"user:2")
    }


@pytest.mark.parametrize("options", ["", "BCAST"])
@pytest.mark.parametrize(
    ("made", "read"),
    [
        ("SET a 1 PX 300", "GET a"),
        ("HSET h f 1 g 2", "HGETALL h"),
        ("RPUSH l x", "LRANGE l 0 -1"),
        ("SET c 1 EX 100", "GET c"),
    ],
)
def test_what_expires_is_told_as_it_does(node: Node, options: str, made: str, read: str) -> None:
    key = read.split()[1]
    limit = {"h": "HPEXPIRE h 300 FIELDS 1 f", "l": "PEXPIRE l 300", "c": "PEXPIRE c 300"}
    Client(node).raw(made)
    if key in limit:
        Client(node).raw(limit[key])
    node.services.tracking._expiries.clear()  # it was written before anybody tracked
    client = _tracking(node, options)
    client.raw(read)
    told = []
    for now_ms in range(0, 1000, 50):
        node.tick(now_ms, WALL_MS + now_ms)
        told += [(now_ms, data) for session, data in finish_turn(node).pushes if session is client.session]
    assert told == [(300, _invalid(key.encode()))]


@pytest.mark.parametrize("call", ["EVAL text 2 {t}a {t}b", "EVAL_RO text 2 {t}a {t}b", "EVALSHA {sha} 2 {t}a {t}b"])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_what_a_script_names_is_tracked(node: Node, call: str, in_transaction: bool) -> None:
    node.services.scripts.make_engine = lambda: Engine(lambda run: run([b"GET", b"{t}a"], False))
    sha = Client(node).ask("SCRIPT LOAD text")
    client = _tracking(node)
    call = call.replace("{sha}", sha)
    client.raw(*(("MULTI", call, "EXEC") if in_transaction else (call,)))
    finish_turn(node)
    assert _told(node, client, "SET {t}a 1", "SET {t}b 1") == _invalid(b"{t}a", b"{t}b")


def test_bcast_tells_all_changes_of_its_prefixes_in_one_push(node: Node) -> None:
    client = _tracking(node, "BCAST PREFIX user: PREFIX item:")
    client.raw("GET other")
    assert _told(node, client, "SET user:1 x", "SET other x", "SET item:1 x", "SET user:1 y") == _invalid(
        b"user:1", b"item:1"
    )
    assert node.services.tracking.prefixes and not node.services.tracking.keys
    everything = _tracking(node, "BCAST")
    assert _told(node, everything, "SET k x") == _invalid(b"k")
    everything.raw("RESET")
    node.close_session(client.session)
    assert not node.services.tracking.prefixes and not node.services.tracking.clients


def test_optin_and_optout(node: Node) -> None:
    client = _tracking(node, "OPTIN")
    client.raw("GET a", "CLIENT CACHING YES", "GET b", "GET c")
    assert _told(node, client, "SET a 1", "SET b 1", "SET c 1") == _invalid(b"b")
    client = _tracking(node, "OPTOUT")
    client.raw("GET a", "CLIENT CACHING NO", "GET b", "GET c")
    assert _told(node, client, "SET a 1", "SET b 1", "SET c 1") == _invalid(b"a", b"c")


def test_what_a_transaction_reads_is_tracked(node: Node) -> None:
    client = _tracking(node, "OPTIN")
    client.raw("CLIENT CACHING YES", "MULTI", "GET {t}a", "GET {t}b", "EXEC", "GET {t}c")
    assert _told(node, client, "SET {t}a 1", "SET {t}b 1", "SET {t}c 1") == _invalid(b"{t}a", b"{t}b")


def test_what_a_transaction_reads_is_told_behind_its_own_reply(node: Node) -> None:
    client = _tracking(node)
    client.raw("MULTI", "GET {t}a", "EXEC")
    assert _told(node, client, "SET {t}a 1") == _invalid(b"{t}a"), "and not behind the next one"


def test_keys_of_all_databases_are_tracked_by_their_names(node: Node) -> None:
    client = _tracking(node)
    client.raw("SELECT 3", "GET a")
    assert _told(node, client, "SET a 1") == _invalid(b"a"), "of another database, as in Redis"


def test_a_subscriber_in_resp2_is_told_for_another(node: Node) -> None:
    listener = Client(node)
    listener.raw("SUBSCRIBE __redis__:invalidate")
    client = Client(node)
    assert client.ask(f"CLIENT TRACKING ON REDIRECT {listener.session.id}") == "OK"
    client.raw("GET a")
    assert client.ask("CLIENT GETREDIR") == listener.session.id
    assert _told(node, listener, "SET a 1") == (
        b"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\na\r\n"
    )
    client.raw("HELLO 3", "GET b")
    node.close_session(listener.session)
    assert _told(node, client, "SET b 1") == b">2\r\n$21\r\ntracking-redir-broken\r\n:%d\r\n" % listener.session.id
    assert "broken_redirect" in client.ask("CLIENT TRACKINGINFO")["flags"]


def test_the_table_is_bounded() -> None:
    node = make_node(1, replace(CONFIG, tracked_keys_max=2))
    client = _tracking(node)
    client.raw("GET a", "GET b")
    node.command(client.session, [b"GET", b"c"], 0)
    assert dict(finish_turn(node).pushes) == {client.session: _invalid(b"a")}
    assert list(node.services.tracking.keys) == [b"b", b"c"]


def test_a_node_that_would_not_tell_is_named() -> None:
    node = make_node(2)
    node.connected(member(2).id, 0, (b"users",))
    finish_turn(node)
    assert Client(node).error("CLIENT TRACKING ON").endswith("n2")


def test_client_list_and_info(node: Node) -> None:
    client = _tracking(node)
    client.raw("GET a", "GET b")
    assert "flags=t " in client.ask("CLIENT INFO") and "redir=0 " in client.ask("CLIENT INFO")
    info = Client(node).ask("INFO")
    assert "tracking_clients:1\r\n" in info and "tracking_total_keys:2\r\n" in info
