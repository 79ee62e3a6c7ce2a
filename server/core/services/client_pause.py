"""CLIENT PAUSE: which commands of this node's clients wait, and until when.

Theory. A command that is held waits in the backlog of its connection, as one that must run alone does, and all commands
behind it wait there, too. So nothing is refused, and the order of commands stays. Only the commands of this node's own
clients are held: what other nodes relay to it, replication and gossip go on, so other nodes do not wait for this one.
Commands of operators and logins are never held, so that whoever has paused a node can end that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from server.core.work.timers import Timers

NO_PAUSE: Final = 0
PAUSE_WRITES: Final = 1
PAUSE_ALL: Final = 2


class ClientPause:
    """The pause of a node's clients. `mode` is one of the constants above."""

    def __init__(self, timers: Timers) -> None:
        self.mode: int = NO_PAUSE
        self.until_ms = 0
        self._timers = timers
        self._timer = 0
        self.resume: Callable[[], None] = lambda: None  # lets the clients go on; `Clients` sets it

    def begin(self, until_ms: int, mode: int) -> None:
        """Holds commands until that time. Of two pauses the stricter mode and the later end hold, as in Redis."""
        until_ms = max(until_ms, self.until_ms)
        timer = self._timers.call_at(until_ms, self._expire)  # first: no pause is without an end
        self._stop_timer()
        self._timer, self.until_ms, self.mode = timer, until_ms, max(mode, self.mode)

    def end(self) -> None:
        """Ends the pause, if there is one."""
        self._stop_timer()
        self._lift()

    def _expire(self) -> None:
        self._timer = 0
        self._lift()

    def _lift(self) -> None:
        if self.mode:
            self.mode, self.until_ms = NO_PAUSE, 0
            self.resume()

    def _stop_timer(self) -> None:
        if self._timer:
            self._timers.cancel(self._timer)
            self._timer = 0
