"""SWAPDB beside messages that are late or lost, and beside members of an earlier version: what is told is true."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

from protocol.peer_versions import CAPABILITIES, SWAPS
from server.core.base.room import FOR_NOTHING
from server.core.node import Node
from server.core.records.records import META
from server.core.shared.numberings import SWAPS_MAX, NumberingEntry, Numberings
from tests.core.commands.swapping import NODES, Swapping, Talker, entry, swapped
from tests.core.commands.talking import CONFIG, WALL_MS, Client, Store, go_by_own_clock, layout_of, member

EARLIER = (*[word for word in CAPABILITIES if word != SWAPS], b"spaces")  # of the version that shared no swaps


def returns_as_earlier(cluster: Swapping, place: int) -> None:
    """A node is replaced by one of an earlier version."""
    others = [other for other in range(NODES) if other != place]
    for other in others:
        cluster.cut(place, other)
    cluster.capabilities = EARLIER
    for other in others:
        cluster.connect(place, other)
    cluster.run(500)


def about_swaps(cluster: Swapping, place: int) -> list[list[Any]]:
    """The messages about swaps that a node has got."""
    return [
        message
        for _, there, message in cluster.received
        if there == place and (message[0].startswith(b"NUM") or b"SWAP" in message or b"NUMBERED" in message)
    ]


def status(cluster: Swapping) -> dict[str, Any]:
    """What node n1 tells of the cluster."""
    document: dict[str, Any] = json.loads(cluster.client(0).ask("DYN.CLUSTER STATUS"))
    return document


class Held:
    """The links of node n1 are held up: what is on its way there and back is late, or lost."""

    def __init__(self, cluster: Swapping, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cluster = cluster
        self.messages: list[tuple[int, int, list[Any]]] = []
        self.is_on = True
        self._receive = cluster._receive
        monkeypatch.setattr(cluster, "_receive", self._take)

    def _take(self, place: int, there: int, message: list[Any]) -> None:
        if self.is_on and 0 in (place, there):
            self.messages.append((place, there, message))
        else:
            self._receive(place, there, message)

    def release(self) -> None:
        """All comes, in its order."""
        self.is_on = False
        for place, there, message in self.messages:
            self._receive(place, there, message)


def test_an_earlier_version_at_the_node_of_the_least_id_is_told_at_once_and_asked_nothing() -> None:
    cluster = Swapping()
    returns_as_earlier(cluster, 0)
    cluster.received.clear()
    began_ms = cluster.now_ms
    error = cluster.client(1).ask("SWAPDB 0 1")
    assert error == (
        "ERR SWAPDB needs a version that knows it on every node, and these nodes have not announced one: n1"
    )
    assert cluster.now_ms == began_ms and not about_swaps(cluster, 0)
    assert cluster.spaces() == [swapped()] * NODES


def test_what_nodes_announced_to_the_version_before_does_not_count() -> None:
    """It has stored who shares numberings of the former form."""
    store = Store()
    announced = {member(number).id: True for number in (2, 3)}
    store.pairs[META + b"spaces"] = json.dumps({"announced": announced, "has_types": True}).encode()
    node = Node(member(1), b"actor--1", 1, CONFIG, store, random.Random(1), WALL_MS)
    node.services.membership.offer(layout_of(tuple([member(number) for number in range(1, NODES + 1)])))
    go_by_own_clock(node)
    assert Client(node).error("SWAPDB 0 1").endswith("these nodes have not announced one: n2, n3")


def test_a_question_that_was_long_on_its_way_swaps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Swapping()
    talkers = [cluster.client(place) for place in range(NODES)]
    held = Held(cluster, monkeypatch)
    error = talkers[1].ask("SWAPDB 0 1")
    assert error.startswith("TIMEOUT "), error
    cluster.run(6000)
    assert [talkers[1].ask("SWAPDB 2 3"), talkers[2].ask("SWAPDB 4 5")] == ["OK", "OK"], "n1 is down"
    before = cluster.spaces()[1]
    assert any(b"SWAP" in message for _, there, message in held.messages if there == 0)
    held.release()
    cluster.run(2000)
    assert cluster.spaces() == [before] * NODES, "what was answered OK is kept"


@pytest.mark.parametrize("held_ms", [3500, 3800, 3900, 4000, 4200])
def test_a_question_that_was_held_up_undoes_nothing_that_was_answered(
    held_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node of the least id orders it late, and has not heard of what others have ordered meanwhile."""
    cluster = Swapping()
    talkers = [cluster.client(place) for place in range(NODES)]
    held, began_ms, done = Held(cluster, monkeypatch), cluster.now_ms, []
    assert talkers[1].ask("SWAPDB 0 1").startswith("TIMEOUT ")
    while cluster.now_ms - began_ms < held_ms:
        cluster.step()
        if cluster.now_ms - began_ms >= 3900 and not done:
            done = [talkers[2].ask("SWAPDB 2 3"), talkers[1].ask("SWAPDB 4 5")]
            assert done == ["OK", "OK"], "n1 is down"
    held.release()
    cluster.run(3000)
    answered = [(2, 3), (4, 5)] if done else []
    assert cluster.spaces() == [swapped((0, 1), *answered)] * NODES, "n2 has ordered the first one before it gave up"


