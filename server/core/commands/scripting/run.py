"""One run of a script, within a turn.

Theory. A script is fast or it is stopped: it has a budget of instructions, a few milliseconds, so that no script holds up
the clients of its node. On a snapshot of its keys (transactions/snapshot.py) it runs in one go. Command by command it runs
again and again: when it asks for a command that has not run yet, it is stopped, the command runs, and it begins anew
with the replies so far. It does the same each time, since it is a function of its arguments, its seed and these replies.
A run costs microseconds, so that is cheaper than a thread or a process, which would have to wait for each command as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from protocol.databases import client_key
from protocol.resp import Reply
from server.core.base.errors import CommandError
from server.core.base.sinks import Sink
from server.core.commands.databases import inner_arguments
from server.core.commands.registry import find_command
from server.core.commands.scripting.job import Job
from server.core.commands.scripting.permitted import ABOUT_ALL, Permitted
from server.core.commands.transactions.snapshot import Snapshot, encoded
from server.core.scripts.engine import BUDGET, MEMORY, TIME, Limits, Program, Stopped
from server.core.scripts.shebang import Script
from server.core.services.services import Services

_STOPPED: Final = {
    BUDGET: "ERR the script was stopped: it took more than script_instructions_max=%d instructions (each command counts "
    "as 1000)",
    TIME: "ERR the script was stopped: it and its commands took longer than script_instructions_max=%d instructions should",
    MEMORY: "ERR the script was stopped: it needed more than script_memory_bytes_max=%d bytes",
}
_KEPT_NOTHING: Final = ". Nothing that it wrote was kept"


class Outside(Exception):
    """A script on a snapshot has called a command that is about all keys."""


class NextCommand(Exception):
    """A script that runs command by command needs the reply of its next command, which is one of that database."""

    def __init__(self, args: list[bytes], resp3: bool, database: int) -> None:
        super().__init__()
        self.args_of_command = args
        self.resp3 = resp3
        self.database = database


class ScriptSink(Sink):
    """The sink of a job, and of its commands, which run with the protocol that the script has chosen."""

    def __init__(self, sink: Sink, database: int) -> None:
        super().__init__(sink)
        self.denies_blocking, self.database = True, database
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
        self._job = job
        self._resp3 = sink.resp3
        self._selected = Sink(sink)  # its database is the one that the script has selected
        self._body = script.body
        self._permitted = Permitted(services, job.user, job.read_only or not script.writes())
        config = services.state.config
        self._limits = Limits(
            config.script_instructions_max,
            config.script_instructions_max,
            job.seed,
            services.scripts.log,
            self._permitted.may_run,
        )

    def on_snapshot(self, snapshot: Snapshot, like: Sink) -> bytes:
        """Runs it on a snapshot; the reply. Raises KeysMissing, Outside and CommandError: then nothing of it may be kept.
        `like` is the sink that the snapshot's commands get their settings from."""

        def call(args: list[bytes], resp3: bool) -> bytes:
            answer = self._answer(args)
            if answer is not None:
                return answer
            spec = find_command(args)
            if spec is not None and spec.name in ABOUT_ALL:
                raise Outside
            like.resp3, like.database = resp3, self._selected.database
            return encoded(snapshot.run(self._inner(args)))

        return self._run(call, _KEPT_NOTHING)

    def on_replies(self, replies: list[bytes]) -> bytes:
        """Runs it with the replies of its first commands; its own reply. Raises NextCommand and CommandError."""
        place = 0

        def call(args: list[bytes], resp3: bool) -> bytes:
            nonlocal place
            answer = self._answer(args)
            if answer is not None:
                return answer
            if place == len(replies):
                raise NextCommand(self._inner(args), resp3, self._selected.database)
            place += 1
            return replies[place - 1]

        return self._run(call, "" if replies else _KEPT_NOTHING)

    def _answer(self, args: list[bytes]) -> bytes | None:
        """The reply to a command that is refused, or that is about the script itself; None to others."""
        refusal = self._permitted.refusal(args)
        if refusal is not None:
            return refusal
        spec = find_command(args)
        if spec is None or spec.name != "select":
            return None
        try:
            return spec.handler(self._services, self._selected, 0, args)
        except CommandError as error:
            return error.reply

    def _inner(self, args: list[bytes]) -> list[bytes]:
        """A command of the script with inner keys: those of its client's database, or of one that it has selected."""
        spec = find_command(args)
        assert spec is not None, "it is permitted"
        return inner_arguments(self._services.state, spec, args, self._selected.database)

    def _run(self, call: Callable[[list[bytes], bool], bytes], what_is_kept: str) -> bytes:
        job, engine = self._job, self._services.scripts.engine()
        self._selected.database = job.database
        program = Program(job.sha, self._body, job.function)
        keys = [client_key(key) for key in job.keys]
        try:
            return engine.run(program, keys, job.args, call, self._limits, self._resp3)
        except Stopped as stopped:
            raise CommandError(why_stopped(self._services, stopped) + what_is_kept) from None


def why_stopped(services: Services, stopped: Stopped) -> str:
    """The text of an error about a script that was stopped."""
    reason, config = stopped.args[0], services.state.config
    return _STOPPED[reason] % (config.script_memory_bytes_max if reason == MEMORY else config.script_instructions_max)
