"""Relays: a command for a key that another node coordinates runs there, and its reply comes back here.

Theory. Every node takes every command; only the coordinator may run it (DESIGN §5). Commands of one turn for one
coordinator travel as one message, and run there exactly as if a client had sent them there: the batch is their sink.

When the coordinator is lost the command goes to the key's next live owner. That must not let one write happen *late*:
a coordinator that was frozen, and thawed after its relays went elsewhere, would give old writes new dots. So a relay
carries its sender's clock, as gossip does; the receiver knows the least difference between that clock and its own (no
two clocks need to agree), hence how late a relay is, and refuses one that is later than its sender would have waited.
The same holds for the second step of a command, which a coordinator that slept between both would take late (`is_late`).
Clocks drift, so the least difference may grow by a thousandth of the time that we are awake; not while we are frozen.

A large command travels in pieces (protocol/pieces.py), and what is said meanwhile passes it. That changes no order that a
client can see: the commands of a key that one turn relays stay in one relay, and those of a later turn wait until they are
answered (lanes.py). Commands of other keys do not wait for a large one, as it has a relay of its own; nor does a small
reply wait for a large one.

A command that must not run twice (SET NX, say) is not sent again: its asker learns that the outcome is unknown.

Commands of one key that depend on each other may travel together, to be run in order (chains.py): then they are sent
again together, too. Such a relay says so with a fourth option, and goes only to nodes that have said they know it.
"""

from __future__ import annotations

from collections.abc import Sequence

from librt.strings import BytesWriter, read_i32_be, write_i32_be
from mypy_extensions import i32, i64

from protocol.resp import OK, LargeReply, Reply
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Sink
from server.core.base.state import State

STALE = ErrorReply.of("STALE the relay arrived too late")
_DRIFT = 1000  # clocks of two machines gain at most one millisecond on each other in so many
_PERHAPS_WRITTEN = b"but a node that was lost may have written it before"
_GRACE_MS = 500  # the coordinator's own deadline must pass before ours does, for its error says more


RelayItem = tuple[Sink, int, list[bytes], int]  # asker, its number, command, begun when


def encode_indexes(indexes: list[int]) -> bytes:
    """Numbers of commands within a relay, 4 bytes each."""
    writer = BytesWriter()
    for index in indexes:
        write_i32_be(writer, i32(index))
    return writer.getvalue()


NOT_RUN, MAYBE_RUN, UNREACHABLE = range(3)  # why commands came back: see `Returned`


class Returned:
    """Commands that came back from a relay. NOT_RUN: their coordinator has run none of them. MAYBE_RUN: it was lost,
    and may have run them. UNREACHABLE: no owner of their key can be reached from here.

    `in_order` says that they run in order. `refusal`, if there is one, is the answer to a command that must not run twice.
    """

    __slots__ = ("in_order", "items", "reason", "refusal")

    def __init__(
        self, items: list[RelayItem], reason: int, in_order: bool = False, refusal: bytes | None = None
    ) -> None:
        self.items = items
        self.reason = reason
        self.in_order = in_order
        self.refusal = refusal


class RelayRow:
    """Commands sent to one coordinator in one turn, until each has its reply."""

    __slots__ = ("begun_ms", "in_order", "items", "missing", "number", "peer", "sent_ms")

    def __init__(self, number: int, peer: str, sent_ms: int, in_order: bool) -> None:
        self.number = number
        self.peer = peer
        self.in_order = in_order
        self.sent_ms = sent_ms
        self.begun_ms = sent_ms  # of the oldest command, which may have been elsewhere before
        self.items: list[RelayItem | None] = []
        self.missing = 0


