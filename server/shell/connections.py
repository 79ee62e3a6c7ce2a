"""A client's connection: bytes in, commands to the node; and how a connection becomes another node's.

Theory (P10). What a client can make us hold is bounded on every side. Half a request: by `request_bytes_max` each and
`client_buffers_bytes_max` together. Commands in flight: by `pipeline_max`, and by as many as are likely to answer
`client_output_bytes_max`, judged by the size of the client's last replies. Replies that the client does not fetch: once
that many bytes wait in the socket's buffer we take no more commands from it, and over all such clients
`client_unread_bytes_max` is the end of the greediest. Stopping to read is the back pressure of TCP: that client waits,
nobody else does.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from typing import TYPE_CHECKING, cast

from protocol import resp
from protocol.frames import DamagedFrame, FrameReader
from protocol.requests import ProtocolError, RequestLimits, RequestReader
from server.core.ring.layout import LayoutError

if TYPE_CHECKING:
    from server.shell.server import Server

log = logging.getLogger("dyn")
PEER_VERSION = 1
# What reading a message raises that is damaged, or that no sound node would send.
_NONSENSE = (DamagedFrame, LayoutError, ValueError, TypeError, LookupError, struct.error)
_FIRST_REPLY_BYTES = 4096  # what we take a client's replies for before we have seen any


def _address(transport: asyncio.BaseTransport, name: str) -> str:
    host, port = (transport.get_extra_info(name) or ("?", 0))[:2]
    return f"{host}:{port}"


class Connection(asyncio.Protocol):
    """One accepted connection: a client's, until its first command says that it is a node's."""

    def __init__(self, server: Server) -> None:
        config = server.config
        self._server = server
        self._node = server.node
        self._pipeline_max = config.pipeline_max
        self._output_bytes_max = config.client_output_bytes_max
        self._reader = self._new_reader()
        self._counted_bytes = 0
        self._fresh = True
        self._reply_bytes = _FIRST_REPLY_BYTES
        self._blocked = False  # the client does not fetch its replies
        self._stalled = False  # we have stopped reading
        self._frames: FrameReader | None = None
        self.peer = ""
        self.process = b""  # of the peer: its incarnation
        self.transport: asyncio.Transport

    def _new_reader(self) -> RequestReader:
        config = self._server.config
        return RequestReader(RequestLimits(config.request_bytes_max, config.arguments_max, config.inline_bytes_max))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client has connected; one too many is told so."""
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(high=self._output_bytes_max)
        address, local = (_address(transport, name) for name in ("peername", "sockname"))
        self.session = self._node.open_session(address, local, self._server.now_ms())
        self._server.connections[self.session.id] = self
        if len(self._server.connections) > self._server.config.clients_max:
            self._node.state.statistics.rejected_connections += 1
            self._refuse("ERR max number of clients reached")

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone."""
        self._server.connections.pop(self.session.id, None)
        self._server.fellows.pop(self.session.id, None)
        self._server.buffered_bytes -= self._counted_bytes
        self._node.close_session(self.session)

    def data_received(self, data: bytes) -> None:
        """HOT. Bytes from the client, or from a peer."""
        if self._frames is not None:
            self._take_frames(data)
            return
        self._reader.feed(data)
        self._pump()

    def _pump(self) -> None:
        """HOT. Gives the node as many commands as the limits allow."""
        session = self.session
        now_ms = self._server.now_ms()
        try:
            while not self._blocked and not session.closing:
                likely = self._output_bytes_max // self._reply_bytes + 1
                room = min(self._pipeline_max, likely) - len(session.slots) - len(session.backlog)
                if room <= 0:
                    self.stall()
                    break
                batch = self._reader.take(room)
                if not batch:
                    self._resume()
                    break
                if self._fresh:
                    self._fresh = False
                    if batch[0][0] == b"DYN.PEER":
                        self._become_peer(batch[0])
                        return
                self._node.commands(session, batch, now_ms)
            else:
                self.stall()
        except ProtocolError as error:
            if session.backlog:
                self.stall()  # the commands before it come first: `_go_on` meets the error again
            else:
                self._refuse(f"ERR {error}")
        self._count_buffered()
        self._server.schedule_turn()

    def _count_buffered(self) -> None:
        """The bytes of requests not yet complete, of all clients together, are bounded."""
        pending = self._reader.pending_bytes
        server = self._server
        server.buffered_bytes += pending - self._counted_bytes
        self._counted_bytes = pending
        if server.buffered_bytes > server.config.client_buffers_bytes_max:
            self._refuse("ERR the unfinished requests of all clients exceed client_buffers_bytes_max")
            self._reader = self._new_reader()  # at once: or the next to send would be over the limit, too
            server.buffered_bytes -= pending
            self._counted_bytes = 0

    def _refuse(self, message: str) -> None:
        """Ends the connection with an error, after the replies that are due."""
        if not self.session.closing:
            number = self.session.open([])
            self.session.answer(number, resp.error(message))
            self.session.backlog.clear()
            self._node.kill_session(self.session)
            self._server.schedule_turn()
            self.stall()

    def stall(self) -> None:
        """Stops reading; what has been read already is still served."""
        if not self._stalled:
            self._stalled = True
            self.transport.pause_reading()

    def _resume(self) -> None:
        if self._stalled and not self.session.closing and not self._server.stopping:
            self._stalled = False
            self.transport.resume_reading()

    def write(self, data: bytes) -> None:
        """HOT. Replies, in order. With room again in the pipeline, goes on reading."""
        self.transport.write(data)
        self._reply_bytes = max(self._reply_bytes // 2, len(data) // (self.session.flushed or 1) + 1)
        if self._blocked:
            self._server.check_unread()
        elif self._stalled and not self.session.closing:
            self._server.loop.call_soon(self._go_on)

    def unread_bytes(self) -> int:
        """Replies that the client has not fetched, if so many that we wait for it."""
        return self.transport.get_write_buffer_size() if self._blocked else 0

    def end(self) -> None:
        """Closes the connection once its replies are out; at once if the client does not fetch them."""
        if self._blocked:
            self.transport.abort()
        else:
            self.transport.close()

    def _go_on(self) -> None:
        if self._stalled and not self.session.closing and not self.transport.is_closing():
            self._pump()

    def pause_writing(self) -> None:
        """More replies wait than the client may leave unread."""
        self._blocked = True

    def resume_writing(self) -> None:
        """The client has fetched them."""
        self._blocked = False
        self._go_on()

    # Another node's connection

    def _become_peer(self, args: list[bytes]) -> None:
        """DYN.PEER version cluster id incarnation [epoch revision] [FOR id] [AT address]: from here on frames follow, one
        way only."""
        server = self._server
        error = server.check_peer(args)
        if error:
            server.report_refusal(args[3:4], self.session.address, error)
            self._refuse(error)
            return
        self.peer, self.process = args[3].decode(), args[4]
        self._frames = FrameReader(server.config.frame_bytes_max)
        server.connections.pop(self.session.id, None)
        server.fellows[self.session.id] = self
        self._node.close_session(self.session)
        self.transport.write(resp.OK)
        self._node.greeted(self.peer, server.now_ms())
        server.peer_arrived(self.peer, self.process)
        server.schedule_turn()

    def _take_frames(self, data: bytes) -> None:
        """HOT. Messages of a peer. A damaged one ends the connection: what was in it will be asked for again."""
        assert self._frames is not None
        now_ms = self._server.now_ms()
        receive = self._node.receive
        frames = self._frames
        try:
            frames.feed(data)
            while (message := frames.next()) is not None:
                receive(self.peer, message, now_ms)
        except _NONSENSE as error:
            self._node.state.statistics.damaged_frames += 1
            log.error("damaged message from node %s (%s): %s", self.peer, self.session.address, error)
            self.transport.abort()
        self._server.schedule_turn()
