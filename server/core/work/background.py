"""Background work: procedures that no client waits for, and the pacing that puts clients' requests first.

Theory. Repair moves as much data as it is allowed to, and a request that arrives behind a long batch waits for it. So
all background work of a node shares one budget of keys per second, and pays for each small batch before the batch
begins. How many keys that are depends on how long clients wait (pace.py). Unused budget is not saved: a pause in the work
does not lead to a burst later.

No background work ends in silence. An expected error (DamagedRecord, CommandError) ends a procedure. The error is
counted and shown in the status with the procedure's name, and the procedure begins again after a pause. The pause
doubles as long as the error comes again. Any other exception of a procedure ends the node (base/unexpected.py), and so
does the end of a procedure that should run for ever. If a procedure has ended the node more than once, it begins later
after the restart (base/quarantine.py).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from protocol.resp import Reply
from server.core.base.sinks import Sink
from server.core.base.state import State
from server.core.base.unexpected import Fatal
from server.core.work.pace import Pace
from server.core.work.procedures import Procedure, Step, Steps
from server.core.work.timers import Timers

BATCH_KEYS = 16  # background work handles at most so many keys in a turn: a few tenths of a millisecond
QUIET_MS = 1000  # without a command for this time, the node counts as idle
AGAIN_MS, AGAIN_MS_MAX = 1000, 60_000  # the pause before a procedure begins again after an error
FAILING_MS = 120_000  # for this time after an error, a procedure is shown as failing


class ProcedureErrors(NamedTuple):
    """The expected errors of a procedure: how many in all, how many in a row, the last one, and its time."""

    errors: int
    in_a_row: int
    text: str
    last_ms: int


class _ErrorSink(Sink):
    """The sink of a background procedure: receives the error that has ended it."""

    def __init__(self, failed: Callable[[str], None]) -> None:
        super().__init__()
        self._failed = failed

    def answer(self, number: int, reply: Reply) -> None:
        """Reports the error that has ended the procedure. A procedure that ends well answers nothing."""
        assert isinstance(reply, bytes), "a background procedure answers nothing"
        self._failed(reply.decode("utf-8", "replace").strip("-\r\n"))


class Background:
    """Starts background procedures, paces them, and begins them again after errors."""

    def __init__(self, state: State, timers: Timers, pace: Pace) -> None:
        self._state = state
        self.timers = timers
        self._pace = pace
        self._free_ms = 0  # when the budget allows the next work
        self._commands = 0  # the number of commands at the last tick
        self._busy_ms = -QUIET_MS  # when a tick last saw new commands
        self._failures: dict[str, ProcedureErrors] = {}  # by procedure

    def run(self, name: str, steps: Steps, failed: Callable[[], None] = lambda: None) -> None:
        """Begins a procedure once. Calls `failed` if an expected error ends it; the caller begins it again if needed."""

        def note(error: str) -> None:
            self._note_failure(name, error)
            failed()

        Procedure(self._state, name, steps, _ErrorSink(note), 0, in_background=True).start()

    def run_to_end(self, name: str, make: Callable[[], Steps]) -> None:
        """Begins a procedure that `make` returns. After each expected error it makes another one, until one ends well."""
        self._run_again(name, make, self._after_hold(name, make))

    def run_forever(self, name: str, make: Callable[[], Steps]) -> None:
        """The same as `run_to_end` for a procedure that never ends. Its end is a Fatal error."""

        def endless() -> Steps:
            yield from make()
            raise Fatal(f"procedure {name} has ended")

        self.run_to_end(name, endless)

    def _run_again(self, name: str, make: Callable[[], Steps], steps: Steps) -> None:
        self.run(name, steps, lambda: self._run_again(name, make, self._after_pause(name, make)))

    def _after_hold(self, name: str, make: Callable[[], Steps]) -> Steps:
        """Begins later if the procedure has ended this node again and again (base/quarantine.py)."""
        if self._state.quarantine.known:
            yield self.sleep(0)  # until the first tick: before it the clocks have not been read
            hold_ms = self._state.quarantine.hold_ms(name, self._state.wall_ms)
            if hold_ms:
                yield self.sleep(hold_ms)
        yield from make()
        return None

    def _after_pause(self, name: str, make: Callable[[], Steps]) -> Steps:
        yield self.sleep(min(AGAIN_MS << min(self._failures[name].in_a_row - 1, 10), AGAIN_MS_MAX))
        yield from make()
        return None

    def _note_failure(self, name: str, error: str) -> None:
        now_ms = self._state.now_ms
        self._state.statistics.procedure_errors += 1
        before = self._failures.get(name, ProcedureErrors(0, 0, "", now_ms))
        in_a_row = before.in_a_row + 1 if now_ms - before.last_ms < FAILING_MS else 1
        self._failures[name] = ProcedureErrors(before.errors + 1, in_a_row, error, now_ms)

    def failing(self) -> dict[str, dict[str, int | str]]:
        """Returns the procedures with an expected error in the last `FAILING_MS`, for the status."""
        now_ms = self._state.now_ms
        return {
            name: {"errors": failure.errors, "error": failure.text}
            for name, failure in self._failures.items()
            if now_ms - failure.last_ms < FAILING_MS
        }

    def sleep(self, delay_ms: int) -> Step:
        """A step that waits for `delay_ms`."""
        return self.timers.sleep_until(self._state.now_ms + delay_ms)

    @property
    def busy(self) -> bool:
        """Whether clients have been served here within the last `QUIET_MS`."""
        return self._state.now_ms - self._busy_ms < QUIET_MS

    @property
    def delays_clients(self) -> bool:
        """Whether clients of this node wait longer at the moment than they would without background work."""
        return self._pace.delays_clients

    @property
    def keys_per_s(self) -> int:
        """The present pace."""
        return self._pace.keys_per_s

    def spend(self, keys: int, peer_busy: bool = False) -> Generator[Step, Any, None]:
        """Waits until work on `keys` more keys may begin: `yield from background.spend(n)`.

        `peer_busy`: clients of another node that takes part in the work are delayed.
        """
        if peer_busy:
            self._pace.peer_complains()
        now_ms = self._state.now_ms
        start_ms = max(now_ms, self._free_ms)
        self._free_ms = start_ms + max(1, keys * 1000 // self._pace.keys_per_s)
        if start_ms > now_ms:
            self._pace.limits()
            yield self.timers.sleep_until(start_ms)

    def tick(self, now_ms: int) -> None:
        """Notes whether clients have read or written since the last tick, here or through a node that uses this replica.

        Operators' commands do not count: otherwise watching a repair would slow it down.
        """
        statistics = self._state.statistics
        commands = statistics.reads + statistics.writes + statistics.relays
        commands += statistics.reads_answered + statistics.stored
        if commands != self._commands:
            self._commands = commands
            self._busy_ms = now_ms
        self._pace.tick(now_ms, self.busy)
