"""MONITOR: shows the commands of this node's clients to those that monitor.

Theory. The guard of a session (commands/pubsub/guard.py) sees each command before it begins. While some client monitors,
all sessions have a guard; at other times none has, so nothing costs time. Lines are sent like messages to a subscriber, at
the end of the turn. A client that reads them too slowly is disconnected like a subscriber (shell/push_limits.py). A line
has at most `LINE_BYTES_MAX` of words, and of a transaction the first `QUEUED_SHOWN_MAX` commands are shown. So large values
and long transactions can neither fill the memory of the node nor take its time."""

from __future__ import annotations

from typing import Final

from server.core.base.sinks import Session
from server.core.pubsub.subscriptions import Subscriptions

LINE_BYTES_MAX: Final = 4096
QUEUED_SHOWN_MAX: Final = 100  # commands of one transaction
_REDACTED: Final = b"(redacted)"
_PLAIN: Final = {0x5C: "\\\\", 0x22: '\\"', 0x0A: "\\n", 0x0D: "\\r", 0x09: "\\t", 0x07: "\\a", 0x08: "\\b"}
_SHOWN: Final = {
    byte: _PLAIN.get(byte, chr(byte) if 0x20 <= byte <= 0x7E else f"\\x{byte:02x}") for byte in range(256)
}  # a byte as Redis shows it
# By command: after which of its words passwords follow, and how many words these are.
_PASSWORDS: Final[dict[str, dict[bytes, int]]] = {
    "hello": {b"AUTH": 2},
    "migrate": {b"AUTH": 1, b"AUTH2": 2},
}


class Monitors:
    """The sessions that monitor."""

    def __init__(self, subscriptions: Subscriptions) -> None:
        self.sessions: dict[Session, None] = {}
        self._subscriptions = subscriptions

    def begin(self, session: Session) -> None:
        """The session gets all commands from now on."""
        session.is_monitor = True
        self.sessions[session] = None

    def end(self, session: Session) -> None:
        """The session gets them no more."""
        if session.is_monitor:
            session.is_monitor = False
            del self.sessions[session]
            self._subscriptions.due.pop(session, None)

    def feed(self, session: Session, name: str, args: list[bytes], time_ms: int) -> None:
        """Tells of a command of a session: `name` is its name in the table of commands."""
        seconds, rest_ms = divmod(time_ms, 1000)
        words = shown_words(without_passwords(name, args))
        line = f"+{seconds}.{rest_ms:03d}000 [{session.database} {session.address}] {words}\r\n".encode(
            "ascii", "replace"
        )
        for monitor in self.sessions:
            if not monitor.closing:
                self._subscriptions.send(monitor, line)


def without_passwords(name: str, args: list[bytes]) -> list[bytes]:
    """The words of a command, without those that may be a password."""
    if name == "auth":
        return args[:1] + [_REDACTED] * (len(args) - 1)
    marks = _PASSWORDS.get(name)
    if marks is None:
        return args
    shown, hidden = [], 0
    for arg in args:
        shown.append(_REDACTED if hidden else arg)
        hidden = hidden - 1 if hidden else marks.get(arg.upper(), 0)
    return shown


def shown_words(args: list[bytes]) -> str:
    """The words as Redis shows them, in quotes; of very long commands the beginning."""
    shown, room = [], LINE_BYTES_MAX
    for place, arg in enumerate(args):
        if room <= 0:
            shown.append(f'"... ({len(args) - place} more arguments)"')
            break
        more = f"... ({len(arg) - room} more bytes)" if len(arg) > room else ""
        shown.append('"' + arg[:room].decode("latin-1").translate(_SHOWN) + more + '"')
        room -= len(arg) + 1
    return " ".join(shown)
