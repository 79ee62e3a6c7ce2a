"""One run of a script, within a turn.

Theory. Most scripts take microseconds, and to hand one to a thread and back would cost more than it does. So each script
begins here, with a budget of some milliseconds: of instructions, and of processor time. One that spends it is stopped,
nothing that it did counts, and it begins anew in a worker (long_run.py): it does the same again, since it is a function of
its arguments, its seed, and the replies of its commands.

On a snapshot of its keys (transactions/snapshot.py) it runs in one go. Command by command it runs again and again: when it
asks for a command that has not run yet, it is stopped, the command runs, and it begins anew with the replies so far. That
work grows with the square of their number, so after REPLAYED_MAX of them (steps.py) it goes on in a worker, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.databases import client_key, numbering_of
from protocol.resp import Reply
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.databases import inner_arguments
from server.core.commands.registry import find_command
from server.core.commands.scripting.job import Job
from server.core.commands.scripting.permitted import ABOUT_ALL, Permitted
from server.core.commands.transactions.snapshot import Snapshot, TooLong, encoded
from server.core.scripts.engine import BUDGET, MEMORY, TIME, WHOLE, Limits, Program, Stopped
from server.core.scripts.shebang import Script
from server.core.services.script_workers import KILLED, SHUTDOWN
from server.core.services.services import Services

_STOPPED: Final = {
    BUDGET: "ERR the script was stopped: it took more than its instructions",
    TIME: "ERR the script was stopped: it took longer than its instructions should",
    SHUTDOWN: "ERR the script was stopped: its node is about to stop",
    WHOLE: "ERR the script was stopped: a single function that it called could take longer than script_ms_max="
    "{0.script_ms_max} ms",
    MEMORY: "ERR the script was stopped: it needed more than script_memory_bytes_max={0.script_memory_bytes_max} bytes",
}
_TOO_LONG: Final = "ERR the script was stopped: it took longer than script_ms_max={0.script_ms_max} ms"
_KILLED: Final = "ERR Script killed by user with {1} KILL"
LATE_ROUNDS_MAX: Final = 8  # in which it names keys late within a turn: that work grows with the square of their number
KEPT_NOTHING: Final = ". Nothing that it wrote was kept"


class Outside(Exception):
    """A script on a snapshot has called a command that is about all keys."""


class TakesLong(Exception):
    """A script has spent what it has within a turn: it is to begin anew in a worker."""


class NextCommand(Exception):
    """A script that runs command by command needs the reply of its next command, one of the space that it has selected."""

    def __init__(self, args: list[bytes], resp3: bool) -> None:
        super().__init__()
        self.args_of_command = args
        self.resp3 = resp3


class ScriptSink(Sink):
    """The sink of a job, and of its commands, which run with the protocol that the script has chosen."""

    def __init__(self, sink: Sink, job: Job) -> None:
        super().__init__(sink)
        self.denies_blocking, self.space, self.kept_numbering = True, job.space, numbering_of(job.spaces)
        self._sink = sink

    def answer(self, number: int, reply: Reply) -> None:
        """The reply of the script."""
        self._sink.answer(number, reply)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the client's command."""
        return self._sink.command(number)


