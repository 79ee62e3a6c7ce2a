"""Bounds the memory of clients' requests and replies, over all clients together (P10).

Theory. A client may not fetch its replies, or may send requests faster than they are served. As in Redis
(`client-output-buffer-limit`, `maxmemory-clients`) that is allowed until all clients together need too much memory. Then
the client with the largest buffers is cut, with a line in the log. A limit for each client alone would either cut harmless
clients or bound nothing. A stored value that a reply contains many times is counted once (protocol/resp.py).

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
        """Cuts clients, the one with the largest buffers first, until the sum is within the limit."""
        total_bytes = self.total_bytes()
        if total_bytes <= self._bytes_max:
            return
        held = sorted(((connection.held_bytes(), connection) for connection in self._connections()), key=_by_size)
        while held and total_bytes > self._bytes_max:
            size_bytes, largest = held.pop()
            total_bytes -= size_bytes
            largest.cut(
                f"{size_bytes >> 20} MiB of its requests and replies are held, and more than client_buffers_bytes_max "
                f"({self._bytes_max >> 20} MiB) for all clients together"
            )


def _by_size(held: tuple[int, Client]) -> int:
    return held[0]
