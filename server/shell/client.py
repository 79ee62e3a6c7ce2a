"""A client's connection as the rest of the shell uses it: what is bounded, queued, held back and written to.

The connection itself is in connections.py. It stands above admission.py, flow.py, memory.py and turn.py, which know no more
of it than this.
"""

from __future__ import annotations

import asyncio

from server.core.base.sinks import Flushed, Session


class Client(asyncio.Protocol):
    """One client."""

    session: Session
    transport: asyncio.Transport
    is_queued = False  # it waits in the queue of admission.py to begin commands
    is_held = False  # it is not read before others have their values answered (flow.py)

    def begin_commands(self) -> None:
        """HOT. Gives the node the client's next commands, as many as the limits allow and one turn may have."""
        raise NotImplementedError

    def write(self, data: Flushed) -> None:
        """HOT. Writes replies, in order."""
        raise NotImplementedError

    def end(self) -> None:
        """Closes the connection once its replies are out."""
        raise NotImplementedError

    def cut(self, reason: str) -> None:
        """Ends the connection at once."""
        raise NotImplementedError

    def turn_away(self) -> None:
        """Tells the client that there are too many, and ends the connection."""
        raise NotImplementedError

    def stall(self) -> None:
        """Stops reading; what has been read already is still served."""
        raise NotImplementedError

    def hold(self, is_held: bool) -> None:
        """Reads no more from a client that sends in bulk, or goes on."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Whether the client has the answers to all the commands that have begun."""
        raise NotImplementedError

    def unfinished_bytes(self) -> int:
        """What has come of requests that have not begun."""
        raise NotImplementedError

    def held_bytes(self) -> int:
        """The memory that this client's requests and replies take, as far as it is worth counting."""
        raise NotImplementedError
