"""One node, pure: the seam that both the asyncio shell and the simulator drive.

Theory. Inputs (a client's command, a peer's message, the passing of time) change memory and tables; `end_turn` ends the
turn: it sends out what has gathered and hands over the writes to commit as one batch, the messages by peer, and the
replies, to be used in that order. Commit, then speak (P1). Time comes in as an argument, chance as a generator;
handlers run to completion, so a whole cluster can be replayed from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

from protocol.slots import key_slot
from server.core.answerers import answerers
from server.core.base.clock import HybridClock
from server.core.base.clock_report import ClockReport
from server.core.base.cluster_time import ClusterTime
from server.core.base.config import Config
from server.core.base.routing import Route
from server.core.base.sinks import Session, Sink
from server.core.base.state import State
from server.core.collection.collection import Collection
from server.core.collection.votes import Votes
from server.core.commands.cluster_view import PeerLink
from server.core.dispatch import Dispatcher
from server.core.liveness.liveness import Liveness, LivenessLimits
from server.core.membership.addresses import Addresses
from server.core.membership.cleanup import Cleanup
from server.core.membership.copies import Copies
from server.core.membership.filling import Filling
from server.core.membership.lives import Lives
from server.core.membership.membership import Membership
from server.core.membership.shutdown import Shutdown
from server.core.membership.steward import Steward
from server.core.membership.transfers import Transfers
from server.core.operators.staging import Staging
from server.core.outbox import Outbox, drain_messages
from server.core.peer_messages import PeerMessages
from server.core.records.records import Records, Store
from server.core.repair.anti_entropy import AntiEntropy
from server.core.repair.hint_replay import HintReplay
from server.core.repair.jobs import RepairJobs
from server.core.repair.mending import Mending
from server.core.repair.scrub import Scrub
from server.core.repair.tasks import RepairTasks
from server.core.repair.verification import Verification
from server.core.requests.reads import Reads
from server.core.requests.relays import STALE, Relays
from server.core.requests.writes import Writes
from server.core.ring.layout import Layout, Member
from server.core.work.background import Background
from server.core.work.computing import Computing
from server.core.work.procedures import Procedure, Steps
from server.core.work.questions import Questions
from server.core.work.timers import Timers

LAG_MS_MAX = 1000  # a turn that comes later than this judges no deadline: what it waits for may lie unread in a socket


class Node:
    """A node of the cluster, without its sockets, its disk and its clocks."""

    _has_held = False  # commands or relays wait for cluster time
    started_ms = 0
    http_refused_from = ""  # the last client that spoke HTTP

    def __init__(
        self,
        member: Member,
        actor: bytes,
        incarnation: int,
        config: Config,
        store: Store,
        rng: random.Random,
        wall_ms: int,
        damage_error: type[Exception] = ValueError,
    ) -> None:
        records = Records(store, config.record_cache_bytes, damage_error, config.tree_leaf_bits)
        records.open()
        liveness = Liveness(member.id, incarnation, LivenessLimits(gossip_interval_ms=config.gossip_interval_ms), rng)
        clock = HybridClock(0, config.clock_drift_ms_max)
        cluster_time = ClusterTime(member.id, config.clock_drift_ms_max, wall_ms)
        self.state = State(member, actor, config, clock, records, liveness, rng, incarnation, cluster_time)
        self.clock_report = ClockReport(self.state)
        self.reads = Reads(self.state)
        self.writes = Writes(self.state)
        self.timers = Timers()
        self.background = Background(self.state, self.timers)
        self.computing = Computing(self.state, self.background)
        run = self.dispatcher = Dispatcher(self)
        self.relays = Relays(self.state, run.run_all, run.run_in_order, run.retry, run.retry_in_order, run.refuse)
        self.questions = Questions(self.state, answerers(self))
        self.anti_entropy = AntiEntropy(self.state, self.questions, self.background)
        self.jobs = RepairJobs(self.state, self.questions, self.background)
        self.tasks = RepairTasks(self.state, self.questions, self.background)
        self.staging = Staging(self.state, self.computing)
        self.sessions: dict[int, Session] = {}
        self.facts: dict[str, str] = {}  # what the shell knows of its process, for INFO
        self.peer_links: Callable[[], list[PeerLink]] = list  # the shell's, for CLUSTER LINKS
        self._closing: list[Session] = []
        self._resuming: dict[Session, None] = {}  # sessions with commands that may begin, now or in the next turn
        self._ticked_ms = -1
        self._next_session = 0
        self._peer_messages = PeerMessages(self)
        self._begin()

    def _begin(self) -> None:
        self.mending = Mending(self.state, self.questions, self.background)
        self.state.records.on_damage = self.mending.note
        self.votes = Votes(self.state, self.writes.unconfirmed, self.reads.is_overdue)
        self.collection = Collection(self.state, self.questions, self.background)
        self.cleanup = Cleanup(
            self.state, self.questions, self.background, self.writes.unconfirmed, lambda *slots: self.scrub.walk(*slots)
        )
        self.hint_replay = HintReplay(self.state, self.background, self.questions, self.cleanup.notice)
        self.writes.let_go = self.cleanup.notice
        self.scrub = Scrub(self.state, self.questions, self.background, self.collection, self.cleanup.notice)
        self.verification = Verification(self.state, self.background, self.scrub, self.mending)
        self.membership = Membership(
            self.state, self.background, self.computing, (self.reads, self.writes), self._layout_changed
        )
        self.copies = Copies(self.state, self.dispatcher.close, self.dispatcher.reopen)
        self.lives = Lives(self.state, self.dispatcher.close, self.dispatcher.reopen)
        self.addresses = Addresses(self.state, self.membership, self.copies, self.lives)
        self.transfers = Transfers(self.state, self.questions, self.background, self.membership)
        self.filling = Filling(self.state, self.questions, self.background, self.membership)
        self.tasks.others = lambda: self.transfers.tasks() + self.filling.tasks()
        self.steward = Steward(self.state, self.questions, self.background, self.membership)
        self.shutdown = Shutdown(
            self.state, self.questions, self.background, self.dispatcher.close, self.dispatcher.reopen
        )
        self.membership.begin()
        self.addresses.begin()

    def _layout_changed(self) -> None:
        self.filling.review()
        self.hint_replay.review()
        self.cleanup.notice()
        self.shutdown.serve()

    # Clients

    def open_session(self, address: str, local_address: str, now_ms: int) -> Session:
        """A client has connected from `address` (host:port)."""
        self._next_session += 1
        self.state.statistics.connections += 1
        session = Session(self._next_session, address, local_address, now_ms, self.state.ready)
        self.sessions[session.id] = session
        return session

    def close_session(self, session: Session) -> None:
        """The client is gone; what it has in flight runs on, unheard."""
        self.sessions.pop(session.id, None)
        session.backlog.clear()

    def kill_session(self, session: Session) -> None:
        """Closes the connection at the end of the turn, after the replies that are due."""
        session.closing = True
        self._closing.append(session)

    def command(self, session: Session, args: list[bytes], now_ms: int) -> None:
        """The next command of a client: its name and arguments."""
        self.commands(session, [args], now_ms)

    def commands(self, session: Session, batch: list[list[bytes]], now_ms: int) -> None:
        """HOT. The next commands of a client, in order."""
        self.state.at(now_ms)
        session.active_ms = now_ms
        self.dispatcher.changes = self.state.records.changes
        try:
            if not self.state.has_time and self.state.layout is not None:
                self._has_held = True
                self.dispatcher.admit_without_time(session, batch)
                return
            self.dispatcher.admit(session, batch)
        except Exception as error:  # noqa: BLE001
            self._break_off(session, error)

    def _break_off(self, session: Session, error: Exception) -> int:
        """The commands of a session could not be kept in order: its connection ends, with the replies due by now. (What a
        command itself raises has an answer, see dispatch.py.) Raises Fatal if something was stored."""
        self.state.unexpected.contain(error, self.dispatcher.changes, f"the commands of client {session.address}")
        self.state.parked -= session.break_off()
        self.close_session(session)
        self._closing.append(session)
        return 1

    def run_steps(self, steps: Steps, sink: Sink, number: int) -> None:
        """Runs a command of several steps for `sink`."""
        Procedure(
            self.state, "command", steps, sink, number, lambda: STALE if self.relays.is_stale(sink) else None
        ).start()

    def route(self, key: bytes, deletes: bool = False) -> Route:
        """How requests for `key` go from here, at present; `deletes` for one that deletes it."""
        state = self.state
        return (state.deletion_routes if deletes else state.routes)[key_slot(key) >> state.route_shift]

    # Peers

    def connected(self, peer: str, now_ms: int, capabilities: Sequence[bytes] = (), view: Sequence[bytes] = ()) -> None:
        """The shell has a connection on which our messages reach `peer`, which has announced these capabilities
        (protocol/peer_versions.py), and has answered with the `view` of its layout. It learns ours first of all, unless it
        has it."""
        state = self.state
        state.at(now_ms)
        state.links.add(peer)
        self.copies.opened(peer)
        self.lives.connected(peer)
        state.cluster_time.reached(peer)
        state.follow_time()
        state.draining.pop(peer, None)
        self.membership.views.connected(peer, view)
        if capabilities:
            state.note_capabilities(peer, capabilities)
        else:  # a node of the version before, which is told so by a message
            state.send(peer, state.message(b"ORDERLY", 0))
        if state.disk_full:
            state.send(peer, state.message(b"FULL", state.room))
        self._peer_messages.gossip(peer, 1)  # and what is staged
        self.anti_entropy.connected(peer)
        state.reroute()

    def disconnected(self, peer: str, now_ms: int) -> None:
        """Our connection to `peer` broke: whatever was asked over it will not be answered."""
        state = self.state
        state.at(now_ms)
        state.links.discard(peer)
        state.messages.pop(peer, None)
        state.cluster_time.cannot_reach(peer)
        state.trailing.pop(peer, None)
        state.liveness.link_lost(peer, now_ms)
        state.reroute()
        self.reads.peer_lost(peer)
        self.writes.peer_lost(peer)
        self.relays.peer_lost(peer)
        self.questions.peer_lost(peer)

    def refused(self, peer: str, now_ms: int, trouble: str = "", text: str = "") -> None:
        """No connection to `peer` could be made: what the trouble is (addresses.py), and how to tell it."""
        self.addresses.trouble(peer, trouble, text)
        self.state.liveness.link_refused(peer, now_ms)
        self.state.cluster_time.cannot_reach(peer)

    def greeted(self, peer: str, now_ms: int, capabilities: Sequence[bytes] = ()) -> None:
        """`peer` has opened a connection to us, perhaps as a new process with a new clock, and has announced these
        capabilities."""
        self.relays.peer_restarted(peer)
        self.state.draining.pop(peer, None)
        self.state.full.pop(peer, None)  # should it be, it says so now
        self.state.orderly.pop(peer, None)
        self.state.comparing.pop(peer, None)
        self.state.note_capabilities(peer, capabilities)
        self.state.liveness.heard(peer, now_ms)

    def receive(self, peer: str, message: list[Any], now_ms: int) -> None:
        """HOT. A message of another node: kind, a reading of its hybrid clock, a number, and what the kind needs.

        A kind that we do not know is a newer node's and is passed over.
        """
        self._peer_messages.receive(peer, message, now_ms)

    def disk_changed(self, room: int, now_ms: int) -> None:
        """The shell has found that the disk has room for something else than before (room.py)."""
        state = self.state
        state.at(now_ms)
        state.room = room
        state.reroute()
        for member in state.layout.members if state.layout is not None else ():
            if member.id in state.links:
                state.send(member.id, state.message(b"FULL", room))

    # The layout

    def offer_layout(self, layout: Layout) -> bool:
        """Takes what `layout` and the present one make together (P9); whether that has changed anything."""
        return self.membership.offer(layout)

    # Time

    def time_is_known(self) -> None:
        """What was held meanwhile begins: what other nodes have relayed, then what clients have sent."""
        if self._has_held and not self.state.waits_for_time:
            self._has_held = False
            self._peer_messages.take_held()
            self._resuming |= {session: None for session in self.sessions.values() if session.backlog}

    def hold(self) -> None:
        """Something waits for cluster time."""
        self._has_held = True

    def tick(self, now_ms: int, wall_ms: int, slept_ms: int = 0) -> None:
        """Time has passed, of which the machine has slept `slept_ms` that `now_ms` does not count: gossip, judge silence,
        answer what has waited too long."""
        state = self.state
        state.keep_time(now_ms, wall_ms, slept_ms, self._ticked_ms < 0)
        self.time_is_known()
        lagging = self._ticked_ms >= 0 and now_ms - self._ticked_ms > LAG_MS_MAX
        if self._ticked_ms < 0:  # not before: their first pauses begin now, and not at the clock's zero
            self.collection.start()
            self.scrub.start()
        self._ticked_ms = now_ms
        self.background.tick(now_ms)
        self.shutdown.tick(now_ms)
        self.addresses.tick()
        self.lives.tick(now_ms)
        self._peer_messages.confirm_kept()
        for peer in state.liveness.tick(now_ms):
            if peer in state.links:
                self._peer_messages.gossip(peer, 1)
        if lagging:
            return
        for peer in self.relays.silent_peers(now_ms):
            state.liveness.request_failed(peer, now_ms)
            state.reroute()
            self.relays.peer_lost(peer)
        self.reads.expire(now_ms)
        self.reads.repair.send()
        self.writes.hint_unconfirmed(now_ms)
        self.writes.expire(now_ms)
        self.relays.expire(now_ms)
        self.questions.expire(now_ms)
        self.hint_replay.tick(now_ms)
        self.mending.expire(now_ms)
        self.timers.expire(now_ms)

    def wake(self, now_ms: int) -> None:
        """Between two ticks: background work whose pause is over goes on."""
        self.state.at(now_ms)
        self.timers.expire(now_ms)

    def next_deadline_ms(self) -> int | None:
        """When `tick` wants to be called again at the latest, or `wake` if that is sooner; None before the first tick."""
        if self._ticked_ms < 0:
            return None
        tick_ms = self._ticked_ms + self.state.config.tick_ms
        pause_ms = self.timers.next_ms()
        return tick_ms if pause_ms is None or pause_ms > tick_ms else pause_ms

    def synced(self, turn: int) -> None:
        """All that was committed up to that turn is on the disk."""
        self.state.synced_turn = max(turn, self.state.synced_turn)
        self.state.sync_wanted = False

    # The end of the turn

    def end_turn(self) -> Outbox:
        """Ends the turn. Requests that finish at once may begin others, so this goes on until nothing is left to begin."""
        state = self.state
        if state.liveness.generation != state.routed_generation:
            state.reroute()
        state.statistics.turns += 1
        due = dict.fromkeys(self._answer())  # who got answers twice is in it once: `flush` counts what leaves at once
        self.relays.launch()
        self.shutdown.look()
        replies = [(session, data) for session in due if (data := session.flush()) or session.flushed]
        messages, large = drain_messages(state)
        closing = [session for session in self._closing if session.is_broken or not session.in_flight]
        self._closing = [session for session in self._closing if session.in_flight and not session.is_broken]
        self.votes.keep_bound()
        return Outbox(state.records.drain_batch(), messages, replies, closing, state.statistics.turns, large)

    def _answer(self) -> list[Session]:
        """Launches what has gathered, and begins what waited for its answers, until there is nothing left to begin or the
        turn has begun enough. Answers the sessions that got replies."""
        state, resuming = self.state, self._resuming
        due: list[Session] = []
        count_max = state.config.turn_commands_max
        self.reads.begin_turn()
        while self.writes.launch() or self.reads.launch() or state.ready or (resuming and count_max > 0):
            answered = state.ready[:]
            state.ready.clear()
            for session in answered:
                session.listed = False
                if session.lanes is not None or session.backlog:
                    resuming[session] = None
            due += answered
            while resuming and count_max > 0:
                session = next(iter(resuming))
                del resuming[session]
                try:
                    count = self.dispatcher.resume(session, count_max)
                except Exception as error:  # noqa: BLE001
                    count = self._break_off(session, error)
                if count >= count_max:
                    resuming[session] = None  # behind the others
                count_max -= count
        return due

    @property
    def has_more(self) -> bool:
        """Whether there is work that the last turn had no room for."""
        return bool(self._resuming) or self.reads.has_postponed
