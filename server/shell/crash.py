"""How this process ends when something happens that no code expected, and what is no reason to end it (DESIGN §13).

Theory. The core contains what it can contain, and raises everything else (core/base/unexpected.py). Here is the one place
where that arrives: the handler of the event loop. A callback that raises is not called again, so a timer that raises once
would never tick again, while the node went on to answer. Hence every exception that reaches the handler ends the process,
with `STATUS`; the service manager starts it again. What does not reach the handler by itself is an exception of a task,
which asyncio keeps until somebody asks for it: `watch_task` hands it over at once.

Two kinds of OSError are expected. Sockets break: uvloop reports that to the handler, and the transport is closed; such an
error has no frame of ours in its traceback. And looking at the disk and at this process may fail for a while (statvfs of an
unmounted directory, EMFILE on /proc): `Housekeeping` skips that work, counts it and logs it once, and the node ticks on.

A watchdog inside the process was considered and rejected. It would have to tell a node that does not tick from one that
was stopped by SIGSTOP or by a sleeping machine, and whatever it checks would itself depend on a timer or a thread of the
same process. With every exception leading here, nothing is left for it to find but an endless loop, which the other nodes
see as silence and which a service manager's own watchdog can end. That no injected exception leaves a node that serves and
does not tick is a test (tests/shell/test_crash.py).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from server.core.base.statistics import Statistics
from server.core.base.unexpected import Incident, Unexpected

log = logging.getLogger("dyn")
STATUS = 70  # EX_SOFTWARE of sysexits.h: an internal error, as opposed to a disk (1) or an option (2) that is to blame
AGAIN_S = 10.0  # between two tracebacks of the same place in the log


def is_fatal(error: object) -> bool:
    """Whether what the event loop reports ends the process: not an error of a socket."""
    return isinstance(error, Exception) and (not isinstance(error, OSError) or _is_ours(error))


def _is_ours(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None:
        if str(trace.tb_frame.f_globals.get("__name__", "")).startswith("server."):
            return True
        trace = trace.tb_next
    return False


def watch_task(task: asyncio.Task[Any]) -> None:
    """For `add_done_callback`: an exception that ended the task goes to the loop's handler now."""
    if not task.cancelled() and (error := task.exception()) is not None:
        context = {"message": f"task {task.get_name()} has failed", "exception": error}
        task.get_loop().call_exception_handler(context)


class IncidentLog:
    """Logs the exceptions that the core has contained: each place with its traceback, but not again and again."""

    def __init__(self, unexpected: Unexpected, now_s: Callable[[], float]) -> None:
        self._unexpected = unexpected
        self._now_s = now_s
        self._logged_s: dict[str, float] = {}  # by word

    def write(self) -> None:
        """Logs what has been contained since the last call."""
        for incident in self._unexpected.drain_incidents():
            self._write_one(incident)

    def _write_one(self, incident: Incident) -> None:
        now_s = self._now_s()
        if now_s - self._logged_s.get(incident.word, -AGAIN_S) < AGAIN_S:
            return
        if len(self._logged_s) >= 1000:
            self._logged_s.clear()
        self._logged_s[incident.word] = now_s
        log.error("internal error %s in %s", incident.word, incident.doing, exc_info=incident.error)


class Housekeeping:
    """Does work of which an OSError is expected."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._troubles: dict[str, str] = {}  # by work: what has been logged

    def do(self, name: str, work: Callable[[], None]) -> None:
        """Does `work`, or says once why that is not possible."""
        try:
            work()
        except OSError as error:
            self._statistics.housekeeping_errors += 1
            if self._troubles.get(name) != str(error):
                log.warning("cannot %s, and go on without: %s", name, error)
            self._troubles[name] = str(error)
            return
        if self._troubles.pop(name, None) is not None:
            log.info("can %s again", name)
