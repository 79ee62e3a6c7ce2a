"""The ports where a node takes connections, and what begins on each.

| port | `tls_port` | a connection begins as |
|---|---|---|
| that of --listen | another one, or none | a client or node without TLS; a hello is told from it (connections.py) |
| that of --listen | the same | a TLS handshake (handshakes.py) |
| `tls_port` | another one | a TLS handshake |
"""

from __future__ import annotations

import asyncio

from server.shell.clients import Clients
from server.shell.connections import Connection
from server.shell.files import keep_alive
from server.shell.handshakes import Arrival

BACKLOG = 1024


class Listening:
    """The listening sockets of one server."""

    def __init__(self, clients: Clients) -> None:
        self._clients = clients
        self._context = clients.context
        self._listeners: list[asyncio.Server] = []
        self._port = 0

    async def begin(self, host: str, port: int) -> None:
        """Listens at the address, and at `tls_port` of the same host. Raises OSError."""
        tls_port = self._context.config.tls_port
        self._port = port
        await self._listen(host, port, port == tls_port)
        if tls_port not in (0, port):
            await self._listen(host, tls_port, True)

    async def _listen(self, host: str, port: int, is_tls: bool) -> None:
        protocol = self._arrival if is_tls else self._connection
        listener = await self._context.loop.create_server(protocol, host, port, backlog=BACKLOG)
        self._listeners.append(listener)
        if self._context.config.keepalive_ms:
            keep_alive(listener, self._context.config.keepalive_ms)

    def _connection(self) -> asyncio.Protocol:
        return Connection(self._clients)

    def _arrival(self) -> asyncio.Protocol:
        return Arrival(self._clients.handshakes, Connection(self._clients, is_tls=True))

    def is_encrypted(self) -> bool:
        """Whether all connections of other machines are by TLS."""
        config = self._context.config
        return config.tls_peers == "yes" and config.tls_port == self._port

    def close(self) -> None:
        """Takes no more connections."""
        for listener in self._listeners:
            listener.close()
