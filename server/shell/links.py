"""Links: one connection to each other node, for what this node sends. The other node sends over a link of its own.

Theory. A broken link is opened again, every `RETRY_S` until it succeeds, and at once when the peer has connected to us.
Large messages go in pieces, so that small ones can overtake them (outbound.py). If a peer reads nothing for
`peer_stall_ms_max`, or if `peer_buffer_bytes_max` bytes wait for it, its link is cut. So a hung peer blocks nobody and
cannot make us hold more than that. The requests that wait for it fail, and are retried at other nodes. While a link is
being opened, our answers to a peer whose own link to us is open are kept, up to the same limit. Otherwise that peer would
wait for them until its deadline.

A network partition breaks no connection, but the pauses between TCP's retransmissions grow: after an hour the next one may
be two minutes away. So a link whose bytes are not acknowledged for `UNACKNOWLEDGED_MS_MAX` is closed (RFC 5482). New
connections are attempted every `RETRY_S`, and one succeeds as soon as the network works again.

If this node has a secret, the two nodes first prove it to each other (protocol/handshake.py), and what follows is sealed. A
peer that cannot do that is of an earlier version, or has no secret yet: while that is allowed (authentication.py), the next
attempt goes without. What a peer says that has not proven the secret is not believed, where that is required: it would be
enough to say GONE to make this node leave its cluster.

The introduction has our protocol versions and capabilities, and the welcome has the peer's (protocol/peer_versions.py):
large messages go in pieces to a peer that reads pieces, and whole to others. Each attempt resolves the host name anew, as
its address may have changed. With `tls_peers` the connection is by TLS, and both sides show certificates of one CA
(tls_transport.py). Another node may have the peer's former address by now. So the introduction names the node that it is
for, and any other node refuses it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import cast

from protocol import peer_versions, resp
from protocol.handshake import LINE_BYTES_MAX, NONCE_BYTES, Initiator, is_challenge
from protocol.peer_versions import BESIDE, PIECES, PIECES_WORD, VERSION_MIN, Speech
from server.core.membership.addresses import ELSEWHERE, REFUSED, SILENT, UNPROVEN
from server.core.membership.duplicates import LinkState
from server.core.ring.addresses import is_unknown
from server.core.services.process import PeerLink
from server.shell.connect_errors import trouble_of
from server.shell.context import Context
from server.shell.crash import watch_task
from server.shell.outbound import BUFFER_BYTES, Outbound
from server.shell.sealed import channel_of, sealed
from server.shell.tls_transport import TlsProtocol

log = logging.getLogger("dyn")
RETRY_S = 0.25
CONNECT_TIMEOUT_S = 2.0
UNACKNOWLEDGED_MS_MAX = 5000
_WHOLE_INTRODUCTION = 5  # words, with the version of the layout


class Link(asyncio.Protocol):
    """The link to one peer."""

    def __init__(
        self,
        context: Context,
        peer: str,
        address: str,
        links: dict[str, Link],
        tried: Callable[[Link], None] | None = None,
    ) -> None:
        """`links` are all links by their peers, in which this one may have been replaced when it ends. `tried` is called
        when an attempt to open it has ended, until it has opened for the first time."""
        self._tried = tried
        self._context = context
        self._links = links
        self.peer = peer
        self.address = address
        self._transport: asyncio.Transport | None = None
        self._open = False
        self._closed = False
        self._failed = False  # the last attempt has failed, or its connection has broken
        self._attempt: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._answer = b""
        self._connection: asyncio.BaseTransport | None = None  # beneath `_transport`, which seals what is written
        self._initiator: Initiator | None = None  # during the handshake
        self._is_next_plain = False  # the peer has no secret: the next attempt goes without a handshake
        self.secret = b""  # the one that both sides have proven; empty if none
        self._made_ms = 0  # when the connection was made
        self._logged_refusal = ""  # the peer's refusal that was logged last
        self._prefers_tls = context.config.tls_peers != "no"
        self._by_tls = self._prefers_tls  # how the next attempt is made; optional: without, if the peer takes no TLS
        self._handshake: TlsProtocol | None = None  # while it is under way
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self.outbound = Outbound(context.loop, context.config, self._cut_hung, self._report_backlog)

    def connect(self) -> None:
        """Connects now, unless the link is open or is being made."""
        if self._closed or self._transport or self._attempt or self._handshake:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._attempt = self._context.loop.create_task(self._try(), name=f"connect to {self.peer}")
        self._attempt.add_done_callback(watch_task)

    async def _try(self) -> None:
        host, _, port = self.address.rpartition(":")
        try:
            if is_unknown(self.address):
                self._fail(ELSEWHERE, "nobody knows where it is: another node has come to the address that it had")
                return
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, protocol = await self._context.loop.create_connection(self._protocol, host.strip("[]"), int(port))
            if isinstance(protocol, TlsProtocol) and protocol.is_handshaking():
                self._handshake = protocol
                self._context.loop.call_later(CONNECT_TIMEOUT_S, protocol.fail, "it has not ended in time")
        except (OSError, TimeoutError) as error:
            self._fail(*trouble_of(error))
        finally:
            self._attempt = None

    def _protocol(self) -> asyncio.Protocol:
        """What reads the connection that is being made: this link, behind TLS where nodes use it."""
        if not self._by_tls:
            return self
        settings = self._context.certificates.for_client()
        return TlsProtocol(settings, False, self, TlsProtocol.step, self._handshake_ended)

    def _handshake_ended(self, tls: TlsProtocol, error: str) -> None:
        self._handshake = None
        if not error or self._closed:
            return
        if self._context.config.tls_peers == "optional":
            self._by_tls = False
            self._retry_in_clear()
            return
        self._log_refusal(f"refuses us: TLS handshake: {error}")
        self._fail(REFUSED, f"TLS handshake: {error}")

    def _retry_in_clear(self) -> None:
        """Connects once more, as soon as the attempt that has failed has ended."""
        if self._attempt is not None:
            self._context.loop.call_soon(self._retry_in_clear)
        else:
            self.connect()

    def _log_refusal(self, text: str) -> None:
        if text != self._logged_refusal:
            self._logged_refusal = text
            log.error("node %s at %s %s", self._context.node.state.layout_name(self.peer), self.address, text)

    def _fail(self, trouble: str, text: str) -> None:
        self._failed = True
        self._by_tls = self._prefers_tls
        self._tell_refused(trouble, text)
        self._retry_later()
        self._tell_tried()

    def _tell_tried(self) -> None:
        if self._tried is not None:
            self._tried(self)

    def _tell_refused(self, trouble: str, text: str) -> None:
        if not self._is_successor:
            self._context.node.refused(self.peer, self._context.now_ms(), trouble, text)
            self._context.schedule_turn()

    def _retry_later(self) -> None:
        if not self._closed:
            self._timer = self._context.loop.call_later(RETRY_S, self.connect)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins the handshake, or without a secret introduces this node."""
        if self._closed:  # while its handshake was under way
            cast(asyncio.Transport, transport).abort()
            return
        self._connection = transport
        self._transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        with suppress(OSError):  # it has broken already: `connection_lost` comes next
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS_MAX)
        self._made_ms = self._context.now_ms()
        self._answer = b""
        self._timer = self._context.loop.call_later(CONNECT_TIMEOUT_S, self._give_up, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        self.secret = b""
        is_plain, self._is_next_plain = self._is_next_plain, False
        known = self._context.services.authentication.secrets
        if known and not is_plain:
            channel = channel_of(transport, is_initiator=True)
            self._initiator = Initiator(known, secrets.token_bytes(NONCE_BYTES), channel)
            self._transport.write(self._initiator.hello)
        else:
            self._introduce(self._transport)

    def _introduce(self, transport: asyncio.Transport) -> None:
        services = self._context.services
        introduction = services.membership.introduction()
        pieces = (PIECES_WORD,) if len(introduction) == _WHOLE_INTRODUCTION else ()
        beside = (BESIDE,) if self._is_successor else ()
        ours = peer_versions.with_tls_port(self._context.config.tls_port)
        greeting = services.addresses.greeting(self.peer)
        words = (*introduction, *greeting, *pieces, *beside, *peer_versions.announcement(ours))
        transport.write(resp.command(b"DYN.PEER", VERSION_MIN, *words))

    def _give_up(self, transport: asyncio.BaseTransport) -> None:
        """Closes a connection that the peer has accepted but not answered: the peer is frozen, or has lost power."""
        if transport is self._connection and not self._open:
            self._context.services.addresses.trouble(self.peer, SILENT, "it takes connections and does not answer")
            self.cut()

    def data_received(self, data: bytes) -> None:
        """The peer's proof, then its one answer."""
        self._answer += data
        if self._initiator is not None:
            self._challenged(self._initiator)
            return
        theirs = peer_versions.welcomed(self._answer)
        if theirs is not None:
            self._welcomed(theirs)
        elif self._answer.endswith(b"\r\n"):
            text = self._answer.decode("utf-8", "replace").strip()
            is_known = self._context.services.addresses.refusal_received(self.peer, text, self._context.now_ms())
            if not is_known:
                self._log_refusal(f"refuses us: {text}")
            self._context.schedule_turn()
            self.cut()

    def _challenged(self, initiator: Initiator) -> None:
        """The answer to the beginning of the handshake: the peer's proof, or none."""
        transport, line = self._transport, self._answer
        if transport is None or not (line.endswith(b"\r\n") or len(line) > LINE_BYTES_MAX):
            return
        self._initiator, self._answer = None, b""
        proof = initiator.prove(line)
        if initiator.session is None:
            self._unproven(transport, line, proof)
            return
        transport.write(proof)
        self.secret = initiator.session.secret
        self._transport, _ = sealed(transport, initiator.session, self, self._forged)
        self._introduce(self._transport)

    def _unproven(self, transport: asyncio.Transport, line: bytes, proof: bytes) -> None:
        """The peer has not proven the secret: it is refused, unless it has none and that is allowed."""
        is_wrong = is_challenge(line)
        if is_wrong:
            transport.write(proof)  # so that the peer notices, too
        elif not self._context.services.authentication.is_required:
            self._is_next_plain = True
            transport.abort()
            return
        text = "has another secret than this node" if is_wrong else "does not prove the secret of this cluster"
        self._context.refusals.note("peers_with_wrong_proof", self.address)
        self._log_refusal(f"{text}: give both nodes the same file `secret` (mode 600)")
        self._tell_refused(UNPROVEN, f"it {text}")
        transport.close()

    def _forged(self) -> None:
        self._context.refusals.note("blocks_forged", self.address)

    @property
    def _is_successor(self) -> bool:
        """Whether the peer has another link that is open, which this one is to replace."""
        present = self._links.get(self.peer)
        return present is not None and present is not self and present.is_open

    def _welcomed(self, theirs: Speech) -> None:
        """The peer accepts us; `theirs` are its versions and capabilities."""
        self._open = True
        self._failed = False
        self._tell_tried()
        self._tried = None
        self._send_kept()
        row = PeerLink("to", self.peer, self._made_ms, lambda: self.unsent_bytes)
        self._context.services.process.peer_links[id(self)] = row
        if self._transport is not None:
            self.outbound.open(self._transport, PIECES in theirs.capabilities)
        capabilities = theirs.capabilities if theirs.announces else ()
        if self.secret:
            self._context.services.authentication.proven(self.peer)
        self._context.node.connected(self.peer, self._context.now_ms(), capabilities, theirs.view)
        self._context.schedule_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, or could not be made."""
        self._transport = self._connection = self._initiator = None
        self._failed = True
        self._by_tls = self._prefers_tls
        self._drop_unsent()
        self.outbound.close()
        if self._open:
            self._open = False
            self._context.services.process.peer_links.pop(id(self), None)
            other = self._links.get(self.peer)
            if other is None or not other.is_open:  # else a newer link is open
                self._context.node.disconnected(self.peer, self._context.now_ms())
                self._context.schedule_turn()
        if self._is_next_plain:
            self.connect()
        else:
            self._retry_later()
            self._tell_tried()

    @property
    def is_open(self) -> bool:
        """Whether the peer has accepted us, and the connection is open."""
        return self._open

    @property
    def unsent_bytes(self) -> int:
        """The bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def state(self) -> LinkState:
        """Whether the peer is at its address in the layout, as far as this link knows."""
        return LinkState.OPEN if self._open else LinkState.FAILED if self._failed else LinkState.UNTRIED

    def write(self, data: bytes) -> None:
        """HOT. A turn's messages to this peer."""
        transport = self._transport
        if transport is None or not self._open:
            self._keep(data)
            return
        transport.write(data)
        if self.outbound.paused:
            self.outbound.grown_bytes += len(data)
            if transport.get_write_buffer_size() > self._context.config.peer_buffer_bytes_max:
                self._cut_hung()

    def write_large(self, messages: list[bytes]) -> None:
        """A turn's messages to this peer that are to travel in pieces, behind all other messages of the turn."""
        self.outbound.add(messages)
        if self.outbound.waiting_bytes > self._context.config.peer_buffer_bytes_max:
            self._cut_hung()

    def _report_backlog(self) -> None:
        """Marks the peer as backlogged while more than `peer_backlog_bytes_max` wait for it, until half of that is left."""
        waiting, bound = self.outbound.waiting_bytes, self._context.config.peer_backlog_bytes_max
        backlogged = self._context.node.state.backlogged
        if waiting > bound:
            backlogged[self.peer] = None
        elif waiting <= bound // 2:
            backlogged.pop(self.peer, None)

    def _cut_hung(self) -> None:
        log.warning("node %s at %s does not fetch its messages: cutting the link", self.peer, self.address)
        self.outbound.close()
        self.cut()

    def pause_writing(self) -> None:
        """The socket is full."""
        self.outbound.pause()

    def resume_writing(self) -> None:
        """The socket has room again."""
        self.outbound.resume()

    def _keep(self, data: bytes) -> None:
        """Keeps answers for a peer whose own link is open while ours is being made."""
        self._unsent_bytes += len(data)
        if self._unsent_bytes > self._context.config.peer_buffer_bytes_max:
            self._drop_unsent()
        else:
            self._unsent.append(data)

    def _send_kept(self) -> None:
        if self._transport is not None:
            self._transport.writelines(self._unsent)
        self._drop_unsent()

    def _drop_unsent(self) -> None:
        self._unsent.clear()
        self._unsent_bytes = 0

    def cut(self) -> None:
        """Closes the connection at once; it is made again later."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Closes the connection at once and for good."""
        self._end()
        self.cut()

    def close_when_sent(self) -> None:
        """Closes the connection for good, after what is still to be sent."""
        self._end()
        if self._transport is not None:
            self.outbound.write_all()
            self._transport.close()

    def _end(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()
        if self._handshake is not None:
            self._handshake.abort()
