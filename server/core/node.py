"""One node, pure: the seam that both the asyncio shell and the simulator drive.

Theory. Inputs (a client's command, a peer's message, the passing of time) change memory and tables; `take` ends the
turn: it sends out what has gathered and hands over the writes to commit as one batch, the messages by peer, and the
replies, to be used in that order. Commit, then speak (P1). Time comes in as an argument, chance as a generator;
handlers run to completion, so a whole cluster can be replayed from a seed.
"""

from __future__ import annotations

import random
from typing import Any

from protocol.frames import seal
from protocol.slots import key_slot
from server.core.base.clock import HybridClock
from server.core.base.clock_report import ClockReport
from server.core.base.config import Config
from server.core.base.routing import Route
from server.core.base.sinks import Session, Sink
from server.core.base.state import State
from server.core.collection.collection import Collection
from server.core.collection.votes import Votes
from server.core.dispatch import Dispatcher
from server.core.liveness.liveness import Liveness, LivenessLimits
from server.core.membership.eviction import Eviction
from server.core.membership.farewell import Farewell
from server.core.membership.membership import Membership
from server.core.membership.steward import Steward, is_empty
from server.core.membership.transfers import Transfers
from server.core.operators import status
from server.core.operators.sizes import own_sizes
from server.core.operators.staging import Staging
from server.core.peer_messages import PeerMessages
from server.core.records.records import Records, Store
from server.core.repair.anti_entropy import AntiEntropy
from server.core.repair.exchange_answers import ExchangeAnswers
from server.core.repair.hint_replay import HintReplay
from server.core.repair.jobs import RepairJobs
from server.core.repair.mending import Mending
from server.core.repair.scrub import Scrub
from server.core.repair.tasks import RepairTasks
from server.core.requests import replica
from server.core.requests.reads import Reads
from server.core.requests.relays import STALE, Relays
from server.core.requests.writes import Writes
from server.core.ring.layout import Layout, Member
from server.core.work.background import Background
from server.core.work.procedures import Procedure, Steps
from server.core.work.questions import Answerer, Questions
from server.core.work.timers import Timers

LAG_MS_MAX = 1000  # a turn that comes later than this judges no deadline: what it waits for may lie unread in a socket


class Outbox:
    """What a turn leaves behind: commit `writes` as one batch, then send `messages`, then `replies`, then close."""

    __slots__ = ("closing", "messages", "replies", "turn", "writes")

    def __init__(
        self,
        writes: dict[bytes, bytes | None],
        messages: dict[str, bytes],
        replies: list[tuple[Session, bytes]],
        closing: list[Session],
        turn: int,
    ) -> None:
        self.writes = writes
        self.messages = messages
        self.replies = replies
        self.closing = closing
        self.turn = turn


