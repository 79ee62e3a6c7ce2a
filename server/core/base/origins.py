"""Who has made a change: the client that does not want to be told of its own ones (CLIENT TRACKING … NOLOOP).

Theory. Replicas tell a client's node, its home, that the record of a key has changed, and they do not know by whom. So the
coordinator of a write tells the home which record it has replaced by which (MADE). A replica tells the same of each change
(ALTERED). A change is the client's own only if both agree, or if several of the client's own changes in a row make it. A
replica that has got another client's change with it has replaced another record; so such a change is told. An error of this
kind would leave an old value in the client's cache for ever, and one of the other kind costs the client one read.

A record is known by its checksum, its first 8 bytes.

The sink of a command has its origin (`Sink.origin`) only if somebody wants to know. It goes with the command: to the sinks
of its parts, and to the relays of the home, each of which has the commands of one such client only.
"""

from __future__ import annotations

from typing import Final

from protocol.databases import client_key
from server.core.messages.publications import KeyChange
from server.core.records.records import PREFIX_BYTES

_DIGEST_BYTES: Final = 8
NOTHING: Final = bytes(_DIGEST_BYTES)  # stands for no record
OWN_CHANGES_MAX: Final = 1000  # that are remembered for a client: its latest ones


def digest_of(record: bytes | None) -> bytes:
    """The digest of a record; NOTHING for none."""
    return NOTHING if record is None else record[:_DIGEST_BYTES]


def key_change(storage_key: bytes, before: bytes | None, after: bytes | None) -> KeyChange:
    """The change of a record, under the name by which clients know its key."""
    return KeyChange(client_key(storage_key[PREFIX_BYTES:]), digest_of(before), digest_of(after))


class Origin:
    """Who has sent a command, for the writes that it makes."""

    def made(self, change: KeyChange) -> None:
        """One of its commands has made this change."""
        raise NotImplementedError


class OwnChanges(Origin):
    """A client of this node that does not want to be told of its own changes, and the latest of these."""

    def __init__(self) -> None:
        self._after: dict[tuple[bytes, bytes], bytes] = {}  # by key and digest before: the digest after

    def made(self, change: KeyChange) -> None:
        """HOT. A command of the client has made this change."""
        self._after[change.key, change.before] = change.after
        if len(self._after) > OWN_CHANGES_MAX:
            del self._after[next(iter(self._after))]

    def has_made(self, change: KeyChange) -> bool:
        """Whether the client alone has made a change, by one command or several in a row."""
        digest = change.before
        for _ in range(OWN_CHANGES_MAX if digest != change.after else 0):
            after = self._after.get((change.key, digest))
            if after is None or after == change.after:
                return after is not None
            digest = after
        return False