class Run:
    """The runs of one job on this node. `script` is that of the job: while it ran elsewhere, this node may have forgotten
    it."""

    def __init__(self, services: Services, sink: Sink, job: Job, script: Script) -> None:
        self._services = services
        self.job = job
        self.program = Program(job.sha, script.body, job.function)
        self.resp3 = sink.resp3
        # Its space is the one that the script has selected, its numbering that of the script.
        self.selected = Sink(sink)
        self.selected.kept_numbering = numbering_of(job.spaces)
        self._permitted = Permitted(services, job.user, job.read_only or not script.writes())
        config = services.state.config
        self._limits = Limits(
            config.script_instructions_max,
            config.script_instructions_max,
            job.seed,
            services.scripts.log,
            self._permitted.may_run,
        )
        self.late: dict[bytes, None] = {}  # keys that it has named late: each time it began anew
        self._late_rounds = 0

    def note_late(self, keys: list[bytes]) -> None:
        """It has named keys of its slot late. Raises TakesLong if it has done so too often to begin anew each time."""
        self.late |= dict.fromkeys(keys)
        self._late_rounds += 1
        if self._late_rounds == LATE_ROUNDS_MAX:
            raise TakesLong

    def on_snapshot(self, snapshot: Snapshot, like: Sink) -> bytes:
        """Runs it on a snapshot; the reply. Raises KeysMissing, Outside, TakesLong and CommandError: then nothing of it may
        be kept.
        `like` is the sink that the snapshot's commands get their settings from."""

        def call(args: list[bytes], resp3: bool) -> bytes:
            answer = self.answer(args)
            if answer is not None:
                return answer
            spec = find_command(args)
            if spec is not None and spec.name in ABOUT_ALL:
                raise Outside
            like.resp3, like.space = resp3, self.selected.space
            return encoded(snapshot.run(self.inner(args)))

        try:
            return self._run(call, KEPT_NOTHING)
        except TooLong:
            raise TakesLong from None

    def on_replies(self, replies: list[bytes]) -> bytes:
        """Runs it with the replies of its first commands; its own reply. Raises NextCommand, TakesLong and
        CommandError."""
        place = 0

        def call(args: list[bytes], resp3: bool) -> bytes:
            nonlocal place
            answer = self.answer(args)
            if answer is not None:
                return answer
            if place == len(replies):
                raise NextCommand(self.inner(args), resp3)
            place += 1
            return replies[place - 1]

        return self._run(call, "" if replies else KEPT_NOTHING)

    def may_run(self, args: list[bytes]) -> bool | None:
        """Whether the user may run a command; None if there is no such command."""
        return self._permitted.may_run(args)

    @property
    def space(self) -> int:
        """The space that the script has selected."""
        return self.selected.space

    def select(self, space: int) -> None:
        """A run begins: that is its client's space."""
        self.selected.space = space

    def follow_swap(self) -> None:
        """The script itself has swapped databases: it goes on in those that have its numbers now."""
        numbers, numbering = numbering_of(self.job.spaces).numbers, self._services.state.numbering
        spaces = numbering.spaces
        self.job = self.job._replace(space=spaces[numbers[self.job.space]], spaces=spaces)
        self.selected.kept_numbering = numbering
        self.select(spaces[numbers[self.space]])

    def answer(self, args: list[bytes]) -> bytes | None:
        """The reply to a command that is refused, or that is about the script itself; None to others."""
        refusal = self._permitted.refusal(args)
        if refusal is not None:
            return refusal
        spec = find_command(args)
        if spec is None or spec.name != "select":
            return None
        try:
            return spec.handler(self._services, self.selected, 0, args)
        except CommandError as error:
            return error.reply

    def inner(self, args: list[bytes]) -> list[bytes]:
        """A command of the script with inner keys: those of its client's space, or of one that it has selected."""
        spec = find_command(args)
        assert spec is not None, "it is permitted"
        return inner_arguments(self._services.state, spec, args, self.selected.space)

    def _run(self, call: Callable[[list[bytes], bool], bytes], what_is_kept: str) -> bytes:
        job, engine = self.job, self._services.scripts.engine()
        self.select(job.space)
        keys = [client_key(key) for key in job.keys]
        try:
            return engine.run(self.program, keys, job.args, call, self._limits, self.resp3)
        except Stopped as stopped:
            if stopped.args[0] in (BUDGET, TIME, WHOLE):
                raise TakesLong from None
            raise CommandError(why_stopped(self._services, stopped) + what_is_kept) from None


def why_stopped(services: Services, stopped: Stopped, is_function: bool = False, in_worker: bool = False) -> str:
    """The text of an error about a script that was stopped."""
    reason = stopped.args[0]
    text = _KILLED if reason == KILLED else _TOO_LONG if reason == TIME and in_worker else _STOPPED[reason]
    return text.format(services.state.config, "FUNCTION" if is_function else "SCRIPT")
