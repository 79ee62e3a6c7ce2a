"""Quorum reads of keys that commands are about to write. The commands of a turn that write the same key share one read.

Theory. Suppose that fifty clients push to one list. Each command needs a quorum read of the list first. Reads of one turn
that ask the same owners are in one group anyway (reads.py), and all of them see the same record. So one read is enough.
Its answer goes to all fifty commands, in the order in which they came. The owners make one comparison and not fifty. The
saving is largest for large records: a group that read one of them fifty times would be divided, because its answers might
not fit into one message.

A command can join a read until the read's group is sent. A command that begins later needs a new read, because it must see
every write that was acknowledged before it began. Most reads are used by one command only. So the first command starts a
read like any other. When a second command joins, a `_JointRead` replaces it.
"""

from __future__ import annotations

from protocol.resp import Reply
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.requests.groups import Waiter
from server.core.requests.reads import FinishRead, Reads


class _JointRead(Sink):
    """The sink of a read for several commands. Each command counts as a request in flight."""

    def __init__(self, state: State, reads: Reads, first: Waiter) -> None:
        super().__init__(first[1])
        self._state = state
        self._reads = reads
        self._first = first
        self._waiters = [first]

    def add(self, waiter: Waiter) -> None:
        """Adds a command that gets the answer, too."""
        self._state.in_flight += 1
        self._waiters.append(waiter)

    def finish(self, record: bytes | None) -> None:
        """Gives the record to each command."""
        for waiter in self._detach_waiters():
            self._reads.answer(waiter, record, b"")

    def answer(self, number: int, reply: Reply) -> None:
        """Gives each command an error."""
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
    """Reads storage key `key` as `Reads.start` does. If two calls in one turn have the same key and the same R, and no
    stand-in is asked, they share one read."""
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
