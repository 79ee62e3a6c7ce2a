"""When a silent coordinator is given up, and what it does meanwhile so that this loses nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from protocol.frames import FrameReader, seal
from protocol.peer_versions import CAPABILITIES, SILENCES
from server.core.base.longest import WINDOW_MS
from server.core.base.sinks import Sink
from server.core.messages.kinds import encode_relay, relay_options
from server.core.node import Node
from server.core.requests.relay_rows import RelayItem, RelayRow
from server.core.requests.silences import LARGE_BYTES, Silences
from tests.core.commands.talking import CONFIG, finish_turn, go_by_own_clock, make_node, member

TICK_MS = CONFIG.tick_ms
PEER, OTHER = member(2).id, member(3).id
CALM_MS = 1000 + 3 * WINDOW_MS  # by then all limits are low
WITHOUT = tuple(word for word in CAPABILITIES if word != SILENCES)


def _node(capabilities: tuple[bytes, ...] = CAPABILITIES, **settings: Any) -> Node:
    """One of three. The others answer within 5 ms until CALM_MS, and may be given up after 300 ms if they know of that."""
    node = make_node(3, replace(CONFIG, **settings))
    for peer, words in ((PEER, capabilities), (OTHER, CAPABILITIES)):
        node.greeted(peer, 500, words)
        node.connected(peer, 500, words)
        if SILENCES in words:
            _silences(node).announced(peer, 1, 300)
    go_by_own_clock(node)
    now_ms = CALM_MS - TICK_MS
    node.state.pauses._read_ms = now_ms - TICK_MS  # it has not stood still since the start
    node.state.at(now_ms)
    node.state.liveness.tick(now_ms)
    for peer in (PEER, OTHER):
        node.state.liveness.message_received(peer, now_ms)
    for begin_ms in range(1000, CALM_MS, WINDOW_MS):
        for peer in (PEER, OTHER):
            _silences(node).timed(peer, now_ms - 5)
        _silences(node).tell(begin_ms)
    _silences(node).silent(now_ms, [])
    _sent(node)
    return node


def _silences(node: Node) -> Silences:
    return node.services.relays.silences


def _sent(node: Node) -> list[tuple[str, str, int]]:
    """The messages that are about silences, which are removed: kind, receiver, and the limit or number."""
    found = []
    for peer in (PEER, OTHER):
        reader = FrameReader(1 << 20)
        reader.feed(seal(node.state.messages.pop(peer, []) or [b""]))
        while (message := reader.next()) is not None:
            if message and message[0] in (b"TIME", b"SILENCE", b"ISALIVE", b"ALIVE"):
                found.append((message[0].decode(), peer, int(message[3 if message[0] == b"SILENCE" else 2])))
    return found


def _look(node: Node, after_ms: int) -> list[tuple[str, int]]:
    """The tick `after_ms` after CALM_MS, while PEER owes us a reply: who is silent."""
    node.state.at(CALM_MS + after_ms)
    return _silences(node).silent(CALM_MS + after_ms, [PEER])


def _say(node: Node, peer: str, after_ms: int) -> None:
    """A message of a peer comes."""
    node.state.at(CALM_MS + after_ms)
    node.state.last_message_ms[peer] = CALM_MS + after_ms


def test_who_has_not_answered_for_its_limit_is_silent_if_others_do_not_know_better() -> None:
    node = _node()
    assert _look(node, 0) == [] and _sent(node) == [("TIME", PEER, CALM_MS)]
    assert _look(node, 100) == [] and _sent(node) == [("ISALIVE", OTHER, CALM_MS)]
    _silences(node).witnessed(OTHER, CALM_MS, OTHER)
    assert _look(node, 200) == []
    assert _look(node, 300) == [(PEER, 300)]


@pytest.mark.parametrize("read_ms", [None, 250])
def test_a_node_that_reaches_nobody_gives_up_nobody(read_ms: int | None) -> None:
    """Nor if it has reached another one too late to get an answer."""
    node = _node()
    for after_ms in (0, 100, 200):
        assert _look(node, after_ms) == []
    if read_ms is not None:
        node.state.at(CALM_MS + read_ms)
        _silences(node).witnessed(OTHER, CALM_MS, OTHER)
    assert _look(node, 300) == []
    assert _look(node, 400) == ([] if read_ms is None else [(PEER, 300)])


def test_who_answers_another_node_is_not_silent() -> None:
    node = _node()
    _look(node, 0)
    _look(node, 100)
    _silences(node).witnessed(OTHER, CALM_MS, OTHER)
    _silences(node).witnessed(OTHER, CALM_MS, PEER)
    assert [_look(node, after_ms) for after_ms in (200, 300, 400)] == [[], [], []]


@pytest.mark.parametrize("trip_ms", [5, 120])
def test_a_node_that_is_far_from_the_silent_one_is_no_witness(trip_ms: int) -> None:
    """Its answer would come too late. A question that is repeated is answered by what came since the first one."""
    node = _node()
    _silences(node).timed(PEER, CALM_MS - TICK_MS - trip_ms)
    for after_ms in (0, 100):
        node.state.at(CALM_MS + after_ms)
        _silences(node).witness_asked(OTHER, 7, PEER)
    read = [("ALIVE", OTHER, 7)] * 2
    assert [each for each in _sent(node) if each[0] == "ALIVE"] == (read if trip_ms < TICK_MS else [])
    _silences(node).timed(PEER, CALM_MS)
    assert _sent(node) == [("ALIVE", OTHER, 7)]


def test_an_older_limit_that_comes_late_is_none() -> None:
    node = _node()
    _silences(node).announced(PEER, 3, 1500)
    _silences(node).announced(PEER, 2, 300)
    assert [_look(node, after_ms) for after_ms in (0, 100, 300)] == [[], [], []] and _sent(node) == []
    _silences(node).greeted(PEER)
    _silences(node).announced(PEER, 1, 300)
    assert _look(node, 400) == [] and _sent(node) == [("TIME", PEER, CALM_MS + 400)]


def test_an_answer_to_what_was_told_over_a_former_link_says_nothing() -> None:
    """Before, the node took each relay of that peer for stale until the next answer."""
    node = _node()
    _silences(node).tell(CALM_MS)
    number = _silences(node)._told[PEER].number
    _silences(node).connected(PEER)
    _silences(node).heeded(PEER, number)
    assert _silences(node).stale_ms(PEER) == 200


def test_a_limit_is_not_less_than_three_ticks() -> None:
    """Pauses and silences are noticed by ticks only."""
    node = _node(relay_silence_ms_min=0)
    assert _silences(node)._limit_of(1) == 3 * TICK_MS


def test_any_message_is_an_answer() -> None:
    node = _node()
    _look(node, 0)
    _look(node, 100)
    _silences(node).witnessed(OTHER, CALM_MS, OTHER)
    _say(node, PEER, 150)
    _sent(node)
    assert _look(node, 200) == [] and _sent(node) == [("TIME", PEER, CALM_MS + 200)]
    assert _look(node, 300) == [] and _look(node, 400) == []


def test_the_time_in_which_this_node_has_stood_still_does_not_count() -> None:
    node = _node()
    _look(node, 0)
    _look(node, 100)
    _silences(node).witnessed(OTHER, CALM_MS, OTHER)
    assert _look(node, 350) == [], "the answer may lie in a socket"
    assert _look(node, 450) == []


def test_a_peer_of_an_earlier_version_is_asked_nothing() -> None:
    node = _node(WITHOUT)
    assert [_look(node, after_ms) for after_ms in range(0, 1500, 100)] == [[]] * 15
    assert _sent(node) == []
    assert _silences(node).stale_ms(PEER) == 1000
    assert node.services.relays.silent_peers(CALM_MS) == []


def test_long_round_trips_raise_the_limit() -> None:
    node = _node()
    node.state.at(CALM_MS)
    _silences(node).timed(PEER, CALM_MS - 150)
    _look(node, 0)
    _look(node, 100)
    _silences(node).witnessed(OTHER, CALM_MS, OTHER)
    assert [_look(node, after_ms) for after_ms in (200, 300, 400, 500)] == [[], [], [], [(PEER, 450)]]


def test_a_lower_limit_fences_us_at_once_and_a_higher_one_when_it_is_heeded() -> None:
    node = _node()
    silences, pauses = _silences(node), node.state.pauses
    assert (silences.stale_ms(PEER), pauses.fence_ms) == (200, 200), "told before, and nobody has heeded it"
    node.state.at(CALM_MS + 300)  # a stall of 400 ms
    silences.tell(CALM_MS + 300)
    limits = [(peer, limit_ms) for kind, peer, limit_ms in _sent(node) if kind == "SILENCE"]
    assert limits == [(PEER, 1200), (OTHER, 1200)]
    silences.heeded(PEER, 1)
    assert silences.stale_ms(PEER) == 200, "that was an earlier one"
    silences.heeded(PEER, silences._told[PEER].number)
    silences.tell(CALM_MS + 400)
    assert (silences.stale_ms(PEER), silences.stale_ms(OTHER), pauses.fence_ms) == (800, 200, 200)
    silences.heeded(OTHER, silences._told[OTHER].number)
    silences.tell(CALM_MS + 500)
    assert (pauses.fence_ms, silences.own_limit_ms) == (800, 1200)


def test_a_peer_that_is_not_live_does_not_keep_the_fence_low() -> None:
    node = _node()
    node.state.at(CALM_MS + 300)
    _silences(node).tell(CALM_MS + 300)
    _silences(node).heeded(OTHER, _silences(node)._told[OTHER].number)
    node.state.liveness.link_lost(PEER, CALM_MS + 300)
    _silences(node).tell(CALM_MS + 400)
    assert node.state.pauses.fence_ms == 800


@pytest.mark.parametrize(("capabilities", "stale_ms"), [(CAPABILITIES, 200), (WITHOUT, 1000)])
def test_a_new_link_is_told_again(capabilities: tuple[bytes, ...], stale_ms: int) -> None:
    """Until it answers we are fenced as before; but a process of an earlier version knows nothing of limits."""
    node = _node()
    node.disconnected(PEER, CALM_MS)
    node.connected(PEER, CALM_MS, capabilities)
    _sent(node)
    _silences(node).tell(CALM_MS)
    assert ("SILENCE", PEER, 300) in _sent(node) or capabilities == WITHOUT
    assert _silences(node).stale_ms(PEER) == stale_ms


@pytest.mark.parametrize("settings", [{"fsync": "always"}, {"relay_silence_ms_min": 1500}])
def test_no_limit_falls(settings: dict[str, Any]) -> None:
    """Under fsync `always` messages wait for the disk. And who sets the least limit to the greatest one wants no other."""
    node = _node(**settings)
    assert (node.state.pauses.fence_ms, _silences(node).stale_ms(PEER)) == (1500, 1000)


@pytest.mark.parametrize(("stale_ms", "fence_ms"), [(30, 30), (199, 199), (201, 200), (1500, 200)])
def test_the_fence_is_two_thirds_of_the_limit_and_at_most_relay_stale_ms(stale_ms: int, fence_ms: int) -> None:
    node = _node(relay_stale_ms=stale_ms)
    assert (node.state.pauses.fence_ms, _silences(node).stale_ms(PEER)) == (fence_ms, fence_ms)


def test_a_witness_says_that_it_is_there_and_later_what_it_has_heard() -> None:
    node = _node()
    node.state.at(CALM_MS)
    _silences(node).witness_asked(OTHER, 77, PEER)
    assert _sent(node) == [("TIME", PEER, CALM_MS), ("ALIVE", OTHER, 77)]
    node.state.at(CALM_MS + 50)
    _silences(node).timed(PEER, CALM_MS - 1)
    assert _sent(node) == [], "that answers an earlier question: it may have been long on its way"
    _silences(node).timed(PEER, CALM_MS)
    assert _sent(node) == [("ALIVE", OTHER, 77)]
    _silences(node).timed(PEER, CALM_MS)
    assert _sent(node) == [], "it is told once"


def _relay(node: Node, age_ms: int, value: bytes) -> bool:
    """Whether a relay of PEER of that age runs here."""
    key = next(key for key in (b"k%d" % n for n in range(99)) if node.services.route(key).coordinator is None)
    node.services.relays.ages.note(PEER, 10_000, CALM_MS)  # what the clock of PEER shows when ours shows CALM_MS
    node.state.at(CALM_MS + 100)
    reader = FrameReader(1 << 22)
    options, commands = relay_options(False, 0, 0, False), [[b"SET", key, value]]
    reader.feed(seal([encode_relay(0, 9, 10_100 - age_ms, options, commands)]))
    message = reader.next()
    assert message is not None
    before = node.state.statistics.relays_stale
    node.receive(PEER, message, CALM_MS + 100)
    finish_turn(node)
    return node.state.statistics.relays_stale == before


@pytest.mark.parametrize(
    ("age_ms", "bytes_", "runs"),
    [
        (90, 1, True),
        (200, 1, True),
        (201, 1, False),
        (201, LARGE_BYTES, False),
        (201, 2 * LARGE_BYTES, True),
        (1000, 2 * LARGE_BYTES, True),
        (1001, 2 * LARGE_BYTES, False),
    ],
)
def test_how_old_a_relay_may_be(age_ms: int, bytes_: int, runs: bool) -> None:
    assert _relay(_node(), age_ms, b"v" * bytes_) is runs


class _Nobody(Sink):
    def answer(self, number: int, reply: Any) -> None:
        """Nobody waits for it."""


@pytest.mark.parametrize(
    ("lines", "places"),
    [
        (["SET a 1", "SET b 2", "GET c"], [0, 1, 2]),
        (["INCR a", "SET b 1"], [1]),
        (["SET a 1", "INCR a", "SET a 2", "SET b 1"], [0, 3]),
        (["RPUSH a x", "DEL b a", "SET b 1", "SET c 1"], [3]),
        (["SET a 1 NX", "SET a 2", "EXPIRE a 10"], []),
    ],
)
def test_what_is_given_up_early(lines: list[str], places: list[int]) -> None:
    """What may run twice, and does not follow what may not on one of its keys."""
    items = [RelayItem(_Nobody(), number, line.encode().split()) for number, line in enumerate(lines)]
    assert _node()._dispatcher.retries.repeatable([*items, None]) == places


def test_a_relay_is_looked_through_once_when_its_peer_is_given_up_early() -> None:
    """Its commands that must not run twice wait in it, and each tick would compute all their keys anew."""
    relays = _node().services.relays
    looked: list[int] = []
    row = relays._rows[1] = RelayRow(1, PEER, 0, False, _Nobody())
    row.items = [RelayItem(_Nobody(), 0, [b"INCR", b"a"]), RelayItem(_Nobody(), 1, [b"SET", b"b", b"1"])]
    row.missing = 2

    def second(items: Sequence[RelayItem | None]) -> list[int]:
        looked.append(len(items))
        return [1]

    for _ in range(3):
        relays.give_up(PEER, "it is silent", 0, second)
    assert looked == [2] and [len(each.items) for each in relays.drain_returned()] == [1] and row.missing == 1
