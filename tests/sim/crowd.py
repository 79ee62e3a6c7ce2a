"""A crowd: so many nodes in one process that the simulator's machines, disks and pipes would be too much.

The nodes, their messages, frames and tables are the real ones, and time is virtual. A connection takes what `server/shell`
takes: who opens it says so first (`greeted`), then it is open (`connected`), then frames travel, in order, with a delay.
Each node opens one to every other, so many at a time and in the order in which the shell does (first_links.py). There is
no loss, no partition, no disk. Everything that is sent and handled is counted, for each node, and the processor time of
each turn.

1,000 whole nodes need more memory and time than a machine has. So only some may be whole (`sample`), and the others are
models (models.py), which talk to these as nodes do.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol

from protocol.frames import FrameReader, seal
from protocol.peer_versions import CAPABILITIES
from server.core.base.config import Config
from server.core.base.sinks import Session
from server.core.node import Node
from server.core.ring.layout import Layout, Member
from server.shell.first_links import AT_ONCE, in_order
from server.storage.memory import MemoryEngine
from tests.sim.events import Events
from tests.sim.models import Models

DELAY_MS_MIN, DELAY_MS_MAX = 1, 4
RETRY_MS = 250
LEAF_BITS = 14  # of the hash trees: a leaf a slot
FRAME_BYTES_MAX = 64 << 20
WALL_MS = 1_800_000_000_000


def members_of(count: int, zones: int = 3) -> tuple[Member, ...]:
    """Members of a cluster on as many machines."""
    rng = random.Random(count)
    members = [
        Member(
            f"{rng.getrandbits(160):040x}", f"n{index}", f"10.{index >> 8}.{index & 255}.1:7001", f"z{index % zones}", 1
        )
        for index in range(count)
    ]
    return tuple(sorted(members, key=lambda member: member.id))


def even_owners(members: Sequence[Member], partitions: int, n: int = 3) -> tuple[tuple[str, ...], ...]:
    """Owners in distinct zones, as many partitions for each member as an assignment gives it, and as many partners: the
    real computation takes minutes for 1,000 members."""
    rng, rows = random.Random(len(members)), []
    by_zone: dict[str, list[str]] = {}
    for member in members:
        by_zone.setdefault(member.zone, []).append(member.id)
    zones = sorted(by_zone)
    queues: dict[str, list[str]] = {zone: [] for zone in zones}
    for partition in range(partitions):
        row = []
        for step in range(min(n, len(zones))):
            zone = zones[(partition + step) % len(zones)]
            if not queues[zone]:
                queues[zone] = rng.sample(by_zone[zone], len(by_zone[zone]))
            row.append(queues[zone].pop())
        rows.append(tuple(row))
    return tuple(rows)


class Meter:
    """What one machine has done since the last reset."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begins anew."""
        self.sent = self.bytes_sent = self.turns = self.busy_ns = self.longest_ns = 0
        self.kinds: Counter[bytes] = Counter()  # of received messages

    def ran(self, duration_ns: int) -> None:
        """A turn has taken so long."""
        self.turns += 1
        self.busy_ns += duration_ns
        self.longest_ns = max(self.longest_ns, duration_ns)


class End(Protocol):
    """A machine or a model, as its connections know it."""

    id: str
    is_alive: bool
    meter: Meter
    ways: dict[str, Way]

    def greet(self, peer: str) -> list[bytes]:
        """`peer` has opened a connection; returns the view of the layout."""

    def connect(self, peer: str, view: list[bytes]) -> None:
        """Our connection to `peer` is open."""

    def refuse(self, peer: str) -> None:
        """No connection to `peer` could be made."""

    def lose(self, peer: str) -> None:
        """Our connection to `peer` has broken."""

    def land(self, peer: str, messages: list[list[bytes]]) -> None:
        """Messages of `peer` have arrived."""


