"""Verification: a node reads all its records that a repair task is about from its disk, and reports what was mended (P11).

The problem. Hash trees say what was written, not whether the disk still has it. A repair that only compares trees finds
two owners equal although one of them has lost its copy.

The idea. So a repair begins with this. Each member walks over its part as the scrub does (scrub.py), at a pace of its own
that takes some hundredths of a core, and waits until the damaged records that it found are mended.

    VERIFY epoch run partition …     begins the run unless it is there; answers its progress as JSON

A run is forgotten once `_RUNS_MAX` later ones have begun, so an abandoned one does not stay.
"""

from __future__ import annotations

from typing import Any

from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.messages.record_questions import Verify
from server.core.repair.mending import Mending
from server.core.repair.scrub import Scrub
from server.core.work.background import Background
from server.core.work.procedures import Steps

RUNNING, DONE = "running", "done"
VERIFIED_KEYS = 100  # read in a turn
VERIFIED_MS = 5  # from one of these turns to the next
POLL_MS = 50
PATIENCE_MS = 5000  # if nothing was mended for so long, the owners of the rest are down: the run ends
_RUNS_MAX = 8


class _Run:
    """The counts of one run so far."""

    def __init__(self) -> None:
        self.state = RUNNING
        self.keys = 0
        self.mended = 0
        self.lost = 0

    def document(self, unreadable: int, waiting: int) -> dict[str, Any]:
        """The answer to the task. `unreadable` counts slots, `waiting` damaged records."""
        return {
            "state": self.state,
            "keys": self.keys,
            "mended": self.mended,
            "lost": self.lost,
            "unreadable": unreadable,
            "waiting": waiting,
        }


class Verification:
    """Runs the verifications of this node."""

    def __init__(self, state: State, background: Background, scrub: Scrub, mending: Mending) -> None:
        self._state = state
        self._background = background
        self._scrub = scrub
        self._mending = mending
        self._runs: dict[str, _Run] = {}

    def asked(self, wanted: Verify) -> dict[str, Any] | None:
        """Answers VERIFY: begins the run unless it is there, and returns its progress; None under another epoch."""
        layout = self._state.layout
        if layout is None or wanted.epoch != layout.epoch:
            return None
        run = self._runs.get(wanted.run)
        if run is None:
            if len(self._runs) >= _RUNS_MAX:
                del self._runs[next(iter(self._runs))]
            run = self._runs[wanted.run] = _Run()
            width = SLOTS // layout.partitions
            slots = [partition * width for partition in wanted.partitions if partition < layout.partitions]
            ranges = _joined([(first, first + width) for first in slots])
            self._background.run("verification", self._verify(run, ranges), lambda: self._give_up(run))
        return run.document(len(self._state.records.unreadable), len(self._mending))

    def _give_up(self, run: _Run) -> None:
        """Ends a run that met an expected error. The scrub will read the rest."""
        run.state = DONE

    def _verify(self, run: _Run, ranges: list[tuple[int, int]]) -> Steps:
        """Verifies ranges of slots, then waits until the damaged records are mended."""
        state = self._state
        for first, end in ranges:
            run.keys += yield from self._scrub.walk(first, end, VERIFIED_MS, VERIFIED_KEYS, paced=False)
        waiting, since_ms = len(self._mending), state.now_ms
        while waiting and state.now_ms - since_ms < PATIENCE_MS:
            yield self._background.sleep(POLL_MS)
            if len(self._mending) != waiting:
                waiting, since_ms = len(self._mending), state.now_ms
        for first, end in _joined([(slot, slot + 1) for slot in state.records.unreadable]):
            # Some can be read again, now that all is mended.
            yield from self._scrub.walk(first, end, VERIFIED_MS, VERIFIED_KEYS, paced=False)
        run.mended, run.lost = self._mending.drain_counts()
        run.state = DONE
        return None


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorts ranges and joins adjacent ones."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined
