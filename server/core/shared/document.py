"""A document that all nodes of a cluster keep: entries by name, each with a version, and how two documents merge.

Theory. Every node keeps the whole document and takes changes of it, also while other nodes are away. A change replaces the
entry of one name, under a version that no other entry has: a reading of the node's hybrid clock, greater than the version
of the entry before, and the node's id. Two nodes that meet merge their documents name by name: the higher version wins. So
all nodes come to hold the same document, and operators who change different names on two sides of a partition lose nothing.
Of two changes of the same name the later one wins, unless the document has another rule (`SharedDocument.merged_entry`).

A deletion leaves an entry without content, so that a node that was away does not bring back what was deleted. `DELETED_MAX`
of these are kept. Beyond that the oldest are forgotten, and `floor` is the highest version that was forgotten: from then on
an entry with a version of up to `floor` counts only where both documents have it, because it may be of something forgotten.
So a node must have been away for `DELETED_MAX` deletions to lose a change, and none brings back what was deleted.

Such documents: the users (users/document.py), the libraries of functions (scripts/libraries.py), and the numbering
of databases (numberings.py). Who keeps one and sends it to others: services/sharing.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

DELETED_MAX: Final = 4096
DIGEST_DIGITS: Final = 32


class SharedEntry(Protocol):
    """What is known under one name."""

    @property
    def counter(self) -> int:
        """The first part of its version."""

    @property
    def node(self) -> str:
        """The second part: the node that has made it."""

    @property
    def text(self) -> str:
        """The entry as it stands in a document: a JSON value."""

    @property
    def is_deleted(self) -> bool:
        """Whether it says that there is nothing under its name any more."""


E = TypeVar("E", bound=SharedEntry)
D = TypeVar("D", bound="SharedDocument[Any]")


@dataclass(frozen=True, slots=True)
class SharedDocument(Generic[E]):
    """Entries by name, deleted ones included."""

    FIELD: ClassVar[str]  # the field of the encoded document that has the entries
    entries: Mapping[bytes, E] = field(default_factory=dict)
    floor: int = 0

    def names(self) -> list[bytes]:
        """The names whose entries are not deleted, in order."""
        return sorted([name for name, entry in self.entries.items() if not entry.is_deleted])

    def encode(self) -> bytes:
        """The document as bytes; equal documents are equal bytes. Bytes of names become characters of the same number."""
        entries = [f"{json.dumps(name.decode('latin-1'))}:{self.entries[name].text}" for name in sorted(self.entries)]
        return f'{{"floor":"{self.floor:x}","{self.FIELD}":{{{",".join(entries)}}}}}'.encode()

    def digest(self) -> bytes:
        """A checksum in hexadecimal digits, by which nodes notice that their documents differ."""
        return sha256(self.encode()).hexdigest()[:DIGEST_DIGITS].encode()

    def with_entry(self: D, name: bytes, entry: E) -> D:
        """The document after a change of one entry."""
        return _bounded(self, {**self.entries, name: entry}, self.floor)

    def merged_entry(self, one: E, other: E) -> E:
        """What counts if two documents have these entries under one name: that of the higher version. Two entries of one
        version are the same, unless a node was run twice; then their contents decide."""
        return max(one, other, key=lambda entry: (version_of(entry), entry.text))

    def part(self: D, names: list[bytes]) -> D:
        """The entries of these names only, for nodes that have the others. Without the floor: what is not in it is not
        forgotten."""
        return replace(self, entries={name: self.entries[name] for name in names if name in self.entries}, floor=0)


def version_of(entry: SharedEntry) -> tuple[int, str]:
    """By which entries are compared; unique for each change."""
    return entry.counter, entry.node


def merged(one: D, other: D) -> D:
    """The merge of two documents: commutative, associative as long as nothing is forgotten, idempotent."""
    entries = {
        name: entry for name, entry in one.entries.items() if name in other.entries or entry.counter > other.floor
    }
    for name, entry in other.entries.items():
        present = entries.get(name)
        if present is None:
            if entry.counter > one.floor:
                entries[name] = entry
        elif entry != present:
            entries[name] = one.merged_entry(present, entry)
    return _bounded(one, entries, max(one.floor, other.floor))


def _bounded(like: D, entries: dict[bytes, Any], floor: int) -> D:
    deleted = [(version_of(entry), name) for name, entry in entries.items() if entry.is_deleted]
    if len(deleted) > DELETED_MAX:
        for version, name in sorted(deleted)[: len(deleted) - DELETED_MAX]:
            del entries[name]
            floor = max(floor, version[0])
    return replace(like, entries=entries, floor=floor)
