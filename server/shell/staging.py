"""Stages large values: writes them to the store in chunks, one in each pass of the loop, before they are handled.

Theory: storage/chunked.py. Whoever brings a large value runs `slices` to the end, and then handles it at once, which ends
the turn. The commit of that turn adopts what it can of the staged values, and `end_turn` discards the rest. If one does not
come so far (its connection has ended), it closes the generator, which discards what it has written.

Chunks come faster than RocksDB flushes them, if the disk or the CPU is busy. RocksDB then delays writes, and the whole
node with them (40 memtables of 2 MiB are soon full; without chunks each was as large as its value). So while the store is
congested, no chunk is written. That is for `PAUSES_MAX` looks at most, for all values that come together: a store that
cannot flush refuses writes in the end, and that has to be told. A relay waits for half of the time after which it is stale:
then it would be refused, and its values staged anew by the next owner.

If the store refuses a chunk, or to be marked, the value is handled without. Its commit meets the same refusal, and knows
what to do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from server.core.formats.pausing import Slices
from server.storage.chunked import ChunkedEngine, StagedValue
from server.storage.engine import Engine, StorageError

PAUSE_S: Final = 0.005
PAUSES_MAX: Final = 400


class ValueStaging:
    """Stages the values of one node. Without an engine that takes chunks it does nothing."""

    def __init__(self, engine: Engine | None = None) -> None:
        self._engine = engine if isinstance(engine, ChunkedEngine) else None
        self._handled: list[StagedValue] = []  # by this turn
        self.pause_s = 0.0  # until the work that has just paused is to go on

    @property
    def is_possible(self) -> bool:
        """Whether there is anything to stage with."""
        return self._engine is not None

    def slices(
        self, values: Sequence[bytes], before: Slices[None] | None = None, pauses_max: int = PAUSES_MAX
    ) -> Slices[None]:
        """Does the work `before`, if any, then stages values; pauses after each chunk. The caller handles them at once."""
        if before is not None:
            yield from before
        begun: list[StagedValue] = []
        try:
            for value in values:
                pauses_max = yield from self._stage(value, begun, pauses_max)
            self._handled += begun
            begun = []
        finally:
            self.pause_s = 0.0
            for staged in begun:
                self._discard(staged)

    def _stage(self, value: bytes, begun: list[StagedValue], left: int) -> Slices[int]:
        """Stages a value, with `left` pauses for the store at most. Returns how many are left."""
        engine, staged = self._engine, None
        if engine is None:
            return left
        try:
            staged = engine.begin(value)
            if staged is None:
                return left
            begun.append(staged)
            left = yield from self._wait(engine, left)
            while not engine.write_chunk(staged):
                yield
                left = yield from self._wait(engine, left)
        except StorageError:
            if staged is not None:
                begun.remove(staged)
                engine.discard(staged)
        return left

    def _wait(self, engine: ChunkedEngine, left: int) -> Slices[int]:
        """Pauses while the store is congested, `left` times at most. Returns how many times are left."""
        while left and engine.is_congested():
            left -= 1
            self.pause_s = PAUSE_S
            yield
        self.pause_s = 0.0
        return left

    def _discard(self, staged: StagedValue) -> None:
        if self._engine is not None:
            self._engine.discard(staged)

    def end_turn(self) -> None:
        """The turn is committed."""
        if self._handled:
            for staged in self._handled:
                self._discard(staged)
            self._handled.clear()
