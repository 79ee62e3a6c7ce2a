"""Background work: procedures that no client waits for, and the pace that keeps them behind the clients' requests.

Theory. Repair moves as much data as it may, and a request that arrives behind a long batch waits for it. So all
background work of a node shares one budget of keys a second, spent before the work is done, in small batches: while
clients are served it is `background_keys_per_s`, and when nobody has asked anything for a second it is many times that.
The budget is not saved up: a pause in the work earns no burst later.

No background work ends in silence. An error that is expected (DamagedRecord, CommandError) ends a procedure; it is counted,
shown in the status with the procedure's name, and the procedure begins again after a pause, which doubles while the error
stays. Anything else that a procedure raises ends the node (base/unexpected.py), and so does the end of a procedure that was
to run for ever.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any, NamedTuple

from protocol.resp import Reply
from server.core.base.state import State
from server.core.base.unexpected import Fatal
from server.core.work.procedures import Procedure, Step, Steps
from server.core.work.timers import Timers

BATCH_KEYS = 16  # background work looks at so many keys in a turn, at most: a few tenths of a millisecond
QUIET_MS = 1000  # no command for so long: nobody minds a higher pace
AGAIN_MS, AGAIN_MS_MAX = 1000, 60_000  # before a procedure begins again that has met an error
FAILING_MS = 120_000  # a procedure that has met an error so lately is shown as failing


class Failure(NamedTuple):
    """The expected errors that a procedure has met: how many, in a row, the last one, and when."""

    errors: int
    in_a_row: int
    text: str
    last_ms: int


class _NoAsker:
    """The sink of a background procedure: hears only of the error that has ended it."""

    relayed = False
    resp3 = False
    read_quorum = 0
    write_quorum = 0

    def __init__(self, failed: Callable[[str], None]) -> None:
        self._failed = failed

    def answer(self, number: int, reply: Reply) -> None:
        """The procedure has ended: what it answers is an error, for a procedure that ends well answers nothing."""
        assert isinstance(reply, bytes), "a background procedure answers nothing"
        self._failed(reply.decode("utf-8", "replace").strip("-\r\n"))


class Background:
    """Starts procedures without an asker, paces them, and begins them again."""

    def __init__(self, state: State, timers: Timers) -> None:
        self._state = state
        self.timers = timers
        self._free_ms = 0  # when the budget spent so far is earned
        self._commands = 0
        self._busy_ms = -QUIET_MS
        self._failures: dict[str, Failure] = {}  # by procedure

    def run(self, name: str, steps: Steps, failed: Callable[[], None] = lambda: None) -> None:
        """Begins a procedure that ends. `failed` is called if that is by an expected error: what the procedure was to do
        is for the caller to begin again."""

        def note(error: str) -> None:
            self._note_failure(name, error)
            failed()

        Procedure(self._state, name, steps, _NoAsker(note), 0, in_background=True).start()

    def run_to_end(self, name: str, make: Callable[[], Steps]) -> None:
        """Begins a procedure that `make` makes, and makes another one after each expected error, until one ends well."""
        self._run_again(name, make, make())

    def run_forever(self, name: str, make: Callable[[], Steps]) -> None:
        """As `run_to_end`, for a procedure that never ends."""

        def endless() -> Steps:
            yield from make()
            raise Fatal(f"procedure {name} has ended")

        self.run_to_end(name, endless)

    def _run_again(self, name: str, make: Callable[[], Steps], steps: Steps) -> None:
        self.run(name, steps, lambda: self._run_again(name, make, self._again(name, make)))

    def _again(self, name: str, make: Callable[[], Steps]) -> Steps:
        yield self.pause(min(AGAIN_MS << min(self._failures[name].in_a_row - 1, 10), AGAIN_MS_MAX))
        yield from make()
        return None

    def _note_failure(self, name: str, error: str) -> None:
        now_ms = self._state.now_ms
        self._state.statistics.procedure_errors += 1
        before = self._failures.get(name, Failure(0, 0, "", now_ms))
        in_a_row = before.in_a_row + 1 if now_ms - before.last_ms < FAILING_MS else 1
        self._failures[name] = Failure(before.errors + 1, in_a_row, error, now_ms)

    def failing(self) -> dict[str, dict[str, int | str]]:
        """The procedures that have met an expected error lately, for the status."""
        now_ms = self._state.now_ms
        return {
            name: {"errors": failure.errors, "error": failure.text}
            for name, failure in self._failures.items()
            if now_ms - failure.last_ms < FAILING_MS
        }

    def pause(self, delay_ms: int) -> Step:
        """A step that takes `delay_ms`."""
        return self.timers.pause_until(self._state.now_ms + delay_ms)

    @property
    def busy(self) -> bool:
        """Whether clients are served here at the moment."""
        return self._state.now_ms - self._busy_ms < QUIET_MS

    def spend(self, keys: int, peer_busy: bool = False) -> Generator[Step, Any, None]:
        """Waits until work on `keys` more keys may begin: `yield from background.spend(n)`. `peer_busy` says that
        another node, which works on them too, serves clients."""
        state, config = self._state, self._state.config
        start_ms = max(state.now_ms, self._free_ms)
        rate = config.background_keys_per_s if self.busy or peer_busy else config.background_keys_per_s_idle
        self._free_ms = start_ms + max(1, keys * 1000 // rate)
        if start_ms > state.now_ms:
            yield self.timers.pause_until(start_ms)

    def tick(self, now_ms: int) -> None:
        """Looks whether clients have read or written since the last tick, here or through another node that needs us for
        it. What an operator asks does not count, or watching a repair would slow it down."""
        statistics = self._state.statistics
        commands = statistics.reads + statistics.writes + statistics.relays
        commands += statistics.reads_answered + statistics.stored
        if commands != self._commands:
            self._commands = commands
            self._busy_ms = now_ms
