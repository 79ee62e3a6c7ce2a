"""Writes keys into the cluster, many at a time, and not faster than is asked for.

A batch is one pipeline. One batch is on its way while its successor is gathered, so that the cluster writes while the
importer reads. What a node refuses for the moment (no quorum, a timeout, too much load) is sent again after a pause, before
the next batch is sent; every write of an import replaces its key, so it may run twice. What it refuses for good is counted,
and the import goes on.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from dynamo_cli.client import Client, Reply, Word
from dynamo_cli.failures import Refused
from dynamo_cli.target import Target

BATCH_KEYS: Final = 1024
BATCH_BYTES: Final = 2 << 20
_BATCHES_IN_SECOND: Final = 10  # at least, if a rate is asked for
_AGAIN: Final = ("NOQUORUM", "TIMEOUT", "BUSY", "STALE", "TRYAGAIN", "LOADING")
_PATIENCE_S: Final = 60.0
_PAUSE_S: Final = 0.05
_PAUSE_S_MAX: Final = 2.0
_REFUSALS_KEPT: Final = 1000
_REQUEST_BYTES_MAX: Final = 64 << 20  # by default
_COMMAND_BYTES: Final = 256  # of a command, beside key and value, at most


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


class _Flight(NamedTuple):
    """A batch that was sent, and the function that waits for its replies."""

    client: Client
    writes: list[Write]
    replies: Callable[[], list[Reply | Refused]]


Place = dict[str, Any]  # how far an import has come, as its progress file has it; "counts" are of earlier runs


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
        self._flight: _Flight | None = None
        self._place: Place | None = None  # where the import is once what was sent is acknowledged
        self._request_bytes_max = 0
        self.reached: Place | None = None  # the last place up to which all is acknowledged
        self.sent = 0  # keys that were written
        self.refused = 0
        self.refusals: list[Refusal] = []  # the first ones
        self._refused_keys: set[tuple[int, bytes]] = set()  # databases and keys of these

    def client(self, database: int) -> Client:
        """The connection to a database. Raises NotReached and Refused."""
        client = self._clients.get(database)
        if client is None:
            client = self._clients[database] = self._target.of_database(database).connect()
            client.call("PING")  # logs in, if the node wants that: a pipeline does not
            self._request_bytes_max = self._request_bytes_max or _request_bytes_max(client)
        return client

    def close(self) -> None:
        """Closes all connections."""
        for client in self._clients.values():
            client.close()

    def add(self, write: Write, place: Callable[[], Place] | None = None) -> None:
        """Adds a key to the batch, and sends that if it is full. `place` is asked then where the import is.

        A key that no request can carry is refused here: a node would close the connection. Raises NotReached and Refused.
        """
        if self._pending and write.database != self._pending[0].database:
            self.begin()
        self.client(write.database)
        if write.size_bytes + _COMMAND_BYTES > self._request_bytes_max:
            self._refuse(
                write, f"it takes {write.size_bytes} bytes, and request_bytes_max is {self._request_bytes_max}"
            )
            return
        self._pending.append(write)
        self._pending_bytes += write.size_bytes
        if len(self._pending) >= self._batch_keys or self._pending_bytes >= BATCH_BYTES:
            self.begin(place() if place is not None else None)

    def flush(self, place: Place | None = None) -> None:
        """Sends the batch, and waits until it is acknowledged. Raises as `begin`."""
        self.begin(place)
        self._finish()

    def begin(self, place: Place | None = None) -> None:
        """Sends the batch once the one before is acknowledged. Then the import is at `place`.

        Raises NotReached, and Refused if keys are refused for longer than a minute.
        """
        self._finish()
        writes, self._pending, self._pending_bytes = self._pending, [], 0
        self._place = place
        if not writes:
            return
        self._wait_for_turn(len(writes))
        client = self.client(writes[0].database)
        self._flight = _Flight(client, writes, client.begin([write.command for write in writes]))

    def _finish(self) -> None:
        """Waits for the batch that is on its way, and sends again what is refused for the moment."""
        flight, self._flight = self._flight, None
        if flight is not None:
            self._wait_for(flight)
        if self._place is not None:
            counts = Counter(self._place["counts"]) + Counter({"keys": self.sent, "refused": self.refused})
            self.reached, self._place = self._place | {"counts": dict(counts)}, None

    def _wait_for(self, flight: _Flight) -> None:
        pause_s, patient_until_s = _PAUSE_S, time.monotonic() + _PATIENCE_S
        writes, error = self._judged(flight.writes, flight.replies())
        while writes:
            if time.monotonic() > patient_until_s:
                node = str(flight.client.address)
                raise Refused(node, error, "dyn cluster status shows what is wrong; then run it again")
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _PAUSE_S_MAX)
            writes, error = self._judged(writes, flight.client.pipeline([write.command for write in writes]))

    def _wait_for_turn(self, keys: int) -> None:
        """Waits until the rate allows these keys. Time in which nothing was sent is not made up for."""
        if self._rate:
            now_s = time.monotonic()
            time.sleep(max(0.0, self._due_s - now_s))
            self._due_s = max(self._due_s, now_s) + keys / self._rate

    def _judged(self, writes: Sequence[Write], replies: Sequence[Reply | Refused]) -> tuple[list[Write], str]:
        """The writes that are to be sent again, and the error of one of them. Raises Refused."""
        again: list[Write] = []
        error = ""
        for write, reply in zip(writes, replies, strict=True):
            if not isinstance(reply, Refused):
                self.sent += 1
            elif reply.code in _AGAIN:
                again.append(write)
                error = reply.reply
            elif reply.code in ("NOAUTH", "NOPERM", "DISKFULL", "READONLY", "MISCONF"):
                raise reply
            else:
                self._refuse(write, reply.reply)
        return again, error

    def _refuse(self, write: Write, error: str) -> None:
        """Counts a refused key: once, however often it is written, if it is one of the first."""
        if (write.database, write.key) in self._refused_keys:
            return
        self.refused += 1
        if len(self.refusals) < _REFUSALS_KEPT:
            self._refused_keys.add((write.database, write.key))
            self.refusals.append(Refusal(write.database, write.key, error))


def _request_bytes_max(client: Client) -> int:
    """How long a request may be, as the node says; as by default, if it does not."""
    try:
        reply = client.call("CONFIG", "GET", "request_bytes_max")
    except Refused:
        return _REQUEST_BYTES_MAX
    return int(reply[1]) if isinstance(reply, list) and len(reply) == 2 else _REQUEST_BYTES_MAX


def write_of(database: int, key: bytes, payload: bytes, text: bytes | None, expires_at_ms: int) -> Write:
    """The command that sets a plain string, or restores a payload. `expires_at_ms`: 0 for never."""
    if text is None:
        expiry: tuple[Word, ...] = (b"%d" % expires_at_ms, payload, b"REPLACE", b"ABSTTL")
        return Write(database, key, (b"RESTORE", key, *expiry), len(key) + len(payload))
    options: tuple[Word, ...] = (b"PXAT", b"%d" % expires_at_ms) if expires_at_ms else ()
    return Write(database, key, (b"SET", key, text, *options), len(key) + len(text))
