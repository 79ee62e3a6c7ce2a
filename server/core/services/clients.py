"""The clients of a node: their sessions, and those whose connections close at the end of the turn."""

from __future__ import annotations

from protocol.databases import DATABASES, Numbering
from server.core.base.sinks import Access, Session
from server.core.base.state import State
from server.core.base.subscriber import Tracker
from server.core.services.client_pause import ClientPause
from server.core.services.process import NO_BUFFERS, Buffers
from server.core.waiting.blocked import Blocked
from server.core.work.timers import Timers


class ClientSessions:
    """The sessions of the clients that are connected now."""

    def __init__(self, state: State, blocked: Blocked, timers: Timers) -> None:
        self._state = state
        self.pause = ClientPause(timers)
        self.pause.resume = self.resume_waiting
        self._blocked = blocked
        self.sessions: dict[int, Session] = {}
        self.resumable: dict[Session, None] = {}  # sessions with commands that may begin, now or in the next turn
        self.held: dict[Session, None] = {}  # sessions that were to go on and wait, see State.holds_commands
        self.swaps = [0] * DATABASES  # by space: how often it has got another number
        self._closing: list[Session] = []
        self._last_id = 0

    def open(self, address: str, local_address: str, now_ms: int) -> Session:
        """A client has connected from `address` (host:port)."""
        self._last_id += 1
        self._state.statistics.connections += 1
        session = Session(self._last_id, address, local_address, now_ms, self._state.ready, self._state.statistics)
        session.space = self._state.numbering.spaces[0]
        self.sessions[session.id] = session
        return session

    def renumber(self, before: Numbering) -> None:
        """Databases were swapped: each client keeps the number of its database. EXEC sees by `swaps` that what a client
        has watched is of another database now. Transactions and scripts that run keep their databases."""
        spaces, numbers = self._state.numbering.spaces, self._state.numbering.numbers
        for space in range(DATABASES):
            self.swaps[space] += numbers[space] != before.numbers[space]
        for session in self.sessions.values():
            session.space = spaces[session.database]

    def close(self, session: Session) -> None:
        """The client has disconnected. Its requests in flight run to their end; nobody reads their replies."""
        self.sessions.pop(session.id, None)
        session.backlog.clear()
        session.has_left = True
        if session.blocked:
            self._blocked.session_ended(session)
        session.transaction = session.watched = None

    def kill(self, session: Session) -> None:
        """Closes the connection at the end of the turn in which its last command in flight is answered. A blocking command
        is not waited for."""
        session.closing = True
        if session.blocked:
            self._blocked.session_ended(session)
            session.is_broken = True
        self._closing.append(session)

    def break_off(self, session: Session) -> None:
        """Closes the connection at the end of this turn, after the replies that are due by then. No more commands begin."""
        self._state.commands_waiting -= session.break_off()
        client = session.client()
        if client is not session:  # it ran a transaction of that one
            self._state.commands_waiting -= client.break_off()
        self.close(client)
        self._closing.append(client)

    def review_blocked(self, session: Session, rights: Access) -> None:
        """Ends the blocking command of a session whose user may do only this now, and that command no more."""
        args = self._blocked.command_of(session)
        refusal = None if args is None else rights.refusal(session, args)
        if refusal is not None:
            self._blocked.refuse(session, refusal)

    def close_blocked(self) -> None:
        """Closes the connections of all clients in blocking commands: the node is about to stop. No client is held any
        more."""
        self.pause.end()
        for session in [session for session in self.sessions.values() if session.blocked]:
            self.kill(session)

    def resume_waiting(self) -> None:
        """Lets all sessions, and runs of queued commands, begin what waits in their backlogs."""
        for session in [*self.sessions.values(), *self.held]:
            if session.backlog or (session.lanes is not None and session.lanes.free):
                self.resumable[session] = None
        self.held.clear()

    def drain_closing(self) -> list[Session]:
        """HOT. At the end of the turn: removes and returns the sessions whose connections close now."""
        if not self._closing:
            return []
        closing = [session for session in self._closing if session.is_broken or not session.in_flight]
        self._closing = [session for session in self._closing if session.in_flight and not session.is_broken]
        return closing


def _queued(session: Session) -> int:
    """How many commands a session has queued since MULTI; -1 outside of a transaction."""
    return -1 if session.transaction is None else len(session.transaction.commands)


def _waiting_bytes(session: Session) -> int:
    """The bytes of its commands that have been read whole and wait for the one before them."""
    return sum([len(arg) for args in session.backlog for arg in args])


def tracking_flags(tracker: Tracker | None) -> str:
    """The flags that CLIENT LIST shows of a session that tracks keys."""
    return "" if tracker is None else "t" + "R" * tracker.is_broken + "B" * tracker.broadcasts


def describe(session: Session, now_ms: int, buffers: Buffers = NO_BUFFERS) -> str:
    """A session's line in CLIENT LIST, its end included."""
    user = session.user.decode("utf-8", "replace")
    channels, patterns, shards = session.subscriber.names if session.subscriber is not None else ((), (), ())
    is_subscribed, in_transaction = session.subscriber is not None, session.transaction is not None
    waiting_bytes = _waiting_bytes(session)
    tracker, redirect = session.tracker, -1 if session.tracker is None else session.tracker.redirect
    state = "P" * is_subscribed + "x" * in_transaction + "b" * session.is_waiting + tracking_flags(tracker)
    flags = "O" * session.is_monitor + state + "e" * session.no_evict + "T" * session.no_touch
    fields = (
        f"id={session.id} addr={session.address} laddr={session.local_address} fd={buffers.descriptor}",
        f"name={session.name.decode()}",
        f"age={(now_ms - session.created_ms) // 1000} idle={(now_ms - session.active_ms) // 1000} flags={flags or 'N'}",
        f"db={session.database} sub={len(channels)} psub={len(patterns)} ssub={len(shards)} multi={_queued(session)}",
        f"qbuf={buffers.input_bytes} qbuf-free=0 argv-mem={waiting_bytes} multi-mem={session.queued_bytes()}",
        f"rbs=0 rbp=0 obl=0 oll={int(buffers.output_bytes > 0)} omem={buffers.output_bytes}",
        f"tot-mem={buffers.total_bytes + waiting_bytes}",
        f"events=r cmd={session.last_command or 'NULL'} user={user} redir={redirect}",
        f"resp={3 if session.resp3 else 2} lib-name={session.library_name.decode()}",
        f"lib-ver={session.library_version.decode()}\n",
    )
    return " ".join(fields)
