"""Keyspace notifications: each change of a key is published to `__keyspace@0__:key` and `__keyevent@0__:event`, where 0
is its database.

Theory. The coordinator of a write publishes its events (events.py), so in a cluster without faults each change causes them
once, and subscribers of all nodes get them. Writes are noted as they are made (`State.noted`), and published at the end of
the turn, so they leave behind its commit. While no class of events is wanted, `noted` is None, and a write looks at nothing
else. A write that is answered with NOQUORUM may have caused its events: it may have been written.

The setting is one for the whole cluster, as any node may be the coordinator. CONFIG SET on any node is sent to all others
(NOTIFY), and again whenever a link opens; the newest one holds. A node that starts has the setting of its config file until
then.

A key that a read does not find causes `keymiss`, once for each read by a command that changes nothing. The node that
answers the read publishes it.

`expired` is published as far as it is known: by the coordinator that has written the expiry, if it has run since, when the
time has come. `EXPIRIES_MAX` keys are kept for that.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Final

from protocol.databases import client_key, space_of
from server.core.base.state import MISSED, State
from server.core.base.subscriber import CHANNEL
from server.core.messages.publications import EventSetting, encode_notify
from server.core.pubsub.events import EXPIRED, KEYEVENT, KEYSPACE, MISS, events_of, flags_of, text_of
from server.core.pubsub.publishing import Publishing
from server.core.records import versions
from server.core.records.records import PREFIX_BYTES
from server.core.records.versions import DamagedRecord

TellsMisses = Callable[[list[bytes]], bool]
EXPIRIES_MAX: Final = 100_000
_EXPIRED_PER_TICK_MAX: Final = 1000


class Notifications:
    """The setting, and the keys that are to expire."""

    def __init__(self, state: State, publishing: Publishing, tells_misses: TellsMisses) -> None:
        """`tells_misses`: whether a key that a command does not find is a miss."""
        self._tells_misses = tells_misses
        self._state = state
        self._publishing = publishing
        self._setting = EventSetting(0, 0)
        self._expiries: list[tuple[int, bytes]] = []  # a heap: when, storage key
        self._adopt(EventSetting(0, flags_of(state.config.notify_keyspace_events) or 0))

    @property
    def text(self) -> str:
        """The setting, as CONFIG GET shows it."""
        return text_of(self._setting.flags)

    @property
    def is_on(self) -> bool:
        """Whether any events are published."""
        return self._state.noted is not None

    def change(self, flags: int) -> None:
        """CONFIG SET: changes the setting on all nodes that can be reached."""
        self._adopt(EventSetting(max(self._state.clock.next(), self._setting.counter + 1), flags))
        for peer in self._state.publishing:
            self.send(peer)

    def send(self, peer: str) -> None:
        """Sends a peer the setting, unless nobody has changed it."""
        state = self._state
        if self._setting.counter and peer in state.publishing and peer in state.links:
            state.send(peer, encode_notify(state.clock_reading(), self._setting))

    def received(self, setting: EventSetting) -> None:
        """Handles NOTIFY: the setting of a peer, which may be a newer one."""
        if setting.counter > self._setting.counter:
            self._adopt(setting)

    def _adopt(self, setting: EventSetting) -> None:
        self._setting = setting
        is_on = bool(setting.flags & (KEYSPACE | KEYEVENT))
        if is_on and self._state.noted is None:
            self._state.noted = []
        elif not is_on:
            self._state.noted = None
            self._expiries.clear()

    def end_turn(self) -> None:
        """Publishes the events of the writes that this node has coordinated in the turn."""
        noted, now_ms = self._state.noted, self._state.time_ms
        if not noted:
            return
        self._state.noted = []
        for storage_key, record, old, args in noted:
            if record == MISSED:
                if args and self._setting.flags & MISS and self._tells_misses(args):
                    self._publish(MISS, b"keymiss", storage_key)
                continue
            for kind, event in events_of(args, old, record, now_ms) if args else ():
                self._publish(kind, event, storage_key)
            if self._setting.flags & EXPIRED and len(self._expiries) < EXPIRIES_MAX:
                sibling = versions.visible(record, now_ms)
                if sibling is not None and sibling.expires_at_ms:
                    heapq.heappush(self._expiries, (sibling.expires_at_ms, storage_key))

    def _publish(self, kind: int, event: bytes, storage_key: bytes) -> None:
        inner, flags = storage_key[PREFIX_BYTES:], self._setting.flags
        database, key = self._state.numbering.numbers[space_of(inner)], client_key(inner)
        if flags & kind:
            if flags & KEYSPACE:
                self._publishing.publish(CHANNEL, b"__keyspace@%d__:%b" % (database, key), event)
            if flags & KEYEVENT:
                self._publishing.publish(CHANNEL, b"__keyevent@%d__:%b" % (database, event), key)

    def tick(self) -> None:
        """Publishes `expired` for the keys whose time has come, if they were not written since."""
        expiries, now_ms, count = self._expiries, self._state.time_ms, 0
        while expiries and expiries[0][0] <= now_ms and count < _EXPIRED_PER_TICK_MAX:
            expires_at_ms, storage_key = heapq.heappop(expiries)
            count += 1
            try:
                record = self._state.records.get(storage_key)
            except DamagedRecord:
                continue
            before = versions.visible(record, expires_at_ms - 1)
            if (
                before is not None
                and before.expires_at_ms == expires_at_ms
                and versions.visible(record, now_ms) is None
            ):
                self._publish(EXPIRED, b"expired", storage_key)
