"""Early retries: which relays carry an age limit, when another owner runs their commands, and what the receiver refuses."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocol.peer_versions import CAPABILITIES, LIMITS
from server.core.base.config import Config
from server.core.node import Node
from server.core.outbox import Outbox
from server.core.requests.early_retries import MARGIN_MS, RoundTrips
from server.core.requests.relay_ages import RelayAges
from server.core.requests.relays import STALE
from tests.core.commands.talking import WALL_MS, Client, finish_turn, go_by_own_clock, make_node, member, reach
from tests.core.requests.test_reads import messages_in

TWO, THREE = member(2).id, member(3).id
ROUND_TRIP_MS = 2
RETRY_MS = 250
LIMIT = b"%d" % (RETRY_MS - MARGIN_MS)
WAIT_MS = RETRY_MS + ROUND_TRIP_MS + 1
OK_REPLY = b"+OK\r\n"


@pytest.fixture
def node() -> Node:
    """One of three, whose peers know limits and have answered a relay. Now it is 100 ms."""
    node = make_node(3, Config(engine="memory", relay_retry_ms=RETRY_MS))
    for number in (2, 3):
        reach(node, number)
        node.state.note_capabilities(member(number).id, CAPABILITIES)
    node.tick(0, WALL_MS)
    finish_turn(node)
    for peer in (TWO, THREE):
        _answer_a_relay(node, peer, 0, ROUND_TRIP_MS)
    node.tick(100, WALL_MS + 100)
    finish_turn(node)
    return node


def _answer_a_relay(node: Node, peer: str, now_ms: int, after_ms: int) -> None:
    client = Client(node)
    node.command(client.session, [b"SET", _key(node, peer), b"v"], now_ms)
    [relay] = _relays(finish_turn(node), peer)
    node.receive(peer, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", OK_REPLY], now_ms + after_ms)
    assert _replies(finish_turn(node)) == [OK_REPLY]


def _key(node: Node, coordinator: str, which: int = 0) -> bytes:
    """A key that this node coordinates."""
    keys = [b"k%d" % number for number in range(400)]
    return [key for key in keys if node.services.route(key).coordinator == coordinator][which]


def _relays(outbox: Outbox, peer: str) -> list[list[Any]]:
    return [message for message in messages_in(outbox.messages.get(peer, b"")) if message[0] == b"RELAY"]


def _replies(outbox: Outbox) -> list[Any]:
    return [data for _, data in outbox.replies]


def _send(node: Node, now_ms: int, *commands: list[bytes]) -> Outbox:
    node.commands(Client(node).session, list(commands), now_ms)
    return finish_turn(node)


def _tick(node: Node, from_ms: int, until_ms: int, step_ms: int = 100) -> list[Outbox]:
    outboxes = []
    for now_ms in range(from_ms, until_ms + 1, step_ms):
        node.tick(now_ms, WALL_MS + now_ms)
        outboxes.append(finish_turn(node))
    return outboxes


def _options(relay: list[Any]) -> list[bytes]:
    return list(relay[4])


def _commands(relay: list[Any]) -> list[list[bytes]]:
    return [list(args) for args in relay[5:]]


def test_a_silent_coordinator_is_passed_over(node: Node) -> None:
    """By the next owner in the order of the layout: this node, for a key of n3."""
    key = _key(node, THREE)
    outbox = _send(node, 100, [b"SET", key, b"v"])
    assert [_options(relay)[3:] for relay in _relays(outbox, THREE)] == [[b"0", LIMIT]]
    early = _tick(node, 200, 100 + WAIT_MS - 1, 50)
    assert not any(_replies(each) for each in early) and node.state.statistics.relays_retried == 0
    [outbox] = _tick(node, 100 + WAIT_MS, 100 + WAIT_MS)
    stores = [m for m in messages_in(outbox.messages[TWO]) if m[0] == b"STORE"]
    assert len(stores) == 1 and node.state.statistics.relays_retried == 1
    node.receive(TWO, [b"STORED", b"0", stores[0][2]], 400)
    assert _replies(finish_turn(node)) == [OK_REPLY]
    assert node.state.in_flight == 0


def test_it_goes_to_the_next_owner(node: Node) -> None:
    """Of a key that n2 owns first and n3 second: not every node may coordinate it now."""
    key = _key(node, TWO)
    assert node.services.route(key).owners[:2] == (TWO, THREE)
    _send(node, 100, [b"SET", key, b"v"])
    *_, outbox = _tick(node, 153, 100 + WAIT_MS)
    [relay] = _relays(outbox, THREE)
    assert _commands(relay) == [[b"SET", key, b"v"]]
    assert len(_options(relay)) == 3, "a second attempt has no limit"


def test_the_late_reply_of_the_first_coordinator_is_ignored(node: Node) -> None:
    key = _key(node, THREE)
    [relay] = _relays(_send(node, 100, [b"SET", key, b"v"]), THREE)
    _tick(node, 200, 100 + WAIT_MS + 99)
    node.receive(THREE, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", OK_REPLY], 500)
    assert _replies(finish_turn(node)) == []


@pytest.mark.parametrize(
    ("words", "has_limit"),
    [
        ("SET k v", True),
        ("SET k v EX 9", True),
        ("DEL k", True),
        ("HSET k f v", True),
        ("SADD k m", True),
        ("SET k v NX", False),
        ("INCR k", False),
        ("APPEND k v", False),
        ("RPUSH k v", False),
        ("SET k v KEEPTTL", False),
        ("SETRANGE k 1 v", False),
        ("BITFIELD k SET u8 0 1", False),
        ("EXPIRE k 9", False),
        ("PERSIST k", False),
        ("GETEX k EX 9", False),
        ("PFADD k x", False),
        ("ZADD k 1 x", True),
        ("ZADD k GT 1 x", False),
        ("SADD k" + " x" * 99, False),
    ],
)
def test_only_what_is_blind_is_retried_early(node: Node, words: str, has_limit: bool) -> None:
    args = words.encode().split()
    args[1] = _key(node, THREE)
    [relay] = _relays(_send(node, 100, args), THREE)
    assert (len(_options(relay)) > 3) is has_limit
    _tick(node, 200, 1000)
    assert node.state.statistics.relays_retried == has_limit


def test_a_coordinator_that_says_anything_is_waited_for(node: Node) -> None:
    """It is slow, and there is too much to do already."""
    _send(node, 100, [b"SET", _key(node, THREE), b"v"])
    for now_ms in range(200, 1001, 100):
        node.receive(THREE, [b"NOISE", b"0", b"0"], now_ms)
        _tick(node, now_ms, now_ms)
    assert node.state.statistics.relays_retried == 0


def test_a_node_whose_own_tick_is_late_waits_for_the_next_one(node: Node) -> None:
    """The answer may lie in a socket that it has not read."""
    _send(node, 100, [b"SET", _key(node, THREE), b"v"])
    _tick(node, 500, 500)
    assert node.state.statistics.relays_retried == 0
    _tick(node, 600, 600)
    assert node.state.statistics.relays_retried == 1


def test_a_mixed_turn_travels_whole_and_in_order_and_has_no_limit(node: Node) -> None:
    one, two = (_key(node, THREE, which) for which in range(2))
    commands = [[b"SET", one, b"1"], [b"SET", two, b"1"], [b"RPUSH", two, b"x"], [b"SET", two, b"2"]]
    for args in commands:
        node.command(Client(node).session, args, 100)
    [relay] = _relays(finish_turn(node), THREE)
    assert _commands(relay) == commands and len(_options(relay)) == 3


def test_a_peer_without_the_capability_gets_no_limit(node: Node) -> None:
    node.state.note_capabilities(THREE, [each for each in CAPABILITIES if each != LIMITS])
    [relay] = _relays(_send(node, 100, [b"SET", _key(node, THREE), b"v"]), THREE)
    assert len(_options(relay)) == 3
    _tick(node, 200, 1000)
    assert node.state.statistics.relays_retried == 0


@pytest.mark.parametrize("forgets", [Node.connected, Node.greeted])
def test_a_new_link_has_no_limit_before_its_first_answer(node: Node, forgets: Any) -> None:
    """The peer estimates ages by the least delayed message of the link, which may have been none yet."""
    forgets(node, THREE, 100, CAPABILITIES)
    go_by_own_clock(node)
    finish_turn(node)
    [relay] = _relays(_send(node, 100, [b"SET", _key(node, THREE), b"v"]), THREE)
    assert len(_options(relay)) == 3


def test_a_slow_peer_has_a_higher_limit(node: Node) -> None:
    for number in range(60):
        _answer_a_relay(node, THREE, 100 + number, 100)
    [relay] = _relays(_send(node, 200, [b"SET", _key(node, THREE), b"v"]), THREE)
    assert 380 < int(_options(relay)[4]) <= 400


def test_it_is_off_by_default(node: Node) -> None:
    node.state.config.relay_retry_ms = Config().relay_retry_ms
    [relay] = _relays(_send(node, 100, [b"SET", _key(node, THREE), b"v"]), THREE)
    assert len(_options(relay)) == 3


def test_a_time_of_a_margin_turns_it_off(node: Node) -> None:
    node.state.config.relay_retry_ms = MARGIN_MS
    [relay] = _relays(_send(node, 100, [b"SET", _key(node, THREE), b"v"]), THREE)
    assert len(_options(relay)) == 3


def test_a_relay_past_its_limit_is_refused(node: Node) -> None:
    """And one that just is not past it, is run. The receiver's clock reads 5000 ms more than the sender's."""
    key = next(key for key in (b"k%d" % number for number in range(99)) if not node.services.route(key).coordinator)

    def relay(number: int, sent_ms: int, now_ms: int) -> bytes:
        options = [b"0", b"0", b"0", b"0", LIMIT]
        node.receive(TWO, [b"RELAY", b"0", b"%d" % number, b"%d" % sent_ms, options, [b"SET", key, b"v"]], now_ms)
        kinds = [message[0] for message in messages_in(finish_turn(node).messages.get(TWO, b""))]
        return b" ".join(kind for kind in kinds if kind in (b"COVERED", b"RELAYED"))

    assert relay(1, 1000, 6000) == b"COVERED"
    assert relay(2, 2000, 7000 + int(LIMIT)) == b"COVERED"
    assert relay(3, 3000, 8001 + int(LIMIT)) == b"RELAYED"
    assert node.state.statistics.relays_stale == 1


def test_what_came_too_late_goes_to_the_same_coordinator_without_a_limit(node: Node) -> None:
    """It has answered, so it is live and may run what others have sent it: another one beside it would lose writes."""
    key = _key(node, TWO)
    [relay] = _relays(_send(node, 100, [b"SET", key, b"v"]), TWO)
    node.receive(TWO, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", STALE], 300)
    outbox = finish_turn(node)
    assert _relays(outbox, THREE) == []
    [again] = _relays(outbox, TWO)
    assert _commands(again) == [[b"SET", key, b"v"]] and len(_options(again)) == 3


def test_what_still_runs_is_not_retried_early(node: Node) -> None:
    [relay] = _relays(_send(node, 100, [b"SET", _key(node, THREE), b"v"]), THREE)
    node.receive(THREE, [b"RELAYED", b"0", relay[2], b""], 200)
    _tick(node, 300, 1000)
    assert node.state.statistics.relays_retried == 0


@pytest.mark.parametrize(("options", "is_extended"), [([b"0", b"0", b"0"], True), ([b"0"] * 4 + [b"400"], False)])
def test_a_limit_of_the_sender_is_not_extended(node: Node, options: list[bytes], is_extended: bool) -> None:
    """What this node tells the sender may lie in its socket, and the sender retry the command meanwhile."""
    relays = node.services.relays
    batch = relays.relayed(TWO, 1, 1000, options, [[b"HSET", b"k", b"f", b"v"]])
    assert batch is not None
    before_ms = batch.stale_after_ms
    node.tick(450, WALL_MS + 450)
    assert relays.renew_or_refuse(batch) is None
    assert (batch.stale_after_ms > before_ms) is is_extended


def test_a_chain_runs_here(node: Node) -> None:
    """A pipeline that reads and writes one key: it waits in its lane, and then goes to the coordinator as a chain."""
    key = _key(node, THREE)
    client = Client(node)
    node.commands(client.session, [[b"SET", key, b"1"], [b"HGET", key, b"f"], [b"SET", key, b"2"]], 100)
    [relay] = _relays(finish_turn(node), THREE)
    node.receive(THREE, [b"RELAYED", b"0", relay[2], b"\0\0\0\0", OK_REPLY], 101)
    [chain] = _relays(finish_turn(node), THREE)
    assert _options(chain)[3:] == [b"1", LIMIT] and len(_commands(chain)) == 2
    _tick(node, 200, 400)
    assert node.state.statistics.relays_retried == 2
    assert node.state.statistics.reads == 1, "its quorum read has begun here"


def test_a_young_relay_to_a_lost_coordinator_is_not_run_elsewhere(node: Node) -> None:
    """Nothing has come from it for `relay_silence_ms`, but it may only have been suspended. It would run that."""
    node.state.note_capabilities(THREE, ())
    key = _key(node, THREE)
    _send(node, 100, [b"SET", key, b"old"])
    _tick(node, 200, 1500)
    _send(node, 1500, [b"SET", key, b"young"])
    _tick(node, 1600, 1700)
    assert node.state.statistics.relays_retried == 1
    _tick(node, 1800, 2900)
    assert node.state.statistics.relays_retried == 1
    _tick(node, 3000, 3000)
    assert node.state.statistics.relays_retried == 2


@pytest.mark.parametrize("seed", range(20))
def test_a_coordinator_takes_no_relay_for_younger_than_the_least_round_trip_allows(seed: int) -> None:
    """Delays rise for good after some time, and then the coordinator lets its least delay grow."""
    rng = random.Random(seed)
    ages, known = RelayAges(), RoundTrips(0, 0)
    offset_ms, slow_from_ms, slow_ms = rng.randint(-(10**6), 10**6), rng.randint(0, 300_000), rng.randint(1, 400)
    now_ms, is_first = 0, True
    while now_ms < 900_000:
        now_ms += rng.randint(1, 4000)
        delay_ms = rng.randint(1, 3) + (slow_ms if now_ms > slow_from_ms else 0)
        ages.awake_ms = now_ms + delay_ms
        estimated_ms = ages.note("n2", now_ms + offset_ms, now_ms + delay_ms)
        trip_ms = delay_ms + rng.randint(1, 3)
        if is_first:
            known, is_first = RoundTrips(trip_ms, now_ms + trip_ms), False
        known.answered(trip_ms, now_ms + trip_ms)
        assert delay_ms - estimated_ms <= known.least_ms(now_ms)
