"""Users of three nodes that are cut off from each other, changed on all sides, and connected again.

Real nodes exchange real messages; only the sockets are missing. So this also holds that a node that was cut off learns what
it has missed, by the digest that travels with gossip, and that nodes which have the same document are quiet.
"""

from __future__ import annotations

import random

import pytest

from protocol.frames import FrameReader
from protocol.peer_versions import CAPABILITIES
from server.core.node import Node
from tests.core.commands.talking import (
    CONFIG,
    WALL_MS,
    Client,
    Store,
    finish_turn,
    go_by_own_clock,
    layout_of,
    member,
)

NODES = 3


class Cluster:
    """Three nodes, and which of them can reach each other."""

    def __init__(self, seed: int) -> None:
        self.nodes = [
            Node(member(number), b"actor--%d" % number, number, CONFIG, Store(), random.Random(seed + number), WALL_MS)
            for number in range(1, NODES + 1)
        ]
        self.now_ms = 0
        for node in self.nodes:
            node.services.membership.offer(layout_of(tuple([member(number) for number in range(1, NODES + 1)])))
            go_by_own_clock(node)
            finish_turn(node)
        self.together: set[frozenset[int]] = set()

    def connect(self, one: int, other: int) -> None:
        """Both have a link to each other from now on."""
        self.together.add(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            self.nodes[here].greeted(member(there + 1).id, self.now_ms, CAPABILITIES)
            self.nodes[here].connected(member(there + 1).id, self.now_ms, CAPABILITIES)

    def cut(self, one: int, other: int) -> None:
        """They cannot reach each other any more."""
        self.together.discard(frozenset((one, other)))
        self.nodes[one].disconnected(member(other + 1).id, self.now_ms)
        self.nodes[other].disconnected(member(one + 1).id, self.now_ms)

    def run(self, for_ms: int) -> int:
        """Lets time pass. Returns how many messages with users were sent."""
        count = 0
        for _ in range(for_ms // 100):
            self.now_ms += 100
            for place, node in enumerate(self.nodes):
                node.tick(self.now_ms, WALL_MS + self.now_ms)
                count += self._deliver(place, node)
        return count

    def _deliver(self, place: int, node: Node) -> int:
        count = 0
        for peer, data in finish_turn(node).messages.items():
            there = next(number for number in range(NODES) if member(number + 1).id == peer)
            if frozenset((place, there)) not in self.together:
                continue
            reader = FrameReader(1 << 20)
            reader.feed(data)
            while (message := reader.next()) is not None:
                count += message[0] == b"USERS"
                self.nodes[there].receive(member(place + 1).id, message, self.now_ms)
        return count

    def change(self, place: int, line: str) -> None:
        """An operator changes users at one node."""
        node = self.nodes[place]
        session = node.open_session("10.0.0.9:1", "10.0.0.1:1", self.now_ms)
        node.command(session, line.encode().split(), self.now_ms)
        self._deliver(place, node)
        node.close_session(session)

    def lists(self) -> list[object]:
        """What each node shows."""
        return [Client(node, now_ms=self.now_ms).ask("ACL LIST") for node in self.nodes]


@pytest.mark.parametrize("seed", range(5))
def test_changes_on_all_sides_of_a_partition_merge(seed: int) -> None:
    rng = random.Random(seed)
    cluster = Cluster(seed)
    pairs = [(0, 1), (0, 2), (1, 2)]
    for pair in pairs:
        cluster.connect(*pair)
    cluster.run(1500)
    cluster.change(0, "ACL SETUSER shared on >x +get")
    assert len({str(each) for each in cluster.lists()}) == 1, "in force on all nodes with the next message"
    for pair in pairs:
        cluster.cut(*pair)
    expected = {"shared": True}
    for step in range(30):
        place, name = rng.randrange(NODES), f"u{rng.randrange(6)}n"
        name = f"{name}{place}"  # operators change different users
        expected[name] = rng.random() < 0.7
        cluster.change(place, f"ACL SETUSER {name} on ~k{step}" if expected[name] else f"ACL DELUSER {name}")
        cluster.run(100)
    for pair in rng.sample(pairs, 2):  # the third pair never meets: it hears of all by the node between
        cluster.connect(*pair)
    cluster.run(3000)
    shown = cluster.lists()
    assert shown[0] == shown[1] == shown[2]
    names = {str(line).split()[1] for line in shown[0]}  # type: ignore[attr-defined]
    assert names == {"default", *[name for name, is_there in expected.items() if is_there]}
    assert cluster.run(5000) == 0, "nodes that agree send each other no users"


def test_of_one_user_changed_on_two_sides_the_later_change_counts_everywhere() -> None:
    cluster = Cluster(1)
    cluster.change(1, "ACL SETUSER ann on ~early")
    cluster.run(1000)
    cluster.change(0, "ACL SETUSER ann on ~late")
    for pair in ((0, 1), (1, 2)):
        cluster.connect(*pair)
    cluster.run(3000)
    assert all("~late" in str(each) and "~early" not in str(each) for each in cluster.lists())
