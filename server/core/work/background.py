"""Background work: procedures that no client waits for, and the pace that keeps them behind the clients' requests.

Theory. Repair moves as much data as it may, and a request that arrives behind a long batch waits for it. So all
background work of a node shares one budget of keys a second, spent before the work is done, in small batches: while
clients are served it is `background_keys_per_s`, and when nobody has asked anything for a second it is many times that.
The budget is not saved up: a pause in the work earns no burst later.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from protocol.resp import Reply
from server.core.base.state import State
from server.core.work.procedures import Procedure, Step, Steps
from server.core.work.timers import Timers

BATCH_KEYS = 16  # background work looks at so many keys in a turn, at most: a few tenths of a millisecond
QUIET_MS = 1000  # no command for so long: nobody minds a higher pace


class Background:
    """Starts procedures without an asker, and paces them."""

    relayed = False
    resp3 = False
    read_quorum = 0
    write_quorum = 0

    def __init__(self, state: State, timers: Timers) -> None:
        self._state = state
        self.timers = timers
        self._free_ms = 0  # when the budget spent so far is earned
        self._commands = 0
        self._busy_ms = -QUIET_MS

    def run(self, steps: Steps) -> None:
        """Begins a procedure; its end, be it an error, is nobody's business but its own."""
        Procedure(steps, self, 0).start()

    def answer(self, number: int, reply: Reply) -> None:
        """Takes what a procedure answers when it ends."""

    def pause(self, delay_ms: int) -> Step:
        """A step that takes `delay_ms`."""
        return self.timers.pause_until(self._state.now_ms + delay_ms)

    @property
    def busy(self) -> bool:
        """Whether clients are served here at the moment."""
        return self._state.now_ms - self._busy_ms < QUIET_MS

    def spend(self, keys: int, peer_busy: bool = False) -> Generator[Step, Any, None]:
        """Waits until work on `keys` more keys may begin: `yield from background.spend(n)`. `peer_busy` says that
        another node, which works on them too, serves clients."""
        state, config = self._state, self._state.config
        start_ms = max(state.now_ms, self._free_ms)
        rate = config.background_keys_per_s if self.busy or peer_busy else config.background_keys_per_s_idle
        self._free_ms = start_ms + max(1, keys * 1000 // rate)
        if start_ms > state.now_ms:
            yield self.timers.pause_until(start_ms)

    def tick(self, now_ms: int) -> None:
        """Looks whether clients have read or written since the last tick, here or through another node that needs us for
        it. What an operator asks does not count, or watching a repair would slow it down."""
        statistics = self._state.statistics
        commands = statistics.reads + statistics.writes + statistics.relays
        commands += statistics.reads_answered + statistics.stored
        if commands != self._commands:
            self._commands = commands
            self._busy_ms = now_ms
