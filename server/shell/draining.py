"""Lingering close: closes a refused connection so that the client can read the error, even if it is still sending.

Theory. To close a socket with bytes that were received and not read sends a reset. A reset discards what the client has not
read yet. So a client that sends 65 MB where a node takes 64 would see "connection reset" and not the error. Therefore the
connection is shut for writing after the error. What the client still sends is read and dropped, until the client has read
the error and closes (nginx calls this lingering close). That ends after `QUIET_S` without a byte, after `WHOLE_S`, or after
`DRAINED_BYTES_MAX`. At most `CONNECTIONS_MAX` connections linger at a time.
"""

from __future__ import annotations

import asyncio

QUIET_S = 2.0
WHOLE_S = 10.0
DRAINED_BYTES_MAX = 512 << 20
CONNECTIONS_MAX = 100


class Draining(asyncio.Protocol):
    """Reads and drops what comes over a connection; calls `owner.connection_lost` when the connection has ended."""

    count = 0  # of connections that are drained now

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, owner: asyncio.Protocol) -> None:
        self._loop = loop
        self._transport = transport
        self._owner = owner
        self._drained_bytes = 0
        self._until_s = loop.time() + WHOLE_S
        self._quiet_s = loop.time() + QUIET_S
        self._timer: asyncio.TimerHandle | None = None
        Draining.count += 1

    def begin(self) -> None:
        """Shuts the connection for writing, and reads until the client closes."""
        self._transport.set_protocol(self)
        if self._transport.can_write_eof():
            self._transport.write_eof()
        self._transport.resume_reading()
        self._look()

    def _look(self) -> None:
        now_s = self._loop.time()
        if now_s >= min(self._until_s, self._quiet_s):
            self._transport.abort()
        else:
            self._timer = self._loop.call_at(min(self._until_s, self._quiet_s), self._look)

    def data_received(self, data: bytes) -> None:
        """Drops what the client still sends."""
        self._drained_bytes += len(data)
        self._quiet_s = self._loop.time() + QUIET_S
        if self._drained_bytes > DRAINED_BYTES_MAX:
            self._transport.abort()

    def eof_received(self) -> bool:
        """The client has sent all: it reads the error, or has gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        Draining.count -= 1
        if self._timer is not None:
            self._timer.cancel()
        self._owner.connection_lost(exc)


def close_readably(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, owner: asyncio.Protocol) -> None:
    """Closes a connection after what was written to it, so that the client can read that."""
    if Draining.count < CONNECTIONS_MAX and not transport.is_closing():
        Draining(loop, transport, owner).begin()
    else:
        transport.close()