class RelayedBatch:
    """The sink of commands that another node relayed to us: collects their replies for one message a turn."""

    relayed = True

    def __init__(
        self, peer: str, number: int, options: Sequence[bytes], outgoing: list[RelayedBatch], until_ms: int
    ) -> None:
        self.peer = peer
        self.until_ms = until_ms  # from then on its sender may go elsewhere: nothing may be written for it any more
        self.number = number
        self.resp3 = options[0] == b"1"
        self.read_quorum = int(options[1])
        self.write_quorum = int(options[2])
        self.indexes: list[int] = []
        self.replies: list[bytes] = []
        self._outgoing = outgoing

    def answer(self, number: int, reply: Reply) -> None:
        """HOT. Takes the reply of the batch's command `number`."""
        if not self.replies:
            self._outgoing.append(self)
        self.indexes.append(number)
        self.replies.append(reply.joined() if isinstance(reply, LargeReply) else reply)


class SecondAttempt:
    """The sink of a write that a lost coordinator may have done: an error here must not say that nothing was written."""

    relayed = False

    def __init__(self, sink: Sink) -> None:
        self.resp3 = sink.resp3
        self.read_quorum = sink.read_quorum
        self.write_quorum = sink.write_quorum
        self._sink = sink

    def answer(self, number: int, reply: Reply) -> None:
        """Takes the reply of the last attempt."""
        if isinstance(reply, bytes) and reply[:1] == b"-":
            reply = reply.replace(b"outcome=unwritten", b"outcome=maybe-written").replace(
                b"nothing was written", _PERHAPS_WRITTEN
            )
            if b"outcome=maybe-written" not in reply:  # this node has left meanwhile, say
                # Clients take CLUSTERDOWN for leave to send the command again by themselves, which is not for them to say.
                reply = reply.replace(b"-CLUSTERDOWN ", b"-ERR ", 1)
                reply = reply[:-2] + b": outcome=maybe-written: " + _PERHAPS_WRITTEN + reply[-2:]
            reply = ErrorReply(reply)
        self._sink.answer(number, reply)


