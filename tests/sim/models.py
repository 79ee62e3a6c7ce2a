"""Models of nodes: what a whole node hears of the others in a cluster that is too large to run whole.

A model runs the real failure detector on real tables, so deaths and heartbeats spread as they do. With whole nodes it talks
by the real codec; models tell each other their tables as objects. All else that a whole node may ask is answered for every
model by one node (the oracle) without data: views, comparisons of hash trees. A model begins no comparison by itself. So it
asks a whole node what that has asked it: of each pair that is to be compared, one leads, and each leads half of its pairs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from protocol.frames import seal
from server.core.base.config import Config
from server.core.liveness.liveness import Liveness, LivenessLimits, PeerState, decode_table
from server.core.messages import announcements
from server.core.messages.libraries import encode_libraries_view
from server.core.messages.reader import HEADER_ITEMS
from server.core.messages.users import encode_users_view
from server.core.node import Node
from server.core.ring.layout import Member
from server.storage.memory import MemoryEngine
from tests.core.commands.talking import go_by_own_clock

if TYPE_CHECKING:
    from tests.sim.crowd import Crowd, Meter, Way

TICK_MS = 250
DELAY_MS = 3
WALL_MS = 1_800_000_000_000
ECHO_MS = 500  # until a model asks what it was asked
LIMITS = LivenessLimits()
TOLD = (b"CLOCK", b"TIMED", b"USERSVIEW", b"LIBVIEW", b"NUMVIEW")  # what needs no answer while all agree


class Model:
    """A member of which only the failure detector runs."""

    def __init__(self, models: Models, member: Member, meter: Meter) -> None:
        self.models, self.id = models, member.id
        self.is_alive = True
        self.meter = meter
        self.ways: dict[str, Way] = {}  # to whole nodes
        self.liveness = Liveness(member.id, WALL_MS, LIMITS, random.Random(models.rng.random()))

    def tick(self) -> None:
        """Sends tables to some peers."""
        if self.is_alive:
            now_ms = self.models.crowd.events.now_ms
            for peer in self.liveness.tick(now_ms):
                self._send_table(peer, True)
            self.models.crowd.events.after(TICK_MS, self.tick)

    def _send_table(self, peer: str, wants_answer: bool) -> None:
        table = self.liveness.table(peer)
        models = self.models
        if peer in models.all:
            models.crowd.events.after(DELAY_MS, partial(models.all[peer].merge, self.id, table, wants_answer))
        elif peer in self.ways:
            self._write(peer, models.gossip(wants_answer, table))

    def _write(self, peer: str, messages: list[bytes]) -> None:
        self.ways[peer].write(seal(messages))

    def merge(self, peer: str, table: Sequence[tuple[str, int, int, PeerState]], wants_answer: bool) -> None:
        """A table of a peer has arrived."""
        if self.is_alive:
            self.liveness.merge(table, peer, self.models.crowd.events.now_ms)
            if wants_answer:
                self._send_table(peer, False)

    # --- what its connections tell it

    def greet(self, peer: str) -> list[bytes]:
        """A whole node has connected."""
        self.liveness.message_received(peer, self.models.crowd.events.now_ms)
        return self.models.view()

    def connect(self, peer: str, view: list[bytes]) -> None:
        """Our connection to a whole node is open."""
        is_heard = self.liveness.is_wide and self.liveness.is_live(peer)
        self._write(peer, self.models.gossip(not is_heard, self.liveness.table(peer)))

    def refuse(self, peer: str) -> None:
        """A whole node is dead."""
        self.liveness.link_refused(peer, self.models.crowd.events.now_ms)

    def lose(self, peer: str) -> None:
        """A whole node has died."""
        self.liveness.link_lost(peer, self.models.crowd.events.now_ms)

    def land(self, peer: str, messages: list[list[bytes]]) -> None:
        """Messages of a whole node have arrived."""
        now_ms = self.models.crowd.events.now_ms
        for message in messages:
            kind = bytes(message[0])
            if kind == b"GOSSIP":
                self.merge(peer, decode_table(message[4:]), message[2] == b"1")
            elif kind == b"TIME":
                reading = self.models.oracle.state.clock_reading()
                self._write(peer, [announcements.encode_timed(reading, int(message[2]), WALL_MS + now_ms, None)])
            elif kind not in TOLD and (kind != b"VIEW" or [bytes(word) for word in message[3:6]] != self.models.view()):
                self.models.ask(self, peer, message)
            if kind not in (b"GOSSIP", b"CLOCK"):
                self.liveness.message_received(peer, now_ms)

    def answer(self, peer: str, data: bytes) -> None:
        """Sends frames of the oracle's."""
        self.ways[peer].write(data)


