"""SIGINT, SIGTERM and SIGHUP as a flag that the command checks, instead of an exception at any point.

A command that starts processes must never lose track of them. An exception out of a signal handler could come between the
start of a process and the line that notes it. So the handlers only set a flag, and the command checks it at its own
steps. A descriptor that becomes readable with the first signal ends its waits at once.
"""

from __future__ import annotations

import os
import signal
from types import FrameType, TracebackType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopSignals:
    """A context in which `requested` says whether a signal to stop has come. For the main thread only."""

    def __init__(self) -> None:
        self.requested = False
        self.descriptor, self._write_descriptor = os.pipe()

    def __enter__(self) -> StopSignals:
        os.set_blocking(self._write_descriptor, False)
        self._wakeup_before = signal.set_wakeup_fd(self._write_descriptor, warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        os.close(self.descriptor)
        os.close(self._write_descriptor)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
