"""Large messages to one peer: they go out in pieces, as the socket takes them, and small messages pass between two pieces.

Theory. What is written to a socket behind 100 MiB waits until these are sent. So only as many bytes of large messages are
written as the transport may hold (`BUFFER_BYTES`). The rest waits here, and small messages wait for no more than that.

What waits is bounded at its sources, without breaking the connection. Values of clients: while too many `backlog_bytes`
wait for a peer that takes them, clients that send large values are not read (flow.py). Values that other nodes relay to
us: past `peer_backlog_bytes_max` the core sends the peer no more (`State.backlogged`). If the other owners make a quorum, a
hint is kept for the peer instead, and it gets the values later, at its own pace. So a slow node loses no connection.

A peer that takes nothing for `peer_stall_ms_max` is hung, and its link is cut: it blocks nobody for longer, and cannot
make us hold more than `peer_buffer_bytes_max`. After `HOPE_S` without progress its bytes do not count in `backlog_bytes`
any more, so that clients wait for it no longer than it takes to suspect a node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protocol.frames import seal
from protocol.pieces import PieceQueue
from server.core.base.config import Config

BUFFER_BYTES = 1 << 20  # of the transport: past it no further piece is written
HOPE_S = 1.0
_BURST_BYTES = 4 << 20  # written in one pass of the loop, if the socket takes them at once


class Outbound:
    """The large messages that wait for one peer. `stalled` is called when it takes nothing any more, `changed` when
    the number of waiting bytes has changed."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: Config,
        stalled: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._loop = loop
        self._stall_s = config.peer_stall_ms_max / 1000
        self._stalled = stalled
        self._changed = changed
        self._transport: asyncio.Transport | None = None
        self._queue = PieceQueue(max(1, config.large_message_bytes // 4))
        self._in_pieces = False
        self._asked = False  # to go on in the next pass of the loop
        self._moved_s = 0.0  # when the peer has last taken something
        self._left_bytes = 0  # in the transport then
        self._timer: asyncio.TimerHandle | None = None
        self.paused = False
        self.grown_bytes = 0  # by small messages, while paused

    @property
    def waiting_bytes(self) -> int:
        """The bytes that wait here; those in the transport are not counted."""
        return self._queue.waiting_bytes

    @property
    def backlog_bytes(self) -> int:
        """The bytes that wait here, unless the peer has taken nothing for a while."""
        if self.paused and self._loop.time() - self._moved_s > HOPE_S:
            return 0
        return self._queue.waiting_bytes

    def add(self, messages: list[bytes]) -> None:
        """Queues encoded messages."""
        for message in messages:
            self._queue.add(message)
        self._pump()

    def open(self, transport: asyncio.Transport, in_pieces: bool) -> None:
        """The connection is open. `in_pieces`: the peer reads pieces."""
        self._transport = transport
        self._in_pieces = in_pieces
        self._pump()

    def close(self) -> None:
        """The connection has ended: drops all that waited for it."""
        self._transport = None
        self._queue.clear()
        self.resume()

    def finish(self) -> None:
        """Writes all that waits to the transport: the connection closes after that."""
        while self._transport is not None and (piece := self._next()):
            self._transport.write(piece)

    def pause(self) -> None:
        """The transport is full."""
        self.paused = True
        self.grown_bytes = 0
        self._moved_s = self._loop.time()
        self._left_bytes = self._buffered()
        self._watch()

    def resume(self) -> None:
        """The transport has room again."""
        self.paused = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._pump()

    def _buffered(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _watch(self) -> None:
        self._timer = self._loop.call_later(HOPE_S / 2, self._look)

    def _look(self) -> None:
        left_bytes = self._buffered() - self.grown_bytes
        self.grown_bytes = 0
        now_s = self._loop.time()
        if left_bytes < self._left_bytes:
            self._moved_s = now_s
        self._left_bytes = self._buffered()
        if now_s - self._moved_s >= self._stall_s:
            self._stalled()
        else:
            self._watch()

    def _next(self) -> bytes:
        return self._queue.next() if self._in_pieces else seal(self._queue.pop())

    def _pump(self) -> None:
        transport = self._transport
        burst_bytes = 0
        while transport is not None and self._queue and not self.paused and burst_bytes < _BURST_BYTES:
            piece = self._next()
            burst_bytes += len(piece)
            transport.write(piece)
        if burst_bytes >= _BURST_BYTES and not self._asked:
            self._asked = True
            self._loop.call_soon(self._go_on)
        self._changed()

    def _go_on(self) -> None:
        self._asked = False
        self._pump()
