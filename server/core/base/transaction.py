"""What a session has queued since MULTI, and what it watches.

A session has a `Transaction` only between MULTI and EXEC, so that other sessions pay nothing: dispatch.py sends the
commands of such a session to `queueing.py`.
"""

from __future__ import annotations


class Transaction:
    """The commands that a session has queued since MULTI, in order.

    `is_refused`: a command could not be queued, so EXEC will run none of them. Then no more commands are kept.
    """

    __slots__ = ("commands", "is_refused", "size_bytes")

    def __init__(self) -> None:
        self.commands: list[list[bytes]] = []
        self.size_bytes = 0
        self.is_refused = False

    def refuse(self) -> None:
        """A command could not be queued."""
        self.is_refused = True
        self.commands = []
        self.size_bytes = 0


class Watch:
    """What a session has seen of the keys that it watches (commands/transactions/watches.py). All keys are inner ones.

    `swaps`: by space, how often it had got another number on this node when its first key was watched.
    """

    __slots__ = ("swaps", "tokens")

    def __init__(self) -> None:
        self.tokens: dict[bytes, bytes] = {}  # by key
        self.swaps: dict[int, int] = {}
