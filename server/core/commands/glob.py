"""Redis' glob patterns (util.c, stringmatchlen) as regular expressions: * ? [abc] [^a] [a-z] and \\x for a literal x."""

from __future__ import annotations

import re
from functools import lru_cache


@lru_cache(maxsize=256)
def compile_glob(pattern: bytes) -> re.Pattern[bytes]:
    """A pattern whose `fullmatch` says what Redis would say."""
    parts: list[bytes] = []
    index = 0
    while index < len(pattern):
        char = pattern[index : index + 1]
        index += 1
        if char == b"*":
            if not parts or parts[-1] != b".*":
                parts.append(b".*")
        elif char == b"?":
            parts.append(b".")
        elif char == b"[":
            part, index = _class(pattern, index)
            parts.append(part)
        elif char == b"\\" and index < len(pattern):
            parts.append(re.escape(pattern[index : index + 1]))
            index += 1
        else:
            parts.append(re.escape(char))
    return re.compile(b"".join(parts), re.DOTALL)


def _class(pattern: bytes, index: int) -> tuple[bytes, int]:
    """The class that begins at `index`, behind its bracket, and where it ends. An unclosed one ends with the pattern."""
    negated = pattern[index : index + 1] == b"^"
    index += negated
    members: list[bytes] = []
    while index < len(pattern) and pattern[index : index + 1] != b"]":
        if pattern[index : index + 1] == b"\\" and index + 1 < len(pattern):
            index += 1
            members.append(re.escape(pattern[index : index + 1]))
        elif pattern[index + 1 : index + 2] == b"-" and index + 2 < len(pattern):
            low, high = sorted((pattern[index], pattern[index + 2]))
            members.append(re.escape(bytes([low])) + b"-" + re.escape(bytes([high])))
            index += 2
        else:
            members.append(re.escape(pattern[index : index + 1]))
        index += 1
    if not members:
        return (b"." if negated else b"(?!)"), index + 1
    return b"[" + (b"^" if negated else b"") + b"".join(members) + b"]", index + 1
