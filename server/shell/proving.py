"""Connections that have begun the handshake of nodes (DYN.AUTH) and not ended it, and what they may cost (P10).

Theory. Everybody may begin a handshake, so these connections are bounded apart from those of clients and of nodes: their
number (`handshakes_max`), their bytes (those of a proof), and their time (`handshake_ms_max`). If there are too many, the
oldest is closed: a node that is in earnest answers within a round trip, and one that only wants to hold a place loses it
to the next. Each costs three hashes. A connection that is closed before it begins a handshake is a client's (clients.py).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence

from protocol import resp
from protocol.handshake import NONCE_BYTES, PROOF_BYTES, HandshakeResult, Responder
from server.core.membership.authentication import WRONG_REFUSED
from server.shell.context import Context
from server.shell.sealed import channel_of

Proven = Callable[[HandshakeResult, bytes], None]  # gets the session, and what has come behind the proof


class NodeHandshakes:
    """The connections to one server that are within a handshake."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self._open: dict[NodeHandshake, None] = {}  # the oldest first

    def __len__(self) -> int:
        return len(self._open)

    def begin(self, transport: asyncio.Transport, address: str, hello: Sequence[bytes], proven: Proven) -> None:
        """Answers the first command of a connection, DYN.AUTH, which is in order; `proven` is called at the end."""
        config = self.context.config
        while len(self._open) >= max(1, config.handshakes_max):
            next(iter(self._open)).drop()
        channel = channel_of(transport, is_initiator=False)
        secret = self.context.services.authentication.secrets[0]
        responder = Responder(secret, hello, secrets.token_bytes(NONCE_BYTES), channel)
        handshake = NodeHandshake(self, transport, address, responder, proven)
        self._open[handshake] = None
        transport.set_protocol(handshake)
        transport.write(responder.challenge)

    def end(self, handshake: NodeHandshake) -> None:
        """It has ended, one way or the other."""
        self._open.pop(handshake, None)


class NodeHandshake(asyncio.Protocol):
    """One connection whose proof is awaited."""

    def __init__(
        self,
        handshakes: NodeHandshakes,
        transport: asyncio.Transport,
        address: str,
        responder: Responder,
        proven: Proven,
    ) -> None:
        context = handshakes.context
        self._handshakes = handshakes
        self._context = context
        self._transport = transport
        self._address = address
        self._responder = responder
        self._proven = proven
        self._data = b""
        self._timer = context.loop.call_later(context.config.handshake_ms_max / 1000, self.drop)

    def data_received(self, data: bytes) -> None:
        """The proof, or a part of it."""
        self._data += data
        if len(self._data) < PROOF_BYTES or self._transport.is_closing():
            return
        self._finish()
        answer, rest = self._data[:PROOF_BYTES], self._data[PROOF_BYTES:]
        session = self._responder.session(answer)
        if session is not None:
            self._proven(session, rest)
            return
        self._context.refusals.note("peers_with_wrong_proof", self._address)
        self._transport.write(resp.error(self._context.services.authentication.text(WRONG_REFUSED)))
        self._transport.close()

    def drop(self) -> None:
        """It takes too long, or others need its place."""
        self._finish()
        self._context.refusals.note("handshakes_dropped", self._address)
        self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended without a proof."""
        self._finish()

    def _finish(self) -> None:
        self._timer.cancel()
        self._handshakes.end(self)
