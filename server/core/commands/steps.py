"""What commands do with a key at its coordinator: read it with a quorum, and write it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply, damaged_here, node_stands_still, read_failed
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord, ForeignDot
from server.core.requests.key_reads import start_shared
from server.core.requests.writes import FinishWrite
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

NOT_READ: Final = "ERR the key was not read"  # no client sees it: the step reads the key and begins anew


def is_damaged(
    services: Services, storage_key: bytes, again: Callable[[], None], give_up: Callable[[ErrorReply], None]
) -> bool:
    """Whether the record here is damaged. Then `again` is called once it was mended, or else `give_up` with an error."""
    try:
        services.state.records.get(storage_key)
    except DamagedRecord as error:
        refusal = damaged_here(services.state.member.name, error)
        if not services.mending.park(storage_key, again, lambda: give_up(refusal)):
            give_up(refusal)
        return True
    return False


class KeyRead(Sink):
    """The read of a key by whoever writes it next. Its result is the key's record, or None: the join of what a quorum holds
    and what this node holds by then.

    So whoever decides and writes in `read_ended` sees every write that this coordinator has accepted. A damaged record here
    is mended first. While a command of several turns changes the key, the read waits for it.

    If this node has stood still during the read, another owner may have written the key since the quorum has answered. So
    the read begins again (base/pauses.py), until the time of a request is over.
    """

    def __init__(self, services: Services, key: bytes, like: Sink) -> None:
        super().__init__(like)
        self.services = services
        self.key = key
        self.storage_key = storage_key_of(key)
        self._first_ms = self._begun_ms = services.state.now_ms

    def read_ended(self, result: bytes | ErrorReply | None) -> None:
        """The result, or an error. Called once."""
        raise NotImplementedError

    def start(self) -> None:
        """Begins the read, at once or when nothing is in its way any more."""
        services, storage_key, state = self.services, self.storage_key, self.services.state
        self._begun_ms = state.now_ms
        if self.waits():
            return
        if storage_key not in state.records.pending.by_key and is_damaged(
            services, storage_key, self.start, self.read_ended
        ):
            return
        try:
            plan = services.route(self.key).read_plan
            start_shared(state, services.reads, plan, storage_key, _found, self, 0)
        except CommandError as error:
            self.read_ended(error.reply)

    def waits(self) -> bool:
        """Whether a command holds the key, so that the read begins when that is over; or is refused, if that takes long."""
        holds = self.services.state.holds
        if not holds.is_held(self.storage_key):
            return False
        refusal = holds.refusal(self.storage_key)
        if refusal is not None:
            self.read_ended(refusal)
        else:
            holds.wait(self.storage_key, self.start)
        return True

    def found(self, record: bytes | None) -> None:
        """What a quorum holds. If this node has stood still, that may be outdated, and the read begins again. If a command
        holds the key by now, that may be older than what that command writes: the read begins again after it."""
        state = self.services.state
        if state.pauses.is_outdated(self._begun_ms):
            if state.now_ms - self._first_ms > state.config.request_timeout_ms:
                self.read_ended(node_stands_still(state.member.name, state.config.request_timeout_ms))
            else:
                self.start()
            return
        if self.waits():
            return
        result: bytes | ErrorReply | None
        try:
            result = self.joined(record)
        except DamagedRecord as error:
            result = damaged_here(state.member.name, error)
        self.read_ended(result)

    def joined(self, record: bytes | None) -> bytes | None:
        """The join of what a quorum holds and what this node holds."""
        return versions.merge(self.services.state.records.get(self.storage_key), record)

    def answer(self, number: int, reply: Reply) -> None:
        """There is no quorum."""
        assert isinstance(reply, ErrorReply), "a record comes by `found`"
        self.read_ended(reply)


def _found(record: bytes | None, sink: Sink, now_ms: int) -> None:
    assert isinstance(sink, KeyRead)
    sink.found(record)


class KeyCommand(KeyRead):
    """A command that reads its key with a quorum, and then decides and writes in one step.

    It does what a procedure of these two steps would do (work/procedures.py), and costs a quarter of it: neither a
    generator, nor two more sinks. A pipeline of SET NX consists of such commands.
    """

    def __init__(self, services: Services, sink: Sink, number: int, key: bytes) -> None:
        super().__init__(services, key, sink)
        self._sink = sink
        self._number = number
        self._is_over = False

    def decide(self, record: bytes | None) -> Reply | None:
        """The second step, with the record of the key. Returns the reply; None: it follows, when W replicas have it."""
        raise NotImplementedError

    def begin(self) -> None:
        """The first step: the read. A command of a chain uses what the chain has read."""
        services, reads = self.services, self.services.reads
        unexpected, changes = services.state.unexpected, services.state.records.changes
        services.state.procedures += 1
        try:
            refusal = services.relays.renew_or_refuse(self._sink)
            if unexpected.planted:
                unexpected.pass_by("procedure command")
            if refusal is not None:
                self._end(refusal)
            elif self.storage_key in reads.quorum_records:
                self.found(reads.quorum_records[self.storage_key])
            elif reads.missing is not None:
                reads.missing.append(self.key)
                self._end(ErrorReply.of(NOT_READ))
            else:
                self.start()
        except Exception as error:
            if self._is_over:
                raise
            self._end(unexpected.contain(error, changes, "command", "unwritten", self._sink, self._number))

    def read_ended(self, result: bytes | ErrorReply | None) -> None:
        """The read has ended: decides."""
        unexpected, changes = self.services.state.unexpected, self.services.state.records.changes
        reply: Reply | None
        try:
            refusal = self.services.relays.renew_or_refuse(self._sink)
            if refusal is not None:
                reply = refusal
            elif isinstance(result, ErrorReply):
                reply = read_failed(result, self.command(0))
            else:
                reply = self.decide(result)
            if unexpected.planted:
                unexpected.pass_by("procedure command")
        except CommandError as error:
            reply = error.reply
        except DamagedRecord as damage:
            reply = ErrorReply.of(f"ERR {damage}")
        except Exception as fault:  # noqa: BLE001
            reply = unexpected.contain(fault, changes, "command", "unwritten", self._sink, self._number)
        self._end(reply)

    def write(self, value: bytes, expires_at_ms: int, seen: bytes | None, finish: FinishWrite = None) -> None:
        """Writes a value as the command's second step, in place of what it has `seen`."""
        key, kind = self.storage_key, versions.VALUE
        write_at(self.services, self._sink, self._number, key, value, expires_at_ms, kind, finish, seen)

    def _end(self, reply: Reply | None) -> None:
        self._is_over = True
        self.services.state.procedures -= 1
        if reply is not None:
            self._sink.answer(self._number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command."""
        return self._sink.command(self._number)


def read_here(services: Services, key: bytes, waits: bool = True, shares: bool = False) -> Step:
    """A step whose result is the key's record, see KeyRead. A command of a chain uses what the chain has read.

    If not `waits`, the step does not wait while a command of several turns changes the key. If the command `shares` the
    changes that others of this turn make (records/pending.py), and these see all of the record, the result is None.
    """
    return lambda procedure: _StepRead(services, key, procedure, waits, shares).begin()


class _StepRead(KeyRead):
    """The read of a key by a step, see `read_here`."""

    def __init__(self, services: Services, key: bytes, procedure: Procedure, waits: bool, shares: bool) -> None:
        super().__init__(services, key, procedure)
        self._procedure = procedure
        self._waits = waits
        self._shares = shares

    def begin(self) -> None:
        """The step."""
        reads = self.services.reads
        if self.storage_key in reads.quorum_records:
            self.read_ended(self.joined(reads.quorum_records[self.storage_key]))
        elif reads.missing is not None:
            reads.missing.append(self.key)
            self.read_ended(ErrorReply.of(NOT_READ))
        else:
            self.start()

    def waits(self) -> bool:
        """As of any read, unless the command does not wait."""
        return self._waits and super().waits()

    def read_ended(self, result: bytes | ErrorReply | None) -> None:
        """The result of the step."""
        self._procedure.resume(result)

    def joined(self, record: bytes | None) -> bytes | None:
        """As of any read, unless others have changes of this turn that see all of it."""
        if self._shares:
            pending = self.services.state.records.pending.by_key.get(self.storage_key)
            if pending is not None and pending.includes(record):
                return None
        return super().joined(record)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that the procedure runs for."""
        return self._procedure.command(0)


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
    write_at(services, sink, number, storage_key_of(key), value, expires_at_ms, kind, finish, seen)


def write_at(
    services: Services,
    sink: Sink,
    number: int,
    storage_key: bytes,
    value: bytes,
    expires_at_ms: int = 0,
    kind: int = versions.VALUE,
    finish: FinishWrite = None,
    seen: bytes | None = None,
) -> None:
    """As `write_plain`, by the storage key."""
    state = services.state
    routes = state.deletion_routes if kind == versions.TOMBSTONE else state.routes
    route = routes[int.from_bytes(storage_key[:2], "big") >> state.route_shift]
    group = services.writes.group_for(route.plan, sink)
    old = state.records.get(storage_key)
    base = versions.merge(old, seen)
    try:
        record = versions.supersede(base, state.actor_for(route.owned), state.clock.next(), value, expires_at_ms, kind)
    except ForeignDot:
        record = supersede_anew(state, route.owned, base, value, expires_at_ms, kind)
    services.writes.add(group, storage_key, record, old, finish, sink, number)
    if kind == versions.TOMBSTONE or expires_at_ms:
        services.collection.add_candidate(storage_key, expires_at_ms)
