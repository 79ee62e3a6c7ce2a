"""Commands of several steps: a generator that yields each step and is resumed with its result.

Theory. The hot commands are single steps with a row in one table. The rest (SET NX, DEL, SCAN, KEYS, FLUSHALL, …) read
first and decide afterwards; written as generators they stay straight code, while the node remains free of await: a step
is a plain function that starts something and names this procedure as its sink. An error among the results is the
command's answer, and ends the procedure.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from protocol.resp import Reply
from server.core.base.errors import CommandError, ErrorReply
from server.core.base.sinks import Sink
from server.core.records.versions import DamagedRecord

Step = Callable[["Procedure"], None]  # starts something that will call resume (or answer) once
Steps = Generator[Step, Any, bytes | None]  # returns the reply, or None if a last step answers the asker by itself


class Procedure:
    """One run of a generator for an asker."""

    def __init__(
        self, steps: Steps, sink: Sink, number: int, refusal: Callable[[], ErrorReply | None] = lambda: None
    ) -> None:
        self.resp3 = sink.resp3
        self.relayed = sink.relayed
        self.read_quorum = sink.read_quorum
        self.write_quorum = sink.write_quorum
        self._steps = steps
        self._sink = sink
        self._number = number
        self._refusal = refusal  # why the command must not go on, asked before each step
        self._running = False
        self._results: list[Any] = []

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
        try:
            self._steps.send(result)(self)
        except StopIteration as stop:
            if stop.value is not None:
                self._sink.answer(self._number, stop.value)
        except CommandError as error:
            self._steps.close()
            self._sink.answer(self._number, error.reply)
        except DamagedRecord as error:
            self._steps.close()
            self._sink.answer(self._number, ErrorReply.of(f"ERR {error}"))
