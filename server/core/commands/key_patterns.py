"""The patterns one of which a key must match: what a user's rules say of keys (permissions.py)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from server.core.commands.glob import Glob
from server.core.users.rules import KeyPattern, Selector

_WRITING: Final = frozenset(("update", "insert", "delete"))


class Patterns:
    """Patterns one of which a key must match.

    Those of the form `prefix*`, the usual ones, need no regular expression. The first of these is compared outside of the
    loop over the others: most users have one pattern.
    """

    def __init__(self, patterns: list[bytes]) -> None:
        self.patterns = patterns
        prefixes = [each[:-1] for each in patterns if _is_prefix(each)]
        self._has_prefix = bool(prefixes)
        self._prefix = prefixes[0] if prefixes else b""
        self._further = prefixes[1:]
        self._globs = [Glob(each) for each in patterns if not _is_prefix(each)]

    def match(self, key: bytes) -> bool:
        """HOT. Whether a key matches one of them."""
        if self._has_prefix and key.startswith(self._prefix):
            return True
        for prefix in self._further:
            if key.startswith(prefix):
                return True
        return bool(self._globs) and any(glob.matches(key) for glob in self._globs)


def _is_prefix(pattern: bytes) -> bool:
    """Whether a pattern is a plain text and a star behind it."""
    return len(pattern) > 1 and pattern[-1:] == b"*" and not any(byte in b"*?[\\" for byte in pattern[:-1])


class KeyRights:
    """What one selector says of keys."""

    def __init__(self, selector: Selector) -> None:
        self.all_keys = selector.all_keys
        self._keys: Sequence[KeyPattern] = selector.keys
        self._by_access: dict[str, Patterns] = {}  # as many as key specifications have different accesses

    def patterns_of(self, access: str) -> Patterns:
        """HOT. The patterns that allow a use of a key, in the words of key specifications, unless all keys are allowed."""
        found = self._by_access.get(access)
        return self._compute(access) if found is None else found

    def _compute(self, access: str) -> Patterns:
        words = access.split()
        reads, writes = "access" in words, not _WRITING.isdisjoint(words)
        fitting = [each.pattern for each in self._keys if each.reads >= reads and each.writes >= writes]
        patterns = self._by_access[access] = Patterns(fitting)
        return patterns

    def allow(self, key: bytes, access: str) -> bool:
        """Whether the selector allows this use of a key."""
        return self.all_keys or self.patterns_of(access).match(key)
