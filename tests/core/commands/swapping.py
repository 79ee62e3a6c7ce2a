"""Three nodes that exchange real messages, with clients that stay connected: what the tests of SWAPDB stand on."""

from __future__ import annotations

import random
from typing import Any

import hiredis

from protocol.databases import UNSWAPPED
from protocol.frames import FrameReader, seal
from protocol.peer_versions import CAPABILITIES
from server.core.base.config import Config
from server.core.base.sinks import Session
from server.core.node import Node
from server.core.shared.numberings import NumberingEntry, Numberings, OrderedSwap, swap_id
from tests.core.commands.talking import CONFIG, WALL_MS, Store, finish_turn, go_by_own_clock, layout_of, member

NODES = 3
PAIRS = ((0, 1), (0, 2), (1, 2))
STEP_MS = 20
NOTHING = object()  # stands for no reply


class Swapping:
    """The nodes, which of them can reach each other, and which are frozen. Time passes in steps of `STEP_MS`."""

    def __init__(self, seed: int = 1, config: Config = CONFIG, capabilities: tuple[bytes, ...] = CAPABILITIES) -> None:
        self.seed, self.config, self.capabilities = seed, config, capabilities
        self.stores = [Store() for _ in range(NODES)]
        self.now_ms = 0
        self.together: set[frozenset[int]] = set()
        self.frozen: dict[int, list[tuple[int, list[Any]]]] = {}  # node -> what has come for it meanwhile
        self.replies: dict[Session, bytes] = {}
        self.received: list[tuple[int, int, list[Any]]] = []  # sender, receiver, message
        self.nodes = [self.make_node(place) for place in range(NODES)]
        for node in self.nodes:
            node.services.membership.offer(layout_of(tuple([member(number) for number in range(1, NODES + 1)])))
            go_by_own_clock(node)
            finish_turn(node)
        for pair in PAIRS:
            self.connect(*pair)
        for _ in range(25):
            self.step(100)

    def make_node(self, place: int, run: int = 0) -> Node:
        """A process over the store of a node."""
        number, chance = place + 1, random.Random(self.seed + 100 * run + place)
        return Node(member(number), b"actor%d-%d" % (run, number), number + 10 * run, self.config, self.stores[place],
                    chance, WALL_MS + self.now_ms)  # fmt: skip

    def add(self) -> int:
        """Adds a node that is no member: its place."""
        self.stores.append(Store())
        self.nodes.append(self.make_node(len(self.nodes)))
        return len(self.nodes) - 1

    # --- links

    def connect(self, one: int, other: int) -> None:
        """Both have a link to each other from now on."""
        self.together.add(frozenset((one, other)))
        for here, there in ((one, other), (other, one)):
            self.nodes[here].greeted(member(there + 1).id, self.now_ms, self.capabilities)
            self.nodes[here].connected(member(there + 1).id, self.now_ms, self.capabilities)

    def cut(self, one: int, other: int) -> None:
        """They cannot reach each other any more."""
        self.together.discard(frozenset((one, other)))
        self.nodes[one].disconnected(member(other + 1).id, self.now_ms)
        self.nodes[other].disconnected(member(one + 1).id, self.now_ms)

    def freeze(self, place: int) -> None:
        """The process of a node is suspended. Its links stay."""
        self.frozen[place] = []

    def thaw(self, place: int) -> None:
        """It goes on, and finds what has come meanwhile."""
        for sender, message in self.frozen.pop(place):
            self._receive(sender, place, message)

    # --- time

    def run(self, for_ms: int) -> None:
        """Lets time pass."""
        for _ in range(for_ms // STEP_MS):
            self.step()

    def step(self, for_ms: int = STEP_MS) -> None:
        """One turn of each node that is not frozen."""
        self.now_ms += for_ms
        for place, node in enumerate(self.nodes):
            if place not in self.frozen:
                node.tick(self.now_ms, WALL_MS + self.now_ms)
                self.end_turn(place)

    def end_turn(self, place: int) -> None:
        """Ends a turn of a node: delivers its messages and replies."""
        outbox = finish_turn(self.nodes[place])
        for session, data in (*outbox.replies, *outbox.pushes):
            self.replies[session] = self.replies.get(session, b"") + bytes(
                data if isinstance(data, bytes) else b"".join(data)
            )
        for peer in dict.fromkeys([*outbox.messages, *outbox.large]):
            there = next(number for number in range(len(self.nodes)) if member(number + 1).id == peer)
            reader = FrameReader(1 << 24)
            reader.feed(outbox.messages.get(peer, b""))
            reader.feed(b"".join([seal([each]) for each in outbox.large.get(peer, [])]))
            while (message := reader.next()) is not None:
                if frozenset((place, there)) in self.together:
                    self._receive(place, there, message)

    def _receive(self, place: int, there: int, message: list[Any]) -> None:
        if there in self.frozen:
            self.frozen[there].append((place, message))
        else:
            self.received.append((place, there, message))
            self.nodes[there].receive(member(place + 1).id, message, self.now_ms)

    # --- clients

    def client(self, place: int) -> Talker:
        """A client of a node."""
        return Talker(self, place)

    def spaces(self) -> list[tuple[int, ...]]:
        """The numbering of each node."""
        return [node.state.numbering.spaces for node in self.nodes]


class Talker:
    """A client that stays connected to one node."""

    def __init__(self, cluster: Swapping, place: int) -> None:
        self.cluster, self.place = cluster, place
        self.session = cluster.nodes[place].open_session("10.0.0.9:1", "10.0.0.1:1", cluster.now_ms)
        self._reader = hiredis.Reader(encoding="utf-8")

    def begin(self, line: str) -> None:
        """Sends a command, and does not wait."""
        self.cluster.nodes[self.place].command(
            self.session, [word.encode() for word in line.split()], self.cluster.now_ms
        )
        self.cluster.end_turn(self.place)

    def reply(self, within_ms: int = 6000) -> Any:
        """The next reply; None if there is none in time."""
        for _ in range(within_ms // STEP_MS + 1):
            self._reader.feed(self.cluster.replies.pop(self.session, b""))
            reply = self._reader.gets()
            if reply is not False:
                return str(reply) if isinstance(reply, hiredis.ReplyError) else reply
            self.cluster.step()
        return NOTHING

    def ask(self, line: str) -> Any:
        """Sends a command, and waits for its reply. Errors are texts."""
        self.begin(line)
        return self.reply()


def swapped(*pairs: tuple[int, int]) -> tuple[int, ...]:
    """The spaces after these swaps, in order."""
    numbering = UNSWAPPED
    for pair in pairs:
        numbering = numbering.swapped(*pair)
    return numbering.spaces


def filled(cluster: Swapping) -> list[Talker]:
    """A client of each node, which is in database 0; `k` is `zero` there, `one` in database 1."""
    talkers = [cluster.client(place) for place in range(NODES)]
    assert talkers[0].ask("SET k zero") == "OK"
    assert talkers[1].ask("SELECT 1") == talkers[1].ask("SET k one") == talkers[1].ask("SELECT 0") == "OK"
    return talkers


def document(cluster: Swapping, *pairs: tuple[int, int], counter: int = 0) -> Numberings:
    """The document after swaps that node n2 has ordered."""
    counter = counter or cluster.nodes[1].state.clock.next()
    return Numberings({b"c": entry(counter, *pairs)})


def entry(counter: int, *pairs: tuple[int, int], asked_ms: int = WALL_MS) -> NumberingEntry:
    """An entry with swaps that node n2 has ordered: `counter` is that of the last one."""
    chance, first = random.Random(counter), counter - len(pairs) + 1
    return NumberingEntry(
        swaps=tuple(
            [
                OrderedSwap(first + place, member(2).id, swap_id(asked_ms, chance), *pair)
                for place, pair in enumerate(pairs)
            ]
        )
    )
