"""dyn export FILE.rdb: all keys of the cluster, database by database.

Each key is as it was when it was read. Keys that are written meanwhile are in the file as before or as after that, so the
file is no snapshot of one instant.

Each key is in the file once: redis-server ends with an error when a file that it loads has a key twice. SCAN of a cluster
answers each key once, but a node of another version or a change of the ring must not make a file useless, so the export
holds the keys of the database that it reads, some 100 bytes for each.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dynamo_cli.client import Client
from dynamo_cli.failures import Failure, Refused
from dynamo_cli.moving.rdb_writer import RdbWriter
from dynamo_cli.progress import Progress
from dynamo_cli.target import Target
from protocol.databases import DATABASES

_PAGE_KEYS: Final = 512


def export(path: Path, target: Target, databases: list[int] | None, shown: Progress) -> dict[str, Any]:
    """Writes the file. Returns the document of the result. Raises Failure."""
    try:
        writer = RdbWriter(path)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or error}") from None
    keys = 0
    try:
        for database in dict.fromkeys(databases or range(DATABASES)):
            with target.of_database(database).connect() as client:
                keys += _add_all(writer, client, database, keys, shown)
        writer.finish()
    except OSError as error:
        writer.abandon()
        raise Failure(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        writer.abandon()
        raise
    return {"keys": keys, "bytes": writer.size_bytes}


def _add_all(writer: RdbWriter, client: Client, database: int, before: int, shown: Progress) -> int:
    """Adds all keys of a database. Returns how many it has."""
    size = client.call("DBSIZE")
    added, cursor = 0, b"0"
    seen: set[bytes] = set()
    while size:
        match client.call("SCAN", cursor, "COUNT", _PAGE_KEYS):
            case [bytes() as cursor, list() as keys]:
                unseen = [key for key in dict.fromkeys(keys) if key not in seen]
                seen.update(unseen)
                added += _add(writer, client, database, unseen)
            case _:
                raise client.nonsense("SCAN", "not [cursor, [key, ...]]")
        shown.show(before + added, 0, f"{before + added} keys, database {database}")
        if cursor == b"0":
            break
    return added


def _add(writer: RdbWriter, client: Client, database: int, keys: list[bytes]) -> int:
    """Adds keys that are still there. Returns how many these are."""
    words = [each for key in keys for each in (("PEXPIRETIME", key), ("DUMP", key))]
    replies = client.pipeline(words)
    added = 0
    for key, expiry, payload in zip(keys, replies[::2], replies[1::2], strict=True):
        for reply in (expiry, payload):
            if isinstance(reply, Refused):
                raise reply
        if isinstance(payload, bytes) and isinstance(expiry, int):
            writer.add(database, key, payload, max(expiry, 0))
            added += 1
    return added
