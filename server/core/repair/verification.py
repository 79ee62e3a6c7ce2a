"""Verification: a node reads all that a repair is about from its disk, and says what it had to mend (P11).

Theory. Hash trees say what was written, and not whether the disk still has it: a repair that only compares trees finds two
owners equal of which one has lost its copy. So a repair begins with this. Each member walks over its part as the scrub does
(scrub.py), at a pace of its own that takes some hundredths of a core, and waits until what was found damaged is mended.

    VERIFY epoch run partition …     begins the run unless it is there; a JSON document: how far it is

A run that nobody asks about any more is forgotten with the oldest.
"""

from __future__ import annotations

import json
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
LOOK_MS = 50
PATIENCE_MS = 5000  # so long nothing was mended: it waits for nodes that are not there
_RUNS_MAX = 8


class _Run:
    """What one run has found so far."""

    def __init__(self) -> None:
        self.state = RUNNING
        self.keys = 0
        self.mended = 0
        self.lost = 0

    def document(self, unreadable: int, waiting: int) -> bytes:
        """What the task gets to know."""
        fields: dict[str, Any] = {
            "state": self.state,
            "keys": self.keys,
            "mended": self.mended,
            "lost": self.lost,
            "unreadable": unreadable,
            "waiting": waiting,
        }
        return json.dumps(fields, separators=(",", ":")).encode()


class Verification:
    """The verifying runs of this node."""

    def __init__(self, state: State, background: Background, scrub: Scrub, mending: Mending) -> None:
        self._state = state
        self._background = background
        self._scrub = scrub
        self._mending = mending
        self._runs: dict[str, _Run] = {}

    def asked(self, wanted: Verify) -> list[bytes]:
        """VERIFY, see above. Nothing is answered under another layout."""
        layout = self._state.layout
        if layout is None or wanted.epoch != layout.epoch:
            return []
        run = self._runs.get(wanted.run)
        if run is None:
            if len(self._runs) >= _RUNS_MAX:
                del self._runs[next(iter(self._runs))]
            run = self._runs[wanted.run] = _Run()
            width = SLOTS // layout.partitions
            slots = [partition * width for partition in wanted.partitions if partition < layout.partitions]
            ranges = _joined([(first, first + width) for first in slots])
            self._background.run("verification", self._verify(run, ranges), lambda: self._give_up(run))
        return [run.document(len(self._state.records.unreadable), len(self._mending))]

    def _give_up(self, run: _Run) -> None:
        """An expected error has ended the run: what it has not read is read by the scrub."""
        run.state = DONE

    def _verify(self, run: _Run, ranges: list[tuple[int, int]]) -> Steps:
        """Reads some ranges of slots."""
        state = self._state
        for first, end in ranges:
            run.keys += yield from self._scrub.walk(first, end, VERIFIED_MS, VERIFIED_KEYS, paced=False)
        waiting, since_ms = len(self._mending), state.now_ms
        while waiting and state.now_ms - since_ms < PATIENCE_MS:
            yield self._background.pause(LOOK_MS)
            if len(self._mending) != waiting:
                waiting, since_ms = len(self._mending), state.now_ms
        for first, end in _joined([(slot, slot + 1) for slot in state.records.unreadable]):
            # Some can be read again, now that all is mended.
            yield from self._scrub.walk(first, end, VERIFIED_MS, VERIFIED_KEYS, paced=False)
        run.mended, run.lost = self._mending.take_counts()
        run.state = DONE
        return None


def _joined(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Ranges in ascending order, adjacent ones as one."""
    joined: list[tuple[int, int]] = []
    for first, end in sorted(ranges):
        if joined and joined[-1][1] == first:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((first, end))
    return joined
