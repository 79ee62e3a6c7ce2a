"""The end of a refused connection: the client reads why, also if it is still sending.

Theory. Whoever closes a socket with unread bytes in it sends a reset, and a reset takes back what the client has not read
yet: one that sends 65 MB, of which a node takes 64, would see "connection reset" and not the error. So the connection is
shut for writing behind the error, and what the client still sends is read and thrown away until it has read the error and
closes, as web servers do (nginx calls it lingering). It cannot hold us for long: `QUIET_S` without a byte, `WHOLE_S`, or
`DRAINED_BYTES_MAX` end it, and so does being one of more than `CONNECTIONS_MAX`.
"""

from __future__ import annotations

import asyncio

QUIET_S = 2.0
WHOLE_S = 10.0
DRAINED_BYTES_MAX = 512 << 20
CONNECTIONS_MAX = 100


class Draining(asyncio.Protocol):
    """Reads a connection empty in place of `owner`, which hears of its end."""

    count = 0  # of those that run

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
        """From now on the client can only read."""
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
        """What the client had begun to send."""
        self._drained_bytes += len(data)
        self._quiet_s = self._loop.time() + QUIET_S
        if self._drained_bytes > DRAINED_BYTES_MAX:
            self._transport.abort()

    def eof_received(self) -> bool:
        """The client has sent all that it wanted: it reads the error, or has gone."""
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        Draining.count -= 1
        if self._timer is not None:
            self._timer.cancel()
        self._owner.connection_lost(exc)


def close_readably(loop: asyncio.AbstractEventLoop, transport: asyncio.Transport, owner: asyncio.Protocol) -> None:
    """Closes a connection behind what was written to it, in such a way that the client can read that."""
    if Draining.count < CONNECTIONS_MAX and not transport.is_closing():
        Draining(loop, transport, owner).begin()
    else:
        transport.close()
