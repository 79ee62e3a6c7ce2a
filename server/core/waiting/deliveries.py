"""Elements on their way from a key to a waiting client: if they do not reach it, they are put back.

The problem. A blocking pop removes an element and then tells its client. In between, the client, its node or the
coordinator may be lost. A client whose connection broke cannot know that something was popped for it.

The idea. While an element is on its way, at least one node that is not lost knows how to put it back. The *home* is the
node of the client.

    who is lost                what happens                                                   who puts it back
    the client                 its home answers SETTLED (returned)                            the coordinator
    the home, or its answer    no SETTLED comes until `Delivery.due_ms`, or the link breaks   the coordinator
    the coordinator            the other owners got ESCROW, together with the removal, and    one of them; a second one
                               no CLEARED: the coordinator is down, or another process        changes nothing (by the id)
    all of them                the coordinator finds the delivery on its disk                 the coordinator

The home sends SETTLED some 100 ms after the reply has left, so that a reply that is lost in a socket of its machine does
not count as delivered. Under fsync `always` the reply leaves when its turn is synced. If the client has hung up by then,
the home answers SETTLED (returned). If the coordinator itself is the home, it sends CLEARED to the owners instead. An
element is put back at the end of the list from which it was taken. A delivery is stored in the same batch as the removal,
and deleted when it is cleared. After a restart a coordinator waits for `RECOVER_MS`, so that other nodes can tell it
(SETTLED) which elements they have put back meanwhile.

An element may be delivered twice: it is put back although the reply has arrived. That happens only if a node has died, was
suspended, or was cut off, or if the syncs under `always` take about a second each.

A move (BLMOVE) needs none of this: its element is in the destination before it leaves the source.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final

from xxhash import xxh3_64_digest

from protocol.resp import Reply
from server.core.base.routing import Plan
from server.core.base.sinks import Session, Sink
from server.core.base.state import State
from server.core.messages.queues import (
    PUT_BACK,
    Opened,
    Settled,
    encode_cleared,
    encode_escrow,
    encode_opened,
    encode_settled,
)
from server.core.records.records import META
from server.core.requests.relays import Relays
from server.core.work.timers import Timers

RETRY_MS: Final = 500
RECOVER_MS: Final = 3000
_ROWS: Final = META + b"delivery"  # prefix of the stored deliveries, each under its number
_PAGE: Final = 1000
_CHECKSUM_BYTES: Final = 8
_GRACE_MS: Final = 5000  # for the reply: its slices, its sync, two ticks, and the sync of SETTLED
_pack_size = struct.Struct(">I").pack
KNOWN_MAX: Final = 4096  # ids of elements that were put back here
_OTHER_TYPE: Final = b"-WRONGTYPE"  # somebody has set the key to something else, and so overwritten the whole list


def _row_key(number: int) -> bytes:
    return _ROWS + number.to_bytes(8, "big")


def word_of_row(word: bytes) -> bytes:
    """A word as a stored delivery has it."""
    return _pack_size(len(word)) + word


def _encoded(words: list[bytes], others: bytes) -> bytes:
    """A delivery as it is stored: words, and behind them `others`, which are encoded already."""
    body = b"".join([*map(word_of_row, words), others])
    return xxh3_64_digest(body) + body


def _decoded(value: bytes) -> list[bytes]:
    """The words of a stored delivery; none if it is damaged."""
    body, words, place = value[_CHECKSUM_BYTES:], [], 0
    if xxh3_64_digest(body) != value[:_CHECKSUM_BYTES]:
        return []
    while place < len(body):
        (size,) = struct.unpack_from(">I", body, place)
        place += 4
        words.append(body[place : place + size])
        place += size
    return words


class Delivery:
    """An element, or several of one command, that this node has popped for a client of `home`."""

    __slots__ = ("due_ms", "escrow_nodes", "home", "number", "words")

    def __init__(self, number: int, home: str, escrow_nodes: list[str], words: list[bytes], due_ms: int) -> None:
        self.number = number
        self.home = home
        self.escrow_nodes = escrow_nodes  # the nodes that got ESCROW
        self.words = words  # the command that puts it back
        self.due_ms = due_ms


class Deliveries:
    """What is on its way from keys of this node, to clients of this node, and what it keeps for other coordinators."""

    def __init__(self, state: State, relays: Relays, timers: Timers) -> None:
        self._state = state
        self._relays = relays
        self._timers = timers
        self._open: dict[int, Delivery] = {}  # those of this node, the oldest first
        self._kept: dict[str, dict[int, list[bytes]]] = {}  # coordinator -> number -> the command of a return
        self._fresh: list[tuple[str, int, Session]] = []  # replies of this turn: coordinator, number, client
        # (turn, coordinator, number, session) of replies that are not sent yet
        self.unsent: deque[tuple[int, str, int, Session]] = deque()
        self._told: list[tuple[str, int]] = []  # replies that have left since the last tick: coordinator, number
        self._told_before: list[tuple[str, int]] = []  # the same in the tick before
        self._untold: list[tuple[str, int]] = []  # replies whose connections ended before these left
        self._known: dict[bytes, None] = {}  # ids of elements that were put back here, the oldest first
        self._returning = 0
        self._is_stopping = False
        self._first_number = state.next_number()
        self._recovered: dict[int, list[bytes]] = {}  # deliveries that an earlier run of this node has left open
        self._recover_ms = -1  # when they are put back
        self._returned: dict[str, list[int]] = {}  # coordinator -> its deliveries that were put back while it was away
        self.load()

    # --- the coordinator

    def open(self, home: str, plan: Plan, key: bytes, end: bytes, values: list[bytes], row: bytes) -> int:
        """Elements are about to be removed from `key` for a client of `home`. `row` is what `word_of_row` makes of each of
        them: they may be very many. Returns the number of the delivery."""
        state = self._state
        number = state.next_number()
        command = [PUT_BACK, key, b"%b:%d" % (state.id.encode(), number), end]
        words = command + values
        escrow_nodes = [peer for peer in plan.live_peers if peer in state.queueing and peer in state.links]
        escrow_nodes += [node for _, node in plan.stand_ins if node in state.queueing and node in state.links]
        message = encode_escrow(state.clock_reading(), number, words) if escrow_nodes else b""
        for peer in escrow_nodes:
            state.send(peer, message)
        state.records.put_raw(_row_key(number), _encoded(command, row))
        due_ms = state.now_ms + state.config.request_timeout_ms + _GRACE_MS
        self._open[number] = Delivery(number, home, escrow_nodes, words, due_ms)
        return number

    def settled(self, home: str, settled: Settled) -> None:
        """SETTLED: what has become of deliveries to clients of `home`."""
        for number in settled.delivered:
            self._clear(self._open.pop(number, None))
            if number in self._recovered:
                self._drop_recovered(number)
        for number in settled.returned:
            self._return(number)

    def _clear(self, delivery: Delivery | None) -> None:
        state = self._state
        if delivery is not None:
            state.records.put_raw(_row_key(delivery.number), None)
            for peer in delivery.escrow_nodes:
                if peer in state.links:
                    state.send(peer, encode_cleared(state.clock_reading(), [delivery.number]))

    def _return(self, number: int) -> None:
        """Puts back the elements of a delivery. The nodes with ESCROW are told when that is done."""
        delivery = self._open.pop(number, None)
        if delivery is not None:
            self._put_back(delivery.words, delivery)

    def home_lost(self, home: str) -> None:
        """The link to a home broke, or it is another process now: what it has not confirmed is put back."""
        for number in [number for number, delivery in self._open.items() if delivery.home == home]:
            self._return(number)

    def cancel(self, number: int) -> None:
        """Nothing was removed after all."""
        self._clear(self._open.pop(number, None))

    # --- the home

    def deliver(self, coordinator: str, number: int, session: Session | None) -> None:
        """A delivery has come from its coordinator. Its client is answered in this turn; None: it has gone before."""
        if session is not None:
            self._fresh.append((coordinator, number, session))
        else:
            self._send_back(coordinator, number)

    def end_turn(self) -> None:
        """The replies of this turn leave as soon as it is committed, and, under fsync `always`, synced."""
        for reply in self._fresh:
            self.unsent.append((self._state.statistics.turns, *reply))
        self._fresh.clear()

    def sent(self, turn: int) -> None:
        """The replies of a turn have left, except those to connections that ended before."""
        while self.unsent and self.unsent[0][0] <= turn:
            _, coordinator, number, session = self.unsent.popleft()
            (self._untold if session.has_left else self._told).append((coordinator, number))

    def _send_back(self, coordinator: str, number: int) -> None:
        state = self._state
        if coordinator == state.id:
            self._return(number)
        elif coordinator in state.links:
            state.send(coordinator, encode_settled(state.clock_reading(), Settled([], [number])))

    def _send_untold_back(self) -> None:
        untold, self._untold = self._untold, []
        for coordinator, number in untold:
            self._send_back(coordinator, number)

    def _send_settled(self, delivered: Sequence[tuple[str, int]]) -> None:
        """Tells the coordinators that the replies with these elements have left."""
        state = self._state
        by_coordinator: dict[str, list[int]] = {}
        for coordinator, number in delivered:
            by_coordinator.setdefault(coordinator, []).append(number)
        for coordinator, numbers in by_coordinator.items():
            if coordinator == state.id:
                self.settled(coordinator, Settled(numbers, []))
            elif coordinator in state.links:
                state.send(coordinator, encode_settled(state.clock_reading(), Settled(numbers, [])))

    # --- those who keep

    def keep(self, coordinator: str, number: int, words: list[bytes]) -> None:
        """ESCROW: a coordinator is about to remove elements; this is the command that puts them back."""
        self._kept.setdefault(coordinator, {})[number] = words

    def cleared(self, coordinator: str, numbers: Sequence[int]) -> None:
        """CLEARED: these need not be put back by this node."""
        kept = self._kept.get(coordinator)
        if kept is not None:
            for number in numbers:
                kept.pop(number, None)
            if not kept:
                del self._kept[coordinator]

    def connected(self, peer: str) -> None:
        """Our link to a peer is open: what was cleared meanwhile it has not heard of."""
        state = self._state
        if peer in state.queueing:
            numbers = [number for number, delivery in self._open.items() if peer in delivery.escrow_nodes]
            state.send(peer, encode_opened(state.clock_reading(), Opened(self._first_number, numbers)))
            self._tell_returned(peer)

    def opened(self, coordinator: str, opened: Opened) -> None:
        """OPENED: all open deliveries of a coordinator. What an earlier process has left open is put back."""
        kept = self._kept.pop(coordinator, {})
        still = dict.fromkeys(opened.numbers)
        for number, words in kept.items():
            if number < opened.first:
                self._put_back(words)
            elif number in still:
                self.keep(coordinator, number, words)

    # --- after a restart

    def load(self) -> None:
        """Loads the deliveries that an earlier run of this node has left open."""
        start = _ROWS
        while page := self._state.records.page(start, _ROWS + b"\xff", _PAGE):
            for name, value in page:
                words = _decoded(value)
                if words:
                    self._recovered[int.from_bytes(name[len(_ROWS) :], "big")] = words
                else:
                    self._state.records.put_raw(name, None)
            start = page[-1][0] + b"\0"

    def _drop_recovered(self, number: int) -> None:
        del self._recovered[number]
        self._state.records.put_raw(_row_key(number), None)

    def _recover(self, now_ms: int) -> None:
        """Puts back what nobody else has put back."""
        if self._recover_ms < 0:
            self._recover_ms = now_ms + RECOVER_MS
        elif self._recover_ms <= now_ms and self._state.layout is not None:
            for number, words in list(self._recovered.items())[:_PAGE]:
                del self._recovered[number]
                self._put_back(words, Delivery(number, "", [], words, 0))

    # --- putting back

    def _put_back(self, words: list[bytes], delivery: Delivery | None = None) -> None:
        self._returning += 1
        self._relays.begin(_Return(self, words, delivery), 0, words)

    def put_back_answered(self, words: list[bytes], delivery: Delivery | None, reply: bytes) -> None:
        """An attempt to put elements back has ended: if it could not be done now, it is tried again."""
        self._returning -= 1
        if reply[:1] == b"-" and not reply.startswith(_OTHER_TYPE):
            self._timers.call_at(self._state.now_ms + RETRY_MS, partial(self._put_back, words, delivery))
            return
        self._state.statistics.elements_put_back += 1
        self._clear(delivery)
        if delivery is None:
            self._note_returned(words[2])

    def _note_returned(self, name: bytes) -> None:
        """What was put back for another coordinator: it is told now, or when it is back."""
        coordinator, _, number = name.decode().rpartition(":")
        numbers = self._returned.setdefault(coordinator, [])
        numbers.append(int(number))
        del numbers[:-KNOWN_MAX]
        self._tell_returned(coordinator)

    def _tell_returned(self, coordinator: str) -> None:
        state = self._state
        if coordinator in self._returned and coordinator in state.links and coordinator in state.queueing:
            settled = Settled(self._returned.pop(coordinator), [])
            state.send(coordinator, encode_settled(state.clock_reading(), settled))

    def is_known(self, name: bytes) -> bool:
        """Whether the element of that id was put back here before."""
        return name in self._known

    def note_known(self, name: bytes) -> None:
        """The element of that id is put back."""
        if len(self._known) >= KNOWN_MAX:
            del self._known[next(iter(self._known))]
        self._known[name] = None

    def forget_known(self, name: bytes) -> None:
        """It was not put back after all."""
        self._known.pop(name, None)

    # --- time

    def tick(self, now_ms: int) -> None:
        """Tells what was delivered a tick ago, and puts back what has not reached its client, was not confirmed in time,
        or was lost with its coordinator."""
        if self._recovered:
            self._recover(now_ms)
        self._send_untold_back()
        if self._told_before or self._told:
            told, self._told_before, self._told = self._told_before, self._told, []
            self._send_settled(told)
        while self._open:
            delivery = next(iter(self._open.values()))
            if delivery.due_ms > now_ms:
                break
            self._return(delivery.number)
        for coordinator in list(self._kept):
            if coordinator not in self._state.links and not self._state.liveness.is_live(coordinator):
                for words in self._kept.pop(coordinator).values():
                    self._put_back(words)

    def stop(self) -> None:
        """The node is about to stop: it tells at once what was delivered."""
        self._is_stopping = True

    def unsettled(self) -> int:
        """How many deliveries are on their way from this node or to it, or are to be put back by it."""
        told = len(self._fresh) + len(self.unsent) + len(self._told) + len(self._told_before) + len(self._untold)
        return len(self._open) + len(self._recovered) + self._returning + told

    def is_settled(self) -> bool:
        """At the end of a turn of a node that stops: whether nothing is on its way from it or to it."""
        if self._is_stopping:
            told, self._told_before, self._told = self._told_before, self._told, []
            self._send_settled(told)
            self._send_untold_back()
        return not self.unsettled()


class _Return(Sink):
    """The sink of a command that puts elements back."""

    def __init__(self, deliveries: Deliveries, words: list[bytes], delivery: Delivery | None) -> None:
        super().__init__()
        self._deliveries = deliveries
        self._words = words
        self._delivery = delivery

    def answer(self, number: int, reply: Reply) -> None:
        """It is done, or could not be done."""
        assert isinstance(reply, bytes)
        self._deliveries.put_back_answered(self._words, self._delivery, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the words of the command."""
        return self._words