class Machine:
    """A whole node and its connections to others."""

    def __init__(self, crowd: Crowd, member: Member, config: Config, rng: random.Random) -> None:
        self.crowd, self.id, self.rng = crowd, member.id, rng
        self.meter = Meter()
        self.node = Node(
            member, rng.randbytes(8), WALL_MS, config, MemoryEngine(), random.Random(rng.random()), self.wall_ms()
        )
        self.is_alive = True
        self.ways: dict[str, Way] = {}  # by peer: our connection to it, open or being opened
        self._timer = 0

    def now_ms(self) -> int:
        """The monotonic clock."""
        return self.crowd.events.now_ms

    def wall_ms(self) -> int:
        """The wall clock."""
        return WALL_MS + self.crowd.events.now_ms

    def turn(self, action: Callable[[Node], object]) -> None:
        """One turn: input, then its end, and what comes out is sent."""
        if not self.is_alive:
            return
        node = self.node
        began_ns = time.thread_time_ns()
        action(node)
        outbox = node.end_turn()
        self.meter.ran(time.thread_time_ns() - began_ns)
        for peer, data in outbox.messages.items():
            self._write(peer, data)
        for peer, large in outbox.large.items():
            for data in large:
                self._write(peer, seal([data]))
        if node.has_more:
            self.crowd.events.after(0, partial(self.turn, lambda node: None))
        self._set_timer()

    def _write(self, peer: str, data: bytes) -> None:
        if peer in self.ways:
            self.meter.bytes_sent += len(data)
            self.ways[peer].write(data)

    def command(self, session: Session, words: list[bytes]) -> None:
        """A command of a client."""
        self.turn(lambda node: node.command(session, words, self.now_ms()))

    def tick(self) -> None:
        """The node's timer."""
        if self.is_alive:
            self.turn(lambda node: node.tick(self.now_ms(), self.wall_ms()))
            self.crowd.events.after(self.node.state.config.tick_ms, self.tick)

    def _set_timer(self) -> None:
        """Wakes the node for work whose pause is over."""
        due_ms = self.node.services.timers.next_ms()
        if due_ms is not None:
            self._timer += 1
            self.crowd.events.after(max(1, due_ms - self.now_ms()), partial(self._wake, self._timer))

    def _wake(self, number: int) -> None:
        if number == self._timer:
            self.turn(lambda node: node.wake(self.now_ms()))

    # --- what its connections tell it

    def greet(self, peer: str) -> list[bytes]:
        """`peer` has opened a connection; returns the view of the layout."""
        self.turn(lambda node: node.greeted(peer, self.now_ms(), CAPABILITIES))
        return [bytes(word) for word in self.node.services.membership.views.words()]

    def connect(self, peer: str, view: list[bytes]) -> None:
        """Our connection to `peer` is open."""
        self.turn(lambda node: node.connected(peer, self.now_ms(), CAPABILITIES, view))

    def refuse(self, peer: str) -> None:
        """No connection to `peer` could be made."""
        self.turn(lambda node: node.refused(peer, self.now_ms(), "stopped"))

    def lose(self, peer: str) -> None:
        """Our connection to `peer` has broken."""
        self.turn(lambda node: node.disconnected(peer, self.now_ms()))

    def land(self, peer: str, messages: list[list[bytes]]) -> None:
        """Messages of `peer` have arrived."""

        def receive(node: Node) -> None:
            for message in messages:
                self.meter.kinds[bytes(message[0])] += 1
                node.receive(peer, message, self.now_ms())

        self.turn(receive)


