"""Which connections may begin commands now: a budget for each pass of the loop, and a fair queue behind it.

Theory. One thread does all work of a node, so a client that keeps it busy delays other clients, the messages of peers, and
gossip. So commands begin in one pass of the loop for `turn_ms_max` only, and no command begins while
`requests_running_max` are in flight: further ones would only wait in another queue, and perhaps past their deadline. A
connection whose commands must wait is queued. The queue is first in, first out. When its turn comes, a connection begins
`turn_commands_max` commands and goes to the end of the queue if it has more. While connections are queued, all others
wait behind them. Only the first commands of a new connection do not wait: it may be a peer's, or an operator's.

A connection of which `LARGE_BYTES` are held may begin a command whose turn takes 20 ms. So such connections have a queue of
their own. All others pass them, and no large turn begins before the sockets were looked at since the last one
(context.py). In one queue, a client with a short command waited for a row of large turns.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from server.core.base.config import Config
from server.core.base.state import State
from server.shell.client import Client
from server.shell.context import LARGE_BYTES, PUT_OFF_MAX

UNCHECKED_MAX: Final = 16  # commands between two readings of the clock: a reading costs as much as a tenth of a command


class Admission:
    """The connections that wait to begin commands. `has_just_been_large`: see context.py."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        state: State,
        config: Config,
        has_just_been_large: Callable[[], bool] = lambda: False,
    ) -> None:
        self._loop = loop
        self._state = state
        self._pass_s_max = config.turn_ms_max / 1000
        self._running_max = config.requests_running_max
        self._has_just_been_large = has_just_been_large
        self._queue: deque[Client] = deque()
        self._large: deque[Client] = deque()  # those that may begin a large turn
        self._put_off = 0  # for so many passes they have waited because of large turns
        self._scheduled = False
        self.unchecked = 0  # commands that have begun since the clock was read

    def __len__(self) -> int:
        return len(self._queue) + len(self._large)

    def may_begin(self, held_bytes: int = 0) -> bool:
        """HOT. Whether a connection that has just received commands may begin them at once. `held_bytes`: what was held of
        its commands before."""
        if self._queue or self._state.in_flight >= self._running_max:
            return False
        if held_bytes >= LARGE_BYTES and (self._large or self._has_just_been_large()):
            return False
        if self.unchecked < UNCHECKED_MAX:
            return True
        self.unchecked = 0
        return time.monotonic() - self._loop.time() < self._pass_s_max

    def has_plenty(self) -> bool:
        """HOT. Whether a client may have `pipeline_max` commands in flight: others still find room here, and what waits for
        earlier commands of its connection is bounded for all clients together."""
        state = self._state
        return state.in_flight * 2 < self._running_max and state.commands_waiting < self._running_max

    def add(self, client: Client) -> None:
        """Queues a connection that has commands to begin."""
        client.is_queued = True
        if client.unfinished_bytes() < LARGE_BYTES:
            self._queue.append(client)
        else:
            self._large.append(client)
        self.schedule()

    def schedule(self) -> None:
        """Serves the queues in the next pass of the loop, unless both are empty or too many requests are in flight."""
        if (self._queue or self._large) and not self._scheduled and self._state.in_flight < self._running_max:
            self._scheduled = True
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Lets queued connections begin commands, at least one of each queue in each pass, however late it is."""
        self._scheduled = False
        self._serve_queue(self._queue)
        if self._large and self._has_just_been_large() and self._put_off < PUT_OFF_MAX:
            self._put_off += 1
        else:
            self._put_off = 0
            self._serve_queue(self._large)
        self.schedule()

    def _serve_queue(self, queue: deque[Client]) -> None:
        for _ in range(len(queue)):
            client = queue.popleft()
            client.is_queued = False
            client.begin_commands()
            is_late = time.monotonic() - self._loop.time() >= self._pass_s_max
            is_over = queue is self._large and self._has_just_been_large()
            if is_late or is_over or self._state.in_flight >= self._running_max:
                break
