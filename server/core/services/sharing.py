"""A document that all nodes keep (shared/document.py), as this node has it: on its disk, and with the other nodes.

Theory. A change is made here: it is stored with the batch of the turn, is in force on this node at once, and goes to all
nodes that can be reached. A node that could not be reached notices by a digest, which travels with gossip, that its
document differs; then both send theirs, and merge. So a change is made without asking anybody, and needs no quorum.

A node of a version that does not know the document is not sent it: `peers` are those that do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from protocol.bounds import COUNTER_MAX
from server.core.base.errors import CommandError
from server.core.base.room import FOR_NOTHING
from server.core.base.state import State
from server.core.shared.document import SharedDocument, SharedEntry, merged

D = TypeVar("D", bound=SharedDocument[Any])


class Sharing(Generic[D]):
    """One document. `name` is that of the stored one, `peers` are the nodes that know it, and `encode` makes the message
    that carries it out of a clock reading and the encoded document."""

    def __init__(
        self, state: State, name: bytes, document: D, peers: dict[str, None], encode: Callable[[int, bytes], bytes]
    ) -> None:
        self._state = state
        self._name = name
        self._peers = peers
        self._encode = encode
        self._digest: bytes | None = None
        self.document = document
        self._is_stored = True
        self.size_bytes = len(document.encode())

    # --- changing

    def check_room(self) -> None:
        """Raises CommandError if the document cannot be stored."""
        if self._state.room == FOR_NOTHING:
            raise CommandError(
                f"DISKFULL the disk of node {self._state.member.name} has no room: free some space there"
            )

    def next_counter(self, present: SharedEntry | None) -> int:
        """The first part of the version of a change: later than that of the entry before. Raises CommandError if there is
        no later one, which other nodes would read."""
        counter = max(self._state.clock.next(), present.counter + 1 if present is not None else 0)
        if counter > COUNTER_MAX:
            raise CommandError(
                f"ERR node {self._state.member.name} cannot change the {self._name.decode()}: the version of what is there "
                f"is the highest possible, {COUNTER_MAX:x}"
            )
        return counter

    def adopt(self, document: D) -> None:
        """Brings the document into force, and stores it with the batch of the turn, or once the disk has room."""
        self.document = document
        self._digest = None
        self._is_stored = False
        self.store()

    def store(self) -> None:
        """Stores the document, unless it is stored, or has no room."""
        if self._is_stored or self._state.room == FOR_NOTHING:
            return
        self._is_stored = True
        encoded = self.document.encode()
        self.size_bytes = len(encoded)
        self._state.records.put_document(self._name, encoded)

    def send_part(self, names: list[bytes]) -> None:
        """Sends what has changed to all nodes that can be reached."""
        part = self.document.part(names).encode()
        for peer in self.reachable():
            self._state.send(peer, self._encode(self._state.clock_reading(), part))

    def reachable(self) -> list[str]:
        """The nodes that know the document and can be reached."""
        return [peer for peer in self._peers if peer in self._state.links]

    # --- between nodes

    def digest(self) -> bytes:
        """A checksum of the document, by which nodes notice that theirs differ."""
        if self._digest is None:
            self._digest = self.document.digest()
        return self._digest

    def send_all(self, peer: str) -> None:
        """Sends the whole document to a peer whose version has it."""
        if peer in self._peers:
            self._state.send(peer, self._encode(self._state.clock_reading(), self.document.encode()))

    def digest_received(self, peer: str, digest: bytes) -> None:
        """`peer` has a document with that digest: if it is another than ours, it gets ours."""
        if digest != self.digest() and peer in self._state.links:
            self.send_all(peer)

    def merged_with(self, document: D, needs_room: bool = True) -> D | None:
        """Our document merged with that of another node, or a part of it; None if that changes nothing, or has no room."""
        if needs_room and self._state.room == FOR_NOTHING:
            return None  # it cannot be stored; gossip brings it again
        following = merged(self.document, document)
        return following if following != self.document else None

    def changed_since(self, before: D) -> list[bytes]:
        """The names whose entries are others than before."""
        entries = self.document.entries
        return [name for name in entries if entries[name] != before.entries.get(name)]
