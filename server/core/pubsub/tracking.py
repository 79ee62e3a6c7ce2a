"""Client tracking: tells clients that cache values which keys have changed (redis.io: client-side caching).

Theory. Let A be the node of a client that tracks. A remembers which keys the client has read. Whatever the client has
cached came from the records of some replicas. So each node that changes a record, by a write, a hint or a repair, sends
CHANGED to all nodes that have such clients, at the end of the turn of the change. It finds the changed keys in the batch of
the turn, so that a write has no extra cost.

Why no change is missed. A node sends its answer to a read before the CHANGED of a later change, over the same link. And if
the client has read a value that is older than a change elsewhere, the value came from a replica that had not made the
change yet. Once that replica makes the change, it tells A. So A hears of a change once from each replica; by the second
time the client usually has dropped the key already.

A node tells its peers with WATCHING whether it has such clients, over the link on which its reads follow.

A read in flight. A CHANGED may arrive while a read of the key is in flight. The reply may have the former value. So the
client is told after that reply (`Tracker.changed_in_flight`).

In doubt a client is told to drop everything (a null): when a link of either direction breaks or opens, when keys get
another coordinator because a node is lost or back, and when the layout changes. Keys that expire are told when they do
(expiries.py).

NOLOOP. A client is not told of changes that it has made itself (base/origins.py says how these are known). While a write of
the client is in flight, changes that may be its own wait (`Tracker.undecided`). If they are not its own, the client is told
after the reply. In doubt the client is told. Unlike in Redis, the key stays tracked: the client is told of the next change
by others.

A flush (FLUSHALL, FLUSHDB) tells of each key as it deletes it. At its end all clients that track get a null.

Bounds (P10). `tracked_keys_max` keys are remembered. If there are more, the keys remembered first are told as changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Final

from protocol import resp
from protocol.databases import client_key
from server.core.base.origins import NOTHING, OWN_CHANGES_MAX, digest_of
from server.core.base.sinks import Session
from server.core.base.state import State
from server.core.base.subscriber import Tracker
from server.core.messages.publications import KeyChange, encode_altered, encode_changed, encode_flushed, encode_watching
from server.core.pubsub.expiries import Expiries
from server.core.pubsub.subscriptions import Subscriptions, push
from server.core.records.patch_rows import PREFIX as ROWS
from server.core.records.patch_rows import record_of_row
from server.core.records.records import PREFIX_BYTES, RECORDS_END, storage_key_of
from server.core.records.versions import DamagedRecord

CHANNEL_NAME: Final = b"__redis__:invalidate"  # under which a subscriber in RESP2 gets what is redirected to it
_NOT_READ: Final = -1


def _record_of_row(key: bytes) -> bytes:
    """The storage key of a record that a turn has changed: a large one by a patch row (records/patch_rows.py)."""
    return record_of_row(key) if key.startswith(ROWS) else key


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
        self._noloop_clients = 0  # how many clients track with NOLOOP
        self._is_flushed = False  # a client of this node has flushed in this turn
        self._wants = 0  # the content of the last WATCHING to the peers
        self._routes = state.routes  # the routes when the clients were told last to drop everything

    # --- who tracks

    def start(self, session: Session, tracker: Tracker) -> None:
        """Begins to track for a client, or changes how it tracks."""
        if not self.clients:
            self._routes = self._state.routes
        for prefix in tracker.prefixes:
            self.prefixes.setdefault(prefix, {})[session] = None
        former = self.clients.get(session)
        self._noloop_clients += (tracker.own_changes is not None) - (
            former is not None and former.own_changes is not None
        )
        self.clients[session] = session.tracker = tracker
        session.origin = tracker.own_changes
        self._update_watching()

    def stop(self, session: Session) -> None:
        """Ends tracking for a client. The keys that it has read are forgotten when they change."""
        tracker = self.clients.pop(session, None)
        if tracker is None:
            return
        self._noloop_clients -= tracker.own_changes is not None
        session.tracker = session.origin = None
        for prefix in tracker.prefixes:
            sessions = self.prefixes.get(prefix)
            if sessions is not None:
                sessions.pop(session, None)
                if not sessions:
                    del self.prefixes[prefix]
        if not self.clients:
            self.keys.clear()
        self._update_watching()

    def _update_watching(self) -> None:
        state = self._state
        wants = 2 if self._noloop_clients else 1 if self.clients else 0
        if wants != self._wants:
            self._wants = wants
            for peer in state.publishing:
                self._tell_wants(peer)
        self.is_used = bool(self.clients or state.watching)
        if not self.is_used:
            self._expiries.clear()
        if not (self._noloop_clients or state.attributing):
            state.records.replaced = None
        elif state.records.replaced is None:
            state.records.replaced = {}

    def _tell_wants(self, peer: str) -> None:
        state = self._state
        if peer in state.links:
            wants = min(self._wants, 2 if peer in state.knowing_origins else 1)
            state.send(peer, encode_watching(state.clock_reading(), wants))

    def watching_received(self, peer: str, wants: int) -> None:
        """Handles WATCHING: a peer has clients that track, or has none any more."""
        for peers, is_wanted in ((self._state.watching, wants), (self._state.attributing, wants > 1)):
            peers.pop(peer, None)
            if is_wanted:
                peers[peer] = None
        self._update_watching()

    # --- reads

    def note_read(self, session: Session, tracker: Tracker, number: int, keys: list[bytes]) -> None:
        """Notes that a client reads keys with its command of that number."""
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
        changed = list(dict.fromkeys([key for key in map(_record_of_row, written) if key < RECORDS_END]))
        for key in changed:
            record = written.get(key) or self._state.records.get(key)
            if record is not None:
                self._expiries.note(key, record, now_ms)
        self._tell(changed)
        if self._is_flushed:
            self._is_flushed = False
            self.invalidate_all()
        for session, tracker in self.clients.items():
            if tracker.reads or tracker.undecided:
                self._settle(session, tracker)
            if tracker.invalid:
                invalid, tracker.invalid = tracker.invalid, {}
                self._send(session, tracker, resp.array([resp.bulk(key) for key in invalid]))

    def _tell(self, storage_keys: Sequence[bytes]) -> None:
        """Tells clients and peers that these records have changed here. Databases do not matter, as in Redis."""
        if not storage_keys:
            return
        state, changes, altered, changed = self._state, list[KeyChange](), b"", b""
        keys = [client_key(key[PREFIX_BYTES:]) for key in storage_keys]
        replaced = state.records.replaced
        if replaced is None:
            self.invalidate(keys)
        else:
            for storage_key, key in zip(storage_keys, keys, strict=True):
                is_known = storage_key in replaced
                before, after = (replaced[storage_key], state.records.get(storage_key)) if is_known else (None, None)
                changes.append(KeyChange(key, digest_of(before), digest_of(after)))
            replaced.clear()
            self.altered(changes)
        for peer in state.watching:
            if peer not in state.links:
                pass
            elif changes and peer in state.attributing:
                altered = altered or encode_altered(state.clock_reading(), changes)
                state.send(peer, altered)
            else:
                changed = changed or encode_changed(state.clock_reading(), keys)
                state.send(peer, changed)

    def tick(self) -> None:
        """Tells of keys that have expired, or whose fields have. If routes have changed, tells clients to drop
        everything."""
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
        self.altered([KeyChange(key, NOTHING, NOTHING) for key in keys])

    def altered(self, changes: Sequence[KeyChange]) -> None:
        """Does what `invalidate` does, with what is known of the changes."""
        for change in changes:
            for session in self.keys.pop(change.key, ()):
                tracker = session.tracker
                if tracker is not None and not tracker.broadcasts and not self._may_be_own(session, tracker, change):
                    self._note_changed(session, tracker, change.key)
        for prefix, sessions in self.prefixes.items():
            found = [change for change in changes if change.key.startswith(prefix)]
            for session in sessions if found else ():
                for change in found:
                    if session.tracker is not None and not self._may_be_own(session, session.tracker, change):
                        self._note_changed(session, session.tracker, change.key)

    def _may_be_own(self, session: Session, tracker: Tracker, change: KeyChange) -> bool:
        """Whether a client is not told of a change now, because it has made the change itself, or may have made it."""
        if tracker.own_changes is None or change.before == change.after:
            return False
        if not tracker.own_changes.has_made(change):
            if (
                session.is_waiting
                or tracker.last_write < session.first_number
                or len(tracker.undecided) >= OWN_CHANGES_MAX
            ):
                return False
            tracker.undecided.append((tracker.last_write, change))
        if not tracker.broadcasts:
            self.keys.setdefault(change.key, {})[session] = None
        return True

    def _note_changed(self, session: Session, tracker: Tracker, key: bytes) -> None:
        number = tracker.reading.get(key, _NOT_READ)
        if number >= session.first_number:
            tracker.changed_in_flight[key] = number
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
                if tracker.changed_in_flight.get(key) == number:
                    del tracker.changed_in_flight[key]
                    tracker.invalid[key] = None
        if tracker.undecided:
            self._settle_held(session, tracker)

    def _settle_held(self, session: Session, tracker: Tracker) -> None:
        held, tracker.undecided = tracker.undecided, []
        for number, change in held:
            if number >= session.first_number and not session.is_waiting:
                tracker.undecided.append((number, change))
            elif tracker.own_changes is None or not tracker.own_changes.has_made(change):
                self.keys.get(change.key, {}).pop(session, None)
                self._note_changed(session, tracker, change.key)

    def flushed(self) -> None:
        """A client of this node has deleted all keys of a database, or of all: told at the end of the turn."""
        state = self._state
        self._is_flushed = self.is_used
        for peer in state.watching:
            if peer in state.links and peer in state.knowing_origins:
                state.send(peer, encode_flushed(state.clock_reading()))

    def invalidate_all(self) -> None:
        """After a flush, or in doubt: all clients that track are to drop what they have."""
        self.keys.clear()
        for session, tracker in self.clients.items():
            tracker.invalid.clear()
            tracker.undecided.clear()
            for number, keys in tracker.reads:
                for key in keys:
                    tracker.changed_in_flight[key] = number
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
                self._tell_wants(peer)
            self.invalidate_all()

    def disconnected(self, peer: str) -> None:
        """The link to a peer has broken: it may have news that does not reach us."""
        if self.clients:
            self.invalidate_all()

    def peer_restarted(self, peer: str) -> None:
        """A peer has opened a connection to us, perhaps as a new process: it says anew whether it wants to know. The news
        that it had sent over the former one may be lost."""
        self.watching_received(peer, 0)
        self.invalidate_all()
