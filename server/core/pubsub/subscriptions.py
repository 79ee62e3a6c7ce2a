"""Who has subscribed to what at this node, and the messages that go to the subscribers at the end of the turn.

Theory. A subscriber is a session. Three tables (channels, patterns, sharded channels) map a name to the sessions that want
it. A message is looked up by its channel, and then matched with each pattern, as in Redis. It is encoded once for each
protocol and each name under which it is delivered; all its subscribers share these bytes.

Messages gather until the end of the turn, and leave behind the replies of the turn (node.py), each session's in one
write. So a subscriber gets the reply to its SUBSCRIBE first. `drain_session` returns what has gathered for a session: the
reply to a later UNSUBSCRIBE stands behind it.

Bounds (P10). The names of all subscriptions of a node take `subscriptions_bytes_max` at most; a further one is refused.
What is sent and not read by a subscriber is bounded by the shell (shell/push_limits.py): it cuts the connection, as Redis
does (`client-output-buffer-limit pubsub`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol import resp
from server.core.base.errors import CommandError
from server.core.base.sinks import Session
from server.core.base.subscriber import CHANNEL, KINDS, PATTERN, SHARD, Subscriber

Matches = Callable[[bytes], bool]  # whether a pattern matches a channel
MatcherOf = Callable[[bytes], Matches]  # compiles a pattern
NAME_OVERHEAD_BYTES: Final = 200  # of the tables, for each subscription
_MESSAGE_WORDS: Final = {CHANNEL: b"message", SHARD: b"smessage"}


def push(words: int, body: bytes, resp3: bool) -> bytes:
    """A push of so many encoded words; in RESP2 an array."""
    return b"%c%d\r\n%b" % (b">" if resp3 else b"*", words, body)


class Subscriptions:
    """The subscriptions of all sessions of this node."""

    def __init__(self, matcher_of: MatcherOf, names_bytes_max: int) -> None:
        self.tables: tuple[dict[bytes, dict[Session, None]], ...] = ({}, {}, {})  # by kind: name -> sessions
        self.clients = 0  # sessions with subscriptions
        self.due: dict[Session, list[bytes]] = {}  # what the sessions get at the end of the turn
        self._matchers: dict[bytes, Matches] = {}  # by pattern
        self._matcher_of = matcher_of
        self._names_bytes_max = names_bytes_max
        self.names_bytes = 0

    # --- subscribing

    def subscribe(self, session: Session, kind: int, name: bytes) -> int:
        """Subscribes a session; once more does nothing. Returns how many subscriptions of its sort it has.

        Raises CommandError if the names of all subscriptions take too much memory.
        """
        subscriber = session.subscriber
        if subscriber is not None and name in subscriber.names[kind]:
            return subscriber.count(kind)
        cost_bytes = len(name) + NAME_OVERHEAD_BYTES
        if self.names_bytes + cost_bytes > self._names_bytes_max:
            raise CommandError(
                f"ERR the names of all subscriptions of this node exceed subscriptions_bytes_max={self._names_bytes_max}"
            )
        if subscriber is None:
            subscriber = session.subscriber = Subscriber()
            self.clients += 1
        self.names_bytes += cost_bytes
        subscriber.names[kind][name] = None
        sessions = self.tables[kind].setdefault(name, {})
        sessions[session] = None
        if kind == PATTERN and name not in self._matchers:
            self._matchers[name] = self._matcher_of(name)
        return subscriber.count(kind)

    def unsubscribe(self, session: Session, kind: int, name: bytes) -> int:
        """Ends a subscription, if there is one. Returns how many subscriptions of its sort the session has left."""
        subscriber = session.subscriber
        if subscriber is None:
            return 0
        if name in subscriber.names[kind]:
            del subscriber.names[kind][name]
            self.names_bytes -= len(name) + NAME_OVERHEAD_BYTES
            sessions = self.tables[kind][name]
            del sessions[session]
            if not sessions:
                del self.tables[kind][name]
                if kind == PATTERN:
                    del self._matchers[name]
        left = subscriber.count(kind)
        if subscriber.is_idle():
            session.subscriber = None
            self.clients -= 1
        return left

    def forget(self, session: Session) -> None:
        """Ends all subscriptions of a session, and drops what has gathered for it."""
        for kind in KINDS:
            for name in list(session.subscriber.names[kind]) if session.subscriber is not None else ():
                self.unsubscribe(session, kind, name)
        self.due.pop(session, None)

    # --- delivering

    def deliver(self, kind: int, channel: bytes, payload: bytes) -> int:
        """A message for a channel, or for a sharded one (`kind`). Returns how many subscriptions of this node get it."""
        word = _MESSAGE_WORDS[kind]
        body = b"%b%b%b" % (resp.bulk(word), resp.bulk(channel), resp.bulk(payload))
        count = self._send(self.tables[kind].get(channel), 3, body)
        if kind == CHANNEL and self._matchers:
            rest = b"%b%b" % (resp.bulk(channel), resp.bulk(payload))
            for pattern, matches in self._matchers.items():
                if matches(channel):
                    body = b"%b%b%b" % (resp.bulk(b"pmessage"), resp.bulk(pattern), rest)
                    count += self._send(self.tables[PATTERN][pattern], 4, body)
        return count

    def _send(self, sessions: dict[Session, None] | None, words: int, body: bytes) -> int:
        if not sessions:
            return 0
        encoded: dict[bool, bytes] = {}
        count = 0
        for session in sessions:
            if not session.closing:
                data = encoded.get(session.resp3)
                if data is None:
                    data = encoded[session.resp3] = push(words, body, session.resp3)
                self.send(session, data)
                count += 1
        return count

    def send(self, session: Session, data: bytes) -> None:
        """Sends an encoded push to a session at the end of the turn."""
        gathered = self.due.get(session)
        if gathered is None:
            self.due[session] = [data]
        else:
            gathered.append(data)

    def drain_session(self, session: Session) -> bytes:
        """Removes and returns the messages that have gathered for a session, to be sent before a reply."""
        return b"".join(self.due.pop(session, ()))

    def drain(self) -> list[tuple[Session, bytes]]:
        """Removes and returns the messages of all sessions, at the end of the turn."""
        due, self.due = self.due, {}
        return [(session, b"".join(gathered)) for session, gathered in due.items()]
