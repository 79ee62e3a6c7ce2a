"""Quorum reads of keys that commands are about to write: one for all commands of a turn that write the same key.

Theory. Fifty clients that push to one queue each need a quorum read of it first. Reads of one turn that ask the same owners
are one group anyway (reads.py), and see the same record. So they are one read, whose answer goes to all commands in the
order in which they came. That spares the owners 49 comparisons. It matters most for a large record: a group of many of
them is divided, because their answers might not fit into one message.

A command joins a read until its group is sent. What has begun later needs a read of its own, as it must see all that was
acknowledged before it began. Most reads stay alone. So the first one is a read like any other, and gives its place to a
joint read when a second one comes.
"""

from __future__ import annotations

from protocol.resp import Reply
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.requests.groups import Waiter
from server.core.requests.reads import FinishRead, Reads


class _JointRead(Sink):
    """The sink of a read for several commands. In flight, each of them counts."""

    def __init__(self, state: State, reads: Reads, first: Waiter) -> None:
        super().__init__(first[1])
        self._state = state
        self._reads = reads
        self._first = first
        self._waiters = [first]

    def add(self, waiter: Waiter) -> None:
        """The waiter gets the answer, too."""
        self._state.in_flight += 1
        self._waiters.append(waiter)

    def finish(self, record: bytes | None) -> None:
        """The record, to each of them."""
        for waiter in self._detach_waiters():
            self._reads.answer(waiter, record, b"")

    def answer(self, number: int, reply: Reply) -> None:
        """An error, to each of them."""
        for _, sink, its_number in self._detach_waiters():
            sink.answer(its_number, reply)

    def _detach_waiters(self) -> list[Waiter]:
        waiters, self._waiters = self._waiters, []
        self._state.in_flight -= len(waiters) - 1
        return waiters

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the first command."""
        _, sink, its_number = self._first
        return sink.command(its_number)


def start_shared(
    state: State, reads: Reads, plan: Plan, key: bytes, finish: FinishRead, sink: Sink, number: int
) -> None:
    """Reads storage key `key` as `Reads.start` does, together with those of this turn that read it so with the same R."""
    group = reads.open(plan, sink.read_quorum)
    waiter: Waiter = (finish, sink, number)
    place = group.shared.get(key)
    if place is None:
        group.shared[key] = len(group.keys)
        group.keys.append(key)
        group.waiters.append(waiter)
        return
    first = group.waiters[place]
    joint = first[1]
    if not isinstance(joint, _JointRead):
        joint = _JointRead(state, reads, first)
        group.waiters[place] = (_finish_joint, joint, 0)
    joint.add(waiter)


def _finish_joint(record: bytes | None, sink: Sink, now_ms: int) -> None:
    assert isinstance(sink, _JointRead)
    sink.finish(record)
