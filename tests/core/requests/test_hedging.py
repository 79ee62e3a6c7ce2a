"""Whom a quorum read asks, and when it asks one more.

Member 1 coordinates a cluster of three in which all own each key. The tests play members 2 and 3.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hiredis import Reader

from protocol.peer_versions import CAPABILITIES
from server.core.node import Node
from server.core.records.records import storage_key_of
from server.core.records.versions import supersede
from server.core.requests.hedging import BUDGET_READS_MAX, DELAY_MS_MAX, DELAY_MS_MIN, LATE_MS, PeerLatency
from tests.core.commands.talking import ADDRESS, CONFIG, LOCAL_ADDRESS, Store, finish_turn, make_node, member, reach
from tests.core.requests.test_reads import messages_in

KEY = b"key"
VALUE = b"value"
TWO, THREE = member(2).id, member(3).id


class Cluster:
    """A coordinator and its client, at a time that the test sets."""

    def __init__(self, compared_share: float = 0.0, members: int = 3) -> None:
        self.node: Node = make_node(members, CONFIG)
        self.now_ms = 0
        self.hedging = self.node.services.reads.hedging
        self.hedging.compared_share = compared_share
        store = self.node.state.records._store
        assert isinstance(store, Store)
        store.pairs[storage_key_of(KEY)] = supersede(None, b"actor-z.", 1, VALUE)
        for number in range(2, members + 1):
            reach(self.node, number)
            self.node.greeted(member(number).id, 0, CAPABILITIES)
        self.session = self.node.open_session(ADDRESS, LOCAL_ADDRESS, 0)
        self.replies: list[Any] = []
        self.questions: list[tuple[str, int]] = []  # of the last turn: who was asked, and for which group
        self.number = 0  # of the last group

    def read(self, *command: bytes) -> list[str]:
        """The client sends a command, GET by default. Returns the ids of the peers that are asked."""
        self.node.command(self.session, list(command) or [b"GET", KEY], self.now_ms)
        return self.turn()

    def turn(self) -> list[str]:
        """Ends the turn. Returns the ids of the peers that are asked."""
        outbox = finish_turn(self.node)
        reader = Reader()
        for _, data in outbox.replies:
            assert isinstance(data, bytes)
            reader.feed(data)
        while (reply := reader.gets()) is not False:
            self.replies.append(reply)
        self.questions = []
        for peer, data in outbox.messages.items():
            found = [int(message[2]) for message in messages_in(data) if message[0] == b"COMPARE"]
            self.questions += [(peer, number) for number in found]
        if self.questions:
            self.number = self.questions[-1][1]
        return [peer for peer, _ in self.questions]

    def at(self, now_ms: int) -> list[str]:
        """It is `now_ms`, and the timers are called. Returns the ids of the peers that are asked."""
        self.now_ms = now_ms
        self.node.wake(now_ms)
        return self.turn()

    def tell(self, peer: str, kind: bytes = b"SAME", *items: bytes, number: int = 0) -> list[str]:
        """`peer` answers the group with that number, or the last one. Returns the ids of the peers that are asked."""
        self.node.receive(peer, [kind, b"0", b"%d" % (number or self.number), *items], self.now_ms)
        return self.turn()

    def reads(self, count: int, latency_ms: dict[str, int]) -> Counter[str]:
        """So many reads, each 1 ms after the one before, whose answers come at once or after `latency_ms`.

        Returns how often each peer was asked.
        """
        asked: Counter[str] = Counter()
        waiting: list[tuple[int, str, int]] = []
        for _ in range(count):
            for step in (lambda: self.at(self.now_ms + 1), self.read):
                asked.update(step())
                waiting += [(self.now_ms + latency_ms.get(peer, 0), peer, number) for peer, number in self.questions]
            for due in [each for each in waiting if each[0] <= self.now_ms]:
                waiting.remove(due)
                self.tell(due[1], number=due[2])
        return asked


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_a_read_asks_one_other_owner(cluster: Cluster) -> None:
    [peer] = cluster.read()
    assert cluster.replies == []
    assert cluster.tell(peer) == []
    assert cluster.replies == [VALUE]
    assert not cluster.node.services.reads.is_busy()
    assert cluster.at(1000) == [], "what is answered is not hedged"


def test_the_client_decides_how_many_are_asked(cluster: Cluster) -> None:
    assert cluster.read(b"DYN.GET", KEY, b"R", b"1") == []
    assert len(cluster.replies) == 1
    for quorum, others in ((b"2", 1), (b"3", 2)):
        asked = cluster.read(b"DYN.GET", KEY, b"R", quorum)
        assert len(asked) == others
        for peer in asked:
            assert len(cluster.replies) == others
            cluster.tell(peer)
        assert len(cluster.replies) == others + 1
    assert not cluster.node.services.reads.is_busy()


def test_a_late_answer_makes_it_ask_the_other_owner(cluster: Cluster) -> None:
    [first] = cluster.read()
    assert cluster.at(DELAY_MS_MIN - 1) == []
    [other] = cluster.at(DELAY_MS_MIN)
    assert {first, other} == {TWO, THREE}
    assert cluster.node.state.statistics.reads_hedged == 1
    cluster.tell(other)
    assert cluster.replies == [VALUE]
    cluster.tell(first)
    assert cluster.replies == [VALUE]
    assert not cluster.node.services.reads.is_busy()
    assert cluster.node.state.in_flight == 0


def test_the_node_is_woken_for_a_hedge(cluster: Cluster) -> None:
    cluster.node.tick(0, 0)
    cluster.read()
    assert cluster.node.next_deadline_ms() == DELAY_MS_MIN


@pytest.mark.parametrize("how", ["refused", "link lost", "no vote", "no link"])
def test_another_owner_takes_the_place_of_one_that_gives_no_vote(cluster: Cluster, how: str) -> None:
    if how == "no link":
        cluster.node.state.links.discard(TWO)  # and the routes do not know it yet
        for _ in range(10):
            assert cluster.read() == [THREE]
        return
    [first] = cluster.read()
    [other] = {TWO, THREE} - {first}
    if how == "refused":
        assert cluster.tell(first, b"REFUSED") == [other]
    elif how == "no vote":
        assert cluster.tell(first, b"DIFFER", b"?") == [other]
    else:
        cluster.node.disconnected(first, 0)
        assert cluster.turn() == [other]
    assert cluster.node.state.statistics.reads_hedged == 0
    cluster.tell(other)
    assert cluster.replies == [VALUE]
    assert cluster.node.state.in_flight == 0
    if how in ("refused", "no vote"):
        asked = [cluster.read() for _ in range(20)]
        assert asked == [[other]] * 20, "such a peer is avoided"


def test_no_quorum_is_said_once_all_were_asked(cluster: Cluster) -> None:
    [first] = cluster.read()
    [other] = cluster.tell(first, b"REFUSED")
    cluster.tell(other, b"REFUSED")
    [reply] = cluster.replies
    assert str(reply).startswith("NOQUORUM read: got=1 wanted=2")
    assert cluster.node.state.in_flight == 0


def test_a_replica_that_answers_twice_is_one_vote() -> None:
    cluster = Cluster(members=3)
    asked = cluster.read(b"DYN.GET", KEY, b"R", b"3")
    for _ in range(2):
        cluster.tell(asked[0])
    assert cluster.replies == []
    cluster.tell(asked[1])
    assert len(cluster.replies) == 1


def test_an_owner_that_is_not_live_is_asked_last(cluster: Cluster) -> None:
    cluster.node.state.liveness.request_failed(TWO, 0)
    cluster.turn()
    assert all(cluster.read() == [THREE] for _ in range(20))
    assert cluster.at(DELAY_MS_MIN) == [TWO] * 20, "rather than nobody"


def test_healthy_owners_share_the_reads(cluster: Cluster) -> None:
    asked = cluster.reads(400, {})
    assert asked.total() == 400
    assert 150 < asked[TWO] < 250


def test_a_slow_owner_is_asked_seldom_and_hurts_nobody(cluster: Cluster) -> None:
    asked = cluster.reads(400, {TWO: 100})
    assert asked[TWO] < 20
    assert cluster.node.state.statistics.reads_hedged < 20
    assert len(cluster.replies) >= 400 - 2 * DELAY_MS_MIN


def test_an_owner_that_is_a_little_slower_is_asked_seldom(cluster: Cluster) -> None:
    asked = cluster.reads(400, {TWO: DELAY_MS_MIN - 1})
    assert asked[TWO] < 20
    assert cluster.node.state.statistics.reads_hedged == 0, "it is never late"


def test_a_frozen_owner_costs_its_first_reads_a_few_ms(cluster: Cluster) -> None:
    cluster.reads(100, {})
    before = len(cluster.replies)
    asked = cluster.reads(100, {TWO: 1 << 30})
    assert asked[TWO] <= 2 * DELAY_MS_MIN
    assert asked[THREE] == 100
    assert len(cluster.replies) == before + 100


def test_a_slow_cluster_gets_a_twentieth_more_questions(cluster: Cluster) -> None:
    """All answers take much longer than they did: the estimates follow, and until then the budget bounds the hedges."""
    cluster.reads(100, {})
    cluster.hedging.tokens = 0.0
    asked = cluster.reads(1000, {TWO: 60, THREE: 60})
    assert asked.total() <= 1000 * 1.06
    assert cluster.node.state.statistics.hedges_refused > 0
    assert len(cluster.replies) >= 1000


def test_a_hedge_waits_for_the_budget_but_not_for_ever(cluster: Cluster) -> None:
    cluster.read()
    cluster.hedging.tokens = 0.0
    assert next(now_ms for now_ms in range(DELAY_MS_MIN, 10 * LATE_MS) if cluster.at(now_ms)) >= LATE_MS
    statistics = cluster.node.state.statistics
    assert (statistics.hedges_refused, statistics.reads_hedged) == (1, 1)
    cluster = Cluster()
    cluster.read()
    cluster.hedging.tokens = 0.0
    assert cluster.at(DELAY_MS_MIN) == []
    cluster.hedging.tokens = 1.0
    assert len(cluster.at(2 * DELAY_MS_MIN + DELAY_MS_MIN)) == 1


def test_the_budget_is_a_share_of_the_reads(cluster: Cluster) -> None:
    cluster.hedging.tokens = 0.0
    cluster.reads(100, {})
    assert cluster.hedging.tokens == pytest.approx(5.0)
    cluster.hedging.earn(1_000_000)
    assert cluster.hedging.tokens == BUDGET_READS_MAX


def test_answers_that_this_node_has_not_read_yet_are_not_late(cluster: Cluster) -> None:
    """It was late for its own timer: what has come meanwhile lies in its sockets."""
    [first] = cluster.read()
    assert cluster.at(500) == []
    cluster.tell(first)
    assert cluster.replies == [VALUE]
    assert cluster.at(500 + DELAY_MS_MIN) == []
    cluster.read()
    assert cluster.at(1100) == []
    assert len(cluster.at(1200)) == 1, "the second look counts, though it is late again"


def test_one_group_in_a_hundred_asks_all_owners() -> None:
    cluster = Cluster(compared_share=0.01)
    asked = cluster.reads(4000, {})
    assert 4020 < asked.total() < 4070
    assert Cluster().node.services.reads.hedging.compared_share == 0.0
    assert make_node(3).services.reads.hedging.compared_share == 0.01


def test_more_owners_are_the_better_ones_of_two() -> None:
    cluster = Cluster()
    peers = [f"peer {number}" for number in range(6)]
    cluster.hedging._peers = {peer: PeerLatency() for peer in peers}
    for number, peer in enumerate(peers):
        cluster.hedging._peers[peer].mean_ms = 10.0 * number
    chosen: Counter[str] = Counter()
    for _ in range(600):
        found = cluster.hedging.choose(peers, 3)
        assert len(set(found)) == 3
        chosen.update(found)
    assert [peer for peer, _ in chosen.most_common()] == peers[:5], "the last one is always the worse of two"
    assert cluster.hedging.choose(peers, 6) == cluster.hedging.choose(peers, 9) == peers


@pytest.mark.parametrize("scale_ms", [20, 60, 150])
def test_the_tail_follows_the_latencies(scale_ms: int) -> None:
    """It settles where about 3 % of the answers are later, whatever it was before."""
    rng = random.Random(scale_ms)
    known = PeerLatency()
    later = 0
    for number in range(20_000):
        latency_ms = int(rng.expovariate(1 / scale_ms)) % DELAY_MS_MAX
        later += number >= 2000 and latency_ms > known.tail_ms
        known.answered_after(latency_ms)
    assert 0.015 < later / 18_000 < 0.05
    for _ in range(1500):
        known.answered_after(0)
    assert known.tail_ms < DELAY_MS_MIN + 1
    assert known.mean_ms < 0.1
