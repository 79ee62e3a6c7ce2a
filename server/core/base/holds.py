"""Holds: keys that a command changes in several turns, and the commands that wait for it.

Theory. A command that decides by what a key holds reads and writes it in one turn, so that of two such commands the later
one sees what the earlier one wrote. A command with very many arguments takes several turns. Meanwhile it holds its key:
the others that would read it in order to write wait, in their order. Plain writes (SET) do not wait. So the command looks
at its end whether something was stored under the key since it began, and then begins anew (commands/typed.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from server.core.base.errors import ErrorReply

Waiters = deque[Callable[[], None]]


class Holds:
    """The keys held on one node. Each waiter is a command in flight, so their number has its limit there."""

    def __init__(self) -> None:
        self._waiters: dict[bytes, Waiters] = {}  # storage key -> who waits
        self._refusals: dict[bytes, ErrorReply] = {}  # storage key -> what those hear who would wait

    def is_held(self, storage_key: bytes) -> bool:
        """HOT. Whether a command holds the key."""
        return storage_key in self._waiters

    def wait(self, storage_key: bytes, call: Callable[[], None]) -> None:
        """Makes the call once the key, which is held, is released. The caller looks again then: another may hold it."""
        self._waiters[storage_key].append(call)

    def hold(self, storage_key: bytes) -> None:
        """Begins to hold a key that nobody holds."""
        assert storage_key not in self._waiters, "two commands hold one key"
        self._waiters[storage_key] = deque()

    def exchange(self, storage_key: bytes, waiters: Waiters | None) -> Waiters | None:
        """Changes who holds a key within the turn: an atomic run, or the command of it that is running. `waiters` are those
        who wait for the new holder; None: nobody holds the key. Returns the same of the former holder."""
        former = self._waiters.pop(storage_key, None)
        if waiters is not None:
            self._waiters[storage_key] = waiters
        return former

    def refuse(self, storage_key: bytes, reply: ErrorReply) -> None:
        """Its holder takes too long: until the key is released those who would wait get this reply. Those who wait look
        again now."""
        if storage_key in self._waiters:
            self._refusals[storage_key] = reply
            waiters, self._waiters[storage_key] = self._waiters[storage_key], deque()
            while waiters:
                waiters.popleft()()

    def refusal(self, storage_key: bytes) -> ErrorReply | None:
        """What those hear who would wait for the key; None: they may wait."""
        return self._refusals.get(storage_key)

    def release(self, storage_key: bytes) -> None:
        """Ends it. Those who wait go on, in their order; if one of them holds the key, the others wait for it."""
        self._refusals.pop(storage_key, None)
        waiters = self._waiters.pop(storage_key)
        while waiters:
            waiters.popleft()()
