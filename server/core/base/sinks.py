"""Where replies go (promise P5): each request gets exactly one reply, and replies leave in command order.

Theory. A command begins with a sink and a number. When its reply is known, at once or some turns later, `answer` gives
it to the sink under that number. A `Session` is the sink of one client connection. It keeps one slot for each command:
the slot holds the arguments while the command is in flight, and the reply afterwards. So an assertion catches a second
reply, and replies leave in command order, whatever the order in which they came. (commands/slices.py has the sink for
the parts of a command over several keys; requests/relays.py has the sink for commands that another node has relayed.)

A client that pipelines expects its commands to take effect in order: commands of the same key wait for each other in
its lane (lanes.py). A command that must run alone on its connection waits in the session's backlog, and all commands
behind it wait there, too.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from protocol.resp import LargeReply, Reply
from server.core.base.lanes import Lanes

Flushed = bytes | list[bytes | memoryview]  # replies in order: one buffer, or several, to avoid copying large values


class Sink(Protocol):
    """Takes the replies of commands, and has the settings that these run with."""

    resp3: bool
    relayed: bool  # another node sent the command to us; it must not be relayed again
    read_quorum: int  # 0: the layout's R
    write_quorum: int  # 0: the layout's W

    def answer(self, number: int, reply: Reply) -> None:
        """Answers command `number` with an encoded reply."""


class Session:
    """One client's connection: its settings, and its commands and replies in order."""

    relayed = False

    def __init__(self, session_id: int, address: str, local_address: str, now_ms: int, ready: list[Session]) -> None:
        self.id = session_id
        self.address = address
        self.local_address = local_address
        self.created_ms = now_ms
        self.active_ms = now_ms
        self.name = b""
        self.library_name = b""
        self.library_version = b""
        self.last_command = ""
        self.no_evict = False
        self.no_touch = False
        self.resp3 = False
        self.read_quorum = 0
        self.write_quorum = 0
        self.closing = False  # close the connection after the replies so far
        self.is_broken = False  # close the connection now, see `break_off`
        self.slots: list[list[bytes] | Reply] = []
        self.held_bytes = 0  # size of the replies in the slots
        self.first_number = 0  # number of the command in the first slot
        self.in_flight = 0
        self.kind = 0  # kind of the commands in flight, see commands/spec.py; not used once there are lanes
        self.turn = -1  # the turn in which these commands began
        self.lanes: Lanes | None = None  # made when commands in flight may have to wait for each other
        self.backlog: deque[list[bytes]] = deque()  # a command that must run alone, and all behind it
        self.flushed = 0  # how many replies the last `flush` returned
        self.flushed_bytes = 0  # their size
        self.muted: list[
            tuple[int, int | None]
        ] = []  # numbers whose replies CLIENT REPLY drops: start, end (None: open)
        self._ready = ready
        self.listed = False  # whether `_ready` has this session: it got replies in this turn

    def open(self, args: list[bytes]) -> int:
        """HOT. Opens a slot for a new command, and returns its number."""
        slots = self.slots
        number = self.first_number + len(slots)
        slots.append(args)
        self.in_flight += 1
        return number

    def answer(self, number: int, reply: Reply) -> None:
        """HOT. Puts the reply of command `number` into its slot."""
        index = number - self.first_number
        assert index >= 0 and type(self.slots[index]) is list, "a request was answered twice"
        self.slots[index] = reply
        self.held_bytes += reply.cost_bytes if isinstance(reply, LargeReply) else len(reply)
        self.in_flight -= 1
        if self.lanes is not None:
            if self.in_flight:
                self.lanes.leave(number)
            else:
                self.lanes = None
        if not self.listed:
            self.listed = True
            self._ready.append(self)

    def flush(self) -> Flushed:
        """Removes and returns the replies before the first command that is still in flight; `flushed` counts them."""
        slots = self.slots
        if not self.in_flight:
            count = len(slots)
        else:
            count = next(index for index, slot in enumerate(slots) if type(slot) is list)
        self.first_number += count
        self.flushed = count
        if self.muted:
            self._drop_muted(count)
        due = slots[:count]
        del slots[:count]
        try:
            replies = b"".join(due)  # type: ignore[arg-type]
        except TypeError:
            return self._flush_pieces(due)
        self.flushed_bytes = len(replies)
        self.held_bytes -= self.flushed_bytes
        return replies

    def _flush_pieces(self, due: list[list[bytes] | Reply]) -> list[bytes | memoryview]:
        """Returns replies, some of them large, as a list of buffers."""
        pieces: list[bytes | memoryview] = []
        self.flushed_bytes = 0
        for reply in due:
            if isinstance(reply, LargeReply):
                pieces += reply.pieces
                self.flushed_bytes += reply.cost_bytes
            elif isinstance(reply, bytes):
                pieces.append(reply)
                self.flushed_bytes += len(reply)
        self.held_bytes -= self.flushed_bytes
        return pieces

    def mute(self, start: int, end: int | None) -> None:
        """Drops the replies with numbers from `start` (included) to `end` (not; None: no end)."""
        if not self.muted or self.muted[-1][1] is not None:  # else all replies are dropped already (CLIENT REPLY OFF)
            self.muted.append((start, end))

    def unmute(self, number: int) -> None:
        """Sends replies again, from `number` on."""
        self.muted = [(start, number if end is None else min(end, number)) for start, end in self.muted]

    def _drop_muted(self, count: int) -> None:
        """Empties the muted ones among the next `count` replies, and removes ranges that have passed."""
        first = self.first_number - count
        for index in range(count):
            number = first + index
            if any(start <= number and (end is None or number < end) for start, end in self.muted):
                reply = self.slots[index]
                self.held_bytes -= reply.cost_bytes if isinstance(reply, LargeReply) else len(reply)
                self.slots[index] = b""
        self.muted = [(start, end) for start, end in self.muted if end is None or end > self.first_number]

    def break_off(self) -> int:
        """Stops the session after an internal error, which has left the order of its commands unknown.

        Returns how many commands were parked in lanes.
        """
        parked = self.lanes.parked if self.lanes is not None else 0
        self.lanes = None
        self.closing = self.is_broken = True
        return parked

    def unanswered(self) -> list[tuple[int, list[bytes]]]:
        """Returns the numbers and the arguments of the commands in flight."""
        return [(self.first_number + index, slot) for index, slot in enumerate(self.slots) if isinstance(slot, list)]
