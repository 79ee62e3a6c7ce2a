"""The threads in which long scripts run (scripting/workers.py), on the event loop.

What a thread tells is handled between two of the loop's inputs, as if a node had sent it, and belongs to the turn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from server.scripting.runtime import Runtime
from server.scripting.workers import ScriptThread
from server.shell.context import Context

_CLOSE_S: Final = 1.0  # that a stopping node waits for a thread; its script was told to end


class ScriptThreads:
    """The threads of a node."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._threads: list[ScriptThread] = []
        context.services.scripts.workers.make_worker = self._make

    def _make(self) -> ScriptThread:
        """Makes a thread, which begins with its first script."""
        bytes_max = self._context.config.script_memory_bytes_max
        thread = ScriptThread(lambda clock: Runtime(bytes_max, clock), self._post)
        self._threads.append(thread)
        return thread

    def _post(self, call: Callable[[], None]) -> None:
        self._context.loop.call_soon_threadsafe(self._call_in_turn, call)

    def _call_in_turn(self, call: Callable[[], None]) -> None:
        context = self._context
        context.node.state.at(context.now_ms())
        call()
        context.schedule_turn()

    def close(self) -> None:
        """Ends the threads."""
        for thread in self._threads:
            thread.close(_CLOSE_S)
