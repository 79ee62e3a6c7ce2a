"""Atomic runs: several commands on keys of one slot, run by their coordinator as if nothing else happened meanwhile.

Theory. A transaction or a script on keys of one slot is an *atomic run*. All keys of a slot have one coordinator. It reads
them with one quorum read, runs the commands on a snapshot (snapshot.py), and stores what they have written: one batch here
and, by one message, on every replica. It answers once W replicas have the batch.

    what others see                             why
    all or nothing of it, at this node          the batch is stored within one turn, and reads see stored records only
    all or nothing of it, on each replica       one message is one batch there
    a command that reads a key and writes it    it waits: the run holds its keys until it ends (base/holds.py)
    runs before it or after it
    a plain write (SET) beside it               the write does not wait. If it changes a key before the run has ended, the
                                                run begins anew, with what is stored then

Nearly all runs take one turn: they begin with the answer of the last replica and end with that turn, so nothing can come
between. A run with much to do, or one that waits for a thread, takes several turns. It is refused after ATTEMPTS_MAX
attempts, and nothing was written. `body` runs once for each attempt, so it must not have effects of its
own.

What it is not: repairs (hints, read repair, anti-entropy) bring records to replicas one by one. So a replica that has
missed the batch may have a part of it for a while. And two coordinators, while nodes disagree about who is alive, may run
two runs on one key; what both have written is merged.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, Final

from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply, damaged_here, node_stands_still
from server.core.base.quorum import Tally
from server.core.base.sinks import Sink
from server.core.commands.slices import in_slices
from server.core.commands.steps import is_damaged
from server.core.commands.transactions.snapshot import (
    KeysMissing,
    Records,
    Snapshot,
    encoded,
)
from server.core.commands.transactions.unrelayed import NOT_HERE
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

ATTEMPTS_MAX: Final = 5  # of a run that others overtake
ROUNDS_MAX: Final = 256  # in which a body finds one more key that it needs: each reads all of them again
# Runs the commands on the snapshot and returns the reply. It may yield steps: then the keys are held until they are done.
Body = Callable[[Snapshot], Generator[Step, Any, Reply]]
OVERTAKEN: Final = (
    f"BUSY the keys were written by other clients while this ran, {ATTEMPTS_MAX} times: nothing was written. Try it again, "
    "with fewer commands at once"
)
_TOO_MANY_ROUNDS: Final = (
    f"ERR this reaches keys that it has not declared, one by one, and more than {ROUNDS_MAX}: nothing was written. "
    "Declare them"
)
TOO_MANY_KEYS: Final = "ERR this needs more than transaction_keys_max=%d keys at once: nothing was written"
CROSSSLOT: Final = "CROSSSLOT Keys in request don't hash to the same slot"


def run_atomically(
    services: Services, sink: Sink, number: int, keys: list[bytes], body: Body, call: list[bytes] | None = None
) -> Steps:
    """Runs `body` on a snapshot of `keys`, which are of one slot. This node coordinates them: the caller has looked.
    If another node does by the time they are read, that node gets `call`, the command that begins the run.

    The steps of a command: run them by `services.run_steps`, or by `yield from` in steps of `sink` and `number`. Returns
    the reply of `body` if nothing was written. Else returns None, and `sink` gets that reply once W replicas have the
    batch. Errors: those of a read or a write without a quorum, TRYAGAIN if a command finds another coordinator,
    CROSSSLOT if a command reaches a key that other nodes coordinate; nothing was written then.

    If a command needs a key that is missing (KeysMissing), it is read as well, and `body` runs again, on a new snapshot. A
    body that adds keys to its snapshot (`Snapshot.add`) holds them, too; they are released with the others.
    """
    state, needs = services.state, _Needs(keys)
    while True:
        if len(needs.keys) > state.config.transaction_keys_max:
            raise CommandError(TOO_MANY_KEYS % state.config.transaction_keys_max)
        read = yield read_together(services, list(needs.keys))
        if _has_moved(services, sink, number, list(needs.keys), call):
            return None
        snapshot = Snapshot(services, sink, read)
        snapshot.reach([key for key in needs.keys if key not in keys])
        for storage_key in read:
            state.holds.hold(storage_key)
        try:
            reply = yield from body(snapshot)
            yield from in_slices(services, snapshot.settle())
            if not snapshot.is_overtaken():
                return _store(services, sink, number, keys[0], snapshot, reply)
            needs.note_overtaken()
        except KeysMissing as missing:
            needs.add_keys(missing.keys)
        finally:
            snapshot.end()
            for storage_key in snapshot.storage_keys():
                state.holds.release(storage_key)


class _Needs:
    """What an atomic run has turned out to need. Each method raises CommandError if that is too much."""

    def __init__(self, keys: list[bytes]) -> None:
        self.keys = dict.fromkeys(keys)  # and those that its call does not show
        self._rounds = self._attempts = 0

    def note_overtaken(self) -> None:
        """Another client has written one of the keys meanwhile."""
        self._attempts += 1
        if self._attempts == ATTEMPTS_MAX:
            raise CommandError(OVERTAKEN)

    def add_keys(self, keys: list[bytes]) -> None:
        """A command needs these keys, too."""
        self._rounds += 1
        if self._rounds > ROUNDS_MAX:
            raise CommandError(_TOO_MANY_ROUNDS)
        self.keys |= dict.fromkeys(keys)


def _has_moved(services: Services, sink: Sink, number: int, keys: list[bytes], call: list[bytes] | None) -> bool:
    """Whether another node coordinates the keys by now; it gets `call`. Raises CommandError without a call, or if the
    owners of the keys are not the same."""
    route = services.route(keys[0])
    coordinator = route.coordinator_for(sink.relayed)
    if coordinator is not None:
        if call is None:
            raise CommandError(NOT_HERE)
        services.relays.forward(sink, number, call, coordinator)
    elif any(services.route(key).plan is not route.plan for key in keys):
        raise CommandError(CROSSSLOT)
    return coordinator is not None


def _store(services: Services, sink: Sink, number: int, key: bytes, snapshot: Snapshot, reply: Reply) -> Reply | None:
    """Stores what the commands have written. Returns the reply if that is nothing."""
    written = snapshot.written()
    if not written:
        return reply
    told = encoded(reply)

    def finish(tally: Tally, sink: Sink) -> bytes:
        return told

    group = services.writes.group_for(services.route(key, snapshot.only_deletes).plan, sink)
    services.writes.add_batch(group, written, finish, sink, number)
    if services.state.noted is not None:
        services.state.noted += snapshot.notes
    for storage_key, record, _ in written:
        _note_candidate(services, storage_key, record)
    return None


def _note_candidate(services: Services, storage_key: bytes, record: bytes) -> None:
    """Tells the collection of a record with something to forget."""
    if versions.expiry_class(record) != versions.PERSISTENT:
        services.collection.add_candidate(storage_key, versions.last_expiry(record))
    elif versions.clock_entries(record) > services.state.config.clock_entries_max:
        services.collection.add_candidate(storage_key, 0)


class _SlotReads(Sink):
    """The sink of the reads of several keys."""

    def __init__(self, procedure: Procedure, services: Services, keys: list[bytes]) -> None:
        super().__init__(procedure)
        self.counts_lookups = False  # the commands do, which then use what was read
        self._procedure = procedure
        self._services = services
        self._keys = {storage_key_of(key): key for key in keys}
        self._places = list(self._keys)
        self._records: Records = {}
        self._missing = 0
        self._first_ms = self._begun_ms = services.state.now_ms
        self._error: ErrorReply | None = None

    def start(self) -> None:
        """Reads the keys, once no command holds one of them, and once those that are damaged here were mended."""
        services, state = self._services, self._services.state
        for storage_key in self._places:
            if state.holds.is_held(storage_key):
                self._wait(storage_key)
                return
            if is_damaged(services, storage_key, self.start, self._procedure.resume):
                return
        self._records, self._error, self._missing = {}, None, len(self._places)
        self._begun_ms = state.now_ms
        for place, (storage_key, key) in enumerate(self._keys.items()):
            services.reads.start(services.route(key).read_plan, storage_key, _found, self, place)

    def _wait(self, held: bytes) -> None:
        """Begins again once this key is released, unless its holder takes too long."""
        holds = self._services.state.holds
        refusal = holds.refusal(held)
        if refusal is not None:
            self._procedure.resume(refusal)
        else:
            holds.wait(held, self.start)

    def answer(self, number: int, reply: Reply) -> None:
        """The record of a key that a quorum holds, or an error."""
        if isinstance(reply, ErrorReply):
            self._error = reply
        else:
            self._records[self._places[number]] = encoded(reply) or None
        self._missing -= 1
        if not self._missing:
            self._end()

    def _end(self) -> None:
        state = self._services.state
        held = next((key for key in self._places if state.holds.is_held(key)), None)
        if self._error is not None:
            self._procedure.resume(self._error)
        elif state.pauses.is_outdated(self._begun_ms):
            if state.now_ms - self._first_ms > state.config.request_timeout_ms:
                self._procedure.resume(node_stands_still(state.member.name, state.config.request_timeout_ms))
            else:
                self.start()
        elif held is not None:  # what was read may be older than what its holder writes
            self._wait(held)
        else:
            try:
                found = {key: versions.merge(state.records.get(key), self._records[key]) for key in self._places}
            except DamagedRecord as error:
                self._procedure.resume(damaged_here(state.member.name, error))
                return
            self._procedure.resume(found)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that the procedure runs for."""
        return self._procedure.command(number)


def _found(record: bytes | None, sink: Sink, now_ms: int) -> bytes:
    return record or b""


def read_together(services: Services, keys: list[bytes]) -> Step:
    """A step whose result has a record, or None, for the storage key of each of `keys`: the join of what a quorum holds and
    what this node holds by then. They are read by one message to each owner, once nobody holds one of them."""
    return lambda procedure: _SlotReads(procedure, services, keys).start()
