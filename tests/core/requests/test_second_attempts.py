"""Relayed commands that came back: who may run them again, and what whoever relayed them here is told."""

from __future__ import annotations

import pytest

from protocol.databases import UNSWAPPED
from server.core.base.config import Config
from server.core.base.pauses import SETTLE_MS
from server.core.commands.registry import find_command
from server.core.commands.transactions.queued_run import QueuedRun
from server.core.node import Node
from server.core.requests.relay_rows import MAYBE_RUN, NOT_RUN, RelayItem, Returned
from server.core.requests.relay_sinks import RelayedBatch, SecondAttempt
from server.core.requests.relays import STALE
from tests.core.commands.talking import Client, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

STALE_AFTER_MS = 5000
WALL_MS = 1_700_000_000_000
OPTIONS = [b"0", b"0", b"0"]


@pytest.fixture
def node() -> Node:
    """One of three, which the two others can reach."""
    node = make_node(3, Config(engine="memory"))
    for number in (2, 3):
        reach(node, number)
    finish_turn(node)
    return node


def own_key(node: Node) -> bytes:
    """A key that this node coordinates."""
    return next(
        key for key in (b"k%d" % number for number in range(100)) if node.services.route(key).coordinator is None
    )


def come_back(node: Node, now_ms: int, reason: int, in_order: bool, *commands: list[bytes]) -> RelayedBatch:
    """Commands of a peer, which this node had relayed on, come back at that time. Returns their sink."""
    outgoing: list[RelayedBatch] = []
    batch = RelayedBatch(member(2).id, 7, OPTIONS, list(commands), outgoing, STALE_AFTER_MS, now_ms)
    items = [RelayItem(batch, number, args, now_ms) for number, args in enumerate(commands)]
    node.state.at(now_ms)
    node.services.relays.returned.append(Returned(list(items), reason, "node n2 has gone", in_order))
    node._dispatcher.retries.retry_returned()
    return batch


@pytest.mark.parametrize("reason", [NOT_RUN, MAYBE_RUN])
@pytest.mark.parametrize("in_order", [False, True])
def test_a_stale_relay_that_came_back_is_not_run_again(node: Node, reason: int, in_order: bool) -> None:
    """Its sender may have given it up by now, and sent it elsewhere: an old write would win over newer ones."""
    key = own_key(node)
    batch = come_back(node, STALE_AFTER_MS + 1, reason, in_order, [b"SET", key, b"old"], [b"GET", key])
    assert (batch.indexes, batch.replies) == ([0, 1], [STALE, STALE])
    assert not finish_turn(node).writes and not node.services.writes.is_busy()


@pytest.mark.parametrize("in_order", [False, True])
def test_one_that_is_not_stale_runs_here(node: Node, in_order: bool) -> None:
    batch = come_back(node, STALE_AFTER_MS, NOT_RUN, in_order, [b"SET", own_key(node), b"new"])
    assert STALE not in batch.replies
    assert finish_turn(node).writes or in_order, "a chain begins with a quorum read"


def test_what_must_not_run_twice_is_answered_with_an_unknown_outcome(node: Node) -> None:
    batch = come_back(node, 1000, MAYBE_RUN, False, [b"SET", own_key(node), b"v", b"NX"])
    [reply] = batch.replies
    assert reply.startswith(b"-TIMEOUT node n2 has gone: ") and b"outcome=maybe-written" in reply
    assert not finish_turn(node).writes


@pytest.mark.parametrize("removal", ["HDEL h f", "HSET h f v"])
def test_the_push_of_a_move_runs_again_when_its_second_coordinator_is_lost(node: Node, removal: str) -> None:
    push = [b"RPUSH", own_key(node), b"v"]
    run = QueuedRun(
        Client(node).session, UNSWAPPED, [], [removal.encode().split(), push], lambda replies: None, 1_000_000
    )
    assert SecondAttempt(run).repeats(push) is (removal == "HDEL h f")


@pytest.mark.parametrize(
    ("command", "runs_twice"),
    [
        ("SET k v", True),
        ("SET k v NX", False),
        ("DEL k", True),
        ("INCR k", False),
        ("APPEND k v", False),
        ("GETDEL k", False),  # the second one would answer that there is nothing
        ("HSET k f v", True),
        ("HSETNX k f v", False),
        ("HDEL k f", True),
        ("HINCRBY k f 1", False),
        ("HGETDEL k FIELDS 1 f", False),
        ("SADD k m", True),
        ("SREM k m", True),
        ("SPOP k", False),
        ("ZADD k 1 m", True),
        ("ZADD k NX 1 m", True),
        ("ZADD k incr 1 m", False),
        ("ZINCRBY k 1 m", False),
        ("ZREM k m", True),
        ("ZREMRANGEBYSCORE k 0 1", True),
        ("ZREMRANGEBYRANK k 0 1", False),  # other members would have these ranks
        ("ZPOPMIN k", False),
        ("GEOADD k 1 1 m", True),
        ("PFADD k m", True),
    ],
)
def test_writes_whose_effect_is_the_same_run_again(command: str, runs_twice: bool) -> None:
    """The reply may differ (0 instead of 1), but a write does not fail because a node died."""
    args = command.encode().split()
    spec = find_command(args)
    assert spec is not None
    assert spec.once(args) is not runs_twice


