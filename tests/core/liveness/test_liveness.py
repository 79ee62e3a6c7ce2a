"""The liveness table: each of its rules alone, then whole clusters of tables in virtual time, on many seeds.

The simulated network loses, delays and reorders tables and cuts links one way. A kill breaks links, as a dead process
does; a freeze leaves them open and lets frames pile up, as SIGSTOP does.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.liveness import liveness
from server.core.liveness.liveness import Liveness, LivenessLimits, PeerState, decode_table, encode_table

UP, SUSPECT, DOWN = PeerState.UP, PeerState.SUSPECT, PeerState.DOWN
LIMITS, TICK_MS = LivenessLimits(), 200


def table_of(*peers: str) -> Liveness:
    """Returns node `a` with these peers: at time 0 it has heard them all and ticked once."""
    node = Liveness("a", 1000, LIMITS, random.Random(1))
    node.set_members(["a", *peers], 0)
    for peer in peers:
        node.message_received(peer, 0)
    node.tick(0)
    return node


def tick_until(node: Liveness, from_ms: int, to_ms: int, talking: Iterable[str] = ()) -> list[str]:
    """Ticks on time from one moment to another while some peers send messages. Returns the probed peers."""
    asked = []
    for now_ms in range(from_ms + TICK_MS, to_ms + 1, TICK_MS):
        for peer in talking:
            node.message_received(peer, now_ms)
        asked += node.tick(now_ms)
    return asked


@pytest.mark.parametrize(
    ("evidence", "verdict"),  # heard, relayed, unlinked so long ago in ms; a request failed
    [
        ((1999, 10**9, None, False), UP),
        ((2000, 10**9, None, False), SUSPECT),
        ((3999, 10**9, None, True), SUSPECT),  # a failed request alone does not hasten the end
        ((4000, 10**9, None, False), DOWN),
        ((4000, 1999, None, False), SUSPECT),  # a witness hears it
        ((4000, 2000, None, False), DOWN),
        ((0, 0, 0, False), SUSPECT),  # a broken link at once, whatever others say
        ((1, 10**9, 1999, False), SUSPECT),
        ((1, 10**9, 2000, False), DOWN),
        ((1, 1999, 2000, False), SUSPECT),
        ((0, 0, None, True), SUSPECT),
    ],
)
def test_judge(evidence: tuple[int, int, int | None, bool], verdict: PeerState) -> None:
    assert liveness.judge(*evidence, LIMITS) is verdict


@pytest.mark.parametrize("wrong", [{"down_after_ms": 2000}, {"tick_interval_ms": 500}, {"gossip_fanout": 0}])
def test_contradicting_limits_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="liveness needs"):
        LivenessLimits(**wrong)


def test_a_peer_is_down_until_its_first_message_and_is_asked_by_the_first_tick() -> None:
    node = Liveness("a", 1, LIMITS, random.Random(1))
    node.set_members(list("abcdefghi"), 0)
    assert sorted(node.tick(70)) == list("bcdefghi")
    assert [node.state(peer) for peer in "ab"] == [UP, DOWN]
    node.message_received("b", 75)
    assert [node.is_live(peer) for peer in "abc"] == [True, True, False]


def test_members_that_stay_keep_their_state_and_strangers_are_ignored() -> None:
    node = table_of("b", "c")
    before = node.generation
    node.set_members(["a", "b", "c"], 10)
    assert node.generation == before
    node.set_members(["a", "b", "d"], 10)
    assert node.generation > before
    before = node.generation
    for report in (node.message_received, node.link_lost, node.link_refused, node.request_failed):
        report("c", 20)
    node.merge([("c", 9, 9, UP)], "c", 20)
    assert ([node.state(peer) for peer in "bcd"], node.generation) == ([UP, DOWN, DOWN], before)
    assert [entry[0] for entry in node.table()] == ["a", "b", "d"]


def test_a_dead_process_is_suspect_at_once_and_down_two_seconds_later() -> None:
    node = table_of("b", "c")
    tick_until(node, 0, 400, "bc")
    node.link_lost("b", 401)
    assert node.state("b") is SUSPECT
    for retry_ms in range(600, 2400, 200):  # retries must not put the verdict off
        node.link_refused("b", retry_ms)
        tick_until(node, retry_ms - 200, retry_ms, "c")
        assert node.state("b") is SUSPECT
    tick_until(node, 2400, 2600, "c")
    assert [node.state(peer) for peer in "bc"] == [DOWN, UP]


def test_a_frozen_process_is_suspect_after_two_seconds_and_down_after_four() -> None:
    node = table_of("b", "c")
    verdicts = []
    for now_ms in range(0, 4000, TICK_MS):
        tick_until(node, now_ms, now_ms + TICK_MS, "c")
        verdicts.append(node.state("b"))
    assert verdicts == [UP] * 9 + [SUSPECT] * 10 + [DOWN]


@pytest.mark.parametrize("report", [Liveness.link_lost, Liveness.link_refused, Liveness.request_failed])
def test_evidence_counts_until_the_next_message(report: Callable[[Liveness, str, int], None]) -> None:
    node = table_of("b")
    before = node.generation
    report(node, "b", 100)
    report(node, "b", 101)
    assert (node.state("b"), node.generation) == (SUSPECT, before + 1)
    node.message_received("b", 102)
    assert (node.state("b"), node.generation) == (UP, before + 2)
    tick_until(node, 102, 1902)
    assert node.state("b") is UP


def test_a_witness_keeps_an_unreachable_peer_from_down_but_never_makes_it_up() -> None:
    node = table_of("b", "c")
    node.link_lost("b", 0)
    asked = []
    for now_ms in range(0, 30_000, 1000):
        asked += tick_until(node, now_ms, now_ms + 1000, "c")
        node.merge([("c", 1, now_ms + 1, UP), ("b", 1, now_ms + 1, UP)], "c", now_ms + 1000)
        assert node.state("b") is SUSPECT
    assert asked.count("b") < 45  # impatiently at first, then once a second
    tick_until(node, 30_000, 31_800, "c")
    assert node.state("b") is SUSPECT
    tick_until(node, 31_800, 32_000, "c")
    assert node.state("b") is DOWN


def test_stale_tables_bring_nobody_back_and_news_does() -> None:
    node = table_of("b", "c")
    node.merge([("b", 7, 50, UP)], "b", 1)
    tick_until(node, 0, 5000, "c")
    before = node.generation
    for (incarnation, heartbeat), sender in itertools.product([(7, 50), (7, 49), (6, 900), (0, 0)], "bc"):
        node.merge([("b", incarnation, heartbeat, UP)], sender, 5001)
    node.merge([("b", 7, 51, SUSPECT)], "c", 5002)  # newer, but c does not reach b either
    assert (node.state("b"), node.generation) == (DOWN, before)
    node.merge([("b", 7, 51, UP)], "c", 5003)
    assert node.state("b") is SUSPECT
    node.merge([("b", 8, 1, UP)], "b", 5004)
    assert (node.state("b"), node.table()[1][1]) == (UP, 8)
    node.merge([("b", 8, 1, UP)], "b", 5005)  # of a peer in good standing an old table is still a message
    assert (node.state("b"), node.table()[1][1]) == (UP, 8)


def test_a_node_that_is_doubted_or_behind_its_former_life_raises_its_incarnation() -> None:
    node = table_of("b")
    assert node.table()[0][2] < node.table()[0][2]  # each table is newer than the last
    node.merge([("a", 999, 10**6, DOWN), ("a", 0, 0, DOWN), ("a", 1000, 0, UP)], "b", 1)
    assert node.incarnation == 1000  # doubts about an earlier life, or none at all
    node.merge([("a", 1000, 0, SUSPECT), ("a", 1000, 0, DOWN)], "b", 2)
    assert node.incarnation == 1001
    node.merge([("a", 5000, 77, UP)], "b", 3)  # our clock was set back: outdo the former life
    assert node.table()[0][:2] == ("a", 5001)
    node.merge([("a", liveness.COUNTER_MAX, 1, DOWN)], "b", 4)
    assert decode_table(encode_table(node.table()))[0][1] == liveness.COUNTER_MAX


def test_a_pause_of_ours_is_not_counted_as_silence_of_the_peers() -> None:
    node = table_of("b", "c", "d")
    tick_until(node, 0, 1000, "bd")
    node.request_failed("b", 61_000)  # deadlines that passed while nobody looked
    node.link_lost("d", 61_000)  # but a broken link is one, whenever it broke
    node.merge([("c", 1, 1, UP), ("b", 1, 1, UP)], "c", 61_001)
    assert set(node.tick(61_002)) >= {"b", "c"}
    node.request_failed("c", 61_003)
    tick_until(node, 61_002, 62_402)
    assert [node.state(peer) for peer in "bcd"] == [UP, UP, SUSPECT]
    tick_until(node, 62_402, 65_402)  # and who has died meanwhile is found out as fast as ever
    assert [node.state(peer) for peer in "bcd"] == [DOWN, DOWN, DOWN]


def test_a_node_that_ticks_half_as_often_as_it_should_suspects_half_as_fast() -> None:
    node = table_of("b")
    fell_ms = next(now_ms for now_ms in range(1000, 20_000, 1000) if node.tick(now_ms) and node.state("b") is DOWN)
    assert fell_ms == 2 * LIMITS.down_after_ms
    node.message_received("b", 8001)
    tick_until(node, 8000, 10_000, "b")
    node.request_failed("b", 10_000)  # it has caught up: a failed request counts again
    assert node.state("b") is SUSPECT


def test_gossip_goes_to_three_talking_peers_a_second_and_to_one_of_the_dead() -> None:
    node = table_of(*"bcdefghi")
    tick_until(node, 0, 10_000, "bcdefg")
    asked = tick_until(node, 10_000, 110_000, "bcdefg")
    assert (len(asked), sum(peer in "hi" for peer in asked)) == (400, 100)
    assert set(asked) == set("bcdefghi")


def test_in_a_small_or_lonely_cluster_everybody_is_asked() -> None:
    assert sorted(tick_until(table_of("b", "c"), 0, 1000, "bc")) == ["b", "c"]
    alone = table_of("b", "c", "d")
    tick_until(alone, 0, 10_000)
    assert sorted(tick_until(alone, 10_000, 11_000)) == ["b", "c", "d"]
    assert tick_until(table_of(), 0, 5000) == []


def test_a_peer_falling_silent_is_asked_before_it_is_suspected_and_until_it_is_down() -> None:
    node = table_of(*"bcdefghi")
    asked = [tick_until(node, now_ms, now_ms + 200, "cdefghi").count("b") for now_ms in range(0, 6000, 200)]
    assert sum(asked[4:9]) >= 2
    assert sum(asked[9:19]) >= 4
    assert sum(asked[20:]) <= 2  # now only as one of the dead


COUNTERS = st.integers(0, liveness.COUNTER_MAX)
ENTRIES = st.tuples(st.text("a1-:!~", min_size=1, max_size=32), COUNTERS, COUNTERS, st.sampled_from(PeerState))


@given(st.lists(ENTRIES, max_size=9))
def test_a_table_survives_the_wire_also_with_fields_of_later_versions(table: list[liveness.TableEntry]) -> None:
    assert decode_table(encode_table(table)) == table
    assert decode_table([item + b" zone=\xff 9" for item in encode_table(table)]) == table


MALFORMED = [b"", b"n 1 2", b"n 1 2 gone", b"n 1 2 upwards", b"n 1 2 up\n", b" 1 2 up", b"n  1 2 up", b"n -1 2 up"]
MALFORMED += [b"n 1_0 2 up", b"n \xd9\xa1 2 up", b"\xff 1 2 up", b"n 1%018d 2 up" % 0, b"%0129d 1 2 up" % 0]
MALFORMED += [b"n %d 2 up" % (liveness.COUNTER_MAX + 1), b"n 1 %d up" % (liveness.COUNTER_MAX + 1), b"n\0 1 2 up"]


@pytest.mark.parametrize("items", [[b"m 1 2 up", item] for item in MALFORMED] + [[b"n 1 2 up"] * 1025])
def test_malformed_tables_are_refused(items: list[bytes]) -> None:
    with pytest.raises(ValueError):
        decode_table(items)


class Cluster:
    """Nodes on a seeded network, all up when made. `changes` holds each new verdict: (ms, observer, peer, state)."""

    def __init__(self, size: int, seed: int, loss: float = 0.05, delay_ms: int = 100) -> None:
        self.rng, self.loss, self.delay_ms = random.Random(seed), loss, delay_ms
        self.now_ms = self.serial = 0
        self.events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.names = [f"n{number}" for number in range(size)]
        self.nodes: dict[str, Liveness] = {}
        self.frozen: dict[str, list[tuple[Any, ...]]] = {}  # with the frames that wait for them
        self.cuts: list[tuple[str, str]] = []  # from, to
        self.verdicts = dict.fromkeys(itertools.permutations(self.names, 2), DOWN)
        self.changes: list[tuple[int, str, str, PeerState]] = []
        for name in self.names:
            self.start(name)
        assert self.run(5000, self.agree) < 5000
        self.changes.clear()

    def at(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        self.serial += 1
        heapq.heappush(self.events, (self.now_ms + delay_ms, self.serial, action, arguments))

    def run(self, for_ms: int, until: Callable[[], bool] = lambda: False) -> int:
        """Lets time pass until a condition holds. Returns how long that took, or `for_ms` if it never held."""
        start_ms = self.now_ms
        self.at(for_ms, lambda: None)
        while not until() and self.now_ms < start_ms + for_ms:
            self.now_ms, _, action, arguments = heapq.heappop(self.events)
            action(*arguments)
        return self.now_ms - start_ms

    def start(self, name: str) -> None:
        node = self.nodes[name] = Liveness(name, 10**6 + self.now_ms, LIMITS, random.Random(self.rng.random()))
        node.set_members(self.names, self.now_ms)
        self.note(name)
        self.at(self.rng.randrange(TICK_MS), self.tick, name, node)

    def tick(self, name: str, node: Liveness) -> None:
        if self.nodes.get(name) is node and name not in self.frozen:
            for peer in node.tick(self.now_ms):
                self.send(name, peer, False)
            self.note(name)
            self.at(TICK_MS + self.rng.randrange(50), self.tick, name, node)

    def send(self, sender: str, to: str, is_answer: bool) -> None:
        if self.rng.random() >= self.loss and (sender, to) not in self.cuts:
            self.at(self.rng.randint(1, self.delay_ms), self.deliver, sender, to, self.nodes[sender].table(), is_answer)

    def deliver(self, sender: str, to: str, table: list[liveness.TableEntry], is_answer: bool) -> None:
        if to in self.frozen:
            self.frozen[to].append((sender, to, table, is_answer))
        elif to in self.nodes:
            self.nodes[to].merge(table, sender, self.now_ms)
            self.note(to)
            if not is_answer:
                self.send(to, sender, True)

    def kill(self, name: str) -> None:
        del self.nodes[name]
        for peer in self.nodes:
            self.at(self.rng.randint(1, 50), self.unlink, peer, name, Liveness.link_lost)

    def unlink(self, name: str, peer: str, report: Callable[[Liveness, str, int], None]) -> None:
        if peer not in self.nodes:
            report(self.nodes[name], peer, self.now_ms)
            self.note(name)
            self.at(500, self.unlink, name, peer, Liveness.link_refused)

    def freeze(self, name: str) -> None:
        self.frozen[name] = []

    def thaw(self, name: str) -> None:
        for frame in self.frozen.pop(name):
            self.deliver(*frame)
        self.tick(name, self.nodes[name])

    def note(self, name: str) -> None:
        for peer in self.names:
            state = self.nodes[name].state(peer)
            if peer != name and self.verdicts[name, peer] is not state:
                self.verdicts[name, peer] = state
                self.changes.append((self.now_ms, name, peer, state))

    def agree(self, gone: str = "") -> bool:
        """Whether all running nodes believe `gone` DOWN and each other UP."""
        seen = [(peer, state) for (name, peer), state in self.verdicts.items() if name in self.nodes and name != gone]
        return all(state is (DOWN if peer == gone else UP) for peer, state in seen)

    def fallen(self) -> set[str]:
        return {peer for _, _, peer, state in self.changes if state is DOWN}


def trace(seed: int) -> str:
    cluster = Cluster(9, seed)
    cluster.kill("n3")
    cluster.run(9000)
    return repr((cluster.serial, cluster.changes))


@pytest.mark.parametrize(("size", "minutes", "loss"), [(3, 60, 0.05), (9, 5, 0.05), (9, 1, 0)])
def test_a_stable_cluster_calls_nobody_down(size: int, minutes: int, loss: float) -> None:
    cluster = Cluster(size, 1, loss, delay_ms=250)
    cluster.run(minutes * 60_000)
    assert cluster.fallen() == set()
    assert loss or cluster.changes == []  # and suspects nobody while no message is lost


@pytest.mark.parametrize(("fall", "rise"), [(Cluster.kill, Cluster.start), (Cluster.freeze, Cluster.thaw)])
@pytest.mark.parametrize("size", [2, 3, 9])
@pytest.mark.parametrize("seed", range(5))
def test_who_dies_or_freezes_or_returns_is_known_to_all_within_five_seconds(
    fall: Callable[[Cluster, str], None], rise: Callable[[Cluster, str], None], size: int, seed: int
) -> None:
    cluster = Cluster(size, seed)
    victim = cluster.rng.choice(cluster.names)
    cluster.run(cluster.rng.randrange(3000))
    fall(cluster, victim)
    assert cluster.run(5000, lambda: cluster.agree(victim)) < 5000
    cluster.run(cluster.rng.randrange(20_000))
    rise(cluster, victim)
    assert cluster.run(5000, cluster.agree) < 5000
    assert {change[2] for change in cluster.changes if change[3] is DOWN and change[1] != victim} == {victim}
    assert rise is Cluster.start or cluster.fallen() == {victim}  # the thawed one took nobody for dead


@pytest.mark.parametrize("cuts", [[("n0", "n1")], [("n0", "n1"), ("n1", "n0")]])
def test_a_cut_between_two_with_a_third_reaching_both_is_nobodys_death(cuts: list[tuple[str, str]]) -> None:
    cluster = Cluster(3, seed=3)
    cluster.cuts = cuts
    cluster.run(60_000)
    assert {pair for pair, state in cluster.verdicts.items() if state is SUSPECT} == {(to, sent) for sent, to in cuts}
    assert cluster.fallen() == set()
    cluster.cuts = []
    assert cluster.run(5000, cluster.agree) < 5000


@pytest.mark.parametrize("seed", range(4))
def test_two_halves_that_hold_each_other_for_dead_meet_again(seed: int) -> None:
    cluster = Cluster(9, seed)
    cluster.cuts = [pair for pair in cluster.verdicts if (pair[0] < "n4") != (pair[1] < "n4")]
    cluster.run(5000)
    assert all(cluster.verdicts[pair] is DOWN for pair in cluster.cuts)
    cluster.cuts = []
    assert cluster.run(5000, cluster.agree) < 5000


def test_a_seed_gives_the_same_trace_under_any_hash_seed() -> None:
    program = "from tests.core.liveness.test_liveness import trace; print(trace(7), end='')"
    other = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    there = subprocess.check_output([sys.executable, "-c", program], env=os.environ | {"PYTHONHASHSEED": other})
    assert there.decode() == trace(7)
