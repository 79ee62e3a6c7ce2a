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

from collections.abc import Callable, Iterable

from server.shell.client import Client


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
        total_bytes = self.total_bytes()
        if total_bytes <= self._bytes_max:
            return
        held = {connection: size for connection in self._connections() if (size := connection.held_bytes())}
        while held and total_bytes > self._bytes_max:
            chosen = _to_cut(held)
            size_bytes = held.pop(chosen)
            total_bytes -= size_bytes
            chosen.cut(
                f"{size_bytes >> 20} MiB of its requests and replies are held, and more than client_buffers_bytes_max "
                f"({self._bytes_max >> 20} MiB) for all clients together"
            )


def _to_cut(held: dict[Client, int]) -> Client:
    """Which of these connections to cut, by what is held for each."""
    by_host: dict[str, int] = {}
    for connection, size in held.items():
        by_host[connection.host] = by_host.get(connection.host, 0) + size
    most = max(by_host, key=lambda host: by_host[host])
    own = {connection: size for connection, size in held.items() if connection.host == most}
    largest = max(own.values())
    return min(
        [connection for connection, size in own.items() if 2 * size >= largest],
        key=lambda connection: (connection.session.active_ms, -own[connection]),
    )
