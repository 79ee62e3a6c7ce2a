"""Bounds the memory of clients' requests and replies, over all clients together (P10).

Theory. A client may not fetch its replies, or may send requests faster than they are served. As in Redis
(`client-output-buffer-limit`, `maxmemory-clients`) that is allowed until all clients together need too much memory. Then
a connection of the host that holds most is cut, with a line in the log. Of its large connections, with half as much as its
largest or more, that is the one that has begun no command for longest: requests that were sent in part and left lying go
before one that is on its way. So a client with many half-sent requests is cut itself, and not somebody who sends one
that is a little larger than each of them. A limit for each client alone would either cut harmless clients or bound
nothing. A stored value that a reply contains many times is counted once (protocol/resp.py).

Requests that have not begun are counted as they arrive, so that no burst exceeds the limit. Replies are counted with each
tick: that is enough, because the bytes that are read from disk in one turn are bounded (core/requests/reads.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush, heapreplace

from server.shell.client import Client

Held = tuple[int, Client]  # how many bytes are held for a connection


class ClientMemory:
    """The bytes held for clients: `connections` returns all connections, `bytes_max` bounds their sum."""

    def __init__(self, bytes_max: int, connections: Callable[[], Iterable[Client]]) -> None:
        self._bytes_max = bytes_max
        self._connections = connections
        self._input_bytes = 0

    def input_changed(self, difference_bytes: int) -> None:
        """HOT. The requests of a client that have not begun have grown, or shrunk."""
        self._input_bytes += difference_bytes
        if difference_bytes > 0 and self._input_bytes > self._bytes_max:
            self.check()

    def total_bytes(self) -> int:
        """What is held for all clients."""
        return sum([connection.held_bytes() for connection in self._connections()])

    def check(self) -> None:
        """Cuts connections until the sum is within the limit."""
        held = [(size, connection) for connection in self._connections() if (size := connection.held_bytes())]
        total_bytes = sum([size for size, _ in held])
        if total_bytes <= self._bytes_max:
            return
        for size_bytes, chosen in _by_host(held):
            chosen.cut(
                f"{size_bytes >> 20} MiB of its requests and replies are held, and more than client_buffers_bytes_max "
                f"({self._bytes_max >> 20} MiB) for all clients together"
            )
            total_bytes -= size_bytes
            if total_bytes <= self._bytes_max:
                return


def _by_host(held: list[Held]) -> Iterator[Held]:
    """Yields the connections in the order in which to cut them: the next one of the host that holds most then."""
    hosts: dict[str, list[Held]] = {}
    for row in held:
        hosts.setdefault(row[1].host, []).append(row)
    queue = [(-sum([size for size, _ in rows]), place, _of_host(rows)) for place, rows in enumerate(hosts.values())]
    heapify(queue)
    while queue:
        most, place, order = queue[0]
        size, connection = next(order)
        yield size, connection
        if most + size < 0:
            heapreplace(queue, (most + size, place, order))
        else:
            heappop(queue)


def _of_host(rows: list[Held]) -> Iterator[Held]:
    """Yields the connections of one host in the order in which to cut them. Each is looked at a few times altogether: the
    largest that is left only gets smaller, so what has been large enough to be cut stays so."""
    rows = sorted(rows, key=lambda row: -row[0])
    is_cut = [False] * len(rows)
    large: list[tuple[int, int, int]] = []  # by the time of the last command and the size: the place in `rows`
    first = after = 0  # the largest that is left; the first that is not in `large` yet
    while first < len(rows):
        while after < len(rows) and 2 * rows[after][0] >= rows[first][0]:
            size, connection = rows[after]
            heappush(large, (connection.session.active_ms, -size, after))
            after += 1
        place = heappop(large)[2]
        is_cut[place] = True
        yield rows[place]
        while first < len(rows) and is_cut[first]:
            first += 1
