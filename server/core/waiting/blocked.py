"""The clients of this node that wait for an element, and their attempts to get one.

Theory. A client has a list of keys to try, at first all of its keys, in order. It has one attempt (DYN.TRY) in flight at a
time. An attempt that finds nothing leaves a row at the key's coordinator. Once there is no key left to try, the client
waits. A WAKE names a key to try again. When an attempt brings an element, the client is answered, and FORGET removes its
rows at other coordinators.

If the client's time limit passes, or CLIENT UNBLOCK ends its wait, this node first waits for the attempt in flight, which
may bring an element. So a BLPOP with a limit of a millisecond still gets an element that is there. A connection that ends
does not wait: an element that its attempt brings is put back (deliveries.py).

Errors of the first attempts are the reply to the client, as for any other command. Later attempts belong to a client that
may have waited for hours. So they are repeated every `RETRY_MS` while there is no quorum. They are repeated, too, if they
read a stream whose coordinator is of an earlier version, which keeps no rows for streams."""

from __future__ import annotations

from collections import deque
from functools import partial
from typing import Final

from protocol import resp
from protocol.databases import Numbering, client_key, inner_key, space_of
from protocol.resp import LargeReply, Reply
from protocol.slots import key_slot
from server.core.base.routing import Route
from server.core.base.sinks import Session, Sink
from server.core.base.state import State
from server.core.messages.queues import encode_forget
from server.core.requests.relays import Relays
from server.core.waiting.calls import BlockingCall
from server.core.waiting.deliveries import Deliveries
from server.core.waiting.long_replies import LongReply
from server.core.work.timers import Timers

RETRY_MS: Final = 250
SUSPENDED_MS: Final = 1000  # a tick that is later than this: the node was suspended
READING_MS: Final = 100  # to read what has come meanwhile
REVIEWED_PER_TURN: Final = 256  # clients whose rows are looked at in one turn after a change of routes
TRY: Final = b"DYN.TRY"  # key, home, number, FIRST or AGAIN, operation …
READ: Final = b"XREAD"  # the operation of an attempt that reads a stream
FIRST, AGAIN = b"0", b"1"
UNBLOCKED: Final = resp.error("UNBLOCKED client unblocked via CLIENT UNBLOCK")
NEEDS_QUEUES: Final = (
    "ERR blocking commands need a version that has them on every node, and the node{} that coordinates this key has "
    "not announced it"
)
_UNKNOWN: Final = b"ERR unknown command 'DYN.TRY'"
_TEMPORARY: Final = (b"-NOQUORUM", b"-TIMEOUT", b"-BUSY", b"-STALE", b"-DISKFULL", b"-ERR node")


