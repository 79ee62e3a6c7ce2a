"""ACL LOG: what users were refused, newest first; and lines about logins and users for the node's log.

Theory. As in Redis, an entry that repeats a recent one counts it up. A client chooses names and keys, so these are cut, and
`ENTRIES_MAX` entries are kept. Lines for the node's log gather here until the shell takes them, once a second: refused
logins are counted by host and user, and what a client has sent is escaped, so that it can neither forge lines nor flood the
log.
"""

from __future__ import annotations

from typing import Final

from server.core.base.sinks import Session
from server.core.services.clients import describe
from server.core.services.guesses import host_of

ENTRIES_MAX: Final = 128
_TEXT_MAX: Final = 256  # characters of a name or a key
_AGAIN_MS: Final = 60_000  # a refusal that repeats an entry within this time is counted with it
_LINES_MAX: Final = 64
_REFUSED_MAX: Final = 8  # pairs of host and user that one report names


class LogEntry:
    """One entry of ACL LOG. Times are cluster time, in milliseconds since 1970."""

    __slots__ = ("client", "context", "count", "created_ms", "number", "object", "reason", "updated_ms", "user")

    def __init__(self, number: int, reason: str, context: str, what: str, user: str, client: str, now_ms: int) -> None:
        self.number = number
        self.reason = reason
        self.context = context  # toplevel; multi: between MULTI and EXEC, and by EXEC; lua: in a script
        self.object = what
        self.user = user
        self.client = client
        self.count = 1
        self.created_ms = self.updated_ms = now_ms


class SecurityLog:
    """The refusals of one node."""

    def __init__(self) -> None:
        self.entries: list[LogEntry] = []
        self._next_number = 0
        self._lines: list[tuple[bool, str]] = []
        self._refused: dict[tuple[str, str], int] = {}  # by host and user
        self._more_refused = 0

    def add(self, reason: str, what: str, user: bytes, session: Session, now_ms: int, time_ms: int) -> None:
        """Notes a refusal: `reason` is command, key, channel or auth, `what` the command or key."""
        name, what = _text(user), what[:_TEXT_MAX]
        context = "lua" if session.runs_script else "toplevel" if session.transaction is None else "multi"
        client = describe(session, now_ms).rstrip("\n")
        for place, entry in enumerate(self.entries):
            known = (entry.reason, entry.context, entry.object, entry.user)
            if known == (reason, context, what, name) and time_ms - entry.updated_ms <= _AGAIN_MS:
                entry.count += 1
                entry.updated_ms, entry.client = time_ms, client
                self.entries.insert(0, self.entries.pop(place))
                return
        self.entries.insert(0, LogEntry(self._next_number, reason, context, what, name, client, time_ms))
        self._next_number += 1
        del self.entries[ENTRIES_MAX:]

    def login_refused(self, session: Session, user: bytes) -> None:
        """Counts a refused login for the node's log."""
        key = (host_of(session.address), shown(user))
        if key in self._refused or len(self._refused) < _REFUSED_MAX:
            self._refused[key] = self._refused.get(key, 0) + 1
        else:
            self._more_refused += 1

    def tell(self, line: str, is_warning: bool = False) -> None:
        """Adds a line for the node's log; what a client has sent is `shown` in it."""
        if len(self._lines) < _LINES_MAX:
            self._lines.append((is_warning, line))

    def drain_lines(self) -> list[tuple[bool, str]]:
        """Returns the lines since the last call, each with whether it is a warning."""
        lines, self._lines = self._lines, []
        return lines

    def drain_refused(self) -> tuple[dict[tuple[str, str], int], int]:
        """Returns how many logins were refused since the last call: by host and user, and of all others together."""
        refused = self._refused, self._more_refused
        self._refused, self._more_refused = {}, 0
        return refused


def shown(text: bytes) -> str:
    """A client's bytes as they may stand in a line of the log: cut and escaped."""
    return ascii(text[:64].decode("utf-8", "replace")) + "..." * (len(text) > 64)


def _text(name: bytes) -> str:
    return name[:_TEXT_MAX].decode("utf-8", "surrogateescape")
