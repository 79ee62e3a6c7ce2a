"""Quorum reads of keys that commands are about to write: one for all commands of a turn that write the same key.

Theory. Fifty clients that push to one queue each need a quorum read of it first. Reads of one turn that ask the same owners
are one group anyway (reads.py), and see the same record. So they are one read, whose answer goes to all commands in the
order in which they came. That spares the owners 49 comparisons. It matters most for a large record: a group of many of
them is divided, because their answers might not fit into one message.

A command joins a read until its group is sent. What has begun later needs a read of its own, as it must see all that was
acknowledged before it began.
"""

from __future__ import annotations

from collections.abc import Callable

from protocol.resp import Reply
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.requests.read_groups import ReadGroup
from server.core.requests.reads import Reads

Take = Callable[[Reply], None]  # gets the record that a quorum holds, b"" if there is none, or an error


class _JointRead(Sink):
    """The sink of one read, and those who get its answer. In flight, each of them counts."""

    def __init__(self, state: State, like: Sink, number: int) -> None:
        super().__init__(like)
        self.group: ReadGroup | None = None
        self._state = state
        self._like = like
        self._number = number
        self._takers: list[Take] = []

    def add(self, take: Take) -> None:
        """`take` gets the answer, too."""
        self._state.in_flight += bool(self._takers)
        self._takers.append(take)

    def answer(self, number: int, reply: Reply) -> None:
        """The record, or an error."""
        self._state.in_flight -= len(self._takers) - 1
        for take in self._takers:
            take(reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the first command."""
        return self._like.command(self._number)


class KeyReads:
    """The reads of keys that are about to be written, as far as this turn has not sent them."""

    def __init__(self, state: State, reads: Reads) -> None:
        self._state = state
        self._reads = reads
        self._turn = 0
        self._opened: dict[tuple[bytes, int], _JointRead] = {}  # by storage key and R

    def start(self, plan: Plan, storage_key: bytes, sink: Sink, number: int, take: Take) -> None:
        """Reads a key with the R of `sink`, whose command `number` wants it, and gives the answer to `take`."""
        turn = self._state.statistics.turns
        if turn != self._turn:
            self._turn = turn
            self._opened.clear()
        quorum = sink.read_quorum
        joint = self._opened.get((storage_key, quorum))
        if joint is None or joint.group is None or joint.group is not plan.reading.get(quorum):
            joint = _JointRead(self._state, sink, number)
            joint.add(take)
            self._reads.start(plan, storage_key, _raw, joint, 0)  # which raises CommandError if nothing can be read
            joint.group = plan.reading.get(quorum)
            self._opened[storage_key, quorum] = joint
        else:
            joint.add(take)


def _raw(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
    return record or b""
