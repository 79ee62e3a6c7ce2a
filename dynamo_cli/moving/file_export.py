"""dyn export FILE.rdb: all keys of the cluster, database by database.

Each key is as it was when it was read. Keys that are written meanwhile are in the file as before or as after that, so the
file is no snapshot of one instant.

Each key is in the file once: redis-server ends with an error when a file that it loads has a key twice. SCAN of a cluster
answers each key once, but a node of another version or a change of the ring must not make a file useless, so the export
holds the keys of the database that it reads, some 100 bytes for each.

If databases are swapped meanwhile, no file is made: one of them would be in it twice, the other one not at all, or both in
part. In each database the export watches a random key, from the first read to the last. EXEC answers null if the database
was swapped. Nodes refuse WATCH while a member has not been reached since they started, and a user may lack the right to it.
An export is wanted most when nodes are down, so it goes on then, and says that it does not notice swaps.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, NamedTuple

from dynamo_cli.client import Client, Reply
from dynamo_cli.failures import Failure, Refused
from dynamo_cli.moving.page_size import PAGE_KEYS, PageSize
from dynamo_cli.moving.rdb_writer import RdbWriter
from dynamo_cli.output import note
from dynamo_cli.progress import Progress
from dynamo_cli.target import Target
from protocol.databases import DATABASES

_WATCHED_BYTES: Final = 16
_LOGIN: Final = ("NOAUTH", "WRONGPASS")
_SWAPPED: Final = (
    "databases were swapped meanwhile, so the file would have keys twice or not at all: it was not written"
)


def export(path: Path, target: Target, databases: list[int] | None, shown: Progress) -> dict[str, Any]:
    """Writes the file. Returns the document of the result. Raises Failure."""
    try:
        writer = RdbWriter(path)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with ExitStack() as connections:
            clients = {
                database: connections.enter_context(target.of_database(database).connect())
                for database in dict.fromkeys(databases or range(DATABASES))
            }
            exported = _Export(writer, clients, shown)
            exported.run()
        writer.finish()
    except OSError as error:
        writer.abandon()
        raise Failure(f"cannot write {path}: {error.strerror or error}") from None
    except BaseException:
        writer.abandon()
        raise
    return {"keys": exported.keys, "bytes": writer.size_bytes}


class _Export:
    """The export of some databases, each by a connection of its own."""

    def __init__(self, writer: RdbWriter, clients: dict[int, Client], shown: Progress) -> None:
        self._writer = writer
        self._clients = clients
        self._shown = shown
        self._page_size = PageSize()
        self._notices_swaps = True
        self.keys = 0

    def run(self) -> None:
        """Adds all keys to the file. Raises OSError and Failure."""
        watching = [client for client in self._clients.values() if self._is_watched(client)]
        listed = self._listed()
        for database, client in self._clients.items():
            if database in listed or client.call("DBSIZE"):
                self._add_all(database, client)
        if any(self._is_swapped(client) for client in watching):
            raise Failure(_SWAPPED, "run it again")

    def _is_watched(self, client: Client) -> bool:
        """Begins to watch a database. Returns whether the node does. Raises NotReached, and Refused if a login fails."""
        try:
            client.call("WATCH", secrets.token_bytes(_WATCHED_BYTES))
        except Refused as refused:
            if refused.code in _LOGIN:
                raise
            self._tell_unnoticed(refused)
            return False
        return True

    def _is_swapped(self, client: Client) -> bool:
        """Whether a database is known to have been swapped since it is watched. All was read: no error undoes that."""
        try:
            client.call("MULTI")
            return client.call("EXEC") is None
        except Failure as failure:
            self._tell_unnoticed(failure)
            return False

    def _tell_unnoticed(self, failure: Failure) -> None:
        """Says once why swaps are not noticed."""
        if self._notices_swaps:
            note(f"if databases are swapped meanwhile, this is not noticed: {failure.message}")
        self._notices_swaps = False

    def _listed(self) -> list[int]:
        """The databases of which the node has keys; none if it does not say. (DBSIZE of these may take long: it reads
        what expires.)"""
        try:
            reply = next(iter(self._clients.values())).call("INFO", "keyspace")
        except Refused:  # a user may lack the right
            return []
        lines = reply.decode("utf-8", "replace").splitlines() if isinstance(reply, bytes) else []
        return [int(line[2:].partition(":")[0]) for line in lines if line[:2] == "db" and line[2:3].isdigit()]

    def _add_all(self, database: int, client: Client) -> None:
        """Adds all keys of a database. What was read is written while the next keys are read."""
        seen: set[bytes] = set()
        cursor, before = b"0", _Part([], [])
        while True:
            match client.call("SCAN", cursor, "COUNT", PAGE_KEYS):
                case [bytes() as cursor, list() as keys]:
                    unseen = [key for key in dict.fromkeys(keys) if key not in seen]
                    seen.update(unseen)
                    for part in self._page_size.parts(unseen):
                        words = [each for key in part for each in ((b"PEXPIRETIME", key), (b"DUMP", key))]
                        replies = client.begin(words)
                        self._write(database, before)
                        before = _Part(part, replies())
                        self._page_size.adapt(sum([len(each) for each in before.replies if isinstance(each, bytes)]))
                case _:
                    raise client.nonsense("SCAN", "not [cursor, [key, ...]]")
            self._shown.show(self.keys, 0, f"{self.keys} keys, database {database}")
            if cursor == b"0":
                self._write(database, before)
                return

    def _write(self, database: int, part: _Part) -> None:
        """Writes keys that are still there."""
        for key, expiry, payload in zip(part.keys, part.replies[::2], part.replies[1::2], strict=True):
            for reply in (expiry, payload):
                if isinstance(reply, Refused):
                    raise reply
            if isinstance(payload, bytes) and isinstance(expiry, int):
                self._writer.add(database, key, payload, max(expiry, 0))
                self.keys += 1


class _Part(NamedTuple):
    """Keys, and the replies to PEXPIRETIME and DUMP of each."""

    keys: Sequence[bytes]
    replies: Sequence[Reply | Refused]
