"""The workers of a node: which scripts have one, and which wait for one.

Theory. A script that takes longer than a turn may last runs in a worker (core/scripts/workers.py). There are WORKERS_MAX of
them. Scripts that find none free wait in their order. While a script runs, other clients are served; only commands that
decide by what its keys hold wait for it (base/holds.py).

Once a script has run for BUSY_MS, or for a request's timeout if that is less, those that wait for its keys hear BUSY, as
clients of Redis do then. It is ended by SCRIPT KILL or FUNCTION KILL at any time, unless it has written something that
stays, or is being stored; and once it has run for `script_ms_max`. What it waits for commands while it holds no keys does
not count: a script over several slots may have thousands of them, each with a quorum of its own. Time is looked at each
BEAT_MS. Each such beat resumes the steps of the script, too, so that a node that has relayed it hears that it still runs
(requests/relays.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from server.core.base.errors import CommandError, ErrorReply
from server.core.base.state import State
from server.core.messages.script_questions import KILL_OUTCOMES
from server.core.scripts.engine import TIME, Program
from server.core.scripts.workers import End, Event, Task, Worker, WorkerRun
from server.core.work.procedures import Procedure, Step
from server.core.work.timers import Timers

WORKERS_MAX: Final = 2  # threads of a node; more would leave the event loop too little of a small machine
WAITING_MAX: Final = 64  # scripts that wait for a worker
BUSY_MS: Final = 5000  # Redis' busy-reply-threshold
BEAT_MS: Final = 100
INSTRUCTIONS_PER_MS: Final = 50_000
KILLED: Final = "killed"  # why a script was stopped, besides those of engine.py
SHUTDOWN: Final = "shutdown"
_BUSY: Final = "BUSY Redis is busy running a script. You can only call %s KILL or SHUTDOWN NOSAVE."
TOO_MANY: Final = (
    f"BUSY this node runs {WORKERS_MAX} long scripts, and others wait: try it again, or end them by SCRIPT KILL"
)


def busy_reply(is_function: bool) -> ErrorReply:
    """What those hear who are kept from something by a script, or a function, that runs for long."""
    return ErrorReply.of(_BUSY % ("FUNCTION" if is_function else "SCRIPT"))


class LongScript:
    """A script that has a worker or waits for one, until `leave`. `words` are its call, for those who ask what runs.

    It may begin more than once. Then only the last run counts.
    """

    def __init__(self, workers: ScriptWorkers, program: Program, words: list[bytes], now_ms: int) -> None:
        self.program = program
        self.words = words
        self.since_ms = now_ms  # that it waits; once it has a worker, that it runs
        self.is_refused = False  # it has waited too long
        self.waited_ms = 0  # for its commands, while it held no keys: this does not count
        self.has_written = False  # something that stays if the script is stopped
        self.is_over = False  # the last run has ended, and what it wrote to keys of one slot is being stored
        self.held: list[bytes] = []  # storage keys that its step holds
        self._workers = workers
        self._worker: Worker | None = None
        self._run: WorkerRun | None = None
        self._number = 0  # of the run
        self._events: deque[Event] = deque()
        self._procedure: Procedure | None = None  # waits for an event
        self._end: End | None = None  # how the script was stopped

    @property
    def may_end(self) -> bool:
        """Whether nothing stays of what it has written, if it is stopped now."""
        return not (self.has_written or self.is_over)

    @property
    def has_worker(self) -> bool:
        """Whether it has a worker, so that it may begin."""
        return self._worker is not None

    def take_worker(self, worker: Worker, now_ms: int) -> None:
        """It has waited for this worker."""
        self._worker, self.since_ms = worker, now_ms
        self.beat()

    def begin(self, keys: Sequence[bytes], args: Sequence[bytes], seed: int, resp3: bool, whole_max: float) -> None:
        """Begins a run."""
        assert self._worker is not None, "it has one"
        self._halt()
        self.is_over = False
        self._number += 1
        if self._end is not None:
            self._events.append(self._end)
            return
        task = Task(self.program, keys, args, seed, resp3, whole_max)
        self._run = self._worker.begin(task, partial(self._take, self._number))

    def next_event(self) -> Step:
        """A step whose result is the next event of the run; None after a while without one, and when it gets its worker."""

        def start(procedure: Procedure) -> None:
            if self._events:
                procedure.resume(self._events.popleft())
            else:
                self._procedure = procedure

        return start

    def answer(self, answer: bytes | bool | None) -> None:
        """Answers the last Ask of the run."""
        if self._run is not None:
            self._run.answer(answer)

    def stop(self, reason: str) -> None:
        """Ends the script: its next event is that end."""
        self._halt()
        self._end = End(b"", reason)
        self._events.append(self._end)
        self.beat()

    def beat(self) -> None:
        """Resumes the steps of the script, if they wait."""
        procedure, self._procedure = self._procedure, None
        if procedure is not None:
            procedure.resume(self._events.popleft() if self._events else None)

    def leave(self) -> None:
        """It has ended, or does not wait any longer."""
        self._halt()
        worker, self._worker = self._worker, None
        self._workers.left(self, worker)

    def _take(self, number: int, event: Event) -> None:
        if number == self._number and self._run is not None:
            if isinstance(event, End):
                self._run = None
            self._events.append(event)
            self.beat()

    def _halt(self) -> None:
        """Stops the run, if there is one. What it has told is forgotten."""
        if self._run is not None:
            self._run.stop()
            self._run = None
        self._events.clear()


class ScriptWorkers:
    """The workers of a node. The shell sets `make_worker`; without it no script runs for long."""

    def __init__(self, state: State, timers: Timers) -> None:
        self._state = state
        self._timers = timers
        self._free: list[Worker] = []
        self._made = 0
        self._waiting: deque[LongScript] = deque()
        self._is_beating = False
        self.running: list[LongScript] = []
        self.make_worker: Callable[[], Worker] | None = None

    def admit(self, program: Program, words: list[bytes]) -> LongScript:
        """Lets a script wait for a worker; it has one at once if one is free. Raises CommandError if too many wait."""
        if self.make_worker is None:
            raise CommandError("ERR this node runs no long scripts")
        if len(self._waiting) == WAITING_MAX:
            raise CommandError(TOO_MANY)
        script = LongScript(self, program, words, self._state.now_ms)
        self._waiting.append(script)
        if not self._free and self._made < WORKERS_MAX:
            self._made += 1
            self._free.append(self.make_worker())
        self._give()
        if not self._is_beating:
            self._is_beating = True
            self._timers.call_at(self._state.now_ms + BEAT_MS, self._beat)
        return script

    def _give(self) -> None:
        """Gives the free workers to those who wait."""
        while self._free and self._waiting:
            script = self._waiting.popleft()
            self.running.append(script)
            script.take_worker(self._free.pop(), self._state.now_ms)

    def left(self, script: LongScript, worker: Worker | None) -> None:
        """A script has ended, or does not wait any longer."""
        if worker is None:
            self._waiting.remove(script)
        else:
            self.running.remove(script)
            self._free.append(worker)
            self._give()

    def _beat(self) -> None:
        now_ms, config, holds = self._state.now_ms, self._state.config, self._state.holds
        busy_ms = min(BUSY_MS, config.request_timeout_ms)
        for script in list(self._waiting):
            script.is_refused = now_ms - script.since_ms >= config.request_timeout_ms
            script.beat()
        for script in list(self.running):
            if now_ms - script.since_ms >= busy_ms:
                for storage_key in script.held:
                    holds.refuse(storage_key, busy_reply(bool(script.program.function)))
            if now_ms - script.since_ms - script.waited_ms >= config.script_ms_max:
                script.stop(TIME)
            else:
                script.beat()
        self._is_beating = bool(self.running or self._waiting)
        if self._is_beating:
            self._timers.call_at(now_ms + BEAT_MS, self._beat)

    def kill(self, functions: bool) -> bytes:
        """Ends the scripts, or functions, that run here, unless they have written what stays. Returns what has happened:
        one of KILL_OUTCOMES."""
        outcome = b"none"
        for script in list(self.running):
            if bool(script.program.function) != functions:
                found = b"other"
            elif not script.may_end:
                found = b"unkillable"
            else:
                script.stop(KILLED)
                found = b"killed"
            outcome = max(outcome, found, key=KILL_OUTCOMES.index)
        return outcome

    def end_all(self) -> None:
        """The node is about to stop: refuses the scripts that wait, and ends those that run, unless they have written what
        stays."""
        for script in list(self._waiting):
            script.is_refused = True
            script.beat()
        for script in list(self.running):
            if script.may_end:
                script.stop(SHUTDOWN)