class Models:
    """All models of a crowd, and the node that answers for them."""

    def __init__(self, crowd: Crowd, members: Sequence[Member]) -> None:
        from tests.sim.crowd import LEAF_BITS, Meter

        self.crowd, self.rng = crowd, crowd.rng
        self.all = {member.id: Model(self, member, Meter()) for member in members}
        self._oracle: Node | None = None
        if members:
            oracle = Node(
                members[0],
                b"oracle..",
                WALL_MS,
                Config(tree_leaf_bits=LEAF_BITS),
                MemoryEngine(),
                random.Random(1),
                WALL_MS,
            )
            oracle.tick(0, WALL_MS)
            oracle.services.membership.offer(crowd.layout)
            go_by_own_clock(oracle)
            oracle.end_turn()
            self._oracle = oracle

    def start(self) -> None:
        """All models know all members, and tick from now on."""
        ids = [member.id for member in self.crowd.layout.members]
        for model in self.all.values():
            model.liveness.set_members(ids, 0)
            self.crowd.events.after(self.rng.randrange(TICK_MS), model.tick)

    @property
    def oracle(self) -> Node:
        """The node that answers for all models."""
        assert self._oracle is not None
        return self._oracle

    def view(self) -> list[bytes]:
        """The view of the layout that all models have."""
        return [bytes(word) for word in self.oracle.services.membership.views.words()]

    def lose(self, node: str) -> None:
        """A node has died: the models' connections to it break."""
        for model in self.all.values():
            if model.is_alive:
                model.lose(node)

    def gossip(self, wants_answer: bool, table: list[tuple[str, int, int, PeerState]]) -> list[bytes]:
        """The messages of one exchange, as core/gossip.py sends them."""
        services, now_ms = self.oracle.services, self.crowd.events.now_ms
        self.oracle.state.at(now_ms)
        reading, view = self.oracle.state.clock_reading(), services.membership.view()
        assert view is not None
        return [
            announcements.encode_clock(reading, now_ms),
            announcements.encode_time(reading, now_ms),
            announcements.encode_gossip(reading, wants_answer, view.epoch, table),
            announcements.encode_view(reading, view),
            encode_users_view(reading, services.users.sharing.digest()),
            encode_libraries_view(reading, services.functions.sharing.digest()),
        ]

    def ask(self, model: Model, peer: str, message: list[bytes]) -> None:
        """A whole node has told or asked something: the oracle answers."""
        oracle, kind = self.oracle, bytes(message[0])
        oracle.receive(peer, message, self.crowd.events.now_ms)
        self._end_turn(model, peer)
        if kind == b"ASK" and bytes(message[HEADER_ITEMS]) == b"HASHES":
            again = seal([announcements.encode_message(tuple(message))])
            self.crowd.events.after(ECHO_MS, partial(model.answer, peer, again))

    def _end_turn(self, model: Model, peer: str) -> None:
        outbox = self.oracle.end_turn()
        for to, data in outbox.messages.items():
            if to == peer:
                model.answer(peer, data)
        due_ms = self.oracle.services.timers.next_ms()
        if due_ms is not None and due_ms <= self.crowd.events.now_ms + 1000 and not outbox.messages:
            self.crowd.events.after(max(1, due_ms - self.crowd.events.now_ms), partial(self._wake, model, peer))

    def _wake(self, model: Model, peer: str) -> None:
        self.oracle.wake(self.crowd.events.now_ms)
        self._end_turn(model, peer)
