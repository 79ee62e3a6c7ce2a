"""Publish/subscribe at one node and between nodes: what subscribers get, in which order, in both protocols."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import PUBLISHING
from protocol.resp import bulk
from server.core.base.config import Config
from server.core.base.sinks import Session
from server.core.messages.publications import Publication, encode_published
from server.core.node import Node
from server.core.outbox import Outbox
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node, member

NO_CHANNEL = "NOPERM this user has no permissions to access one of the channels used as arguments"


@pytest.fixture
def node() -> Node:
    """A node that serves all keys alone."""
    return make_node(1)


def _words(sign: bytes, *words: bytes | int) -> bytes:
    return b"%b%d\r\n" % (sign, len(words)) + b"".join(
        [b":%d\r\n" % word if isinstance(word, int) else bulk(word) for word in words]
    )


def _pushed(node: Node, publisher: Client, *lines: str) -> dict[Session, bytes]:
    publisher.raw(*lines)
    return publisher.pushed


def _messages(outbox: Outbox, number: int) -> list[list[Any]]:
    """The messages for a member that travel in order."""
    reader = FrameReader(1 << 20)
    reader.feed(seal(outbox.large.get(member(number).id, [])))
    found = []
    while (message := reader.next()) is not None:
        found.append(message)
    return found


def _connect(node: Node, number: int, capabilities: tuple[bytes, ...]) -> None:
    node.connected(member(number).id, 0, capabilities)
    node.greeted(member(number).id, 0, capabilities)
    finish_turn(node)


def test_replies_count_channels_and_patterns_together_and_sharded_ones_apart(node: Node) -> None:
    client = Client(node)
    assert client.raw("SUBSCRIBE a b a") == b"".join(
        [_words(b"*", b"subscribe", name, count) for name, count in ((b"a", 1), (b"b", 2), (b"a", 2))]
    )
    assert client.raw("PSUBSCRIBE x*") == _words(b"*", b"psubscribe", b"x*", 3)
    assert client.raw("SSUBSCRIBE s") == _words(b"*", b"ssubscribe", b"s", 1)
    assert client.raw("UNSUBSCRIBE") == _words(b"*", b"unsubscribe", b"a", 2) + _words(b"*", b"unsubscribe", b"b", 1)
    assert client.raw("UNSUBSCRIBE") == b"*3\r\n$11\r\nunsubscribe\r\n$-1\r\n:1\r\n"
    assert client.raw("PUNSUBSCRIBE y") == _words(b"*", b"punsubscribe", b"y", 1)
    assert client.raw("PUNSUBSCRIBE") == _words(b"*", b"punsubscribe", b"x*", 0)
    assert client.raw("SUNSUBSCRIBE") == _words(b"*", b"sunsubscribe", b"s", 0)
    assert client.raw("SUNSUBSCRIBE") == b"*3\r\n$12\r\nsunsubscribe\r\n$-1\r\n:0\r\n"
    assert client.session.guard is None and client.session.subscriber is None
    assert not any(node.services.subscriptions.tables) and not node.services.subscriptions.clients


def test_each_channel_of_very_many_is_confirmed_before_its_first_message(node: Node) -> None:
    names, (client, publisher) = [b"c%d" % number for number in range(9000)], (Client(node), Client(node))
    node.command(client.session, [b"SUBSCRIBE", *names], 0)
    received = b""
    for now_ms in range(1, 20):
        publisher.raw("PUBLISH c0 first", "PUBLISH c8999 last")
        received += publisher.pushed.get(client.session, b"")
        node.wake(now_ms)
        outbox = finish_turn(node)
        received += b"".join(bytes(data) for session, data in outbox.replies if session is client.session)
        received += b"".join(data for session, data in outbox.pushes if session is client.session)
    for name, count, text in ((b"c0", 1, b"first"), (b"c8999", 9000, b"last")):
        confirmed = received.index(_words(b"*", b"subscribe", name, count))
        assert received.count(_words(b"*", b"message", name, text)) > 0
        assert confirmed < received.index(_words(b"*", b"message", name, text))
    assert received.count(b"subscribe\r\n") == 9000
    assert client.raw("PING") == _words(b"*", b"pong", b"")


def test_a_client_that_leaves_while_it_subscribes_leaves_nothing(node: Node) -> None:
    client = Client(node)
    node.command(client.session, [b"SUBSCRIBE", *[b"c%d" % number for number in range(9000)]], 0)
    finish_turn(node)
    for now_ms in range(1, 20):
        if now_ms == 4:
            node.close_session(client.session)
        node.wake(now_ms)
        finish_turn(node)
    assert not any(node.services.subscriptions.tables) and not node.services.subscriptions.clients


def test_a_message_reaches_each_subscription_in_the_protocol_of_its_client(node: Node) -> None:
    two, three, other = Client(node), Client(node), Client(node)
    three.raw("HELLO 3")
    two.raw("SUBSCRIBE news", "PSUBSCRIBE n* ?ews z*")
    three.raw("SUBSCRIBE news")
    other.raw("SSUBSCRIBE news")
    publisher = Client(node)
    assert publisher.raw("PUBLISH news hello") == b":4\r\n"
    assert publisher.pushed == {
        two.session: _words(b"*", b"message", b"news", b"hello")
        + _words(b"*", b"pmessage", b"n*", b"news", b"hello")
        + _words(b"*", b"pmessage", b"?ews", b"news", b"hello"),
        three.session: _words(b">", b"message", b"news", b"hello"),
    }
    assert publisher.raw("SPUBLISH news x") == b":1\r\n"
    assert publisher.pushed == {other.session: _words(b"*", b"smessage", b"news", b"x")}
    assert publisher.raw("PUBLISH other x") == b":0\r\n" and publisher.pushed == {}


def test_who_unsubscribes_takes_only_its_own_subscription(node: Node) -> None:
    stays, leaves, publisher = Client(node), Client(node), Client(node)
    for client in (stays, leaves):
        client.raw("SUBSCRIBE a", "PSUBSCRIBE a*")
    leaves.raw("UNSUBSCRIBE a", "PUNSUBSCRIBE a*")
    pushed = _pushed(node, publisher, "PUBLISH a 1")
    assert list(pushed) == [stays.session] and pushed[stays.session].count(b"message") == 2
    stays.raw("UNSUBSCRIBE", "PUNSUBSCRIBE")
    assert publisher.ask("PUBLISH a 1") == 0 and publisher.pushed == {}
    assert publisher.ask("PUBSUB NUMPAT") == 0 and publisher.ask("PUBSUB CHANNELS") == []


def test_a_message_before_unsubscribing_stands_before_its_reply(node: Node) -> None:
    client, publisher = Client(node), Client(node)
    client.raw("SUBSCRIBE a")
    node.command(publisher.session, [b"PUBLISH", b"a", b"1"], 0)
    assert client.raw("UNSUBSCRIBE a") == _words(b"*", b"message", b"a", b"1") + _words(b"*", b"unsubscribe", b"a", 0)
    assert client.pushed == {}


def test_a_subscriber_in_resp2_says_only_what_it_can_tell_from_messages(node: Node) -> None:
    client = Client(node)
    client.raw("SUBSCRIBE a")
    refused = (
        "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this "
        "context"
    )
    assert client.error("GET k") == refused.format("get")
    assert client.error("client id") == refused.format("client|id")
    assert client.error("FOO") == "ERR unknown command 'FOO', with args beginning with: "
    assert client.error("GET") == "ERR wrong number of arguments for 'get' command"
    assert client.ask("PING") == ["pong", ""] and client.ask("PING x") == ["pong", "x"]
    client.raw("UNSUBSCRIBE")
    assert client.ask("PING") == "PONG" and client.ask("GET k") is None


def test_a_subscriber_in_resp3_says_anything_until_it_goes_back(node: Node) -> None:
    client = Client(node)
    client.raw("HELLO 3", "SUBSCRIBE a")
    assert client.ask("SET k v") == "OK" and client.ask("GET k") == "v" and client.ask("PING") == "PONG"
    assert client.raw("PUBLISH a x") == b":1\r\n"
    assert client.pushed == {client.session: _words(b">", b"message", b"a", b"x")}
    client.raw("HELLO 2")
    assert client.error("GET k").startswith("ERR Can't execute 'get'")
    assert client.raw("RESET") == b"+RESET\r\n"
    assert client.ask("GET k") == "v" and not any(node.services.subscriptions.tables)


def test_the_end_of_a_connection_ends_its_subscriptions(node: Node) -> None:
    client, publisher = Client(node), Client(node)
    client.raw("SUBSCRIBE a", "PSUBSCRIBE b*")
    node.command(publisher.session, [b"PUBLISH", b"a", b"1"], 0)
    node.close_session(client.session)
    assert finish_turn(node).pushes == []
    assert publisher.raw("PUBLISH a x") == b":0\r\n" and not any(node.services.subscriptions.tables)


def test_a_client_that_is_closing_gets_no_more(node: Node) -> None:
    client, publisher = Client(node), Client(node)
    client.raw("SUBSCRIBE a", "QUIT")
    assert publisher.raw("PUBLISH a x") == b":0\r\n" and publisher.pushed == {}


def test_names_are_bounded() -> None:
    node = make_node(1, replace(CONFIG, subscriptions_bytes_max=450, pattern_bytes_max=10, key_bytes_max=20))
    client = Client(node)
    said = client.raw("SUBSCRIBE a b c")
    assert said.startswith(
        _words(b"*", b"subscribe", b"a", 1) + _words(b"*", b"subscribe", b"b", 2) + b"-ERR the names"
    )
    client.raw("UNSUBSCRIBE")
    assert client.raw("SUBSCRIBE c") == _words(b"*", b"subscribe", b"c", 1)
    client.raw("RESET")
    assert "pattern_bytes_max" in client.error("PSUBSCRIBE " + "x" * 11)
    assert "key_bytes_max" in client.error("SUBSCRIBE " + "x" * 21)


def test_what_a_client_list_and_info_tell(node: Node) -> None:
    client, admin = Client(node), Client(node)
    client.raw("SUBSCRIBE a b", "PSUBSCRIBE c*", "SSUBSCRIBE s t u")
    line = admin.ask("CLIENT LIST TYPE pubsub")
    assert "flags=P " in line and "sub=2 psub=1 ssub=3 " in line and line.count("\n") == 1
    assert admin.ask("CLIENT LIST TYPE normal").count("\n") == 1
    info = admin.ask("INFO")
    assert "pubsub_channels:2\r\n" in info and "pubsub_patterns:1\r\n" in info and "pubsubshard_channels:3\r\n" in info
    assert "pubsub_clients:1\r\n" in info
    assert admin.ask("CLIENT KILL TYPE pubsub") == 1


def test_pubsub_tells_what_is_subscribed_to_here(node: Node) -> None:
    client, admin = Client(node), Client(node)
    client.raw("SUBSCRIBE a b", "PSUBSCRIBE a* b*", "SSUBSCRIBE s")
    assert admin.ask("PUBSUB CHANNELS") == ["a", "b"] and admin.ask("PUBSUB CHANNELS b*") == ["b"]
    assert admin.ask("PUBSUB NUMSUB a x") == ["a", 1, "x", 0] and admin.ask("PUBSUB NUMSUB") == []
    assert admin.ask("PUBSUB NUMPAT") == 2
    assert admin.ask("PUBSUB SHARDCHANNELS") == ["s"] and admin.ask("PUBSUB SHARDNUMSUB s") == ["s", 1]


def test_a_transaction_publishes_and_subscribes(node: Node) -> None:
    listener, client = Client(node), Client(node)
    listener.raw("SUBSCRIBE a")
    client.raw("MULTI", "PUBLISH a 1", "SET k v", "PUBLISH a 2")
    assert client.pushed == {}
    client.raw("EXEC")
    assert client.pushed == {
        listener.session: _words(b"*", b"message", b"a", b"1") + _words(b"*", b"message", b"a", b"2")
    }
    client.raw("MULTI", "SUBSCRIBE a")
    assert client.raw("EXEC") == b"*1\r\n" + _words(b"*", b"subscribe", b"a", 1)
    assert client.error("GET k").startswith("ERR Can't execute 'get'")


# --- rights


def test_channels_need_the_right_to_them(node: Node) -> None:
    admin, app = Client(node), Client(node)
    admin.raw("ACL SETUSER app on >pw +@all ~* &news:*")
    app.raw("AUTH app pw")
    assert app.error("SUBSCRIBE news:1 other") == NO_CHANNEL and app.error("PUBLISH other x") == NO_CHANNEL
    assert app.error("PSUBSCRIBE n*") == NO_CHANNEL, "a pattern must be one of the user's own"
    assert app.error("SPUBLISH other x") == NO_CHANNEL and app.error("SSUBSCRIBE other") == NO_CHANNEL
    assert app.ask("PUBLISH news:1 x") == 0
    assert app.raw("PSUBSCRIBE news:*") and app.raw("UNSUBSCRIBE other") and app.raw("SUBSCRIBE news:1")
    assert admin.ask("ACL LOG 1")[0][3] == "channel"
    assert admin.ask("ACL DRYRUN app publish other x") == ("This user has no permissions to access the 'other' channel")


def test_losing_the_right_to_a_channel_ends_the_connection(node: Node) -> None:
    admin, app, other = Client(node), Client(node), Client(node)
    admin.raw("ACL SETUSER app on >pw +@all ~* &news:* &x")
    for client, channel in ((app, "news:1"), (other, "x")):
        client.raw("AUTH app pw", f"SUBSCRIBE {channel}")
    admin.raw("ACL SETUSER app resetchannels &x")
    assert admin.closing == [app.session] and not other.session.closing
    admin.raw("ACL SETUSER app allchannels")
    assert not other.session.closing


# --- between nodes


def test_a_message_goes_to_each_node_that_takes_it_once_a_turn() -> None:
    node = make_node(3)
    _connect(node, 2, (PUBLISHING,))
    _connect(node, 3, (b"users",))
    client = Client(node)
    for words in ([b"PUBLISH", b"a", b"1"], [b"SPUBLISH", b"s", b"2"], [b"PUBLISH", b"a", b"3"]):
        node.command(client.session, words, 0)
    outbox = finish_turn(node)
    (message,) = _messages(outbox, 2)
    assert message[0] == b"PUBLISHED" and message[3:] == [b"m", b"a", b"1", b"s", b"s", b"2", b"m", b"a", b"3"]
    assert _messages(outbox, 3) == [], "a node of an earlier version does not know the message"
    assert not node.state.trailing


def test_a_node_that_hangs_is_not_asked_for_its_channels() -> None:
    node = make_node(3)
    for number in (2, 3):
        _connect(node, number, (PUBLISHING,))
    node.state.liveness.link_refused(member(3).id, 0)  # what it takes to hold it for suspect at once
    client = Client(node)
    node.command(client.session, [b"PUBSUB", b"CHANNELS"], 0)
    assert [*finish_turn(node).messages] == [member(2).id]


def test_a_node_that_is_behind_misses_messages() -> None:
    node = make_node(2)
    _connect(node, 2, (PUBLISHING,))
    node.state.backlogged[member(2).id] = None
    Client(node).raw("PUBLISH a 1")
    assert node.state.statistics.publications_dropped == 1


def test_a_message_of_another_node_reaches_the_subscribers_here() -> None:
    node = make_node(2)
    _connect(node, 2, (PUBLISHING,))
    client = Client(node)
    client.raw("SUBSCRIBE a", "PSUBSCRIBE *")
    data = encode_published(0, [Publication(False, b"a", b"1"), Publication(True, b"a", b"2")])
    reader = FrameReader(1 << 20)
    reader.feed(seal([data]))
    message = reader.next()
    assert message is not None
    node.receive(member(2).id, message, 0)
    outbox = finish_turn(node)
    assert outbox.pushes == [
        (client.session, _words(b"*", b"message", b"a", b"1") + _words(b"*", b"pmessage", b"*", b"a", b"1"))
    ]
    assert _messages(outbox, 2) == [], "it is not sent on"


def test_a_large_turn_is_sent_in_several_messages() -> None:
    node = make_node(2, replace(CONFIG, batch_bytes_max=1000))
    _connect(node, 2, (PUBLISHING,))
    client = Client(node)
    for number in range(20):
        node.command(client.session, [b"PUBLISH", b"a", b"%0100d" % number], 0)
    messages = _messages(finish_turn(node), 2)
    assert len(messages) > 1
    assert [payload for message in messages for payload in message[5::3]] == [
        b"%0100d" % number for number in range(20)
    ]


def test_config_has_redis_limits() -> None:
    assert (Config().push_bytes_max, Config().push_soft_bytes_max, Config().push_soft_ms) == (32 << 20, 8 << 20, 60_000)
