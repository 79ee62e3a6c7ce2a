"""Drafts that several commands of one turn share: their changes of one key become one record.

Theory. Many clients push to one queue, or one client pipelines changes of one hash. To make the record of each change
costs a copy of the whole key, 1 ms for 100,000 items, and all but the last one are thrown away (`Writes.amend`). So the
changes of small commands go into one draft, each command seeing those before it, and the record is made once: when somebody
asks for it, or at the end of the turn (records/pending.py). For the other owners that is the same as before, one record and
one acknowledgement for all; now it has one dot, too, as that of a command that changes several fields.

A command shares a draft that is there

    if the draft is made of all that the quorum has answered to the command,
    and for a client with the same W,
    and there is room in the record for what the command may add to it,
    and no keyspace events are wanted: each depends on the record before and after its command.

(One of another type is refused.) Else the record is made first. So it is as soon as the draft has no field left (the next
command begins a new key), or very many changes.

If the record cannot be written (too few owners, no room), all commands that share the draft get the error, as nothing of
them was written. A command that fails has changed nothing. If one raises an exception that nobody expects, the draft may
have a part of its changes: then nothing of the draft is written, and the commands before it get the error as well.

Measured (sources, one node, 50 clients that push to or pop from a list of 100,000 items in one turn): 7 ms instead of 260.
With three nodes a push costs 650 us of CPU in all, instead of 8,500 (50 clients), and 230 where each client pipelines 16.
"""

from __future__ import annotations

from typing import Final

from protocol.resp import OK, Reply
from protocol.slots import key_slot
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.commands.draft_writes import encoded, record_of, write_record
from server.core.records.draft import Draft
from server.core.records.entries import clock_of, covers
from server.core.records.kinds import LIST
from server.core.records.numbers import DELTA_BYTES_MAX
from server.core.records.pending import Pending
from server.core.records.records import storage_key_in
from server.core.records.slicing import SLICE_CHANGES, run_through
from server.core.services.services import Services

SHARED_ARGS_MAX: Final = 64  # of a command that shares a draft: it runs in one slice
_FIELD_BYTES: Final = 64  # what a field takes in a record besides field and payload, at most
_SUMS: Final = (b"INCRBYFLOAT", b"HINCRBYFLOAT", b"ZINCRBY")
_Waiter = tuple[Sink, int, bytes]  # a command, and its reply once the record is written


def if_few(args: list[bytes]) -> bool:
    """A command that changes one field for each argument, at most, may share a draft if these are few."""
    return len(args) <= SHARED_ARGS_MAX


def if_one(args: list[bytes]) -> bool:
    """A command with the key as its only argument, such as LPOP without a count, may share a draft."""
    return len(args) == 2


