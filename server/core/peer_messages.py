"""The messages of other nodes: which part of this node handles each kind.

Theory. A message is a list: kind, a reading of its sender's hybrid clock, a number, and the items of its kind. Requests and
their answers carry the number of the group, relay or question to which they belong. A message may be lost, repeated or
overtaken: handlers are idempotent, and a late message does no harm. There is one exception: a relay must not be repeated
(relays.py).

`receive` has two halves. First the whole message is read by the declaration of its kind (incoming.py, messages/); a
message that cannot be read raises `Malformed`, and nothing has changed. Then its handler gets it as typed values. A failure
from there on is this node's own fault.

Large messages travel in pieces (protocol/pieces.py), and later messages of the same sender overtake them. Only two kinds,
GOING and PUBLISHED, rely on the order; the simulator tests that for each kind. What keeps each kind right:

    STORE, PATCH, HINT, KEEP,         are merged (P3), which has the same result in any order. A COVERED is sent before its
    RECORDS, ABSORB, MERGE            group and is small, so it still arrives first
    FENCE, VOTE, LINE                 are about records that other nodes send over other links, so the order on this link
                                      cannot matter. A vote counts only what is confirmed. Each message carries a reading of
                                      its sender's clock, which tells whether its records are older than a fence (late.py)
    USERS, USERSVIEW,                 are merged by version, in any order (users/document.py, scripts/libraries.py)
    LIBRARIES, LIBVIEW
    LAYOUT, VIEW, MOVED, HOLDS        a record that was sent under an older layout is stored, with hints for its owners
                                      (replica.store_as_former_owner)
    CHANGED, ALTERED, FLUSHED, NOTIFY the change of a key that is being read waits for the read (pubsub/tracking.py); of two
                                      settings the newer one counts
    MADE                              arrives before its RELAYED: it is sent first, and is too small for pieces
    TRACED                            takes the place of the message in it; for RELAYs that leave early see relays.py
    EMPTY, WHOLE, ADOPTED, …          are about what is stored or confirmed, not about what was sent
    GOING, PUBLISHED                  must arrive behind all that was sent before: they overtake nothing (State.send_behind)
    RELAY, RELAYED                    commands of a key are in one relay, or wait for each other's replies (lanes.py)
    READ, COMPARE                     see every write that was acknowledged, as R and W overlap; they need see no others
    answers                           name what they answer

A message that makes a node fail must not end one node after the other. Suppose that a record makes `merge` raise. A node
that ended would get the message again after its restart, and so would all others. So, as long as nothing was stored:

    requests                          are answered with REFUSED, an empty ANSWER, or ERR internal error; the sender treats
                                      that like a full or damaged disk
    announcements                     are ignored, as if they were lost
    answers to us (`ANSWERS`)         end the node, because an answer that is half handled leaves clients' requests
                                      unanswered. They end no other node: after its restart the process does not ask again.
                                      The records in RECORDS and DIFFER are merged before anything else is done with them;
                                      if that fails, it counts as a refusal (reads.py)
    `SENT_ONCE`                       end the node, because they are sent again only over the next link

A message or command that has ended a node is refused for a while when it comes again (base/quarantine.py).

Each case is counted, and logged with its traceback; the link stays open. No node forwards what it has refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from server.core import gossip
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.errors import internal_error
from server.core.base.poison import COMMAND, Poison, poison_of_message
from server.core.base.quarantine import IDENTIFIED
from server.core.base.unexpected import Fatal
from server.core.collection.late import carries_records
from server.core.dispatch import Dispatcher
from server.core.incoming import Incoming, Received
from server.core.messages import announcements, kinds
from server.core.messages.announcements import PoisonCommand, Timed
from server.core.messages.kinds import Comparison, Covered, Kind, Relay, Relayed
from server.core.messages.libraries import LIBRARIES, LIBVIEW
from server.core.messages.numberings import NUMBERS, NUMVIEW
from server.core.messages.questions import ANSWER, ASK, KINDS, encode_answer
from server.core.messages.reader import HEADER_ITEMS
from server.core.messages.traces import TRACED, Traced
from server.core.messages.users import USERS, USERSVIEW
from server.core.pubsub.receiving import messaging_handlers
from server.core.requests import replica
from server.core.services.services import Services
from server.core.storing import Storing
from server.core.waiting.receiving import Handler, waiting_handlers

ANSWERS = (b"SAME", b"RECORDS", b"DIFFER", b"STORED", b"UNFIT", b"KEPT", b"REFUSED", b"COVERED", b"RELAYED", b"ANSWER")
SENT_ONCE = (b"FULL", b"ORDERLY")  # when a link opens and when it changes: a node that has missed it must not go on
REQUESTS = (b"READ", b"COMPARE", b"STORE", b"PATCH", b"KEEP", b"HINT")  # those that REFUSED answers
FOR_FRESH = (b"USERS", b"NUMBERS")  # what a node must know before it becomes a member, and serves clients
HELD_MAX = 1024  # relays that wait, see State.holds_commands; further ones are sent back

V = TypeVar("V")


class PeerMessages:
    """The receiving side of a node's links."""

    def __init__(self, services: Services, dispatcher: Dispatcher) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._state = services.state
        self._handlers: dict[bytes, Handler] = {}
        self.storing = Storing(services.state, services.relays, services.mending)
        self._incoming = Incoming(services.state, services.reads, services.relays, services.questions)
        self._handle_requests()
        self._handle_announcements()
        self._quarantined = services.state.quarantine.known
        self._reading = 0  # what the sender's clock read, by the message that is being handled
        self._held: list[tuple[str, int, Relay, int]] = []  # until time is known: peer, number, relay, reading
        self._unfollowed: dict[str, int] = {}  # by peer: the last reading too far ahead while cluster time was unknown

    def receive(self, peer: str, message: list[Any], now_ms: int) -> None:
        """HOT. A message of `peer`. Raises Malformed, before anything has changed, if it cannot be read."""
        received = self._incoming.read(message)
        state = self._state
        state.at(now_ms)
        kind, reading = received.kind, received.reading
        if peer not in state.members and kind != b"LAYOUT" and not (kind in FOR_FRESH and state.layout is None):
            return  # a node that was removed may still have records that all others have agreed to collect
        state.last_message_ms[peer] = now_ms
        state.statistics.messages += 1
        self._reading = reading
        if not state.clock.observe(reading):
            self._not_followed(peer, reading)
        if kind != b"GOSSIP" and kind != b"CLOCK":  # GOSSIP: the heartbeats in it count; CLOCK comes with it
            state.liveness.message_received(peer, now_ms)
        if state.fences and reading <= state.fences.get(peer, -1) and carries_records(message):
            self._refuse_late(peer, kind, received.number)
            return
        handler = self._handlers.get(kind)  # none for a kind that only newer nodes know
        if self._quarantined and self._refuse_poison(peer, received, message):
            return
        if handler is not None:
            changes = state.records.changes
            try:
                if state.unexpected.planted:
                    state.unexpected.pass_by(f"message {kind.decode()}")
                handler(peer, received.number, received.content)
            except Exception as error:  # noqa: BLE001
                self._handler_failed(peer, received, message, error, changes)

    @property
    def kinds(self) -> list[bytes]:
        """The kinds of messages that this node handles."""
        return list(self._handlers)

    def _handler_failed(
        self, peer: str, received: Received, message: list[Any], error: Exception, changes: int
    ) -> None:
        """The handler of a message has raised an unexpected exception (base/unexpected.py): refuses the message, or ends
        the node."""
        kind, number, state = received.kind, received.number, self._state
        try:
            word = state.unexpected.note(error, changes, f"message {kind.decode()} of node {peer}")
            if kind in ANSWERS or kind in SENT_ONCE:
                raise Fatal(f"message {kind.decode()} of node {peer} must not be passed over: {error!r}") from error
        except Fatal as fatal:
            if kind in IDENTIFIED and fatal.poison is None:
                fatal.poison = _poison_of(received, message)
            raise
        state.statistics.messages_undigested += 1
        if kind in REQUESTS:
            state.send(peer, kinds.encode_refused(state.clock_reading(), number))
        elif kind == b"ASK":
            state.send(peer, encode_answer(state.clock_reading(), number, ()))
        elif kind == b"RELAY":
            count = len(received.content.commands)
            reply = internal_error(word, type(error).__name__, "a relay", state.member.name, "maybe-written")
            state.send(peer, kinds.encode_relayed(state.clock_reading(), number, list(range(count)), [reply] * count))

    def _refuse_poison(self, peer: str, received: Received, message: list[Any]) -> bool:
        """Refuses a message that has ended this node before (quarantine.py). Returns whether it is one."""
        state, kind, number = self._state, received.kind, received.number
        poison = _poison_of(received, message)
        if not state.quarantine.refuses(poison, state.wall_ms):
            return False
        state.statistics.messages_undigested += 1
        state.unexpected.note_refused(poison.label, peer)
        if kind in ANSWERS:
            self._services.reads.refused(peer, number)
        elif kind in REQUESTS or kind == b"ASK":
            self._refuse(peer, kind, number, f"ERR node {state.member.name} refuses a message that has ended it before")
        return True

    def _not_followed(self, peer: str, reading: int) -> None:
        """A clock reading is too far ahead of cluster time to be followed. If cluster time is not known yet, it is judged
        later."""
        state = self._state
        if state.has_time:
            self._services.clock_report.refused(peer, (reading >> SEQUENCE_BITS) - state.clock.time_ms)
        else:
            self._unfollowed[peer] = reading
            self._state.has_held = True

    def _timed(self, peer: str, asked_ms: int, answer: Timed) -> None:
        """TIMED: the answer to the TIME that we have sent at `asked_ms`."""
        state = self._state
        state.cluster_time.sample(peer, asked_ms, answer.wall_ms, state.now_ms)
        self._services.relays.silences.timed(peer, asked_ms)
        if answer.time_ms is not None:
            state.cluster_time.learn(asked_ms, answer.time_ms, state.now_ms)
        if not state.cluster_time.is_sure:
            state.follow_time()
            self.begin_held()

    def begin_held(self) -> None:
        """Once commands wait no more: follows the clocks that may be followed, and begins what waited, first what other
        nodes have relayed, then what clients have sent."""
        state = self._state
        if not state.has_held or state.holds_commands:
            return
        state.has_held = False
        unfollowed, self._unfollowed = self._unfollowed, {}
        if unfollowed:
            state.clock.refused = 0  # until now all readings were
        for peer, reading in unfollowed.items():
            if not state.clock.observe(reading):
                self._not_followed(peer, reading)
        held, self._held = self._held, []
        for peer, number, relay, reading in held:
            state.clock.observe(reading)
            self._relayed(peer, number, relay)
        self._services.clients.resume_waiting()

    def _relayed(self, peer: str, number: int, relay: Relay) -> None:
        state, relays = self._state, self._services.relays
        if not state.holds_commands:
            batch = relays.relayed(peer, number, relay.sent_ms, relay.options, relay.commands)
            if batch is None:
                return
            if peer in state.watching:
                self._services.tracking.note_relayed(relay.commands)
            run = self._dispatcher.run_in_order if kinds.is_in_order(relay.options) else self._dispatcher.run_all
            run(batch, relay.commands)
            return
        left_ms = state.now_ms - relays.ages.note(peer, relay.sent_ms, state.now_ms)
        if len(self._held) < HELD_MAX and not state.pauses.is_outdated(left_ms):
            self._state.has_held = True
            self._held.append((peer, number, relay, self._reading))
        else:
            relays.reply_stale(peer, number, relay.options, relay.commands)

    def _on(self, kind: Kind[V], handler: Callable[[str, int, V], None]) -> None:
        """Sends messages of that kind to `handler`."""
        assert KINDS[kind.name] is kind
        self._handlers[kind.name] = handler

    def _handle_requests(self) -> None:
        state, questions = self._state, self._services.questions
        reads, writes, storing = self._services.reads, self._services.writes, self.storing
        self._on(kinds.READ, lambda peer, number, asked: replica.read(state, peer, number, asked.digest, asked.keys))
        self._on(kinds.SAME, lambda peer, number, _: reads.acked(peer, number))
        self._on(kinds.RECORDS, reads.records_answered)
        self._on(kinds.COMPARE, self._compare_here)
        self._on(
            kinds.DIFFER,
            lambda peer, number, answer: reads.differ_answered(peer, number, answer.states, answer.records),
        )
        self._on(kinds.STORE, lambda peer, number, pairs: storing.store(peer, number, pairs, True, self._reading))
        self._on(kinds.KEEP, lambda peer, number, pairs: storing.store(peer, number, pairs, False, self._reading))
        self._on(kinds.PATCH, lambda peer, number, pairs: storing.patch(peer, number, pairs, self._reading))
        self._on(kinds.UNFIT, lambda peer, number, _: writes.unfit(peer, number))
        self._on(kinds.HINT, storing.hint)
        self._on(kinds.STORED, lambda peer, number, _: writes.acked(peer, number))
        self._on(kinds.KEPT, lambda peer, number, numbers: self._confirmed(peer, numbers))
        self._on(kinds.REFUSED, lambda peer, number, _: self._refused(peer, number))
        self._on(kinds.COVERED, self._cover)
        self._on(kinds.RELAY, self._relayed)
        self._on(kinds.RELAYED, self._replied)
        self._on(ASK, lambda peer, number, ask: questions.asked(peer, number, ask.kind, ask.content))
        self._on(TRACED, self._traced)
        self._on(ANSWER, questions.answered)

    def _handle_announcements(self) -> None:
        services, state = self._services, self._state
        self._on(announcements.GOSSIP, lambda peer, number, content: gossip.merge_gossip(services, peer, content))
        self._on(announcements.CLOCK, self._clock_received)
        self._on(announcements.TIME, lambda peer, number, asked_ms: gossip.answer_time(state, peer, asked_ms))
        self._on(announcements.TIMED, self._timed)
        silences = services.relays.silences
        self._on(announcements.SILENCE, silences.announced)
        self._on(announcements.HEEDED, lambda peer, number, _: silences.heeded(peer, number))
        self._on(announcements.ISALIVE, silences.witness_asked)
        self._on(announcements.ALIVE, silences.witnessed)
        self._on(announcements.CLOCKOFF, lambda peer, number, ahead: services.clock_report.complained(peer, ahead))
        self._handlers[b"LAYOUT"] = lambda peer, number, layout: services.membership.layout_received(peer, layout)
        self._on(announcements.FULL, lambda peer, number, room: gossip.note_room(state, peer, room))
        self._on(announcements.ORDERLY, lambda peer, number, _: state.orderly.setdefault(peer))
        self._on(announcements.VIEW, lambda peer, number, view: services.membership.view_received(peer, view))
        self._on(announcements.MARK, services.rollback.mark_received)
        self._on(announcements.STAGED, lambda peer, number, staged: services.staging.merge(staged))
        self._on(announcements.POISON, lambda peer, number, poison: self._learn_poison(poison))
        self._on(USERS, lambda peer, number, document: services.users.received(peer, document))
        self._on(LIBRARIES, lambda peer, number, document: services.functions.received(document))
        self._on(LIBVIEW, lambda peer, number, digest: services.functions.sharing.digest_received(peer, digest))
        self._on(NUMBERS, lambda peer, number, document: services.numbering.merge(document))
        self._on(NUMVIEW, lambda peer, number, digest: services.numbering.sharing.digest_received(peer, digest))
        self._on(USERSVIEW, lambda peer, number, digest: services.users.sharing.digest_received(peer, digest))
        self._handlers |= {kind.name: handler for kind, handler in waiting_handlers(services.waiting)}
        messaging = messaging_handlers(services.tracking, services.relays, services.notifications, services.publishing)
        self._handlers |= {kind.name: handler for kind, handler in messaging}
        self._on(announcements.DUPLICATE, lambda peer, number, address: services.duplicates.duplicate_reported(address))

    # --- requests

    def _compare_here(self, peer: str, number: int, group: Comparison) -> None:
        replica.compare(self._state, peer, number, group.checksums, group.keys)

    def _cover(self, peer: str, number: int, covered: Covered) -> None:
        self._services.relays.cover(peer, number, covered.group, covered.indexes)

    def _replied(self, peer: str, number: int, relayed: Relayed) -> None:
        self._services.relays.replied(number, relayed.indexes, relayed.replies)

    def _traced(self, peer: str, number: int, traced: Traced) -> None:
        self._services.traces.received(peer, traced, lambda: self.receive(peer, traced.message, self._state.now_ms))

    def _clock_received(self, peer: str, number: int, sent_ms: int) -> None:
        self._services.relays.ages.note(peer, sent_ms, self._state.now_ms)

    def _learn_poison(self, poison: PoisonCommand) -> None:
        self._state.quarantine.learn(Poison(COMMAND + poison.shown, poison.digest), self._state.wall_ms)

    def _refuse_late(self, peer: str, kind: bytes, number: int) -> None:
        """Refuses records from behind a fence (late.py)."""
        self._state.statistics.late_refused += 1
        self._refuse(peer, kind, number, f"ERR node {self._state.member.name} got the record too late")

    def _refuse(self, peer: str, kind: bytes, number: int, text: str) -> None:
        """Refuses a request or question, and with `text` the relayed commands that a STORE covers."""
        state = self._state
        if kind == b"ASK":
            state.send(peer, encode_answer(state.clock_reading(), number, ()))
        else:
            state.send(peer, kinds.encode_refused(state.clock_reading(), number))
        if (peer, number) in self._services.relays.covered:
            self._services.relays.stored(peer, number, text)

    def _confirmed(self, peer: str, numbers: list[int]) -> None:
        statistics = self._state.statistics
        unneeded = statistics.unneeded_answers
        for number in numbers:
            self._services.writes.acked(peer, number)
        statistics.unneeded_answers = unneeded  # it counts messages, not answers: a KEPT counts as needed

    def _refused(self, peer: str, number: int) -> None:
        self._services.reads.refused(peer, number)
        self._services.writes.refused(peer, number)


def _poison_of(received: Received, message: list[Any]) -> Poison:
    """Returns what identifies a message: its kind and items. In kinds without items the number has the content."""
    about = f" {received.content.kind.decode(errors='replace')}" if received.kind == b"ASK" else ""
    return poison_of_message(received.kind.decode() + about, message[HEADER_ITEMS:] or message[2:HEADER_ITEMS])
