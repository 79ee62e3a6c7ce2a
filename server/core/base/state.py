"""What the parts of a node share within a turn: settings, clock, records, layout, routes, links, and the turn's output.

Theory. Each part (reads, writes, relays, questions) owns just its table of rows in flight. What several parts need is here,
so that they need not know each other. Output gathers here: `Node.end_turn` hands it out at the end of the turn; then the
shell commits, and only then sends.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from librt.strings import read_i16_be
from mypy_extensions import i64

from protocol import peer_versions as known
from protocol.databases import UNSWAPPED
from server.core.base.clock import HybridClock
from server.core.base.cluster_time import ClusterTime
from server.core.base.config import Config
from server.core.base.errors import BUSY, NO_LAYOUT, ErrorReply
from server.core.base.hints import Hints
from server.core.base.holds import Holds
from server.core.base.pauses import Pauses
from server.core.base.quarantine import Quarantine
from server.core.base.readers import Readers
from server.core.base.room import FOR_DELETIONS, FOR_NOTHING, FOR_WRITES
from server.core.base.routing import Plan, RouteTable, build_routes, no_routes
from server.core.base.sinks import Session
from server.core.base.statistics import Statistics
from server.core.base.unexpected import Unexpected
from server.core.liveness.liveness import Liveness
from server.core.records.orders import KeptOrders
from server.core.records.records import Records
from server.core.records.versions import ACTOR_BYTES, DamagedRecord, clock_of, values_in
from server.core.ring.layout import Layout, Member

SLOT_BITS = 14
Item = bytes | int | str | Sequence[bytes]
Note = tuple[bytes, bytes, bytes | None, list[bytes] | None]  # storage key, record, the one before, the command
MISSED = b""  # in a note, in place of a record: the command has found nothing
SET_BACK, DAMAGED = "set-back", "damaged"  # reasons to set a store aside, see rollback.py and rebuild.py


class State:
    """The shared state of one node. Each attribute has one of five roles (tests/core/base/test_state.py holds the table).

    durable     on the disk; whoever changes it writes it in the batch of the same turn
                records, hints, readers, with_databases, with_swaps
                layout: membership.py; is_filling: filling.py; quarantine: Node.crash_report
    view        computed from other state, and from nothing else, by the function named
                adopt, leave: members, read_quorum, write_quorum, route_shift, route_table
                reroute: routes, deletion_routes, routed_generation, by what is known of members, and of the space on disks
                at, keep_time, follow_time: now_ms, time_ms, wall_offset_ms, has_time
                note_capabilities: capable, and its parts orderly, comparing, patching, scripting, transacting,
                knowing_users, knowing_libraries, knowing_swaps, queueing, publishing, tracing, knowing_origins; tls_ports
                refuse_clients, serve_clients: requests_max, refusal; users.py: no_layout, users_bytes; numbering
    memory      of this run of the process; a restart begins anew
                who we are: id, member, actor, guest_actor, incarnation, config, staged_bytes_min, rng
                of peers: liveness, links, draining, full, last_message_ms, fences, backlogged, watching, attributing
                of this node: clock, cluster_time, room, lacks_records, synced_turn, fence, store_is_damaged, orders, holds
                of requests: pauses, lane_turn, in_flight, procedures, commands_waiting, clients_queued, slow_writes
                counters: statistics, unexpected
    output      gathered in a turn, and handed out at its end (outbox.py)
                messages, trailing, ready, noted; kept: with the next tick
    flags       one part asks another one for work
                sync_wanted, cleanup_due, rebuild_reason, has_waited, has_held

    `now_ms` is monotonic, and the same throughout a turn. `time_ms` is cluster time, in ms since 1970: keys expire by it.

    What this node learned up to the reading `fence` of its clock must not be sent or stored as a record any more, unless
    it is stored here (see collection.py): whoever reads records into memory compares before using them in a later turn.
    """

    # From the layout
    read_quorum = 1
    write_quorum = 1
    routed_generation = -1  # of `liveness`, when the routes were computed
    # This node
    room: int = FOR_WRITES  # on this node's disk
    is_filling = False  # this node has lost its disk and has not got everything back yet (filling.py)
    lacks_records = False  # and others have more: a key that is absent here is no vote
    synced_turn = 0  # all turns up to this one are on the disk
    fence = 0
    store_is_damaged = False  # a compaction has met a block that cannot be read; the engine compacts nothing any more
    users_bytes = 0  # of the document of users, which a layout does not overtake (views.py)
    staged_bytes_min = 1 << 20  # of a value that is written in chunks first (requests/large_values.py)
    # Time
    now_ms = 0
    has_time = False  # keys may be judged by `time_ms`, and dots made
    # Load
    lane_turn = 0  # commands that begin while it is the same travel together (lanes.py)
    in_flight = 0  # requests in groups and relays; bounded by config.requests_in_flight_max
    procedures = 0  # commands of several steps that have not ended, but for WAIT (work/procedures.py)
    commands_waiting = 0  # commands that wait for others of their connection
    clients_queued = 0  # connections with commands that may begin, see shell/admission.py
    # Flags
    sync_wanted = False  # something waits for the disk, whatever the fsync policy
    cleanup_due = True  # there may be records here that this node does not keep (cleanup.py)
    rebuild_reason = ""  # why the process is to set this store aside and begin an empty one: SET_BACK, DAMAGED, or not
    has_waited = False  # some client has waited for an element, here or for a key of this node (waiting/)
    has_held = False  # commands of clients or relays wait, see `holds_commands`

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
        cluster_time: ClusterTime,
    ) -> None:
        self.id, self.member, self.actor = member.id, member, actor
        self.guest_actor = rng.randbytes(ACTOR_BYTES)  # for keys that this node does not own, see `forget_guest`
        self.config, self.rng, self.holds = config, rng, Holds()
        self.pauses, self.orders = Pauses(config), KeptOrders(config.orders_bytes_max)
        self.incarnation = incarnation
        self.no_layout: ErrorReply = NO_LAYOUT  # the reply to commands that need a layout
        self.requests_max, self.refusal = -1, NO_LAYOUT  # while more requests are in flight, commands are refused so
        self.clock, self.cluster_time = clock, cluster_time
        self.time_ms = self.wall_offset_ms = cluster_time.offset_ms  # the offset: our wall clock less the monotonic one
        self.statistics, self.records, self.liveness, self.numbering = Statistics(), records, liveness, UNSWAPPED
        self.hints = Hints(records, self.statistics, config.hints_bytes_max)
        self.unexpected = Unexpected(records, self.statistics, member.name)
        records.listeners.unmergeable.append(self.unexpected.note_unmergeable)
        self.quarantine = Quarantine(records)
        self.layout: Layout | None = None
        self.members: frozenset[str] = frozenset()  # ids: messages of other nodes are ignored; never iterated
        self.route_shift = SLOT_BITS
        self.routes = self.deletion_routes = no_routes()  # the latter is another list while some disk is full
        self.route_table: RouteTable | None = None  # by the present layout
        self._begin_peers()
        self._begin_output()
        # Numbers go on rising over restarts, so that an answer to a request of a former run matches none of this run.
        self._next_number = incarnation << 20

    def _begin_peers(self) -> None:
        """The tables of what is known of peers, besides liveness; empty at the start."""
        self.readers = Readers(self.records, self.id)
        self.with_databases = Readers(self.records, self.id, known.DATABASES, b"databases")
        self.with_swaps = Readers(self.records, self.id, known.SWAPS, b"swaps")
        self.tls_ports: dict[str, int] = {}  # by peer: where it takes TLS, as it has said when we were connected last
        self.links: set[str] = set()  # peers to which our link is open; never iterated
        self.draining: dict[str, None] = {}  # peers that are about to stop: nothing new is begun with them
        self.full: dict[str, int] = {}  # peers that have no room for writes on their disks, and what they have room for
        self.last_message_ms: dict[str, int] = {}  # when the last message came from a peer
        self.fences: dict[str, int] = {}  # records that a peer sent up to this reading of its clock are refused
        # The peers that have a capability (protocol/peer_versions.py), in the order in which they have announced it.
        self.capable: dict[bytes, dict[str, None]] = {capability: {} for capability in known.CAPABILITIES}
        peers = self.capable
        self.orderly, self.comparing, self.patching = peers[known.ORDERLY], peers[known.COMPARES], peers[known.PATCHES]
        self.scripting, self.transacting = peers[known.SCRIPTS], peers[known.TRANSACTIONS]
        self.knowing_users, self.knowing_libraries = peers[known.USERS], peers[known.FUNCTIONS]
        self.queueing, self.tracing = peers[known.QUEUES], peers[known.TRACING]
        self.publishing, self.knowing_origins = peers[known.PUBLISHING], peers[known.ORIGINS]
        self.knowing_swaps = peers[known.SWAPS]
        self.watching: dict[str, None] = {}  # peers that want to know which keys change (pubsub/tracking.py)
        self.attributing: dict[str, None] = {}  # those of them that want to know which changes their clients have made
        self.backlogged: dict[str, None] = {}  # peers with too many large messages in their queues (outbound.py)

    def _begin_output(self) -> None:
        """What a turn gathers for its end."""
        self.messages: dict[str, list[bytes]] = {}
        self.trailing: dict[str, list[bytes]] = {}  # messages that must not overtake large ones
        self.slow_writes: dict[bytes, int] = {}  # by storage key: how many are large or patched, and on their way
        self.kept: dict[str, list[int]] = {}  # a peer's groups that are stored here, to be confirmed with the next tick
        self.ready: list[Session] = []  # sessions that got replies
        self.noted: list[Note] | None = None  # writes and misses, for pubsub/notifications.py; None: nobody wants them

    def at(self, now_ms: int) -> None:
        """HOT. Sets the time of the turn. The hybrid clock follows: a node that has slept makes no dots in the past."""
        if now_ms != self.now_ms:
            self.pauses.read_clock(now_ms)
            self.now_ms = now_ms
            time_ms = now_ms + self.cluster_time.offset_ms
            if time_ms > self.time_ms:
                self.time_ms = time_ms
                if self.has_time:
                    self.clock.advance(time_ms)

    def keep_time(self, now_ms: int, wall_ms: int, slept_ms: int, first: bool) -> None:
        """For a tick: notes the reading of our wall clock, and how long the machine has slept since the last tick."""
        self.pauses.read_clock(now_ms, slept_ms)
        self.now_ms = now_ms
        self.wall_offset_ms = wall_ms - now_ms
        if first:
            self.cluster_time.begin(self.wall_offset_ms)
            self.time_ms = wall_ms
        else:
            self.cluster_time.read_own(self.wall_offset_ms)
            self.cluster_time.slept(slept_ms)
        self.follow_time()

    def follow_time(self) -> None:
        """Takes over what is new about cluster time.

        When cluster time is known for sure for the first time, the hybrid clock may have followed our own wall clock far
        ahead. If no fence depends on its readings yet (collection.py), the clock is reset, under a new actor.
        """
        was_sure = self.cluster_time.is_sure
        stepped = self.cluster_time.follow(self.now_ms)
        time_ms = self.now_ms + self.cluster_time.offset_ms
        if stepped or time_ms > self.time_ms:
            self.time_ms = time_ms
        self.has_time = self.cluster_time.is_set
        if not self.has_time:
            return
        self.clock.advance(self.time_ms)
        if self.cluster_time.is_sure and not was_sure and not self.fence and self.clock.is_far_ahead:
            self.renew_actor()
            self.clock.begin_anew()

    @property
    def holds_commands(self) -> bool:
        """Whether commands that need keys wait: for cluster time, or because this node has just stood still."""
        is_settling = self.now_ms < self.pauses.settled_ms and len(self.links) > 0
        return (is_settling or not self.has_time) and self.layout is not None

    @property
    def wall_ms(self) -> int:
        """What this node's own wall clock reads."""
        return self.now_ms + self.wall_offset_ms

    @property
    def turn(self) -> int:
        """The number of the present turn; its writes are on the disk once `synced_turn` has reached it."""
        return self.statistics.turns + 1

    def renew_actor(self) -> None:
        """Draws a new actor: the present one may have issued dots that this node does not know any more (P2)."""
        self.actor = self.rng.randbytes(ACTOR_BYTES)
        self.guest_actor = self.rng.randbytes(ACTOR_BYTES)

    def draw_line(self) -> int:
        """Raises the fence to the present reading of the clock, and returns it. Later messages carry later readings."""
        self.fence = self.clock.last
        self.clock.next()
        return self.fence

    def next_number(self) -> int:
        """Returns a new number for a row in flight: none had it before, in this run of the node or an earlier one."""
        self._next_number += 1
        return self._next_number

    def adopt(self, layout: Layout) -> None:
        """Makes `layout` the present one. The caller has stored it in this turn's batch."""
        was_fresh, self.layout = self.layout is None, layout
        self.cleanup_due = True
        self.members = frozenset(member.id for member in layout.members)
        for member in layout.members:
            if member.id == self.id:  # name, zone and weight by the layout; the address is our own
                self.member = replace(member, address=self.member.address)
        self.read_quorum, self.write_quorum = layout.effective_r, layout.effective_w
        self.route_shift = SLOT_BITS - (layout.partitions.bit_length() - 1)
        ids = [member.id for member in layout.members]
        self.liveness.set_members(ids, self.now_ms)
        self.cluster_time.set_members(ids)
        self.follow_time()
        self.route_table = RouteTable(layout, self.id)
        self.reroute()
        if was_fresh:
            self.serve_clients()

    def leave(self) -> None:
        """Forgets the layout. The caller has stored that in this turn's batch."""
        self.layout = None
        self.cleanup_due = True
        self.members, self.route_table, self.route_shift = frozenset(), None, SLOT_BITS
        self.routes = self.deletion_routes = no_routes()
        self.liveness.set_members([], self.now_ms)
        self.cluster_time.set_members([])
        self.follow_time()

    def refuse_clients(self, refusal: ErrorReply) -> None:
        """Refuses clients' commands that need keys, those that wait for others included."""
        self.requests_max, self.refusal = -1, refusal

    def serve_clients(self) -> None:
        """Ends `refuse_clients`. Without a layout clients are refused, for they may have to log in with it (users.py)."""
        is_fresh, most = self.layout is None, self.config.requests_in_flight_max
        self.requests_max, self.refusal = (-1, self.no_layout) if is_fresh else (most, BUSY)

    def reroute(self, refresh: bool = False) -> None:
        """Computes the routes anew, since liveness or the layout has changed, or because some are stale (`refresh`)."""
        self.routed_generation = self.liveness.generation
        table = self.route_table
        if table is not None:
            self.routes = self.deletion_routes = table.update(self.is_usable, self.has_room, refresh)
            if self.disk_full or self.full:
                self.routes = self.routes[:]  # who compares lists sees that those for deletions may have changed
                self.deletion_routes = build_routes(table.layout, self.id, self.is_usable, self.may_delete, True)

    def is_usable(self, peer: str) -> bool:
        """Whether requests go to `peer`: its link is open, it is believed live, and it is not about to stop."""
        return peer in self.links and peer not in self.draining and self.liveness.is_live(peer)

    @property
    def disk_full(self) -> bool:
        """Whether this node takes no writes, since its disk is full. It may take deletions."""
        return self.room != FOR_WRITES

    def has_room(self, node: str) -> bool:
        """Whether a node, this one included, has room for writes on its disk, as far as we know by its last FULL."""
        return not self.disk_full if node == self.id else node not in self.full

    def may_delete(self, node: str) -> bool:
        """Whether a node, this one included, has room for deletions on its disk."""
        return (self.room if node == self.id else self.full.get(node, FOR_WRITES)) != FOR_NOTHING

    def has_room_for(self, plan: Plan, node: str) -> bool:
        """Whether a node has room for a write, or for the deletion that `plan` is for."""
        return self.may_delete(node) if plan.deletes else self.has_room(node)

    def may_store(self, pairs: Sequence[bytes]) -> bool:
        """HOT. Whether there is room for storage key, record, …"""
        if self.room == FOR_WRITES:
            return True
        return self.room == FOR_DELETIONS and all(
            self._adds_no_value(pairs[index], pairs[index + 1]) for index in range(0, len(pairs), 2)
        )

    def _adds_no_value(self, storage_key: bytes, record: bytes) -> bool:
        """Whether all values of a record are stored here already."""
        values = values_in(record)
        if not values:
            return True
        try:
            stored = values_in(self.records.get(storage_key))
        except DamagedRecord:
            return False
        return all(value in stored for value in values)

    def clock_reading(self) -> int:
        """HOT. Returns the reading of our clock for a message, which the receiver's clock follows; 0 if it may be wrong."""
        return self.clock.last if self.has_time else 0

    def note_capabilities(self, peer: str, capabilities: Sequence[bytes]) -> None:
        """`peer` has announced these capabilities, and no others (protocol/peer_versions.py)."""
        for capability, peers in self.capable.items():
            if capability in capabilities:
                peers[peer] = None
            else:
                peers.pop(peer, None)
        for readers in (self.readers, self.with_databases, self.with_swaps):
            readers.announced(peer, capabilities)
        self.tls_ports[peer] = known.tls_port_in(capabilities)

    def send(self, peer: str, message: bytes) -> None:
        """Queues an encoded message for `peer`, for the frame that the end of the turn makes."""
        messages = self.messages.get(peer)
        if messages is None:
            self.messages[peer] = [message]
        else:
            messages.append(message)

    def send_behind(self, peer: str, message: bytes) -> None:
        """Queues an encoded message for `peer` that must not overtake what was sent there before, large messages
        included."""
        self.trailing.setdefault(peer, []).append(message)

    def actor_for(self, owned: bool) -> bytes:
        """HOT. The actor of a write that is coordinated here."""
        return self.actor if owned else self.guest_actor

    def forget_guest(self, storage_key: bytes, record: bytes) -> None:
        """Removes a record that was held only for other nodes. An actor must know all dots that it has issued for a key
        (P2): else the clock of its next write of the key would cover writes that it has not seen. So if the record has dots
        of `guest_actor`, that actor is renewed.
        """
        if any(actor == self.guest_actor for actor, _ in clock_of(record)):
            self.guest_actor = self.rng.randbytes(ACTOR_BYTES)
        self.records.remove(storage_key)

    def owns(self, storage_key: bytes) -> bool:
        """HOT. Whether this node takes writes of a storage key, as a present or former owner."""
        return self.routes[read_i16_be(storage_key, 0) >> self.route_shift].owned

    def owns_all(self, pairs: list[bytes]) -> bool:
        """HOT. Whether this node takes writes of all keys of `pairs`: storage key, record, storage key, record, …"""
        routes = self.routes
        shift: i64 = self.route_shift
        index: i64 = 0
        while index < len(pairs):
            if not routes[i64(read_i16_be(pairs[index], 0)) >> shift].owned:
                return False
            index += 2
        return True

    def owners_of(self, storage_key: bytes) -> tuple[str, ...]:
        """All nodes that take writes of a storage key."""
        return self.routes[int.from_bytes(storage_key[:2], "big") >> self.route_shift].owners

    def layout_name(self, node_id: str) -> str:
        """The member's name, which operators know it by."""
        members = self.layout.members if self.layout is not None else (self.member,)
        return next((member.name for member in members if member.id == node_id), node_id)
