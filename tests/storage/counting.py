"""How many keys a store holds."""

from __future__ import annotations

from server.storage.engine import Engine

_PAGE = 1000


def count(engine: Engine) -> int:
    """The number of all keys, which are read for it."""
    total, start = 0, b""
    while page := engine.scan(start, None, _PAGE):
        total += len(page)
        start = page[-1][0] + b"\0"
    return total
