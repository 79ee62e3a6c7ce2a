"""What gossip costs and how fast it is, by the size of the cluster: `python -m tests.paper.gossip`.

Dynamo (sections 4.8 and 4.9) spreads membership by gossip and does not say what that costs in a large cluster. For N
nodes the table shows:

- the rounds (gossip intervals) in which a new layout reaches all nodes, beside 2*log2(N);
- the bytes of gossip that a node sends in a second;
- the time from the moment at which a node stops to send, without a link that breaks, to the moment at which all others
  consider it DOWN;
- how often a live node was considered DOWN.

The liveness tables, their choice of peers and their messages are the nodes' own. The network and the clock are simulated:
each message takes up to 50 ms, and one in a hundred is lost. Layouts spread by the nodes' rule: a node that hears of a
lower epoch sends its own layout. Messages are encoded and decoded in a sample of one in eight, because that is most of
the work of a run.
"""

from __future__ import annotations

import heapq
import math
import random
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from protocol.frames import encode_message, seal
from server.core.liveness.liveness import Liveness, LivenessLimits, PeerState, decode_table, encode_table

SIZES = (10, 30, 100, 300, 1000)
TICK_MS = 200
DELAY_MS_MAX = 50
LOSS = 0.01
SAMPLE = 8
START_MS = 10_000
INCARNATION = 1_800_000_000_000


class Row(NamedTuple):
    """The figures of a cluster of `size` nodes."""

    size: int
    rounds: int
    bytes_per_node_and_s: float
    down_everywhere_ms: int
    false_downs: int


