"""The interface of a client's connection for admission.py, flow.py, memory.py and turn.py; connections.py implements it."""

from __future__ import annotations

import asyncio

from server.core.base.sinks import Flushed, Session


class Client(asyncio.Protocol):
    """One client."""

    session: Session
    transport: asyncio.Transport
    is_queued = False  # it waits in the queue of admission.py to begin commands
    is_verified = False  # its certificate was checked
    busy_ms = 0  # when it was last seen to wait for a reply, if idle clients are closed
    is_held = False  # it is not read until other clients have the replies to their large values (flow.py)

    @property
    def host(self) -> str:
        """Where the client is: limits are shared out by it."""
        return self.session.address.rpartition(":")[0]

    secret = b""  # the one that both sides have proven, if a node has opened the connection

    def begin_commands(self) -> None:
        """HOT. Gives the node the client's next commands, as many as the limits allow and one turn may have."""
        raise NotImplementedError

    def write(self, data: Flushed) -> None:
        """HOT. Writes replies, in order."""
        raise NotImplementedError

    def push(self, data: bytes) -> None:
        """Writes messages that the client has subscribed to, and cuts it if too many are unread."""
        raise NotImplementedError

    def end(self) -> None:
        """Closes the connection once its replies are out."""
        raise NotImplementedError

    def cut(self, reason: str) -> None:
        """Closes the connection at once, without its replies; `reason` is logged."""
        raise NotImplementedError

    def reject(self) -> None:
        """Sends the error that there are too many clients, and closes the connection."""
        raise NotImplementedError

    def stop_reading(self) -> None:
        """Stops reading; what has been read already is still served."""
        raise NotImplementedError

    def hold(self, is_held: bool) -> None:
        """Stops reading from a client that sends large values (`is_held`), or resumes."""
        raise NotImplementedError

    def is_idle(self) -> bool:
        """Whether the client has the answers to all the commands that have begun."""
        raise NotImplementedError

    def unfinished_bytes(self) -> int:
        """Returns the received bytes of requests that have not begun."""
        raise NotImplementedError

    def held_bytes(self) -> int:
        """Returns the memory that this client's waiting requests and replies take."""
        raise NotImplementedError

    def refuse(self, message: str) -> None:
        """Ends the connection with an error, after the replies that are due."""
        raise NotImplementedError

    def hand_over(self) -> None:
        """The connection is no client's: something else reads what comes."""
        raise NotImplementedError
