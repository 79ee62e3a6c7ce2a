"""Where answers go (promise P5): every request is answered exactly once, and in command order on its connection.

Theory. A command is started with a sink and a number; when its answer is known, be it at once or turns later, the sink
takes it under that number. A `Session` keeps one slot a command: the slot holds the command's arguments while it is in
flight, and its reply afterwards, so a second answer is caught by an assertion and the replies leave in order whatever
the order in which they came. A `Gather` is the sink of the parts of a command over several keys.

A client that pipelines expects its commands to take effect in order. Here reads and writes of one key may run on
different nodes, so commands of one connection overlap only where no order can be seen: reads with reads, and plain
writes with plain writes of the same turn (which travel together, and which one coordinator takes in order). Others on
the same key wait in the session's backlog.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from server.core.base.errors import ErrorReply


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
        self.kind = 0  # of the commands in flight, see commands/spec.py
        self.backlog: deque[list[bytes]] = deque()
        self.turn = -1  # in which `earlier` was looked up
        self.earlier: set[bytes] = set()  # keys of what is in flight since before that turn
        self.flushed = 0
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

    def answer(self, number: int, reply: bytes) -> None:
        """HOT. Takes the one reply of command `number`."""
        index = number - self.first_number
        assert index >= 0 and type(self.slots[index]) is list, "a request was answered twice"
        self.slots[index] = reply
        self.in_flight -= 1
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
        if self.muted:
            self._drop_muted(count)
        replies = b"".join(slots[:count])  # type: ignore[arg-type]
        del slots[:count]
        return replies

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
                self.slots[index] = b""
        self.muted = [(start, end) for start, end in self.muted if end is None or end > self.first_number]

    def unanswered(self) -> list[list[bytes]]:
        """The commands in flight."""
        return [slot for slot in self.slots if isinstance(slot, list)]


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
