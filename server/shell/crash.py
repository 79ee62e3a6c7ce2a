"""Ends the process after an unexpected exception, and says which exceptions are expected.

Theory. The core contains the exceptions that it can contain, and raises all others (core/base/unexpected.py). These reach
the exception handler of the event loop. If the process went on, it would limp: the callback that has raised would not set
its timer again, so the node would tick no more, and would still answer clients. So every exception that reaches the handler
ends the process with `EXIT_STATUS`, and the service manager starts it again. asyncio keeps the exception of a task until
some code asks for it; `watch_task` passes it to the handler at once.

Two kinds of OSError are expected:
- A socket breaks. uvloop reports the error to the handler and closes the transport. Such an error has no frame of our
  code in its traceback.
- A check of the disk or of this process fails for a while (statvfs of an unmounted directory, EMFILE on /proc).
  `Housekeeping` skips that work, counts the error and logs it once, and the node goes on to tick.

A watchdog inside the process was considered and rejected. It would have to distinguish a node that does not tick from
one that was stopped by SIGSTOP or by a sleeping machine, and it would itself depend on a timer or a thread of the same
process. As every exception ends the process, the only fault left for it to find is an endless loop. The other nodes see
that as silence, and the watchdog of a service manager can end it. A test injects exceptions everywhere and finds no node
that serves and does not tick (tests/shell/test_crash.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from server.core.base.statistics import Statistics
from server.core.base.unexpected import Incident, Unexpected

log = logging.getLogger("dyn")
EXIT_STATUS = 70  # EX_SOFTWARE of sysexits.h: an internal error. (1: the disk has failed; 2: a wrong option)
LOG_INTERVAL_S = 10.0  # from one traceback of a place to the next one of the same place


def is_fatal(error: object) -> bool:
    """Whether an error that the event loop reports ends the process: every one does, except an error of a socket."""
    return isinstance(error, Exception) and (not isinstance(error, OSError) or _is_ours(error))


def _is_ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("server."):
            return True
        trace = trace.tb_next
    return False


def watch_task(task: asyncio.Task[Any]) -> None:
    """A callback for `add_done_callback`: passes the exception that ended the task to the loop's handler."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"task {task.get_name()} has failed", "exception": error}
        task.get_loop().call_exception_handler(context)


class IncidentLog:
    """Logs the exceptions that the core has contained, with tracebacks; each place at most once in `LOG_INTERVAL_S`."""

    def __init__(self, unexpected: Unexpected, now_s: Callable[[], float]) -> None:
        self._unexpected = unexpected
        self._now_s = now_s
        self._logged_s: dict[str, float] = {}  # by the incident's word: when it was logged

    def write(self) -> None:
        """Logs the incidents since the last call."""
        for incident in self._unexpected.drain_incidents():
            self._write_one(incident)

    def _write_one(self, incident: Incident) -> None:
        now_s = self._now_s()
        if now_s - self._logged_s.get(incident.word, -LOG_INTERVAL_S) < LOG_INTERVAL_S:
            return
        if len(self._logged_s) >= 1000:
            self._logged_s.clear()
        self._logged_s[incident.word] = now_s
        log.error("internal error %s in %s", incident.word, incident.doing, exc_info=incident.error)


class Housekeeping:
    """Runs work that may fail with an OSError."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._logged: dict[str, str] = {}  # by name of the work: the error that has been logged

    def do(self, name: str, work: Callable[[], None]) -> None:
        """Runs `work`. Logs its OSError, and once more when it succeeds again."""
        try:
            work()
        except OSError as error:
            self._statistics.housekeeping_errors += 1
            if self._logged.get(name) != str(error):
                log.warning("cannot %s, and go on without: %s", name, error)
            self._logged[name] = str(error)
            return
        if self._logged.pop(name, None) is not None:
            log.info("can %s again", name)
