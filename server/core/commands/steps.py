"""What commands do with a key at its coordinator: read it with a quorum, and write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.resp import Reply
from server.core.base.errors import ErrorReply, damaged_here
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord, ForeignDot
from server.core.requests.writes import FinishWrite
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

NOT_READ: Final = "ERR the key was not read"  # no client sees it: the step reads the key and begins anew


def is_damaged(services: Services, storage_key: bytes, again: Callable[[], None], procedure: Procedure) -> bool:
    """Whether the record here is damaged. Then `again` is called once it was mended, or the procedure gets an error."""
    try:
        services.state.records.get(storage_key)
    except DamagedRecord as error:
        refusal = damaged_here(services.state.member.name, error)
        if not services.mending.park(storage_key, again, lambda: procedure.resume(refusal)):
            procedure.resume(refusal)
        return True
    return False


def read_here(services: Services, key: bytes, waits: bool = True, shares: bool = False) -> Step:
    """A step whose result is the key's record, or None: the join of what a quorum holds and what this node holds by then.

    A command that decides and writes in the same turn as it gets this result therefore sees every write that this
    coordinator has taken. A damaged record here is mended first. A command of a chain uses what the chain has read.
    While a command of several turns changes the key, the step waits for it, unless `waits` is False. If the command
    `shares` the changes that others of this turn make (records/pending.py), and these see all of that, the result is None.
    """
    return _Reading(services, key, waits, shares).start


class _Reading:
    """The read of a key for one command, see `read_here`."""

    def __init__(self, services: Services, key: bytes, waits: bool, shares: bool) -> None:
        self._services = services
        self._key = key
        self._storage_key = storage_key_of(key)
        self._waits = waits
        self._shares = shares

    def start(self, procedure: Procedure) -> None:
        """The step."""
        services, storage_key = self._services, self._storage_key
        quorum_records, records = services.reads.quorum_records, services.state.records
        if storage_key in quorum_records:
            procedure.resume(self._joined(quorum_records[storage_key]))
            return
        if services.reads.missing is not None:
            services.reads.missing.append(self._key)
            procedure.resume(ErrorReply.of(NOT_READ))
            return
        if self._is_held(procedure):
            return
        if storage_key not in records.pending.by_key and is_damaged(
            services, storage_key, lambda: self.start(procedure), procedure
        ):
            return
        plan = services.route(self._key).read_plan
        services.key_reads.start(plan, storage_key, procedure, 0, lambda reply: self._take(procedure, reply))

    def _is_held(self, procedure: Procedure) -> bool:
        """Whether a command holds the key, so that the read begins when that is over."""
        holds = self._services.state.holds
        if not self._waits or not holds.is_held(self._storage_key):
            return False
        holds.wait(self._storage_key, lambda: self.start(procedure))
        return True

    def _take(self, procedure: Procedure, reply: Reply) -> None:
        """What a quorum holds, or an error. If a command holds the key by now, what was read may be older than what that
        command writes: the read begins again after it."""
        if isinstance(reply, ErrorReply):
            procedure.resume(reply)
            return
        if self._is_held(procedure):
            return
        assert isinstance(reply, bytes), "a record is not in pieces"
        state = self._services.state
        changes = state.records.changes
        result: bytes | None
        try:
            result = self._joined(reply or None)
        except DamagedRecord as error:
            result = damaged_here(state.member.name, error)
        except Exception as error:  # noqa: BLE001
            result = state.unexpected.contain(error, changes, "the reply to a read", "unread", procedure, 0)
        procedure.resume(result)

    def _joined(self, record: bytes | None) -> bytes | None:
        records, storage_key = self._services.state.records, self._storage_key
        pending = records.pending.by_key
        if self._shares and storage_key in pending and pending[storage_key].includes(record):
            return None
        return versions.merge(records.get(storage_key), record)


def at_coordinator(
    steps: Callable[[Services, Sink, int, list[bytes]], Steps],
    check: Callable[[list[bytes]], object] = lambda args: None,
    deletes: Callable[[Services, list[bytes]], bool] = lambda services, args: False,
) -> Callable[[Services, Sink, int, list[bytes]], None]:
    """Returns the handler of a command whose steps run at the coordinator of the key in its first argument.

    `check` raises CommandError for arguments that are wrong wherever it runs. `deletes` tells whether it only removes: then
    it also runs where there is room for nothing else.
    """

    def handle(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
        check(args)
        coordinator = services.route(args[1], deletes(services, args)).coordinator_for(sink.relayed)
        if coordinator is not None:
            services.relays.forward(sink, number, args, coordinator)
        else:
            services.run_steps(steps(services, sink, number, args), sink, number)

    return handle


def supersede_anew(
    state: State, owned: bool, old: bytes | None, value: bytes, expires_at_ms: int = 0, kind: int = versions.VALUE
) -> bytes:
    """The record of a write under a new actor: `old` has dots of our actor that this node never issued."""
    state.renew_actor()
    return versions.supersede(old, state.actor_for(owned), state.clock.next(), value, expires_at_ms, kind)


def write_plain(
    services: Services,
    sink: Sink,
    number: int,
    key: bytes,
    value: bytes,
    expires_at_ms: int = 0,
    kind: int = versions.VALUE,
    finish: FinishWrite = None,
    seen: bytes | None = None,
) -> None:
    """Writes as Redis does: supersedes all that is stored here and all of `seen`. The sink gets the reply at W."""
    state = services.state
    route = services.route(key, kind == versions.TOMBSTONE)
    group = services.writes.group_for(route.plan, sink)
    storage_key = storage_key_of(key)
    old = state.records.get(storage_key)
    base = versions.merge(old, seen)
    try:
        record = versions.supersede(base, state.actor_for(route.owned), state.clock.next(), value, expires_at_ms, kind)
    except ForeignDot:
        record = supersede_anew(state, route.owned, base, value, expires_at_ms, kind)
    services.writes.add(group, storage_key, record, old, finish, sink, number)
    if kind == versions.TOMBSTONE or expires_at_ms:
        services.collection.add_candidate(storage_key, expires_at_ms)
