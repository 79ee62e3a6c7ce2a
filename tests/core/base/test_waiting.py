"""A node that does not know cluster time yet holds back commands that need it, in order, and nothing else."""

from __future__ import annotations

import random
from typing import Any

import hiredis
import pytest

from protocol.frames import FrameReader
from server.core import peer_messages
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.cluster_time import WAIT_MS_MAX
from server.core.base.pauses import SETTLE_MS
from server.core.messages.record_questions import VOTE
from server.core.node import Node
from tests.core.commands.talking import CONFIG, WALL_MS, Client, Store, finish_turn, layout_of, member
from tests.core.messages.reading import read

DAY_MS = 86_400_000
N2, N3 = member(2).id, member(3).id


class Waiting:
    """Member 1 of three; its wall clock is a day ahead. It has just started, and has links to the others."""

    def __init__(self) -> None:
        self.now_ms = 5000
        self.node = Node(member(1), b"actor--1", 1, CONFIG, Store(), random.Random(1), WALL_MS + DAY_MS)
        self.node.services.membership.offer(layout_of(tuple([member(number) for number in (1, 2, 3)])))
        self.node.tick(self.now_ms, WALL_MS + DAY_MS)
        for peer in (N2, N3):
            self.node.connected(peer, self.now_ms)
            self.node.greeted(peer, self.now_ms)
        self.asked = [message for message in self.said() if message[0] == b"TIME"]

    def said(self) -> list[list[Any]]:
        """Returns the messages of this turn."""
        found = []
        for data in finish_turn(self.node).messages.values():
            reader = FrameReader()
            reader.feed(data)
            while (message := reader.next()) is not None:
                found.append(message)
        return found

    def hear(self, peer: str, kind: bytes, number: int, *items: Any, reading: int = 0) -> None:
        """Receives a message."""
        self.node.receive(peer, [kind, b"%d" % reading, b"%d" % number, *items], self.now_ms)

    def tell_time(self, peer: str = N2) -> None:
        """The peer answers with its clock, which is right, and with cluster time, which it is sure of."""
        self.now_ms += 4
        wall_ms = b"%d" % (WALL_MS + 2)
        self.hear(peer, b"TIMED", self.now_ms - 4, wall_ms, wall_ms)


def _reply(data: bytes) -> list[Any]:
    reader = hiredis.Reader()
    reader.feed(data)
    replies = []
    while (reply := reader.gets()) is not False:
        replies.append(reply)
    return replies


def test_it_asks_for_the_time_first_of_all() -> None:
    assert len(Waiting().asked) == 2


def test_commands_on_keys_wait_and_run_in_order_by_the_right_time() -> None:
    waiting = Waiting()
    client = Client(waiting.node, now_ms=waiting.now_ms)
    session = client.session
    assert _reply(client.raw("PING")) == [b"PONG"]
    assert client.raw("TIME", "DYN.SET key v W 1 PX 100000", "PING") == b""
    assert len(session.backlog) == 3
    assert waiting.node.state.clock.last == 0, "no reading of a wrong clock goes out"
    waiting.tell_time()
    assert waiting.node.has_more
    data = b"".join(data for _, data in finish_turn(waiting.node).replies)
    time = _reply(data)[0]
    assert abs(int(time[0]) - WALL_MS // 1000) <= 1


def test_other_commands_of_another_client_do_not_wait() -> None:
    waiting = Waiting()
    client, other = (Client(waiting.node, now_ms=waiting.now_ms) for _ in range(2))
    assert client.raw("GET key") == b""
    assert _reply(other.raw("PING", "DYN.QUORUM", "INFO server"))[0] == b"PONG"


def test_what_is_relayed_waits_and_is_turned_back_if_that_took_too_long() -> None:
    for wait_ms, stale in ((10, False), (2000, True)):
        waiting = Waiting()
        waiting.hear(N2, b"RELAY", 7, b"100", [b"0", b"1", b"1"], [b"GET", b"k"], reading=9)
        assert [message[0] for message in waiting.said()] == []
        waiting.now_ms += wait_ms
        waiting.tell_time()
        said = waiting.said()
        waiting.now_ms += SETTLE_MS  # the node has stood still for so long that commands wait for this time, too
        waiting.node.tick(waiting.now_ms, WALL_MS + waiting.now_ms)
        (answer,) = [message for message in said + waiting.said() if message[0] == b"RELAYED"]
        assert (answer[4] == b"-STALE the relay arrived too late\r\n") == stale


def test_more_relays_than_may_wait_are_turned_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_messages, "HELD_MAX", 1)
    waiting = Waiting()
    for number in (7, 8):
        waiting.hear(N2, b"RELAY", number, b"100", [b"0", b"0", b"0"], [b"GET", b"k"], [b"GET", b"k"])
    (answer,) = [message for message in waiting.said() if message[0] == b"RELAYED"]
    assert (answer[2], answer[4:]) == (b"8", [b"-STALE the relay arrived too late\r\n"] * 2)


