"""The document of all users of a cluster: an entry for each, with a version (shared/document.py says how it merges).

`born` is the version under which the user was created: where it is another than before, the user was deleted and created
anew, and the sessions of the former user end.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, Final

from server.core.shared.document import SharedDocument, version_of
from server.core.users.rules import User, changed, selector_of

ENTRIES_KEPT: Final = 4096  # decoded entries that are kept, in case they come again
_ALL_KEYS: Final = b"~*"
_ANY_KEY: Final = b"%RW~*"


@dataclass(frozen=True, slots=True)
class UserEntry:
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
        return version_of(self)

    @property
    def is_deleted(self) -> bool:
        """Whether the user is deleted."""
        return self.user is None

    def _row(self) -> list[Any]:
        """The entry as a value of a JSON document. Bytes become characters of the same number."""
        if self.user is None:
            return [f"{self.counter:x}", self.node, f"{self.born:x}", None, []]
        own = _exact(self.user.own_rules(), self.user.root.all_keys)
        selectors = [_exact(each.rules(), each.all_keys) for each in self.user.selectors]
        return [f"{self.counter:x}", self.node, f"{self.born:x}", own, selectors]


@dataclass(frozen=True, slots=True)
class Document(SharedDocument[UserEntry]):
    """All users by name, deleted ones included."""

    FIELD: ClassVar[str] = "users"


def entry_of(row: list[Any]) -> UserEntry:
    """Decodes an entry of a JSON document of the right shape. Raises ValueError if its rules are none."""
    return _entry_in(_text(row))


def _exact(rules: list[bytes], all_keys: bool) -> list[str]:
    """Rules from which the same selector is decoded. As in Redis, `%RW~*` is a pattern among others, and `~*` the right to
    all keys, behind which no pattern may come; but ACL LIST shows both as `~*`."""
    return [(rule if all_keys or rule != _ALL_KEYS else _ANY_KEY).decode("latin-1") for rule in rules]


def _read(rules: list[str]) -> list[bytes]:
    """The rules of a selector. Versions before wrote what ACL LIST shows; there a `~*` beside others is a pattern."""
    found = [rule.encode("latin-1") for rule in rules]
    is_pattern = sum([rule[:1] in (b"~", b"%") for rule in found]) > 1
    return [_ANY_KEY if is_pattern and rule == _ALL_KEYS else rule for rule in found]


def _text(row: list[Any]) -> str:
    return json.dumps(row, separators=(",", ":"))


@lru_cache(maxsize=ENTRIES_KEPT)
def _entry_in(text: str) -> UserEntry:
    """Decodes an entry; of a document that has come before only what has changed is decoded anew."""
    row = json.loads(text)
    counter, node, born, own, selectors = int(row[0], 16), row[1], int(row[2], 16), row[3], row[4]
    if own is None:
        return UserEntry(counter, node, born, None)
    user = changed(User(), _read(own), None)
    groups = tuple([selector_of(_read(rules), None) for rules in selectors])
    return UserEntry(counter, node, born, User(**_fields(user), selectors=groups))


def _fields(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in ("enabled", "no_password", "sanitize", "passwords", "root")}
