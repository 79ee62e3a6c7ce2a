"""A connection to a node that has proven the secret of its cluster: what a test sends as another node."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from protocol.handshake import HandshakeResult, Initiator
from tests.wire.cluster import SECRET
from tests.wire.raw import RECEIVE_BYTES, raw


class Proven:
    """What tests use of a socket; all that is sent is sealed, and all that comes is opened."""

    def __init__(self, connection: socket.socket, session: HandshakeResult) -> None:
        assert session.sealer is not None and session.opener is not None
        self.socket = connection
        self._sealer, self._opener = session.sealer, session.opener
        self._opened = bytearray()

    def sendall(self, data: bytes) -> None:
        """Sends a block."""
        self.socket.sendall(self._sealer.seal(data))

    def recv(self, count: int) -> bytes:
        """Up to so many bytes; none once the node has closed."""
        while not self._opened:
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                return b""
            self._opened += self._opener.open(data)
        data = bytes(self._opened[:count])
        del self._opened[:count]
        return data

    def settimeout(self, timeout_s: float) -> None:
        """As of the socket."""
        self.socket.settimeout(timeout_s)

    def exchange(self, data: bytes) -> bytes:
        """Sends and reads until the node closes; what it said."""
        said = bytearray()
        try:
            self.sendall(data)
            while received := self.recv(RECEIVE_BYTES):
                said += received
        except (ConnectionResetError, BrokenPipeError):
            pass
        return bytes(said)


def read_line(connection: socket.socket) -> bytes:
    """What the node says up to the end of a line; less if it closes."""
    said = b""
    while not said.endswith(b"\r\n") and (received := connection.recv(1)):
        said += received
    return said


def prove(connection: socket.socket, secret: bytes = SECRET) -> tuple[HandshakeResult | None, bytes]:
    """Goes through the handshake as its initiator: the session, or None if the node has another secret; and our proof."""
    initiator = Initiator((secret,), os.urandom(32))
    connection.sendall(initiator.hello)
    proof = initiator.prove(read_line(connection))
    connection.sendall(proof)
    return initiator.session, proof


@contextmanager
def proven(port: int, secret: bytes = SECRET) -> Iterator[Proven]:
    """A connection on which both sides have proven the secret."""
    with raw(port) as connection:
        session, _ = prove(connection, secret)
        assert session is not None, "the node has another secret"
        yield Proven(connection, session)
