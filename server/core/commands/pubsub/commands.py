"""SUBSCRIBE and its kin, PUBLISH and SPUBLISH (https://redis.io/docs/latest/develop/pubsub/).

Theory. Subscribing answers once for each channel; all these replies are one for dispatch, so that they leave together.
A message that has gathered for the session goes before them, as it came before.

Very many names are done in slices. The replies for the names of a slice leave with it, as messages do. So the reply for a
channel still comes before the channel's first message.

These commands run ALONE on their connection: what was sent before a PUBLISH has happened when its message arrives.

A sharded channel is one more table of channels here, and not bound to a node: every node serves it, and SPUBLISH through
any node reaches the subscribers of all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
from server.core.commands.slices import next_turn
from server.core.commands.spec import ALONE, CommandSpec, Handler
from server.core.pubsub.subscriptions import push
from server.core.records.slicing import parts_of
from server.core.services.services import Services
from server.core.work.procedures import Steps

_SUBSCRIBE = {CHANNEL: b"subscribe", PATTERN: b"psubscribe", SHARD: b"ssubscribe"}
_SLICE_NAMES = 2048  # about 5 ms
_SLICE_PATTERNS = 128  # the same: each is compiled
_UNSUBSCRIBE = {CHANNEL: b"unsubscribe", PATTERN: b"punsubscribe", SHARD: b"sunsubscribe"}


def _confirmation(word: bytes, name: bytes, count: int, resp3: bool) -> bytes:
    """The reply for one name, which is encoded already."""
    return push(3, b"%b%b%b" % (resp.bulk(word), name, resp.integer(count)), resp3)


def _gathered(services: Services, sink: Sink) -> bytes:
    """The messages that go before the reply: none within EXEC, whose reply they would be items of."""
    return services.subscriptions.drain_session(sink) if isinstance(sink, Session) and sink.client() is sink else b""


def _subscriber(kind: int) -> Handler:
    """SUBSCRIBE channel …, PSUBSCRIBE pattern …, SSUBSCRIBE shardchannel …"""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        session, subscriptions, config = session_of(sink), services.subscriptions, services.state.config

        def check(name: bytes) -> None:
            check_sizes(name, b"", config)
            if kind == PATTERN:
                glob_of(name, config)

        def subscribe(name: bytes) -> bytes:
            count = subscriptions.subscribe(session, kind, name)
            return _confirmation(_SUBSCRIBE[kind], resp.bulk(name), count, session.resp3)

        return _each_name(services, sink, number, args[1:], check, subscribe, _size(kind))

    return handle


def _size(kind: int) -> int:
    return _SLICE_PATTERNS if kind == PATTERN else _SLICE_NAMES


def _each_name(
    services: Services,
    sink: Sink,
    number: int,
    names: list[bytes],
    check: Callable[[bytes], None],
    change: Callable[[bytes], bytes],
    size: int,
) -> bytes | None:
    """Checks all names, then does something with each, which returns its reply. Few are done at once."""
    if len(names) > size:
        services.run_steps(_in_slices(services, sink, names, check, change, size), sink, number)
        return None
    for name in names:
        check(name)
    gathered = _gathered(services, sink)
    replies, _ = _replies(services, session_of(sink), names, change)
    return gathered + replies


def _in_slices(
    services: Services,
    sink: Sink,
    names: list[bytes],
    check: Callable[[bytes], None],
    change: Callable[[bytes], bytes],
    size: int,
) -> Steps:
    session = session_of(sink)
    kept: list[bytes] = []
    for part in parts_of(names, size):
        for name in part:
            check(name)
        yield next_turn(services)
    for place, part in enumerate(parts_of(names, size)):
        if place:
            if session.client() is sink and not session.muted:
                services.subscriptions.send(session, b"".join(kept))
                kept = []
            yield next_turn(services)
        if session.has_left:
            break
        replies, is_over = _replies(services, session, part, change)
        kept.append(replies)
        if is_over:
            break
    return _gathered(services, sink) + b"".join(kept)


def _replies(
    services: Services, session: Session, names: Sequence[bytes], change: Callable[[bytes], bytes]
) -> tuple[bytes, bool]:
    """The replies for these names, and whether the last one is an error."""
    replies: list[bytes] = []
    error = b""
    for name in names:
        try:
            replies.append(change(name))
        except CommandError as failure:
            error = failure.reply
            break
    review_guard(services, session)
    return b"".join(replies) + error, bool(error)


def _unsubscriber(kind: int) -> Handler:
    """UNSUBSCRIBE [channel …], PUNSUBSCRIBE [pattern …], SUNSUBSCRIBE [shardchannel …]: from all, if none is named."""

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> bytes | None:
        session, subscriptions, word = session_of(sink), services.subscriptions, _UNSUBSCRIBE[kind]
        present = session.subscriber.names[kind] if session.subscriber is not None else ()

        def unsubscribe(name: bytes) -> bytes:
            count = subscriptions.unsubscribe(session, kind, name)
            return _confirmation(word, resp.bulk(name), count, session.resp3)

        if names := args[1:] or list(present):
            return _each_name(services, sink, number, names, lambda name: None, unsubscribe, _size(kind))
        count = session.subscriber.count(kind) if session.subscriber is not None else 0
        return _gathered(services, sink) + _confirmation(word, resp.null(session.resp3), count, session.resp3)

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
