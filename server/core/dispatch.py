"""Dispatch: look-up and arity of commands, their order within a connection, and the limits on load.

Theory. Redis runs a connection's commands one after the other. We run them concurrently where their client cannot see a
difference: reads with reads, plain writes with plain writes of the same turn, and commands of different keys in any case
(lanes.py). Another command (a GET behind a SET of the same key, say) begins once the earlier commands of its keys are
answered. Commands that have gathered in a lane until then begin together: concurrently if they are of one kind, else as a
chain, which one coordinator runs in order (chains.py). So a pipeline costs a round trip for each wave of commands of its
most frequent key, not one for each command, and an amount of work that is linear in its length.
"""

from __future__ import annotations

from protocol.slots import key_slot
from server.core.base.errors import (
    BUSY,
    CommandError,
    ErrorReply,
    coordinator_lost,
    no_owner,
    unknown_command,
    unknown_subcommand,
    wrong_arity,
)
from server.core.base.lanes import Lane, Lanes, Parked
from server.core.base.sinks import Session, Sink
from server.core.chains import Chains
from server.core.commands.execution import execute, fail
from server.core.commands.spec import ALONE, EXCLUSIVE, IMMEDIATE, READ, WRITE, CommandSpec
from server.core.commands.table import commands_by_name, find_command
from server.core.records.versions import DamagedRecord
from server.core.requests.relays import MAYBE_RUN, STALE, UNREACHABLE, RelayItem, SecondAttempt
from server.core.services.services import Services

CHAIN_COMMANDS_MAX = 256  # a longer chain would hold up the turn of its coordinator
CHAIN_BYTES_MAX = 1 << 20  # of arguments
LANE_ARGUMENTS_MAX = 1024  # a command of more of them runs alone: a lane for each of a million keys takes seconds


