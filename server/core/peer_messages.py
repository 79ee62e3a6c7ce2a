"""What nodes say to each other: the table of message kinds, and how each is received.

Theory. A message is a list: kind, a reading of its sender's hybrid clock, a number, and what the kind needs. Requests and
their answers carry the number of the group, relay or question they belong to. Handlers are idempotent, or harmless when
they come late, so that a message may be lost, repeated or overtaken; only a relay may not be repeated (relays.py).

Large messages travel in pieces (protocol/pieces.py), and later ones of the same sender pass them. Nothing relies on it that
they do not, but for one kind; the simulator's datagrams and pieces show it for each kind. Why that is so:

    STORE, KEEP, HINT, RECORDS,       merged (P3), so that their order among each other and among all else is of no matter;
    ABSORB, MERGE                     a COVERED is sent before its STORE, is small, and so still comes before it
    FENCE, VOTE, LINE                 speak of records that others send over links of their own, so they never could rely on
                                      what came before on this one: a vote counts only what is confirmed, and each message
                                      carries the reading of its sender's clock at which it was made, by which a record from
                                      behind a fence is known (late.py), whatever has passed it
    LAYOUT, VIEW, MOVED, HOLDS        a record that was sent by an older layout is taken with hints for its owners
                                      (replica.take_in), like one of a node that has not heard of the newer layout
    EMPTY, WHOLE, ADOPTED, …          speak of what is stored or confirmed, not of what was sent
    GOING                             stands for all that was sent before it, so it is the one that passes nothing
                                      (State.send_behind)
    RELAY, RELAYED                    commands of a key are in one relay or wait for each other's answers (lanes.py)
    READ                              a read sees a write that was answered, as R and W overlap, and need not see others
    answers                           name what they answer

    COMPARE, SAME, DIFFER             a coordinator's reads, and an owner's answers (comparison.py)
    READ, SAME, RECORDS               the same for nodes of earlier versions
    STORE, KEEP, HINT                 records for an owner to keep, in a hurry or not, and for a stand-in of one
    STORED, KEPT, REFUSED             their confirmations, and what answers all that cannot be done
    COVERED                           a STORE to come answers relayed commands, too
    RELAY, RELAYED                    commands for another coordinator, and its replies
    ASK, ANSWER                       questions outside the hot path
    GOSSIP, CLOCK, LAYOUT             who lives, whose monotonic clock reads what, who owns what
    TIME, TIMED                       what is your wall clock, and what is cluster time (cluster_time.py)
    VIEW                              which layout its sender goes by
    STAGED                            what operators have staged for the next layout
    FULL                              what its sender's disk has room for: 0 for writes again, see room.py
    ORDERLY                           its sender runs relayed commands of one key in order (chains.py), and takes short
                                      digests (reads.py); a word in it: answers COMPARE
    COPY                              a process with your id, at that address, has been refused (copies.py)
    CLOCKOFF                          your clock is so far ahead that it is not followed (clock_report.py)
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from server.core.base.clock import SEQUENCE_BITS
from server.core.base.room import FOR_WRITES
from server.core.collection.late import carries_records
from server.core.liveness.liveness import decode_table, encode_table
from server.core.requests import replica
from server.core.requests.comparison import COMPARES
from server.core.ring.layout import Layout

if TYPE_CHECKING:
    from server.core.node import Node

_NUMBER = struct.Struct(">Q")
HELD_MAX = 1024  # relays that wait for cluster time; further ones are sent back

Receiver = Callable[[str, int, list[Any]], None]


class PeerMessages:
    """The receiving side of a node's links, and its gossip."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._state = node.state
        self._receivers = self._table()
        self._reading = 0  # of its sender's clock, in the present message
        self._held: list[tuple[str, int, list[Any], int]] = []  # relays, and the reading of each
        self._unfollowed: dict[str, int] = {}  # the last readings that came before we knew cluster time

    def receive(self, peer: str, message: list[Any], now_ms: int) -> None:
        """HOT. A message of `peer`. A kind that we do not know is a newer node's and is passed over."""
        state = self._state
        state.at(now_ms)
        if peer not in state.members and message[0] != b"LAYOUT":
            return  # a node that was removed may know what everybody else has agreed to forget
        state.heard_ms[peer] = now_ms
        state.statistics.messages += 1
        reading = self._reading = int(message[1])
        if not state.clock.observe(reading):
            self._not_followed(peer, reading)
        kind = message[0]
        if kind != b"GOSSIP" and kind != b"CLOCK":  # a table tells by itself how fresh it is
            state.liveness.heard(peer, now_ms)
        if state.fences and reading <= state.fences.get(peer, -1) and carries_records(message):
            state.turn_wanted = True
            self._refuse_late(peer, kind, int(message[2]))
            return
        receiver = self._receivers.get(kind)
        if receiver is not None:
            if not state.turn_wanted and not self._is_late_vote(kind, message):
                state.turn_wanted = True
            receiver(peer, int(message[2]), message[3:])

    def _is_late_vote(self, kind: bytes, message: list[Any]) -> bool:
        """HOT. Whether this is one more vote for a group whose requests are all answered, to which there is nothing to say:
        so is every second answer to a read, and every second acknowledgement of a write."""
        if kind == b"SAME":
            return not self._node.reads.awaits(int(message[2]))
        return kind == b"STORED" and not self._node.writes.awaits(int(message[2]))

    def _not_followed(self, peer: str, reading: int) -> None:
        """A reading lies far ahead of our time; or we do not know that yet, and judge the reading once we do."""
        state = self._state
        if state.has_time:
            self._node.clock_report.refused(peer, (reading >> SEQUENCE_BITS) - state.clock.time_ms)
        else:
            self._unfollowed[peer] = reading
            self._node.hold()

    def ask_time(self, peer: str) -> None:
        """Asks for the peer's wall clock, and for cluster time."""
        self._state.send(peer, self._state.message(b"TIME", self._state.now_ms))

    def _tell_time(self, peer: str, asked_ms: int) -> None:
        state = self._state
        time_ms = b"%d" % state.time_ms if state.cluster_time.is_sure else b""
        state.send(peer, state.message(b"TIMED", asked_ms, state.now_ms + state.wall_offset_ms, time_ms))

    def _timed(self, peer: str, asked_ms: int, items: list[bytes]) -> None:
        """The peer's answer to what we have asked at `asked_ms`."""
        state = self._state
        state.cluster_time.sample(peer, asked_ms, int(items[0]), state.now_ms)
        if items[1]:
            state.cluster_time.told(asked_ms, int(items[1]), state.now_ms)
        if not state.cluster_time.is_sure:
            state.follow_time()
            self._node.time_is_known()

    def take_held(self) -> None:
        """Cluster time is known: follows the clocks that may be followed, and begins what was relayed to us meanwhile."""
        state = self._state
        state.clock.refused = 0  # until now all were
        unfollowed, self._unfollowed = self._unfollowed, {}
        for peer, reading in unfollowed.items():
            if not state.clock.observe(reading):
                self._not_followed(peer, reading)
        held, self._held = self._held, []
        for peer, number, items, reading in held:
            state.clock.observe(reading)
            self._relayed(peer, number, items)

    def _relayed(self, peer: str, number: int, items: list[Any]) -> None:
        state, relays = self._state, self._node.relays
        if not state.waits_for_time:
            relays.relayed(peer, number, int(items[0]), items[1], items[2:])
            return
        relays.heard_clock(peer, int(items[0]))  # so that it is known how late the relay will be
        if len(self._held) < HELD_MAX:
            self._node.hold()
            self._held.append((peer, number, items, self._reading))
        else:
            relays.turn_back(peer, number, items[1], len(items) - 2)

    def _table(self) -> dict[bytes, Receiver]:
        node, state = self._node, self._state
        reads, writes, relays, questions = node.reads, node.writes, node.relays, node.questions
        return {
            b"READ": lambda peer, number, items: replica.read(state, peer, number, items[0], items[1:]),
            b"SAME": lambda peer, number, items: reads.acked(peer, number),
            b"RECORDS": lambda peer, number, items: reads.told_all(peer, number, items),
            b"COMPARE": lambda peer, number, items: replica.compare(state, peer, number, items[0], items[1:]),
            b"DIFFER": lambda peer, number, items: reads.told_differences(peer, number, items),
            b"STORE": lambda peer, number, items: self._store(peer, number, items, True),
            b"KEEP": lambda peer, number, items: self._store(peer, number, items, False),
            b"HINT": lambda peer, number, items: self._hint(peer, number, items[0].decode(), items[1:]),
            b"STORED": lambda peer, number, items: writes.acked(peer, number),
            b"KEPT": lambda peer, number, items: self._confirmed(peer, items[0]),
            b"REFUSED": lambda peer, number, items: self._refused(peer, number),
            b"COVERED": lambda peer, number, items: relays.cover(peer, number, int(items[0]), items[1]),
            b"RELAY": lambda peer, number, items: self._relayed(peer, number, items),
            b"RELAYED": lambda peer, number, items: relays.replied(number, items[0], items[1:]),
            b"ASK": lambda peer, number, items: questions.asked(peer, number, items[0], items[1:]),
            b"ANSWER": lambda peer, number, items: questions.answered(peer, number, items),
            b"GOSSIP": lambda peer, number, items: self._heard_gossip(peer, number, items),
            b"CLOCK": lambda peer, number, items: relays.heard_clock(peer, number),
            b"TIME": lambda peer, number, items: self._tell_time(peer, number),
            b"TIMED": lambda peer, number, items: self._timed(peer, number, items),
            b"CLOCKOFF": lambda peer, number, items: node.clock_report.told(peer, number),
            b"LAYOUT": lambda peer, number, items: self._heard_layout(items[0]),
            b"VIEW": lambda peer, number, items: node.membership.heard_view(
                peer, int(items[0]), int(items[1]), items[2]
            ),
            b"STAGED": lambda peer, number, items: node.staging.heard(items[0]),
            b"COPY": lambda peer, number, items: node.copies.told(items[0].decode("utf-8", "replace")),
            b"FULL": lambda peer, number, items: self._heard_of_room(peer, number),
            b"ORDERLY": lambda peer, number, items: self._heard_abilities(peer, items),
        }

    def _store(self, peer: str, number: int, pairs: list[bytes], in_a_hurry: bool) -> None:
        """HOT. A coordinator's group of records; it may also answer commands that we relayed there (see writes.py)."""
        state = self._state
        ours = not pairs or state.owns(pairs[0])
        refusal = replica.store(state, pairs) if ours else replica.take_in(state, pairs)
        if refusal is not None and ours:
            self._store_when_mended(peer, number, pairs, in_a_hurry, refusal, state.clock.last, self._reading)
        else:
            self._confirm(peer, number, in_a_hurry, refusal)

    def _confirm(self, peer: str, number: int, in_a_hurry: bool, refusal: str | None) -> None:
        """HOT. A group of records is stored, or refused. The commands that its STORE answers have their reply now."""
        state, relays = self._state, self._node.relays
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
        """A group could not be stored. If it was to be merged into damaged records it waits until they are mended, a moment
        later: a damaged record must not cost the acknowledgement of the others. What has waited behind a fence meanwhile is
        not stored any more; `stamp` and `reading` are our clock and its sender's when it came."""
        state, mending = self._state, self._node.mending

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
        _, damaged = state.records.get_each(keys)  # all are noted, so that they are mended together
        last = keys[damaged[-1]] if damaged else None
        if not mending.park(last, again, fail):
            fail()

    def _refuse_late(self, peer: str, kind: bytes, number: int) -> None:
        """Records from behind a fence (see late.py)."""
        state = self._state
        state.statistics.late_refused += 1
        state.send(peer, state.message(b"ANSWER" if kind == b"ASK" else b"REFUSED", number))
        if (peer, number) in self._node.relays.covered:
            self._node.relays.stored(peer, number, f"ERR node {state.member.name} got the record too late")

    def _hint(self, peer: str, number: int, owner: str, pairs: list[bytes]) -> None:
        """A coordinator's group of records for an owner that it cannot reach."""
        refusal = replica.stand_in(self._state, owner, pairs)
        self._state.send(peer, self._state.message(b"STORED" if refusal is None else b"REFUSED", number))

    def _confirmed(self, peer: str, numbers: bytes) -> None:
        for (number,) in _NUMBER.iter_unpack(numbers):
            self._node.writes.acked(peer, number)

    def confirm_kept(self) -> None:
        """One word for all groups that were stored since the last tick and whose coordinators are in no hurry."""
        state = self._state
        for peer, numbers in state.kept.items():
            state.send(peer, state.message(b"KEPT", 0, b"".join(map(_NUMBER.pack, numbers))))
        state.kept.clear()

    def _refused(self, peer: str, number: int) -> None:
        self._node.reads.refused(peer, number)
        self._node.writes.refused(peer, number)

    def gossip(self, peer: str, wants_answer: int) -> None:
        """Sends `peer` our view of who lives, our clock, and what is staged; `wants_answer` 1 asks for its own."""
        state = self._state
        epoch = state.layout.epoch if state.layout is not None else 0
        table = encode_table(state.liveness.table(peer))
        state.send(peer, state.message(b"CLOCK", state.now_ms))
        self.ask_time(peer)
        self._node.clock_report.tell(peer)
        state.send(peer, state.message(b"GOSSIP", wants_answer, epoch, *table))
        if state.layout is not None:
            state.send(peer, state.message(b"VIEW", 0, *self._node.membership.view()))
        staged = self._node.staging.document()
        if staged is not None:
            state.send(peer, state.message(b"STAGED", 0, staged))

    def _heard_gossip(self, peer: str, wants_answer: int, items: list[bytes]) -> None:
        state = self._state
        state.liveness.merge(decode_table(items[1:]), peer, state.now_ms)
        if peer not in state.links:
            return
        if state.layout is not None and int(items[0]) < state.layout.epoch:
            state.send(peer, state.message(b"LAYOUT", 0, state.layout.encode()))
        if wants_answer:
            self.gossip(peer, 0)

    def _heard_abilities(self, peer: str, items: list[bytes]) -> None:
        self._state.orderly.setdefault(peer)
        if COMPARES in items:
            self._state.comparing.setdefault(peer)

    def _heard_of_room(self, peer: str, room: int) -> None:
        if room != FOR_WRITES:
            self._state.full[peer] = room
        else:
            self._state.full.pop(peer, None)
        self._state.reroute()

    def _heard_layout(self, document: bytes) -> None:
        present = self._state.layout
        if present is None or document != present.encode():
            self._node.offer_layout(Layout.decode(document))
