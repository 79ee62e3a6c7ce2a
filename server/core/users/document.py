"""The document of all users of a cluster: an entry for each, with a version, and how two documents merge.

Theory. Every node keeps the whole document and takes changes of it, also while other nodes are away. A change replaces the
entry of one user, under a version that no other entry has: a reading of the node's hybrid clock, greater than the version
of the entry before, and the node's id. Two nodes that meet merge their documents user by user: the higher version wins. So
all nodes come to hold the same document, and operators who change different users on two sides of a partition lose nothing.
Of two changes of the same user the later one wins.

A deleted user leaves an entry without rules, so that a node that was away does not bring the user back. `DELETED_MAX` of
these are kept. Beyond that the oldest are forgotten, and `floor` is the highest version that was forgotten: from then on an
entry with a version of up to `floor` counts only where both documents have it, because it may be of a forgotten user. So a
node must have been away for `DELETED_MAX` deletions to lose a change, and none brings back a deleted user.

`born` is the version under which the user was created: where it is another than before, the user was deleted and created
anew, and the sessions of the former user end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import sha256
from typing import Any, Final

from server.core.users.rules import User, changed, selector_of

DELETED_MAX: Final = 4096
ENTRIES_KEPT: Final = 4096  # decoded entries that are kept, in case they come again
DIGEST_DIGITS: Final = 32


@dataclass(frozen=True, slots=True)
class Entry:
    """What is known of one user. `user` is None once it is deleted."""

    counter: int
    node: str
    born: int
    user: User | None
    text: str = field(init=False, compare=False, repr=False)  # as it stands in a document

    def __post_init__(self) -> None:
        """Encodes the entry, once, for all documents that it is part of."""
        object.__setattr__(self, "text", _text(self._row()))

    @property
    def version(self) -> tuple[int, str]:
        """By which entries are compared; unique for each change."""
        return self.counter, self.node

    def _row(self) -> list[Any]:
        """The entry as a value of a JSON document. Bytes become characters of the same number."""
        if self.user is None:
            return [f"{self.counter:x}", self.node, f"{self.born:x}", None, []]
        own = [rule.decode("latin-1") for rule in self.user.own_rules()]
        selectors = [[rule.decode("latin-1") for rule in each.rules()] for each in self.user.selectors]
        return [f"{self.counter:x}", self.node, f"{self.born:x}", own, selectors]


@dataclass(frozen=True, slots=True)
class Document:
    """All users by name, deleted ones included."""

    entries: Mapping[bytes, Entry] = field(default_factory=dict)
    floor: int = 0

    def names(self) -> list[bytes]:
        """The names of the users that are not deleted, in order."""
        return sorted([name for name, entry in self.entries.items() if entry.user is not None])

    def encode(self) -> bytes:
        """The document as bytes; equal documents are equal bytes."""
        users = [f"{json.dumps(name.decode('latin-1'))}:{self.entries[name].text}" for name in sorted(self.entries)]
        return f'{{"floor":"{self.floor:x}","users":{{{",".join(users)}}}}}'.encode()

    def digest(self) -> bytes:
        """A checksum in hexadecimal digits, by which nodes notice that their documents differ."""
        return sha256(self.encode()).hexdigest()[:DIGEST_DIGITS].encode()

    def with_entry(self, name: bytes, entry: Entry) -> Document:
        """The document after a change of one user."""
        return _bounded({**self.entries, name: entry}, self.floor)

    def part(self, names: list[bytes]) -> Document:
        """The entries of these users only, for nodes that have the others. Without the floor: what is not in it is not
        forgotten."""
        return Document({name: self.entries[name] for name in names if name in self.entries})


def merged(one: Document, other: Document) -> Document:
    """The merge of two documents: commutative, associative as long as nothing is forgotten, idempotent.

    Two entries of one version are the same, unless a node was run twice; then their contents decide.
    """
    entries = {
        name: entry for name, entry in one.entries.items() if name in other.entries or entry.counter > other.floor
    }
    for name, entry in other.entries.items():
        present = entries.get(name)
        if present is None:
            if entry.counter > one.floor:
                entries[name] = entry
        elif entry.version > present.version or (entry.version == present.version and entry.text > present.text):
            entries[name] = entry
    return _bounded(entries, max(one.floor, other.floor))


def _bounded(entries: dict[bytes, Entry], floor: int) -> Document:
    deleted = [(entry.version, name) for name, entry in entries.items() if entry.user is None]
    if len(deleted) > DELETED_MAX:
        for version, name in sorted(deleted)[: len(deleted) - DELETED_MAX]:
            del entries[name]
            floor = max(floor, version[0])
    return Document(entries, floor)


def entry_of(row: list[Any]) -> Entry:
    """Decodes an entry of a JSON document of the right shape. Raises ValueError if its rules are none."""
    return _entry_in(_text(row))


def _text(row: list[Any]) -> str:
    return json.dumps(row, separators=(",", ":"))


@lru_cache(maxsize=ENTRIES_KEPT)
def _entry_in(text: str) -> Entry:
    """Decodes an entry; of a document that has come before only what has changed is decoded anew."""
    row = json.loads(text)
    counter, node, born, own, selectors = int(row[0], 16), row[1], int(row[2], 16), row[3], row[4]
    if own is None:
        return Entry(counter, node, born, None)
    user = changed(User(), [_bytes(rule) for rule in own], None)
    groups = tuple([selector_of([_bytes(rule) for rule in rules], None) for rules in selectors])
    return Entry(counter, node, born, User(**_fields(user), selectors=groups))


def _fields(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in ("enabled", "no_password", "sanitize", "passwords", "root")}


def _bytes(text: str) -> bytes:
    return text.encode("latin-1")
