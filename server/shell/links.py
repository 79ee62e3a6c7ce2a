"""Links: one connection to each other node, for what this node sends. The other node sends over a link of its own.

Theory. A link that breaks is made again: soon at first, then at an even pace, and at once when the peer has connected to
us. Large messages go in pieces, between which small ones pass them (outbound.py). A peer that takes nothing
for `peer_stall_ms_max`, or for which `peer_buffer_bytes_max` wait, gets its link cut: a hung peer blocks nobody and cannot
make us hold more than that; the requests that it had fail and are retried elsewhere. While a link is being made, our
answers to a peer whose own link to us is open are kept, up to the same limit. Otherwise that peer would wait for them
until its deadline.

A network partition breaks no connection, but TCP retransmits at ever longer pauses: after an hour the next attempt may be
two minutes away. So a link whose bytes are not acknowledged for a while is closed (RFC 5482). New connections are attempted
at an even pace, and one succeeds as soon as the network does.

The introduction has our protocol versions and capabilities, and the welcome has the peer's (protocol/peer_versions.py):
large messages go in pieces to a peer that reads pieces, and whole to others. Each attempt resolves the host name anew, as
its address may have changed. Another node may be at an address by now: the introduction names the node that it is for, and
any other node refuses it.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from contextlib import suppress
from typing import cast

from protocol import peer_versions, resp
from protocol.peer_versions import PIECES, PIECES_WORD, VERSION_MIN, Speech
from server.core.membership.addresses import ELSEWHERE, SILENT, STOPPED, UNREACHABLE, UNRESOLVED
from server.core.membership.copies import Way
from server.core.ring.addresses import is_unknown
from server.core.services.process import PeerLink
from server.shell.context import Context
from server.shell.crash import watch_task
from server.shell.outbound import BUFFER_BYTES, Outbound

log = logging.getLogger("dyn")
RETRY_S = 0.25
CONNECT_TIMEOUT_S = 2.0
UNACKNOWLEDGED_MS_MAX = 5000
_WHOLE_INTRODUCTION = 5  # words, with the version of the layout


class Link(asyncio.Protocol):
    """The link to one peer."""

    def __init__(self, context: Context, peer: str, address: str, links: dict[str, Link]) -> None:
        """`links` are all links by their peers, in which this one may have been replaced when it ends."""
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
        self._made_ms = 0  # when the connection was made
        self._logged_refusal = ""  # the peer's refusal that was logged last
        self._unsent: list[bytes] = []
        self._unsent_bytes = 0
        self.outbound = Outbound(context.loop, context.config, self._cut_hung, self._report_backlog)
        self.connect()

    def connect(self) -> None:
        """Connects now, unless the link is open or is being made."""
        if self._closed or self._transport is not None or self._attempt is not None:
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
                await self._context.loop.create_connection(lambda: self, host.strip("[]"), int(port))
        except (OSError, TimeoutError) as error:
            self._fail(*trouble_of(error))
        finally:
            self._attempt = None

    def _fail(self, trouble: str, text: str) -> None:
        self._failed = True
        self._context.node.refused(self.peer, self._context.now_ms(), trouble, text)
        self._context.schedule_turn()
        self._retry_later()

    def _retry_later(self) -> None:
        if not self._closed:
            self._timer = self._context.loop.call_later(RETRY_S, self.connect)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Introduces this node."""
        self._transport = cast(asyncio.Transport, transport)
        connection = transport.get_extra_info("socket")
        with suppress(OSError):  # it has broken already: `connection_lost` comes next
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MS_MAX)
        self._made_ms = self._context.now_ms()
        self._answer = b""
        self._timer = self._context.loop.call_later(CONNECT_TIMEOUT_S, self._give_up, transport)
        self._transport.set_write_buffer_limits(high=BUFFER_BYTES)
        services = self._context.services
        introduction = services.membership.introduction()
        pieces = (PIECES_WORD,) if len(introduction) == _WHOLE_INTRODUCTION else ()
        words = (*introduction, *services.addresses.greeting(self.peer), *pieces, *peer_versions.announcement())
        self._transport.write(resp.command(b"DYN.PEER", VERSION_MIN, *words))

    def _give_up(self, transport: asyncio.BaseTransport) -> None:
        """Closes a connection that the peer has accepted but not answered: it is frozen, or lost power meanwhile."""
        if transport is self._transport and not self._open:
            self._context.services.addresses.trouble(self.peer, SILENT, "it takes connections and does not answer")
            self.cut()

    def data_received(self, data: bytes) -> None:
        """The peer's one answer."""
        self._answer += data
        theirs = peer_versions.welcomed(self._answer)
        if theirs is not None:
            self._welcomed(theirs)
        elif self._answer.endswith(b"\r\n"):
            text = self._answer.decode("utf-8", "replace").strip()
            is_known = self._context.services.addresses.heard_refusal(self.peer, text, self._context.now_ms())
            if not is_known and text != self._logged_refusal:
                self._logged_refusal = text
                log.error("node %s at %s refuses us: %s", self.peer, self.address, text)
            self._context.schedule_turn()
            self.cut()

    def _welcomed(self, theirs: Speech) -> None:
        """The peer accepts us; `theirs` are its versions and capabilities."""
        self._open = True
        self._failed = False
        self._send_kept()
        row = PeerLink("to", self.peer, self._made_ms, lambda: self.unsent_bytes)
        self._context.services.process.peer_links[id(self)] = row
        if self._transport is not None:
            self.outbound.open(self._transport, PIECES in theirs.capabilities)
        capabilities = theirs.capabilities if theirs.announces else ()
        self._context.node.connected(self.peer, self._context.now_ms(), capabilities, theirs.view)
        self._context.schedule_turn()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended, or could not be made."""
        self._transport = None
        self._failed = True
        self._drop_unsent()
        self.outbound.close()
        if self._open:
            self._open = False
            self._context.services.process.peer_links.pop(id(self), None)
            other = self._links.get(self.peer)
            if other is None or not other.is_open:  # one that ends late says nothing of a newer one
                self._context.node.disconnected(self.peer, self._context.now_ms())
                self._context.schedule_turn()
        self._retry_later()

    @property
    def is_open(self) -> bool:
        """Whether the peer has accepted us, and the connection is open."""
        return self._open

    @property
    def unsent_bytes(self) -> int:
        """The bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    @property
    def way(self) -> Way:
        """Whether the peer is at its address in the layout, as far as this link knows."""
        return Way.OPEN if self._open else Way.FAILED if self._failed else Way.UNTRIED

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

    def finish(self) -> None:
        """Closes the connection for good, after what is still to be sent."""
        self._end()
        if self._transport is not None:
            self.outbound.finish()
            self._transport.close()

    def _end(self) -> None:
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._attempt is not None:
            self._attempt.cancel()


def trouble_of(error: OSError | TimeoutError) -> tuple[str, str]:
    """Why a connection could not be made: a kind and a text. For a name with several addresses, asyncio joins their
    errors."""
    if isinstance(error, socket.gaierror):
        return UNRESOLVED, f"its host name leads to no address: {error.strerror}"
    text = str(error)
    if isinstance(error, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in text:
        return STOPPED, "nothing listens there: connection refused"
    if isinstance(error, TimeoutError):
        return UNREACHABLE, "its address does not answer"
    return UNREACHABLE, f"its address cannot be reached: {error.strerror or text}"
