"""What all parts of the shell need: the node, its settings, the event loop, and a way to ask for the end of the turn.

Theory. The node handles bytes as they arrive. The first bytes schedule the end of the turn; the loop runs it after two
passes over all sockets that are ready. So a turn grows with the load by itself, and all requests of a turn share its
fixed costs (a batch, a message to each peer, a system call for each client). Past `turn_commands_max` commands a longer
turn saves nothing more. So the turn ends at once, and the other nodes have work while this one reads on. (At -P 16 that
is a third more throughput on two cores, for the same CPU.)
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from server.core.base.config import Config
from server.core.node import Node


class Context:
    """One node, and what the parts of the shell need to run it on an event loop.

    `end_turn` calls all `turn_enders`. There is one, the `Turn` (turn.py). It adds itself, because it needs the
    connections, and these need this object.
    """

    def __init__(self, node: Node, config: Config, loop: asyncio.AbstractEventLoop) -> None:
        self.node = node
        self.services = node.services
        self.config = config
        self.loop = loop
        self.turn_enders: list[Callable[[], None]] = []
        self._is_turn_asked = False
        self._commands = 0  # `statistics.commands` when the last turn ended

    def now_ms(self) -> int:
        """Monotonic milliseconds, the same throughout a pass of the loop."""
        return int(self.loop.time() * 1000)

    def schedule_turn(self) -> None:
        """HOT. Ends the turn after this pass of the loop and the next one; at once if it has enough commands."""
        if not self._is_turn_asked:
            self._is_turn_asked = True
            # One more pass, so that messages that arrive meanwhile join this turn. Measured at -P 1: 14 % less CPU.
            self.loop.call_soon(self.loop.call_soon, self.end_turn)
        elif self.node.state.statistics.commands - self._commands >= self.config.turn_commands_max:
            self.end_turn()
            self._is_turn_asked = True  # the scheduled callback is still to come

    def end_turn(self) -> None:
        """HOT. Ends the turn now."""
        self._is_turn_asked = False
        self._commands = self.node.state.statistics.commands
        for end in self.turn_enders:
            end()
