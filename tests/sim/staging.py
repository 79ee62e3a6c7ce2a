"""Staging in the simulator: large values of what arrives are written in chunks first (server/shell/staging.py).

Theory. In the shell others are served between two chunks. Nobody sees a staged value before it is adopted, so here all
chunks are written in one step of the simulator. But each is a commit of its own: a power loss may come between any two of
them, and the process may die there. Some values are discarded again, as if their connection had ended.

Chance is drawn from a generator of its own, so that the other parts of a run are the same with staging and without.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from server.core.node import Node
from server.core.records.store import Store
from server.storage.chunked import ID_BYTES, ChunkedEngine, StagedValue
from tests.sim.disk import Disk

if TYPE_CHECKING:
    from tests.sim.host import Host

CHUNK_BYTES = 16
DISCARDED = 0.1
DIES = 0.3  # amid the chunks, if it is to die in this turn


class HostStaging:
    """Stages what one machine receives, from `bytes_min` on (0: nothing)."""

    def __init__(self, disk: Disk) -> None:
        self._disk: Any = disk
        self.bytes_min = 0
        self._engine: ChunkedEngine | None = None
        self._handled: list[StagedValue] = []
        self._ids = 0
        self._rng = random.Random(disk.node)
        self.adopted = self.deaths = 0

    def _next_id(self) -> bytes:
        self._ids += 1
        return self._ids.to_bytes(ID_BYTES, "big")

    def open(self) -> Store:
        """What the process that starts has as its store."""
        self._handled.clear()
        self._engine = None
        if self.bytes_min:
            self._engine = ChunkedEngine(self._disk, ValueError, self._next_id, CHUNK_BYTES)
        store: Store = self._engine or self._disk
        return store

    def set_sizes(self, node: Node) -> None:
        """Tells a node that starts what is large."""
        if self.bytes_min:
            node.state.staged_bytes_min = node.state.records.folded.large_bytes = self.bytes_min

    def stage(self, values: Sequence[bytes], host: Host) -> bool:
        """Stages values before they are handled. False if the process of `host`, this machine, has died meanwhile."""
        engine = self._engine
        for value in values if engine is not None else ():
            assert engine is not None
            staged = engine.begin(value)
            while staged is not None and not engine.write_chunk(staged):
                if host.crash_before and self._rng.random() < DIES:
                    host.trace(f"{host.member.name} dies amid the chunks of a value")
                    self.deaths += 1
                    host.kill()
                    return False
            if staged is None:
                continue
            if self._rng.random() < DISCARDED:
                engine.discard(staged)
            else:
                self._handled.append(staged)
        return True

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """Commits a turn, which adopts what it can of what it has handled."""
        if self._engine is None:
            self._disk.commit(writes)
            return
        self._engine.commit(writes)
        for staged in self._handled:
            self.adopted += staged.is_adopted
            self._engine.discard(staged)
        self._handled.clear()
