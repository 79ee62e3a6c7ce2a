"""Checkpoints: each rewrites a large record as one whole record, in slices, while clients go on changing it.

The store has such a record as a *base* and many *patch rows*, the changes since then (records/patch_rows.py has the
theory). Each node does this for its own store. A checkpoint reads a record from the store, and stages it like any large
value (shell/staging.py): one chunk in each pass of the loop. The batch of the turn that stages the last chunk replaces
the base and the rows that were read. Rows that were written after the read stay: they apply to the new base.
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
        """Starts the procedure, if a record waits for its checkpoint and the procedure does not run already."""
        if self._state.records.folded.overdue and not self._is_running:
            self._is_running = True
            self._background.run("checkpoints", self._steps(), self._failed)

    def _failed(self) -> None:
        """Notes that the procedure has ended with an error, because a record is damaged. Mending (repair/mending.py) writes
        that record whole."""
        self._is_running = False

    def _steps(self) -> Steps:
        state, timers = self._state, self._background.timers
        while (checkpoint := state.records.folded.next_overdue()) is not None:
            if not self._read_record(checkpoint):
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

    def _read_record(self, checkpoint: Checkpoint) -> bool:
        """Reads the stored record into `checkpoint.record`. Returns False if this turn has changed the record, or if there
        is none."""
        records, key = self._state.records, checkpoint.key
        if key in records.writes or key in records.deferred.uncommitted or key in records.pending.by_key:
            return False
        record = records.get(key)
        if record is None:
            return False
        checkpoint.record = record
        return True
