"""Relays: sends a command to the node that coordinates its key, and brings the reply back.

Theory. A client may send any command to any node, but only the key's coordinator runs it. The commands of one turn with the
same coordinator and the same settings (`RelayRow.suits`) travel in one RELAY message. The coordinator runs them as if a
client had sent them. Their sink there is a `RelayedBatch`; it collects the replies for RELAYED messages.

Retry. If the coordinator is lost, this node sends the command to the key's next live owner. There is an exception: a
command that must not run twice (SET NX, for example) is not sent again if the lost coordinator may have run it. The client
gets an error that says that the outcome is unknown.

Stale relays. A coordinator may be suspended (SIGSTOP, a paused VM) while a relay lies in its receive buffer. The sender
gives up and sends the write to another owner. Later the first coordinator resumes. If it ran the write then, the old
write would get a new dot and would win over newer writes. So the coordinator refuses a relay that is too old, with the
reply STALE. relay_ages.py computes how old a relay is; the age limit is `relay_stale_ms`, or less if the sender would give
up sooner (silences.py). After a pause (base/pauses.py) it also refuses the younger relays that were sent before its end.
While it stood still, their senders may have sent later commands of the same keys to another owner. If the younger relays
ran now, they would run after those commands. The sender of a refused relay routes its commands anew.

A command with several steps (work/procedures.py) has the same problem if the coordinator is suspended between two steps. So
each step first calls `renew_or_refuse`. If the relay is too old by then, the step is refused with STALE. Otherwise the
coordinator extends the age limit of the relay, and sends a RELAYED message without replies: the sender then goes on
waiting. It does this at most once in `_PROGRESS_MS`. So a command may run for longer than the limit, as long as its
coordinator is not suspended.

Large commands. A large command travels in pieces (protocol/pieces.py), and small messages overtake it. No client can
see that: the commands of one key and settings that are relayed in one turn stay in one RELAY message, and those of
later turns wait until the earlier ones are answered (lanes.py). A large command shares its RELAY message only with
commands of its key, and a large reply has a RELAYED message of its own. So commands and replies of other keys do not
wait for it.

The messages of a traced request are sent before the turn ends (core/tracing/). So commands of one key and turn may be in
several RELAY messages. If one of them may travel in pieces, later RELAY messages of the turn do not overtake it.

Rolling upgrade. A coordinator of an earlier version answers a newer command with 'unknown command'. Then the client gets an
error that names that node. A feature that several commands need of their coordinator is announced as a capability
(protocol/peer_versions.py).

Chains. Commands of one key that depend on each other may be relayed together, to run in order (chains.py). They are
also retried together. A fourth option in the RELAY message marks such a chain. Only nodes that have announced the
ORDERLY capability receive it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from librt.strings import read_i32_be
from mypy_extensions import i64

from protocol.resp import OK
from server.core.base.errors import ErrorReply, covered_refused, of_earlier_version
from server.core.base.histogram import Histogram
from server.core.base.origins import Origin
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.messages.kinds import encode_relay, encode_relayed, relay_options
from server.core.messages.publications import KeyChange
from server.core.requests import relay_rows
from server.core.requests.relay_ages import RelayAges
from server.core.requests.relay_rows import MAYBE_RUN, NOT_RUN, OWN, UNREACHABLE, RelayItem, RelayRow, Returned, size_of
from server.core.requests.relay_sinks import RelayedBatch, RelayOrigin, SecondAttempt
from server.core.requests.silences import LARGE_BYTES, Silences, is_large
from server.core.requests.unanswered import came_late, is_slow

STALE: Final = ErrorReply.of("STALE the relay arrived too late")
_UNKNOWN: Final = (b"-ERR unknown command '", b"-ERR unknown subcommand '")  # from earlier versions
_ERROR: Final = 0x2D  # `-`, the first byte of an error
_FALLING_BACK: Final = (b"DYN.TRY", b"DYN.EVAL", b"DYN.EXEC")  # the senders of these fall back to other commands
_PROGRESS_MS = 300  # the interval at which the sender of a relay is told that its commands still run
PlacesOf = Callable[[Sequence[RelayItem | None]], list[int]]
_GRACE_MS = 500  # the sender waits longer by this, so that the coordinator's own error, which says more, arrives first


class Relays:
    """The relays in flight, sent and received.

    `returned` holds the commands to be routed once more, and why (`relay_rows.Returned`). At the end of the turn
    core/retries.py removes them, and routes each command or answers it with an error.
    """

    def __init__(self, state: State) -> None:
        self.returned: list[Returned] = []
        # Covered writes (writes.py): (coordinator, its write group) -> the commands that this node answers once it has
        # stored or refused that group, as (relay, indexes) pairs.
        self.covered: dict[tuple[str, int], list[tuple[int, bytes]]] = {}
        self._state = state
        self.times = Histogram()  # until the coordinator has replied, in us, measured in whole ms
        # The rows of this turn that have not been sent, by peer and settings.
        self._gathering: dict[tuple[str, bool, int, int, bool, Origin | None], RelayRow] = {}
        self._latest: dict[str, RelayRow] = {}  # by peer: the row of `_gathering` that was used last
        self._rows: dict[int, RelayRow] = {}  # sent, by number
        self._outgoing: list[RelayedBatch] = []  # received batches with replies to send
        self.ages = RelayAges()
        self.silences = Silences(state)
        self._large_bytes = state.config.large_message_bytes
        self._ahead: set[str] = set()  # peers that `launch_early` has sent a large RELAY in this turn; never iterated

    def forward(
        self, sink: Sink, number: int, args: list[bytes], peer: str, begun_ms: int = -1, in_order: bool = False
    ) -> None:
        """HOT. Sends a command to `peer` at the end of the turn. `in_order`: it is part of a chain.

        `begun_ms` is the start of a command that is sent again; -1 stands for now.
        """
        row = self._latest.get(peer)
        if row is None or not row.suits(sink, in_order):
            row = self._row_for(sink, peer, in_order)
            if row is None:
                self.returned.append(Returned([RelayItem(sink, number, args, begun_ms)], UNREACHABLE))
                return
        if begun_ms < 0:
            begun_ms = self._state.now_ms
        elif begun_ms < row.begun_ms:
            row.begun_ms = begun_ms
        row.items.append(RelayItem(sink, number, args, begun_ms))

    def begin(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """Queues a command that this node itself has made: `Retries` sends it on its way, in this turn or the next."""
        self.returned.append(Returned([RelayItem(sink, number, args)], OWN))

    def _row_for(self, sink: Sink, peer: str, in_order: bool) -> RelayRow | None:
        """Returns this turn's row for the settings of `sink`, or None if there is no link to `peer`."""
        state = self._state
        if peer not in state.links:
            return None
        settings = (peer, sink.resp3, sink.read_quorum, sink.write_quorum, in_order, sink.origin)
        row = self._gathering.get(settings)
        if row is None:
            row = self._gathering[settings] = RelayRow(state.next_number(), peer, state.now_ms, in_order, sink)
        self._latest[peer] = row
        return row

    def launch_early(self) -> None:
        """Launches before the turn ends. Notes the peers of large rows: later rows of this turn must not overtake these."""
        ahead = [row.peer for row in self._gathering.values() if size_of(row.items) >= self._large_bytes // 2]
        self.launch()
        self._ahead.update(ahead)

    def end_turn(self) -> None:
        """HOT. Launches the rows of this turn. Later commands of the same keys wait for their replies (lanes.py)."""
        self.launch()
        self._ahead.clear()

    def launch(self) -> None:
        """Sends the gathered RELAY messages, and the replies to other nodes' relays (RELAYED)."""
        state = self._state
        if self._gathering:
            gathering, self._gathering = self._gathering, {}
            self._latest.clear()
            for row in gathering.values():
                self._launch(row)
        if self._outgoing:
            for batch in self._outgoing:
                if batch.peer in state.links:
                    message = encode_relayed(state.clock_reading(), batch.number, batch.indexes, batch.replies)
                    if len(message) < self._large_bytes:
                        state.send(batch.peer, message)
                    else:
                        self._reply_one_by_one(batch)
                batch.indexes, batch.replies, batch.is_outgoing = [], [], False
            self._outgoing.clear()  # in place: the batches append themselves to this list

    def _launch(self, row: RelayRow) -> None:
        """HOT. Sends a row as a RELAY message, or as several if it is large."""
        options = relay_options(row.resp3, row.read_quorum, row.write_quorum, row.in_order)
        message = self._track(row, options)
        if len(message) < self._large_bytes:
            self._send(row.peer, message)
        else:
            self._send_split(row, options)

    def _send(self, peer: str, message: bytes) -> None:
        """HOT. Sends a RELAY message, behind a large one that `launch_early` has sent to the same peer in this turn."""
        if peer in self._ahead:
            self._state.send_behind(peer, message)
        else:
            self._state.send(peer, message)

    def _reply_one_by_one(self, batch: RelayedBatch) -> None:
        """Sends each reply of a batch in a message of its own, so that small replies do not wait for a large one."""
        for index, reply in zip(batch.indexes, batch.replies, strict=True):
            message = encode_relayed(self._state.clock_reading(), batch.number, [index], [reply])
            self._state.send(batch.peer, message)

    def _track(self, row: RelayRow, options: list[bytes]) -> bytes:
        """HOT. Enters a row among the relays in flight, and returns its RELAY message."""
        state = self._state
        row.missing = len(row.items)
        state.in_flight += row.missing
        state.statistics.relays += row.missing
        self._rows[row.number] = row
        commands = [item.args for item in row.items if item is not None]
        message = encode_relay(state.clock_reading(), row.number, row.sent_ms, options, commands)
        row.goes_on_waiting = len(message) > LARGE_BYTES
        return message

    def _send_split(self, row: RelayRow, options: list[bytes]) -> None:
        """Sends a row as several RELAY messages (`by_size`), of which the small ones arrive in order."""
        state = self._state
        del self._rows[row.number]
        state.in_flight -= row.missing
        state.statistics.relays -= row.missing
        for items in row.by_size(self._large_bytes):
            part = RelayRow(state.next_number(), row.peer, row.sent_ms, row.in_order, row)
            part.begun_ms = min([item.begun_ms for item in items])
            part.items += items
            self._send(row.peer, self._track(part, options))

    def relayed(
        self, peer: str, number: int, sent_ms: int, options: Sequence[bytes], commands: list[list[bytes]]
    ) -> RelayedBatch | None:
        """HOT. Handles RELAY: `peer` has relayed commands to us. Returns their sink; None if the relay is stale."""
        state = self._state
        left_ms = state.now_ms - self.ages.note(peer, sent_ms, state.now_ms)  # when it was sent, by our clock
        stale_after_ms = left_ms + state.config.relay_stale_ms
        batch = RelayedBatch(peer, number, options, commands, self._outgoing, stale_after_ms, state.now_ms)
        if state.pauses.is_outdated(left_ms) or (
            state.now_ms > left_ms + self.silences.stale_ms(peer)
            and (state.now_ms > stale_after_ms or not is_large(commands))
        ):
            self._reply_stale(batch, len(commands))
            return None
        if peer in state.attributing:
            batch.origin = RelayOrigin(state, peer, number)
        return batch

    def reply_stale(self, peer: str, number: int, options: Sequence[bytes], commands: list[list[bytes]]) -> None:
        """Answers STALE to all commands of a relay. None of them has run, so the sender may retry them."""
        now_ms = self._state.now_ms
        batch = RelayedBatch(peer, number, options, commands, self._outgoing, now_ms, now_ms)
        self._reply_stale(batch, len(commands))

    def _reply_stale(self, batch: RelayedBatch, count: int) -> None:
        self._state.statistics.relays_stale += count
        for index in range(count):
            batch.answer(index, STALE)

    def is_stale(self, sink: Sink) -> bool:
        """Whether the sink's commands were relayed so long ago that the sender may have retried them elsewhere."""
        return sink.relayed and isinstance(sink, RelayedBatch) and self._has_expired(sink)

    def _has_expired(self, batch: RelayedBatch) -> bool:
        state = self._state
        return state.now_ms > batch.stale_after_ms or state.pauses.is_outdated(batch.came_ms)

    def stale_check(self, sink: Sink) -> Callable[[], ErrorReply | None]:
        """Returns a function that calls `renew_or_refuse`, for a procedure of several steps to call before each step."""
        return lambda: self.renew_or_refuse(sink)

    def renew_or_refuse(self, sink: Sink) -> ErrorReply | None:
        """Returns STALE if the sink's commands are stale, else None. Extends the age limit of commands that are not stale,
        and tells the sender that they still run: both at most once in `_PROGRESS_MS`."""
        if not sink.relayed or not isinstance(sink, RelayedBatch):
            return None
        state = self._state
        if self._has_expired(sink):
            return STALE
        if state.now_ms - sink.told_ms >= _PROGRESS_MS:
            sink.told_ms = state.now_ms
            sink.stale_after_ms = state.now_ms + state.config.relay_stale_ms
            if not sink.is_outgoing:
                sink.is_outgoing = True
                self._outgoing.append(sink)
        return None

    def cover(self, peer: str, number: int, group: int, indexes: bytes) -> None:
        """Handles COVERED: `peer` will not reply to these commands of relay `number`. This node answers them itself once it
        has stored or refused the records of `group`, which `peer` sends next."""
        self.covered.setdefault((peer, group), []).append((number, indexes))

    def stored(self, peer: str, group: int, refusal: str | None) -> None:
        """Answers the covered writes of a group of `peer`, which this node has stored or refused.

        If this node has refused the group because its disk is full, it first relays each write once more. By now the
        coordinator knows of the full disk (FULL). So it does not cover the second attempt, but answers the write itself.
        """
        reply: bytes = OK
        if refusal is not None:
            reply = covered_refused(refusal)
        retry_first = refusal is not None and self._state.disk_full
        for number, indexes in self.covered.pop((peer, group)):
            self.replied(number, indexes, [reply] * (len(indexes) // 4), retry_first)

    def made(self, peer: str, number: int, change: KeyChange) -> None:
        """Handles MADE: a command of relay `number` has made a change."""
        row = self._rows.get(number)
        if row is not None and row.peer == peer and row.origin is not None:
            row.origin.made(change)

    def command_count(self, number: int) -> int | None:
        """Returns how many commands relay `number` has, or None if it is not in flight."""
        row = self._rows.get(number)
        return None if row is None else len(row.items)

    def replied(self, number: int, indexes: bytes, replies: list[bytes], retry_first: bool = False) -> None:
        """Handles RELAYED: replies to some commands of relay `number`. If `replies` is empty, they are still running.

        `retry_first`: a command whose reply is an error is relayed once more before it gets that error."""
        row = self._rows.get(number)
        if row is None:
            return
        items, state = row.items, self._state
        if not replies:  # the commands still run (`renew_or_refuse`): `expire` counts their time from now
            row.begun_ms = state.now_ms
        self.times.add(1000 * (state.now_ms - row.sent_ms), len(replies))
        stale: list[RelayItem] = []
        offset: i64 = 0
        for reply in replies:
            index = i64(read_i32_be(indexes, offset))
            offset += 4
            item = items[index]
            if item is None:
                continue
            items[index] = None
            row.missing -= 1
            state.in_flight -= 1
            if not reply or reply[0] != _ERROR:
                item.sink.answer(item.number, reply)
            elif reply == STALE:
                stale.append(item)
            else:
                self._answer_error(row, item, reply, retry_first)
        if not row.missing:
            self._rows.pop(number, None)
        if stale:
            self._retry_row(row, stale, False, came_late(self._state.layout_name(row.peer)))

    def _answer_error(self, row: RelayRow, item: RelayItem, reply: bytes, retry_first: bool) -> None:
        """Answers a command with the coordinator's error, or retries it first: see `replied`."""
        if retry_first and not isinstance(item.sink, SecondAttempt):
            self.returned.append(Returned([item], MAYBE_RUN, refusal=reply))
        elif reply.startswith(_UNKNOWN) and item.args[0] not in _FALLING_BACK:
            name = item.args[0].decode("latin-1")
            item.sink.answer(item.number, of_earlier_version(self._state.layout_name(row.peer), name))
        else:
            item.sink.answer(item.number, reply)

    def peer_lost(self, peer: str, trouble: str) -> None:
        """The link to `peer` broke: retries all relays to it, sent and unsent. That is safe: those in the receive buffer of
        `peer` are lost, or too old to run there."""
        self.give_up(peer, trouble, self._state.now_ms)

    def give_up(self, peer: str, trouble: str, sent_until_ms: int, places_of: PlacesOf | None = None) -> None:
        """Retries the relays to `peer` that were sent until `sent_until_ms`, and the unsent ones. A relay that was sent
        later is not stale yet, so `peer` may still run it if it was only suspended. `trouble` is the reason. `places_of` is
        given if that is early (silences.py): then of each row only the commands at these places are retried, and no large
        relays."""
        unsent = [settings for settings, row in self._gathering.items() if row.peer == peer]
        for settings in unsent:
            row = self._gathering.pop(settings)
            self._latest.pop(peer, None)
            self._retry_row(row, row.items, False, trouble)
        for row in list(self._rows.values()):
            if row.peer == peer and row.sent_ms <= sent_until_ms and (places_of is None or not row.goes_on_waiting):
                items = row.remove(range(len(row.items)) if places_of is None else places_of(row.items))
                self._state.in_flight -= len(items)
                row.goes_on_waiting = True
                if not row.missing:
                    del self._rows[row.number]
                self._retry_row(row, items, True, trouble)

    def _retry_row(self, row: RelayRow, items: Sequence[RelayItem | None], maybe_run: bool, trouble: str) -> None:
        """Retries `items` of a row. `maybe_run`: the coordinator may have run them already."""
        missing = [item for item in items if item is not None]
        if missing:
            self.returned.append(Returned(missing, MAYBE_RUN if maybe_run else NOT_RUN, trouble, row.in_order))

    def drain_returned(self) -> list[Returned]:
        """Returns and removes the commands that came back."""
        returned, self.returned = self.returned, []
        return returned

    def peer_restarted(self, peer: str) -> None:
        """Forgets the delays and covered writes of a peer that has connected anew, perhaps as a process with a new
        clock."""
        self.ages.forget(peer)
        self.silences.greeted(peer)
        for covered in [covered for covered in self.covered if covered[0] == peer]:
            del self.covered[covered]  # the STORE that would have answered these was lost with the connection

    def silent_early(self, now_ms: int) -> list[tuple[str, int]]:
        """Returns the peers that are silent before `relay_silence_ms` is over, and for how long (silences.py)."""
        return self.silences.silent(now_ms, relay_rows.owing_peers(self._rows.values()))

    def silent_peers(self, now_ms: int) -> list[str]:
        """Returns the peers that have not replied to a relay and have sent nothing at all for `relay_silence_ms`."""
        limit_ms = now_ms - self._state.config.relay_silence_ms
        return relay_rows.silent_peers(self._rows.values(), self._state.last_message_ms, limit_ms)

    def expire(self, now_ms: int) -> None:
        """With each tick: gives up relays that have waited `_GRACE_MS` longer than the coordinator's own deadline."""
        state = self._state
        self.ages.awake_ms += state.config.tick_ms
        wait_ms_max = state.config.request_timeout_ms + _GRACE_MS
        for number, row in list(self._rows.items()):
            if row.begun_ms + wait_ms_max <= now_ms:
                del self._rows[number]
                state.in_flight -= row.missing
                self._retry_row(row, row.items, True, is_slow(state.layout_name(row.peer), now_ms - row.begun_ms))
