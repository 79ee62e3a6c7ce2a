"""The durable engine: RocksDB through rocksdict in raw mode, one write batch a commit, the log written but not synced.

Theory. A commit is one append to the log and one insert per key into a skip list in memory (the memtable). The append is
in the kernel when `commit` returns, which is why `kill -9` loses nothing; `sync` is an fsync of the log. rocksdict holds
the GIL in every call but get_many, sync, flush and close, so whatever RocksDB waits for, the node waits for: the options
avoid waiting. Options: https://github.com/facebook/rocksdb/wiki/RocksDB-Tuning-Guide

CPU microseconds of the calling thread per key, least of several runs on two busy cores (keys of 22 bytes in random order,
values of 160, overwrites; `bg` is what flushes and compactions add on other threads):

| keys | put, batches of 1 / 16 / 100 / 400 | bg per put | get: in memtables / in files / absent | get_many | scan |
|---|---|---|---|---|---|
| 100,000 | 2.9 / 1.5 / 1.2 / 1.1 | 0.7–0.9 | 3.1 / 2.6 / 0.8 | 2.4 | 0.7 |
| 1,000,000 | 3.1 / 1.5 / 1.6 / 1.2 | 1.5–2.0 | 6.6 / 6.0 / 1.9 | 4.6 | 0.8 |

Opening a million keys takes 20 ms after a clean stop, 160 ms after a crash; RocksDB 9.8. The floor of a put is the
insert with the log's software CRC, and for a batch of one the system call. An insert is cache misses, and in a node,
whose other work empties the caches between two commits, it costs twice what the table says; so memtables are small
enough for the second level cache (2 MiB for 8: 3.0 for 3.8 us a put), and many are merged into one file, which drops
what was written over meanwhile (16 for 8: 0.8 for 1.1 us of `bg`). Tried without gain: hash tables for memtables (they
are sorted at the flush), in-place updates (a quarter more per put, and iterators no longer see one moment), pipelined
and unordered writes, writes to the memtable without concurrency, huge pages, larger arenas, hash index in blocks,
universal compaction, lz4 for the upper levels (dearer compactions). The bloom filter over the memtables halves the cost
of an absent get. Ten seconds of commits of 16 as fast as they go into a million keys, with a sync a second and the
cores shared with other work: the slowest commit took 45 ms, one in a thousand 0.8 ms.

What is damaged is refused (all of this is tested). In the log: a torn tail, which a kill in the middle of a write may
leave, is dropped; a wrong byte anywhere refuses to open (rocksdict's default opens with what stood before it; for what even
the strict mode does not see, there is `log_check.py`). In a sorted file: reads that need the block raise, others go on;
once a compaction meets it RocksDB refuses all commits, and again soon after every restart, until the directory is made
anew. A log that is missing or cut short refuses to open, too (`live_logs.py`). Not seen: the end of the MANIFEST, removed
as a whole. After a power loss commits since the last `sync` may be lost in any order, not only the last ones, since the
kernel may write back two logs in either.

Full disk: the commit that does not fit raises StorageFull and applies nothing; so do all later commits and syncs, while
gets and scans go on. Once there is room again RocksDB notices by itself in about five seconds and commits succeed; but
not if anything else was tried meanwhile, a sync or a flush: then it refuses commits for good. Closing and opening ends that
at once (that `close` raises StorageFull, and all is there at the next open). So the caller refuses writes, keeps
reading, and calls `reopen` when there is room.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Lock
from typing import Any

from rocksdict import (
    BlockBasedOptions,
    Cache,
    Checkpoint,
    DbClosedError,
    DBCompressionType,
    DBRecoveryMode,
    Options,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from server.storage.engine import NO_BYTES_MAX, StorageDamaged, StorageError, StorageFull, StorageLocked
from server.storage.live_logs import LiveLogs, find_missing, sizes_if_possible
from server.storage.log_check import find_damage

BLOCK_CACHE_BYTES = 64 << 20
BLOCK_BYTES = 4 << 10
BLOOM_BITS_PER_KEY = 10
MEMTABLE_BYTES = 2 << 20
MEMTABLES_MAX = 40
MEMTABLES_PER_FLUSH = 16
MEMTABLE_BLOOM_RATIO = 0.02  # of MEMTABLE_BYTES: some 35 bits a key with records of 160 bytes
SYNC_RANGE_BYTES = 1 << 20
LEVEL0_SLOWDOWN_FILES = 40
LEVEL0_STOP_FILES = 60
BACKGROUND_JOBS = 2
INFO_LOG_BYTES = 1 << 20
INFO_LOGS = 2
MANIFEST_BYTES = 8 << 20
FILES_MAX = 4096  # sorted files are of 64 MiB: past 256 GB the coldest are opened anew when they are read
_READS = ("read", "scan")  # an I/O error of these is damage of what was to be read, and not the end of the node
FILES_BESIDE_TABLES = MEMTABLES_MAX + 8  # a log for each memtable, MANIFEST, LOG, LOCK, files being written

_GAUGES = {
    "keys_estimate": "rocksdb.estimate-num-keys",
    "disk_bytes": "rocksdb.total-sst-files-size",
    "memtable_bytes": "rocksdb.cur-size-all-mem-tables",
    "table_index_bytes": "rocksdb.estimate-table-readers-mem",
    "block_cache_bytes": "rocksdb.block-cache-usage",
    "block_cache_bytes_max": "rocksdb.block-cache-capacity",
    "level0_files": "rocksdb.num-files-at-level0",
    "compaction_pending_bytes": "rocksdb.estimate-pending-compaction-bytes",
    "background_errors": "rocksdb.background-errors",
    "write_stopped": "rocksdb.is-write-stopped",
    "delayed_write_bytes_per_s": "rocksdb.actual-delayed-write-rate",
}


class RocksEngine:
    """A RocksDB store in one directory. Implements `Engine`; `flush` and `snapshot`, too, may run in another thread."""

    def __init__(self, path: Path, block_cache_bytes: int = BLOCK_CACHE_BYTES, files_max: int = FILES_MAX) -> None:
        """Open the store in `path`, made when missing. Raises StorageDamaged, StorageFull, StorageLocked, StorageError."""
        self._path = path
        self._block_cache_bytes = block_cache_bytes
        self._damage_seen = 0
        self._elsewhere = Lock()  # held by calls that may run in another thread, so that close waits for them
        self._compacting = Lock()  # the same, for the one that takes seconds
        self._files_max = files_max
        self._compacts = True
        self._open()

    def _open(self) -> None:
        path, options = self._path, _options(self._block_cache_bytes)
        options.set_max_open_files(self._files_max - FILES_BESIDE_TABLES)
        options.set_disable_auto_compactions(not self._compacts)
        self._full = False  # the disk has been full at some time since the open
        self._closed = self._cancelled = False
        with self._explaining("open"):
            path.mkdir(parents=True, exist_ok=True)
            self._refuse_what_rocksdb_would_not()
            # Without `column_families` rocksdict takes the options of the last run from the directory, and an 8 MiB cache.
            self._root = Rdict(str(path), options, column_families={"default": options})
            # Reading through the column family saves a look-up of its name on every get.
            self._db = self._root.get_column_family("default")
            self._logs = LiveLogs(path)
        self._get = self._db.get
        self._write = self._db.write

    def get(self, key: bytes) -> bytes | None:
        """HOT. The value under `key`, or None."""
        try:
            value: bytes | None = self._get(key)
        except Exception as error:
            raise self._explained("read", error) from error
        return value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order. Lets go of the GIL."""
        try:
            values: list[bytes | None] = self._get(keys)  # type: ignore[assignment, arg-type]
        except Exception as error:
            raise self._explained("read", error) from error
        return values

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. Apply all writes or none, and hand them to the kernel."""
        try:
            if len(writes) == 1:  # a batch object costs half as much as the write
                db = self._db
                for key, value in writes.items():
                    if value is None:
                        del db[key]
                    else:
                        db[key] = value
                return
            batch = WriteBatch(True)  # rocksdict consumes a batch by writing it: there is nothing to reuse
            for key, value in writes.items():
                if value is None:
                    del batch[key]
                else:
                    batch[key] = value
            self._write(batch)
        except Exception as error:
            raise self._explained("commit", error) from error

    def sync(self) -> None:
        """Return once everything committed before the call is on the disk. For a thread of its own."""
        with self._elsewhere, self._explaining("sync"):
            sizes = sizes_if_possible(self._path)
            self._db.flush_wal(True)
            if sizes is not None:
                self._logs.note(sizes)

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs with start <= key < end in ascending order."""
        if end is not None and start >= end:
            return []
        with self._explaining("scan"):
            bounds = _bounds(end)
            rows: Iterator[Any] = self._db.items(from_key=start, read_opt=bounds)
            pairs: list[tuple[bytes, bytes]] = []
            for pair in islice(rows, limit):  # reads a value as it comes to it
                pairs.append(pair)
                bytes_max -= len(pair[1])
                if bytes_max <= 0:
                    return pairs
            if len(pairs) < limit:
                self._check_end(pairs[-1][0] + b"\0" if pairs else start, bounds)
        return pairs

    def snapshot(self, path: Path) -> None:
        """A checkpoint: hard links to the sorted files on the same file system, copies on another."""
        if path.exists():
            raise StorageError(f"cannot write a snapshot to {path}: it exists already; name a new directory")
        self.flush()  # the checkpoint would do it too, but with the GIL held
        with self._elsewhere, self._explaining(f"write a snapshot to {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Checkpoint(self._root).create_checkpoint(str(path))

    def flush(self) -> None:
        """Write the memtables out as sorted files, so that the log can go."""
        with self._elsewhere, self._explaining("flush"):
            self._db.flush()

    def compact(self, start: bytes, end: bytes) -> None:
        """Flush, then compact a range; a quarter of a second for 50 MB of values that are all deleted."""
        with self._compacting:
            self.flush()
            with self._explaining("compact"):
                self._db.compact_range(start, end)

    def set_compaction(self, wanted: bool) -> None:
        """Whether RocksDB begins compactions by itself."""
        with self._explaining("set an option"):
            self._db.set_options({"disable_auto_compactions": "false" if wanted and self._compacts else "true"})

    def cancel(self) -> None:
        """A flush that has met a full disk may wait for ever."""
        with self._explaining("cancel"):
            self._cancelled = True
            self._db.cancel_all_background(False)

    def reopen(self, compacts: bool = True) -> None:
        """Closes and opens. Once the disk has been full, RocksDB may refuse writes for good: see above."""
        with suppress(StorageFull, StorageDamaged):
            self.close()
        self._compacts = compacts
        self._open()

    def close(self) -> None:
        """Flush, sync, let go of the directory. Idempotent."""
        with self._compacting, self._elsewhere:
            if self._closed:
                return
            self._closed = True
            with self._explaining("flush at close"), ExitStack() as ends:
                ends.callback(self._logs.close)
                ends.callback(self._end, self._root)
                self._end(self._db)

    def _end(self, handle: Rdict) -> None:
        try:
            handle.close()
        except Exception:
            if not self._cancelled:  # else it could not flush: all is in the log
                raise

    def stats(self) -> dict[str, int | str]:
        """RocksDB's gauges as `_GAUGES` names them, and `damage_seen`: how many calls met damage since the open."""
        with self._explaining("read the gauges"):
            figures: dict[str, int | str] = {"engine": "rocksdb", "path": str(self._path)}
            for name, gauge in _GAUGES.items():
                figures[name] = int(self._db.property_value(gauge) or 0)
            figures["damage_seen"] = self._damage_seen
        return figures

    def _refuse_what_rocksdb_would_not(self) -> None:
        """Raise for damage that RocksDB answers with data loss or an endless loop."""
        # It takes a directory without CURRENT for a new one, and deletes the sorted files it finds there.
        if not (self._path / "CURRENT").exists() and any(self._path.glob("*.sst")):
            raise self._damaged("open", "the file CURRENT is missing beside sorted files")
        if (damage := find_missing(self._path)) is not None:
            raise self._damaged("open", damage)
        for log in [*self._path.glob("*.log"), *self._path.glob("MANIFEST-*")]:
            with suppress(FileNotFoundError):  # another process has the store open and deletes files: see LOCK
                if (damage := find_damage(log)) is not None:
                    raise self._damaged("open", damage)

    def _check_end(self, after: bytes, bounds: ReadOptions) -> None:
        """Raise unless nothing is stored from `after` on: rocksdict's item iterators end silently at a damaged block."""
        probe = self._db.iter(bounds)
        probe.seek(after)
        probe.status()
        if probe.valid():
            raise self._damaged("scan", "an iterator ended before its range did")

    @contextmanager
    def _explaining(self, doing: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            raise self._explained(doing, error) from error

    def _explained(self, doing: str, error: Exception) -> StorageError:
        """The StorageError for what rocksdict raised: RocksDB's status as the text of a plain Exception.

        Anything else, a TypeError say, is no failure of the store but a mistake of ours, and is raised as it is.
        """
        reason = str(error)
        if isinstance(error, DbClosedError):
            return StorageError(f"cannot {doing}: the store in {self._path} is closed")
        if type(error) is not Exception and not isinstance(error, OSError):
            raise error
        # Once an append to the log has failed, each further use of that log tells only that there was an error before.
        self._full |= "No space left on device" in reason or "Disk quota exceeded" in reason
        if self._full and ("No space" in reason or "Disk quota" in reason or "Writer has previous error" in reason):
            return StorageFull(f"cannot {doing}: no space left for {self._path}; free some. RocksDB says: {reason}")
        if "While lock file" in reason or "lock hold by current process" in reason:
            return StorageLocked(
                f"cannot {doing}: the store in {self._path} is open in another process; does this node run already?"
            )
        if reason.startswith(("Corruption", "IO error: No such file or directory")):
            return self._damaged(doing, reason)
        if doing in _READS:
            self._damage_seen += 1
            return StorageDamaged(f"cannot {doing}: the disk of {self._path} does not give what is there: {reason}")
        return StorageError(f"cannot {doing}: the store in {self._path} failed: {reason}")

    def _damaged(self, doing: str, reason: str) -> StorageDamaged:
        self._damage_seen += 1
        reason = " ".join(reason.split()).rstrip(".")
        return StorageDamaged(
            f"cannot {doing}: the store in {self._path} is damaged. RocksDB says: {reason}. Start the node once with"
            f" `dyn node start --dir {self._path.parent} --rebuild`: that puts the damaged store aside and begins an empty"
            " one, which the other owners of its data fill"
        )


def _bounds(end: bytes | None) -> ReadOptions:
    """Read options of a scan up to `end`. What a scan reads must not push out of the cache what gets need."""
    bounds = ReadOptions()
    bounds.fill_cache(False)  # type: ignore[call-arg]  # rocksdict's stub lacks the argument
    if end is not None:
        bounds.set_iterate_upper_bound(end)
    return bounds


def _options(block_cache_bytes: int) -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # The one mode that opens after a torn tail, which kill -9 may leave, and refuses damage before it.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    _bound_memory(options, block_cache_bytes)
    _keep_writes_flowing(options)
    _keep_logs_small(options)
    return options


def _bound_memory(options: Options, block_cache_bytes: int) -> None:
    options.set_write_buffer_size(MEMTABLE_BYTES)  # small: an insert costs cache misses, fewer in a small skip list
    options.set_max_write_buffer_number(MEMTABLES_MAX)  # many: room to write into while a flush waits for a CPU
    options.set_min_write_buffer_number_to_merge(MEMTABLES_PER_FLUSH)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO)
    options.set_memtable_whole_key_filtering(True)
    table = BlockBasedOptions()
    table.set_block_cache(Cache.new_hyper_clock_cache(block_cache_bytes, BLOCK_BYTES))
    table.set_block_size(BLOCK_BYTES)
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    options.set_block_based_table_factory(table)


def _keep_writes_flowing(options: Options) -> None:
    """A stalled write stops the whole node, since rocksdict holds the GIL: let files pile up in level 0 instead."""
    options.set_max_background_jobs(BACKGROUND_JOBS)  # one flush, one compaction
    options.set_level_zero_slowdown_writes_trigger(LEVEL0_SLOWDOWN_FILES)
    options.set_level_zero_stop_writes_trigger(LEVEL0_STOP_FILES)
    options.set_level_compaction_dynamic_level_bytes(True)
    # An early start of the write-back leaves less to the fsync of every second. (No difference on our fast disk.)
    options.set_wal_bytes_per_sync(SYNC_RANGE_BYTES)
    options.set_bytes_per_sync(SYNC_RANGE_BYTES)
    options.set_avoid_unnecessary_blocking_io(True)  # unlink files in the background
    none, lz4 = DBCompressionType.none(), DBCompressionType.lz4()
    options.set_compression_per_level([none, none, lz4, lz4, lz4, lz4, lz4])  # what is rewritten often stays plain


def _keep_logs_small(options: Options) -> None:
    """RocksDB's own diary, LOG, and its MANIFEST; a new LOG is begun at each open."""
    options.set_keep_log_file_num(INFO_LOGS)
    options.set_max_log_file_size(INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_max_manifest_file_size(MANIFEST_BYTES)
