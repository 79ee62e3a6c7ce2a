"""Streams: entries in the order of their ids, trimming, ranges, waiting; and what two sides of a partition have added."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from protocol.frames import FrameReader
from protocol.peer_versions import XREADS
from server.core.base.sinks import Session, Sink
from server.core.commands.streams import edits
from server.core.commands.streams.ids import LAST, Id, id_of, parse_bound
from server.core.commands.streams.queries import entries_back_from, entries_from
from server.core.commands.typed import reply_now
from server.core.node import Node
from server.core.records.draft import Draft
from server.core.records.kinds import STREAM
from server.core.records.versions import merge, verify
from server.core.records.views import View
from server.core.waiting.blocked import BlockedClient
from tests.core.commands.talking import WALL_MS, Client, finish_turn, make_node, member
from tests.core.commands.test_users_apart import Cluster

NOW_MS = 1_000_000
SINK = Sink()
UNBALANCED = "ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified."


def change(record: bytes | None, line: str, actor: bytes, counter: int) -> bytes:
    """The record after a command."""
    draft = Draft(record, NOW_MS, STREAM)
    words = [word.encode() for word in line.split()]
    function: Callable[[Draft, list[bytes], Sink], Any] = getattr(edits, words[0].decode())
    reply_now(function(draft, words, SINK))
    return draft.record(actor, counter)


def ids_of(record: bytes) -> list[bytes]:
    return [id_of(field).text() for field, _ in View(record, NOW_MS).items()]


@pytest.fixture
def client() -> Client:
    return Client(make_node())


def test_entries_stand_in_the_order_of_their_ids(client: Client) -> None:
    assert client.ask("XADD s 1-1 a 1 b 2") == "1-1"
    assert client.ask("XADD s 1-* c 3") == "1-2"
    assert client.ask("XADD s 255 d 4") == "255-0"
    assert client.ask("XADD s 256 e 5") == "256-0"
    assert client.ask("XLEN s") == 4
    assert client.ask("TYPE s") == "stream"
    assert client.ask("OBJECT ENCODING s") == "stream"
    assert client.ask("XRANGE s - +") == [
        ["1-1", ["a", "1", "b", "2"]], ["1-2", ["c", "3"]], ["255-0", ["d", "4"]], ["256-0", ["e", "5"]],
    ]  # fmt: skip
    assert client.ask("XRANGE s (1-1 255 COUNT 1") == [["1-2", ["c", "3"]]]
    assert client.ask("XREVRANGE s + - COUNT 2") == [["256-0", ["e", "5"]], ["255-0", ["d", "4"]]]
    assert client.ask("XRANGE s 1 1") == [["1-1", ["a", "1", "b", "2"]], ["1-2", ["c", "3"]]]
    assert client.ask("XDEL s 1-2 7-7 256") == 2
    assert client.ask("XLEN s") == 2
    assert client.ask("XRANGE none - +") == []


def test_ids_of_the_node_grow(client: Client) -> None:
    first, second = client.ask("XADD s * a 1"), client.ask("XADD s * a 2")
    assert first == f"{WALL_MS}-0" and second == f"{WALL_MS}-1"
    assert client.ask(f"XADD s {WALL_MS + 5} a 3") == f"{WALL_MS + 5}-0"
    assert client.ask("XADD s * a 4") == f"{WALL_MS + 5}-1", "also when the clock is behind the last one"


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("XADD s 5-1 a 1", "ERR The ID specified in XADD is equal or smaller than the target stream top item"),
        ("XADD s 4-* a 1", "ERR The ID specified in XADD is equal or smaller than the target stream top item"),
        ("XADD s 0-0 a 1", "ERR The ID specified in XADD must be greater than 0-0"),
        ("XADD s x a 1", "ERR Invalid stream ID specified as stream command argument"),
        ("XADD s 18446744073709551616 a 1", "ERR Invalid stream ID specified as stream command argument"),
        ("XADD s * a", "ERR wrong number of arguments for 'xadd' command"),
        ("XADD s * a 1 b", "ERR wrong number of arguments for 'xadd' command"),
        ("XADD s MAXLEN -1 * a 1", "ERR The MAXLEN argument must be >= 0."),
        ("XADD s MAXLEN 1 LIMIT 1 * a 1", "ERR syntax error, LIMIT cannot be used without the special ~ option"),
        ("XTRIM s MAXLEN 1 MORE", "ERR syntax error"),
        ("XTRIM s LEAST 1", "ERR syntax error"),
        ("XREAD COUNT 1 s 0", "ERR syntax error"),
        ("XREAD STREAMS a b 0", UNBALANCED),
        ("XREAD BLOCK -1 STREAMS s 0", "ERR timeout is negative"),
        ("XRANGE s (+ -", "ERR Invalid stream ID specified as stream command argument"),
        ("XLEN text", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("XREAD STREAMS text 0", "WRONGTYPE Operation against a key holding the wrong kind of value"),
        ("GET s", "WRONGTYPE Operation against a key holding the wrong kind of value"),
    ],
)  # fmt: skip
def test_errors_are_those_of_redis(client: Client, line: str, error: str) -> None:
    client.ask("XADD s 5-1 a 1")
    client.ask("SET text t")
    assert client.error(line) == error
    assert client.ask("XLEN s") == 1


def test_old_entries_are_trimmed(client: Client) -> None:
    for number in range(1, 351):
        client.ask(f"XADD s {number} a 1")
    assert client.ask("XTRIM s MAXLEN ~ 200") == 100, "whole nodes of a hundred"
    assert client.ask("XTRIM s MAXLEN ~ 10 LIMIT 50") == 50
    assert client.ask("XTRIM s MAXLEN = 150") == 50
    assert client.ask("XTRIM s MINID 300") == 99
    assert client.ask("XADD s MAXLEN 3 400 a 1") == "400-0"
    assert [entry[0] for entry in client.ask("XRANGE s - +")] == ["349-0", "350-0", "400-0"]
    assert client.ask("XADD none NOMKSTREAM * a 1") is None
    assert client.ask("EXISTS none") == 0
    assert client.ask("XDEL s 349 350 400") == 3
    assert client.ask("EXISTS s") == 0


def test_streams_are_read_behind_ids(client: Client) -> None:
    for number in (1, 2, 3):
        client.ask(f"XADD s {number} a {number}")
    client.ask("XADD t 7 b 7")
    assert client.ask("XREAD STREAMS s t 1 6") == [
        ["s", [["2-0", ["a", "2"]], ["3-0", ["a", "3"]]]], ["t", [["7-0", ["b", "7"]]]],
    ]  # fmt: skip
    assert client.ask("XREAD COUNT 1 STREAMS s t 0 7") == [["s", [["1-0", ["a", "1"]]]]]
    assert client.ask("XREAD STREAMS s none $ 0") is None
    assert client.ask("COMMAND GETKEYS XREAD COUNT 1 STREAMS s t 0 7") == ["s", "t"]


def test_a_client_waits_for_entries() -> None:
    node = make_node()
    reader, writer = Client(node), Client(node)
    writer.ask("XADD s 1 a 1")
    assert reader.raw("XREAD BLOCK 5000 STREAMS s $") == b""
    writer.ask("XADD s 2 a 2")
    assert b"2-0" in reader.raw(), "without a look at the clock"
    assert reader.raw("XREAD BLOCK 100 STREAMS s $") == b""
    node.tick(400, WALL_MS + 400)
    assert reader.raw() == b"*-1\r\n"
    assert node.services.waiting.rows.count == 0


def turns(node: Node, count: int) -> dict[Session, bytes]:
    """What the node says to each session in so many turns."""
    said: dict[Session, bytes] = {}
    for _ in range(count):
        for session, data in finish_turn(node).replies:
            said[session] = said.get(session, b"") + data
    return said


def test_all_who_wait_are_told_of_an_entry_and_those_behind_a_later_id_wait_on() -> None:
    node = make_node()
    readers, patient, writer = [Client(node) for _ in range(200)], Client(node), Client(node)
    patient.raw("XREAD BLOCK 0 STREAMS s 9")
    for reader in readers:
        reader.raw("XREAD BLOCK 0 STREAMS none s 0 $")
    rows = node.services.waiting.rows
    assert rows.count == 401
    writer.raw("XADD s 5 a 1")
    said = turns(node, 20)
    assert [said.get(reader.session) for reader in readers] == [
        b"*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n5-0\r\n*2\r\n$1\r\na\r\n$1\r\n1\r\n"
    ] * 200
    assert rows.count == 1 and patient.session not in said
    calls = count_calls(node)
    turns(node, 10)
    assert calls == [], "nobody is woken before the next change"
    writer.raw("XADD s 10 a 1")
    assert b"10-0" in turns(node, 5)[patient.session] and rows.count == 0


def count_calls(node: Node) -> list[bytes]:
    """The keys for which a client is woken from now on."""
    blocked, calls = node.services.waiting.blocked, list[bytes]()
    woken = blocked.woken

    def note(number: int, key: bytes, at: str) -> None:
        calls.append(key)
        woken(number, key, at)

    blocked.woken = note  # type: ignore[method-assign]
    return calls


def test_a_stream_that_is_deleted_or_replaced_is_waited_for_until_it_is_one_again() -> None:
    node = make_node()
    reader, writer = Client(node), Client(node)
    writer.ask("XADD s 1 a 1")
    assert reader.raw("HELLO 3")
    assert reader.raw("XREAD COUNT 1 BLOCK 0 STREAMS s $") == b""
    for line in ("DEL s", "SET s v", "DEL s", "XADD s 1 a 1"):
        assert reader.session not in turns(node, 3)
        writer.raw(line)
    assert reader.session not in turns(node, 3)
    writer.raw("XADD s 2 a 2", "XADD s 3 a 3")
    assert turns(node, 3)[reader.session] == (b"%1\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n2-0\r\n*2\r\n$1\r\na\r\n$1\r\n2\r\n")


def test_a_reader_that_goes_leaves_no_row() -> None:
    node = make_node()
    reader, unblocked, admin = Client(node), Client(node), Client(node)
    for client in (reader, unblocked):
        assert client.raw("XREAD BLOCK 0 STREAMS s t $ $") == b""
    node.close_session(reader.session)
    assert admin.ask(f"CLIENT UNBLOCK {unblocked.session.id} ERROR") == 1
    turns(node, 3)
    assert node.services.waiting.rows.count == 0 and node.services.waiting.blocked.waiting == 0


class Readers(Cluster):
    """Three nodes, whose replies to clients are kept."""

    def __init__(self) -> None:
        super().__init__(1)
        self.said: dict[Session, bytes] = {}
        for pair in ((0, 1), (0, 2), (1, 2)):
            self.connect(*pair)
        self.run(2000)

    def open(self, place: int, line: str) -> Session:
        """A client that sends one command."""
        session = self.nodes[place].open_session("10.0.0.9:1", "10.0.0.1:1", self.now_ms)
        self.nodes[place].command(session, line.encode().split(), self.now_ms)
        return session

    def _deliver(self, place: int, node: Node) -> int:
        outbox = finish_turn(node)
        for session, data in outbox.replies:
            self.said[session] = self.said.get(session, b"") + data
        for peer, data in outbox.messages.items():
            there = next(number for number in range(3) if member(number + 1).id == peer)
            reader = FrameReader(1 << 20)
            reader.feed(data)
            while (message := reader.next()) is not None:
                self.nodes[there].receive(member(place + 1).id, message, self.now_ms)
        return 0


@pytest.mark.parametrize("is_old", [False, True])
def test_a_client_waits_at_the_coordinator_or_reads_again_where_that_is_of_an_earlier_version(is_old: bool) -> None:
    cluster = Readers()
    if is_old:
        for node in cluster.nodes:
            node.state.capable[XREADS].clear()
    sessions = [cluster.open(place, "XREAD BLOCK 0 STREAMS s $") for place in range(3)]
    cluster.run(1000)
    assert not any(session in cluster.said for session in sessions)
    rows = sum(node.services.waiting.rows.count for node in cluster.nodes)
    assert rows == (1 if is_old else 3), "the coordinator itself needs no capability"
    cluster.open(2, "XADD s 1 a 1")
    cluster.run(1000)
    assert [b"1-0" in cluster.said[session] for session in sessions] == [True] * 3
    assert sum(node.services.waiting.rows.count for node in cluster.nodes) == 0


def test_who_reads_again_does_so_four_times_a_second_however_often_it_is_reviewed() -> None:
    cluster = Readers()
    for node in cluster.nodes:
        node.state.capable[XREADS].clear()
    for place in range(3):
        cluster.open(place, "XREAD BLOCK 0 STREAMS s $")
    cluster.run(1000)
    for line in ("SET s v", "DEL s") * 5:
        cluster.open(0, line)
        for node in cluster.nodes:
            node.services.waiting.blocked._routes = []  # as after a change of routes: all rows are reviewed
        cluster.run(100)
    attempts = [count_attempts(node) for node in cluster.nodes]
    cluster.run(2500)
    own, *others = sorted(map(len, attempts))
    assert own == 0, "the client of the coordinator has a row"
    assert 5 <= min(others) <= max(others) <= 11


def count_attempts(node: Node) -> list[bytes]:
    """The replies of the attempts that end from now on."""
    blocked, replies = node.services.waiting.blocked, list[bytes]()
    tried = blocked.tried

    def note(client: BlockedClient, reply: bytes) -> None:
        replies.append(reply)
        tried(client, reply)

    blocked.tried = note  # type: ignore[method-assign]
    return replies


def test_both_sides_of_a_partition_keep_what_they_have_added() -> None:
    old = change(None, "xadd s 1-0 a old", b"actor-a.", 1)
    one = change(change(old, "xadd s 5-0 a one", b"actor-a.", 2), "xdel s 1-0", b"actor-a.", 3)
    other = change(change(old, "xadd s 4-0 a other", b"actor-b.", 2), "xadd s 5-0 a twin", b"actor-b.", 3)
    both = merge(one, other)
    verify(both)
    assert both == merge(other, one)
    assert ids_of(both) == [b"4-0", b"5-0", b"5-0"]
    after = change(both, "xadd s 6-0 a 1", b"actor-a.", 9)
    assert ids_of(after) == [b"4-0", b"5-0", b"5-0", b"6-0"]
    assert ids_of(change(after, "xtrim s MAXLEN 1", b"actor-a.", 10)) == [b"6-0"]
    assert ids_of(change(after, "xdel s 5-0", b"actor-a.", 10)) == [b"4-0", b"6-0"]


def test_ranges_agree_with_a_list() -> None:
    draft = Draft(None, NOW_MS, STREAM)
    ids = [Id(ms, sequence) for ms in range(0, 3000, 3) for sequence in (1, 5)]
    for each in ids:
        draft.put(each.field(), b"*0\r\n")
    view = View(draft.record(b"actor-a.", 1), NOW_MS)
    assert view.chunks() > 1
    for start, end in [(Id(0, 0), LAST), (Id(300, 5), Id(900, 1)), (Id(301, 0), Id(301, 9)), (Id(9, 9), Id(3, 0))]:
        wanted = [each.field() for each in ids if start <= each <= end]
        assert [field for field, _ in entries_from(view, start, end)] == wanted
        assert [field for field, _ in entries_back_from(view, start, end)] == wanted[::-1]


def test_bounds() -> None:
    assert parse_bound(b"7", True) == Id(7, 0) and parse_bound(b"7", False) == Id(7, (1 << 64) - 1)
    assert parse_bound(b"(7-3", True) == Id(7, 4) and parse_bound(b"(7-0", False) == Id(6, (1 << 64) - 1)


def test_a_wrong_id_is_told_before_a_wrong_number_of_fields() -> None:
    client = Client(make_node())
    invalid = b"-ERR Invalid stream ID specified as stream command argument\r\n"
    assert client.raw("XADD s x f v f") == client.raw("XADD s x-* f v f") == invalid
    for good in ("*", "5-*", "5", "5-1"):
        assert client.raw(f"XADD s {good} f v f") == b"-ERR wrong number of arguments for 'xadd' command\r\n"
