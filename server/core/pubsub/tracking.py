"""Tells clients that cache values which keys have changed (redis.io: develop/reference/client-side-caching).

Theory. The node of a client that tracks (A) remembers which keys the client has read. What the client has cached came from
the records of some replicas. So each node that changes a record, in whatever way (a write, a hint, a repair), tells all
nodes that have such clients (CHANGED), at the end of the turn of the change. It looks at the batch of its turn for that, so
a write costs nothing. Why no change is missed: an answer to a read leaves a node before the news of a later change there,
over the same link. And a value that is older than a change somewhere comes from a replica that has not made that change
yet: once it does, it tells A. So a change is told once for each replica; mostly the client has dropped the key by then.

A node tells its peers whether it wants to know (WATCHING), over the link on which its reads follow.

A read in flight. News of a key may come while a read of it is in flight, whose reply may have the former value. Then the
client is told behind that reply (`Tracker.late`).

In doubt a client is told to drop all that it has (a null): when a link of either direction breaks or opens, when keys get
another coordinator because a node is lost or back, and when the layout changes. What expires is told as it does
(expiries.py).

NOLOOP is taken, but a client is told of its own changes all the same: the nodes that tell do not know who has made them.

Bounds (P10): `tracked_keys_max` keys are remembered; past it the ones remembered first are told as changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from protocol import resp
from protocol.databases import client_key
from server.core.base.sinks import Session
from server.core.base.state import State
from server.core.base.subscriber import Tracker
from server.core.messages.publications import encode_changed, encode_watching
from server.core.pubsub.expiries import Expiries
from server.core.pubsub.subscriptions import Subscriptions, push
from server.core.records.records import PREFIX_BYTES, RECORDS_END, storage_key_of
from server.core.records.versions import DamagedRecord

CHANNEL_NAME: Final = b"__redis__:invalidate"  # under which a subscriber in RESP2 gets what is redirected to it
_NOT_READ: Final = -1


class Tracking:
    """The clients of this node that cache, the keys that they have read, and the peers that have such clients."""

    def __init__(self, state: State, sessions: Mapping[int, Session], subscriptions: Subscriptions) -> None:
        self._state = state
        self._sessions = sessions
        self._subscriptions = subscriptions
        self.clients: dict[Session, Tracker] = {}
        self.keys: dict[bytes, dict[Session, None]] = {}  # who has read a key
        self.prefixes: dict[bytes, dict[Session, None]] = {}  # who wants all changes of keys with that prefix
        self.is_used = False  # here or by a peer: looked at once in a turn
        self._expiries = Expiries(state.config.tracked_keys_max)
        self._routes = state.routes  # when the clients were told last that they cannot be sure

    # --- who tracks

    def start(self, session: Session, tracker: Tracker) -> None:
        """A client tracks from now on, or otherwise than before."""
        if not self.clients:
            self._tell_peers(True)
            self._routes = self._state.routes
        for prefix in tracker.prefixes or ([b""] if tracker.broadcasts else []):
            self.prefixes.setdefault(prefix, {})[session] = None
        self.clients[session] = session.tracker = tracker
        self._review()

    def stop(self, session: Session) -> None:
        """A client tracks no more, or has gone. What it has read is forgotten when the keys change."""
        if self.clients.pop(session, None) is None:
            return
        session.tracker = None
        for prefix in [prefix for prefix, sessions in self.prefixes.items() if session in sessions]:
            del self.prefixes[prefix][session]
            if not self.prefixes[prefix]:
                del self.prefixes[prefix]
        if not self.clients:
            self.keys.clear()
            self._tell_peers(False)
        self._review()

    def _review(self) -> None:
        self.is_used = bool(self.clients or self._state.watching)
        if not self.is_used:
            self._expiries.clear()

    def _tell_peers(self, wants: bool) -> None:
        message = encode_watching(self._state.clock_reading(), wants)
        for peer in self._state.publishing:
            if peer in self._state.links:
                self._state.send(peer, message)

    def watching_received(self, peer: str, wants: bool) -> None:
        """Handles WATCHING: a peer has clients that track, or has none any more."""
        if wants:
            self._state.watching[peer] = None
        else:
            self._state.watching.pop(peer, None)
        self._review()

    # --- reads

    def note_read(self, session: Session, tracker: Tracker, number: int, keys: list[bytes]) -> None:
        """A client begins to read keys, with its command of that number."""
        tracker.reads.append((number, keys))
        for key in keys:
            tracker.reading[key] = number
            if not tracker.broadcasts:
                self.keys.setdefault(key, {})[session] = None
        while len(self.keys) > self._state.config.tracked_keys_max:
            self.invalidate([next(iter(self.keys))])

    # --- changes

    def end_turn(self, written: Mapping[bytes, bytes | None]) -> None:
        """Tells clients and peers of what this node has written in the turn: its batch. The replies of the turn have gone
        before."""
        now_ms = self._state.time_ms
        changed = [key for key in written if key < RECORDS_END]
        for key in changed:
            if (record := written[key]) is not None:
                self._expiries.note(key, record, now_ms)
        self._tell(changed)
        for session, tracker in self.clients.items():
            if tracker.reads:
                self._settle(session, tracker)
            if tracker.invalid:
                invalid, tracker.invalid = tracker.invalid, {}
                self._send(session, tracker, resp.array([resp.bulk(key) for key in invalid]))

    def _tell(self, storage_keys: Sequence[bytes]) -> None:
        """Tells clients and peers that these have changed here: keys of any database, as in Redis."""
        state = self._state
        changed = [client_key(key[PREFIX_BYTES:]) for key in storage_keys]
        if changed:
            self.invalidate(changed)
            message = b""
            for peer in state.watching:
                if peer in state.links:
                    message = message or encode_changed(state.clock_reading(), changed)
                    state.send(peer, message)

    def tick(self) -> None:
        """Tells of keys that have expired, or some of their fields; and of all in doubt, if routes have changed."""
        state = self._state
        if self._routes is not state.routes:
            self._routes = state.routes
            self.invalidate_all()
        expired = self._expiries.due(state.time_ms)
        self._tell(expired)
        self._note_expiries(expired)

    def note_relayed(self, commands: Sequence[Sequence[bytes]]) -> None:
        """A peer with clients that cache has relayed commands, each of one key: its clients will have what they read."""
        self.note_expiries([args[1] for args in commands if len(args) > 1])

    def note_expiries(self, keys: Sequence[bytes]) -> None:
        """Clients that cache are about to read these inner keys."""
        self._note_expiries([storage_key_of(key) for key in keys])

    def _note_expiries(self, storage_keys: Sequence[bytes]) -> None:
        state = self._state
        for key in storage_keys:
            with suppress(DamagedRecord):  # its mending is a change
                if (record := state.records.get(key)) is not None:
                    self._expiries.note(key, record, state.time_ms)

    def invalidate(self, keys: Sequence[bytes]) -> None:
        """These keys have changed, here or at a peer: whoever has read them is told at the end of the turn."""
        for key in keys:
            for session in self.keys.pop(key, ()):
                tracker = session.tracker
                if tracker is not None and not tracker.broadcasts:
                    self._note_changed(session, tracker, key)
        for prefix, sessions in self.prefixes.items():
            found = dict.fromkeys([key for key in keys if key.startswith(prefix)])
            for session in sessions if found else ():
                if session.tracker is not None:
                    for key in found:
                        self._note_changed(session, session.tracker, key)

    def _note_changed(self, session: Session, tracker: Tracker, key: bytes) -> None:
        number = tracker.reading.get(key, _NOT_READ)
        if number >= session.first_number:
            tracker.late[key] = number
            if not tracker.broadcasts:
                self.keys.setdefault(key, {})[session] = None  # its reply is not out yet
        else:
            tracker.invalid[key] = None

    def _settle(self, session: Session, tracker: Tracker) -> None:
        """Forgets the reads whose replies have gone out. Keys that have changed meanwhile are told now."""
        while tracker.reads and tracker.reads[0][0] < session.first_number:
            number, keys = tracker.reads.popleft()
            for key in keys:
                if tracker.reading.get(key) == number:
                    del tracker.reading[key]
                if tracker.late.get(key) == number:
                    del tracker.late[key]
                    tracker.invalid[key] = None

    def invalidate_all(self) -> None:
        """In doubt: all clients that track are to drop what they have."""
        self.keys.clear()
        for session, tracker in self.clients.items():
            tracker.invalid.clear()
            for number, keys in tracker.reads:
                for key in keys:
                    tracker.late[key] = number
                    if not tracker.broadcasts:
                        self.keys.setdefault(key, {})[session] = None
            self._send(session, tracker, b"")

    def _send(self, session: Session, tracker: Tracker, keys: bytes) -> None:
        """Tells a client, or the one it redirects to, of keys, an encoded array; empty stands for all keys."""
        told = self._sessions.get(tracker.redirect) if tracker.redirect else session
        if told is None:
            tracker.is_broken = True
            if session.resp3 and not session.closing:
                body = b"%b%b" % (resp.bulk(b"tracking-redir-broken"), resp.integer(tracker.redirect))
                self._subscriptions.send(session, push(2, body, True))
        elif told.closing:
            pass
        elif told.resp3:
            body = b"%b%b" % (resp.bulk(b"invalidate"), keys or resp.null(True))
            self._subscriptions.send(told, push(2, body, True))
        elif tracker.redirect and told.subscriber is not None:
            body = b"%b%b%b" % (resp.bulk(b"message"), resp.bulk(CHANNEL_NAME), keys or resp.null(False))
            self._subscriptions.send(told, push(3, body, False))

    # --- links

    def connected(self, peer: str) -> None:
        """The link to a peer is open."""
        if self.clients:
            if peer in self._state.publishing:
                self._state.send(peer, encode_watching(self._state.clock_reading(), True))
            self.invalidate_all()

    def disconnected(self, peer: str) -> None:
        """The link to a peer has broken: it may have news that does not reach us."""
        if self.clients:
            self.invalidate_all()

    def peer_restarted(self, peer: str) -> None:
        """A peer has opened a connection to us, perhaps as a new process: it says anew whether it wants to know. The news
        that it had sent over the former one may be lost."""
        self.watching_received(peer, False)
        self.invalidate_all()
