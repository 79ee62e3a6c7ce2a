"""What a pipeline costs the node that takes it: an amount of work that is linear in its length, and bounded in each turn.

Work is counted in calls of functions, which are the same on every machine.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace

import pytest

from protocol.resp import LargeReply
from server.core import dispatch
from server.core.node import Node
from tests.core.commands.talking import CONFIG, Client, finish_turn, make_node

PIPELINES: dict[str, Callable[[int], list[list[bytes]]]] = {
    "SET and GET of different keys": lambda n: [
        words for i in range(n) for words in ([b"SET", b"b%d" % i, b"v"], [b"GET", b"a%d" % i])
    ],
    "SET and GET of one key": lambda n: [words for _ in range(n) for words in ([b"SET", b"k", b"v"], [b"GET", b"k"])],
    "SET NX": lambda n: [[b"SET", b"k%d" % i, b"v", b"NX"] for i in range(2 * n)],
    "few keys again and again": lambda n: [[b"SET", b"k%d" % (i % 30), b"v"] for i in range(2 * n)],
    "DEL of two keys": lambda n: [[b"DEL", b"k%d" % i, b"k%d" % (i + 1)] for i in range(2 * n)],
    "MSET of one key": lambda n: [[b"MSET", b"k", b"v", b"l", b"v"] for _ in range(2 * n)],
}


def _run(node: Node, client: Client, commands: list[list[bytes]]) -> tuple[int, int]:
    """The calls that all commands take, and the most that a turn begins."""
    calls, begun_max = 0, 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        node.commands(client.session, commands, 0)
        while client.session.in_flight or node.has_more:
            before = client.session.in_flight
            finish_turn(node)
            begun_max = max(begun_max, before - client.session.in_flight)
    finally:
        sys.setprofile(None)
    return calls, begun_max


@pytest.mark.skipif(not dispatch.__file__.endswith(".py"), reason="calls of compiled functions cannot be counted")
@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_costs_what_its_length_asks_for(name: str) -> None:
    calls = []
    for count in (400, 1600):
        node = make_node()
        calls.append(_run(node, Client(node), PIPELINES[name](count))[0])
    assert calls[1] < 4.6 * calls[0], calls


def test_a_command_of_very_many_keys_has_no_lanes() -> None:
    """It waits for the command before it, and the one behind it waits for its answer."""
    node = make_node()
    client = Client(node)
    keys = [b"k%d" % number for number in range(dispatch.LANE_ARGUMENTS_MAX)]
    node.commands(client.session, [[b"SET", b"k7", b"v"], [b"DEL", *keys], [b"EXISTS", *keys]], 0)
    assert client.session.lanes is None and len(client.session.backlog) == 2
    replies = []
    while client.session.in_flight or client.session.backlog or node.has_more:
        node.tick(node.state.now_ms + 1, 0)
        replies += [data for _, data in finish_turn(node).replies]
    assert b"".join(replies) == b"+OK\r\n:1\r\n:0\r\n"


def test_a_turn_begins_a_bounded_number_of_commands_that_have_waited() -> None:
    node = make_node(config=replace(CONFIG, turn_commands_max=50))
    client = Client(node)
    keys = [b"k%d" % i for i in range(1000)]
    node.commands(client.session, [[b"GET", key] for key in keys] + [[b"SET", key, b"v"] for key in keys], 0)
    finish_turn(node)
    turns = 0
    while node.has_more:
        waiting = client.session.in_flight
        finish_turn(node)
        turns += 1
        assert waiting - client.session.in_flight == min(waiting, max(50, waiting // 4))
    assert client.session.in_flight == 0 and turns == 9


def test_large_values_are_not_copied_into_replies() -> None:
    node = make_node()
    client = Client(node)
    value = b"v" * (1 << 20)
    node.commands(client.session, [[b"SET", b"large", value]], 0)
    finish_turn(node)
    client.session.flush()
    node.commands(client.session, [[b"MGET", *[b"large"] * 50], [b"GET", b"large"]], 0)
    ((_, pieces),) = finish_turn(node).replies
    assert isinstance(pieces, list)
    assert client.session.flushed_bytes < 3 << 20
    assert b"".join(pieces) == b"*50\r\n" + b"$1048576\r\n%b\r\n" % value * 51
    assert len({id(piece.obj) for piece in pieces if isinstance(piece, memoryview)}) == 1


def test_many_large_values_are_read_over_several_turns() -> None:
    node = make_node(config=replace(CONFIG, batch_bytes_max=100_000, record_cache_bytes=0))
    client = Client(node)
    for number in range(8):
        node.commands(client.session, [[b"SET", b"k%d" % number, b"v" * 60_000]], 0)
        finish_turn(node)
    finish_turn(node)
    node.commands(client.session, [[b"GET", b"k%d" % number] for number in range(8)], 0)
    turns = 0
    while client.session.in_flight:
        waiting = client.session.in_flight
        finish_turn(node)
        assert waiting - client.session.in_flight <= 2
        turns += 1
    assert turns == 4


def test_a_large_reply_is_one_reply() -> None:
    reply = LargeReply([b"$3\r\n", memoryview(b"abc"), b"\r\n"], 3)
    assert reply.joined() == b"$3\r\nabc\r\n"


def test_what_leaves_a_connection_in_a_turn_is_counted_once_however_often_it_got_answers() -> None:
    """It was listed twice, and counted as having sent nothing: the estimate of its replies was a hundred times too big."""
    node = make_node(1)
    client = Client(node)
    lines = ("SET a 1", "GET a", "DEL a", "CLIENT SETNAME x", "GET a", "DYN.QUORUM")
    for line in lines:
        node.command(client.session, [word.encode() for word in line.split()], 0)
    outbox = finish_turn(node)
    [(session, replies)] = outbox.replies
    assert session is client.session
    assert (session.flushed, session.flushed_bytes) == (len(lines), len(replies))