def test_a_relay_at_work_is_not_stale_and_its_sender_is_told(node: Node) -> None:
    relays = node.services.relays
    batch = RelayedBatch(member(2).id, 7, OPTIONS, [[b"SADD"]], relays._outgoing, 1000, 0)
    renew_or_refuse = relays.stale_check(batch)
    told = []
    for now_ms in range(0, 6000, 400):
        node.state.at(now_ms)
        assert renew_or_refuse() is None, "no step was late"
        messages = messages_in(finish_turn(node).messages.get(member(2).id, b""))
        told += [message[2:] for message in messages if message[0] == b"RELAYED"]
    assert len(told) == 14 and all(message[:2] == [b"7", b""] for message in told), "without replies"
    node.state.at(5600 + 1001)  # as after a suspension: the sender may have sent it elsewhere
    assert renew_or_refuse() == STALE


@pytest.mark.parametrize("is_told", [False, True])
def test_who_hears_that_a_relay_is_at_work_goes_on_waiting(node: Node, is_told: bool) -> None:
    key = next(
        key for key in (b"k%d" % number for number in range(100)) if node.services.route(key).coordinator is not None
    )
    client = Client(node)
    node.command(client.session, [b"SADD", key, b"e"], 0)
    finish_turn(node)
    relays = node.services.relays
    [number] = relays._rows
    node.state.at(3000)
    if is_told:
        relays.replied(number, b"", [])
    node.state.at(4000)
    relays.expire(4000)
    assert (number in relays._rows) is is_told
    relays.expire(6500)
    assert number not in relays._rows


def _key_of_another(node: Node) -> bytes:
    """A key that n3 coordinates."""
    keys = [b"k%d" % number for number in range(400)]
    return next(key for key in keys if node.services.route(key).coordinator == member(3).id)


def _relay(node: Node, args: list[bytes], now_ms: int) -> bytes:
    """Sends a command of a client. Returns the number of its relay to n3."""
    node.command(Client(node).session, args, now_ms)
    [message] = [each for each in messages_in(finish_turn(node).messages[member(3).id]) if each[0] == b"RELAY"]
    return bytes(message[2])


def test_the_late_reply_of_a_coordinator_that_was_given_up_is_ignored(node: Node) -> None:
    node.tick(0, WALL_MS)
    number = _relay(node, [b"SET", _key_of_another(node), b"v"], 100)
    for now_ms in range(100, 1701, 100):
        node.tick(now_ms, WALL_MS + now_ms)
        finish_turn(node)
    assert node.state.statistics.relays_retried == 1
    node.receive(member(3).id, [b"RELAYED", b"0", number, b"\0\0\0\0", b"+OK\r\n"], 1701)
    assert finish_turn(node).replies == []


def test_what_came_too_late_goes_to_the_same_coordinator(node: Node) -> None:
    """It has answered, so it is live and may run what others have sent it: another one beside it would lose writes."""
    node.tick(0, WALL_MS)
    key, other = _key_of_another(node), member(3).id
    number = _relay(node, [b"SETRANGE", key, b"1", b"v"], 100)
    node.receive(other, [b"RELAYED", b"0", number, b"\0\0\0\0", STALE], 300)
    outbox = finish_turn(node)
    assert list(outbox.messages) == [other]
    [again] = [each for each in messages_in(outbox.messages[other]) if each[0] == b"RELAY"]
    assert [list(args) for args in again[5:]] == [[b"SETRANGE", key, b"1", b"v"]]


def test_a_young_relay_to_a_lost_coordinator_is_not_run_elsewhere(node: Node) -> None:
    """Nothing has come from it for `relay_silence_ms`, but it may only have been suspended. It would run that."""
    node.tick(0, WALL_MS)
    key = _key_of_another(node)
    _relay(node, [b"SET", key, b"old"], 100)
    retried = {}
    for now_ms in range(200, 3101, 100):
        node.tick(now_ms, WALL_MS + now_ms)
        finish_turn(node)
        if now_ms == 1500:
            _relay(node, [b"SET", key, b"young"], now_ms)
        retried[now_ms] = node.state.statistics.relays_retried
    assert (retried[1500], retried[1700], retried[2900], retried[3100]) == (0, 1, 1, 2)


def _relay_here(node: Node, sent_ms: int, now_ms: int) -> list[bytes]:
    """Relays a command of a key that this node coordinates. Returns the kinds of the messages that answer it at once."""
    number, options = b"%d" % now_ms, [b"0", b"0", b"0"]
    node.receive(
        member(2).id, [b"RELAY", b"0", number, b"%d" % sent_ms, options, [b"SET", own_key(node), b"v"]], now_ms
    )
    return _answers(node)


def _answers(node: Node) -> list[bytes]:
    kinds = [message[0] for message in messages_in(finish_turn(node).messages.get(member(2).id, b""))]
    return [kind for kind in kinds if kind in (b"COVERED", b"RELAYED")]


@pytest.mark.parametrize(("pause_ms", "is_refused"), [(1000, False), (1001, True)])
def test_what_was_relayed_before_this_node_went_on_is_refused(node: Node, pause_ms: int, is_refused: bool) -> None:
    """Its sender may have given up this node, and will send it elsewhere what else it has. The two clocks differ by 500."""
    assert _relay_here(node, 500, 1000) == [b"COVERED"]
    went_on_ms = 1000 + pause_ms
    young_ms = went_on_ms - 500 - 10
    assert _relay_here(node, young_ms, went_on_ms) == ([b"RELAYED"] if is_refused else [b"COVERED"])
    assert node.state.statistics.relays_stale == is_refused
    later = _relay_here(node, young_ms + 10, went_on_ms)
    assert later == ([] if is_refused else [b"COVERED"]), (
        "it was sent after that, and waits until others know of the pause"
    )
    node.tick(went_on_ms + SETTLE_MS - 1, WALL_MS)
    assert b"COVERED" not in _answers(node)
    node.tick(went_on_ms + SETTLE_MS, WALL_MS)
    assert (b"COVERED" in _answers(node)) is is_refused
