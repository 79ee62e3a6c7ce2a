"""Accepts connections, never more than there are file descriptors for.

Theory. An event loop accepts all connections that wait before it looks at any of them. When some thousands of clients
come at once, that takes every file descriptor of the process, and if RocksDB opens a file at that moment the node ends.
So the node accepts by itself, a few connections in a pass of the loop, and those that are too many are told so and closed
at once, as Redis does it. A connection that is over the limit of clients may be a peer's, and a peer must get in: its
share of the files is its own. So `ARRIVALS_MAX` such connections are kept for a moment, until the first command shows
whose they are (connections.py).

When the system has no descriptor left (ENFILE, ENOBUFS) accepting pauses: the connection that cannot be accepted stays in
the queue, so its socket stays readable, and without a pause the loop would do nothing but try.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable

from protocol import resp

log = logging.getLogger("dyn")
BACKLOG = 1024
ACCEPTS_PER_PASS = 64
PAUSE_S = 0.1
REFUSAL = "ERR max number of clients reached"
Protocol = Callable[[], asyncio.Protocol]


class Listener:
    """The sockets that a node listens on."""

    def __init__(self, loop: asyncio.AbstractEventLoop, has_room: Callable[[int], bool], protocol: Protocol) -> None:
        """`has_room` is asked with the number of connections that were accepted and do not have their protocol yet."""
        self._loop = loop
        self._has_room = has_room
        self._protocol = protocol
        self._sockets: list[socket.socket] = []
        self._arriving: set[asyncio.Task[object]] = set()
        self._failure = ""  # of accept, as last logged

    async def listen(self, host: str, port: int) -> None:
        """Listens on all addresses of `host`. Raises OSError when one of them cannot be had."""
        found = await self._loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            listening = socket.socket(family, kind, protocol)
            self._sockets.append(listening)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                listening.bind(address)
            except OSError as error:
                self.close()
                raise OSError(error.errno, f"cannot listen on {host}:{port}: {error.strerror}") from error
            listening.listen(BACKLOG)
            listening.setblocking(False)
        for listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(ACCEPTS_PER_PASS):
            try:
                connection, _ = listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._pause(listening, error)
                return
            self._failure = ""
            connection.setblocking(False)
            if self._has_room(len(self._arriving)):
                arrival: asyncio.Task[object] = self._loop.create_task(self._arrive(connection))
                self._arriving.add(arrival)
                arrival.add_done_callback(self._arriving.discard)
            else:
                self._refuse(connection)

    async def _arrive(self, connection: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(self._protocol, connection)
        except OSError:  # it is gone already
            connection.close()

    def _refuse(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.send(resp.error(REFUSAL))
            except OSError:
                return  # it is gone already

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        if str(error) != self._failure:
            self._failure = str(error)
            log.warning("cannot accept connections for now: %s", error)
        self._loop.remove_reader(listening)
        self._loop.call_later(PAUSE_S, self._continue, listening)

    def _continue(self, listening: socket.socket) -> None:
        if listening in self._sockets:
            self._loop.add_reader(listening, self._accept, listening)

    def close(self) -> None:
        """Listens no more. Connections that were accepted stay. Idempotent."""
        for listening in self._sockets:
            self._loop.remove_reader(listening)
            listening.close()
        self._sockets.clear()