def test_readings_that_came_meanwhile_are_followed_unless_they_are_far_ahead() -> None:
    waiting = Waiting()
    followed = (WALL_MS + 60_000) << SEQUENCE_BITS
    waiting.hear(N2, b"SAME", 1, reading=followed)
    waiting.hear(N3, b"SAME", 1, reading=(WALL_MS + DAY_MS) << SEQUENCE_BITS)
    state = waiting.node.state
    assert state.clock.last == 0
    waiting.tell_time()
    assert (state.clock.last, state.clock.refused) == (followed, 1)


def test_it_votes_for_nothing() -> None:
    waiting = Waiting()
    assert waiting.node.services.votes.vote(read(VOTE, b"ballot", b"7", b"drop")) is None
    waiting.tell_time()
    assert waiting.node.services.votes.vote(read(VOTE, b"ballot", b"7", b"drop")) == b""


def test_the_wait_ends() -> None:
    waiting = Waiting()
    client = Client(waiting.node, now_ms=waiting.now_ms)
    assert client.raw("TIME") == b""
    waiting.now_ms += WAIT_MS_MAX
    waiting.node.tick(waiting.now_ms, WALL_MS + DAY_MS + WAIT_MS_MAX)
    data = b"".join(data for _, data in finish_turn(waiting.node).replies)
    assert int(_reply(data)[0][0]) == (WALL_MS + DAY_MS + WAIT_MS_MAX) // 1000, "by its own clock, for want of others"


def test_alone_it_makes_dots_by_its_own_clock_and_takes_them_back_when_it_knows_better() -> None:
    waiting = Waiting()
    node, state = waiting.node, waiting.node.state
    for peer in (N2, N3):
        node.disconnected(peer, waiting.now_ms)
    node.tick(waiting.now_ms + 100, WALL_MS + DAY_MS + 100)
    assert state.has_time
    assert state.clock.next() >> SEQUENCE_BITS == WALL_MS + DAY_MS + 100
    actor = state.actor
    waiting.now_ms += 200
    node.connected(N2, waiting.now_ms)
    assert state.holds_commands, "for the word of the first that it reaches"
    assert {message[1] for message in waiting.said()} == {b"0"}, "no reading of a wrong clock goes out"
    waiting.tell_time()
    assert abs((state.clock.last >> SEQUENCE_BITS) - WALL_MS) < 1000
    assert state.actor != actor


def test_it_does_not_wait_again_for_one_that_never_answers() -> None:
    waiting = Waiting()
    node, state = waiting.node, waiting.node.state
    waiting.now_ms += WAIT_MS_MAX
    node.tick(waiting.now_ms, WALL_MS + DAY_MS + WAIT_MS_MAX)
    assert state.has_time
    node.disconnected(N2, waiting.now_ms)
    node.connected(N2, waiting.now_ms)
    assert state.has_time


def test_lines_that_were_drawn_by_a_clock_far_ahead_stay() -> None:
    waiting = Waiting()
    state = waiting.node.state
    waiting.now_ms += WAIT_MS_MAX
    waiting.node.tick(waiting.now_ms, WALL_MS + DAY_MS + WAIT_MS_MAX)
    line, actor = state.draw_line(), state.actor
    waiting.tell_time()
    assert (state.clock.last > line, state.actor) == (True, actor)
