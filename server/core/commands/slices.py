"""Work that is too much for one turn: a command does a slice of it in each of several turns.

Theory. One turn serves all clients, so a command that takes long makes all of them wait, and peers suspect the node. A
command of several steps bounds the work of each step and then yields `next_turn`, the shortest pause: after it the node
has read its sockets once.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.resp import LargeReply, Reply
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Sink
from server.core.base.unexpected import Unexpected
from server.core.commands.execution import execute
from server.core.commands.spec import Handler
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

Combine = Callable[["Parts"], Reply]

PARTS_PER_TURN = 200  # of a command over several keys: about 2 ms
PARTS_UNANSWERED_MAX = 400  # more would delay the requests of other clients at each owner
_PAUSE_MS = 1


def next_turn(services: Services) -> Step:
    """A step that ends in one of the next turns, after other clients were served."""
    return services.timers.pause_until(services.state.now_ms + _PAUSE_MS)


class Parts:
    """The sink of the parts of one command, such as the GETs of an MGET. It adds up or keeps their replies. If parts fail,
    the command's reply is the error of the first of them in order. Each reply costs the same, however many parts there
    are."""

    unexpected: Unexpected  # the node's, from `run_parts` on

    def __init__(self, sink: Sink, number: int, count: int, combine: Combine, keep: bool = False) -> None:
        self.resp3 = sink.resp3
        self.relayed = sink.relayed
        self.read_quorum = sink.read_quorum
        self.write_quorum = sink.write_quorum
        self.total = 0  # of the integers that the parts answered
        self.replies: list[Reply] = [b""] * count if keep else []  # in the parts' order
        self.missing = count
        self._keep = keep
        self._sink = sink
        self._number = number
        self._combine = combine
        self._answered = bytearray(count)
        self._is_over = False
        self._error_at = count
        self._error = b""

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of part `number`."""
        assert not self._answered[number], "a part was answered twice"
        self._answered[number] = 1
        if isinstance(reply, LargeReply):
            self.replies[number] = reply
        elif reply[:1] == b"-":
            if number < self._error_at:
                self._error_at, self._error = number, reply
        elif self._keep:
            self.replies[number] = reply
        elif reply[:1] == b":":
            self.total += int(reply[1:-2])
        self.missing -= 1
        if not self.missing and not self._is_over:
            self.end(ErrorReply(self._error) if self._error else self._joined())

    def _joined(self) -> Reply:
        try:
            return self._combine(self)
        except Exception as error:  # noqa: BLE001
            unexpected = self.unexpected
            return unexpected.contain(error, unexpected.changes, "joining replies", "maybe-written")

    def end(self, reply: Reply) -> None:
        """Answers the command; later replies of its parts are ignored."""
        if not self._is_over:
            self._is_over = True
            self._sink.answer(self._number, reply)


class _Rest:
    """The sink of the procedure that begins the rest of a command's parts: it gets an answer only if that fails."""

    relayed = False
    resp3 = False
    read_quorum = 0
    write_quorum = 0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def answer(self, number: int, reply: Reply) -> None:
        """The procedure has failed: no more parts begin, and the error is the command's reply."""
        self._parts.end(reply)


def run_parts(
    services: Services, parts: Parts, name: str, handler: Handler, part: Callable[[int], list[bytes]]
) -> None:
    """Begins `parts` in their order: calls of the command `name`, `part(n)` being the arguments of number n. At most
    PARTS_PER_TURN begin in a turn, and at most PARTS_UNANSWERED_MAX are unanswered."""
    count = parts.missing
    parts.unexpected = services.state.unexpected
    for number in range(min(count, PARTS_PER_TURN)):
        execute(services, name, handler, parts, number, part(number))
    if count > PARTS_PER_TURN:
        Procedure(
            services.state, "parts", _begin_rest(services, parts, count, name, handler, part), _Rest(parts), 0
        ).start()


def _begin_rest(
    services: Services, parts: Parts, count: int, name: str, handler: Handler, part: Callable[[int], list[bytes]]
) -> Steps:
    for first in range(PARTS_PER_TURN, count, PARTS_PER_TURN):
        yield next_turn(services)
        while parts.missing - (count - first) > PARTS_UNANSWERED_MAX:
            yield next_turn(services)
        for number in range(first, min(first + PARTS_PER_TURN, count)):
            execute(services, name, handler, parts, number, part(number))
    return None
