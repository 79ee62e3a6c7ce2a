"""Where a job runs: at the coordinator of its keys, atomically; or here, command by command.

    the keys of the script                      how it runs
    are of one slot                             at their coordinator, atomically: on a snapshot that a quorum was read for;
                                                what it writes is one batch on every replica (transactions/atomic_run.py)
    none, and it reaches none                   here, in one go
    none, and it reaches keys of one slot       as if the call had named them
    are of several slots, or it calls a
    command that is about all keys (KEYS);
    `multi_slots` is
      relaxed                                   here, each command by its own quorum, in order: other clients may see and
                                                change keys in between, and if the node ends, a part of it has run
      strict                                    CROSSSLOT, and nothing has run

A key of the same slot that the call does not name is read as well, and the script begins anew. A script that takes long, or
names many keys late, begins anew in a worker (long_run.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, Final

from protocol.resp import Reply
from protocol.slots import key_slot
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Sink
from server.core.commands.execution import execute
from server.core.commands.internal import internal
from server.core.commands.key_specs import KeySpec
from server.core.commands.registry import find_command
from server.core.commands.scripting.job import MALFORMED, Job, decode
from server.core.commands.scripting.long_run import LongRun
from server.core.commands.scripting.run import NextCommand, Outside, Run, ScriptSink, TakesLong
from server.core.commands.scripting.texts import find_text
from server.core.commands.spec import EXCLUSIVE, CommandSpec
from server.core.commands.transactions.atomic_run import CROSSSLOT, Body, run_atomically
from server.core.commands.transactions.snapshot import KeysMissing, Snapshot, encoded
from server.core.scripts.shebang import Script
from server.core.services.script_workers import TOO_MANY
from server.core.services.services import Services
from server.core.work.procedures import Procedure, Step, Steps

REPLAYED_MAX: Final = 16  # commands of a script that runs command by command: beyond them it goes on in a worker
_TOO_LARGE: Final = (
    "ERR the replies that the script needs have more than gathered_bytes_max=%d bytes: what it wrote before stays"
)
_OLD: Final = "ERR the node that coordinates these keys is of an earlier version: nothing was written. Upgrade it"
_UNKNOWN: Final = b"-ERR unknown command 'DYN.EVAL'"
_CROSSSLOT: Final = ErrorReply.of(CROSSSLOT)


class _Whole(Sink):
    """The sink of an atomic run or of a command: an error of it is a result, too."""

    def __init__(self, procedure: Procedure, args: list[bytes], resp3: bool, like: Sink) -> None:
        super().__init__(procedure)
        self.relayed, self.resp3, self.denies_blocking = False, resp3, True
        self.space, self.kept_numbering = like.space, like.kept_numbering
        self._procedure = procedure
        self._args = args

    def answer(self, number: int, reply: Reply) -> None:
        """The reply."""
        self._procedure.resume(bytes(encoded(reply)))

    def command(self, number: int) -> list[bytes] | None:
        """Returns what runs: another node may have to do it again."""
        return self._args


def _run_command(services: Services, args: list[bytes], resp3: bool, like: Sink) -> Step:
    """A step that runs a command wherever its key is coordinated, by the databases of the sink `like`. Its result is the
    encoded reply, or error."""

    def start(procedure: Procedure) -> None:
        spec = find_command(args)
        assert spec is not None, "it was looked up"
        execute(services, spec.name, spec.handler, _Whole(procedure, args, resp3, like), 0, args)

    return start


def _run_next(services: Services, run: Run, args: list[bytes], resp3: bool) -> Generator[Step, Any, bytes]:
    """Runs the next command of a script that runs command by command. Returns the reply."""
    reply: bytes = yield _run_command(services, args, resp3, run.selected)
    if args[0].lower() == b"swapdb":
        run.follow_swap()
    return reply


def run_job(services: Services, sink: Sink, job: Job, script: Script) -> Steps:
    """The steps of a call of a script."""
    relaxes = services.state.config.multi_slots == "relaxed"
    slots = dict.fromkeys([key_slot(key) for key in job.keys])
    reply: bytes = _CROSSSLOT
    if len(slots) == 1:
        reply = yield from _at_coordinator(services, sink, job)
    elif not slots:
        reply = yield from _without_keys(services, sink, job, script)
    if reply != _CROSSSLOT:
        return reply
    if not relaxes:
        raise CommandError(CROSSSLOT)
    return (yield from _command_by_command(services, sink, job, script))


def _at_coordinator(services: Services, sink: Sink, job: Job) -> Generator[Step, Any, bytes]:
    coordinator = services.route(job.all_keys()[0]).coordinator_for(False)
    able = services.state.knowing_libraries if job.function else services.state.scripting
    if coordinator is None or coordinator in able:
        reply: bytes = yield _run_command(services, job.encode(), sink.resp3, ScriptSink(sink, job))
        if not reply.startswith(_UNKNOWN):
            return reply  # else the next owner, after another one was lost, is of an earlier version
    if services.state.config.multi_slots == "relaxed":
        return _CROSSSLOT
    raise CommandError(_OLD)


def _without_keys(services: Services, sink: Sink, job: Job, script: Script) -> Generator[Step, Any, bytes]:
    like, run = ScriptSink(sink, job), Run(services, sink, job, script)

    def on_nothing(long: LongRun) -> Steps:
        return (yield from long.on_snapshot(Snapshot(services, like, {}), like))

    try:
        try:
            return run.on_snapshot(Snapshot(services, like, {}), like)
        except TakesLong:
            pass
        reply = yield from _in_worker(services, run, on_nothing)
        assert reply is not None, "it has written nothing"
        return bytes(encoded(reply))
    except KeysMissing as missing:
        if len({key_slot(key) for key in missing.keys}) > 1:
            return _CROSSSLOT
        return (yield from _at_coordinator(services, sink, job._replace(reached=missing.keys)))
    except Outside:
        return _CROSSSLOT


def _command_by_command(services: Services, sink: Sink, job: Job, script: Script) -> Steps:
    run, replies = Run(services, sink, job, script), list[bytes]()
    bytes_max, held_bytes = services.state.config.gathered_bytes_max, 0
    has_written = False
    while len(replies) < REPLAYED_MAX:
        try:
            return run.on_replies(replies)
        except NextCommand as following:
            args, resp3 = following.args_of_command, following.resp3
        except TakesLong:
            break
        has_written = has_written or _writes(args)
        replies.append((yield from _run_next(services, run, args, resp3)))
        held_bytes += len(replies[-1])
        if held_bytes > bytes_max:
            raise CommandError(_TOO_LARGE % bytes_max)
    return (yield from _in_worker(services, run, lambda long: _go_on(services, run, long, replies), has_written))


def _go_on(services: Services, run: Run, long: LongRun, replies: list[bytes]) -> Steps:
    """Goes on with a script over several slots whose first commands have had these replies."""
    long.begin()
    had = deque(replies)
    while True:
        following = yield from long.next_unanswered(had)
        if isinstance(following, bytes):
            return following
        args, begun_ms = run.inner(following.words), services.state.now_ms
        long.script.has_written = long.script.has_written or _writes(args)
        reply = yield from _run_next(services, run, args, following.option == 3)
        long.script.waited_ms += services.state.now_ms - begun_ms
        long.script.answer(reply)


def _writes(args: list[bytes]) -> bool:
    spec = find_command(args)
    return spec is not None and "write" in spec.flags.split()


def _in_worker(services: Services, run: Run, steps: Callable[[LongRun], Steps], has_written: bool = False) -> Steps:
    """Runs the steps of a long script once there is a worker for it."""
    script = services.scripts.workers.admit(run.program, run.job.call())
    script.has_written = has_written
    try:
        while not script.has_worker:
            if script.is_refused:
                raise CommandError(TOO_MANY + ("; what the script wrote before stays" if has_written else ""))
            yield script.next_event()
        return (yield from steps(LongRun(services, run, script)))
    finally:
        script.leave()


def _eval_here(services: Services, sink: Sink, number: int, args: list[bytes]) -> None:
    """DYN.EVAL: a script on keys of one slot, at their coordinator."""
    job = decode(args)
    if not job.all_keys():
        raise CommandError(MALFORMED)
    coordinator = services.route(job.all_keys()[0]).coordinator_for(sink.relayed)
    if coordinator is not None:
        services.relays.forward(sink, number, args, coordinator)
        return
    services.run_steps(_step(services, ScriptSink(sink, job), number, job), sink, number)


def _step(services: Services, sink: ScriptSink, number: int, job: Job) -> Steps:
    script = yield from find_text(services, job)
    run, slot = Run(services, sink, job, script), key_slot(job.all_keys()[0])
    is_strict = services.state.config.multi_slots == "strict"

    def step(body: Body) -> Steps:
        def checked(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
            try:
                return (yield from body(snapshot))
            except KeysMissing as missing:
                if is_strict and any(key_slot(key) != slot for key in missing.keys):
                    raise CommandError(CROSSSLOT) from None
                raise

        return run_atomically(services, sink, number, job.all_keys(), checked, job.encode())

    def within_turn(snapshot: Snapshot) -> Generator[Step, Any, Reply]:
        yield from ()
        try:
            return run.on_snapshot(snapshot, sink)
        except KeysMissing as missing:
            run.note_late(missing.keys)
            raise

    try:
        try:
            return (yield from step(within_turn))
        except TakesLong:
            pass
        return (
            yield from _in_worker(services, run, lambda long: step(lambda snapshot: long.on_snapshot(snapshot, sink)))
        )
    except Outside:
        return _CROSSSLOT


UNLISTED: tuple[CommandSpec, ...] = (
    CommandSpec(
        "dyn.eval",
        -6,
        EXCLUSIVE,
        internal(_eval_here),
        "Runs a script on keys of one slot.",
        "dyn",
        "write",
        key_specs=(KeySpec("RW access update", 1, counted=True),),
        once=lambda args: True,
    ),
)
