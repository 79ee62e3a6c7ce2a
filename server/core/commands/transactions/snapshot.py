"""A snapshot of some keys: commands run on it, and what they write stays in it until the whole is stored as one batch.

Theory. A transaction, or a script, is a row of commands, each of which sees what those before it have written. Nobody
else may see that before all of them have run, and perhaps nobody ever will: the run may begin anew, or end with an error.
So its commands run on a snapshot. Their handlers are those of all clients. They get services of which four are others:

    reads       of the snapshot's keys are answered at once: `Reads.quorum_records`, as in a chain (chains.py). What the
                handler gets from `Records.get` is the snapshot's record, too, for as long as it runs (`RecordCache.show`)
    writes      go into the snapshot and not into a group of writes. Changes of a key stay a draft there as long as commands
                can read and change that (kept_drafts.py); `settle` makes the records of drafts at the end
    timers      a command of a script within a turn that would pause between two slices of its work goes on at once. After
                SCRIPT_SLICES_MAX of them the script ends (TooLong), as nobody else is served meanwhile. One of a
                transaction or of a script in a worker pauses (`run_in_slices`), and then reads what is the snapshot's
    relays      there are none: the run ends if a command is to go to another node, as the coordinator has changed

So a command on a snapshot answers before `run` returns, or `run_in_slices` has ended. It costs what it costs its
coordinator anyway, without the messages that it would wait for. One that answers an error has written nothing: what it has
put into the snapshot before is undone.
A command may reach keys that its arguments do not show (SORT … BY), or a script may. If the snapshot does not have such a
key, `run` raises `KeysMissing`, and the atomic run reads it and begins anew (atomic_run.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Final

from mypy_extensions import i16

from protocol.resp import LargeReply, Reply
from server.core.base.errors import (
    CommandError,
    ErrorReply,
    NoLayout,
    damaged_here,
    refused_command,
)
from server.core.base.holds import Waiters
from server.core.base.quorum import Tally
from server.core.base.routing import Plan
from server.core.base.sinks import Sink
from server.core.base.state import Note, State
from server.core.commands.registry import find_command, unfit
from server.core.commands.spec import IMMEDIATE, CommandSpec
from server.core.commands.transactions.kept_drafts import KeptDrafts
from server.core.commands.transactions.unrelayed import NOT_HERE, NoRelays
from server.core.records.common_case import Dot, Overwritten
from server.core.records.entries import has_entries
from server.core.records.records import storage_key_of
from server.core.records.slicing import Result, Slices, run_through
from server.core.records.versions import DamagedRecord
from server.core.requests.write_groups import WriteGroup, Written
from server.core.requests.writes import FinishWrite, Writes
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step
from server.core.work.timers import Timers

Records = dict[bytes, bytes | None]  # by storage key
_Former = tuple[bytes, bytes | None, bool]  # a storage key, its record before a put, whether that was written, too
_SLICE_BYTES: Final = 512 << 10  # of a record of entries that a command goes through in one slice, about
SCRIPT_SLICES_MAX: Final = 3  # of all commands of a script within a turn, beyond the first one of each: some 12 ms
_NO_ANSWER = ErrorReply.of("ERR this command does not run in a transaction or a script")


class KeysMissing(Exception):
    """A command on a snapshot needs keys that the snapshot does not have. `has_begun`: it may have done a part of its work,
    so that nothing of the snapshot may be stored."""

    def __init__(self, keys: list[bytes], has_begun: bool) -> None:
        super().__init__(f"{len(keys)} keys")
        self.keys = keys
        self.has_begun = has_begun


class TooLong(Exception):
    """The commands of a script within a turn have gone through too much."""


class _Answer(Sink):
    """The sink of a command on a snapshot. It counts as relayed: it runs here or nowhere."""

    def __init__(self, like: Sink, args: list[bytes]) -> None:
        super().__init__(like)
        self.relayed = self.denies_blocking = True
        self.reply: Reply | None = None
        self._args = args

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command."""
        return self._args

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of the command."""
        self.reply = reply


class _Writes(Writes):
    """Writes of commands on a snapshot."""

    def __init__(self, state: State, snapshot: Snapshot) -> None:
        super().__init__(state)
        self._snapshot = snapshot

    def group_for(self, plan: Plan, sink: Sink, quorum: int = 0) -> WriteGroup:
        """A group that is never sent. Whether its owners can be reached is looked at when the snapshot is stored."""
        state = self._state
        if not plan.replicas:
            raise NoLayout(state.no_layout)
        return WriteGroup(0, plan, plan.tally(quorum or sink.write_quorum or state.write_quorum), 0)

    def add(
        self,
        group: WriteGroup,
        key: bytes,
        record: bytes,
        old: bytes | None,
        finish: FinishWrite,
        sink: Sink,
        number: int,
    ) -> None:
        """The record of storage key `key` is `record` from now on, and the command is answered at once, as if exactly W
        replicas had it."""
        plan = group.plan
        self._snapshot.put(key, record, plan.deletes)
        if self._state.noted is not None:
            self._snapshot.notes.append((key, record, old, sink.command(number)))
        tally = Tally(plan.replicas, group.tally.wanted)
        for node in (self._state.id, *plan.peers)[: tally.wanted]:
            tally.ack(node)
        sink.answer(number, b"+OK\r\n" if finish is None else finish(tally, sink))

    def overwrite(
        self, group: WriteGroup, slot: i16, key: bytes, dot: Dot, value: bytes, sink: Sink, number: int
    ) -> Overwritten | None:
        """Never: that would write past the snapshot."""
        return None

    def amend(
        self, group: WriteGroup, key: bytes, record: bytes, old: bytes, finish: FinishWrite, sink: Sink, number: int
    ) -> bool:
        """Nothing is amended: each write replaces the one before it in the snapshot."""
        return False


class _Timers(Timers):
    """Pauses that are over at once, or when the snapshot goes on."""

    def __init__(self) -> None:
        super().__init__()
        self.may_pause = False
        self.slices_left = SCRIPT_SLICES_MAX
        self.paused: deque[Procedure] = deque()

    def pause_for_turn(self, due_ms: int) -> Step:
        """A step that waits for the snapshot, if that may pause."""

        def start(procedure: Procedure) -> None:
            if self.may_pause:
                self.paused.append(procedure)
                return
            self.slices_left -= 1
            procedure.resume(None if self.slices_left >= 0 else _NO_ANSWER)

        return start


class Snapshot:
    """Some keys as an atomic run sees and changes them. `like` is the sink of the run: commands have its settings.

    `read` are the records that a quorum and this node hold; `held` those keys of them that the run holds (base/holds.py).
    """

    def __init__(self, services: Services, like: Sink, read: Records) -> None:
        state = services.state
        self._state = state
        self._like = like
        self._cache = state.records.cache
        self._quorum_records = services.reads.quorum_records
        self._reads = services.reads
        self._records: Records = dict(read)
        self._stored: Records = {key: state.records.get(key) for key in read}
        self._written: dict[bytes, None] = {}
        self._undo: list[_Former] = []  # of the puts of the command that runs
        self.notes: list[Note] = []  # the writes, while keyspace events are wanted (pubsub/notifications.py)
        self._reached: dict[bytes, None] = {}  # keys that no command shows: each command may read them
        self._missing: list[bytes] = []  # keys that a command needs and the snapshot does not have
        self._shown: list[bytes] = []  # the storage keys that the command which runs may see
        self._inner_holds: dict[bytes, Waiters] = {}  # its holds, while it pauses
        self._actor = state.actor
        self._fence, self._begun_ms = state.fence, state.now_ms
        self.only_deletes = True
        self._only_deleted = True  # the same before the command that runs
        self.work_bytes = 0  # of records that the commands so far have copied, or may have gone through
        self._relays = NoRelays(state)
        self._timers = _Timers()
        writes = _Writes(state, self)
        self._services = replace(services, writes=writes, timers=self._timers, relays=self._relays)
        self._kept = KeptDrafts(self._services, lambda sink: isinstance(sink, _Answer), self._take_made)
        writes.draft_table = self._kept

    def add(self, read: Records) -> None:
        """Adds keys, with what a quorum and this node hold. The commands so far have not needed them."""
        self._records |= read
        for key in read:
            self._stored[key] = self._state.records.get(key)

    def storage_keys(self) -> list[bytes]:
        """The storage keys of the snapshot."""
        return list(self._records)

    def reach(self, keys: list[bytes]) -> None:
        """Lets each command read these keys of the snapshot, although its arguments do not show them."""
        self._reached |= dict.fromkeys([storage_key_of(key) for key in keys])

    def run(self, args: list[bytes]) -> Reply:
        """Runs a command and returns its reply, which may be an error.

        Raises KeysMissing, TooLong, or CommandError if another node coordinates the keys by now. Then nothing of the
        snapshot may be stored. A command without keys runs if it is about nothing but its arguments.
        """
        return run_through(self._run(args, False))

    def run_in_slices(self, args: list[bytes]) -> Slices[Reply]:
        """As `run`, in slices."""
        return self._run(args, True)

    def _run(self, args: list[bytes], in_slices: bool) -> Slices[Reply]:
        spec = find_command(args)
        if spec is None or not spec.accepts(len(args)):
            return unfit(spec, args)
        state = self._state
        if state.quarantine.commands and state.quarantine.refuses_command(args, state.wall_ms):
            return refused_command(state.member.name, "unwritten")
        if not _fits_snapshot(spec):
            return _NO_ANSWER
        keys = {storage_key_of(key): key for key in spec.keys_of(args)}
        missing = [key for storage_key, key in keys.items() if storage_key not in self._records]
        if missing:
            raise KeysMissing(missing, False)
        shown = [*dict.fromkeys([*keys, *self._reached])] if self._reached else list(keys)
        timers, sink = self._timers, _Answer(self._like, args)
        timers.may_pause, self._shown = in_slices, shown
        self._only_deleted, notes = self.only_deletes, len(self.notes)
        self._undo.clear()
        self._kept.begin_command()
        reply = self._on_shown(shown, lambda: self._call(spec, sink, args))
        while reply is None and timers.paused:
            yield
            self._on_shown(shown, self._next_paused(None))
            reply = sink.reply
        assert not self._inner_holds, "a command that has ended holds its key"
        if timers.slices_left < 0:
            raise TooLong
        self._kept.check()
        if isinstance(reply, bytes) and reply[:1] == b"-":
            self._kept.drop_fresh()
            self._undo_puts()
            self.only_deletes = self._only_deleted
            del self.notes[notes:]
        self.work_bytes += self._work_of(shown)
        return _NO_ANSWER if reply is None else reply

    def _next_paused(self, result: ErrorReply | None) -> Callable[[], None]:
        """Resumes what has paused first."""
        return partial(self._timers.paused.popleft().resume, result)

    def end(self) -> None:
        """Ends a command that still pauses, as the run has ended."""
        while self._timers.paused:
            self._while_shown(self._shown, self._next_paused(_NO_ANSWER))

    def _on_shown(self, shown: list[bytes], work: Callable[[], Result]) -> Result:
        """Does some work on the records of the snapshot under these storage keys, if nothing else is needed for it."""
        self._missing.clear()
        result = self._while_shown(shown, work)
        if self._missing:
            raise KeysMissing(self._missing, True)
        if self._relays.is_asked:
            raise CommandError(NOT_HERE)
        return result

    def _while_shown(self, shown: list[bytes], work: Callable[[], Result]) -> Result:
        """Does some work while the handlers of commands see these records."""
        holds, reads = self._state.holds, self._reads
        waiters = [(key, holds.exchange(key, self._inner_holds.pop(key, None))) for key in shown]
        before = [(key, self._cache.show(key, self._records[key])) for key in shown]
        for key in shown:
            self._quorum_records[key] = self._records[key]
        if self._kept.by_key:
            self._kept.show(shown)
        reads.missing = self._missing
        try:
            return work()
        finally:
            reads.missing = None
            self._kept.hide(shown)
            for key, was in before:
                self._cache.hide(key, was)
                del self._quorum_records[key]
            for key, waiting in waiters:
                inner = holds.exchange(key, waiting)
                if inner is not None:
                    self._inner_holds[key] = inner

    def _call(self, spec: CommandSpec, sink: _Answer, args: list[bytes]) -> Reply | None:
        state = self._state
        changes = state.records.changes
        try:
            reply: Reply | None = spec.handler(self._services, sink, 0, args)
        except CommandError as error:
            return error.reply
        except DamagedRecord as damage:
            return damaged_here(state.member.name, damage)
        except Exception as fault:  # noqa: BLE001
            return state.unexpected.contain(fault, changes, spec.name, "unwritten", sink, 0)
        return sink.reply if reply is None else reply

    def _undo_puts(self) -> None:
        for storage_key, record, was_written in reversed(self._undo):
            self._records[storage_key] = record
            if not was_written:
                del self._written[storage_key]

    def put(self, storage_key: bytes, record: bytes, deletes: bool) -> None:
        """A command that runs has written a record. `deletes`: there is room for it where there is none for others."""
        if storage_key not in self._quorum_records:
            raise CommandError("ERR a command wrote a key that its arguments do not show")
        self._undo.append((storage_key, self._records[storage_key], storage_key in self._written))
        self._set(storage_key, record)
        self.only_deletes = self.only_deletes and deletes

    def _take_made(self, storage_key: bytes, record: bytes, deletes: bool, is_fresh: bool) -> None:
        """The record of a kept draft was made. `is_fresh`: the command that runs has begun that draft."""
        if is_fresh:
            self._undo.append((storage_key, self._records[storage_key], storage_key in self._written))
        else:
            self._only_deleted = self._only_deleted and deletes
        self._set(storage_key, record)
        self.only_deletes = self.only_deletes and deletes

    def _set(self, storage_key: bytes, record: bytes) -> None:
        self._records[storage_key] = record
        if storage_key in self._quorum_records:  # a command sees it
            self._quorum_records[storage_key] = record
            self._cache.show(storage_key, record)
        self._written[storage_key] = None
        self.work_bytes += len(record)

    def _work_of(self, shown: list[bytes]) -> int:
        """How many bytes a command may have gone through at once. What reads a large record of entries does it in slices;
        a kept draft is asked for single fields."""
        found = 0
        for key in shown:
            record = self._records[key]
            if record is not None and key not in self._kept.by_key:
                found += min(len(record), _SLICE_BYTES) if has_entries(record) else len(record)
        return found

    def settle(self) -> Slices[None]:
        """Makes the records of what commands have left as drafts, at the end. Raises CommandError if one must not be
        written: then nothing of the snapshot may be stored."""
        self._kept.check()
        return self._kept.settle()

    def record(self, key: bytes) -> bytes | None:
        """The record of a key that the snapshot has, as the commands so far have left it."""
        return self._records[storage_key_of(key)]

    def is_overtaken(self) -> bool:
        """Whether something was stored under one of the keys since the snapshot was made, so that it must not be stored:
        its records are from then. Or this node has a new actor, has agreed to forget something, or has stood still."""
        state = self._state
        return state.pauses.is_outdated(self._begun_ms) or (
            state.actor != self._actor
            or state.fence != self._fence
            or any(state.records.get(key) != record for key, record in self._stored.items())
        )

    def written(self) -> list[Written]:
        """What the commands have written, each key once; `is_overtaken` is false."""
        records = self._records
        return [
            Written(key, record, self._stored[key]) for key in self._written if (record := records[key]) is not None
        ]


def _fits_snapshot(spec: CommandSpec) -> bool:
    """Whether a command is about keys, or about nothing but its arguments; and not about its connection."""
    flags = spec.flags.split()
    if "noscript" in flags and "blocking" not in flags:
        return False
    return spec.has_keys() or spec.overlap == IMMEDIATE


def encoded(reply: Reply) -> bytes:
    """A reply as bytes: what it shows of the snapshot's records may not be there any more when it is sent."""
    return reply.joined() if isinstance(reply, LargeReply) else reply
