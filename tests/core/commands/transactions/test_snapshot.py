"""Every command with keys runs on a snapshot at once, and does there what it does to stored keys."""

from __future__ import annotations

import random
from collections.abc import Generator, Sequence
from typing import Any

from protocol.resp import Reply
from server.core.commands.command_docs import is_operators
from server.core.commands.slices import next_turn
from server.core.commands.spec import CommandSpec
from server.core.commands.table import COMMANDS
from server.core.commands.transactions.atomic_run import run_atomically
from server.core.commands.transactions.snapshot import Snapshot, encoded
from server.core.node import Node
from server.core.work.procedures import Step
from tests.core.commands.talking import Client, finish_turn, make_node
from tests.core.commands.transactions.test_atomic_run import Caught
from tests.wire.differential.calls import Calls

SEEDS = 3
KEYS = [b"{k}%d" % number for number in range(4)]
WORDS = (
    b"RPUSH {k}0 3 1 2 x", b"SADD {k}1 3 1 2 x", b"ZADD {k}2 3 3 1 1 2 2 5 x", b"HSET {k}3 1 1 2 2 3 3 x x", b"SET {k}0 12",
)  # fmt: skip
# What they answer is chance, or tells of the time, or of dots.
NOT_ATOMIC = ("transactions", "scripting", "pubsub")
CHANCE = (
    "spop",
    "srandmember",
    "zrandmember",
    "hrandfield",
    "dyn.get",
    "dyn.set",
    "dyn.del",
    "memory|usage",
    "object|idletime",
)


def specs() -> list[CommandSpec]:
    """All commands with keys that an atomic run may have."""
    every = [spec for top in COMMANDS for spec in (top.subcommands or (top,))]
    return [
        spec
        for spec in every
        if spec.has_keys()
        and not is_operators(spec)
        and spec.group not in NOT_ATOMIC
        and "admin" not in spec.flags.split()
    ]


def test_there_are_many_commands_with_keys() -> None:
    assert len(specs()) > 130


def on_snapshot(node: Node, calls: Sequence[tuple[bytes, ...]]) -> list[bytes]:
    """The replies of calls in one atomic run."""

    def body(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
        replies.clear()
        replies.extend([encoded(snapshot.run(list(call))) for call in calls])
        return b"+OK\r\n"
        yield next_turn(node.services)

    replies: list[bytes] = []
    sink = Caught()
    node.services.run_steps(run_atomically(node.services, sink, 0, list(KEYS), body), sink, 0)
    for _ in range(3):
        finish_turn(node)
    assert sink.replies == [b"+OK\r\n"]
    return replies


def by_clients(node: Node, calls: Sequence[tuple[bytes, ...]]) -> list[bytes]:
    """The replies of calls one after the other."""
    client, replies = Client(node), []
    now_ms = 0
    for call in calls:
        told = client.raw_words(list(call))
        while not told:  # it takes several turns
            now_ms += 2
            node.wake(now_ms)
            told = b"".join(
                [data if isinstance(data, bytes) else b"".join(data) for _, data in finish_turn(node).replies]
            )
        replies.append(told)
    return replies


def test_each_command_does_on_a_snapshot_what_it_does_to_stored_keys() -> None:
    answered: dict[str, None] = {}
    for seed in range(SEEDS):
        rng = random.Random(seed)
        calls = Calls(rng, lambda spec, rng=rng: rng.choice(KEYS))  # type: ignore[misc]
        for spec in specs():
            made = [tuple(line.split()) for line in WORDS[: rng.randint(4, 5)]]
            made += [calls.call(spec) for _ in range(4)]
            last = [(b"DUMP", key) for key in KEYS] + [(b"EXISTS", key) for key in KEYS]
            stepped = on_snapshot(make_node(), made + last)
            assert not any(b"does not run in a transaction" in reply or b"internal error" in reply for reply in stepped), (
                made, stepped,
            )  # fmt: skip
            if any(reply[:1] != b"-" for reply in stepped[len(made) - 4 : len(made)]):
                answered[spec.name] = None
            if "blocking" in spec.flags:
                continue  # a client would wait
            plain = by_clients(make_node(), made + last)
            if spec.name not in CHANCE:
                assert stepped == plain, (made, stepped, plain)
    assert len(answered) > len(specs()) * 3 // 4, "chance refuses some of them"
