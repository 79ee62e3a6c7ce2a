"""A connection between nodes after its handshake: what is written is sealed, and what comes is opened (protocol/seals.py).

Theory. The parts of the shell write to a transport and are given bytes as a protocol. So the seals stand between these
parts and the socket, and the parts know nothing of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

from protocol.handshake import HandshakeResult
from protocol.seals import ForgedBlock, Opener, Sealer


def channel_of(transport: asyncio.BaseTransport, is_initiator: bool) -> bytes:
    """The certificate (DER) of the responder of a TLS connection, which the proofs are bound to; empty without TLS."""
    tls: Any = transport.get_extra_info("ssl_object")
    if tls is None:
        return b""
    certificate: bytes | None = tls.getpeercert(True) if is_initiator else transport.get_extra_info("own_certificate")
    return certificate or b""


class SealedTransport(asyncio.Transport):
    """A transport that seals what is written. `set_protocol` changes who gets what was opened."""

    def __init__(self, transport: asyncio.Transport, sealer: Sealer, opening: Opening) -> None:
        super().__init__()
        self._transport = transport
        self._seal = sealer.seal
        self._opening = opening

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """HOT. Writes a block."""
        if data:
            self._transport.write(self._seal(data if isinstance(data, bytes) else bytes(data)))

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Writes the parts as one block."""
        self.write(b"".join(parts))

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """From now on `protocol` gets what comes."""
        assert isinstance(protocol, asyncio.Protocol)
        self._opening.inner = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """As of the connection."""
        return self._transport.get_extra_info(name, default)

    def is_closing(self) -> bool:
        """As of the connection."""
        return self._transport.is_closing()

    def close(self) -> None:
        """As of the connection."""
        self._transport.close()

    def abort(self) -> None:
        """As of the connection."""
        self._transport.abort()

    def pause_reading(self) -> None:
        """As of the connection."""
        self._transport.pause_reading()

    def resume_reading(self) -> None:
        """As of the connection."""
        self._transport.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As of the connection."""
        self._transport.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """As of the connection."""
        return self._transport.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """As of the connection."""
        return self._transport.can_write_eof()

    def write_eof(self) -> None:
        """As of the connection."""
        self._transport.write_eof()


class Opening(asyncio.Protocol):
    """Opens what comes over a connection and gives it to `inner`. A forged block ends the connection."""

    def __init__(
        self, transport: asyncio.Transport, opener: Opener, inner: asyncio.Protocol, forged: Callable[[], None]
    ) -> None:
        self._transport = transport
        self._open = opener.open
        self.inner = inner
        self._forged = forged
        self._has_ended = False

    def data_received(self, data: bytes) -> None:
        """HOT. Blocks, or parts of them."""
        if self._has_ended:
            return
        try:
            payload = self._open(data)
        except ForgedBlock:
            self._has_ended = True
            self._forged()
            self._transport.abort()
            return
        if payload:
            self.inner.data_received(payload)

    def eof_received(self) -> bool | None:
        """As of the connection."""
        return self.inner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """As of the connection."""
        self.inner.connection_lost(exc)

    def pause_writing(self) -> None:
        """As of the connection."""
        self.inner.pause_writing()

    def resume_writing(self) -> None:
        """As of the connection."""
        self.inner.resume_writing()


def sealed(
    transport: asyncio.Transport, session: HandshakeResult, inner: asyncio.Protocol, forged: Callable[[], None]
) -> tuple[asyncio.Transport, asyncio.Protocol]:
    """Has `inner` get what comes over the connection from now on, and returns the transport to write to, and who gets what
    comes first. Both directions are sealed, unless TLS protects the connection. `forged` is called if a block is not
    genuine."""
    if session.sealer is None or session.opener is None:
        transport.set_protocol(inner)
        return transport, inner
    opening = Opening(transport, session.opener, inner, forged)
    transport.set_protocol(opening)
    return SealedTransport(transport, session.sealer, opening), opening
