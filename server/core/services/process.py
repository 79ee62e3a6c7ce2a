"""What only the process around a node knows, as commands show it: facts for INFO, connections for CLUSTER LINKS.

The shell fills in this table; the core reads it. It is empty where there is no process, as in the simulator.
"""

from __future__ import annotations

from collections.abc import Callable


class PeerLink:
    """A connection to another node (`direction` is "to") or from one ("from")."""

    __slots__ = ("created_ms", "direction", "peer", "unsent_bytes")

    def __init__(self, direction: str, peer: str, created_ms: int, unsent_bytes: Callable[[], int]) -> None:
        self.direction = direction
        self.peer = peer
        self.created_ms = created_ms  # by the node's monotonic clock
        self.unsent_bytes = unsent_bytes  # what the kernel has not taken yet, at present


class Process:
    """The process that runs the node."""

    def __init__(self) -> None:
        self.started_ms = 0  # by the node's monotonic clock
        self.facts: dict[str, str] = {}  # for INFO, under the names that it shows
        self.peer_links: dict[int, PeerLink] = {}  # the open connections, by a number that the shell gives them
        self.http_refused_from = ""  # the address of the last client that spoke HTTP
