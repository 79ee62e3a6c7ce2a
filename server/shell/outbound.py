"""Sends large messages to one peer in pieces, as fast as the socket takes them; small messages pass between two pieces.

Theory. A message that is written to a socket behind 100 MiB waits until these are sent. So of large messages only as many
bytes are written as the transport may hold (`BUFFER_BYTES`). The rest is queued here, and a small message waits behind
`BUFFER_BYTES` at most.

The queue is bounded by back pressure on its sources; the connection stays open. There are two sources:
- Values of this node's clients. While too many `backlog_bytes` are queued for a peer that reads, clients that send large
  values are not read (flow.py).
- Values that other nodes relay to us. Past `peer_backlog_bytes_max` the core sends the peer no more large writes
  (`State.backlogged`) if the other owners make a quorum. It keeps a hint instead, and the peer gets the values later, as
  fast as it reads.

A peer that reads nothing for `peer_stall_ms_max` is hung, and its link is cut: it blocks nobody for longer, and cannot make
us hold more than `peer_buffer_bytes_max`. After `PROGRESS_TIMEOUT_S` without progress its bytes do not count in
`backlog_bytes` any more. So clients wait for a hung peer no longer than it takes to suspect a node.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from protocol.frames import seal
from protocol.pieces import PieceQueue
from server.core.base.config import Config

BUFFER_BYTES = 1 << 20  # of the transport: past it no further piece is written
PROGRESS_TIMEOUT_S = 1.0
_BURST_BYTES = 1 << 20  # written in one pass of the loop, if the socket takes them at once


class Outbound:
    """The large messages queued for one peer.

    `stalled` is called when the peer has read nothing for `peer_stall_ms_max`, `changed` when the number of queued bytes
    has changed.
    """

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
        self._is_scheduled = False  # `_go_on` runs in the next pass of the loop
        self._progress_s = 0.0  # when the peer has last read something
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
        if self.paused and self._loop.time() - self._progress_s > PROGRESS_TIMEOUT_S:
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

    def write_all(self) -> None:
        """Writes all that waits to the transport: the connection closes after that."""
        while self._transport is not None and (piece := self._next()):
            self._transport.write(piece)

    def pause(self) -> None:
        """The transport is full."""
        self.paused = True
        self.grown_bytes = 0
        self._progress_s = self._loop.time()
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
        self._timer = self._loop.call_later(PROGRESS_TIMEOUT_S / 2, self._look)

    def _look(self) -> None:
        left_bytes = self._buffered() - self.grown_bytes
        self.grown_bytes = 0
        now_s = self._loop.time()
        if left_bytes < self._left_bytes:
            self._progress_s = now_s
        self._left_bytes = self._buffered()
        if now_s - self._progress_s >= self._stall_s:
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
        if burst_bytes >= _BURST_BYTES and not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._go_on)
        self._changed()

    def _go_on(self) -> None:
        self._is_scheduled = False
        self._pump()
