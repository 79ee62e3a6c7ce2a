"""Commands of a client that begin when their large values are staged: a chunk in each pass of the loop (staging.py).

Many clients may stage values at a time. So none of them writes a chunk, or begins its commands, in a pass that has taken
long already, or just after a large turn (context.py): what is ready otherwise comes first.

The loop's handle of the next call is not kept: it refers to the call, and so to this object. In such a cycle the values of
commands that have long ended waited for the next collection of garbage, which a node of few large values may not see for
hours: 12 of 24 values of 16 MiB were still there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from server.shell.context import Context, must_wait

_DONE: Final = object()


class StagedCommands:
    """Stages the values of a client's commands, and then calls `begin`."""

    def __init__(self, context: Context, values: Sequence[bytes], begin: Callable[[], None]) -> None:
        self.size_bytes = sum(map(len, values))
        self._context = context
        self._work = context.staging.slices(values)
        self._begin = begin
        self._put_off = 0  # for so many passes it has waited
        self._is_cancelled = False
        context.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        loop, staging = self._context.loop, self._context.staging
        if self._is_cancelled:
            return
        if must_wait(self._context, self._put_off):
            self._put_off += 1
            loop.call_soon(self._go_on)
            return
        self._put_off = 0
        if next(self._work, _DONE) is _DONE:
            self._begin()
        elif staging.pause_s:
            loop.call_later(staging.pause_s, self._go_on)
        else:
            loop.call_soon(self._go_on)

    def cancel(self) -> None:
        """The commands will not begin."""
        self._is_cancelled = True
        self._work.close()
