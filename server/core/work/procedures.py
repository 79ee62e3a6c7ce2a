"""Commands of several steps: a generator that yields each step and is resumed with its result.

Theory. The hot commands are single steps with a row in one table. The rest (SET NX, DEL, SCAN, KEYS, FLUSHALL, …) read
first and decide afterwards; written as generators they stay straight code, while the node remains free of await: a step
is a plain function that starts something and names this procedure as its sink. An error among the results is the
command's answer, and ends the procedure.

What a step raises and nobody expected is the answer to the client's command, as long as that step has stored nothing; in
background work, which has no client, it ends the node (base/unexpected.py). Steps before it are over and done: what they
have stored stands, so the answer to a later step says that something may have been written.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.base.unexpected import Fatal
from server.core.records.versions import DamagedRecord

Step = Callable[["Procedure"], None]  # starts something that will call resume (or answer) once
Steps = Generator[Step, Any, bytes | None]  # returns the reply, or None if a last step answers the asker by itself


class Procedure:
    """One run of a generator for an asker. `name` says what it is, to logs and to fault injection."""

    def __init__(
        self,
        state: State,
        name: str,
        steps: Steps,
        sink: Sink,
        number: int,
        refusal: Callable[[], ErrorReply | None] = lambda: None,
        in_background: bool = False,
    ) -> None:
        self.resp3 = sink.resp3
        self.relayed = sink.relayed
        self.read_quorum = sink.read_quorum
        self.write_quorum = sink.write_quorum
        self._state = state
        self._name = name
        self._steps = steps
        self._sink = sink
        self._number = number
        self._refusal = refusal  # why the command must not go on, asked before each step
        self._in_background = in_background
        self._running = False
        self._results: list[Any] = []
        self._returned: bytes | None = None
        self._outcome = "unwritten"  # what is known of the command's writes, should the next step fail

    def start(self) -> None:
        """Runs up to the first step that has to wait."""
        self.resume(None)

    def answer(self, number: int, reply: Reply) -> None:
        """A step that is a request of its own has its reply; an empty one stands for nothing."""
        self.resume(reply or None)

    def resume(self, result: object) -> None:
        """The result of the step that was yielded last. Steps that finish at once do not deepen the stack."""
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
            self._steps.close()
            self._sink.answer(self._number, result)
            return
        changes = self._state.records.changes
        reply: bytes | None
        try:
            if self._step(result):
                self._outcome = "maybe-written"
                return
            reply = self._returned
        except CommandError as error:
            reply = error.reply
        except DamagedRecord as error:
            reply = ErrorReply.of(f"ERR {error}")
        except Exception as error:  # noqa: BLE001
            reply = self._unexpected(error, changes)
        self._steps.close()
        if reply is not None:
            self._sink.answer(self._number, reply)

    def _step(self, result: object) -> bool:
        """Begins the next step; False if the procedure has come to its end, and `_returned` is its reply."""
        step: Step | None = None
        try:
            step = self._steps.send(result)
        except StopIteration as stop:
            self._returned = stop.value
        if self._state.unexpected.planted:
            self._state.unexpected.pass_by(f"procedure {self._name}")
        if step is None:
            return False
        step(self)
        return True

    def _unexpected(self, error: Exception, changes: int) -> ErrorReply:
        """The answer to a client's command that failed here. Raises Fatal for background work."""
        if self._in_background:
            raise Fatal(f"procedure {self._name} has failed: {error!r}") from error
        return self._state.unexpected.contain(error, changes, self._name, self._outcome)