class SharedDraft(Pending):
    """One key's draft, and the commands that have changed it."""

    def __init__(self, services: Services, key: bytes, storage_key: bytes, draft: Draft, sink: Sink) -> None:
        super().__init__(services.state.records.get(storage_key))
        self.draft = draft
        self._services = services
        self._key = key
        self._storage_key = storage_key
        self._write_quorum = sink.write_quorum
        self._deletes = True
        self._waiters: list[_Waiter] = []
        self._size_max = len(draft.base or b"")  # that the record has at most

    def includes(self, record: bytes | None) -> bool:
        """Whether the changes are made to all that `record`, what a quorum holds, has."""
        base = self.draft.base
        if record is None or record is base:
            return True
        if base is None or record[:8] == base[:8]:
            return base is not None
        present, other = clock_of(base), clock_of(record)
        return covers(present, other) and not covers(other, present)

    def may_share(self, sink: Sink, args: list[bytes]) -> bool:
        """Whether a command may share the draft that has changes already."""
        config = self._services.state.config
        return (
            sink.write_quorum == self._write_quorum
            and self._size_max + added_bytes_max(args) <= config.record_bytes_max
        )

    def add(self, sink: Sink, number: int, reply: Reply, args: list[bytes], deletes: bool) -> None:
        """A command has changed the draft, and is answered when W replicas have the record."""
        pending = self._services.state.records.pending
        if not self._waiters:
            pending.add(self._storage_key, self)
        self._waiters.append((sink, number, encoded(reply)))
        self._deletes = self._deletes and deletes
        self._size_max += added_bytes_max(args)
        if is_full(self.draft):
            pending.make([self._storage_key])

    def make(self) -> None:
        """Makes the record and sends it. All commands are answered by that."""
        services, state = self._services, self._services.state
        sink, number, reply = self._waiters[0]
        changes = state.records.changes
        try:
            record = run_through(record_of(services, self._key, self.draft, self._deletes))
            if len(self._waiters) > 1:
                sink, number, reply = _SharedWrite(state, self._waiters), 0, OK
            write_record(services, sink, number, self._key, record, self.old, reply, self._deletes)
            state.in_flight += len(self._waiters) - 1  # not before: nothing answers a write that was refused
        except CommandError as error:
            self._refuse(error.reply)
        except Exception as fault:  # noqa: BLE001
            sink, number, _ = self._waiters[0]
            self._refuse(state.unexpected.contain(fault, changes, "a shared draft", sink=sink, number=number))

    def abandon(self, error: Exception) -> None:
        """A command has raised an exception that nobody expects: those before it are answered with it, and all changes of
        the draft are dropped."""
        state = self._services.state
        if self._waiters:
            sink, number, _ = self._waiters[0]
            reply = state.unexpected.contain(error, state.records.changes, "a shared draft", sink=sink, number=number)
            state.records.pending.drop(self._storage_key)
            self._refuse(reply)

    def _refuse(self, reply: Reply) -> None:
        for sink, number, _ in self._waiters:
            sink.answer(number, reply)


class _SharedWrite(Sink):
    """The sink of a write that several commands have made together. In flight, each of them counts: `SharedDraft.make`
    adds them."""

    def __init__(self, state: State, waiters: list[_Waiter]) -> None:
        super().__init__(waiters[0][0])
        if any(sink.origin is not self.origin for sink, _, _ in waiters):
            self.origin = None  # nobody has made the change alone
        self._state = state
        self._waiters = waiters

    def answer(self, number: int, reply: Reply) -> None:
        """The write was acknowledged, or has failed."""
        self._state.in_flight -= len(self._waiters) - 1
        for sink, each, own in self._waiters:
            sink.answer(each, own if reply == OK else reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the first command."""
        sink, first, _ = self._waiters[0]
        return sink.command(first)


def added_bytes_max(args: list[bytes]) -> int:
    """What a command with these arguments may add to a record, in bytes. A sum may have many more digits than they have."""
    name = args[0].upper()
    is_sum = name in _SUMS or (name == b"ZADD" and any(word.upper() == b"INCR" for word in args[2:-2]))
    return sum(map(len, args)) + _FIELD_BYTES * len(args) + (DELTA_BYTES_MAX if is_sum else 0)


def is_full(draft: Draft) -> bool:
    """Whether no other command may change a draft that has changes: its record is to be made."""
    return (
        draft.is_gone() or draft.change_count() > SLICE_CHANGES or (draft.key_type == LIST and draft.shares_positions())
    )


def shared_draft(services: Services, sink: Sink, args: list[bytes], key_type: int, record: bytes | None) -> SharedDraft:
    """Returns the draft that commands of this turn share of the key, or a new one.

    `record` is what `read_here` has answered: if there is a draft, nothing.
    """
    key, state = args[1], services.state
    storage_key = storage_key_in(key_slot(key), key)
    pending = state.records.pending
    shared = pending.by_key.get(storage_key)
    if isinstance(shared, SharedDraft):
        if shared.may_share(sink, args):
            return shared
        pending.make([storage_key])
        record = state.records.get(storage_key)
    return SharedDraft(services, key, storage_key, Draft(record, state.time_ms, key_type), sink)
