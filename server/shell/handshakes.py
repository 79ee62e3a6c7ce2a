"""TLS handshakes of connections that others open: how many at a time, for how long, and how much work in one pass.

Theory. A handshake costs a signature, some hundred µs, and whoever connects may leave it half made. So:

| bound | at it |
|---|---|
| `tls_handshakes_max` at a time, fewer if clients hold the descriptors | of the host that has most, the oldest is closed |
| `tls_handshake_ms_max` each | it is closed |
| `WORK_S_MAX` of work in one pass of the loop | the others wait for the next pass, first come first served |

So a thousand half-made handshakes of one host delay nobody: clients that are connected are served between two passes, and
a handshake of another host is not the one that is closed.

The first byte of a TLS connection is 22 (a handshake record), and no command begins with it. So a connection that speaks
the other way than its port is told from the rest at once, and refused with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import cast

from protocol import resp
from server.shell.certificates import Certificates
from server.shell.context import Context
from server.shell.files import ARRIVALS_MAX
from server.shell.tls_transport import TlsProtocol

log = logging.getLogger("dyn")
HELLO = 0x16  # the first byte of a TLS connection
WORK_S_MAX = 0.002
NO_TLS_HERE = "ERR this port does not take TLS: see tls_port in CONFIG GET"
TLS_ONLY = "ERR this port takes TLS connections only"


class Handshakes:
    """The handshakes with one server that are under way."""

    def __init__(self, context: Context, certificates: Certificates) -> None:
        self._context = context
        self._certificates = certificates
        self._running: dict[object, str] = {}  # an Arrival or its TlsProtocol -> the host
        self._hosts: dict[str, int] = {}  # how many each has
        self._queue: deque[TlsProtocol] = deque()  # bytes have come for them
        self._scheduled = False

    def __len__(self) -> int:
        return len(self._running)

    def admit(self, arrival: Arrival) -> None:
        """A connection was made to a port that takes TLS only."""
        self._enter(arrival, host_of(arrival.transport))

    def hello(self, transport: asyncio.Transport, data: bytes, app: asyncio.Protocol, arrival: object = None) -> None:
        """A connection begins with the bytes of a handshake. `app` serves it once that has succeeded."""
        self._leave(arrival)
        tls = TlsProtocol(self._certificates.for_server(), True, app, self._ready, self._ended)
        tls.own_certificate = self._certificates.own
        transport.set_protocol(tls)
        tls.connection_made(transport)
        self._enter(tls, host_of(transport))
        tls.data_received(data)

    def refuse(self, transport: asyncio.Transport, error: str, arrival: object = None) -> None:
        """A connection speaks TLS where that is not taken, or does not speak it where only that is."""
        self._leave(arrival)
        self._context.node.state.statistics.tls_refused += 1
        log.warning("connection from %s is refused: %s", address_of(transport), error)
        transport.write(resp.error(error))
        transport.close()

    def gone(self, arrival: Arrival) -> None:
        """A connection has ended before it has sent anything."""
        self._leave(arrival)

    def _room(self) -> int:
        """How many handshakes there may be: each holds a descriptor that a client may need."""
        config, clients = self._context.config, len(self._context.services.clients.sessions)
        return max(ARRIVALS_MAX, min(config.tls_handshakes_max, config.clients_max - clients))

    def _enter(self, entry: Arrival | TlsProtocol, host: str) -> None:
        self._running[entry] = host
        self._hosts[host] = self._hosts.get(host, 0) + 1
        self._context.loop.call_later(self._context.config.tls_handshake_ms_max / 1000, self._too_late, entry)
        while len(self._running) > self._room():
            self._close_one()

    def _close_one(self) -> None:
        """Closes the oldest handshake of the host that has most of them."""
        most = max(self._hosts, key=self._hosts.__getitem__)
        victim = next(entry for entry, host in self._running.items() if host == most)
        self._end(victim, "it makes room for others: its host has most of the handshakes that are under way")

    def _too_late(self, entry: Arrival | TlsProtocol) -> None:
        if entry in self._running:
            self._end(
                entry, f"it has not ended within tls_handshake_ms_max ({self._context.config.tls_handshake_ms_max})"
            )

    def _end(self, entry: object, reason: str) -> None:
        if isinstance(entry, TlsProtocol):
            entry.fail(reason)
            return
        arrival = cast(Arrival, entry)
        self._leave(arrival)
        self._note(address_of(arrival.transport), reason)
        arrival.transport.close()

    def _leave(self, entry: object) -> None:
        host = self._running.pop(entry, None)
        if host is not None:
            self._hosts[host] -= 1
            if not self._hosts[host]:
                del self._hosts[host]

    def _ready(self, tls: TlsProtocol) -> None:
        self._queue.append(tls)
        self._schedule()

    def _schedule(self) -> None:
        if self._queue and not self._scheduled:
            self._scheduled = True
            self._context.loop.call_soon(self._serve)

    def _serve(self) -> None:
        self._scheduled = False
        end_s = time.monotonic() + WORK_S_MAX
        while self._queue:
            self._queue.popleft().step()
            if time.monotonic() >= end_s:
                break
        self._schedule()

    def _ended(self, tls: TlsProtocol, error: str) -> None:
        self._leave(tls)
        if error:
            self._note(address_of(tls.raw), error)

    def _note(self, address: str, error: str) -> None:
        self._context.node.state.statistics.tls_handshakes_failed += 1
        log.warning("TLS handshake with %s failed: %s", address, error)


class Arrival(asyncio.Protocol):
    """A connection to a port that takes TLS only, before its first byte."""

    def __init__(self, handshakes: Handshakes, app: asyncio.Protocol) -> None:
        self._handshakes = handshakes
        self._app = app
        self.transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Somebody has connected."""
        self.transport = cast(asyncio.Transport, transport)
        self._handshakes.admit(self)

    def data_received(self, data: bytes) -> None:
        """The first bytes."""
        if self.transport.is_closing():
            return
        if data[0] == HELLO:
            self._handshakes.hello(self.transport, data, self._app, self)
        else:
            self._handshakes.refuse(self.transport, TLS_ONLY, self)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._handshakes.gone(self)


def host_of(transport: asyncio.BaseTransport) -> str:
    """The host that has connected."""
    return str((transport.get_extra_info("peername") or ("?",))[0])


def address_of(transport: asyncio.BaseTransport, end: str = "peername") -> str:
    """The address that has connected; the one that it has connected to with `sockname`."""
    host, port = (transport.get_extra_info(end) or ("?", 0))[:2]
    return f"{host}:{port}"
