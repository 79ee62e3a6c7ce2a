"""Threads that run scripts (core/scripts/workers.py says what for).

Theory. The interpreter of Python is free while Lua computes (lupa), so a script in a thread and the event loop run side by
side on two cores. The script needs Python for its commands and for a look at `_is_stopped` each few milliseconds of
processor time (lua/sandbox.lua), and waits for it as any thread does. Nothing of the node is touched here: what the script
asks for is posted to the event loop, and the thread sleeps until the answer comes.

A run that was stopped may still compute for some milliseconds, or for longer within one function in C. It posts nothing any
more, and the next run of the thread waits for its end.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from queue import SimpleQueue

from server.core.scripts.engine import HOST, Limits, Stopped
from server.core.scripts.workers import CALL, LOG, MAY_RUN, Ask, End, Event, Task
from server.scripting.runtime import Runtime

Post = Callable[[Callable[[], None]], None]  # makes a call within a turn of the node; from any thread


class ScriptThread:
    """A worker: one thread, which begins with its first run. `post` is called by the thread."""

    def __init__(self, make_runtime: Callable[[Callable[[], float]], Runtime], post: Post) -> None:
        """`make_runtime` makes the interpreter, with this clock."""
        self._make_runtime = make_runtime
        self._post = post
        self._thread: threading.Thread | None = None
        self._runs: SimpleQueue[_Run | None] = SimpleQueue()
        self._present: _Run | None = None  # the one that the thread works on
        self._last: _Run | None = None

    def begin(self, task: Task, tell: Callable[[Event], None]) -> _Run:
        """Begins a run, once the one before it has ended."""
        self._last = run = _Run(task, tell, self._post)
        self._runs.put(run)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="script", daemon=True)
            self._thread.start()
        return run

    def close(self, wait_s: float) -> None:
        """Ends the thread, and waits for it for so long."""
        if self._last is not None:
            self._last.stop()
        self._runs.put(None)
        if self._thread is not None:
            self._thread.join(wait_s)

    def _clock(self) -> float:
        """What the interpreter sees as a clock: infinity once its run is to end."""
        return math.inf if self._present is None or self._present.is_stopped else 0.0

    def _work(self) -> None:
        runtime: Runtime | None = None
        while (run := self._runs.get()) is not None:
            self._present = run
            if not run.is_stopped:
                try:
                    runtime = runtime or self._make_runtime(self._clock)
                    end = run.result(runtime)
                except BaseException as failure:  # noqa: BLE001 - it is raised in the event loop
                    end = End(b"", failure=failure)
                run.post(end)
            self._present = None


class _Run:
    """One run. `answer` and `stop` are called by the event loop, all else by the thread."""

    def __init__(self, task: Task, tell: Callable[[Event], None], post: Post) -> None:
        self._task = task
        self._tell = tell
        self._post = post
        self._answers: SimpleQueue[bytes | bool | None] = SimpleQueue()
        self.is_stopped = False

    def answer(self, answer: bytes | bool | None) -> None:
        """Answers the last Ask."""
        self._answers.put(answer)

    def stop(self) -> None:
        """Ends the run soon."""
        self.is_stopped = True
        self._answers.put(None)

    def post(self, event: Event) -> None:
        """Tells the core, unless it has stopped the run."""
        if not self.is_stopped:
            self._post(lambda: self._tell_unless_stopped(event))

    def _tell_unless_stopped(self, event: Event) -> None:
        if not self.is_stopped:
            self._tell(event)

    def _ask(self, ask: Ask) -> bytes | bool | None:
        self.post(ask)
        return None if self.is_stopped else self._answers.get()

    def _call(self, words: list[bytes], resp3: bool) -> bytes:
        answer = self._ask(Ask(CALL, words, 3 if resp3 else 2))
        if self.is_stopped or not isinstance(answer, bytes):
            raise Stopped(HOST)
        return answer

    def _may_run(self, words: list[bytes]) -> bool | None:
        answer = self._ask(Ask(MAY_RUN, words, 0))
        return answer if isinstance(answer, bool) else None

    def _log(self, level: int, text: bytes) -> None:
        self._ask(Ask(LOG, [text], level))

    def result(self, runtime: Runtime) -> End:
        """Runs the script."""
        program, keys, args, seed, resp3, whole_max = self._task
        limits = Limits(math.inf, whole_max, seed, self._log, self._may_run, in_worker=True)
        try:
            return End(runtime.run(program, keys, args, self._call, limits, resp3))
        except Stopped as stopped:
            return End(b"", stopped.args[0])
