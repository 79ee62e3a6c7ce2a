"""Back pressure on clients that send large values: the memory that these take is bounded over all clients together.

Theory. A value is held from the moment its bytes arrive until its command is answered, and after that in the queue of a
link whose peer takes it slowly. 64 clients that each send 16 MiB would make that a gigabyte here, as much again on the way
to coordinators and owners, and seconds of queues before every acknowledgement. Refusing these clients would be
wrong: what they do is allowed. So once this node's share of `values_in_flight_bytes_max` is used up, clients that send in
bulk are not read any more: TCP makes them wait, each for its turn, and other clients are not affected.

Only bulk is counted: reads of `BULK_BYTES` and more, and half-sent requests of that size. A client's bytes are free again
when all its commands are answered. Clients that send little at a time (nearly all) are neither counted nor stopped.

The first client in the queue is always read, or else requests that are all half sent would wait for each other for ever.
If it sends nothing for `PATIENCE_S` it loses its place. So memory is bounded by the share plus one request, and by
`client_buffers_bytes_max` if clients begin requests and do not finish them.

The share is `values_in_flight_bytes_max` divided by the number of members, since the values of all nodes' clients may go
to the same coordinator: so what it holds, and what its links carry, is bounded by `values_in_flight_bytes_max`, too, or by
one request of each node if that is more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.core.base.config import Config
from server.core.base.state import State
from server.shell.client import Client

BULK_BYTES = 16 << 10
PATIENCE_S = 0.2


class Flow:
    """The clients that send in bulk, in the order in which they began."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, state: State, config: Config, backlog_bytes: Callable[[], int]
    ) -> None:
        """`backlog_bytes` answers how much waits in the queues of the links."""
        self._loop = loop
        self._state = state
        self._bytes_max = config.values_in_flight_bytes_max
        self._backlog_bytes = backlog_bytes
        self._held: dict[Client, int] = {}  # bytes in memory for each
        self._held_bytes = 0
        self._first: Client | None = None  # the one that is always read
        self._first_bytes = 0  # of it, when it was seen last
        self._first_s = 0.0  # when it has last sent something

    @property
    def is_in_use(self) -> bool:
        """Whether any client sends in bulk."""
        return bool(self._held)

    def received(self, client: Client, size: int) -> None:
        """A client has sent `size` bytes in bulk: it may have to wait before it sends more."""
        self._held[client] = self._held.get(client, 0) + size
        self._held_bytes += size
        if self._is_share_taken() and client is not self._head():
            client.hold(True)

    def half_sent(self, client: Client, pending: int) -> None:
        """The client's unfinished request has `pending` bytes, which are in memory however slowly they came."""
        more = pending - self._held.get(client, 0)
        if more > 0:
            self.received(client, more)

    def gone(self, client: Client) -> None:
        """The client has disconnected. Its requests in flight end by their deadlines."""
        self._held_bytes -= self._held.pop(client, 0)

    def review(self) -> None:
        """After replies, or after some time: frees the bytes of clients that have their replies, and lets others go on."""
        for client, held in list(self._held.items()):
            if client.is_idle():
                left = client.unfinished_bytes()
                self._held_bytes += left - held
                if left >= BULK_BYTES:
                    self._held[client] = left
                else:
                    self._held_bytes -= left
                    del self._held[client]
                    client.hold(False)
        head = self._head()
        for client in list(self._held):
            if client.is_held and (client is head or not self._is_share_taken()):
                client.hold(False)

    def _is_share_taken(self) -> bool:
        layout = self._state.layout
        share = self._bytes_max // (len(layout.members) if layout is not None else 1)
        return self._held_bytes + self._backlog_bytes() > share

    def _head(self) -> Client | None:
        """The first client, unless it has sent nothing for a while that it could have sent."""
        first = next(iter(self._held), None)
        if first is None:
            return None
        now_s = self._loop.time()
        if first is not self._first or self._held[first] != self._first_bytes or not first.is_idle():
            self._first_s = now_s
        elif now_s - self._first_s > PATIENCE_S:
            self._held[first] = self._held.pop(first)  # to the end
            self._first_s = now_s
            first = next(iter(self._held))
        self._first, self._first_bytes = first, self._held[first]
        return first
