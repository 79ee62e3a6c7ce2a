"""Dispatch: look-up and arity of commands, their order within a connection, and the limits on load.

Theory. Redis runs a connection's commands one after the other. This node runs them concurrently where their client cannot
see a difference: reads with reads, plain writes with plain writes of the same turn, and commands of different keys in any
case. Any other command (for example a GET behind a SET of the same key) begins once the earlier commands of its keys are
answered. Until then it waits in the lane of its key (lanes.py). When the earlier commands are answered, all that wait in
the lane begin together: concurrently if they are of one kind, else as a chain, which one coordinator runs in order
(chains.py). So a pipeline costs one round trip for each such wave of its most frequent key, and not one for each command.
The work is linear in the length of the pipeline."""

from __future__ import annotations

from mypy_extensions import i64

from protocol.databases import MARK
from server.core import chains
from server.core.base.errors import BUSY, CommandError
from server.core.base.lanes import Lane, Lanes, Parked
from server.core.base.sinks import Session, Sink
from server.core.chains import Chains, may_enter, needs_no_lanes
from server.core.commands.databases import inner_arguments
from server.core.commands.execution import execute, fail
from server.core.commands.hot_call import call_hot
from server.core.commands.pausing import is_held
from server.core.commands.registry import unfit
from server.core.commands.spec import ALONE, EXCLUSIVE, IMMEDIATE, READ, WRITE, CommandSpec
from server.core.commands.table import commands_by_name, commands_for_clients, find_command, find_for_client
from server.core.commands.transactions.queueing import is_part, queue, refused
from server.core.records.versions import DamagedRecord
from server.core.requests.relay_rows import RelayItem
from server.core.retries import Retries
from server.core.services.services import Services

_NONE: dict[bytes, CommandSpec] = {}
LANE_ARGUMENTS_MAX = 1024  # a command with more arguments runs alone: to enter a million lanes takes seconds


