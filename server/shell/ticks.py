"""The timer that ticks the node, and the checks of the shell: some with each tick, others once a second."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

from server.shell.clients import Clients
from server.shell.cluster_events import ClusterEvents
from server.shell.context import Context
from server.shell.crash import Housekeeping, IncidentLog
from server.shell.disk import DiskWatch
from server.shell.exposure import Exposure
from server.shell.facts import Collections, LoopLag, Rates, process_facts
from server.shell.logs import report_left_out
from server.shell.machine import examiner
from server.shell.metric_families import not_ready
from server.shell.reports import Reports
from server.shell.telemetry import telemetry_of

SLEPT_MS_MIN = 1000  # a smaller difference is the time between the readings of the two clocks
POLL_MS = 1000  # from one check of the disk, of reports and of idle clients to the next


class Ticks:
    """Ticks the node, and checks its process and its disk."""

    def __init__(
        self,
        context: Context,
        clients: Clients,
        reports: Reports,
        disk: DiskWatch,
        incidents: IncidentLog,
        directory: Path,
        exposure: Exposure,
        check_secrets: Callable[[], None],
    ) -> None:
        self._context = context
        self._clients = clients
        self._reports = reports
        self._disk = disk
        self._exposure = exposure
        self._incidents = incidents
        self._check_secrets = check_secrets
        self._housekeeping = Housekeeping(context.node.state.statistics)
        self._directory = directory
        self._location = {"dir": str(directory.absolute())}  # its directory and address, for CONFIG GET
        self.telemetry = telemetry_of(context.config, context.node.state, context.services.traces)
        self._lag = LoopLag()
        self._collections = Collections()
        self._events = ClusterEvents(context.services)
        self._rates = Rates(context.node.state.statistics)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_ms = 0  # the deadline that the timer is set for
        self._due_ms = 0  # when it is due: later than a deadline that had passed already
        self._ticked_ms = 0
        self._looked_ms = -POLL_MS
        self._asleep_ms = 0  # how long the machine has been suspended since its boot

    def begin(self, host: str, port: int) -> None:
        """Begins to tick the node, which listens at this address."""
        self._location |= {"bind": host, "port": str(port)}
        self._exposure.begin(host, port)
        self._collections.begin()
        self._context.services.process.examine = examiner(self._directory, f"{host}:{port}", self._exposure.facts)
        self._tick()

    def _tick(self) -> None:
        context = self._context
        now_ms = context.now_ms()
        self._ticked_ms = now_ms
        behind_ms = int(time.monotonic() * 1000) - now_ms  # the pass began at `now_ms`: both clocks show that time
        context.node.tick(now_ms, time.time_ns() // 1_000_000 - behind_ms, self._slept_ms())
        self._clients.memory.check()
        self._incidents.write()
        self._reports.write_audit()
        if now_ms - self._looked_ms >= POLL_MS:
            self._looked_ms = now_ms
            self._housekeeping.do("look at the disk", self._disk.check)
            self._reports.make(now_ms)
            self._events.tell(now_ms, self._lag.worst_ms)
            process = self._context.services.process
            process.notices = [*self._exposure.notices(), *self._disk.notices()]
            process.urgent = [*self._exposure.urgent(), *self._disk.urgent()]
            report_left_out()
            context.refusals.report()
            self._check_secrets()
            if self.telemetry is not None:
                self.telemetry.export()
            self._clients.close_idle(now_ms)
            self._housekeeping.do("read facts of this process", lambda: self._note_facts(now_ms))
            is_serving = f"serves {len(context.services.clients.sessions)} clients"
            context.service_manager.alive(not_ready(self._clients) or is_serving)
        context.schedule_turn()
        self._set_timer(now_ms)

    def _note_facts(self, now_ms: int) -> None:
        facts = (
            process_facts() | self._location | self._rates.facts(now_ms) | self._disk.facts() | self._exposure.times()
        )
        self._context.services.process.facts = facts | self._lag.facts() | self._collections.facts()

    def _slept_ms(self) -> int:
        """Returns how long the machine was suspended since the last tick: the monotonic clock does not count that time."""
        asleep_ms = (time.clock_gettime_ns(time.CLOCK_BOOTTIME) - time.monotonic_ns()) // 1_000_000
        slept_ms = asleep_ms - self._asleep_ms
        if slept_ms < SLEPT_MS_MIN:
            return 0
        self._asleep_ms = asleep_ms
        return slept_ms

    def _wake(self) -> None:
        """The timer is due: ticks the node, or between two ticks lets background work go on."""
        context = self._context
        self._lag.note(int(time.monotonic() * 1000) - self._due_ms)
        now_ms = context.now_ms()
        if now_ms - self._ticked_ms >= context.config.tick_ms:
            self._tick()
            return
        context.node.wake(now_ms)
        context.schedule_turn()
        self._set_timer(now_ms)

    def follow_timers(self) -> None:
        """HOT. At the end of a turn: sets the timer earlier if a pause that the turn has begun ends before it is due."""
        pause_ms = self._context.services.timers.next_ms()
        if pause_ms is not None and pause_ms < self._timer_ms:
            self._set_timer(self._context.now_ms())

    def _set_timer(self, now_ms: int) -> None:
        deadline_ms = self._context.node.next_deadline_ms()
        assert deadline_ms is not None, "the node has ticked"
        if self._timer is not None:
            self._timer.cancel()
        self._timer_ms = deadline_ms
        self._due_ms = max(deadline_ms, now_ms + 1)
        self._timer = self._context.loop.call_later((self._due_ms - now_ms) / 1000, self._wake)

    def stop(self) -> None:
        """Stops the timer, and exports the last spans."""
        if self._timer is not None:
            self._timer.cancel()
            self._collections.stop()
        if self.telemetry is not None:
            self.telemetry.stop()