class Gossip:
    """A cluster of liveness tables. If they are `acquainted`, each considers all others live at the start."""

    def __init__(self, size: int, seed: int, acquainted: bool = True) -> None:
        self.rng = random.Random(seed)
        self.acquainted = acquainted
        self.now_ms = START_MS
        self.bytes = self.messages = self.serial = 0
        self.events: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.names = [f"{self.rng.getrandbits(160):040x}" for _ in range(size)]
        self.nodes = {name: self.start(name) for name in self.names}
        self.epochs = dict.fromkeys(self.names, 1)
        self.generations = {name: node.generation for name, node in self.nodes.items()}
        self.gone: dict[str, None] = {}
        self.cuts: dict[tuple[str, str], None] = {}  # (sender, receiver) between which messages are lost
        self.downs: dict[tuple[str, str], int] = {}  # (observer, peer) considered DOWN -> since
        self.false_downs: list[tuple[str, str]] = []  # (observer, peer) whenever a live peer was considered DOWN
        for name in self.names:
            self.at(self.rng.randrange(TICK_MS), self.tick, name)

    def start(self, name: str) -> Liveness:
        """Starts a node, which has heard from all others lately if it is `acquainted`."""
        node = Liveness(name, INCARNATION, LivenessLimits(), random.Random(self.rng.random()))
        node.set_members(self.names, self.now_ms)
        for peer in self.names:
            if self.acquainted and peer != name:
                node.merge([(peer, INCARNATION, 0, PeerState.UP)], peer, self.now_ms - self.rng.randrange(1000))
        return node

    def at(self, delay_ms: int, action: Callable[..., None], *arguments: Any) -> None:
        """Schedules `action` for `delay_ms` from now."""
        self.serial += 1
        heapq.heappush(self.events, (self.now_ms + delay_ms, self.serial, action, arguments))

    def run(self, for_ms: int, until: Callable[[], bool] = lambda: False) -> int:
        """Lets time pass until `until` holds, which is checked every 10 ms; returns the duration in ms."""
        start_ms = self.now_ms
        while self.now_ms < start_ms + for_ms and not until():
            end_ms = self.now_ms + 10
            while self.events and self.events[0][0] <= end_ms:
                self.now_ms, _, action, arguments = heapq.heappop(self.events)
                action(*arguments)
            self.now_ms = end_ms
        return self.now_ms - start_ms

    def tick(self, name: str) -> None:
        """A node's timer, which is up to 20 ms late."""
        if name not in self.gone:
            for peer in self.nodes[name].tick(self.now_ms):
                self.send(name, peer, 1)
            self.note(name)
            self.at(TICK_MS + self.rng.randrange(20), self.tick, name)

    def send(self, sender: str, to: str, wants_answer: int) -> None:
        """Sends what `send_gossip` sends."""
        table, epoch = self.nodes[sender].table(to), self.epochs[sender]
        self.messages += 1
        if self.messages % SAMPLE == 0:
            items = encode_table(table)
            message = encode_message((b"GOSSIP", INCARNATION << 16, wants_answer, epoch, *items))
            clock = encode_message((b"CLOCK", INCARNATION << 16, self.now_ms))
            self.bytes += SAMPLE * len(seal([clock, message]))
            table = decode_table(items)
        if (sender, to) not in self.cuts:
            self.post(self.receive, sender, to, wants_answer, epoch, table)

    def post(self, action: Callable[..., None], *arguments: Any) -> None:
        """Delivers a message after a delay, or loses it."""
        if self.rng.random() >= LOSS:
            self.at(self.rng.randint(1, DELAY_MS_MAX), action, *arguments)

    def receive(self, sender: str, to: str, wants_answer: int, epoch: int, table: list[Any]) -> None:
        """Handles a message as `PeerMessages` does: the node with the higher epoch sends its layout."""
        if to in self.gone:
            return
        self.nodes[to].merge(table, sender, self.now_ms)
        self.note(to)
        if epoch < self.epochs[to]:
            self.post(self.adopt, sender, self.epochs[to])
        if wants_answer:
            self.send(to, sender, 0)

    def adopt(self, name: str, epoch: int) -> None:
        """Handles a layout that arrives."""
        self.epochs[name] = max(epoch, self.epochs[name])

    def note(self, name: str) -> None:
        """Notes which peers a node considers DOWN now, if that may have changed."""
        node = self.nodes[name]
        if node.generation == self.generations[name] or not self.acquainted:
            return
        self.generations[name] = node.generation
        for peer in self.names:
            if peer != name and node.state(peer) is PeerState.DOWN:
                if (name, peer) not in self.downs:
                    self.downs[name, peer] = self.now_ms
                    self.false_downs += [] if peer in self.gone else [(name, peer)]
            else:
                self.downs.pop((name, peer), None)

    def spread(self) -> int:
        """Gives one node a new layout. Returns after how many ms all nodes have it."""
        self.adopt(self.rng.choice(self.names), 2)
        return self.run(60_000, lambda: all(epoch == 2 for epoch in self.epochs.values()))

    def silence(self) -> int:
        """Makes one node stop to send. Returns after how many ms all others consider it DOWN."""
        gone = self.rng.choice([name for name in self.names if name not in self.gone])
        self.gone[gone] = None
        return self.run(60_000, lambda: self.is_down(gone))

    def revive(self, gone: str) -> int:
        """Makes that node go on. Returns after how many ms no other considers it DOWN any more."""
        del self.gone[gone]
        self.tick(gone)
        return self.run(60_000, lambda: not self.downs)

    def is_down(self, gone: str) -> bool:
        """Whether all live nodes consider `gone` DOWN."""
        return all((name, gone) in self.downs for name in self.names if name not in self.gone)


def rounds(duration_ms: int) -> int:
    """A duration in gossip intervals, rounded up."""
    return math.ceil(duration_ms / LivenessLimits().gossip_interval_ms)


def measure(size: int, seed: int = 1, for_ms: int = 2000) -> Row:
    """Measures a cluster of `size` nodes: the cost, then a new layout, then a node that stops."""
    gossip = Gossip(size, seed)
    gossip.run(1000)
    gossip.bytes = 0
    gossip.run(for_ms)
    bytes_per_node_and_s = gossip.bytes / size / for_ms * 1000
    return Row(size, rounds(gossip.spread()), bytes_per_node_and_s, gossip.silence(), len(gossip.false_downs))


def main() -> None:
    """Prints the table."""
    print(
        f"{'N':>5} {'rounds':>7} {'2*log2(N)':>10} {'bytes/node/s':>13} {'DOWN everywhere ms':>19} {'false downs':>12}"
    )
    for size in [int(word) for word in sys.argv[1:]] or SIZES:
        row = measure(size)
        print(f"{row.size:>5} {row.rounds:>7} {2 * math.log2(size):>10.1f} {row.bytes_per_node_and_s:>13.0f} "
              f"{row.down_everywhere_ms:>19} {row.false_downs:>12}", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
