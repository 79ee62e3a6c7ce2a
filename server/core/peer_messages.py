"""The messages of other nodes: which part of this node handles each kind.

Theory. A message is a list: kind, a reading of its sender's hybrid clock, a number, and what the kind needs. Requests and
their answers carry the number of the group, relay or question they belong to. Handlers are idempotent, or harmless when
they come late, so that a message may be lost, repeated or overtaken; only a relay may not be repeated (relays.py).

`receive` has two halves. First the whole message is read by the declaration of its kind (incoming.py, messages/); a
message that cannot be read raises `Malformed`, and nothing has changed. Then its handler gets it as typed values. A failure
from there on is this node's own fault.

Large messages travel in pieces (protocol/pieces.py), and later messages of the same sender overtake them. Only one kind,
GOING, relies on the order; the simulator tests that for each kind. Why the others do not need it:

    STORE, KEEP, HINT, RECORDS,       merged (P3), so that their order among each other and among all else is of no matter;
    ABSORB, MERGE                     a COVERED is sent before its STORE, is small, and so still comes before it
    FENCE, VOTE, LINE                 speak of records that others send over links of their own, so they never could rely on
                                      what came before on this one: a vote counts only what is confirmed, and each message
                                      carries the reading of its sender's clock at which it was made, by which a record from
                                      behind a fence is known (late.py), whatever has passed it
    LAYOUT, VIEW, MOVED, HOLDS        a record that was sent by an older layout is taken with hints for its owners
                                      (replica.store_as_former_owner), like one of a node that has an older layout
    EMPTY, WHOLE, ADOPTED, …          speak of what is stored or confirmed, not of what was sent
    GOING                             stands for all that was sent before it, so it is the one that passes nothing
                                      (State.send_behind)
    RELAY, RELAYED                    commands of a key are in one relay or wait for each other's answers (lanes.py)
    READ                              a read sees a write that was answered, as R and W overlap, and need not see others
    answers                           name what they answer

    COMPARE, SAME, DIFFER             a coordinator's reads, and an owner's answers (comparison.py)
    READ, SAME, RECORDS               the same for nodes of earlier versions
    STORE, KEEP, HINT                 records for an owner, to be confirmed at once or with the next tick, or for a fallback
    STORED, KEPT, REFUSED             their confirmations, and the answer to requests that this node cannot do
    COVERED                           the STORE that comes next answers relayed commands, too
    RELAY, RELAYED                    commands for another coordinator, and its replies
    ASK, ANSWER                       questions outside the hot path
    GOSSIP, CLOCK, LAYOUT             who is alive, the sender's monotonic clock, who owns what
    TIME, TIMED                       asks for, and answers, the wall clock and cluster time (cluster_time.py)
    VIEW                              which layout its sender has
    MARK                              up to which turn its sender's disk is synced (lives.py)
    STAGED                            what operators have staged for the next layout
    FULL                              what its sender's disk has room for: 0 for writes again, see room.py
    ORDERLY                           its sender runs relayed commands of one key in order (chains.py), and takes short
                                      digests (reads.py)
    COPY                              a process with your id, at that address, has been refused (copies.py)
    CLOCKOFF                          the receiver's clock is too far ahead to be followed (clock_report.py)

A message that makes one node fail must not end one node after the other. Say a record makes `merge` raise, or a layout
makes `build_routes` raise: a node that ended would get the message again after its restart, by a hint or the next gossip,
and so would all others. So, as long as nothing was stored:

    requests                          are answered with REFUSED, an empty ANSWER, or ERR internal error; the sender treats
                                      that like a full or damaged disk
    announcements                     are ignored, like lost ones
    answers to us (`ANSWERS`)         end the node, since an answer that is handled by half leaves clients' requests
                                      unanswered. That ends no other node: after its end the process does not ask again.
                                      And the records in RECORDS and DIFFER are joined before anything else is done with
                                      them; if that fails, it counts as a refusal (reads.py)
    what is said once (`SAID_ONCE`)   ends the node, since it would be missing from then on. The next link brings it again

Each case is counted, and logged with its traceback; the link stays open. No node forwards what it has refused, so such a
message reaches only the nodes that its author reaches, and harms none of them.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, TypeVar

from protocol.bounds import TIME_MS_MAX
from server.core.base.clock import SEQUENCE_BITS
from server.core.base.errors import internal_error
from server.core.base.room import FOR_WRITES
from server.core.base.unexpected import Fatal
from server.core.collection.late import carries_records
from server.core.dispatch import Dispatcher
from server.core.incoming import Incoming, Received
from server.core.liveness.liveness import encode_table
from server.core.messages import kinds
from server.core.messages.kinds import Comparison, Covered, Gossip, Hint, Kind, ReadGroup, Relay, Relayed, Timed, View
from server.core.messages.questions import ANSWER, ASK, KINDS, Ask
from server.core.requests import replica
from server.core.requests.relays import encode_indexes
from server.core.services.services import Services

_NUMBER = struct.Struct(">Q")
ANSWERS = (b"SAME", b"RECORDS", b"DIFFER", b"STORED", b"KEPT", b"REFUSED", b"COVERED", b"RELAYED", b"ANSWER")
SAID_ONCE = (b"FULL", b"ORDERLY")  # on a link, and when it changes: a node that has missed it must not go on
REQUESTS = (b"READ", b"COMPARE", b"STORE", b"KEEP", b"HINT")  # those that REFUSED answers
HELD_MAX = 1024  # relays that wait for cluster time; further ones are sent back

V = TypeVar("V")
Handler = Callable[[str, int, Any], None]  # of a message: its sender, its number, its content


class PeerMessages:
    """The receiving side of a node's links, and its gossip."""

    def __init__(self, services: Services, dispatcher: Dispatcher) -> None:
        self._services = services
        self._dispatcher = dispatcher
        self._state = services.state
        self._handlers: dict[bytes, Handler] = {}
        self._incoming = Incoming(services.state, services.reads, services.relays, services.questions)
        self._handle_requests()
        self._handle_the_rest()
        self._reading = 0  # of its sender's clock, in the present message
        self._held: list[tuple[str, int, Relay, int]] = []  # relays, and the reading of each
        self._unfollowed: dict[str, int] = {}  # the last readings that came before we knew cluster time

    def receive(self, peer: str, message: list[Any], now_ms: int) -> None:
        """HOT. A message of `peer`. Raises Malformed, before anything has changed, if it cannot be read."""
        received = self._incoming.read(message)
        state = self._state
        state.at(now_ms)
        kind, reading = received.kind, received.reading
        if peer not in state.members and kind != b"LAYOUT":
            return  # a node that was removed may still have records that all others have agreed to collect
        state.last_message_ms[peer] = now_ms
        state.statistics.messages += 1
        self._reading = reading
        if not state.clock.observe(reading):
            self._not_followed(peer, reading)
        if kind != b"GOSSIP" and kind != b"CLOCK":  # a table tells by itself how fresh it is
            state.liveness.heard(peer, now_ms)
        if state.fences and reading <= state.fences.get(peer, -1) and carries_records(message):
            self._refuse_late(peer, kind, received.number)
            return
        handler = self._handlers.get(kind)  # none for a kind that only newer nodes know
        if handler is not None:
            changes = state.records.changes
            try:
                if state.unexpected.planted:
                    state.unexpected.pass_by(f"message {kind.decode()}")
                handler(peer, received.number, received.content)
            except Exception as error:  # noqa: BLE001
                self._handler_failed(peer, received, error, changes)

    @property
    def kinds(self) -> list[bytes]:
        """The kinds of messages that this node handles."""
        return list(self._handlers)

    def _handler_failed(self, peer: str, received: Received, error: Exception, changes: int) -> None:
        """The handler of a message has raised an unexpected exception (base/unexpected.py): refuses the message, or ends
        the node."""
        kind, number, state = received.kind, received.number, self._state
        word = state.unexpected.note(error, changes, f"message {kind.decode()} of node {peer}")
        if kind in ANSWERS or kind in SAID_ONCE:
            raise Fatal(f"message {kind.decode()} of node {peer} must not be passed over: {error!r}") from error
        state.statistics.messages_undigested += 1
        if kind in REQUESTS:
            state.send(peer, state.message(b"REFUSED", number))
        elif kind == b"ASK":
            state.send(peer, state.message(b"ANSWER", number))
        elif kind == b"RELAY":
            count = len(received.content.commands)
            reply = internal_error(word, type(error).__name__, "a relay", state.member.name, "maybe-written")
            indexes = encode_indexes(list(range(count)))
            state.send(peer, state.message(b"RELAYED", number, indexes, *[reply] * count))

    def _not_followed(self, peer: str, reading: int) -> None:
        """A clock reading is too far ahead of cluster time to be followed. If cluster time is not known yet, it is judged
        later."""
        state = self._state
        if state.has_time:
            self._services.clock_report.refused(peer, (reading >> SEQUENCE_BITS) - state.clock.time_ms)
        else:
            self._unfollowed[peer] = reading
            self._state.held_for_time = True

    def ask_time(self, peer: str) -> None:
        """Asks for the peer's wall clock, and for cluster time."""
        self._state.send(peer, self._state.message(b"TIME", self._state.now_ms))

    def _tell_time(self, peer: str, asked_ms: int) -> None:
        state = self._state
        time_ms = b"%d" % state.time_ms if state.cluster_time.is_sure else b""
        wall_ms = min(max(0, state.wall_ms), TIME_MS_MAX)  # it may be far off
        state.send(peer, state.message(b"TIMED", asked_ms, wall_ms, time_ms))

    def _timed(self, peer: str, asked_ms: int, answer: Timed) -> None:
        """TIMED: the answer to the TIME that we have sent at `asked_ms`."""
        state = self._state
        state.cluster_time.sample(peer, asked_ms, answer.wall_ms, state.now_ms)
        if answer.time_ms is not None:
            state.cluster_time.learn(asked_ms, answer.time_ms, state.now_ms)
        if not state.cluster_time.is_sure:
            state.follow_time()
            self.begin_held()

    def begin_held(self) -> None:
        """Once cluster time is known: follows the clocks that may be followed, and begins what waited for it, first what
        other nodes have relayed, then what clients have sent."""
        state = self._state
        if not state.held_for_time or state.waits_for_time:
            return
        state.held_for_time = False
        state.clock.refused = 0  # until now all readings were
        unfollowed, self._unfollowed = self._unfollowed, {}
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
        if not state.waits_for_time:
            batch = relays.relayed(peer, number, relay.sent_ms, relay.options, relay.commands)
            if batch is None:
                return
            if len(relay.options) > 3:
                self._dispatcher.run_in_order(batch, relay.commands)
            else:
                self._dispatcher.run_all(batch, relay.commands)
            return
        relays.note_peer_clock(peer, relay.sent_ms)  # so that we know later how old the relay is
        if len(self._held) < HELD_MAX:
            self._state.held_for_time = True
            self._held.append((peer, number, relay, self._reading))
        else:
            relays.reply_stale(peer, number, relay.options, len(relay.commands))

    def _on(self, kind: Kind[V], handler: Callable[[str, int, V], None]) -> None:
        """Sends messages of that kind to `handler`."""
        assert KINDS[kind.name] is kind
        self._handlers[kind.name] = handler

    def _handle_requests(self) -> None:
        reads, writes, questions = self._services.reads, self._services.writes, self._services.questions
        self._on(kinds.READ, self._read_here)
        self._on(kinds.SAME, lambda peer, number, _: reads.acked(peer, number))
        self._on(kinds.RECORDS, reads.records_answered)
        self._on(kinds.COMPARE, self._compare_here)
        self._on(
            kinds.DIFFER,
            lambda peer, number, answer: reads.differ_answered(peer, number, answer.states, answer.records),
        )
        self._on(kinds.STORE, lambda peer, number, pairs: self._store(peer, number, pairs, True))
        self._on(kinds.KEEP, lambda peer, number, pairs: self._store(peer, number, pairs, False))
        self._on(kinds.HINT, self._hint)
        self._on(kinds.STORED, lambda peer, number, _: writes.acked(peer, number))
        self._on(kinds.KEPT, lambda peer, number, numbers: self._confirmed(peer, numbers))
        self._on(kinds.REFUSED, lambda peer, number, _: self._refused(peer, number))
        self._on(kinds.COVERED, self._cover)
        self._on(kinds.RELAY, self._relayed)
        self._on(kinds.RELAYED, self._replied)
        self._on(ASK, self._asked)
        self._on(ANSWER, questions.answered)
        self._on(kinds.ORDERLY, lambda peer, number, _: self._note_orderly(peer))
        self._on(kinds.FULL, lambda peer, number, room: self._note_room(peer, room))

    def _handle_the_rest(self) -> None:
        services = self._services
        self._on(kinds.GOSSIP, self._merge_gossip)
        self._on(kinds.CLOCK, lambda peer, number, sent_ms: services.relays.note_peer_clock(peer, sent_ms))
        self._on(kinds.TIME, lambda peer, number, asked_ms: self._tell_time(peer, asked_ms))
        self._on(kinds.TIMED, self._timed)
        self._on(kinds.CLOCKOFF, lambda peer, number, ahead_ms: services.clock_report.complained(peer, ahead_ms))
        self._handlers[b"LAYOUT"] = lambda peer, number, layout: services.membership.heard_layout(peer, layout)
        self._on(kinds.VIEW, self._compare_view)
        self._on(kinds.MARK, lambda peer, number, life: services.lives.heard_mark(peer, life, number))
        self._on(kinds.STAGED, lambda peer, number, staged: services.staging.merge(staged))
        self._on(kinds.COPY, lambda peer, number, address: services.copies.told(address))

    # --- requests

    def _read_here(self, peer: str, number: int, group: ReadGroup) -> None:
        replica.read(self._state, peer, number, group.digest, group.keys)

    def _compare_here(self, peer: str, number: int, group: Comparison) -> None:
        replica.compare(self._state, peer, number, group.checksums, group.keys)

    def _cover(self, peer: str, number: int, covered: Covered) -> None:
        self._services.relays.cover(peer, number, covered.group, covered.indexes)

    def _replied(self, peer: str, number: int, relayed: Relayed) -> None:
        self._services.relays.replied(number, relayed.indexes, relayed.replies)

    def _asked(self, peer: str, number: int, ask: Ask) -> None:
        self._services.questions.asked(peer, number, ask.kind, ask.content)

    def _note_orderly(self, peer: str) -> None:
        self._state.orderly[peer] = None

    def _store(self, peer: str, number: int, pairs: list[bytes], in_a_hurry: bool) -> None:
        """HOT. STORE and KEEP: a coordinator's group of records. It may also answer commands that we relayed there
        (writes.py)."""
        state = self._state
        ours = state.owns_all(pairs)
        refusal = replica.store(state, pairs) if ours else replica.store_as_former_owner(state, pairs)
        if refusal is not None and ours:
            self._store_when_mended(peer, number, pairs, in_a_hurry, refusal, state.clock.last, self._reading)
        else:
            self._confirm(peer, number, in_a_hurry, refusal)

    def _confirm(self, peer: str, number: int, in_a_hurry: bool, refusal: str | None) -> None:
        """HOT. Confirms or refuses a group of records, and answers the relayed commands that its STORE covers."""
        state, relays = self._state, self._services.relays
        if refusal is not None:
            state.send(peer, state.message(b"REFUSED", number))
        elif in_a_hurry:
            state.send(peer, state.message(b"STORED", number))
        else:
            state.kept.setdefault(peer, []).append(number)
        if (peer, number) in relays.covered:
            relays.stored(peer, number, refusal)

    def _store_when_mended(
        self, peer: str, number: int, pairs: list[bytes], in_a_hurry: bool, refusal: str, stamp: int, reading: int
    ) -> None:
        """A group could not be stored. If that is because records here are damaged, the group waits until they are
        repaired: a damaged record must not cost the acknowledgement of the others. A group that a fence has overtaken
        meanwhile is not stored any more; `stamp` and `reading` are our clock and its sender's when it arrived."""
        state, mending = self._state, self._services.mending

        def again() -> None:
            late = state.fence >= stamp or reading <= state.fences.get(peer, -1)
            reason = refusal if late else replica.store(state, pairs)
            if reason is None or late:
                self._confirm(peer, number, in_a_hurry, reason)
            else:
                self._store_when_mended(peer, number, pairs, in_a_hurry, reason, stamp, reading)

        def fail() -> None:
            self._confirm(peer, number, in_a_hurry, refusal)

        keys = pairs[::2]
        _, damaged = state.records.get_each(keys)  # all are noted, so that they are repaired together
        last = keys[damaged[-1]] if damaged else None
        if not mending.park(last, again, fail):
            fail()

    def _refuse_late(self, peer: str, kind: bytes, number: int) -> None:
        """Refuses records from behind a fence (late.py)."""
        state = self._state
        state.statistics.late_refused += 1
        state.send(peer, state.message(b"ANSWER" if kind == b"ASK" else b"REFUSED", number))
        if (peer, number) in self._services.relays.covered:
            self._services.relays.stored(peer, number, f"ERR node {state.member.name} got the record too late")

    def _hint(self, peer: str, number: int, hint: Hint) -> None:
        """HINT: a coordinator's group of records for an owner that it cannot reach."""
        refusal = replica.store_as_stand_in(self._state, hint.owner, hint.pairs)
        self._state.send(peer, self._state.message(b"STORED" if refusal is None else b"REFUSED", number))

    def _confirmed(self, peer: str, numbers: bytes) -> None:
        statistics = self._state.statistics
        unneeded = statistics.unneeded_answers
        for (number,) in _NUMBER.iter_unpack(numbers):
            self._services.writes.acked(peer, number)
        statistics.unneeded_answers = unneeded  # it counts messages, and this is one message with many answers

    def confirm_kept(self) -> None:
        """Confirms, in one message for each coordinator, all groups that came as KEEP since the last tick."""
        state = self._state
        for peer, numbers in state.kept.items():
            state.send(peer, state.message(b"KEPT", 0, b"".join(map(_NUMBER.pack, numbers))))
        state.kept.clear()

    def _refused(self, peer: str, number: int) -> None:
        self._services.reads.refused(peer, number)
        self._services.writes.refused(peer, number)

    def gossip(self, peer: str, wants_answer: int) -> None:
        """Sends `peer` our liveness table, our clock, and what is staged; `wants_answer` 1 asks for the same."""
        state = self._state
        epoch = state.layout.epoch if state.layout is not None else 0
        table = encode_table(state.liveness.table(peer))
        state.send(peer, state.message(b"CLOCK", state.now_ms))
        self.ask_time(peer)
        self._services.clock_report.complain(peer)
        state.send(peer, state.message(b"GOSSIP", wants_answer, epoch, *table))
        if state.layout is not None:
            state.send(peer, state.message(b"VIEW", 0, *self._services.membership.view()))
        staged = self._services.staging.document()
        if staged is not None:
            state.send(peer, state.message(b"STAGED", 0, staged))

    def _merge_gossip(self, peer: str, number: int, gossip: Gossip) -> None:
        state = self._state
        state.liveness.merge(gossip.table, peer, state.now_ms)
        if peer not in state.links:
            return
        if gossip.wants_answer:
            self.gossip(peer, 0)

    def _compare_view(self, peer: str, number: int, view: View) -> None:
        self._services.membership.heard_view(peer, view.epoch, view.revision, view.checksum)

    def _note_room(self, peer: str, room: int) -> None:
        if room != FOR_WRITES:
            self._state.full[peer] = room
        else:
            self._state.full.pop(peer, None)
        self._state.reroute()