class BlockedClient(Sink):
    """A client in a blocking command: the sink of its attempts."""

    def __init__(self, blocked: Blocked, session: Session, slot: int, wanted: BlockingCall, state: State) -> None:
        super().__init__(session)
        self.session = session
        self.slot = slot  # the number of the command in its session
        self.number = state.next_number()
        self.wanted = wanted
        self.rows: dict[bytes, str] = {}  # key -> the coordinator that has a row for it
        self.asked: dict[str, None] = {}  # the nodes that may have a row, by an attempt whose reply was lost
        self.to_try: deque[bytes] = deque(wanted.keys)
        self.trying: bytes | None = None
        self.paused: dict[bytes, None] = {}  # the keys that a timer tries again
        self.is_first = True  # not all keys have been tried once
        self.is_over = False  # it was answered, or its connection has ended
        self.outcome: bytes | None = None  # its reply, if the attempt under way brings nothing
        self.timer = 0
        self.numbering = state.numbering  # of databases, by which the keys are inner keys
        self._blocked = blocked

    def answer(self, number: int, reply: Reply) -> None:
        """An attempt has ended."""
        self._blocked.tried(self, reply.joined() if isinstance(reply, LargeReply) else reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the client's command."""
        return self.session.command(self.slot)


class Blocked:
    """All clients of this node that are in blocking commands, by number."""

    def __init__(self, state: State, relays: Relays, timers: Timers, deliveries: Deliveries) -> None:
        self._state = state
        self._relays = relays
        self._timers = timers
        self._deliveries = deliveries
        self._clients: dict[int, BlockedClient] = {}
        self._at: dict[str, dict[int, None]] = {}  # coordinator -> the clients that have rows there
        self._forgets: dict[str, list[int]] = {}  # coordinator -> clients to be forgotten there, at the end of the turn
        self._to_review: dict[int, None] = {}
        self._is_reviewing = False
        self._routes: list[Route] = []  # `State.routes` when the clients were reviewed last
        self.waiting = 0  # clients that have found nothing so far
        self._ticked_ms = state.now_ms
        self._late_until_ms = -1  # until then this node reads what has come while it was suspended

    # --- a command

    def begin(self, session: Session, slot: int, wanted: BlockingCall, numbering: Numbering | None = None) -> None:
        """A client's blocking command begins; the session gets its reply some time. `numbering`: of databases, by which its
        keys are inner keys; None: the present one."""
        self._state.has_waited = True
        client = BlockedClient(self, session, slot, wanted, self._state)
        client.numbering = numbering or self._state.numbering
        self._clients[client.number] = client
        session.blocked = client.number
        if wanted.deadline_ms:
            client.timer = self._timers.call_at(wanted.deadline_ms, partial(self._end, client, wanted.nothing))
        self._next(client)

    def _next(self, client: BlockedClient) -> None:
        """Begins the next attempt, unless one is under way or there is nothing to try."""
        if client.trying is not None or client.is_over:
            return
        if client.outcome is not None:
            self._answer(client, client.outcome)
        elif client.numbering is not self._state.numbering:
            self._to_review[client.number] = None
            self._review_soon()
        elif client.to_try:
            key = client.trying = client.to_try.popleft()
            home = self._state.id.encode()
            again = FIRST if client.is_first else AGAIN
            words = [TRY, key, home, b"%d" % client.number, again]
            words += [*client.wanted.operation, *client.wanted.by_key.get(key, ())]
            client.asked[self._coordinator(key, client.wanted.deletes)] = None
            self._relays.begin(client, 0, words)
        elif client.is_first:
            client.is_first = False
            client.session.is_waiting = True
            self.waiting += 1

    def tried(self, client: BlockedClient, reply: bytes) -> None:
        """An attempt has ended with this reply: an error, or coordinator [number of the delivery, values …].

        After this node was suspended, its clients may have gone long ago: what ends their connections is read first.
        """
        now_ms = self._state.now_ms
        if now_ms < self._late_until_ms or now_ms - self._ticked_ms > SUSPENDED_MS:
            self._timers.call_at(now_ms + READING_MS, partial(self.tried, client, reply))
            return
        key, client.trying = client.trying, None
        assert key is not None, "an attempt has ended that was not begun"
        if reply[:1] == b"-":
            self._failed(client, key, reply)
            return
        coordinator, *popped = resp.bulks_of(reply)
        node = coordinator.decode()
        if not popped:
            if node:
                self._enter_row(client, key, node)
            else:
                self._try_later(client, key)
            self._next(client)
            return
        told = client.wanted.reply(key, popped[1:])
        if isinstance(told, bytes):
            self._popped(client, node, popped[0], told)
        else:
            client.trying = key  # no attempt begins meanwhile
            made = partial(self._popped, client, node, popped[0])
            LongReply(client, made).begin(told, self._state, self._timers)

    def _popped(self, client: BlockedClient, node: str, delivery: bytes, reply: bytes) -> None:
        """The reply of what an attempt has popped is made. `delivery` is its number at its coordinator `node`, or nothing
        if it was no removal. If `reply` is an error, what was popped is put back."""
        client.trying = None
        if delivery:
            gone = client.is_over or reply[:1] == b"-"
            self._deliveries.deliver(node, int(delivery), None if gone else client.session)
        if not client.is_over:
            client.rows = {each: at for each, at in client.rows.items() if at != node}  # it has removed them
            self._at.get(node, {}).pop(client.number, None)
            self._answer(client, reply)

    def _failed(self, client: BlockedClient, key: bytes, error: bytes) -> None:
        if client.is_over:
            return
        if _UNKNOWN in error:  # the next owner, after another one was lost, is of an earlier version
            error = resp.error(NEEDS_QUEUES.format(""))
        if client.is_first or not error.startswith(_TEMPORARY):
            self._answer(client, error)
            return
        self._try_later(client, key)
        self._next(client)

    def _try_later(self, client: BlockedClient, key: bytes) -> None:
        if key not in client.paused:
            client.paused[key] = None
            self._timers.call_at(self._state.now_ms + RETRY_MS, partial(self._end_pause, client, key))

    def _end_pause(self, client: BlockedClient, key: bytes) -> None:
        del client.paused[key]
        self._try_again(client, key)

    def _try_again(self, client: BlockedClient, key: bytes) -> None:
        if not client.is_over and key not in client.to_try and key in client.wanted.keys:
            client.to_try.append(key)
            self._next(client)

    # --- rows

    def _enter_row(self, client: BlockedClient, key: bytes, node: str) -> None:
        if client.is_over:
            self._forget(node, client.number)
            return
        if client.rows.get(key, node) != node:
            self._leave(client, key)
        client.rows[key] = node
        self._at.setdefault(node, {})[client.number] = None

    def _leave(self, client: BlockedClient, key: bytes) -> None:
        """A row is of no use: its key has another coordinator by now."""
        node = client.rows.pop(key)
        if node not in client.rows.values():
            self._forget(node, client.number)
            self._at.get(node, {}).pop(client.number, None)

    def woken(self, number: int, key: bytes, node: str) -> None:
        """WAKE of a coordinator: a key may have something for a client."""
        client = self._clients.get(number)
        if client is None:
            self._forget(node, number)
        else:
            self._try_again(client, key)

    def _forget(self, node: str, number: int) -> None:
        self._forgets.setdefault(node, []).append(number)

    def drain_forgets(self) -> list[int]:
        """At the end of the turn: tells coordinators which clients have ended. Returns those with rows of this node."""
        if not self._forgets:
            return []
        state, forgets = self._state, self._forgets
        self._forgets = {}
        for node, numbers in forgets.items():
            if node in state.links and node in state.queueing:
                state.send(node, encode_forget(state.clock_reading(), numbers))
        return forgets.get(state.id, [])

    # --- the end of a command

    def _end(self, client: BlockedClient, outcome: bytes) -> None:
        """Answers a client, if the attempt under way brings nothing."""
        client.outcome = client.outcome or outcome
        self._next(client)

    def _answer(self, client: BlockedClient, reply: bytes) -> None:
        self._remove(client)
        client.session.answer(client.slot, reply)

    def _remove(self, client: BlockedClient) -> None:
        client.is_over = True
        del self._clients[client.number]
        session = client.session
        self.waiting -= session.is_waiting
        session.blocked, session.is_waiting = 0, False
        if client.timer:
            self._timers.cancel(client.timer)
        self._forget_rows(client)

    def _forget_rows(self, client: BlockedClient) -> None:
        for node in client.asked | dict.fromkeys(client.rows.values()):
            self._forget(node, client.number)
            numbers = self._at.get(node)
            if numbers is not None:
                numbers.pop(client.number, None)

    def session_ended(self, session: Session) -> None:
        """Forgets the client of a connection that has ended, or is about to end."""
        client = self._clients.get(session.blocked)
        if client is not None:
            self._remove(client)

    def unblock(self, session: Session, with_error: bool) -> bool:
        """CLIENT UNBLOCK. Returns whether the client was waiting."""
        client = self._clients.get(session.blocked)
        if client is None or not session.is_waiting or client.outcome is not None:
            return False
        self._end(client, UNBLOCKED if with_error else client.wanted.nothing)
        return True

    def command_of(self, session: Session) -> list[bytes] | None:
        """The blocking command that a session is in."""
        client = self._clients.get(session.blocked)
        return None if client is None else client.command(0)

    def refuse(self, session: Session, error: bytes) -> None:
        """The session may not run its blocking command any more. What an attempt under way brings is its own still."""
        client = self._clients.get(session.blocked)
        if client is not None:
            self._end(client, error)

    # --- changes of the cluster

    def node_lost(self, node: str) -> None:
        """The link to a coordinator broke, or it is another process now: the rows there are gone."""
        for number in self._at.pop(node, ()):
            client = self._clients[number]
            client.rows = {key: at for key, at in client.rows.items() if at != node}
            self._to_review[number] = None
        self._review_soon()

    def tick(self) -> None:
        """Looks whether keys have another coordinator than before. Ends all commands if this node refuses its clients."""
        state = self._state
        self._note_lag(state.now_ms)
        if not self._clients:
            return
        if state.requests_max < 0:
            self._refuse()
        elif self._routes is not state.routes:
            self._routes = state.routes
            self._to_review = dict.fromkeys(self._clients)
            self._review_soon()

    def _note_lag(self, now_ms: int) -> None:
        if now_ms - self._ticked_ms > SUSPENDED_MS:
            self._late_until_ms = now_ms + READING_MS
        self._ticked_ms = now_ms

    def _refuse(self) -> None:
        for client in list(self._clients.values()):
            self._end(client, self._state.refusal)

    def _review_soon(self) -> None:
        if self._to_review and not self._is_reviewing:
            self._is_reviewing = True
            self._timers.call_at(self._state.now_ms, self._review)

    def _review(self) -> None:
        """Tries again all keys that have no row at their coordinator, or are in another space now, for some clients a
        turn."""
        self._is_reviewing = False
        for number in list(self._to_review)[:REVIEWED_PER_TURN]:
            del self._to_review[number]
            client = self._clients.get(number)
            if client is None:
                continue
            if client.numbering is not self._state.numbering:
                self._rename(client)
            elif not client.is_first:
                self._try_missing_rows_of(client)
        self._review_soon()

    def _try_missing_rows_of(self, client: BlockedClient) -> None:
        for key in client.wanted.keys:
            present, node = client.rows.get(key), self._coordinator(key, client.wanted.deletes)
            if present == node:
                continue
            if present is not None:
                self._leave(client, key)
            if key != client.trying:
                self._try_again(client, key)

    def renumber(self) -> None:
        """Databases were swapped: clients wait for the same keys of the databases that have their numbers now. Until a
        client's turn comes (`_review`), it begins no attempt."""
        self._to_review = dict.fromkeys(self._clients)
        self._review_soon()

    def _rename(self, client: BlockedClient) -> None:
        """Lets a client wait for its keys in other spaces: as a client that comes now, with the time limit that it had. If
        an attempt is under way, its end is waited for (`_next`)."""
        if client.trying is not None:
            return
        numbers, spaces = client.numbering.numbers, self._state.numbering.spaces
        client.numbering = self._state.numbering
        if all(spaces[numbers[space_of(key)]] == space_of(key) for key in client.wanted.keys):
            self._next(client)
            return
        self._forget_rows(client)
        del self._clients[client.number]
        client.number = client.session.blocked = self._state.next_number()
        self._clients[client.number] = client
        client.wanted = client.wanted.renamed(lambda key: inner_key(spaces[numbers[space_of(key)]], client_key(key)))
        client.to_try, client.rows, client.asked = deque(client.wanted.keys), {}, {}
        self._next(client)

    def _coordinator(self, key: bytes, deletes: bool) -> str:
        state = self._state
        route = (state.deletion_routes if deletes else state.routes)[key_slot(key) >> state.route_shift]
        return state.id if route.coordinator is None else route.coordinator
