"""CLIENT TRACKING with NOLOOP: which changes are a client's own; and what clients that cache are told of a flush."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NoReturn

import pytest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import CAPABILITIES
from protocol.slots import key_slot
from server.core.base.origins import OWN_CHANGES_MAX, OwnChanges
from server.core.base.subscriber import Tracker
from server.core.messages.kinds import encode_relay, encode_relayed
from server.core.messages.publications import KeyChange, encode_altered, encode_flushed, encode_made, encode_watching
from server.core.node import Node
from server.core.records.patch_rows import PREFIX as ROWS
from tests.core.commands.talking import CONFIG, WALL_MS, Client, finish_turn, make_node, member
from tests.core.pubsub.test_tracking import NULL, _connect, _invalid, _receive, _told, _tracking


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone."""
    return make_node(1)


@pytest.mark.parametrize("options", ["", "BCAST"])
@pytest.mark.parametrize(
    "own",
    [
        ("SET a 1",),
        ("SET a 1", "APPEND a 2", "INCR a"),
        ("INCR a", "INCR a"),
        ("SET a 1", "DEL a"),
        ("MSET a 1 b 2",),
        ("MULTI", "SET a 1", "INCR a", "EXEC"),
        ("MULTI", "SET a 1", "SET b 1", "EXEC"),
        ("LPUSH l 1", "BLPOP l 0", "RPUSH l 1 2", "RENAME l a", "COPY a b"),
    ],
)
def test_with_noloop_a_client_is_not_told_of_its_own_changes(node: Node, own: tuple[str, ...], options: str) -> None:
    client = _tracking(node, options, "NOLOOP")
    plain = _tracking(node, options)
    for each in (client, plain):
        each.raw("MGET a b l")
    told = b""
    for line in own:
        client.raw(line)
        told += client.pushed.get(client.session, b"") + dict(finish_turn(node).pushes).get(client.session, b"")
    assert told == b""
    assert _told(node, client, "SET a 3") == _invalid(b"a"), "it is told of the next change by others"
    client.raw("CLIENT TRACKING OFF")
    plain.raw("CLIENT TRACKING OFF")
    assert node.state.records.replaced is None


class _Unscanned(dict[Any, Any]):
    """A dict of which nobody looks at all the entries."""

    def values(self) -> NoReturn:
        """Nobody asks."""
        raise AssertionError("a client that starts or stops looks at all others")

    items = keys = __iter__ = values


def test_a_client_that_starts_or_stops_to_track_does_not_look_at_the_others(node: Node) -> None:
    """Ten thousand clients that left together took seconds."""
    clients = [_tracking(node, "BCAST", f"PREFIX {number}:", "NOLOOP") for number in range(3)]
    tracking = node.services.tracking
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracking, "clients", _Unscanned(tracking.clients))
        patch.setattr(tracking, "prefixes", _Unscanned(tracking.prefixes))
        late = Client(node).session
        tracking.start(late, Tracker(0, ["noloop"], []))
        for session in (late, *(client.session for client in clients)):
            assert node.state.records.replaced is not None
            tracking.stop(session)
        assert node.state.records.replaced is None
        assert not (tracking.clients or tracking.prefixes)


def test_noloop_counts_a_client_that_says_it_again_once(node: Node) -> None:
    client = _tracking(node, "BCAST", "PREFIX d", "NOLOOP")
    client.raw("CLIENT TRACKING ON BCAST PREFIX a NOLOOP")
    assert node.state.records.replaced is not None
    client.raw("CLIENT TRACKING ON BCAST PREFIX b")
    assert node.state.records.replaced is None
    client.raw("CLIENT TRACKING ON BCAST PREFIX c NOLOOP", "CLIENT TRACKING OFF")
    assert node.state.records.replaced is None and not node.services.tracking.prefixes


def test_changes_of_others_in_the_same_turn_are_told_in_spite_of_noloop(node: Node) -> None:
    client, other = _tracking(node, "NOLOOP"), Client(node)
    for line in ("INCR a", "SET a 1", "SADD a 1"):
        client.raw("DEL a", "GET a")
        for each in (client, other, client):
            node.command(each.session, line.encode().split(), 0)
        assert dict(finish_turn(node).pushes).get(client.session) == _invalid(b"a"), line


def test_a_large_record_that_is_stored_as_patch_rows_is_told() -> None:
    node = make_node(1, replace(CONFIG, patch_record_bytes_min=1000))
    client = _tracking(node)
    Client(node).raw("HSET h " + " ".join(f"field:{number} value" for number in range(200)))
    client.raw("HGETALL h")
    outbox_keys = []
    other = Client(node)
    node.command(other.session, b"HSET h field:7 other".split(), 0)
    outbox = finish_turn(node)
    outbox_keys += list(outbox.writes)
    assert any(key.startswith(ROWS) for key in outbox_keys), "a patch row"
    assert dict(outbox.pushes)[client.session] == _invalid(b"h")


