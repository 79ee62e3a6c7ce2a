"""A bare socket, for what no client library would send."""

from __future__ import annotations

import select
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

RECEIVE_BYTES = 1 << 16


class Readable(Protocol):
    """What bytes are read from: a socket, or the like."""

    def recv(self, count: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


@contextmanager
def raw(port: int, timeout_s: float = 20.0, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connected socket that sends what it is given at once."""
    with socket.create_connection((host, port), timeout_s) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield connection


def exchange(connection: socket.socket, data: bytes) -> bytes:
    """Sends `data` and reads until the server closes; what it said. A server that neither reads all nor closes, or does
    not close, ends in TimeoutError; a reset is a way of closing."""
    said = bytearray()
    view = memoryview(data)
    sending = bool(data)
    try:
        while True:
            writers = [connection] if sending else []
            readable, writable, _ = select.select([connection], writers, [], connection.gettimeout())
            if not readable and not writable:
                raise TimeoutError(f"the server keeps the connection open, having said {bytes(said[:200])!r}")
            if writable:
                view = view[connection.send(view[:RECEIVE_BYTES], socket.MSG_DONTWAIT) :]
                sending = bool(view)
            if readable:
                received = connection.recv(RECEIVE_BYTES)
                if not received:
                    return bytes(said)
                said += received
    except (ConnectionResetError, BrokenPipeError):
        return bytes(said)


def read_exactly(connection: Readable, count: int) -> bytes:
    """The next `count` bytes."""
    said = bytearray()
    while len(said) < count:
        received = connection.recv(count - len(said))
        assert received, f"the server closed after {bytes(said)!r}"
        said += received
    return bytes(said)


def is_closed(connection: socket.socket) -> bool:
    """Whether the server has closed the connection; what it says meanwhile is dropped."""
    try:
        while select.select([connection], [], [], 0)[0]:
            if not connection.recv(RECEIVE_BYTES):
                return True
    except ConnectionError:
        return True
    return False
