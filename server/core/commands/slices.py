"""Work that is too much for one turn: a command does a slice of it and lets others be served before the next.

Theory. A turn serves all that has arrived, so whoever holds it for long makes all others wait, and the peers suspect the
node. A command of several steps bounds what it does in one go and then yields `next_turn`: a pause of the shortest kind,
after which the node has read its sockets once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from protocol.resp import LargeReply, Reply
from server.core.base.errors import ErrorReply
from server.core.base.sinks import Sink
from server.core.base.unexpected import Unexpected
from server.core.work.procedures import Procedure, Step, Steps

if TYPE_CHECKING:
    from server.core.node import Node

Combine = Callable[["Parts"], Reply]

PARTS_PER_TURN = 200  # of a command over several keys: two ms or so
PARTS_UNANSWERED_MAX = 400  # or they would stand before the requests of others, at each owner
_PAUSE_MS = 1


def next_turn(node: Node) -> Step:
    """A step that ends in one of the next turns, once others have been served."""
    return node.timers.pause_until(node.state.now_ms + _PAUSE_MS)


class Parts:
    """The sink of one command's parts: what they answer is added up or kept, and the first error among them, in their
    order, is the command's answer. Costs the same at each part, however many there are."""

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
        """Answers the command; what its parts still answer is not heard."""
        if not self._is_over:
            self._is_over = True
            self._sink.answer(self._number, reply)


class _Rest:
    """The sink of what begins the rest of a command's parts: answers nothing unless it fails."""

    relayed = False
    resp3 = False
    read_quorum = 0
    write_quorum = 0

    def __init__(self, parts: Parts) -> None:
        self._parts = parts

    def answer(self, number: int, reply: Reply) -> None:
        """It has failed: no more parts begin, and the command is answered with the error."""
        self._parts.end(reply)


def run_parts(node: Node, parts: Parts, part: Callable[[int], list[bytes]]) -> None:
    """Begins `parts` in their order, `part(n)` being the command of number n: so many in a turn, and no more at a time
    than may be unanswered."""
    count = parts.missing
    parts.unexpected = node.state.unexpected
    for number in range(min(count, PARTS_PER_TURN)):
        node.dispatcher.run(parts, number, part(number))
    if count > PARTS_PER_TURN:
        Procedure(node.state, "parts", _begin_rest(node, parts, count, part), _Rest(parts), 0).start()


def _begin_rest(node: Node, parts: Parts, count: int, part: Callable[[int], list[bytes]]) -> Steps:
    for first in range(PARTS_PER_TURN, count, PARTS_PER_TURN):
        yield next_turn(node)
        while parts.missing - (count - first) > PARTS_UNANSWERED_MAX:
            yield next_turn(node)
        for number in range(first, min(first + PARTS_PER_TURN, count)):
            node.dispatcher.run(parts, number, part(number))
    return None
