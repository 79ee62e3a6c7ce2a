"""Databases: sixteen name spaces of one key space, as SELECT chooses them.

The problem. A key of database 3 is not the key of the same name in database 0, and both have the same slot, as in Redis.
Nodes store, relay, merge and repair keys as plain bytes, and a key of database 0 may be any bytes.

The idea. The *inner key* is what stands for a key behind the dispatcher, in storage keys, and between nodes:

    key of database 0                                the key itself
    key of database N > 0                            MARK, a byte N, the key
    key of database 0 that begins with MARK          MARK, a byte 0, the key

So no two keys have the same inner key. `key_slot` (slots.py) leaves MARK and the byte out. MARK contains a `{`, so that it
costs keys without a hash tag nothing to look for it. The keys of database 0 look as they did before there were others,
except those that begin with MARK, eight bytes that were drawn for this purpose.
"""

from __future__ import annotations

from typing import Final

DATABASES: Final = 16
EVERY_DATABASE: Final = -1  # stands for every database
MARK: Final = b"\xffdb{\x00\xb6\x5e\x91"
INNER_BYTES: Final = len(MARK) + 1  # by so much an inner key of another database is longer than the key
PREFIXES: Final = tuple(MARK + bytes([database]) for database in range(DATABASES))


def inner_key(database: int, key: bytes) -> bytes:
    """Returns the inner key of a key of a database, 0 to 15."""
    return PREFIXES[database] + key if database or key.startswith(MARK) else key


def database_of(inner: bytes) -> int:
    """HOT. Returns the database of an inner key."""
    if not inner.startswith(MARK) or len(inner) < INNER_BYTES:
        return 0
    return inner[INNER_BYTES - 1] if inner[INNER_BYTES - 1] < DATABASES else 0


def client_key(inner: bytes) -> bytes:
    """Returns the key, as clients name it, of an inner key."""
    return inner[INNER_BYTES:] if inner.startswith(MARK) else inner


def shown_key(inner: bytes) -> str:
    """Returns an inner key as messages to operators show it."""
    database = database_of(inner)
    return f"{client_key(inner)!r} of database {database}" if database else repr(client_key(inner))
