"""Writes keys into the cluster, many at a time, and not faster than is asked for.

A batch is one pipeline. What a node refuses for the moment (no quorum, a timeout, too much load) is sent again after a
pause; every write of an import replaces its key, so it may run twice. What it refuses for good is counted, and the import
goes on.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from dynamo_cli.client import Client, Word
from dynamo_cli.failures import Refused
from dynamo_cli.target import Target

BATCH_KEYS: Final = 512
BATCH_BYTES: Final = 2 << 20
_BATCHES_IN_SECOND: Final = 10  # at least, if a rate is asked for
_AGAIN: Final = ("NOQUORUM", "TIMEOUT", "BUSY", "STALE", "TRYAGAIN", "LOADING")
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.05
_PAUSE_S_MAX: Final = 2.0
_REFUSALS_SHOWN: Final = 5


class Write(NamedTuple):
    """The command that writes a key of a database, and its size in bytes."""

    database: int
    key: bytes
    command: tuple[Word, ...]
    size_bytes: int


class Refusal(NamedTuple):
    """A key that a node has refused for good."""

    database: int
    key: bytes
    error: str


class Sender:
    """The connections to the cluster, one for each database. `rate` is how many keys a second to write at most; 0: any."""

    def __init__(self, target: Target, rate: int) -> None:
        self._target = target
        self._rate = rate
        self._clients: dict[int, Client] = {}
        self._batch_keys = min(BATCH_KEYS, max(1, rate // _BATCHES_IN_SECOND)) if rate else BATCH_KEYS
        self._due_s = 0.0  # when the next batch may leave
        self._pending: list[Write] = []
        self._pending_bytes = 0
        self.sent = 0  # keys that were written
        self.refused = 0
        self.refusals: list[Refusal] = []  # the first ones

    def client(self, database: int) -> Client:
        """The connection to a database. Raises NotReached and Refused."""
        client = self._clients.get(database)
        if client is None:
            client = self._clients[database] = self._target.of_database(database).connect()
            client.call("PING")  # logs in, if the node wants that: a pipeline does not
        return client

    def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            client.close()

    def add(self, write: Write) -> bool:
        """Adds a key to the batch. Whether the batch was full, and is written now. Raises NotReached and Refused."""
        if self._pending and write.database != self._pending[0].database:
            self.flush()
        self._pending.append(write)
        self._pending_bytes += write.size_bytes
        if len(self._pending) < self._batch_keys and self._pending_bytes < BATCH_BYTES:
            return False
        self.flush()
        return True

    def flush(self) -> None:
        """Writes the batch. Raises NotReached, and Refused if keys are refused for longer than a minute."""
        writes, self._pending, self._pending_bytes = self._pending, [], 0
        if not writes:
            return
        self._wait_for_turn(len(writes))
        client, pause_s, patient_until_s = self.client(writes[0].database), _PAUSE_S, time.monotonic() + _PATIENCE_S
        while writes:
            again, error = self._attempt(client, writes)
            if again and time.monotonic() > patient_until_s:
                raise Refused(str(client.address), error, "dyn cluster status shows what is wrong; then run it again")
            if again:
                time.sleep(pause_s)
                pause_s = min(2 * pause_s, _PAUSE_S_MAX)
            writes = again

    def _wait_for_turn(self, keys: int) -> None:
        """Waits until the rate allows these keys. Time in which nothing was sent is not made up for."""
        if self._rate:
            now_s = time.monotonic()
            time.sleep(max(0.0, self._due_s - now_s))
            self._due_s = max(self._due_s, now_s) + keys / self._rate

    def _attempt(self, client: Client, writes: Sequence[Write]) -> tuple[list[Write], str]:
        """Sends writes once. Returns those to be sent again, and the error of one of them."""
        again: list[Write] = []
        error = ""
        for write, reply in zip(writes, client.pipeline([write.command for write in writes]), strict=True):
            if not isinstance(reply, Refused):
                self.sent += 1
            elif reply.code in _AGAIN:
                again.append(write)
                error = reply.reply
            elif reply.code in ("NOAUTH", "NOPERM", "DISKFULL", "READONLY", "MISCONF"):
                raise reply
            else:
                self.refused += 1
                if len(self.refusals) < _REFUSALS_SHOWN:
                    self.refusals.append(Refusal(write.database, write.key, reply.reply))
        return again, error


def write_of(database: int, key: bytes, payload: bytes, text: bytes | None, expires_at_ms: int) -> Write:
    """The write that makes a key hold a plain string, or what a payload shows. It expires then; 0: never."""
    if text is None:
        expiry: tuple[Word, ...] = (b"%d" % expires_at_ms, payload, b"REPLACE", b"ABSTTL")
        return Write(database, key, (b"RESTORE", key, *expiry), len(key) + len(payload))
    options: tuple[Word, ...] = (b"PXAT", b"%d" % expires_at_ms) if expires_at_ms else ()
    return Write(database, key, (b"SET", key, text, *options), len(key) + len(text))