class Dispatcher:
    """Begins the commands of sessions, and runs those that other nodes relay."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._state = services.state
        self._commands = commands_by_name()
        self._of_clients = commands_for_clients()
        self._records = services.state.records
        self._unexpected = services.state.unexpected
        self._key_bytes_max: i64 = services.state.config.key_bytes_max
        self._value_bytes_max: i64 = services.state.config.value_bytes_max
        self._pause = services.clients.pause
        self._refused = services.state.quarantine.commands  # while it has any, commands take no fast path
        self.changes = 0  # what `Records.changes` was when the present command began
        self._chains = Chains(services, self.run)
        self.retries = Retries(services, self.run, self._chains)

    def admit(self, session: Session, batch: list[list[bytes]]) -> None:
        """HOT. Begins the next commands of a session, or queues them.

        The fast path is for a command of space 0 in its usual spelling and number of arguments (so its key is the second
        word), if the session has lanes or the command needs none (`needs_no_lanes`)."""
        commands, slots, first = self._commands_of(session), session.slots, session.first_number
        state, turn = self._state, self._state.lane_turn
        name, spec = b"", commands.get(b"")
        for args in batch:
            if args[0] != name:  # most commands of a pipeline have the name of the one before
                name = args[0]
                spec = commands.get(name)
            if (
                spec is None
                or len(args) != spec.usual_count
                or args[1].startswith(MARK)
                or session.backlog
                or session.closing
                or (spec.allowed_keys is not None and not spec.allowed_keys.match(args[1]))
                or state.in_flight > state.requests_max
                or not (session.lanes is not None or needs_no_lanes(session, spec.overlap, turn))
            ):
                if session.closing:
                    break  # Redis drops what is pipelined behind QUIT
                if session.backlog or not self._begin(session, args):
                    session.backlog.append(args)
                commands, name, spec = self._commands_of(session), b"", None
                continue
            if session.lanes is None:
                session.kind, session.turn = spec.overlap, turn
            elif not self._enter_lane(session, session.lanes, args, spec, turn):
                continue
            session.last_command = spec.name
            session.in_flight += 1
            slots.append(args)
            self._run_hot(spec, session, first + len(slots) - 1, args)
        state.statistics.commands += len(batch)

    def _commands_of(self, session: Session) -> dict[bytes, CommandSpec]:
        """HOT. Returns the commands that may take the fast path: those that the user may call. None may if the session uses
        another space than 0, or is between MULTI and EXEC, or if commands are paused or quarantined."""
        if self._refused or session.space or session.transaction is not None or self._pause.mode:
            return _NONE
        of_user = None if session.access is None else session.access.usual_commands()
        return self._of_clients if of_user is None else of_user

    def _enter_lane(self, session: Session, lanes: Lanes, args: list[bytes], spec: CommandSpec, turn: int) -> bool:
        """HOT. Enters a command of one key in its lane. If it must wait there, parks it and returns False."""
        lane, kind = lanes.of_key(args[1]), spec.overlap
        if may_enter(lane, kind, turn):
            lanes.enter_one(session.first_number + len(session.slots), lane, kind, turn)
            return True
        self._park(session, lanes, [lane], args, spec, kind)
        return False

    def _park(
        self, session: Session, lanes: Lanes, waiting: list[Lane], args: list[bytes], spec: CommandSpec, kind: int
    ) -> None:
        """HOT. Lets a command wait in its lanes. A SET replaces a SET of the same key that waits directly before it."""
        overwrites = spec.overwrites and len(args) == spec.usual_count and self._fits(args) and not self._refused
        last = waiting[0].parked[-1] if overwrites and waiting[0].parked else None
        if last is not None and last.overwrites:
            last.supersede(session.open_in_place_of(last.number, args), args)
        else:
            lanes.park(Parked(session.open(args), args, kind, waiting, overwrites, chains.fits_chain(spec, waiting)))
            self._state.commands_waiting += 1

    def _fits(self, args: list[bytes]) -> bool:
        """HOT. Whether key and value of a SET are not too large."""
        return len(args[2]) <= self._value_bytes_max and len(args[1]) <= self._key_bytes_max

    def admit_while_held(self, session: Session, batch: list[list[bytes]]) -> None:
        """Does what `admit` does while the node holds commands: those that need keys wait."""
        for args in batch:
            spec = self._find(args)
            if session.backlog or (spec is not None and (spec.needs_data() or spec.name == "time")):
                session.backlog.append(args)
                self._state.statistics.commands += 1
            else:
                self.admit(session, [args])

    def resume(self, session: Session, count_max: int) -> int:
        """Begins about `count_max` of the session's commands at most: those that waited for others and may begin now.

        Returns how many it has begun. If these are fewer than `count_max`, the others still have to wait.
        """
        count, backlog = 0, session.backlog
        if (backlog or (session.lanes is not None and session.lanes.free)) and self._state.holds_commands:
            self._state.has_held = True  # `begin_held` lets them begin later
            self._services.clients.held[session] = None  # `clients.sessions` lacks a session that runs a transaction
            return 0
        while count < count_max and session.lanes is not None and session.lanes.free:
            count += self._begin_waiting(session, session.lanes, session.lanes.free.popleft())
        while count < count_max and backlog and not session.closing and self._begin(session, backlog[0]):
            backlog.popleft()
            count += 1
        return count

    def _begin(self, session: Session, args: list[bytes]) -> bool:
        """Starts, answers or parks a command. False: it stays in the backlog, since it or one in flight must run alone."""
        turn = self._state.lane_turn
        self.changes = self._records.changes
        try:
            spec = self._find_for_client(args)
            fits = spec is not None and spec.accepts(len(args))
            is_queued = is_part(session, spec, fits)
            kind = IMMEDIATE if spec is None or is_queued or not fits else spec.kind_of(args)
            kind = ALONE if kind != IMMEDIATE and len(args) > LANE_ARGUMENTS_MAX else kind
        except Exception as fault:  # noqa: BLE001
            session.answer(session.open(args), self._unexpected.contain(fault, self.changes, "looking up a command"))
            return True
        if self._pause.mode and spec is not None and fits and is_held(self._pause.mode, session, spec, args):
            return False
        session.is_costly |= spec is not None and kind != IMMEDIATE and len(args) != spec.usual_count
        if not session.in_flight:
            session.kind, session.turn = kind, turn
        elif kind == ALONE or session.kind == ALONE or self._holds_back(session):
            return False
        if session.access is not None and spec is not None and fits and self._refuses(session, spec, args):
            return True
        if is_queued:
            session.answer(session.open(args), queue(session, spec, args, self._state.config))
            return True
        if spec is None or kind == IMMEDIATE:
            self._start(spec, session, session.open(args), args)
            return True
        try:
            args = inner_arguments(self._state, spec, args, session.space)
        except CommandError as error:
            session.answer(session.open(args), error.reply)
            return True
        if session.lanes is None and not needs_no_lanes(session, kind, turn):
            session.lanes = chains.lanes_in_flight(session)
        if session.lanes is None or not session.in_flight:
            self._start(spec, session, session.open(args), args)
        else:
            self._start_in_lanes(spec, session, session.lanes, args, kind, turn)
        return True

    def _holds_back(self, session: Session) -> bool:
        """Whether a transaction that runs command by command has to wait, because too many requests are in flight. The
        transaction was admitted as a whole, so its commands wait and are not refused."""
        state = self._state
        return state.in_flight > state.requests_max >= 0 and session.client() is not session

    def _start_in_lanes(
        self, spec: CommandSpec, session: Session, lanes: Lanes, args: list[bytes], kind: int, turn: int
    ) -> None:
        """Starts the command, or lets it wait in the lanes of its keys."""
        own = lanes.of_keys(spec.keys_of(args))
        if not all(may_enter(lane, kind, turn) for lane in own):
            self._park(session, lanes, own, args, spec, kind)
            return
        number = session.open(args)
        lanes.enter(number, own, kind, turn)
        self._start(spec, session, number, args)

    def _refuses(self, session: Session, spec: CommandSpec, args: list[bytes]) -> bool:
        """HOT. Answers a command with an error if the session's user may not run it. Returns whether it was answered. An
        unknown command or a wrong number of arguments does not come here: it gets another error, as in Redis."""
        try:
            reply = None if session.access is None else session.access.refusal(session, args)
        except Exception as error:  # noqa: BLE001
            reply = self._unexpected.contain(error, self.changes, "looking up what a user may do")
        if reply is None:
            return False
        session.last_command = spec.name
        session.answer(session.open(args), refused(session, spec, reply))
        return True

    def _start(self, spec: CommandSpec | None, session: Session, number: int, args: list[bytes]) -> None:
        state = self._state
        is_refused = state.in_flight > state.requests_max and (session.client() is session or state.requests_max < 0)
        if is_refused and spec is not None and spec.needs_data() and spec.accepts(len(args)):
            self._state.statistics.busy += self._state.refusal is BUSY
            session.answer(number, self._state.refusal)
        else:
            session.last_command = "" if spec is None else spec.name
            self._execute(spec, session, number, args)

    def _begin_waiting(self, session: Session, lanes: Lanes, lane: Lane) -> int:
        """Begins the next commands that wait in this lane, if nothing runs there any more. Returns how many it has
        begun."""
        if lane.running or not lane.parked or not lane.parked[0].is_first():
            return 0
        self.changes = self._records.changes
        wave = chains.next_wave(lane)
        kind, turn = wave[0].kind, self._state.lane_turn
        is_chain = len(wave) > 1 and not (kind in (READ, WRITE) and all(parked.kind == kind for parked in wave))
        for parked in wave:
            lanes.unpark(parked)
            lanes.enter(parked.number, parked.lanes, EXCLUSIVE if is_chain else kind, turn)
        self._state.commands_waiting -= len(wave)
        if not is_chain:
            for parked in wave:
                self._execute(self._find(parked.args), chains.sink_of(parked, session), parked.number, parked.args)
        else:
            items = [RelayItem(chains.sink_of(parked, session), parked.number, parked.args) for parked in wave]
            self._chains.begin(lane.key, items)
        return len(wave)

    def _find(self, args: list[bytes]) -> CommandSpec | None:
        spec = self._commands.get(args[0])
        return find_command(args) if spec is None or spec.subcommands else spec

    def _find_for_client(self, args: list[bytes]) -> CommandSpec | None:
        spec = self._of_clients.get(args[0])
        return find_for_client(args) if spec is None or spec.subcommands else spec

    def run(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """Runs a command for `sink` at once, whatever else is in flight."""
        changes = self._records.changes
        try:
            spec = self._find(args)
        except Exception as error:  # noqa: BLE001
            sink.answer(number, self._unexpected.contain(error, changes, "looking up a command"))
            return
        self._execute(spec, sink, number, args)

    def run_all(self, sink: Sink, batch: list[list[bytes]]) -> None:
        """HOT. Runs the commands of a relay, numbered from 0. Has the same fast path as `admit`."""
        commands = _NONE if self._refused else self._commands
        name, spec = b"", commands.get(b"")
        for number, args in enumerate(batch):
            if args[0] != name:
                name = args[0]
                spec = commands.get(name)
            if spec is None or len(args) != spec.usual_count:
                self.run(sink, number, args)
                continue
            self._run_hot(spec, sink, number, args)

    def _run_hot(self, spec: CommandSpec, sink: Sink, number: int, args: list[bytes]) -> None:
        """HOT. Runs a hot command in its usual form."""
        services, changes = self._services, self._records.changes
        try:
            call_hot(services, spec.handler, sink, number, args)
        except (CommandError, DamagedRecord) as error:
            fail(services, spec.name, spec.handler, sink, number, args, error)
        except Exception as fault:  # noqa: BLE001
            self._contain(sink, number, fault, changes, spec.name)

    def _contain(self, sink: Sink, number: int, error: Exception, changes: int, name: str) -> None:
        """Answers a command that has raised an unexpected exception. Raises Fatal if it has stored something."""
        sink.answer(number, self._unexpected.contain(error, changes, name, sink=sink, number=number))

    def run_in_order(self, sink: Sink, batch: list[list[bytes]]) -> None:
        """Runs the commands of a relay, numbered from 0. Those of the same key run in order (chains.py)."""
        self._chains.run_all([RelayItem(sink, number, args) for number, args in enumerate(batch)])

    def _execute(self, spec: CommandSpec | None, sink: Sink, number: int, args: list[bytes]) -> None:
        if spec is not None and spec.accepts(len(args)):
            execute(self._services, spec.name, spec.handler, sink, number, args)
            return
        changes = self._records.changes
        try:
            reply = unfit(spec, args)
        except Exception as error:  # noqa: BLE001
            reply = self._unexpected.contain(error, changes, "an unknown command" if spec is None else spec.name)
        sink.answer(number, reply)
