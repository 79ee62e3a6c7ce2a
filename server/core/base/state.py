"""What the parts of a node share within a turn: settings, clock, records, layout, routes, links, and the turn's output.

Theory. Each part (reads, writes, relays, questions) owns its table of rows in flight and nothing else; what all of them
need stands here, so that no part knows another one. Output only gathers here: `Node.take` hands it out at the end of
the turn, after which the shell commits and only then speaks.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from protocol.frames import encode_message
from server.core.base.clock import HybridClock
from server.core.base.config import Config
from server.core.base.errors import NO_LAYOUT, ErrorReply
from server.core.base.hints import Hints
from server.core.base.room import FOR_DELETIONS, FOR_NOTHING, FOR_WRITES
from server.core.base.routing import Plan, Route, build_routes, no_routes
from server.core.base.sinks import Session
from server.core.base.statistics import Statistics
from server.core.liveness.liveness import Liveness
from server.core.records.records import Records
from server.core.records.versions import ACTOR_BYTES, TOMBSTONE, DamagedRecord, clock_of, siblings_of
from server.core.ring.layout import Layout, Member

SLOT_BITS = 14
Item = bytes | int | str | Sequence[bytes]


class State:
    """The shared state of one node. `now_ms` is monotonic, and the same throughout a turn.

    What this node learned up to the reading `fence` of its clock must not be sent or stored as a record any more, unless
    it is stored here (see collection.py): whoever reads records into memory compares before using them in a later turn.
    """

    room: int = FOR_WRITES  # on this node's disk
    fence = 0
    members: frozenset[str] = frozenset()  # ids of the layout: nobody else is listened to; never iterated
    in_flight = 0  # requests in groups and relays; bounded by config.requests_in_flight_max
    no_layout: ErrorReply = NO_LAYOUT  # what clients get who need a layout
    synced_turn = 0  # all turns up to this one are on the disk
    sync_wanted = False  # something waits for the disk, whatever the fsync policy

    def __init__(
        self,
        member: Member,
        actor: bytes,
        config: Config,
        clock: HybridClock,
        records: Records,
        liveness: Liveness,
        rng: random.Random,
        incarnation: int,
    ) -> None:
        self.id = member.id
        self.member = member
        self.actor = actor
        self.guest_actor = rng.randbytes(ACTOR_BYTES)  # for keys that this node does not own, see `forget_guest`
        self.config = config
        self.clock = clock
        self.records = records
        self.liveness = liveness
        self.rng = rng
        self.incarnation = incarnation
        self.now_ms = 0
        self.wall_offset_ms: int | None = None  # the wall clock less the monotonic one, as of the last tick
        self.layout: Layout | None = None
        self.read_quorum = self.write_quorum = 1
        self.routes: list[Route] = no_routes()
        self.deletion_routes = self.routes  # of commands that delete: another list while some disk is full
        self.route_shift = SLOT_BITS
        self.links: set[str] = set()  # peers that we have a connection to; asked for membership, never iterated
        self.going: dict[str, None] = {}  # peers that are about to stop: nothing new is begun with them
        self.full: dict[str, int] = {}  # peers that have no room for writes on their disks, and what they have room for
        self.heard_ms: dict[str, int] = {}  # when anything last came from a peer
        self.messages: dict[str, list[bytes]] = {}
        self.ready: list[Session] = []
        self.statistics = Statistics()
        self.fences: dict[str, int] = {}  # records that a peer sent up to this reading of its clock are refused
        self.hints = Hints(records, self.statistics, config.hints_bytes_max)
        self.kept: dict[str, list[int]] = {}  # groups of a peer that are stored here, to be confirmed at leisure
        # Numbers go on rising over restarts, so an answer to a request of a former life never meets one of this life.
        self._next_number = incarnation << 20

    def at(self, now_ms: int) -> None:
        """HOT. It is `now_ms` now; the hybrid clock follows, so that a node that has slept writes with no old reading."""
        if now_ms != self.now_ms:
            self.now_ms = now_ms
            if self.wall_offset_ms is not None:
                self.clock.advance(now_ms + self.wall_offset_ms)

    @property
    def turn(self) -> int:
        """The number of the present turn; the writes of a turn are on the disk once `synced_turn` has come to it."""
        return self.statistics.turns + 1

    def renew_actor(self) -> None:
        """From now on dots are issued under an actor that nobody has had before: ours may have forgotten some (P2)."""
        self.actor = self.rng.randbytes(ACTOR_BYTES)
        self.guest_actor = self.rng.randbytes(ACTOR_BYTES)

    def draw_line(self) -> int:
        """Raises the fence to now. Answers the reading; whatever is sent from now on carries a later one."""
        self.fence = self.clock.last
        self.clock.next()
        return self.fence

    def number(self) -> int:
        """A number no row in flight has had, in this life of the node or an earlier one."""
        self._next_number += 1
        return self._next_number

    def adopt(self, layout: Layout) -> None:
        """From now on `layout` rules. The caller has stored it with this turn's batch."""
        self.layout = layout
        self.members = frozenset(member.id for member in layout.members)
        for member in layout.members:
            if member.id == self.id:  # as operators have it; where it listens it knows best itself
                self.member = replace(member, address=self.member.address)
        self.read_quorum = layout.effective_r
        self.write_quorum = layout.effective_w
        self.route_shift = SLOT_BITS - (layout.partitions.bit_length() - 1)
        self.liveness.set_members([member.id for member in layout.members], self.now_ms)
        self.reroute()

    def leave(self) -> None:
        """From now on there is no layout. The caller has stored that with this turn's batch."""
        self.layout = None
        self.members = frozenset()
        self.routes = self.deletion_routes = no_routes()
        self.route_shift = SLOT_BITS
        self.liveness.set_members([], self.now_ms)

    def reroute(self) -> None:
        """Liveness or the layout has changed: compute the routes anew."""
        if self.layout is not None:
            self.routes = self.deletion_routes = build_routes(self.layout, self.id, self.is_usable, self.has_room)
            if self.disk_full or self.full:
                self.deletion_routes = build_routes(self.layout, self.id, self.is_usable, self.may_delete, True)

    def is_usable(self, peer: str) -> bool:
        """Whether requests go to `peer`: it can be reached, and is believed live."""
        return peer in self.links and peer not in self.going and self.liveness.is_live(peer)

    @property
    def disk_full(self) -> bool:
        """Whether this node takes no writes, for want of room on its disk. It may take deletions."""
        return self.room != FOR_WRITES

    def has_room(self, node: str) -> bool:
        """Whether a node, this one included, has room for writes on its disk, as far as it has told us."""
        return not self.disk_full if node == self.id else node not in self.full

    def may_delete(self, node: str) -> bool:
        """Whether a node, this one included, has room for deletions on its disk."""
        return (self.room if node == self.id else self.full.get(node, FOR_WRITES)) != FOR_NOTHING

    def has_room_for(self, plan: Plan, node: str) -> bool:
        """Whether a node has room for a write, or for the deletion that `plan` is for."""
        return self.may_delete(node) if plan.deletes else self.has_room(node)

    def may_store(self, pairs: Sequence[bytes]) -> bool:
        """HOT. Whether there is room for storage key, record, …: for all, for deletions only, or for nothing."""
        if self.room == FOR_WRITES:
            return True
        return self.room == FOR_DELETIONS and all(
            self._adds_no_value(pairs[index], pairs[index + 1]) for index in range(0, len(pairs), 2)
        )

    def _adds_no_value(self, stored_at: bytes, record: bytes) -> bool:
        """Whether all values of a record are stored here already."""
        values = [sibling for sibling in siblings_of(record) if sibling.kind != TOMBSTONE]
        if not values:
            return True
        try:
            stored = siblings_of(self.records.get(stored_at))
        except DamagedRecord:
            return False
        return all(value in stored for value in values)

    def message(self, kind: bytes, number: int, *items: Item) -> bytes:
        """An encoded message; each carries a reading of our hybrid clock, which the receiver's clock then follows."""
        return encode_message((kind, self.clock.last, number, *items))

    def send(self, peer: str, message: bytes) -> None:
        """Queues an encoded message for `peer`, for the frame that the end of the turn makes of all it has for it."""
        messages = self.messages.get(peer)
        if messages is None:
            self.messages[peer] = [message]
        else:
            messages.append(message)

    def actor_for(self, owned: bool) -> bytes:
        """HOT. The actor of a write that is coordinated here."""
        return self.actor if owned else self.guest_actor

    def forget_guest(self, stored_at: bytes, record: bytes) -> None:
        """Removes a record that was held for others only. An actor must not forget what it issued (P2): the next write of
        the key here would cover, by its clock, writes of the same actor that it has not seen. So the actor ends with it.
        """
        if any(actor == self.guest_actor for actor, _ in clock_of(record)):
            self.guest_actor = self.rng.randbytes(ACTOR_BYTES)
        self.records.remove(stored_at)

    def owns(self, stored_at: bytes) -> bool:
        """HOT. Whether this node takes the writes of a storage key, as an owner or a former one."""
        return self.routes[int.from_bytes(stored_at[:2], "big") >> self.route_shift].owned

    def owners_of(self, stored_at: bytes) -> tuple[str, ...]:
        """All who take the writes of a storage key."""
        return self.routes[int.from_bytes(stored_at[:2], "big") >> self.route_shift].owners

    def layout_name(self, node_id: str) -> str:
        """The name that operators know a member by."""
        members = self.layout.members if self.layout is not None else (self.member,)
        return next((member.name for member in members if member.id == node_id), node_id)