def test_a_swap_in_time_is_ordered_though_clocks_differ_a_little(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = Swapping()
    talker = cluster.client(1)
    held = Held(cluster, monkeypatch)
    talker.begin("SWAPDB 0 1")
    cluster.run(1500)
    held.release()
    assert talker.reply() == "OK"
    assert cluster.spaces() == [swapped((0, 1))] * NODES


@pytest.mark.parametrize("is_ordered", [True, False], ids=["the answer is lost", "the question is lost"])
def test_a_refusal_after_a_node_was_silent_leaves_open_what_was_done(
    monkeypatch: pytest.MonkeyPatch, is_ordered: bool
) -> None:
    cluster = Swapping()
    cluster.nodes[1].state.room = FOR_NOTHING
    talker, held = cluster.client(2), Held(cluster, monkeypatch)
    _begin(talker, held, is_ordered)
    for other in (1, 2):
        cluster.cut(0, other)
    error = talker.reply()
    assert error.startswith("TIMEOUT node n1, which orders swaps, has not answered within request_timeout_ms=3000: "), (
        error
    )
    assert "databases 0 and 1 may be swapped" in error
    held.is_on = False
    for other in (1, 2):
        cluster.connect(0, other)
    cluster.run(2000)
    assert cluster.spaces() == [swapped((0, 1)) if is_ordered else swapped()] * NODES


def test_a_refusal_of_the_first_node_that_is_asked_is_told_at_once() -> None:
    cluster = Swapping()
    cluster.nodes[0].state.room = FOR_NOTHING
    assert cluster.client(2).ask("SWAPDB 0 1").startswith("DISKFULL ")


def _begin(talker: Talker, held: Held, is_ordered: bool) -> None:
    """Asks for a swap, of which n1 alone hears, or nobody."""
    cluster = held.cluster
    talker.begin("SWAPDB 0 1")
    cluster.end_turn(2)
    if is_ordered:
        for place, there, message in [*held.messages]:
            if there == 0:
                held._receive(place, there, message)
        cluster.end_turn(0)
    assert cluster.nodes[0].state.numbering.spaces == (swapped((0, 1)) if is_ordered else swapped())
    held.messages.clear()


def test_swaps_that_a_wrong_clock_dates_to_the_far_future_stop_no_others() -> None:
    cluster = Swapping()
    node, far = cluster.nodes[1], NumberingEntry()
    for _ in range(SWAPS_MAX):
        (swap,) = entry(node.state.clock.next(), (0, 1), asked_ms=node.state.time_ms + 1_000_000_000).swaps
        far = far.with_swap(swap)
    node.services.numbering.merge(Numberings({b"c": far}))
    cluster.run(2000)
    assert cluster.client(0).ask("SWAPDB 2 3") == "OK"
    assert cluster.spaces() == [swapped((2, 3))] * NODES


# --- what operators see


def test_a_member_of_an_earlier_version_is_told_while_databases_are_swapped() -> None:
    cluster = Swapping()
    client = cluster.client(0)
    assert client.ask("SWAPDB 0 1") == "OK"
    assert status(cluster)["verdict"] == "healthy"
    returns_as_earlier(cluster, 2)
    degraded = status(cluster)
    assert degraded["verdict"] == "degraded"
    assert "databases are swapped, and n3 runs a version without SWAPDB" in degraded["summary"]
    cluster.cut(0, 2), cluster.cut(1, 2)
    cluster.capabilities = CAPABILITIES
    cluster.connect(0, 2), cluster.connect(1, 2)
    cluster.run(2000)
    assert client.ask("SWAPDB 0 1") == "OK"
    returns_as_earlier(cluster, 2)
    assert status(cluster)["verdict"] == "healthy", "nothing is swapped any more"


def test_the_status_has_the_numbering_while_databases_are_swapped() -> None:
    cluster = Swapping()
    assert "databases" not in status(cluster)
    assert cluster.client(1).ask("SWAPDB 0 3") == "OK"
    assert status(cluster)["databases"] == [*swapped((0, 3))]
    assert cluster.client(1).ask("SWAPDB 0 3") == "OK"
    assert "databases" not in status(cluster)