class Way:
    """The connection from one machine or model to another."""

    def __init__(self, events: Events, rng: random.Random, sender: End, receiver: End, after_ms: int = 0) -> None:
        self.events, self.sender, self.receiver = events, sender, receiver
        self.is_open = False
        self._rng = rng
        self._unsent: list[bytes] = []
        self._frames = FrameReader(FRAME_BYTES_MAX)
        self._due_ms = 0
        self.events.after(after_ms + self._delay_ms() + self._delay_ms(), self._accepted)

    def _delay_ms(self) -> int:
        return self._rng.randint(DELAY_MS_MIN, DELAY_MS_MAX)

    def _accepted(self) -> None:
        sender, receiver = self.sender, self.receiver
        if not sender.is_alive:
            return
        if not receiver.is_alive:
            sender.refuse(receiver.id)
            self.events.after(RETRY_MS, self._accepted)
            return
        self.is_open = True
        sender.connect(receiver.id, receiver.greet(sender.id))
        for data in self._unsent:
            self.write(data)
        self._unsent.clear()

    def write(self, data: bytes) -> None:
        """Sends frames, in order."""
        if not self.is_open:
            self._unsent.append(data)
            return
        self._due_ms = max(self._due_ms, self.events.now_ms + self._delay_ms())
        self.events.after(self._due_ms - self.events.now_ms, partial(self._land, data))

    def _land(self, data: bytes) -> None:
        if not self.receiver.is_alive or not self.is_open:
            return
        self._frames.feed(data)
        messages: list[list[bytes]] = []
        while (message := self._frames.next()) is not None:
            messages.append(message)
        self.sender.meter.sent += len(messages)
        self.receiver.land(self.sender.id, messages)

    def broken(self) -> None:
        """The process at the other end has died."""
        if self.is_open and self.sender.is_alive:
            self.is_open = False
            self.sender.lose(self.receiver.id)
            self.events.after(RETRY_MS, self._accepted)


class Crowd:
    """Machines, and models of others, that share one layout object: its decoding and its memory are measured apart."""

    def __init__(self, layout: Layout, seed: int = 1, config: Config | None = None, sample: int = 0) -> None:
        """`sample`: so many nodes are whole, and the others are models; 0: all are whole."""
        self.layout = layout
        self.events = Events()
        self.rng = random.Random(seed)
        config = config or Config(tree_leaf_bits=LEAF_BITS)
        members = layout.members
        whole = members[:: max(1, len(members) // sample)] if sample else members
        self.machines = {member.id: Machine(self, member, config, random.Random(self.rng.random())) for member in whole}
        self.models = Models(self, [member for member in members if member.id not in self.machines])
        self.ends: dict[str, End] = {**self.machines, **self.models.all}

    def start(self) -> None:
        """All nodes start, a little apart, and each connects to all others."""
        for machine in self.machines.values():
            machine.node.services.membership.offer(self.layout)
            self.events.after(machine.rng.randrange(machine.node.state.config.tick_ms), machine.tick)
        self.models.start()
        ids = sorted(self.ends)
        for one in self.ends.values():
            for place, peer in enumerate(in_order(one.id, ids)):
                if one.id in self.machines or peer in self.machines:
                    after_ms = place // AT_ONCE * 2 * DELAY_MS_MAX
                    one.ways[peer] = Way(self.events, self.rng, one, self.ends[peer], after_ms)

    def run(self, seconds: float) -> float:
        """Time passes; returns how much."""
        self.events.run(int(seconds * 1000))
        return seconds

    def kill(self, end: End) -> None:
        """kill -9: its connections break."""
        end.is_alive = False
        self.models.lose(end.id)
        for other in self.ends.values():
            if end.id in other.ways:
                self.events.after(self.rng.randint(0, 20), other.ways[end.id].broken)

    def live(self) -> list[Machine]:
        """The machines whose nodes run."""
        return [machine for machine in self.machines.values() if machine.is_alive]

    def reset(self) -> None:
        """Begins all counts anew."""
        for machine in self.machines.values():
            machine.meter.reset()

    def run_until(self, condition: Callable[[], bool], within_ms: int) -> int:
        """Time passes until `condition`, which is checked every 50 ms; returns how many ms, -1 if it does not hold."""
        began_ms = self.events.now_ms
        while not condition():
            if self.events.now_ms - began_ms >= within_ms:
                return -1
            self.events.run(50)
        return self.events.now_ms - began_ms
