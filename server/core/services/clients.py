"""The clients of a node: their sessions, and those whose connections close at the end of the turn."""

from __future__ import annotations

from server.core.base.sinks import Session
from server.core.base.state import State


class Clients:
    """The sessions of the clients that are connected now."""

    def __init__(self, state: State) -> None:
        self._state = state
        self.sessions: dict[int, Session] = {}
        self.resumable: dict[Session, None] = {}  # sessions with commands that may begin, now or in the next turn
        self._closing: list[Session] = []
        self._last_id = 0

    def open(self, address: str, local_address: str, now_ms: int) -> Session:
        """A client has connected from `address` (host:port)."""
        self._last_id += 1
        self._state.statistics.connections += 1
        session = Session(self._last_id, address, local_address, now_ms, self._state.ready)
        self.sessions[session.id] = session
        return session

    def close(self, session: Session) -> None:
        """The client has disconnected. Its requests in flight run to their end; nobody reads their replies."""
        self.sessions.pop(session.id, None)
        session.backlog.clear()

    def kill(self, session: Session) -> None:
        """Closes the connection at the end of the turn in which its last command in flight is answered."""
        session.closing = True
        self._closing.append(session)

    def break_off(self, session: Session) -> None:
        """Closes the connection at the end of this turn, after the replies that are due by then. No more commands begin."""
        self._state.commands_waiting -= session.break_off()
        self.close(session)
        self._closing.append(session)

    def resume_waiting(self) -> None:
        """Lets all sessions begin the commands that wait in their backlogs."""
        self.resumable |= {session: None for session in self.sessions.values() if session.backlog}

    def drain_closing(self) -> list[Session]:
        """HOT. At the end of the turn: removes and returns the sessions whose connections close now."""
        if not self._closing:
            return []
        closing = [session for session in self._closing if session.is_broken or not session.in_flight]
        self._closing = [session for session in self._closing if session.in_flight and not session.is_broken]
        return closing