class Dispatcher:
    """Begins the commands of sessions, and runs those that other nodes relay."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._state = services.state
        self._commands = commands_by_name()
        self._records = services.state.records
        self._unexpected = services.state.unexpected
        self.changes = 0  # what `Records.changes` was when the present command began
        self._chains = Chains(services, self.run)

    def admit(self, session: Session, batch: list[list[bytes]]) -> None:
        """HOT. Begins the next commands of a session, or queues them.

        Fast path: a command in the usual spelling with the usual number of arguments, while none or only commands of its
        own kind are in flight.
        """
        commands, services, state, records = self._commands, self._services, self._state, self._records
        slots, first = session.slots, session.first_number
        turn = state.statistics.turns
        for args in batch:
            spec = commands.get(args[0])
            if (
                spec is None
                or len(args) != spec.usual_count
                or session.lanes is not None
                or (session.in_flight and not _runs_beside(session.kind, session.turn, spec.overlap, turn))
                or session.backlog
                or session.closing
                or state.in_flight > state.requests_max
            ):
                if session.closing:
                    break  # Redis drops what is pipelined behind QUIT
                if session.backlog or not self._begin(session, args):
                    session.backlog.append(args)
                continue
            session.kind = spec.overlap
            session.turn = turn
            session.last_command = spec.name
            session.in_flight += 1
            slots.append(args)
            changes = records.changes
            try:
                spec.handler(services, session, first + len(slots) - 1, args)
            except (CommandError, DamagedRecord) as error:
                fail(services, spec.name, spec.handler, session, first + len(slots) - 1, args, error)
            except Exception as error:  # noqa: BLE001
                session.answer(first + len(slots) - 1, self._unexpected.contain(error, changes, spec.name))
        state.statistics.commands += len(batch)

    def admit_without_time(self, session: Session, batch: list[list[bytes]]) -> None:
        """As `admit`, while cluster time is not known: commands that need keys wait for it."""
        for args in batch:
            spec = self._find(args)
            if session.backlog or (spec is not None and (spec.needs_data() or spec.name == "time")):
                session.backlog.append(args)
                self._state.statistics.commands += 1
            else:
                self.admit(session, [args])

    def resume(self, session: Session, count_max: int) -> int:
        """Begins commands of the session that waited for others and may begin now, about `count_max` at most.

        Answers how many it has begun; if that is less than `count_max`, no other one may begin.
        """
        count = 0
        while count < count_max and session.lanes is not None and session.lanes.free:
            count += self._begin_waiting(session, session.lanes, session.lanes.free.popleft())
        backlog = session.backlog
        if backlog and self._state.waits_for_time:
            return count
        while count < count_max and backlog and not session.closing and self._begin(session, backlog[0]):
            backlog.popleft()
            count += 1
        return count

    def _begin(self, session: Session, args: list[bytes]) -> bool:
        """Starts the command, or lets it wait in its lanes. False if it must run alone on its connection, or waits for one
        that does."""
        turn = self._state.statistics.turns
        self.changes = self._records.changes
        try:
            spec = self._find(args)
            kind = IMMEDIATE if spec is None or not spec.accepts(len(args)) else spec.kind_of(args)
            if kind != IMMEDIATE and len(args) > LANE_ARGUMENTS_MAX:
                kind = ALONE
        except Exception as error:  # noqa: BLE001
            session.answer(session.open(args), self._unexpected.contain(error, self.changes, "looking up a command"))
            return True
        if not session.in_flight:
            session.kind, session.turn = kind, turn
        elif kind == ALONE or session.kind == ALONE:
            return False
        elif kind != IMMEDIATE:
            assert spec is not None
            if session.lanes is None and not _runs_beside(session.kind, session.turn, kind, turn):
                session.lanes = self._open_lanes(session)
            if session.lanes is not None:
                number, lanes = session.open(args), session.lanes.of_keys(spec.keys_of(args))
                if not all(_may_enter(lane, kind, turn) for lane in lanes):
                    session.lanes.park(Parked(number, args, kind, lanes))
                    self._state.commands_waiting += 1
                    return True
                session.lanes.enter(number, lanes, kind, turn)
                self._start(spec, session, number, args)
                return True
        self._start(spec, session, session.open(args), args)
        return True

    def _start(self, spec: CommandSpec | None, session: Session, number: int, args: list[bytes]) -> None:
        if self._state.in_flight > self._state.requests_max and spec is not None and spec.needs_data():
            self._state.statistics.busy += self._state.refusal is BUSY
            session.answer(number, self._state.refusal)
        else:
            session.last_command = "" if spec is None else spec.name
            self._execute(spec, session, number, args)

    def _open_lanes(self, session: Session) -> Lanes:
        """Lanes with the commands that the session has in flight. They are of one kind, so they needed no lanes so far."""
        lanes = Lanes()
        for number, args in session.unanswered():
            spec = self._find(args)
            if spec is not None and spec.overlap != IMMEDIATE:
                lanes.enter(number, lanes.of_keys(spec.keys_of(args)), session.kind, session.turn)
        return lanes

    def _begin_waiting(self, session: Session, lanes: Lanes, lane: Lane) -> int:
        """If nothing runs in this lane any more, begins the next commands that wait there. Answers how many."""
        if lane.running or not lane.parked or not lane.parked[0].is_first():
            return 0
        self.changes = self._records.changes
        wave = _next_wave(lane)
        kind, turn = wave[0].kind, self._state.statistics.turns
        is_chain = len(wave) > 1 and not (kind in (READ, WRITE) and all(parked.kind == kind for parked in wave))
        for parked in wave:
            lanes.unpark(parked)
            lanes.enter(parked.number, parked.lanes, EXCLUSIVE if is_chain else kind, turn)
        self._state.commands_waiting -= len(wave)
        if not is_chain:
            for parked in wave:
                self._execute(self._find(parked.args), session, parked.number, parked.args)
        else:
            self._chains.run(lane.key, [(session, parked.number, parked.args, -1) for parked in wave])
        return len(wave)

    def _find(self, args: list[bytes]) -> CommandSpec | None:
        spec = self._commands.get(args[0])
        return find_command(args) if spec is None or spec.subcommands else spec

    def run(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """Runs a command for `sink`, whatever else is in flight."""
        changes = self._records.changes
        try:
            spec = self._find(args)
        except Exception as error:  # noqa: BLE001
            sink.answer(number, self._unexpected.contain(error, changes, "looking up a command"))
            return
        self._execute(spec, sink, number, args)

    def run_all(self, sink: Sink, batch: list[list[bytes]]) -> None:
        """HOT. Runs the commands of a relay, numbered from 0; with the fast path of `admit`."""
        commands, services, records = self._commands, self._services, self._records
        for number, args in enumerate(batch):
            spec = commands.get(args[0])
            if spec is None or len(args) != spec.usual_count:
                self.run(sink, number, args)
                continue
            changes = records.changes
            try:
                spec.handler(services, sink, number, args)
            except (CommandError, DamagedRecord) as error:
                fail(services, spec.name, spec.handler, sink, number, args, error)
            except Exception as error:  # noqa: BLE001
                sink.answer(number, self._unexpected.contain(error, changes, spec.name))

    def run_in_order(self, sink: Sink, batch: list[list[bytes]]) -> None:
        """Runs the commands of a relay, numbered from 0, those of one key in order."""
        self._chains.run_all([(sink, number, args, -1) for number, args in enumerate(batch)])

    def _execute(self, spec: CommandSpec | None, sink: Sink, number: int, args: list[bytes]) -> None:
        if spec is not None and spec.accepts(len(args)):
            execute(self._services, spec.name, spec.handler, sink, number, args)
            return
        changes = self._records.changes
        try:
            reply = self._unknown(args) if spec is None else wrong_arity(spec.name)
        except Exception as error:  # noqa: BLE001
            reply = self._unexpected.contain(error, changes, "an unknown command" if spec is None else spec.name)
        sink.answer(number, reply)

    def _unknown(self, args: list[bytes]) -> ErrorReply:
        container = self._commands.get(args[0].lower())
        if container is None:
            return unknown_command(args)
        return unknown_subcommand(container.name, args) if len(args) > 1 else wrong_arity(container.name)

    def retry_returned(self) -> bool:
        """Routes anew the relayed commands that came back, or answers them. Answers whether there were any."""
        relays = self._services.relays
        if not relays.returned:
            return False
        for each in relays.drain_returned():
            maybe_run = each.reason == MAYBE_RUN
            if each.reason == UNREACHABLE:
                for sink, number, args, _ in each.items:
                    self._refuse(sink, number, args)
            elif each.in_order:
                self._retry_in_order(each.items, maybe_run)
            else:
                for item in each.items:
                    self._retry(item, maybe_run, each.refusal)
        return True

    def _retry(self, item: RelayItem, maybe_run: bool, refusal: bytes | None) -> None:
        """A relayed command whose coordinator was lost goes to the key's next live owner.

        `maybe_run`: the lost coordinator may have run it. Then a command that must not run twice is answered here: with
        `refusal`, or that its outcome is unknown.
        """
        sink, number, args, begun_ms = item
        asker = self._asker_again(sink, number, args, begun_ms, maybe_run, refusal)
        if asker is None:
            return
        spec, state = find_command(args), self._state
        assert spec is not None, "only known commands are relayed"
        route = state.routes[key_slot(args[1]) >> state.route_shift]
        choose = route.reader_for if spec.overlap == READ else route.coordinator_for
        target = choose(asker.relayed)
        if target is None:
            self._execute(spec, asker, number, args)
        else:
            self._services.relays.forward(asker, number, args, target, begun_ms)

    def _retry_in_order(self, items: list[RelayItem], maybe_run: bool) -> None:
        """As `_retry`, for commands that were relayed to be run in order."""
        chain: list[RelayItem] = []
        for sink, number, args, begun_ms in items:
            asker = self._asker_again(sink, number, args, begun_ms, maybe_run, None)
            if asker is not None:
                chain.append((asker, number, args, begun_ms))
        self._chains.run_all(chain)

    def _asker_again(
        self, sink: Sink, number: int, args: list[bytes], begun_ms: int, maybe_run: bool, refusal: bytes | None
    ) -> Sink | None:
        """The sink for the second attempt of a relayed command; None if it must not run again: then it was answered."""
        spec, state = find_command(args), self._state
        assert spec is not None, "only known commands are relayed"
        if self._services.relays.is_stale(sink):
            sink.answer(number, STALE)  # whoever relayed it to this node may have retried it elsewhere
            return None
        if (maybe_run and spec.once(args)) or state.now_ms - begun_ms > state.config.request_timeout_ms:
            state.statistics.timeouts += 1
            sink.answer(number, refusal or coordinator_lost("unread" if spec.overlap == READ else "maybe-written"))
            return None
        state.statistics.relays_retried += 1
        if maybe_run and spec.overlap != READ and not isinstance(sink, SecondAttempt):
            return SecondAttempt(sink)
        return sink

    def _refuse(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """Answers a command whose key has no owner that can be reached from here."""
        state = self._state
        if state.layout is None:
            sink.answer(number, state.no_layout)
            return
        state.statistics.no_quorum += 1
        spec = find_command(args)
        outcome = "unread" if spec is not None and spec.overlap == READ else "unwritten"
        sink.answer(number, no_owner(state.member.name, outcome))


def _runs_beside(kind: int, turn: int, other: int, now: int) -> bool:
    """HOT. Whether a command of kind `other` may begin in turn `now` while commands of `kind` that began in `turn` run."""
    return kind == other and (kind == READ or (kind == WRITE and turn == now))


def _may_enter(lane: Lane, kind: int, now: int) -> bool:
    """HOT. Whether a command of that kind may begin in turn `now`, given what the lane holds."""
    return not lane.parked and (not lane.running or _runs_beside(lane.kind, lane.turn, kind, now))


def _next_wave(lane: Lane) -> list[Parked]:
    """The next commands of a lane that may begin together: a single one, or as many as one chain may hold."""
    wave: list[Parked] = []
    size_bytes = 0
    for parked in lane.parked:
        size_bytes += sum(map(len, parked.args))
        if wave and (size_bytes > CHAIN_BYTES_MAX or len(wave) == CHAIN_COMMANDS_MAX or not _fits_chain(parked)):
            break
        wave.append(parked)
        if not _fits_chain(parked):
            break
    return wave


def _fits_chain(parked: Parked) -> bool:
    """Whether the command can be part of a chain: it has one key, and no R or W of its own."""
    spec = find_command(parked.args)
    return len(parked.lanes) == 1 and spec is not None and spec.group != "dyn"
