"""Back pressure on clients that send large values: the memory that these take is bounded over all clients together.

Theory. A value is in memory from the moment its bytes arrive until its command is answered, and after that while it is
queued for a peer that reads slowly. 64 clients that each send 16 MiB would need a gigabyte here, as much again in links to
coordinators and owners, and every acknowledgement would wait seconds in queues. To refuse these clients would be wrong:
what they do is allowed. So once this node's share of `values_in_flight_bytes_max` is used up, it stops reading from clients
that send in bulk. TCP makes these wait, one after the other. Other clients are not affected.

Only bulk is counted: reads from a socket of `BULK_BYTES` and more, and incomplete requests of that size. A client's bytes
are subtracted when all its commands are answered. Clients that send little at a time (nearly all) are neither counted nor
stopped.

The first client in the queue is always read. Otherwise clients that have all sent half a request would wait for each other
for ever. It moves to the end of the queue, with all clients of its host, if it sends nothing for `SILENCE_S`, or if its
request is not complete after `FIRST_S`. One that was silent is not the first again before it sends, while others wait. So
half-sent requests of one host, however many, delay a client of another host by one such time, and one of the same host
once for each. Memory is bounded by the share plus one request, and by `client_buffers_bytes_max` if clients begin requests
and do not complete them.

The share is `values_in_flight_bytes_max` divided by the number of members, because the values of all nodes' clients may go
to the same coordinator. So the values that one coordinator holds, and those in its links, are bounded by
`values_in_flight_bytes_max`, too, or by one request of each node if that is more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from server.core.base.config import Config
from server.core.base.state import State
from server.shell.client import Client

BULK_BYTES: Final = 16 << 10
SILENCE_S = 0.2
FIRST_S = 2.0


class Flow:
    """The clients that send in bulk, in the order in which they began."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, state: State, config: Config, backlog_bytes: Callable[[], int]
    ) -> None:
        """`backlog_bytes` returns how many bytes wait in the queues of the links."""
        self._loop = loop
        self._state = state
        self._bytes_max = config.values_in_flight_bytes_max
        self._backlog_bytes = backlog_bytes
        self._held: dict[Client, int] = {}  # bytes in memory for each
        self.held_bytes = 0
        self._silent: dict[Client, None] = {}  # those that were the first one and sent nothing
        self._first: Client | None = None  # the one that is always read
        self._first_bytes = 0  # of it, when it was seen last
        self._first_s = 0.0  # since when it is the first one
        self._sent_s = 0.0  # when it has last sent something

    @property
    def is_in_use(self) -> bool:
        """Whether any client sends in bulk."""
        return bool(self._held)

    def received(self, client: Client, size: int) -> None:
        """A client has sent `size` bytes in bulk: it may have to wait before it sends more."""
        self._held[client] = self._held.get(client, 0) + size
        self._silent.pop(client, None)
        self.held_bytes += size
        if self._is_share_taken() and client is not self._head():
            client.hold(True)

    def incomplete(self, client: Client, pending: int) -> None:
        """The client's incomplete request has `pending` bytes; they count, however slowly they came."""
        more = pending - self._held.get(client, 0)
        if more > 0:
            self.received(client, more)

    def gone(self, client: Client) -> None:
        """The client has disconnected. Its requests in flight end by their deadlines."""
        self.held_bytes -= self._held.pop(client, 0)
        self._silent.pop(client, None)

    def review(self) -> None:
        """After replies, or after some time: subtracts the bytes of clients that have their replies, and resumes others."""
        for client, held in list(self._held.items()):
            if client.is_idle():
                left = client.unfinished_bytes()
                self.held_bytes += left - held
                if left >= BULK_BYTES:
                    self._held[client] = left
                else:
                    self.held_bytes -= left
                    del self._held[client]
                    self._silent.pop(client, None)
                    client.hold(False)
        head = self._head()
        for client in list(self._held):
            if client.is_held and (client is head or not self._is_share_taken()):
                client.hold(False)

    def _is_share_taken(self) -> bool:
        layout = self._state.layout
        share = self._bytes_max // (len(layout.members) if layout is not None else 1)
        return self.held_bytes + self._backlog_bytes() > share

    def _head(self) -> Client | None:
        """Returns the first client of the queue. One that sends nothing, or is the first for too long, moves to the end."""
        if not self._held:
            return None
        now_s, first = self._loop.time(), self._next()
        if first is not self._first or not first.is_idle():
            self._begin_turn(first, now_s)
            return first
        if self._held[first] != self._first_bytes:
            self._first_bytes, self._sent_s = self._held[first], now_s
        is_silent = now_s - self._sent_s > SILENCE_S
        if is_silent or now_s - self._first_s > FIRST_S:
            if is_silent:
                self._silent[first] = None
            for client in [client for client in self._held if client.host == first.host]:
                self._held[client] = self._held.pop(client)  # to the end
            first = self._next()
            self._begin_turn(first, now_s)
        return first

    def _begin_turn(self, first: Client, now_s: float) -> None:
        self._first, self._first_bytes = first, self._held[first]
        self._first_s = self._sent_s = now_s

    def _next(self) -> Client:
        """The first client that is not silent; if all are, the first one."""
        return next((client for client in self._held if client not in self._silent), next(iter(self._held)))
