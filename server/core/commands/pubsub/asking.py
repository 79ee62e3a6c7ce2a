"""PUBSUB: what the subscribers of all nodes have subscribed to (https://redis.io/docs/latest/commands/pubsub/).

Theory. Every member that can be reached is asked for its names or counts (SUBSCRIPTIONS), and the answers are joined. A
node that does not answer in time is left out, like a subscriber that no message reaches. Names are matched with a pattern
in slices, since there may be many.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.base.subscriber import CHANNEL, PATTERN, SHARD
from server.core.commands.containers import container
from server.core.commands.glob import glob_of
from server.core.commands.shapes import show
from server.core.commands.slices import in_slices
from server.core.commands.spec import IMMEDIATE, CommandSpec, Handler
from server.core.messages.questions import SUBSCRIPTIONS, Subscribed
from server.core.services.services import Services
from server.core.work.procedures import Step, Steps
from server.core.work.questions import READ_PATIENCE_MS, Answers


def subscribed(services: Services, asked: Subscribed) -> list[bytes]:
    """Answers SUBSCRIPTIONS: the names of a kind that this node's clients have subscribed to; or, if names are asked for,
    how many of its clients have subscribed to each."""
    table = services.subscriptions.tables[asked.kind]
    if not asked.names:
        return list(table)
    return [b"%d" % len(table.get(name, ())) for name in asked.names]


def _ask(services: Services, asked: Subscribed) -> Generator[Step, Any, list[list[bytes]]]:
    """The answers of all members that are believed live, this node's first. One that hangs would delay each call."""
    state = services.state
    own = subscribed(services, asked)
    members = state.layout.members if state.layout is not None else ()
    peers = [each.id for each in members if state.is_usable(each.id) and each.id in state.publishing]
    answers: Answers = yield services.questions.ask(peers, SUBSCRIPTIONS, asked, patience_ms=READ_PATIENCE_MS)
    return [own, *[answers[peer] for peer in peers if answers.get(peer)]]


def _answering(steps: Callable[[Services, list[bytes]], Steps]) -> Handler:
    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        services.run_steps(steps(services, args), sink, number)

    return handle


def _names(kind: int) -> Handler:
    """PUBSUB CHANNELS [pattern], PUBSUB SHARDCHANNELS [pattern]: each name once."""

    def steps(services: Services, args: list[bytes]) -> Steps:
        if len(args) > 3:
            raise CommandError(
                f"ERR unknown subcommand or wrong number of arguments for '{show(args[1])}'. Try PUBSUB HELP."
            )
        pattern = glob_of(args[2], services.state.config) if len(args) > 2 else None
        answers = yield from _ask(services, Subscribed(kind, []))
        names = list(dict.fromkeys([name for answer in answers for name in answer]))
        found = names if pattern is None else (yield from in_slices(services, pattern.matching(names)))
        return resp.array([resp.bulk(name) for name in found])

    return _answering(steps)


def _counts(kind: int) -> Handler:
    """PUBSUB NUMSUB [channel …], PUBSUB SHARDNUMSUB [shardchannel …]: each channel and how many have subscribed to it."""

    def steps(services: Services, args: list[bytes]) -> Steps:
        names = args[2:]
        answers = (yield from _ask(services, Subscribed(kind, names))) if names else []
        sums = [sum([int(count) for count in counts]) for counts in zip(*answers, strict=True)]
        pairs = zip(names, sums, strict=True)
        return resp.array([item for name, count in pairs for item in (resp.bulk(name), resp.integer(count))])

    return _answering(steps)


def _pattern_count(services: Services, args: list[bytes]) -> Steps:
    """PUBSUB NUMPAT: how many different patterns there are."""
    answers = yield from _ask(services, Subscribed(PATTERN, []))
    return resp.integer(len(dict.fromkeys([name for answer in answers for name in answer])))


def _sub(
    name: str,
    arity: int,
    handler: Handler,
    summary: str,
    arguments: str = "",
    since: str = "2.8.0",
    complexity: str = "O(N)",
) -> CommandSpec:
    flags = "pubsub loading stale"
    return CommandSpec(
        f"pubsub|{name}", arity, IMMEDIATE, handler, summary, "pubsub", flags, since=since, complexity=complexity,
        arguments=arguments,
    )  # fmt: skip


PUBSUB: CommandSpec = container(
    "pubsub",
    "What the clients of all nodes have subscribed to.",
    "pubsub",
    (
        _sub("channels", -2, _names(CHANNEL), "Returns the channels with subscribers, on any node.", "[pattern]"),
        _sub("numpat", 2, _answering(_pattern_count), "Returns how many patterns are subscribed to.", complexity="O(1)"),
        _sub("numsub", -2, _counts(CHANNEL), "Returns how many have subscribed to channels.", "[channel [channel ...]]"),
        _sub(
            "shardchannels", -2, _names(SHARD), "Returns the sharded channels with subscribers, on any node.",
            "[pattern]", "7.0.0",
        ),
        _sub(
            "shardnumsub", -2, _counts(SHARD), "Returns how many have subscribed to sharded channels.",
            "[shardchannel [shardchannel ...]]", "7.0.0",
        ),
    ),
    since="2.8.0",
    help_since="6.2.0",
)  # fmt: skip
