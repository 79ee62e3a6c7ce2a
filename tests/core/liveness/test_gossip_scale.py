"""Gossip in large clusters: whole clusters of tables in virtual time (tests/paper/gossip.py), and the rules one by one."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.liveness.gossip_table import Ring, Rumours
from server.core.liveness.liveness import Liveness, LivenessLimits, PeerState
from tests.paper.gossip import Gossip, measure, rounds

UP, SUSPECT, DOWN = PeerState.UP, PeerState.SUSPECT, PeerState.DOWN
LIMITS = LivenessLimits()
PROMISE_MS = 5000
NAMES = [f"n{number:02}" for number in range(40)]
FAR = NAMES[20]  # not watched by n00


def wide() -> Liveness:
    """Returns node n00 of forty: at time 0 it has heard all others, with incarnation 1, and ticked once."""
    node = Liveness(NAMES[0], 1000, LIMITS, random.Random(1))
    node.set_members(NAMES, 0)
    for peer in NAMES[1:]:
        node.merge([(peer, 1, 1, UP)], peer, 0)
    node.tick(0)
    return node


def tick_until(node: Liveness, from_ms: int, to_ms: int, silent: str = "") -> list[str]:
    """Ticks on time. All watched nodes send messages, and all probed nodes answer. Returns the probed nodes."""
    asked = []
    for now_ms in range(from_ms + 200, to_ms + 1, 200):
        chosen = node.tick(now_ms)
        asked += chosen
        for peer in [*NAMES[1:9], *chosen]:
            if peer != silent:
                node.message_received(peer, now_ms)
    return asked


def test_everybody_is_watched_by_as_many_as_it_watches() -> None:
    ring = Ring(NAMES, small_max=17, width=8)
    for node in NAMES:
        assert sum(ring.watches(node, other) for other in NAMES) == 8
        assert sum(ring.watches(other, node) for other in NAMES) == 8
    assert ring.watches("n39", "n07")
    assert not ring.watches("n39", "n08")
    assert not ring.watches("stranger", "n01")
    assert all(Ring(NAMES[:17], 17, 8).watches(one, other) for one in NAMES for other in NAMES)


def test_a_rumour_is_told_least_told_first_and_comes_to_an_end() -> None:
    rumours = Rumours()
    for number in range(5):
        rumours.add(f"old{number}", 1)
    assert rumours.next_to_send(3) == ["old0", "old1", "old2"]
    rumours.add("new", 1000)
    assert rumours.next_to_send(3) == ["new", "old3", "old4"]
    told = [node for _ in range(100) for node in rumours.next_to_send(3)]
    assert (told.count("new"), told.count("old0"), told.count("old3")) == (29, 2, 2)
    assert rumours.next_to_send(3) == []


def test_a_table_is_bounded_and_tells_of_all_in_turn() -> None:
    node = wide()
    tables = [node.table(FAR) for _ in range(10)]
    assert LIMITS.table_entries - 1 <= max(map(len, tables)) <= LIMITS.table_entries
    assert all(table[0][0] == NAMES[0] for table in tables)
    assert all({FAR, *NAMES[1:9]} <= {entry[0] for entry in table} for table in tables)
    assert {entry[0] for table in tables for entry in table} == set(NAMES)


def test_only_the_watched_owe_a_word_unasked() -> None:
    node = wide()
    asked = tick_until(node, 0, 30_000)
    assert all(node.state(peer) is UP for peer in NAMES)
    assert len(asked) < 30 * 4
    for now_ms in range(30_200, 36_000, 200):  # now nobody talks any more
        node.tick(now_ms)
    assert [node.state(peer) for peer in NAMES[1:9]] == [DOWN] * 8
    assert sum(node.state(peer) is UP for peer in NAMES[9:]) > 10


def test_who_does_not_answer_is_suspected_and_its_death_is_no_rumour_of_ours() -> None:
    node = wide()
    node.request_failed(FAR, 100)
    assert node.state(FAR) is SUSPECT
    tick_until(node, 100, 20_100, silent=FAR)
    assert node.state(FAR) is DOWN
    assert (FAR, 1, 1, UP) in [entry for _ in range(5) for entry in node.table()]
    node.merge([(FAR, 1, 2, UP)], NAMES[30], 20_200)  # but somebody has news of it
    assert node.state(FAR) is SUSPECT
    node.message_received(FAR, 20_300)
    assert node.state(FAR) is UP


def test_a_report_is_believed_passed_on_and_refuted_by_a_new_incarnation() -> None:
    node = wide()
    tick_until(node, 0, 3000)
    node.merge([(FAR, 1, 1, DOWN)], NAMES[30], 3000)
    assert node.state(FAR) is DOWN
    assert (FAR, 1, 1, DOWN) in node.table()
    node.merge([(FAR, 1, 5, UP)], NAMES[31], 3100)  # an older word, and no answer to it
    assert node.state(FAR) is DOWN
    node.merge([(FAR, 2, 6, UP)], NAMES[31], 3200)
    assert node.state(FAR) is UP
    node.merge([(FAR, 1, 1, DOWN)], NAMES[30], 3300)
    assert node.state(FAR) is UP
    assert (FAR, 2, 6, UP) in node.table()


def test_a_message_of_the_peer_counts_more_than_a_report_and_the_peer_gets_the_report() -> None:
    node = wide()
    tick_until(node, 0, 3000)
    node.message_received(FAR, 3000)
    node.merge([(FAR, 1, 1, DOWN)], NAMES[30], 3001)
    assert node.state(FAR) is UP
    assert (FAR, 1, 1, DOWN) in node.table(FAR)
    assert (FAR, 1, 1, UP) in node.table(NAMES[9])
    tick_until(node, 3000, 5200, silent=FAR)
    assert node.state(FAR) is DOWN


def test_a_word_of_others_makes_none_worse_that_we_watch() -> None:
    node = wide()
    node.merge([(NAMES[1], 1, 1, DOWN)], NAMES[2], 100)
    assert node.state(NAMES[1]) is UP
    tick_until(node, 0, 3000, silent=NAMES[1])
    node.merge([(NAMES[1], 1, 7, UP)], FAR, 3000)  # who does not watch it is no witness
    assert node.state(NAMES[1]) is SUSPECT
    tick_until(node, 3000, 4200, silent=NAMES[1])
    assert node.state(NAMES[1]) is DOWN
    assert (NAMES[1], 1, 1, DOWN) in node.table()


@given(st.data())
@settings(max_examples=40)
def test_no_peer_in_doubt_is_left_out_of_a_tick(data: st.DataObject) -> None:
    """A tick looks at the watched peers and at those that it has noted: each peer in doubt is one of them."""
    node, now_ms = wide(), 0
    peers = st.sampled_from(NAMES[1:])
    for _ in range(data.draw(st.integers(1, 30))):
        peer, now_ms = data.draw(peers), now_ms + data.draw(st.sampled_from([0, 200, 3000]))
        match data.draw(st.integers(0, 6)):
            case 0:
                node.tick(now_ms)
            case 1:
                node.message_received(peer, now_ms)
            case 2:
                node.link_lost(peer, now_ms)
            case 3:
                node.request_failed(peer, now_ms)
            case 4:
                node.merge([(peer, 1, data.draw(st.integers(1, 9)), DOWN)], data.draw(peers), now_ms)
            case 5:
                node.merge([(peer, 1, data.draw(st.integers(1, 9)), UP)], data.draw(peers), now_ms)
            case _:
                node.set_members([name for name in NAMES if name != peer], now_ms)
        in_doubt = [name for name, known in node._peers.items() if known.is_doubtful() and not known.watched]
        assert not [name for name in in_doubt if name not in node._doubted]


def test_a_peer_that_becomes_watched_is_not_judged_by_its_silence_before() -> None:
    node = wide()
    tick_until(node, 0, 30_000)
    node.set_members([NAMES[0], *NAMES[9:]], 30_000)
    assert [node.state(peer) for peer in NAMES[9:17]] == [UP] * 8
    node.tick(30_000)
    assert [node.state(peer) for peer in NAMES[9:17]] == [UP] * 8
    for now_ms in range(30_200, 34_401, 200):
        node.tick(now_ms)
    assert [node.state(peer) for peer in NAMES[9:17]] == [DOWN] * 8


@pytest.mark.parametrize(("size", "seed"), [(10, 1), (100, 1), (300, 1), *[
    pytest.param(1000, seed, marks=[pytest.mark.soak, pytest.mark.timeout(600)]) for seed in range(3)
]])  # fmt: skip
def test_a_layout_reaches_all_in_a_few_rounds(size: int, seed: int) -> None:
    """Also in a cluster that has just started, where no node has heard of another."""
    gossip = Gossip(size, seed, acquainted=False)
    assert rounds(gossip.spread()) <= 2 * math.log2(size)


def test_the_bytes_of_gossip_do_not_grow_with_the_cluster() -> None:
    few, many = measure(70, for_ms=1000), measure(140, for_ms=1000)
    assert many.bytes_per_node_and_s <= 1.3 * few.bytes_per_node_and_s
    for row in (few, many):
        assert row.rounds <= 2 * math.log2(row.size)
        assert row.down_everywhere_ms < PROMISE_MS
        assert row.false_downs == 0


@pytest.mark.parametrize("seed", range(2))
def test_a_node_that_stood_still_is_back_for_all_and_held_nobody_for_dead(seed: int) -> None:
    gossip = Gossip(40, seed)
    gossip.run(2000)
    assert gossip.silence() < PROMISE_MS
    gossip.run(5000)
    (gone,) = gossip.gone
    assert gossip.revive(gone) < PROMISE_MS
    assert gossip.false_downs == []


def test_a_cut_between_a_node_and_one_that_it_watches_is_nobodys_death() -> None:
    gossip = Gossip(40, 1)
    watcher, watched, *_ = sorted(gossip.names)
    gossip.cuts = {(watcher, watched): None, (watched, watcher): None}
    gossip.run(20_000)
    assert gossip.downs == {}
    assert gossip.nodes[watcher].state(watched) is SUSPECT


def test_a_node_that_is_cut_off_reports_no_peer() -> None:
    """Others may believe it dead, because it answers no node."""
    gossip = Gossip(40, 1)
    is_cut_off, *others = gossip.names
    gossip.cuts = {(other, is_cut_off): None for other in others}
    gossip.run(15_000)
    assert len(gossip.false_downs) > 8
    assert {peer for observer, peer in gossip.false_downs if observer != is_cut_off} <= {is_cut_off}


@pytest.mark.parametrize(
    ("size", "seconds"), [(25, 20), pytest.param(100, 1200, marks=[pytest.mark.soak, pytest.mark.timeout(3600)])]
)
def test_a_large_stable_cluster_holds_nobody_for_down(size: int, seconds: int) -> None:
    """One message in a hundred is lost, and so are all messages during a node's pauses of up to a second."""
    gossip = Gossip(size, 1)
    end_ms = gossip.now_ms + seconds * 1000
    while gossip.now_ms < end_ms:
        paused = gossip.rng.choice(gossip.names)
        gossip.gone[paused] = None
        gossip.run(gossip.rng.randrange(1000))
        assert gossip.downs == {}
        gossip.revive(paused)
        gossip.run(gossip.rng.randrange(3000))
    assert gossip.false_downs == []


def test_half_of_a_cluster_dies_at_once() -> None:
    gossip = Gossip(60, 1)
    gossip.run(1000)
    gossip.gone = dict.fromkeys(gossip.rng.sample(gossip.names, 30))
    gossip.run(PROMISE_MS)
    living = [name for name in gossip.names if name not in gossip.gone]
    known = [pair for pair in gossip.downs if pair[0] in living]
    assert len(known) > 0.9 * len(living) * len(gossip.gone)  # the others' watchers have died, too: that takes longer
    assert gossip.false_downs == []


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("seed", range(3))
def test_a_thousand_nodes(seed: int) -> None:
    few, many = measure(100, seed), measure(1000, seed)
    assert many.bytes_per_node_and_s <= 1.3 * few.bytes_per_node_and_s
    assert many.rounds <= 2 * math.log2(1000)
    assert many.down_everywhere_ms < PROMISE_MS
    assert many.false_downs == 0
