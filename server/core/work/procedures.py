"""Procedures: commands and background work of several steps, as generators that yield steps and get their results.

Theory. The hot commands are single steps with a row in one table. The others (SET NX, DEL, SCAN, KEYS, FLUSHALL, …)
read first and decide afterwards. As generators they remain straight code, and the node needs no `await`: a step is a
plain function that starts something and gives this procedure as its sink. If the result of a step is an error, it
becomes the reply of the command, and the procedure ends.

What happens to an exception in a step:

    exception                       a client's command                          background work
    CommandError, DamagedRecord     is the reply                                ends the procedure (background.py)
    another, nothing was stored     the reply is ERR internal error             ends the node
    in this step
    another, something was stored   ends the node (base/unexpected.py)          ends the node
    in this step

What earlier steps have stored stays. So the error of a later step says that something may have been written.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply, read_failed
from server.core.base.poison import poison_of_procedure
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.base.unexpected import Fatal
from server.core.records.versions import DamagedRecord

Step = Callable[["Procedure"], None]  # starts something that will call `resume` or `answer` once
Steps = Generator[Step, Any, Reply | None]  # returns the reply; None: there is none, or the last step has sent it


class Procedure(Sink):
    """One run of a generator of steps. Its reply goes to `sink`. Logs and fault injection use `name`."""

    def __init__(
        self,
        state: State,
        name: str,
        steps: Steps,
        sink: Sink,
        number: int,
        refusal: Callable[[], ErrorReply | None] = lambda: None,
        in_background: bool = False,
        is_counted: bool = True,
    ) -> None:
        """`is_counted`: a node that stops or leaves waits for its end (membership/shutdown.py). Background work is not."""
        super().__init__(sink)
        self._state = state
        self._name = name
        self._steps = steps
        self._sink = sink
        self._number = number
        self._refusal = refusal  # called before each step; an error that it returns ends the procedure
        self._in_background = in_background
        self._is_counted = is_counted and not in_background
        self._running = False
        self._is_suspended = True  # the generator waits for a result; it has neither ended nor raised
        self._results: list[Any] = []
        self._returned: Reply | None = None
        self._outcome = "unwritten"  # the outcome for the error reply if the next step fails

    def start(self) -> None:
        """Runs the generator up to the first step that has to wait."""
        self._state.procedures += self._is_counted
        self.resume(None)

    def answer(self, number: int, reply: Reply) -> None:
        """Resumes with the reply of a step that is a request of its own. An empty reply stands for None."""
        self.resume(reply or None)

    def command(self, number: int) -> list[bytes] | None:
        """Returns the arguments of the command that this procedure runs for."""
        return self._sink.command(self._number)

    def resume(self, result: object) -> None:
        """Resumes with the result of the last step. A step may call this at once; that does not deepen the stack."""
        self._results.append(result)
        if self._running:
            return
        self._running = True
        try:
            while self._results:
                self._advance(self._results.pop())
        finally:
            self._running = False

    def _advance(self, result: object) -> None:
        refusal = self._refusal()
        if refusal is not None:
            result = refusal
        if isinstance(result, ErrorReply):
            self._close()
            self._sink.answer(self._number, self._told(result))
            return
        changes = self._state.records.changes
        reply: Reply | None
        try:
            if self._step(result):
                self._outcome = "maybe-written"
                return
            reply = self._returned
        except CommandError as error:
            reply = self._told(error.reply)
        except DamagedRecord as damage:
            reply = ErrorReply.of(f"ERR {damage}")
        except Exception as fault:  # noqa: BLE001
            reply = self._unexpected(fault, changes)
        self._close()
        if reply is not None:
            self._sink.answer(self._number, reply)

    def _told(self, error: ErrorReply) -> ErrorReply:
        """The error of a step, in terms of the command."""
        return read_failed(error, self.command(0))

    def _step(self, result: object) -> bool:
        """Begins the next step. Returns False if the generator has ended; then its reply is in `_returned`."""
        step: Step | None = None
        self._is_suspended = False
        try:
            step = self._steps.send(result)
            self._is_suspended = True
        except StopIteration as stop:
            self._returned = stop.value
        if self._state.unexpected.planted:
            self._state.unexpected.pass_by(f"procedure {self._name}")
        if step is None:
            return False
        step(self)
        return True

    def _close(self) -> None:
        """Ends the generator, unless it has ended. A compiled generator that has ended cannot be closed (mypyc)."""
        self._state.procedures -= self._is_counted
        self._is_counted = False
        if self._is_suspended:
            self._is_suspended = False
            self._steps.close()

    def _unexpected(self, error: Exception, changes: int) -> ErrorReply:
        """Returns the reply for an unexpected exception. Raises Fatal for background work."""
        if self._in_background:
            raise Fatal(f"procedure {self._name} has failed: {error!r}", poison_of_procedure(self._name)) from error
        return self._state.unexpected.contain(error, changes, self._name, self._outcome, self._sink, self._number)