class Node:
    """A node of the cluster, without its sockets, its disk and its clocks."""

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
        limits = LivenessLimits(gossip_interval_ms=config.gossip_interval_ms)
        liveness = Liveness(member.id, incarnation, limits, rng)
        clock = HybridClock(wall_ms, config.clock_drift_ms_max)
        self.state = State(member, actor, config, clock, records, liveness, rng, incarnation)
        self.clock_report = ClockReport(self.state)
        self.reads = Reads(self.state)
        self.writes = Writes(self.state)
        self.timers = Timers()
        self.background = Background(self.state, self.timers)
        self.dispatcher = Dispatcher(self)
        self.relays = Relays(self.state, self.dispatcher.run_all, self.dispatcher.retry, self.dispatcher.refuse)
        self.questions = Questions(self.state, self._answerers())
        self.anti_entropy = AntiEntropy(self.state, self.questions, self.background)
        self.jobs = RepairJobs(self.state, self.questions, self.background)
        self.tasks = RepairTasks(self.state, self.questions, self.background)
        self.staging = Staging(self.state)
        self.sessions: dict[int, Session] = {}
        self.started_ms = 0
        self.facts: dict[str, str] = {}  # what the shell knows of its process, for INFO
        self._closing: list[Session] = []
        self._routed_generation = -1
        self._ticked_ms = -1
        self._next_session = 0
        self._peer_messages = PeerMessages(self)
        self._begin()

    def _begin(self) -> None:
        self.mending = Mending(self.state, self.questions, self.background)
        self.state.records.on_damage = self.mending.note
        self.votes = Votes(self.state, self.writes.in_flight, self.reads.is_overdue)
        self.collection = Collection(self.state, self.questions, self.background)
        self.eviction = Eviction(
            self.state, self.questions, self.background, self.writes.in_flight, lambda *slots: self.scrub.walk(*slots)
        )
        self.hint_replay = HintReplay(self.state, self.background, self.questions, self.eviction.notice)
        self.writes.let_go = self.eviction.notice
        self.scrub = Scrub(self.state, self.questions, self.background, self.collection, self.eviction.notice)
        self.membership = Membership(self.state, self.background, (self.reads, self.writes), self._layout_changed)
        self.transfers = Transfers(self.state, self.questions, self.background, self.membership)
        self.tasks.others = self.transfers.tasks
        self.steward = Steward(self.state, self.questions, self.background, self.membership)
        self.farewell = Farewell(
            self.state, self.questions, self.background, self.dispatcher.close, self.dispatcher.reopen
        )
        self.membership.begin()

    def _layout_changed(self) -> None:
        self.hint_replay.review()
        self.eviction.notice()
        self.farewell.serve()

    def _answerers(self) -> dict[bytes, Answerer]:
        return {
            b"PAGE": lambda args: replica.page(self.state, args),
            b"STATUS": lambda args: [status.own_status(self)],
            b"ABSORB": lambda args: replica.absorb(self.state, args),
            b"HINTS": lambda args: self.hint_replay.asked(args),
            b"VOTE": lambda args: self.votes.vote(args),
            b"LINE": lambda args: self.votes.line(args),
            b"FENCE": lambda args: self.votes.fence(args),
            b"DROP": lambda args: self.votes.drop(args),
            b"COPIES": lambda args: self.mending.copies(args),
            b"REPAIR": lambda args: self.jobs.asked(args),
            b"TASKS": lambda args: self.tasks.told(args),
            b"GOING": lambda args: self.farewell.told(args),
            b"ADOPTED": lambda args: self.membership.adopted(args),
            b"MOVED": lambda args: self.transfers.moved(args),
            b"COUNTS": lambda args: self.transfers.counts(args),
            b"EMPTY": lambda args: is_empty(
                self.state, self.membership, self.writes.is_busy, self.farewell.has_rested, args
            ),
            b"HOLDS": lambda args: self.eviction.holds(args),
            b"WHOLE": lambda args: self.tasks.whole(args),
            b"SIZES": lambda args: own_sizes(self.state, self.background.busy, args),
            b"STAGED": lambda args: self.staging.asked(args),
            **ExchangeAnswers(self.state, self.background).answerers(),
        }

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
        self.dispatcher.take(session, batch)

    def run_steps(self, steps: Steps, sink: Sink, number: int) -> None:
        """Runs a command of several steps for `sink`."""
        Procedure(steps, sink, number, lambda: STALE if self.relays.is_late(sink) else None).start()

    def route(self, key: bytes, deletes: bool = False) -> Route:
        """How requests for `key` go from here, at present; `deletes` for one that deletes it."""
        state = self.state
        return (state.deletion_routes if deletes else state.routes)[key_slot(key) >> state.route_shift]

    # Peers

    def connected(self, peer: str, now_ms: int) -> None:
        """The shell has a connection on which our messages reach `peer`. It learns our layout first of all."""
        state = self.state
        state.at(now_ms)
        state.links.add(peer)
        state.going.pop(peer, None)
        if state.layout is not None:
            state.send(peer, state.message(b"LAYOUT", 0, state.layout.encode()))
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
        state.liveness.link_lost(peer, now_ms)
        state.reroute()
        self.reads.peer_lost(peer)
        self.writes.peer_lost(peer)
        self.relays.peer_lost(peer)
        self.questions.peer_lost(peer)

    def refused(self, peer: str, now_ms: int) -> None:
        """No connection to `peer` could be made."""
        self.state.liveness.link_refused(peer, now_ms)

    def greeted(self, peer: str, now_ms: int) -> None:
        """`peer` has opened a connection to us, perhaps as a new process with a new clock."""
        self.relays.peer_renewed(peer)
        self.state.going.pop(peer, None)
        self.state.full.pop(peer, None)  # should it be, it says so now
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

    def tick(self, now_ms: int, wall_ms: int) -> None:
        """Time has passed: gossip, judge silence, answer what has waited too long."""
        state = self.state
        state.now_ms = now_ms
        state.wall_offset_ms = wall_ms - now_ms
        state.clock.advance(wall_ms)
        lagging = self._ticked_ms >= 0 and now_ms - self._ticked_ms > LAG_MS_MAX
        if self._ticked_ms < 0:  # not before: their first pauses begin now, and not at the clock's zero
            self.collection.start()
            self.scrub.start()
        self._ticked_ms = now_ms
        self.background.tick(now_ms)
        self.farewell.tick(now_ms)
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
        self.reads.repair()
        self.writes.hint_late(now_ms)
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

    def take(self) -> Outbox:
        """Ends the turn. Requests that finish at once may begin others, so this goes on until nothing is left to begin."""
        state = self.state
        if state.liveness.generation != self._routed_generation:
            self._routed_generation = state.liveness.generation
            state.reroute()
        state.statistics.turns += 1
        due: list[Session] = []
        while self.writes.launch() or self.reads.launch() or state.ready:
            answered = state.ready[:]
            state.ready.clear()
            for session in answered:
                session.listed = False
                if session.backlog:
                    self.dispatcher.resume(session)
            due += answered
        self.relays.launch()
        self.farewell.look()
        replies = [(session, data) for session in due if (data := session.flush())]
        messages = {peer: seal(encoded) for peer, encoded in state.messages.items()}
        state.messages.clear()
        closing = [session for session in self._closing if not session.in_flight]
        self._closing = [session for session in self._closing if session.in_flight]
        self.votes.keep_bound()
        return Outbox(state.records.take(), messages, replies, closing, state.statistics.turns)

    def retire(self) -> dict[bytes, bytes | None]:
        """A last batch, to be committed after the last turn of a clean stop: the next start is quicker with it."""
        return self.state.records.retire()
