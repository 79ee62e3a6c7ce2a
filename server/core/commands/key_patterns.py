"""The patterns one of which a key must match: what a user's rules say of keys (permissions.py)."""

from __future__ import annotations

from server.core.commands.glob import Glob


class Patterns:
    """Patterns one of which a key must match.

    Those of the form `prefix*`, the usual ones, need no regular expression.
    """

    def __init__(self, patterns: list[bytes]) -> None:
        self._prefixes: list[bytes] = [each[:-1] for each in patterns if _is_prefix(each)]
        self._globs = [Glob(each) for each in patterns if not _is_prefix(each)]

    def match(self, key: bytes) -> bool:
        """HOT. Whether a key matches one of them."""
        for prefix in self._prefixes:
            if key.startswith(prefix):
                return True
        return any(glob.matches(key) for glob in self._globs)


def _is_prefix(pattern: bytes) -> bool:
    """Whether a pattern is a plain text and a star behind it."""
    return len(pattern) > 1 and pattern[-1:] == b"*" and not any(byte in b"*?[\\" for byte in pattern[:-1])
