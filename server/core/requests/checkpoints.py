"""Writes large records that have many patch rows whole, in slices, while their clients go on writing.

Theory: records/patch_rows.py. Each node does this for its own store. A record is taken as it is stored before a turn, and
staged like any large value (shell/staging.py), a chunk in each pass of the loop. The turn in which that ends puts it into
its batch, in place of the base and of the rows that it has. Rows that were written meanwhile stay behind it.
"""

from __future__ import annotations

from server.core.base.state import State
from server.core.records.patch_rows import Checkpoint
from server.core.requests.writes import Writes
from server.core.work.background import Background
from server.core.work.procedures import Steps

_PAUSE_MS = 1


class Checkpoints:
    """The checkpoints of one node."""

    def __init__(self, state: State, background: Background, writes: Writes) -> None:
        self._state = state
        self._background = background
        self._writes = writes
        self._is_running = False
        self.made = 0
        state.records.folded.large_bytes = state.staged_bytes_min

    def tick(self) -> None:
        """Begins if there is something to do."""
        if self._state.records.folded.overdue and not self._is_running:
            self._is_running = True
            self._background.run("checkpoints", self._steps(), self._failed)

    def _failed(self) -> None:
        """A record was damaged. It is mended elsewhere, and that writes it whole."""
        self._is_running = False

    def _steps(self) -> Steps:
        state, timers = self._state, self._background.timers
        while (checkpoint := state.records.folded.next_overdue()) is not None:
            if not self._take(checkpoint):
                state.records.folded.overdue[checkpoint.key] = None
                yield timers.pause_for_turn(state.now_ms + _PAUSE_MS)
                continue
            for _ in self._writes.stage([checkpoint.record]):
                yield timers.pause_for_turn(state.now_ms + _PAUSE_MS)
            state.records.folded.checkpoints.append(checkpoint)
            self.made += 1
            yield timers.pause_for_turn(state.now_ms + _PAUSE_MS)
        self._is_running = False
        return None

    def _take(self, checkpoint: Checkpoint) -> bool:
        """Whether what this node has of the record is what the store has: this turn has not changed it."""
        records, key = self._state.records, checkpoint.key
        if key in records.writes or key in records.deferred.uncommitted or key in records.pending.by_key:
            return False
        record = records.get(key)
        if record is None:
            return False
        checkpoint.record = record
        return True
