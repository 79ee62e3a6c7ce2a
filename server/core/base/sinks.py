"""Where answers go (promise P5): every request is answered exactly once, and in command order on its connection.

Theory. A command is started with a sink and a number; when its answer is known, be it at once or turns later, the sink
takes it under that number. A `Session` keeps one slot a command: the slot holds the command's arguments while it is in
flight, and its reply afterwards, so a second answer is caught by an assertion and the replies leave in order whatever
the order in which they came. (The sink of the parts of a command over several keys is in commands/slices.py.)

A client that pipelines expects its commands to take effect in order: those that name the same key wait for each other
in its lane (lanes.py). A command that has to run alone on its connection, and all that come behind it, wait in the
session's backlog.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol

from protocol.resp import LargeReply, Reply
from server.core.base.lanes import Lanes

Flushed = bytes | list[bytes | memoryview]  # replies in order: in one piece, or in several that share stored values


class Sink(Protocol):
    """What a request in flight knows of its asker: the protocol it speaks, its quorums (0: the layout's), its answer."""

    resp3: bool
    relayed: bool  # another node sent the command to us: it must not travel further
    read_quorum: int
    write_quorum: int

    def answer(self, number: int, reply: Reply) -> None:
        """The answer of the asker's command `number`: an encoded reply."""


class Session:
    """One client's connection: its settings, and the replies it is owed, in order."""

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
        self.closing = False  # close once the replies so far are out
        self.is_broken = False  # close now, see `break_off`
        self.slots: list[list[bytes] | Reply] = []
        self.held_bytes = 0  # of the replies in the slots
        self.first_number = 0
        self.in_flight = 0
        self.kind = 0  # of the commands in flight, see commands/spec.py; of no meaning once there are lanes
        self.turn = -1  # in which they were begun
        self.lanes: Lanes | None = None  # once commands in flight could have to wait for each other
        self.backlog: deque[list[bytes]] = deque()  # behind a command that has to run alone
        self.flushed = 0
        self.flushed_bytes = 0  # what those replies cost
        self.muted: list[tuple[int, int | None]] = []  # replies that CLIENT REPLY drops: from, to before (None: no end)
        self._ready = ready
        self.listed = False  # among those that got answers in this turn

    def open(self, args: list[bytes]) -> int:
        """HOT. The number of a new command, whose reply is owed from now on."""
        slots = self.slots
        number = self.first_number + len(slots)
        slots.append(args)
        self.in_flight += 1
        return number

    def answer(self, number: int, reply: Reply) -> None:
        """HOT. Takes the one reply of command `number`."""
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
        """The replies that are due in order; they leave the session, `flushed` of them."""
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
        """The replies that are due, some of which are large."""
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
        """The replies from number `start` on, up to the one before `end`, will not be sent."""
        if not self.muted or self.muted[-1][1] is not None:  # else none is, whatever is said of the next one
            self.muted.append((start, end))

    def unmute(self, number: int) -> None:
        """Replies are sent again, from `number` on."""
        self.muted = [(start, number if end is None else min(end, number)) for start, end in self.muted]

    def _drop_muted(self, count: int) -> None:
        """Empties those of the next `count` replies that the client does not want, and forgets what is past."""
        first = self.first_number - count
        for index in range(count):
            number = first + index
            if any(start <= number and (end is None or number < end) for start, end in self.muted):
                reply = self.slots[index]
                self.held_bytes -= reply.cost_bytes if isinstance(reply, LargeReply) else len(reply)
                self.slots[index] = b""
        self.muted = [(start, end) for start, end in self.muted if end is None or end > self.first_number]

    def break_off(self) -> int:
        """A fault has left the order of the commands unknown: no more begin. Answers how many were parked in lanes."""
        parked = self.lanes.parked if self.lanes is not None else 0
        self.lanes = None
        self.closing = self.is_broken = True
        return parked

    def unanswered(self) -> list[tuple[int, list[bytes]]]:
        """The numbers and the arguments of the commands in flight."""
        return [(self.first_number + index, slot) for index, slot in enumerate(self.slots) if isinstance(slot, list)]
