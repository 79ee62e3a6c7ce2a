"""Room on the disk: measures it, decides what it is enough for, keeps a reserve, and frees space.

Theory. Once a second the free space is compared with two bounds (core/base/room.py): below `disk_free_bytes_min` the node
takes deletions only, below an eighth of that nothing. To leave a level again, it needs a quarter more than the bound: else
each compaction would change the coordinators.

The two bounds keep this node from filling the disk, but other programs may fill it. So a *reserve*, a file of a quarter of
`disk_free_bytes_min`, is allocated while there is plenty of room, and removed when there is none. Its space is enough for
deletions, and for a start of the engine, which writes a little itself. (CockroachDB has such a ballast file, too.)

A deletion frees no space before a compaction merges it with the file that holds the value, and RocksDB does not compact
soon. So while space is short, memtables with deletions are flushed and their key ranges compacted, range by range, in a
thread. Measured: 120 MB of values that are all deleted, half a second to flush and 0.7 s to compact.

A flush needs space before it frees that of the logs, up to 80 MB if all memtables are full. A compaction needs as much
space as its result takes. So below `PLENTY` times the bound:
- memtables are kept small;
- RocksDB starts no compaction by itself that might not fit, unless files pile up;
- this module flushes and compacts once so many keys were deleted since the disk became full that the result will fit: a
  flush leaves out what was deleted in the same memtable, so a full memtable of deleted values needs little.
(Without these rules a disk of 120 MiB with 60 MiB of data had no free space for a moment, and a flush at that moment never
ended. A flush that hangs in this way is cancelled.)

If the engine itself runs out of space, it may refuse writes for good, even when there is space again. Then it is opened
anew. Until then the node serves reads only (`refuses`). shell/process.py begins another run of the node in both cases.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from threading import Event

from server.core.base.config import Config
from server.core.base.room import FOR_DELETIONS, FOR_NOTHING, FOR_WRITES
from server.core.records.records import RECORDS_END, SLOT_PREFIX
from server.storage.chunked import RANGES as CHUNK_RANGES
from server.storage.engine import Engine, StorageError

log = logging.getLogger("dyn")
RESERVE = "reserve"
RESERVE_SHARE = 4  # of disk_free_bytes_min
NOTHING_SHARE = 8
URGENT = 1.5  # times disk_free_bytes_min: with less room the cluster is degraded, as writes will be refused soon
PLENTY = 3  # times disk_free_bytes_min: with so much room a reserve is allocated, with less memtables are kept small
FLUSH_BYTES = 8 << 20  # in memtables, when room is short
LEVEL0_FILES_MAX = 30  # RocksDB slows writes down at 40
STUCK_S = 60.0  # a flush or a step of a compaction that takes longer hangs
CLOSE_S = 3.0
COMPACTING_SHARE = 4  # of the bound for deletions, while a compaction takes room that it gives back
REOPEN_BYTES = 4 << 20  # and what is in the memtables, to open the engine anew
COMPACT_KEYS = 256  # written since the last compaction, before the next one is due at once
COMPACT_INTERVAL_S = 60.0  # and when fewer are worth it
SLOTS_A_STEP = 256
_SAYS = {
    FOR_WRITES: "taking writes again",
    FOR_DELETIONS: "refusing writes, taking deletions",
    FOR_NOTHING: "only reading",
}


class DiskWatch:
    """Watches the free space: calls `changed` with what the disk has room for, and `reopen` to have the engine opened anew.

    `written` counts the keys committed so far, `keys` those that are stored.
    """

    def __init__(
        self,
        engine: Engine,
        config: Config,
        directory: Path,
        loop: asyncio.AbstractEventLoop,
        changed: Callable[[int], None],
        reopen: Callable[[], None],
        written: Callable[[], int],
        keys: Callable[[], int],
        refuses: bool,
    ) -> None:
        self._engine = engine
        self._config = config
        self._directory = directory
        self._loop = loop
        self._changed = changed
        self._reopen = reopen
        self._written = written
        self._keys = keys
        self._full_since = 0  # what `written` was when the disk became full: from then on nearly all are deletions
        self._refuses = refuses
        self._room = FOR_NOTHING if refuses else FOR_WRITES
        self._seen_free_bytes = sys.maxsize  # at the last look
        self._compacted = 0  # what `written` was at the last compaction
        self._compacted_s = 0.0
        self._compacts = True  # the engine, by itself
        self._begun_s = 0.0
        self._idle = Event()
        self._idle.set()
        self._busy = False  # the thread is
        self._closed = False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="compact")

    def check(self) -> None:
        """Looks at the free space; to be called once a second."""
        if self._config.engine == "memory":
            return
        room = self._judge()
        if room == FOR_NOTHING and release_reserve(self._directory):
            log.warning("no space left in %s: the reserve is removed", self._directory)
            room = self._judge()
        if self._refuses:
            if room == FOR_WRITES and has_room_to_open(self._engine, self._directory):
                log.warning(
                    "%d MiB are free in %s: the node restarts in this process to take writes again; until then its port is "
                    "closed",
                    self._free_bytes() >> 20,
                    self._directory,
                )
                self._reopen()
            return
        if room != self._room:
            if self._room == FOR_WRITES:
                self._compacted = self._full_since = self._written()
            self._room = room
            log.warning("%d MiB are free in %s: %s", self._free_bytes() >> 20, self._directory, _SAYS[room])
            self._changed(room)
        self._seen_free_bytes = self._free_bytes()
        is_short = self._seen_free_bytes < PLENTY * self._config.disk_free_bytes_min
        self._let_compact(not is_short or self._fits(1.0, 1.0))
        if is_short:
            self._tidy(room)
        else:
            self._allocate_reserve()

    def notices(self) -> list[str]:
        """What the status tells an operator before the disk is full. Once it is, `disk_room` tells it."""
        least_bytes = self._config.disk_free_bytes_min
        if self._seen_free_bytes >= PLENTY * least_bytes or self._room != FOR_WRITES:
            return []
        return [
            f"only {self._seen_free_bytes >> 20} MiB are free on the disk of {self._directory}; writes are refused below "
            f"{least_bytes >> 20} MiB (disk_free_bytes_min): free some space, or delete keys"
        ]

    def urgent(self) -> list[str]:
        """The same once writes are about to be refused: then the cluster is degraded. A share of the disk would say less:
        10 % of it may be terabytes."""
        return self.notices() if self._seen_free_bytes < URGENT * self._config.disk_free_bytes_min else []

    def facts(self) -> dict[str, str]:
        """The free space of now; nothing if it cannot be told (the watch logs that)."""
        if self._config.engine == "memory":
            return {}
        try:
            return {"disk_free_bytes": str(self._free_bytes())}
        except OSError:
            return {}

    def _free_bytes(self) -> int:
        return shutil.disk_usage(self._directory).free

    def _judge(self) -> int:
        free_bytes, least_bytes = self._free_bytes(), self._config.disk_free_bytes_min
        nothing_bytes = least_bytes // NOTHING_SHARE // (COMPACTING_SHARE if self._busy else 1)
        for room, wanted_bytes in ((FOR_NOTHING, nothing_bytes), (FOR_DELETIONS, least_bytes)):
            if free_bytes < wanted_bytes + (wanted_bytes // 4 if self._room >= room else 0):
                return room
        return FOR_WRITES

    def _allocate_reserve(self) -> None:
        least_bytes, path = self._config.disk_free_bytes_min, self._directory / RESERVE
        if not least_bytes or path.exists():
            return
        try:
            with path.open("wb") as file:
                os.posix_fallocate(file.fileno(), 0, least_bytes // RESERVE_SHARE)
        except OSError as error:
            log.warning("no reserve of disk space can be allocated: %s", error)
            path.unlink(missing_ok=True)

    def _tidy(self, room: int) -> None:
        """Begins, in the thread, a flush or a compaction that frees space, if there is one."""
        written = self._written() - self._compacted
        waited = self._loop.time() - self._compacted_s > COMPACT_INTERVAL_S
        if self._busy:
            if self._loop.time() - self._begun_s > STUCK_S:
                log.warning("the engine waits for room: it is opened anew")
                self._reopen()
            return
        left = 1.0 if room == FOR_WRITES else 1 - (self._written() - self._full_since) / max(1, self._keys())
        left = max(0.0, left)
        if room != FOR_WRITES and (written >= COMPACT_KEYS or (written and waited)) and self._fits(left, left):
            self._compacted += written
            self._compacted_s = self._loop.time()
            self._run(self._compact)
        elif room != FOR_NOTHING and _gauge(self._engine, "memtable_bytes") > FLUSH_BYTES and self._fits(left, 0.0):
            self._run(self._engine.flush)

    def _fits(self, memory_share: float, file_share: float) -> bool:
        """Whether the disk has room for that share of all bytes in memtables, and of all bytes in files."""
        in_memory, in_files = (_gauge(self._engine, name) for name in ("memtable_bytes", "disk_bytes"))
        margin_bytes = self._config.disk_free_bytes_min // NOTHING_SHARE
        return self._free_bytes() >= memory_share * in_memory + file_share * in_files + margin_bytes

    def _run(self, work: Callable[[], None]) -> None:
        def run() -> None:
            try:
                work()
            finally:
                self._idle.set()

        self._idle.clear()
        self._busy = True
        self._begun_s = self._loop.time()
        self._loop.run_in_executor(self._thread, run).add_done_callback(self._has_run)

    def _let_compact(self, wanted: bool) -> None:
        """Files that pile up are compacted also while room is short, or writes would stall."""
        files = _gauge(self._engine, "level0_files")
        wanted = wanted or files > LEVEL0_FILES_MAX or (self._compacts and files > LEVEL0_FILES_MAX // 2)
        if wanted != self._compacts:
            self._compacts = wanted
            try:
                self._engine.set_compaction(wanted)
            except StorageError as error:
                log.warning("the engine: %s", error)

    def _compact(self) -> None:
        """Compacts all records, range by range, in the thread. Stops when there is no room for it."""
        slots = [*SLOT_PREFIX[:-1:SLOTS_A_STEP], RECORDS_END]
        for start, end in [*pairwise(slots), *CHUNK_RANGES]:
            if self._closed or self._free_bytes() < self._config.disk_free_bytes_min // NOTHING_SHARE:
                return
            self._engine.compact(start, end)

    def _has_run(self, done: asyncio.Future[None]) -> None:
        self._busy = False
        error = done.exception()
        if isinstance(error, StorageError):
            log.warning("the space of deleted keys could not be freed: %s", error)
        elif error is not None:
            raise error

    def close(self) -> bool:
        """Waits up to `CLOSE_S` for a running flush or compaction step. Returns whether the engine may still be used."""
        self._closed = True
        self._thread.shutdown(wait=False)
        is_idle = self._idle.wait(CLOSE_S)
        if not is_idle:
            self._engine.cancel()
        self._thread.shutdown(wait=True)
        return is_idle


def release_reserve(directory: Path) -> bool:
    """Removes the reserve; whether there was one."""
    try:
        (directory / RESERVE).unlink()
    except FileNotFoundError:
        return False
    return True


def has_room_to_open(engine: Engine, directory: Path) -> bool:
    """Whether the engine, which is open, can be closed and opened: it writes out what is in memory."""
    return shutil.disk_usage(directory).free >= REOPEN_BYTES + _gauge(engine, "memtable_bytes")


def _gauge(engine: Engine, name: str) -> int:
    value = engine.stats().get(name, 0)
    assert isinstance(value, int)
    return value
