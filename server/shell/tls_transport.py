"""TLS between a socket and a protocol: the records of `ssl` over a plain transport of the loop.

Theory. The loop has a TLS transport of its own, which was tried and left: it hands all that was encrypted to the socket's
transport and then reports an empty buffer, so that the limits of replies that a client does not fetch, of what waits for a
peer, and the detection of a hung peer would see nothing (P10); and it accepts any number of handshakes and runs them all in
one pass of the loop. The records themselves come from the standard library (`SSLObject`); this module only moves bytes:

    socket -> `data_received` -> incoming -> decrypted -> the protocol's `data_received`
    the protocol's `write` -> encrypted -> outgoing -> the socket's transport

Nothing waits here: what has come whole is passed on in the same call, and what is written is encrypted at once. So pausing
and resuming, in both directions, and the size of the buffer are those of the socket's transport.

Handshakes of connections that others open are run by handshakes.py, few at a time; those that we open run at once.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any, cast

READ_BYTES = 256 << 10
HANDSHAKE_BYTES_MAX = 128 << 10  # of a peer that has not finished its handshake; a chain of certificates takes a few KB


class TlsProtocol(asyncio.Protocol):
    """The TLS of one connection, as the protocol of its socket. `app` is the protocol behind it."""

    def __init__(
        self,
        settings: ssl.SSLContext,
        is_server: bool,
        app: asyncio.Protocol,
        ready: Callable[[TlsProtocol], None],
        ended: Callable[[TlsProtocol, str], None],
    ) -> None:
        """`ready`: bytes of the handshake have come, and `step` shall be called. `ended`: the handshake has ended, with
        this error or, if it is empty, well."""
        self.app = app
        self.ended = ended
        self._ready = ready
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = settings.wrap_bio(self._incoming, self._outgoing, server_side=is_server)
        self._is_server = is_server
        self.own_certificate = b""  # of the responder, if that is this node
        self._handshaking = True
        self._closing = False
        self.raw: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is connected: a client begins the handshake."""
        self.raw = cast(asyncio.Transport, transport)
        if not self._is_server:
            self.step()

    def data_received(self, data: bytes) -> None:
        """HOT. Bytes from the socket."""
        self._incoming.write(data)
        if not self._handshaking:
            self._read()
        elif self._incoming.pending > HANDSHAKE_BYTES_MAX:
            self.fail(f"more than {HANDSHAKE_BYTES_MAX} bytes came in its handshake")
        else:
            self._ready(self)

    def step(self) -> None:
        """Goes on with the handshake, by what has come."""
        if not self._handshaking or self._closing:
            return
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            self._flush()
            return
        except (ssl.SSLError, ssl.CertificateError) as error:
            self._flush()  # the alert that tells the other side
            self.fail(_reason(error))
            return
        self._handshaking = False
        self._flush()
        self.ended(self, "")
        transport = TlsTransport(self)
        self.app.connection_made(transport)
        if self._incoming.pending:
            self._read()

    def is_handshaking(self) -> bool:
        """Whether the handshake is under way."""
        return self._handshaking and not self._closing

    def fail(self, reason: str) -> None:
        """Ends a handshake that has failed."""
        if self.is_handshaking():
            self._closing = True
            self.ended(self, reason)
            self.raw.close()

    def _read(self) -> None:
        """HOT. Passes on what has come whole."""
        tls, incoming = self._object, self._incoming
        whole: list[bytes] = []
        is_over = False
        broken = ""
        try:
            while incoming.pending or tls.pending():
                data = tls.read(READ_BYTES)
                if not data:
                    is_over = True  # it says that it closes
                    break
                whole.append(data)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            is_over = True
        except ssl.SSLError as error:
            broken = _reason(error)
        if whole and not self._closing:
            self.app.data_received(whole[0] if len(whole) == 1 else b"".join(whole))
        if broken:
            self.abort()  # a record that is no record of this connection: as a damaged frame
        elif is_over:
            self.close()
        elif self._outgoing.pending:
            self._flush()  # an answer of the protocol itself, such as new keys

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """HOT. Encrypts and sends."""
        if data and not self._closing:
            self._encrypt(data)
            self._flush()

    def writelines(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypts and sends several buffers."""
        if not self._closing:
            for part in parts:
                if part:
                    self._encrypt(part)
            self._flush()

    def _encrypt(self, data: bytes | bytearray | memoryview) -> None:
        try:
            written = self._object.write(data)
        except ssl.SSLError:
            self.abort()  # the other side has broken off: `connection_lost` comes next
            return
        assert written == len(data), "the outgoing buffer has no limit"

    def _flush(self) -> None:
        if self._outgoing.pending:
            self.raw.write(self._outgoing.read())

    def close(self) -> None:
        """Closes the connection after what was written to it."""
        if self._closing:
            return
        self._closing = True
        with suppress(ssl.SSLError):  # it tells the other side, and does not await the answer
            self._object.unwrap()
        self._flush()
        self.raw.close()

    def abort(self) -> None:
        """Closes the connection at once."""
        self._closing = True
        self.raw.abort()

    def is_closing(self) -> bool:
        """Whether the connection closes or is closed."""
        return self._closing or self.raw.is_closing()

    def fact(self, name: str, default: Any = None) -> Any:
        """What `get_extra_info` answers."""
        if name == "peercert":
            return self._object.getpeercert()
        if name == "own_certificate":
            return self.own_certificate
        return self._object if name == "ssl_object" else self.raw.get_extra_info(name, default)

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed."""
        if self._handshaking:
            if not self._closing:
                self._closing = True
                self.ended(self, "it broke off" if exc is None else f"it broke off: {exc}")
        else:
            self._closing = True
            self.app.connection_lost(exc)

    def pause_writing(self) -> None:
        """The socket is full."""
        if not self._handshaking:
            self.app.pause_writing()

    def resume_writing(self) -> None:
        """The socket has room again."""
        if not self._handshaking:
            self.app.resume_writing()


class TlsTransport(asyncio.Transport):
    """What the protocol behind TLS writes to."""

    def __init__(self, protocol: TlsProtocol) -> None:
        super().__init__()
        self._tls = protocol
        self._raw = protocol.raw

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """HOT. Encrypts and sends."""
        self._tls.write(data)

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Encrypts and sends several buffers."""
        self._tls.writelines(list_of_data)

    def close(self) -> None:
        """Closes after what was written."""
        self._tls.close()

    def abort(self) -> None:
        """Closes at once."""
        self._tls.abort()

    def is_closing(self) -> bool:
        """Whether it closes or is closed."""
        return self._tls.is_closing()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Facts: those of the socket, `ssl_object` and `peercert`."""
        return self._tls.fact(name, default)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Another protocol reads from now on."""
        self._tls.app = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol that reads."""
        return self._tls.app

    def pause_reading(self) -> None:
        """Reads no more from the socket."""
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Reads on."""
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When the protocol is told that the socket is full."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """The bytes that the kernel has not taken yet."""
        return self._raw.get_write_buffer_size()

    def can_write_eof(self) -> bool:
        """False: the end of what is sent is the end of the connection."""
        return False


def _reason(error: ssl.SSLError | ssl.CertificateError) -> str:
    """The reason in the words of the library, without numbers of its source lines."""
    verify = getattr(error, "verify_message", "")
    reason = (error.reason or "").replace("_", " ").lower() if isinstance(error, ssl.SSLError) else ""
    return f"{reason}: {verify}" if verify else reason or str(error)
