"""The guard of a session that has subscriptions or tracks keys: it looks at each of its commands before that begins.
While somebody monitors, every session has one.

Theory. In RESP2 nothing tells a message to a subscriber from a reply. So a subscriber may only say what its client can tell
apart, as in Redis; any other command is refused. RESP3 pushes are told apart, and a subscriber may say anything.

The keys that a tracking client reads are noted as the command begins (pubsub/tracking.py).

The guard stands where dispatch asks what the user of a session may do (`Session.access`), and then asks that, too. So
all other sessions pay nothing for it.
"""

from __future__ import annotations

from typing import Final

from protocol.databases import inner_key
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Access, Session
from server.core.base.subscriber import Tracker
from server.core.commands.registry import find_command
from server.core.commands.spec import CommandSpec
from server.core.pubsub.monitors import QUEUED_SHOWN_MAX
from server.core.services.services import Services

_MONITORS: Final = ErrorReply.of("ERR Replica can't interact with the keyspace")  # as Redis puts it
_IN_TRANSACTION: Final = frozenset(("exec", "discard", "multi", "watch", "quit", "reset"))  # which runs at once
_ALLOWED: Final = frozenset(
    ("subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe", "ping", "quit", "reset")
)


class Guard(Access):
    """The guard of one session."""

    def __init__(self, session: Session, services: Services) -> None:
        self._session = session
        self._tracking = services.tracking
        self._monitors = services.monitors
        self._state = services.state

    def usual_commands(self) -> dict[bytes, CommandSpec] | None:
        """HOT. None is permitted for sure where each command must be looked at; else what the user's rights say."""
        session = self._session
        if session.tracker is not None or not (session.resp3 or session.subscriber is None) or self._monitors.sessions:
            return {}
        return None if session.rights is None else session.rights.usual_commands()

    def refusal(self, session: Session, args: list[bytes]) -> bytes | None:
        """The error for a call of a known command with the right number of arguments; None if it is permitted."""
        refusal = None if session.rights is None else session.rights.refusal(session, args)
        if refusal is not None:
            return refusal
        spec = find_command(args)
        assert spec is not None, "dispatch has found it"
        if session.is_monitor and {"readonly", "write"} & set(spec.flags.split()):
            return _MONITORS
        if session.resp3 or session.subscriber is None or spec.name in _ALLOWED:
            if session.tracker is not None:
                self._note_read(session.tracker, spec, args)
                if "readonly" not in spec.flags.split():
                    session.tracker.last_write = session.first_number + len(session.slots)
            if self._monitors.sessions:
                self._show(spec, args)
            return None
        return ErrorReply.of(
            f"ERR Can't execute '{spec.name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in "
            "this context"
        )

    def _show(self, spec: CommandSpec, args: list[bytes]) -> None:
        """Shows a command to those who monitor: as in Redis none of an operator, and queued ones once EXEC runs them."""
        transaction = self._session.transaction
        if transaction is not None and spec.name not in _IN_TRANSACTION:
            return
        if transaction is not None and spec.name == "exec" and not transaction.is_refused:
            for queued in transaction.commands[:QUEUED_SHOWN_MAX]:
                if (found := find_command(queued)) is not None and not is_operators(found):
                    self._monitors.feed(self._session, found.name, queued, self._state.time_ms)
        if not is_operators(spec):
            self._monitors.feed(self._session, spec.name, args, self._state.time_ms)

    def _note_read(self, tracker: Tracker, spec: CommandSpec, args: list[bytes]) -> None:
        transaction = self._session.transaction
        if spec.name == "multi" or (transaction is not None and spec.name != "exec"):
            return  # EXEC reads, and what CLIENT CACHING has said holds until then
        asked = tracker.asked_caching
        if not spec.name.startswith("client|"):
            tracker.asked_caching = False
        is_wanted = asked if tracker.opts_in else not asked if tracker.opts_out else True
        commands = [args] if transaction is None else transaction.commands
        if is_wanted and (keys := [key for command in commands for key in _read_keys(command)]):
            self._tracking.note_expiries([inner_key(self._session.space, key) for key in keys])
            number = self._session.first_number + len(self._session.slots)  # which the command is about to get
            self._tracking.note_read(self._session, tracker, number, keys)

    def may_subscribe(self, name: bytes, is_pattern: bool) -> bool:
        """Whether a channel, or a pattern of channels, may be subscribed to."""
        rights = self._session.rights
        return rights is None or rights.may_subscribe(name, is_pattern)


def _read_keys(args: list[bytes]) -> list[bytes]:
    """The keys of a command that only reads; and those that the call of a script names, as any of them may be read."""
    spec = find_command(args)
    if spec is None or not ("readonly" in spec.flags.split() or spec.group == "scripting"):
        return []
    return spec.keys_of(args)


def is_operators(spec: CommandSpec) -> bool:
    """Whether it is a command for operators. Those of `dyn` are told by what they lack: the flag of data."""
    flags = spec.flags.split()
    return "admin" in flags or (spec.name.startswith("dyn.") and "data" not in flags)


def review_guard(services: Services, session: Session) -> None:
    """Sets the guard of a session that needs one, and removes it from one that does not. Its subscriptions have changed, or
    how it tracks, or it is new."""
    if session.subscriber is None and session.tracker is None and not services.monitors.sessions:
        session.watch(None)
    elif session.guard is None:
        session.watch(Guard(session, services))


def review_guards(services: Services) -> None:
    """The same for all sessions: somebody has begun or ended to monitor."""
    for session in services.clients.sessions.values():
        review_guard(services, session)


def end_monitoring(services: Services, session: Session) -> None:
    """The session monitors no more."""
    if session.is_monitor:
        services.monitors.end(session)
        review_guards(services)
