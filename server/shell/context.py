"""What all parts of the shell need: the node, its settings, the event loop, and a way to ask for the end of the turn.

Theory. The node handles bytes as they arrive. The first bytes schedule the end of the turn; the loop runs it after two
passes over all sockets that are ready. So a turn gets longer under load, and all its requests share its fixed costs (a
batch, a message to each peer, a system call for each client). Past `turn_commands_max` commands a longer turn saves nothing
more. So the turn ends at once, and the other nodes have work while this one goes on reading. (At -P 16 that is a third more
throughput on two cores, for the same CPU.)

A client with a long pipeline sends it in many small pieces, and a turn for each of them would cost as much as the work
that it does. So a turn with commands of such a client goes on for as long as each pass brings more of them, up to a
quarter of what the client has in flight: the other nodes still have three such turns to work on. It lasts `turn_ms_max` at
most, since the others' replies wait for its end.

Under fsync `always` a turn does not end while a sync runs, for `turn_ms_max` at most: what it says would have to wait for
the next sync, and turns are the dearest part of small requests.

To copy and encode a value of 10 MB takes some 10 ms, and to commit it as much, if it is not staged (staging.py). So a
turn with a value of `LARGE_BYTES` and more ends at once, and two of them never share a commit. Clients and nodes send them
over many connections, whose sockets are often ready in the same pass, one large turn after the other. So after a large turn
all sockets are looked at once more before the next one begins (`has_just_been_large`): others wait for one large turn, not
for a row of them. Nobody waits for more than `PUT_OFF_MAX` passes to begin a large turn.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final

from server.core.base.config import Config
from server.core.node import Node
from server.shell.certificates import Certificates
from server.shell.refusals import RefusedPeers
from server.shell.service_manager import ServiceManager
from server.shell.staging import ValueStaging
from server.storage.engine import Engine

LARGE_BYTES: Final = 1 << 20  # of a request, or of a message of a node
PUT_OFF_MAX: Final = 6  # passes: a large turn of each of three connections lasts for two
_LATE_S: Final = 0.02  # a pass of the loop seldom takes longer under load
_TURNS: Final = 4  # a client with a long pipeline has its commands in so many turns at a time


class Context:
    """One node, and what the parts of the shell need to run it on an event loop.

    `end_turn` calls all `turn_enders`. There is one, the `Turn` (turn.py). It adds itself, because it needs the
    connections, and these need this object.
    """

    def __init__(
        self,
        node: Node,
        config: Config,
        loop: asyncio.AbstractEventLoop,
        certificates: Certificates | None = None,
        engine: Engine | None = None,
    ) -> None:
        self.node = node
        self.services = node.services
        node.services.traces.now_us = lambda: time.monotonic_ns() // 1000
        self.config = config
        self.certificates = certificates or Certificates(config)
        self.loop = loop
        self._time_s = loop.time  # looked up once
        self._fresh_ms = 0
        self.refusals = RefusedPeers(node.state.statistics, loop.time)
        self.service_manager = ServiceManager(os.environ)
        self.staging = ValueStaging(engine)
        node.services.writes.stage = self.staging.slices
        self.turn_enders: list[Callable[[], None]] = []
        self._is_turn_asked = False
        self._commands = 0  # `statistics.commands` when the last turn ended
        self._commands_max = config.turn_commands_max  # of this turn
        self._in_flight_max = _TURNS * config.turn_commands_max  # a client with more in flight makes the turn longer
        self._is_long = False
        self._seen = 0  # `statistics.commands` when a long turn was last asked to end
        self._long_since_ms = 0
        self._is_syncing = False
        self._is_waiting = False  # this turn waits for the end of a sync
        self._large_turns = 0  # since all sockets were looked at

    def now_ms(self) -> int:
        """HOT. Monotonic milliseconds, the same throughout a pass of the loop, unless `fresh_ms` has read them anew."""
        now_ms = int(self._time_s() * 1000)
        return now_ms if now_ms > self._fresh_ms else self._fresh_ms

    def fresh_ms(self) -> int:
        """HOT. As `now_ms`, read anew if this pass has begun more than `_LATE_S` ago: the process may have been suspended
        since then, and must not take the age of a relay that it reads for less than it is (core/requests/relay_ages.py)."""
        now_s = time.monotonic()
        if now_s - self._time_s() > _LATE_S:
            self._fresh_ms = int(now_s * 1000)
        return self.now_ms()

    def is_late(self) -> bool:
        """Whether this pass of the loop has taken `turn_ms_max`: others are to be served before more large work begins."""
        return time.monotonic() - self._time_s() >= self.config.turn_ms_max / 1000

    def has_just_been_large(self) -> bool:
        """Whether sockets are ready that no pass has looked at since the last large turn."""
        return self._large_turns > 0

    def _look_at_sockets(self) -> None:
        """The loop looks at its sockets once more between this call and the next one."""
        self.loop.call_soon(self._have_looked)

    def _have_looked(self) -> None:
        self._large_turns -= 1

    def end_large_turn(self) -> None:
        """Ends the turn now, because something large was done in it."""
        self._large_turns += 1
        self.loop.call_soon(self._look_at_sockets)
        is_asked = self._is_turn_asked and not self._is_waiting
        self.end_turn()
        self._is_turn_asked = is_asked  # a scheduled callback is still to come

    def schedule_turn(self, in_flight: int = 0) -> None:
        """HOT. Ends the turn after this pass of the loop and the next one; at once if it has enough commands. `in_flight`:
        how many commands the client has in flight that has just begun some."""
        if in_flight > self._in_flight_max:
            self._lengthen_turn(in_flight)
        if not self._is_turn_asked:
            self._is_turn_asked = True
            # One more pass, so that messages that arrive meanwhile join this turn. Measured at -P 1: 14 % less CPU.
            self.loop.call_soon(self.loop.call_soon, self._end_unless_more_came)
        elif self.node.state.statistics.commands - self._commands >= self._commands_max:
            is_asked = not self._is_waiting
            self.end_turn()
            self._is_turn_asked = is_asked  # the scheduled callback is still to come

    def _lengthen_turn(self, in_flight: int) -> None:
        """Lets the turn have more commands, because a client has so many in flight."""
        if not self._is_long:
            self._is_long = True
            self._long_since_ms = self.now_ms()
        self._in_flight_max = in_flight
        self._commands_max = in_flight // _TURNS

    def _end_unless_more_came(self) -> None:
        """HOT. Ends the turn. A long one goes on for another pass if the last one has brought commands."""
        if self._is_long:
            commands = self.node.state.statistics.commands
            if commands > self._seen and self.now_ms() - self._long_since_ms < self.config.turn_ms_max:
                self._seen = commands
                self.loop.call_soon(self._end_unless_more_came)
                return
        if self._is_syncing:
            self._is_waiting = True
            self.loop.call_later(self.config.turn_ms_max / 1000, self._end_waiting, self.node.state.statistics.turns)
            return
        self.end_turn()

    def _end_waiting(self, turns: int) -> None:
        """Ends the turn that waits for a sync, if it is the one behind so many."""
        if self._is_waiting and self.node.state.statistics.turns == turns:
            self.end_turn()

    def hold(self, is_syncing: bool) -> None:
        """A sync that holds back what turns say begins, or has ended."""
        self._is_syncing = is_syncing
        if self._is_waiting and not is_syncing:
            self.end_turn()

    def end_turn(self) -> None:
        """HOT. Ends the turn now."""
        self._is_turn_asked = self._is_waiting = False
        self._commands = self.node.state.statistics.commands
        if self._is_long:
            self._is_long = False
            self._commands_max = self.config.turn_commands_max
            self._in_flight_max = _TURNS * self._commands_max
        for end in self.turn_enders:
            end()


def must_wait(context: Context, put_off: int) -> bool:
    """Whether large work waits for the next pass of the loop, which has waited for so many passes already."""
    # Once if the pass is late: the work of others may make each pass late.
    return (context.is_late() and not put_off) or (context.has_just_been_large() and put_off < PUT_OFF_MAX)


def has_large_word(batch: list[list[bytes]]) -> bool:
    """Whether some word of a command is so large that its commit takes long."""
    return any(len(word) >= LARGE_BYTES for args in batch for word in args)
