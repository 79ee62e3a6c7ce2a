"""What one session has subscribed to, and how its keys are tracked: kept with the session, used by pubsub/."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Final

from server.core.base.origins import OwnChanges
from server.core.messages.publications import KeyChange

CHANNEL: Final = 0  # a channel by its name
PATTERN: Final = 1  # channels by a glob pattern
SHARD: Final = 2  # a sharded channel
KINDS: Final = (CHANNEL, PATTERN, SHARD)


class Subscriber:
    """The subscriptions of a session. `names` has the names of each of the three kinds above, in order."""

    def __init__(self) -> None:
        self.names: tuple[dict[bytes, None], dict[bytes, None], dict[bytes, None]] = ({}, {}, {})

    def count(self, kind: int) -> int:
        """What replies count: channels and patterns together, or sharded channels."""
        return len(self.names[SHARD]) if kind == SHARD else len(self.names[CHANNEL]) + len(self.names[PATTERN])

    def is_idle(self) -> bool:
        """Whether there is no subscription."""
        return not any(self.names)


class Tracker:
    """How the keys that a session reads are tracked (CLIENT TRACKING), and its reads in flight (pubsub/tracking.py)."""

    def __init__(self, redirect: int, words: Sequence[str], prefixes: Sequence[bytes]) -> None:
        """`redirect`: the id of the client that is told, 0 for the session itself. `words`: its options, in lower case."""
        self.redirect = redirect
        self.is_broken = False  # the client that is to be told has gone
        self.broadcasts = "bcast" in words
        self.opts_in = "optin" in words
        self.opts_out = "optout" in words
        self.own_changes = OwnChanges() if "noloop" in words else None  # NOLOOP: the client is not told of these
        self.last_write = -1  # the number of its last command that may write
        # Changes that may be the client's own, and the command after whose reply that is known.
        self.undecided: list[tuple[int, KeyChange]] = []
        self.prefixes = dict.fromkeys(prefixes)
        self.asked_caching = False  # CLIENT CACHING: the next command is tracked (OPTIN), or is not (OPTOUT)
        self.reads: deque[tuple[int, list[bytes]]] = deque()  # in flight: the number of the command, and its keys
        self.reading: dict[bytes, int] = {}  # by key: the last read in flight
        # Keys that have changed while a read was in flight, and that read: the client is told behind its reply.
        self.changed_in_flight: dict[bytes, int] = {}
        self.invalid: dict[bytes, None] = {}  # keys to tell at the end of the turn
