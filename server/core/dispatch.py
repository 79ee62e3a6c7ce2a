"""From a client's arguments to a running command: look-up, arity, order within a connection, and the limits on load.

Theory. Redis runs a connection's commands one after the other. We run them side by side wherever nobody can tell: reads
beside reads, plain writes beside plain writes. A command that could be told (a GET behind a SET of the same key, say)
waits in its session's backlog, and with it all that follow, until what it depends on has been answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from protocol.slots import key_slot
from server.core.base.errors import (
    CommandError,
    ErrorReply,
    coordinator_lost,
    damaged_here,
    no_owner,
    unknown_command,
    unknown_subcommand,
    wrong_arity,
)
from server.core.base.sinks import Session, Sink
from server.core.commands.spec import ALONE, EXCLUSIVE, IMMEDIATE, MIXED, READ, WRITE, CommandSpec
from server.core.commands.table import commands_by_name, find_command
from server.core.records.versions import DamagedRecord
from server.core.requests.relays import STALE, SecondAttempt

if TYPE_CHECKING:
    from server.core.node import Node

_NONE: set[bytes] = set()  # never added to
BUSY = ErrorReply.of("BUSY this node has as many requests in flight as it is allowed to: try again later")


class Dispatcher:
    """Begins the commands of sessions, and runs those that other nodes relay."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._state = node.state
        self._in_flight_max = node.state.config.requests_in_flight_max
        self._refusal = BUSY  # of commands above that
        self._commands = commands_by_name()

    def close(self, refusal: ErrorReply) -> None:
        """From now on clients' commands that need data are refused, those that wait for others included."""
        self._in_flight_max, self._refusal = -1, refusal

    def reopen(self) -> None:
        """All commands are taken again, as many as are allowed."""
        self._in_flight_max, self._refusal = self._state.config.requests_in_flight_max, BUSY

    def take(self, session: Session, batch: list[list[bytes]]) -> None:
        """HOT. Takes the next commands of a session.

        The loop knows one short cut: a command written and counted as nearly always, beside none or its own kind.
        """
        commands, node = self._commands, self._node
        slots, first = session.slots, session.first_number
        earlier = self._written_earlier(session)
        for args in batch:
            spec = commands.get(args[0])
            if (
                spec is None
                or len(args) != spec.usual_count
                or (session.in_flight and spec.overlap != session.kind)
                or session.backlog
                or session.closing
                or self._state.in_flight > self._in_flight_max
                or (earlier and spec.overlap == WRITE and args[1] in earlier)
            ):
                if session.closing:
                    break  # Redis drops what is pipelined behind QUIT
                if session.backlog or not self._begin(session, args):
                    session.backlog.append(args)
                continue
            session.kind = spec.overlap
            session.last_command = spec.name
            session.in_flight += 1
            slots.append(args)
            try:
                spec.handler(node, session, first + len(slots) - 1, args)
            except (CommandError, DamagedRecord) as error:
                self._fail(session, first + len(slots) - 1, args, error)
        self._state.statistics.commands += len(batch)

    def take_without_time(self, session: Session, batch: list[list[bytes]]) -> None:
        """Takes the next commands of a session while cluster time is not known: what reads or writes keys waits for it."""
        for args in batch:
            spec = self._find(args)
            if session.backlog or (spec is not None and (spec.needs_data() or spec.name == "time")):
                session.backlog.append(args)
                self._state.statistics.commands += 1
            else:
                self.take(session, [args])

    def resume(self, session: Session) -> None:
        """Some of the session's commands were answered: those that waited for them may begin."""
        backlog = session.backlog
        if backlog and self._state.waits_for_time:
            return
        while backlog and not session.closing and self._begin(session, backlog[0]):
            backlog.popleft()

    def _begin(self, session: Session, args: list[bytes]) -> bool:
        """Starts the command, unless it has to wait for others of its session: then False."""
        spec = self._find(args)
        overlap = IMMEDIATE if spec is None else spec.overlap
        if overlap == WRITE and spec is not None and len(args) > spec.plain_args:
            overlap = EXCLUSIVE
        if not session.in_flight:
            session.kind = overlap
        elif overlap != IMMEDIATE and (overlap != session.kind or overlap != READ):
            if self._must_wait(session, overlap, spec, args):
                return False
            session.kind = overlap if overlap == session.kind == WRITE else MIXED
        number = session.open(args)
        if self._state.in_flight > self._in_flight_max and spec is not None and spec.needs_data():
            self._state.statistics.busy += self._refusal is BUSY
            session.answer(number, self._refusal)
        else:
            session.last_command = "" if spec is None else spec.name
            self._execute(spec, session, number, args)
        return True

    def _find(self, args: list[bytes]) -> CommandSpec | None:
        spec = self._commands.get(args[0])
        return find_command(args) if spec is None or spec.subcommands else spec

    def _must_wait(self, session: Session, overlap: int, spec: CommandSpec | None, args: list[bytes]) -> bool:
        if overlap == ALONE or session.kind == ALONE:
            return True
        assert spec is not None
        keys = spec.keys_of(args)
        if overlap == WRITE:
            earlier = self._written_earlier(session)
            if any(key in earlier for key in keys):
                return True
        for other in session.unanswered():
            other_spec = find_command(other)
            if other_spec is None or other_spec.overlap == IMMEDIATE:
                continue
            both_reads = overlap == READ and other_spec.overlap == READ
            both_writes = overlap == WRITE and other_spec.overlap == WRITE and len(other) <= other_spec.plain_args
            if not (both_reads or both_writes) and any(key in keys for key in other_spec.keys_of(other)):
                return True
        return False

    def _written_earlier(self, session: Session) -> set[bytes]:
        """The keys that the session's commands in flight since an earlier turn may write; looked up once a turn.

        Writes of one turn travel together and are run, refused or lost together, in their order. One that was sent in an
        earlier turn may yet be sent again, so nothing else may be written to its key before it has its answer.
        """
        turn = self._state.statistics.turns
        if session.turn != turn:
            session.turn = turn
            if not session.in_flight or session.kind == READ:
                session.earlier = _NONE
                return _NONE
            session.earlier = set()
            for args in session.unanswered():
                if len(args) <= 3:
                    session.earlier.update(args[1:2])
                elif (spec := find_command(args)) is not None:
                    session.earlier.update(spec.keys_of(args))
        return session.earlier

    def run(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """Runs a command for `sink`, whatever else is in flight."""
        self._execute(self._find(args), sink, number, args)

    def run_all(self, sink: Sink, batch: list[list[bytes]]) -> None:
        """HOT. Runs the commands of a relay, numbered from 0; with the short cut of `take`."""
        commands, node = self._commands, self._node
        for number, args in enumerate(batch):
            spec = commands.get(args[0])
            if spec is None or len(args) != spec.usual_count:
                self._execute(self._find(args), sink, number, args)
                continue
            try:
                spec.handler(node, sink, number, args)
            except (CommandError, DamagedRecord) as error:
                self._fail(sink, number, args, error)

    def _execute(self, spec: CommandSpec | None, sink: Sink, number: int, args: list[bytes]) -> None:
        if spec is None:
            sink.answer(number, self._unknown(args))
        elif not spec.accepts(len(args)):
            sink.answer(number, wrong_arity(spec.name))
        else:
            try:
                reply = spec.handler(self._node, sink, number, args)
            except (CommandError, DamagedRecord) as error:
                self._fail(sink, number, args, error)
                return
            if reply is not None:
                sink.answer(number, reply)

    def _fail(self, sink: Sink, number: int, args: list[bytes], error: CommandError | DamagedRecord) -> None:
        """The command cannot run. One that met a damaged record runs once that is mended, if it can be."""
        if isinstance(error, CommandError):
            sink.answer(number, error.reply)
            return
        refusal = damaged_here(self._state.member.name, error)
        mending = self._node.mending
        if not mending.park(
            error.stored_at, lambda: self._run_parked(sink, number, args), lambda: sink.answer(number, refusal)
        ):
            sink.answer(number, refusal)

    def _run_parked(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """What this command waited for is mended."""
        if self._node.relays.is_late(sink):
            sink.answer(number, STALE)
        else:
            self.run(sink, number, args)

    def _unknown(self, args: list[bytes]) -> ErrorReply:
        container = self._commands.get(args[0].lower())
        if container is None:
            return unknown_command(args)
        return unknown_subcommand(container.name, args) if len(args) > 1 else wrong_arity(container.name)

    def retry(
        self, sink: Sink, number: int, args: list[bytes], begun_ms: int, maybe_run: bool, refusal: bytes | None
    ) -> None:
        """A relayed command whose coordinator was lost goes to the key's next live owner.

        `maybe_run`: the lost one may have done it, so one that must not run twice ends here, its outcome unknown, or as
        `refusal` says.
        """
        state = self._state
        spec = find_command(args)
        assert spec is not None, "only known commands are relayed"
        if (maybe_run and spec.once(args)) or state.now_ms - begun_ms > state.config.request_timeout_ms:
            state.statistics.timeouts += 1
            sink.answer(number, refusal or coordinator_lost("unread" if spec.overlap == READ else "maybe-written"))
            return
        state.statistics.relays_retried += 1
        if maybe_run and spec.overlap != READ and not isinstance(sink, SecondAttempt):
            sink = SecondAttempt(sink)
        route = state.routes[key_slot(args[1]) >> state.route_shift]
        choose = route.reader_for if spec.overlap == READ else route.coordinator_for
        target = choose(sink.relayed)
        if target is None:
            self._execute(spec, sink, number, args)
        else:
            self._node.relays.forward(sink, number, args, target, begun_ms)

    def refuse(self, sink: Sink, number: int, args: list[bytes]) -> None:
        """A command for a key none of whose owners can be reached from here."""
        state = self._state
        if state.layout is None:
            sink.answer(number, state.no_layout)
            return
        state.statistics.no_quorum += 1
        spec = find_command(args)
        outcome = "unread" if spec is not None and spec.overlap == READ else "unwritten"
        sink.answer(number, no_owner(state.member.name, outcome))
