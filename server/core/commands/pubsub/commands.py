"""SUBSCRIBE and its kin, PUBLISH and SPUBLISH (https://redis.io/docs/latest/develop/pubsub/).

Theory. Subscribing answers once for each channel; all these replies are one for dispatch, so that they leave together.
A message that has gathered for the session goes before them, as it came before.

These commands run ALONE on their connection: what was sent before a PUBLISH has happened when its message arrives.

A sharded channel is one more table of channels here, and not bound to a node: every node serves it, and SPUBLISH through
any node reaches the subscribers of all.
"""

from __future__ import annotations

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Session, Sink
from server.core.base.subscriber import CHANNEL, PATTERN, SHARD
from server.core.commands.arguments import check_sizes
from server.core.commands.glob import glob_of
from server.core.commands.key_specs import NOT_KEY, KeySpec
from server.core.commands.pubsub.asking import PUBSUB
from server.core.commands.pubsub.guard import review_guard
from server.core.commands.shapes import session_of
from server.core.commands.spec import ALONE, CommandSpec, Handler
from server.core.pubsub.subscriptions import push
from server.core.services.services import Services

_SUBSCRIBE = {CHANNEL: b"subscribe", PATTERN: b"psubscribe", SHARD: b"ssubscribe"}
_UNSUBSCRIBE = {CHANNEL: b"unsubscribe", PATTERN: b"punsubscribe", SHARD: b"sunsubscribe"}


def _confirmation(word: bytes, name: bytes, count: int, resp3: bool) -> bytes:
    """The reply for one name, which is encoded already."""
    return push(3, b"%b%b%b" % (resp.bulk(word), name, resp.integer(count)), resp3)


def _gathered(services: Services, sink: Sink) -> bytes:
    """The messages that go before the reply: none within EXEC, whose reply they would be items of."""
    return services.subscriptions.take(sink) if isinstance(sink, Session) and sink.client() is sink else b""


def _subscriber(kind: int) -> Handler:
    """SUBSCRIBE channel …, PSUBSCRIBE pattern …, SSUBSCRIBE shardchannel …"""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        session, subscriptions = session_of(sink), services.subscriptions
        for name in args[1:]:
            check_sizes(name, b"", services.state.config)
            if kind == PATTERN:
                glob_of(name, services.state.config)
        replies = [_gathered(services, sink)]
        for name in args[1:]:
            try:
                count = subscriptions.subscribe(session, kind, name)
            except CommandError as error:
                replies.append(error.reply)
                break
            replies.append(_confirmation(_SUBSCRIBE[kind], resp.bulk(name), count, session.resp3))
        review_guard(services, session)
        return b"".join(replies)

    return handle


def _unsubscriber(kind: int) -> Handler:
    """UNSUBSCRIBE [channel …], PUNSUBSCRIBE [pattern …], SUNSUBSCRIBE [shardchannel …]: from all, if none is named."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        session, subscriptions, word = session_of(sink), services.subscriptions, _UNSUBSCRIBE[kind]
        replies = [_gathered(services, sink)]
        present = session.subscriber.names[kind] if session.subscriber is not None else ()
        for name in args[1:] or list(present):
            count = subscriptions.unsubscribe(session, kind, name)
            replies.append(_confirmation(word, resp.bulk(name), count, session.resp3))
        if len(replies) == 1:
            count = session.subscriber.count(kind) if session.subscriber is not None else 0
            replies.append(_confirmation(word, resp.null(session.resp3), count, session.resp3))
        review_guard(services, session)
        return b"".join(replies)

    return handle


def _publisher(kind: int) -> Handler:
    """PUBLISH channel message, SPUBLISH shardchannel message: how many subscriptions of this node get it."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes:
        check_sizes(args[1], args[2], services.state.config)
        return resp.integer(services.publishing.publish(kind, args[1], args[2]))

    return handle


_FLAGS = "pubsub noscript loading stale"
_SHARDED = (KeySpec(NOT_KEY, 1, last=-1),)


def _subscription(
    name: str,
    arity: int,
    handler: Handler,
    summary: str,
    arguments: str,
    since: str = "2.0.0",
    complexity: str = "O(N)",
    key_specs: tuple[KeySpec, ...] = (),
) -> CommandSpec:
    return CommandSpec(
        name, arity, ALONE, handler, summary, "pubsub", _FLAGS, since=since, complexity=complexity, arguments=arguments,
        key_specs=key_specs,
    )  # fmt: skip


COMMANDS: tuple[CommandSpec, ...] = (
    _subscription(
        "subscribe", -2, _subscriber(CHANNEL), "Gets the messages of channels, through any node.",
        "channel [channel ...]",
    ),
    _subscription(
        "unsubscribe", -1, _unsubscriber(CHANNEL), "Gets the messages of these channels no more, or of none.",
        "[channel [channel ...]]",
    ),
    _subscription(
        "psubscribe", -2, _subscriber(PATTERN), "Gets the messages of all channels that match a pattern.",
        "pattern [pattern ...]",
    ),
    _subscription(
        "punsubscribe", -1, _unsubscriber(PATTERN), "Ends subscriptions by these patterns, or by all.",
        "[pattern [pattern ...]]",
    ),
    _subscription(
        "ssubscribe", -2, _subscriber(SHARD), "Gets the messages of sharded channels, through any node.",
        "shardchannel [shardchannel ...]", "7.0.0", key_specs=_SHARDED,
    ),
    _subscription(
        "sunsubscribe", -1, _unsubscriber(SHARD), "Gets the messages of these sharded channels no more, or of none.",
        "[shardchannel [shardchannel ...]]", "7.0.0", key_specs=_SHARDED,
    ),
    CommandSpec(
        "publish", 3, ALONE, _publisher(CHANNEL),
        "Sends a message to the subscribers of a channel on all nodes; returns how many of this node get it.",
        "pubsub", "pubsub loading stale fast", since="2.0.0", complexity="O(N+M)", arguments="channel message",
    ),
    CommandSpec(
        "spublish", 3, ALONE, _publisher(SHARD),
        "Sends a message to the subscribers of a sharded channel on all nodes; returns how many of this node get it.",
        "pubsub", "pubsub loading stale fast", since="7.0.0", complexity="O(N)", arguments="shardchannel message",
        key_specs=(KeySpec(NOT_KEY, 1),),
    ),
    PUBSUB,
)  # fmt: skip