class _Home:
    """A node of two with a client that reads and writes a key that the other one coordinates."""

    def __init__(self) -> None:
        self.node = make_node(2)
        _connect(self.node, 2, *CAPABILITIES)
        self.client = _tracking(self.node, "NOLOOP")
        routes, shift = self.node.state.routes, self.node.state.route_shift
        keys = (b"k%d" % number for number in range(100))
        self.key = next(key for key in keys if routes[key_slot(key) >> shift].coordinator_for(False) is not None)
        self.node.services.tracking.note_read(self.client.session, self.tracker, 0, [self.key])

    @property
    def tracker(self) -> Tracker:
        tracker = self.client.session.tracker
        assert tracker is not None
        return tracker

    def begin_write(self) -> int:
        """Relays a SET; the number of the relay."""
        self.node.command(self.client.session, [b"SET", self.key, b"x"], 0)
        assert b"RELAY" in finish_turn(self.node).messages[member(2).id]
        return list(self.node.services.relays._rows)[-1]

    def receive(self, *messages: bytes) -> bytes:
        """What the client is told in the turn of these."""
        told = b""
        for message in messages:
            told += _receive(self.node, 2, message).get(self.client.session, b"")
        return told

    def reply(self, number: int) -> bytes:
        return encode_relayed(0, number, [0], [b"+OK\r\n"])


def test_the_coordinator_tells_which_change_a_relayed_command_has_made() -> None:
    home = _Home()
    own, other = KeyChange(home.key, b"before..", b"after..."), KeyChange(home.key, b"after...", b"others..")
    number = home.begin_write()
    assert home.receive(encode_altered(0, [own])) == b"", "it may be its own"
    assert home.receive(encode_made(0, number, own), home.reply(number)) == b"", "and is"
    assert home.receive(encode_altered(0, [own])) == b"", "another replica"
    assert home.receive(encode_altered(0, [other])) == _invalid(home.key)


@pytest.mark.parametrize("order", ["held", "late"])
def test_a_change_by_others_beside_its_own_is_told_behind_the_reply(order: str) -> None:
    home = _Home()
    own, both = KeyChange(home.key, b"before..", b"after..."), KeyChange(home.key, b"former..", b"after...")
    number = home.begin_write()
    if order == "held":
        assert home.receive(encode_altered(0, [both]), encode_made(0, number, own)) == b""
        assert home.receive(home.reply(number)) == _invalid(home.key), "that replica has got more than the own change"
    else:
        assert home.receive(encode_made(0, number, own), home.reply(number)) == b""
        assert home.receive(encode_altered(0, [both])) == _invalid(home.key)


def test_a_coordinator_names_the_changes_of_relays_only_to_a_peer_that_wants_to_know() -> None:
    node = make_node(2)
    _connect(node, 2, *CAPABILITIES)
    routes, shift = node.state.routes, node.state.route_shift
    keys = (b"k%d" % number for number in range(100))
    key = next(key for key in keys if routes[key_slot(key) >> shift].coordinator_for(False) is None)
    said = []
    for number, wants in enumerate((1, 2, 1, 0)):
        _receive(node, 2, encode_watching(0, wants))
        relay = encode_relay(0, number, 0, [b"0", b"0", b"0"], [[b"SET", key, b"%d" % number]])
        reader = FrameReader(1 << 20)
        reader.feed(seal([relay]))
        items = reader.next()
        assert items is not None
        node.receive(member(2).id, items, 0)
        message = finish_turn(node).messages[member(2).id]
        said.append((message.count(b"MADE"), message.count(b"ALTERED"), message.count(b"CHANGED")))
    assert said == [(0, 0, 1), (1, 1, 0), (0, 0, 1), (0, 0, 0)]


@pytest.mark.parametrize("line", ["FLUSHDB", "FLUSHALL CONFIRM"])
def test_a_flush_drops_all(line: str) -> None:
    node = make_node(1)
    Client(node).raw("SET a 1", "SET b 1")
    cached, broadcast = _tracking(node), _tracking(node, "BCAST")
    cached.raw("GET a")
    other = Client(node)
    other.raw(line)
    said = {}
    for _ in range(20):
        for session, data in finish_turn(node).pushes:
            said[session] = said.get(session, b"") + data
        node.tick(node.state.now_ms + 100, WALL_MS)
    for each in (cached, broadcast):
        assert (other.pushed.get(each.session, b"") + said.get(each.session, b"")) == NULL


def test_a_flush_at_one_node_drops_all_at_the_others() -> None:
    node = make_node(2)
    _connect(node, 2, *CAPABILITIES)
    client = _tracking(node)
    assert _receive(node, 2, encode_flushed(0)) == {client.session: NULL}
    _receive(node, 2, encode_watching(0, 1))
    node.services.tracking.flushed()
    assert b"FLUSHED" in finish_turn(node).messages[member(2).id]


def test_own_changes_in_a_row_are_own_and_their_number_is_bounded() -> None:
    own = OwnChanges()
    for before, after in ((b"1", b"2"), (b"2", b"3"), (b"5", b"1"), (b"8", b"9"), (b"9", b"8")):
        own.made(KeyChange(b"k", before, after))
    assert [own.has_made(KeyChange(b"k", *pair)) for pair in ((b"1", b"2"), (b"1", b"3"), (b"5", b"3"))] == [True] * 3
    assert not any(
        own.has_made(KeyChange(b"k", *pair)) for pair in ((b"2", b"2"), (b"3", b"1"), (b"8", b"7"), (b"4", b"3"))
    )
    assert not own.has_made(KeyChange(b"other", b"1", b"2"))
    for number in range(OWN_CHANGES_MAX):
        own.made(KeyChange(b"n", b"%d" % number, b""))
    assert not own.has_made(KeyChange(b"k", b"1", b"2")) and own.has_made(KeyChange(b"n", b"1", b""))
