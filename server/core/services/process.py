"""What commands show of the process that runs a node: facts for INFO, connections for CLUSTER LINKS.

The shell sets these values, and the core reads them. They are empty where there is no process, as in the simulator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class PeerLink:
    """A connection to another node (`direction` is "to") or from one ("from")."""

    __slots__ = ("created_ms", "direction", "peer", "unsent_bytes")

    def __init__(self, direction: str, peer: str, created_ms: int, unsent_bytes: Callable[[], int]) -> None:
        self.direction = direction
        self.peer = peer
        self.created_ms = created_ms  # by the node's monotonic clock
        self.unsent_bytes = unsent_bytes  # returns the bytes that the kernel has not taken yet


class Buffers(NamedTuple):
    """What a client's connection holds: its descriptor, bytes of requests that have not begun, bytes of replies that the
    kernel has not taken, and all that is held for it."""

    descriptor: int = -1
    input_bytes: int = 0
    output_bytes: int = 0
    total_bytes: int = 0


NO_BUFFERS = Buffers()


class SettingsSources:
    """Where the settings come from (live_settings.py), and the file that holds them."""

    def __init__(self) -> None:
        self.sources: dict[str, str] = {}  # by setting; those that are missing have their defaults
        self.file = ""  # its path; empty if there is none
        self.write: Callable[[Mapping[str, object]], None] | None = None  # into the file; raises OSError, ValueError
        self.read_again: Callable[[], None] = lambda: None  # reads the file again, and applies what has changed


class Process:
    """What is known of the process that runs the node."""

    def __init__(self) -> None:
        self.started_ms = 0  # by the node's monotonic clock
        self.facts: dict[str, str] = {}  # for INFO: the field's name -> its value
        self.peer_links: dict[int, PeerLink] = {}  # the open connections, by a number that the shell gives them
        self.notices: list[str] = []  # what the status says of this node: an open address, a certificate that expires
        self.urgent: list[str] = []  # those of them that make the cluster degraded
        self.buffers_of: Callable[[int], Buffers] = lambda session_id: NO_BUFFERS
        self.examine: Callable[[], dict[str, Any]] = dict  # what the shell knows of the machine, for `dyn doctor`
        self.random_bytes: Callable[[int], bytes] | None = None  # from the kernel, for passwords
        self.settings = SettingsSources()
        self.room_for_clients: Callable[[int], int] = lambda wanted: wanted  # how many of them the open files allow
        self.http_refused_from = ""  # the address of the last client that spoke HTTP
