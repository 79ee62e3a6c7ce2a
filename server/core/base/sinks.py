"""Where answers go (promise P5): every request is answered exactly once, and in command order on its connection.

Theory. A command is started with a sink and a number; when its answer is known, be it at once or turns later, the sink
takes it under that number. A `Session` keeps one slot a command: the slot holds the command's arguments while it is in
flight, and its reply afterwards, so a second answer is caught by an assertion and the replies leave in order whatever
the order in which they came. A `Gather` is the sink of the parts of a command over several keys.

A client that pipelines expects its commands to take effect in order: those that name the same key wait for each other
in its lane (lanes.py). A command that has to run alone on its connection, and all that come behind it, wait in the
session's backlog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from server.core.base.errors import ErrorReply
from server.core.base.lanes import Lanes


class Sink(Protocol):
    """What a request in flight knows of its asker: the protocol it speaks, its quorums (0: the layout's), its answer."""

    resp3: bool
    relayed: bool  # another node sent the command to us: it must not travel further
    read_quorum: int
    write_quorum: int

    def answer(self, number: int, reply: bytes) -> None:
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
        self.slots: list[list[bytes] | bytes] = []
        self.first_number = 0
        self.in_flight = 0
        self.kind = 0  # of the commands in flight, see commands/spec.py; of no meaning once there are lanes
        self.turn = -1  # in which they were begun
        self.lanes: Lanes | None = None  # once commands in flight could have to wait for each other
        self.backlog: deque[list[bytes]] = deque()  # behind a command that has to run alone
        self.flushed = 0
        self._ready = ready
        self.listed = False  # among those that got answers in this turn

    def open(self, args: list[bytes]) -> int:
        """HOT. The number of a new command, whose reply is owed from now on."""
        slots = self.slots
        number = self.first_number + len(slots)
        slots.append(args)
        self.in_flight += 1
        return number

    def answer(self, number: int, reply: bytes) -> None:
        """HOT. Takes the one reply of command `number`."""
        index = number - self.first_number
        assert index >= 0 and type(self.slots[index]) is list, "a request was answered twice"
        self.slots[index] = reply
        self.in_flight -= 1
        if self.lanes is not None:
            if self.in_flight:
                self.lanes.leave(number)
            else:
                self.lanes = None
        if not self.listed:
            self.listed = True
            self._ready.append(self)

    def flush(self) -> bytes:
        """The replies that are due in order; they leave the session, `flushed` of them."""
        slots = self.slots
        if not self.in_flight:
            count = len(slots)
        else:
            count = next(index for index, slot in enumerate(slots) if type(slot) is list)
        self.first_number += count
        self.flushed = count
        replies = b"".join(slots[:count])  # type: ignore[arg-type]
        del slots[:count]
        return replies

    def unanswered(self) -> list[tuple[int, list[bytes]]]:
        """The numbers and the arguments of the commands in flight."""
        return [(self.first_number + index, slot) for index, slot in enumerate(self.slots) if isinstance(slot, list)]


class Gather:
    """The sink of one command's parts: answers its asker with what `combine` makes of all replies, in part order."""

    def __init__(self, sink: Sink, number: int, parts: int, combine: Callable[[list[bytes], bool], bytes]) -> None:
        self.resp3 = sink.resp3
        self.relayed = sink.relayed
        self.read_quorum = sink.read_quorum
        self.write_quorum = sink.write_quorum
        self._sink = sink
        self._number = number
        self._replies: list[bytes | None] = [None] * parts
        self._missing = parts
        self._combine = combine

    def answer(self, number: int, reply: bytes) -> None:
        """The reply of part `number`. The first error among the parts, in their order, is the command's answer."""
        assert self._replies[number] is None, "a part was answered twice"
        self._replies[number] = reply
        self._missing -= 1
        if not self._missing:
            replies = [reply for reply in self._replies if reply is not None]
            error = next((reply for reply in replies if reply[:1] == b"-"), None)
            self._sink.answer(
                self._number, ErrorReply(error) if error is not None else self._combine(replies, self.resp3)
            )