class Relays:
    """The relays in flight, both ways.

    `returned` are commands whose coordinator was lost or cannot be reached. The dispatcher takes them at the end of the
    turn, and routes each anew or answers that it cannot."""

    def __init__(self, state: State) -> None:
        self.returned: list[Returned] = []
        self.covered: dict[tuple[str, int], list[tuple[int, bytes]]] = {}  # relays whose answer is a STORE to come
        self._state = state
        self._gathering: dict[tuple[str, bool, int, int, bool], RelayRow] = {}
        self._rows: dict[int, RelayRow] = {}
        self._outgoing: list[RelayedBatch] = []
        self._least_difference_ms: dict[str, int] = {}
        self._awake_ms = 0
        self._large_bytes = state.config.large_message_bytes

    def forward(
        self, sink: Sink, number: int, args: list[bytes], peer: str, begun_ms: int = -1, in_order: bool = False
    ) -> None:
        """HOT. Sends the command to `peer` at the end of the turn; `in_order` with others of its key that were forwarded
        before it in this turn."""
        state = self._state
        if peer not in state.links:
            self.returned.append(Returned([(sink, number, args, begun_ms)], UNREACHABLE))
            return
        group = (peer, sink.resp3, sink.read_quorum, sink.write_quorum, in_order)
        row = self._gathering.get(group)
        if row is None:
            row = self._gathering[group] = RelayRow(state.number(), peer, state.now_ms, in_order)
        if begun_ms < 0:
            begun_ms = state.now_ms
        elif begun_ms < row.begun_ms:
            row.begun_ms = begun_ms
        row.items.append((sink, number, args, begun_ms))

    def launch(self) -> None:
        """End of turn: one message to each coordinator, and one to each node whose relays have replies."""
        state = self._state
        if self._gathering:
            gathering, self._gathering = self._gathering, {}
            for (peer, resp3, read_quorum, write_quorum, in_order), row in gathering.items():
                options = [b"1" if resp3 else b"0", b"%d" % read_quorum, b"%d" % write_quorum]
                if in_order:
                    options.append(b"1")
                message = self._track(row, options)
                if len(message) < self._large_bytes:
                    state.send(peer, message)
                else:
                    self._send_apart(row, options)
        if self._outgoing:
            for batch in self._outgoing:
                indexes = encode_indexes(batch.indexes)
                if batch.peer in state.links:
                    message = state.message(b"RELAYED", batch.number, indexes, *batch.replies)
                    if len(message) < self._large_bytes:
                        state.send(batch.peer, message)
                    else:
                        self._reply_one_by_one(batch)
                batch.indexes, batch.replies = [], []
            self._outgoing.clear()  # in place: the batches append to this very list

    def _reply_one_by_one(self, batch: RelayedBatch) -> None:
        for index, reply in zip(batch.indexes, batch.replies, strict=True):
            message = self._state.message(b"RELAYED", batch.number, encode_indexes([index]), reply)
            self._state.send(batch.peer, message)

    def _track(self, row: RelayRow, options: list[bytes]) -> bytes:
        """HOT. The row is in flight from now on. Answers its message."""
        state = self._state
        row.missing = len(row.items)
        state.in_flight += row.missing
        state.statistics.relays += row.missing
        self._rows[row.number] = row
        commands = [item[2] for item in row.items if item is not None]
        return state.message(b"RELAY", row.number, row.sent_ms, options, *commands)

    def _send_apart(self, row: RelayRow, options: list[bytes]) -> None:
        """Sends a row as several: one for each key with large commands, and one for all other keys."""
        state = self._state
        del self._rows[row.number]
        state.in_flight -= row.missing
        state.statistics.relays -= row.missing
        by_key: dict[bytes, list[RelayItem]] = {}
        for item in row.items:
            if item is not None:
                by_key.setdefault(item[2][1] if len(item[2]) > 1 else b"", []).append(item)
        small: list[RelayItem] = []
        parts = [small]
        for items in by_key.values():
            if sum([len(word) for item in items for word in item[2]]) < self._large_bytes // 2:
                small += items
            else:
                parts.append(items)
        for items in parts:
            part = RelayRow(state.number(), row.peer, row.sent_ms, row.in_order)
            part.begun_ms = min([item[3] for item in items], default=0)
            part.items += items
            if items:
                state.send(row.peer, self._track(part, options))

    def relayed(
        self, peer: str, number: int, sent_ms: int, options: Sequence[bytes], commands: list[list[bytes]]
    ) -> RelayedBatch | None:
        """HOT. `peer` relays commands to us. Answers the sink to run them for; None if they came too late to run."""
        state = self._state
        until_ms = state.now_ms - self._late_ms(peer, sent_ms) + state.config.relay_stale_ms
        batch = RelayedBatch(peer, number, options, self._outgoing, until_ms)
        if self.is_late(batch):
            self._turn_back(batch, len(commands))
            return None
        return batch

    def turn_back(self, peer: str, number: int, options: Sequence[bytes], count: int) -> None:
        """None of a relay's commands is begun: its sender may send them anew."""
        self._turn_back(RelayedBatch(peer, number, options, self._outgoing, self._state.now_ms), count)

    def _turn_back(self, batch: RelayedBatch, count: int) -> None:
        self._state.statistics.relays_stale += count
        for index in range(count):
            batch.answer(index, STALE)

    def is_late(self, sink: Sink) -> bool:
        """Whether the asker's command was relayed so long ago that it may have gone elsewhere since."""
        return sink.relayed and isinstance(sink, RelayedBatch) and self._state.now_ms > sink.until_ms

    def heard_clock(self, peer: str, sent_ms: int) -> None:
        """It was `sent_ms` by the clock of `peer` when it sent what has come now."""
        self._late_ms(peer, sent_ms)

    def _late_ms(self, peer: str, sent_ms: int) -> int:
        difference_ms = self._state.now_ms - sent_ms - self._awake_ms // _DRIFT
        least_ms = min(difference_ms, self._least_difference_ms.get(peer, difference_ms))
        self._least_difference_ms[peer] = least_ms
        return difference_ms - least_ms

    def cover(self, peer: str, number: int, group: int, indexes: bytes) -> None:
        """The STORE of `group` that comes next from `peer` answers these commands of relay `number` (see writes.py)."""
        self.covered.setdefault((peer, group), []).append((number, indexes))

    def stored(self, peer: str, group: int, refusal: str | None) -> None:
        """We have stored a group of `peer` that covers relays of ours, or not, for the reason given.

        If that is a full disk, the coordinator has heard of it since: it does not count on us the second time.
        """
        reply: bytes = OK
        if refusal is not None:
            reply = ErrorReply.of(f"{refusal}: got=1 wanted=2 hinted=0 outcome=maybe-written")
        again = refusal is not None and self._state.disk_full
        for number, indexes in self.covered.pop((peer, group)):
            self.replied(number, indexes, [reply] * (len(indexes) // 4), again)

    def commands_in(self, number: int) -> int | None:
        """How many commands relay `number` has; None if no such relay is in flight."""
        row = self._rows.get(number)
        return None if row is None else len(row.items)

    def replied(self, number: int, indexes: bytes, replies: list[bytes], again: bool = False) -> None:
        """The coordinator's replies to some commands of relay `number`; `again` asks for a second attempt first."""
        row = self._rows.get(number)
        if row is None:
            return
        items = row.items
        stale: list[RelayItem] = []
        place: i64 = 0
        for reply in replies:
            index = int(read_i32_be(indexes, place))
            place += 4
            item = items[index]
            if item is None:
                continue
            items[index] = None
            row.missing -= 1
            self._state.in_flight -= 1
            if reply == STALE:
                stale.append(item)
            elif again and not isinstance(item[0], SecondAttempt):
                self.returned.append(Returned([item], MAYBE_RUN, False, reply))
            else:
                item[0].answer(item[1], reply)
        if not row.missing:
            self._rows.pop(number, None)
        if stale:
            self._again_all(row, stale, False)

    def peer_lost(self, peer: str) -> None:
        """The connection to `peer` broke, or it has fallen silent: its relays go elsewhere, unsent ones included."""
        unsent = [group for group, row in self._gathering.items() if row.peer == peer]
        for group in unsent:
            row = self._gathering.pop(group)
            self._again_all(row, row.items, False)
        for number, row in list(self._rows.items()):
            if row.peer == peer:
                del self._rows[number]
                self._state.in_flight -= row.missing
                self._again_all(row, row.items, True)

    def _again_all(self, row: RelayRow, items: Sequence[RelayItem | None], maybe_run: bool) -> None:
        missing = [item for item in items if item is not None]
        if missing:
            self.returned.append(Returned(missing, MAYBE_RUN if maybe_run else NOT_RUN, row.in_order))

    def drain_returned(self) -> list[Returned]:
        """The commands that came back since the last call."""
        returned, self.returned = self.returned, []
        return returned

    def peer_renewed(self, peer: str) -> None:
        """`peer` has started anew, with another clock."""
        self._least_difference_ms.pop(peer, None)
        for covered in [covered for covered in self.covered if covered[0] == peer]:
            del self.covered[covered]  # their STORE was lost with the connection

    def silent_peers(self, now_ms: int) -> list[str]:
        """Peers that owe us a reply and have said nothing at all for longer than we are willing to wait."""
        state = self._state
        limit_ms = now_ms - state.config.relay_silence_ms
        silent = []
        for row in self._rows.values():
            if row.sent_ms > limit_ms:
                break
            if state.last_message_ms.get(row.peer, row.sent_ms) <= limit_ms and row.peer not in silent:
                silent.append(row.peer)
        return silent

    def expire(self, now_ms: int) -> None:
        """Ends the wait for what has waited longer than the coordinator's own deadline."""
        state = self._state
        self._awake_ms += state.config.tick_ms
        patience_ms = state.config.request_timeout_ms + _GRACE_MS
        for number, row in list(self._rows.items()):
            if row.begun_ms + patience_ms <= now_ms:
                del self._rows[number]
                state.in_flight -= row.missing
                self._again_all(row, row.items, True)
