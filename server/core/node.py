"""One node, pure: the seam that both the asyncio shell and the simulator drive.

Theory. Inputs (a client's command, a peer's message, the passing of time) change memory and tables; `end_turn` ends the
turn: it sends the requests that have gathered, and hands over the writes to commit as one batch, the messages by peer,
and the replies, to be used in that order. Commit, then speak (P1). Time comes in as an argument, chance as a generator;
handlers run to completion, so a whole cluster can be replayed from a seed.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from protocol.frames import seal
from server.core.answerers import answerers
from server.core.base.config import Config
from server.core.base.poison import COMMAND
from server.core.base.sinks import Flushed, Session
from server.core.base.unexpected import Fatal
from server.core.commands.glob import channel_matcher
from server.core.commands.permissions import LoggedOut, access_of
from server.core.commands.pubsub.guard import end_monitoring, review_guard
from server.core.commands.registry import find_for_client, tells_misses
from server.core.dispatch import Dispatcher
from server.core.formats.pausing import Slices
from server.core.gossip import send_gossip
from server.core.messages.announcements import PoisonCommand, encode_full, encode_orderly, encode_poison
from server.core.outbox import Outbox, drain_messages
from server.core.peer_messages import PeerMessages
from server.core.records.preparing import prepare
from server.core.records.store import Store
from server.core.requests import large_values
from server.core.requests.unanswered import fell_silent, link_broke
from server.core.ring.layout import Member
from server.core.services.construction import FromCommands, build_services, build_state
from server.core.work.questions import Answerer

LAG_MS_MAX = (
    1000  # a tick that is later than this ends no request by its deadline: the answer may be unread in a socket
)
WAITING_BEGUN_MAX = 1024  # of the commands that wait for others of their connection, in one turn


class Node:
    """A node of the cluster, without its sockets, its disk and its clocks. The shell and the simulator drive it by the
    methods here, and look at its parts through `services`."""

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
        self.state = build_state(member, actor, incarnation, config, store, rng, wall_ms, damage_error)
        table: dict[bytes, Answerer] = {}
        given = FromCommands(access_of, LoggedOut(), channel_matcher, tells_misses)
        self.services = build_services(self.state, table, given)
        table.update(answerers(self.services))
        self._traces = self.services.traces
        self._dispatcher = Dispatcher(self.services)
        self._peer_messages = PeerMessages(self.services, self._dispatcher)
        self._ticked_ms = -1
        self.services.membership.begin()
        self.services.addresses.begin()

    def crash_report(self, error: Exception) -> tuple[dict[bytes, bytes | None], bytes]:
        """Returns a batch to commit, and then a frame to send to all peers, before this exception ends the process.

        Both may be empty. The batch tells this node after its restart what has ended it (base/quarantine.py). The frame
        tells the peers to refuse a command that they might run next.
        """
        poison = error.poison if isinstance(error, Fatal) else None
        if poison is None:
            return {}, b""
        batch = self.state.quarantine.add(poison, self.state.wall_ms)
        if not poison.is_command:
            return batch, b""
        content = PoisonCommand(poison.label.removeprefix(COMMAND), poison.digest)
        return batch, seal([encode_poison(self.state.clock_reading(), content)])

    # Clients

    def open_session(self, address: str, local_address: str, now_ms: int) -> Session:
        """A client has connected from `address` (host:port)."""
        session = self.services.clients.open(address, local_address, now_ms)
        self.services.users.opened(session)
        if self.services.monitors.sessions:
            review_guard(self.services, session)
        return session

    def close_session(self, session: Session) -> None:
        """The client has disconnected."""
        self.services.clients.close(session)
        self.services.subscriptions.forget(session)
        self.services.tracking.stop(session)
        end_monitoring(self.services, session)

    def kill_session(self, session: Session) -> None:
        """Closes the connection at the end of the turn, after the replies that are due."""
        self.services.clients.kill(session)

    def command(self, session: Session, args: list[bytes], now_ms: int) -> None:
        """The next command of a client: its name and arguments."""
        self.commands(session, [args], now_ms)

    def commands(self, session: Session, batch: list[list[bytes]], now_ms: int) -> None:
        """HOT. The next commands of a client, in order."""
        self.state.at(now_ms)
        session.active_ms = now_ms
        if self._traces.one_in and self._traces.samples_next():
            self.traced_command(session, batch[0], now_ms)
            batch = batch[1:]
        self._dispatcher.changes = self.state.records.changes
        try:
            if self.state.holds_commands:
                self.state.has_held = True
                self._dispatcher.admit_while_held(session, batch)
                return
            self._dispatcher.admit(session, batch)
        except Exception as error:  # noqa: BLE001
            self._break_off(session, error)

    def traced_command(self, session: Session, args: list[bytes], now_ms: int) -> None:
        """As `command`, for one that is traced (core/tracing/)."""
        self.state.at(now_ms)
        spec = find_for_client(args)
        name = "unknown" if spec is None else spec.name.upper()  # not what the client has sent: that may be anything
        self.services.traces.sample(session, name, lambda: self.command(session, args, now_ms))

    def _break_off(self, session: Session, error: Exception) -> int:
        """An unexpected exception has left the order of a session's commands unknown: its connection ends, after the
        replies that are due. (What a command itself raises is answered, see dispatch.py.) Raises Fatal if something was
        stored."""
        self.state.unexpected.contain(error, self._dispatcher.changes, f"the commands of client {session.address}")
        self.services.clients.break_off(session)
        return 1

    # Peers

    def connected(self, peer: str, now_ms: int, capabilities: Sequence[bytes] = (), view: Sequence[bytes] = ()) -> None:
        """Our link to `peer` is open. In its welcome it has announced its capabilities (protocol/peer_versions.py) and the
        `view` of its layout. Our users, databases and layout are what it is sent first, unless it has the same."""
        state, services = self.state, self.services
        state.at(now_ms)
        state.links.add(peer)
        services.duplicates.opened(peer)
        services.rollback.connected(peer)
        state.cluster_time.reached(peer)
        state.follow_time()
        state.draining.pop(peer, None)
        if capabilities:
            state.note_capabilities(peer, capabilities)
        services.relays.silences.connected(peer)
        # Before the layout: a fresh node must know users and numbers of databases before it serves data.
        services.users.sharing.send_all(peer)
        services.numbering.sharing.send_all(peer)
        services.membership.views.connected(peer, view)
        if not capabilities:  # a node of the previous version, which learns that by a message
            state.send(peer, encode_orderly(state.clock_reading()))
        if state.disk_full:
            state.send(peer, encode_full(state.clock_reading(), state.room))
        # In a large cluster a peer that has just been heard needs no answer: it sends its own table over its own link.
        is_heard = state.liveness.is_wide and state.liveness.is_live(peer)
        send_gossip(services, peer, not is_heard)  # and the staged changes
        services.waiting.deliveries.connected(peer)
        services.anti_entropy.connected(peer)
        services.tracking.connected(peer)
        services.notifications.send(peer)
        state.reroute()

    def disconnected(self, peer: str, now_ms: int) -> None:
        """Our link to `peer` has broken: requests that were sent over it get no answer."""
        state, services = self.state, self.services
        state.at(now_ms)
        state.links.discard(peer)
        state.messages.pop(peer, None)
        state.cluster_time.cannot_reach(peer)
        state.trailing.pop(peer, None)
        state.liveness.link_lost(peer, now_ms)
        state.reroute()
        services.reads.peer_lost(peer)
        services.writes.peer_lost(peer)
        services.relays.peer_lost(peer, link_broke(state.layout_name(peer)))
        services.questions.peer_lost(peer)
        services.waiting.node_lost(peer)
        services.tracking.disconnected(peer)

    def refused(self, peer: str, now_ms: int, trouble: str = "", text: str = "") -> None:
        """No link to `peer` could be made: `trouble` is the kind of reason (addresses.py), `text` describes it."""
        self.services.addresses.trouble(peer, trouble, text)
        self.state.liveness.link_refused(peer, now_ms)
        self.state.cluster_time.cannot_reach(peer)

    def greeted(self, peer: str, now_ms: int, capabilities: Sequence[bytes] = ()) -> None:
        """`peer` has opened a connection to us, perhaps as a new process with a new clock, and has announced these
        capabilities."""
        self.services.relays.peer_restarted(peer)
        self.services.waiting.node_lost(peer)
        self.services.tracking.peer_restarted(peer)
        self.state.draining.pop(peer, None)
        self.state.full.pop(peer, None)  # if it is full, it says so again now
        self.state.note_capabilities(peer, capabilities)
        self.state.liveness.message_received(peer, now_ms)

    def prepare(self, message: list[Any]) -> Slices[None]:
        """Does in slices most of the work that `receive` would do at once for a large message: run it before, or do not."""
        return prepare(self.state.records, message)

    def values_of_message(self, message: list[Any]) -> list[bytes]:
        """Returns the large values that `receive` is likely to store: the caller may stage them before."""
        return large_values.of_message(self.state, message)

    def values_of_commands(self, batch: list[list[bytes]]) -> list[bytes]:
        """Returns the large values that `commands` is likely to store: the caller may stage them before."""
        return large_values.of_commands(self.state, batch)

    def receive(self, peer: str, message: list[Any], now_ms: int) -> None:
        """HOT. A message of another node: kind, a reading of its hybrid clock, a number, and what the kind needs.

        Unknown kinds come from newer nodes and are ignored.
        """
        self._peer_messages.receive(peer, message, now_ms)

    def disk_changed(self, room: int, now_ms: int) -> None:
        """The disk has room for something else than before (room.py)."""
        state = self.state
        state.at(now_ms)
        state.room = room
        self.services.numbering.sharing.store()
        state.reroute()
        for member in state.layout.members if state.layout is not None else ():
            if member.id in state.links:
                state.send(member.id, encode_full(state.clock_reading(), room))

    # Time

    def tick(self, now_ms: int, wall_ms: int, slept_ms: int = 0) -> None:
        """Time has passed (the machine has slept `slept_ms` beside): gossips, judges silent peers, ends what waits long."""
        state, services = self.state, self.services
        state.keep_time(now_ms, wall_ms, slept_ms, self._ticked_ms < 0)
        self._peer_messages.begin_held()
        services.relays.silences.tell(now_ms)
        lagging = self._ticked_ms >= 0 and now_ms - self._ticked_ms > LAG_MS_MAX
        if self._ticked_ms < 0:  # not before, so that their first pauses begin now and not at 0 ms
            services.collection.start()
            services.scrub.start()
        if state.route_table is not None and state.route_table.is_stale:
            state.reroute(True)
        self._ticked_ms = now_ms
        services.background.tick(now_ms)
        services.checkpoints.tick()
        services.shutdown.tick(now_ms)
        services.waiting.tick(now_ms)
        services.addresses.tick()
        services.authentication.tick()
        services.rollback.tick(now_ms)
        self._peer_messages.storing.confirm_kept()
        for peer in state.liveness.tick(now_ms):
            if peer in state.links:
                send_gossip(services, peer, True)
        if lagging:
            return
        self._retry_silent(now_ms)
        services.reads.expire(now_ms)
        services.reads.repair.send()
        services.writes.hint_unconfirmed(now_ms)
        services.writes.expire(now_ms)
        services.relays.expire(now_ms)
        services.questions.expire(now_ms)
        services.hint_replay.tick(now_ms)
        services.mending.expire(now_ms)
        services.timers.expire(now_ms)
        services.notifications.tick()
        services.traces.expire(now_ms)
        if services.tracking.is_used:
            services.tracking.tick()

    def _retry_silent(self, now_ms: int) -> None:
        """Retries the relays to peers from which nothing has come for `relay_silence_ms`, and some sooner (silences.py)."""
        state, relays, silence_ms = self.state, self.services.relays, self.state.config.relay_silence_ms
        for peer, limit_ms in relays.silent_early(now_ms):
            if state.liveness.is_live(peer):
                state.liveness.request_failed(peer, now_ms)
                state.reroute()
                state.statistics.coordinators_given_up += int(not state.liveness.is_live(peer))
            if not state.liveness.is_live(peer):
                trouble, places_of = fell_silent(state.layout_name(peer), limit_ms), self._dispatcher.retries.repeatable
                relays.give_up(peer, trouble, now_ms - limit_ms, places_of)
        for peer in relays.silent_peers(now_ms):
            state.liveness.request_failed(peer, now_ms)
            state.reroute()
            relays.give_up(peer, fell_silent(state.layout_name(peer), silence_ms), now_ms - silence_ms)

    def wake(self, now_ms: int) -> None:
        """Between two ticks: resumes background work whose pause is over."""
        self.state.at(now_ms)
        self.services.timers.expire(now_ms)

    def next_deadline_ms(self) -> int | None:
        """When to call `tick` again at the latest, or `wake` if that is sooner; None before the first tick."""
        if self._ticked_ms < 0:
            return None
        tick_ms = self._ticked_ms + self.state.config.tick_ms
        pause_ms = self.services.timers.next_ms()
        return tick_ms if pause_ms is None or pause_ms > tick_ms else pause_ms

    def synced(self, turn: int) -> None:
        """All commits up to that turn are on the disk."""
        self.state.synced_turn = max(turn, self.state.synced_turn)
        self.state.sync_wanted = False

    # The end of the turn

    def end_turn(self) -> Outbox:
        """Ends the turn. Requests that finish at once may begin others, so this goes on until nothing is left to begin."""
        state, services = self.state, self.services
        if state.liveness.generation != state.routed_generation:
            state.reroute()
        state.statistics.turns += 1
        due = self._begin_requests()
        services.relays.end_turn()
        state.lane_turn += 1  # what begins from now on travels with the next turn
        if state.noted:
            services.notifications.end_turn()
        services.publishing.launch()
        services.shutdown.note_end_of_turn()
        if state.has_waited:
            services.waiting.end_turn()
        replies: list[tuple[Session, Flushed]] = []
        for session in due:
            session.is_due = False
            data = session.flush()
            if data or session.flushed:
                replies.append((session, data))
        services.votes.keep_bound()
        batch = state.records.drain_batch()
        if services.tracking.is_used:  # behind the replies
            services.tracking.end_turn(batch)
        messages, large = drain_messages(state)
        closing = services.clients.drain_closing()
        pushes = services.subscriptions.drain() if services.subscriptions.due else []
        if self._traces.spans:
            self._traces.end_turn(state.statistics.turns)
        return Outbox(batch, messages, replies, closing, state.statistics.turns, large, pushes)

    def _begin_requests(self) -> list[Session]:
        """Sends the requests that have gathered, and begins commands that waited for replies, until there is none left or
        the turn has begun `turn_commands_max`, or a quarter of those that wait if these are more: the next turns have as
        many while that one is on its way. Returns the sessions that got replies, each once: `flush` counts the replies that
        leave together."""
        state, dispatcher, reads, writes = self.state, self._dispatcher, self.services.reads, self.services.writes
        resumable, pending = self.services.clients.resumable, self.state.records.pending
        due: list[Session] = []
        count_max = max(state.config.turn_commands_max, min(state.commands_waiting // 4, WAITING_BEGUN_MAX))
        reads.begin_turn()
        while (
            dispatcher.retries.retry_returned()
            or (pending.by_key and pending.make_all())
            or writes.launch()
            or reads.launch()
            or state.ready
            or (resumable and count_max > 0)
        ):
            answered = state.ready[:]
            state.ready.clear()
            for session in answered:
                session.listed = False
                if not session.is_due:
                    session.is_due = True
                    due.append(session)
                if session.lanes is not None or session.backlog:
                    resumable[session] = None
            while resumable and count_max > 0:
                session = next(iter(resumable))
                del resumable[session]
                try:
                    count = dispatcher.resume(session, count_max)
                except Exception as error:  # noqa: BLE001
                    count = self._break_off(session, error)
                if count >= count_max:
                    resumable[session] = None  # behind the others
                count_max -= count
        return due

    @property
    def has_more(self) -> bool:
        """Whether the last turn has left work for the next one."""
        services = self.services
        return bool(services.clients.resumable or services.relays.returned) or services.reads.has_postponed
