"""The durable engine: RocksDB through rocksdict in raw mode, one write batch a commit; the log is written but not synced.

A commit is one append to the log, and one insert per key into a skip list in memory (the memtable). The append is in the
kernel when `commit` returns, so `kill -9` loses nothing; `sync` is an fsync of the log. rocksdict holds the GIL in every
call except get_many, sync, flush and close. So the node waits whenever RocksDB waits, and the options avoid waiting
(https://github.com/facebook/rocksdb/wiki/RocksDB-Tuning-Guide).

CPU microseconds of the calling thread per key, least of several runs on two busy cores (keys of 22 bytes in random order,
values of 160, overwrites; `bg` is what flushes and compactions add on other threads):

| keys | put, batches of 1 / 16 / 100 / 400 | bg per put | get: in memtables / in files / absent | get_many | scan |
|---|---|---|---|---|---|
| 100,000 | 2.9 / 1.5 / 1.2 / 1.1 | 0.7–0.9 | 3.1 / 2.6 / 0.8 | 2.4 | 0.7 |
| 1,000,000 | 3.1 / 1.5 / 1.6 / 1.2 | 1.5–2.0 | 6.6 / 6.0 / 1.9 | 4.6 | 0.8 |

Opening a million keys takes 20 ms after a clean stop and 160 ms after a crash (RocksDB 9.8). The floor of a put is the
insert with the log's software CRC, and for a batch of one the system call. An insert costs cache misses. In a node, whose
other work empties the caches between two commits, it costs twice what the table says. So memtables are small enough for
the second level cache (2 MiB instead of 8: 3.0 instead of 3.8 us a put). Many are merged into one file, which drops
values that were overwritten meanwhile (16 instead of 8: 0.8 instead of 1.1 us of `bg`).

Tried without gain: hash tables for memtables (they are sorted at the flush), in-place updates (a quarter more per put,
and iterators no longer see one moment), pipelined and unordered writes, writes to the memtable without concurrency, huge
pages, larger arenas, hash index in blocks, universal compaction, compression of level 0 (dearer compactions).
Memtables of 1 MiB (0.5 MiB: no more) make a SET at -P 16 7 % cheaper on three nodes. They are not taken: there are twice
as many logs to sync each second, and half as much room for values of megabytes before they are congested.
The bloom filter over the memtables halves the cost of an absent get. Ten seconds of commits of 16 into a million keys, as
fast as they go, with a sync a second and the cores shared: the slowest commit took 45 ms, one in a thousand 0.8 ms.

What is damaged is refused (all of this is tested):
    a torn tail of the log, as a kill leaves it   dropped
    a wrong byte in the log                       the store does not open (see log_check.py; rocksdict's default opens it)
    a log that is missing or cut short            the store does not open (see live_logs.py)
    a damaged block of a sorted file              reads raise; once a compaction has read it, all commits are refused,
                                                  also after restarts; `reopen(compacts=False)` ends that, for such a store
                                                  compacts nothing any more (a new store must replace it: rebuild.py)
    the last edits of the MANIFEST cut off        not detected
After a loss of power, any commits since the last `sync` may be lost, because the kernel may write back logs in any order.

Full disk: the commit that does not fit raises StorageFull and applies nothing, like all later commits and syncs; gets and
scans succeed. Once there is space, RocksDB detects that in about five seconds and commits succeed, unless a sync or a
flush was tried meanwhile: then it refuses commits for good. Closing (which raises StorageFull) and opening ends that at
once, and all is there. So the caller refuses writes, goes on reading, and calls `reopen` when there is space.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

from rocksdict import (
    Checkpoint,
    DbClosedError,
    Rdict,
    ReadOptions,
    WriteBatch,
)

from server.storage.engine import MARKS, NO_BYTES_MAX, StorageDamaged, StorageError, StorageFull, StorageLocked
from server.storage.live_logs import LiveLogs, find_missing
from server.storage.log_check import find_damage
from server.storage.rocksdb_options import BLOCK_CACHE_BYTES, COMPRESSION, MEMTABLES_MAX, options

FILES_MAX = 4096  # sorted files are of 64 MiB: beyond 256 GB the coldest are opened anew when they are read
_MARK_PREFIX = "needs "
_MARK_CACHE_BYTES = 1 << 20  # RocksDB crashes without a cache, and nothing is ever in it
_READS = ("read", "scan")  # an I/O error of these is damage of the data that was to be read; it does not end the node
FILES_BESIDE_TABLES = MEMTABLES_MAX + 8  # a log for each memtable, MANIFEST, LOG, LOCK, files being written

ASK_AGAIN_S = 1.0
CONGESTED_MEMTABLES = (
    MEMTABLES_MAX * 2 // 3
)  # a flush begins with MEMTABLES_PER_FLUSH; RocksDB delays writes at the last one
_UNFLUSHED = "rocksdb.num-immutable-mem-table"
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
    """A RocksDB store in one directory. Implements `Engine`; here `flush` and `snapshot` may run in another thread, too."""

    def __init__(
        self,
        path: Path,
        block_cache_bytes: int = BLOCK_CACHE_BYTES,
        files_max: int = FILES_MAX,
        compression: str = COMPRESSION,
    ) -> None:
        """Opens or creates the store in `path`. Raises StorageDamaged, StorageFull, StorageLocked, StorageError."""
        self._path = path
        self._block_cache_bytes = block_cache_bytes
        self._compression = compression
        self._damage_seen = 0
        self._elsewhere = Lock()  # held by calls that may run in another thread, so that `close` waits for them
        self._compacting = Lock()  # the same for `compact`, which takes seconds
        self._files_max = files_max
        self._compacts = True
        self._open()

    def _open(self) -> None:
        path, wanted = self._path, options(self._block_cache_bytes, self._compression)
        wanted.set_max_open_files(self._files_max - FILES_BESIDE_TABLES)
        wanted.set_disable_auto_compactions(not self._compacts)
        self._full = False  # the disk has been full at some time since the open
        self._closed = self._cancelled = False
        with self._explaining("open"):
            path.mkdir(parents=True, exist_ok=True)
            self._refuse_what_rocksdb_would_not()
            self._families = self._marks()
            # Without `column_families` rocksdict uses the options of the last run, from the directory, and an 8 MiB cache.
            self._root = Rdict(str(path), wanted, column_families=dict.fromkeys(["default", *self._families], wanted))
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
        """The values under `keys`, in their order. Releases the GIL."""
        try:
            values: list[bytes | None] = self._get(keys)  # type: ignore[assignment, arg-type]
        except Exception as error:
            raise self._explained("read", error) from error
        return values

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. Applies all writes or none, and hands them to the kernel."""
        try:
            if len(writes) == 1:  # a batch object costs half as much as the write
                db = self._db
                for key, value in writes.items():
                    if value is None:
                        del db[key]
                    else:
                        db[key] = value
                return
            batch = WriteBatch(True)  # a batch cannot be reused: rocksdict consumes it when it writes it
            for key, value in writes.items():
                if value is None:
                    del batch[key]
                else:
                    batch[key] = value
            self._write(batch)
        except Exception as error:
            raise self._explained("commit", error) from error

    def sync(self, waits: bool = True) -> bool:
        """Returns once everything committed before the call is on the disk; False if another thread is at work."""
        if not self._elsewhere.acquire(waits):
            return False
        try:
            with self._explaining("sync"):
                sizes = self._logs.sizes()
                self._db.flush_wal(True)
                if sizes is not None:
                    self._logs.note(sizes)
        finally:
            self._elsewhere.release()
        return True

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs with start <= key < end, in ascending order."""
        if end is not None and start >= end:
            return []
        with self._explaining("scan"):
            bounds = _bounds(end)
            rows: Iterator[Any] = self._db.items(from_key=start, read_opt=bounds)
            pairs: list[tuple[bytes, bytes]] = []
            for pair in islice(rows, limit):  # each value is read when its pair is reached
                pairs.append(pair)
                bytes_max -= len(pair[1])
                if bytes_max <= 0:
                    return pairs
            if len(pairs) < limit:
                self._check_end(pairs[-1][0] + b"\0" if pairs else start, bounds)
        return pairs

    def snapshot(self, path: Path) -> None:
        """Writes a checkpoint: hard links to the sorted files on the same file system, copies on another one."""
        if path.exists():
            raise StorageError(f"cannot write a snapshot to {path}: it exists already; name a new directory")
        self.flush()  # the checkpoint would flush by itself, but with the GIL held
        with self._elsewhere, self._explaining(f"write a snapshot to {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            Checkpoint(self._root).create_checkpoint(str(path))

    def flush(self) -> None:
        """Writes the memtables to sorted files, so that RocksDB can delete the log."""
        with self._elsewhere, self._explaining("flush"):
            self._flush()

    def _flush(self) -> None:
        """Flushes, and asks for it again each second. RocksDB may wait for ever otherwise (seen after a gigabyte was
        written as fast as it goes): a flush that is queued already resets the request, and leaves newer memtables."""
        has_ended = Event()
        asking = Thread(target=self._ask_again, args=(has_ended,), name="flush")
        asking.start()
        try:
            self._db.flush()
        finally:
            has_ended.set()
            asking.join()

    def _ask_again(self, has_ended: Event) -> None:
        while not has_ended.wait(ASK_AGAIN_S):
            with suppress(Exception):  # whoever waits for the flush meets it, too
                self._db.flush(False)

    def compact(self, start: bytes, end: bytes) -> None:
        """Flushes, then compacts a range. Takes a quarter of a second for 50 MB of values that are all deleted."""
        with self._compacting:
            self.flush()
            with self._explaining("compact"):
                self._db.compact_range(start, end)

    def set_compaction(self, wanted: bool) -> None:
        """Turns RocksDB's own compactions on or off."""
        with self._explaining("set an option"):
            self._db.set_options({"disable_auto_compactions": "false" if wanted and self._compacts else "true"})

    def cancel(self) -> None:
        """Ends background work: a flush that met a full disk may wait for ever."""
        with self._explaining("cancel"):
            self._cancelled = True
            self._db.cancel_all_background(False)

    def reopen(self, compacts: bool = True) -> None:
        """Closes and opens the store, because RocksDB may refuse writes for good after a full disk or damage: see above."""
        with suppress(StorageFull, StorageDamaged):
            self.close()
        self._compacts = compacts
        self._open()

    def close(self) -> None:
        """Flushes, syncs and releases the directory. May be called twice."""
        with self._compacting, self._elsewhere:
            if self._closed:
                return
            self._closed = True
            with self._explaining("flush at close"), ExitStack() as ends:
                ends.callback(self._logs.close)
                ends.callback(self._end, self._root)
                ends.callback(self._end, self._db)
                if not self._cancelled:
                    self._flush()

    def _end(self, handle: Rdict) -> None:
        try:
            handle.close()
        except Exception:
            if not self._cancelled:  # else it could not flush, and everything is in the log
                raise

    def is_congested(self) -> bool:
        """Whether so many memtables wait for a flush that RocksDB soon delays writes."""
        with self._explaining("read the gauges"):
            return int(self._db.property_value(_UNFLUSHED) or 0) > CONGESTED_MEMTABLES

    def require(self, mark: str) -> bool:
        """Makes an empty column family with a name that says it: RocksDB opens no store without naming all of them."""
        name = _MARK_PREFIX + mark
        with suppress(StorageFull), self._explaining("mark the store"):
            if name not in self._families:
                self._root.create_column_family(name, options(_MARK_CACHE_BYTES)).close()
                self._families.append(name)
        return name in self._families

    def _marks(self) -> list[str]:
        """The column families that mark the store. Raises StorageError for one that only newer versions know."""
        if not (self._path / "CURRENT").exists():
            return []
        names = [name for name in Rdict.list_cf(str(self._path)) if name != "default"]
        unknown = [name for name in names if name.removeprefix(_MARK_PREFIX) not in MARKS]
        if unknown:
            raise StorageError(
                f"cannot open: the store in {self._path} was written by a newer version (it {unknown[0]!r}). Start the "
                "node with that version, or with an empty store, which the other owners fill (`dyn node start --rebuild`)"
            )
        return names

    def stats(self) -> dict[str, int | str]:
        """RocksDB's gauges under the names of `_GAUGES`, and `damage_seen`: how many calls met damage since the open."""
        with self._explaining("read the gauges"):
            figures: dict[str, int | str] = {"engine": "rocksdb", "path": str(self._path)}
            for name, gauge in _GAUGES.items():
                figures[name] = int(self._db.property_value(gauge) or 0)
            figures["damage_seen"] = self._damage_seen
        return figures

    def _refuse_what_rocksdb_would_not(self) -> None:
        """Raises StorageDamaged for damage that RocksDB answers with data loss or an endless loop."""
        # RocksDB takes a directory without CURRENT for a new one, and deletes its sorted files.
        if not (self._path / "CURRENT").exists() and any(self._path.glob("*.sst")):
            raise self._damaged("open", "the file CURRENT is missing beside sorted files")
        if (damage := find_missing(self._path)) is not None:
            raise self._damaged("open", damage)
        for log in [*self._path.glob("*.log"), *self._path.glob("MANIFEST-*")]:
            with suppress(FileNotFoundError):  # another process has the store open and deletes files: see LOCK
                if (damage := find_damage(log)) is not None:
                    raise self._damaged("open", damage)

    def _check_end(self, after: bytes, bounds: ReadOptions) -> None:
        """Raises if a key is stored from `after` on: rocksdict's item iterators end without error at a damaged block."""
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
        """The StorageError for what rocksdict raised, which is a plain Exception with RocksDB's status as its text.

        Any other type, such as TypeError, is a mistake of ours and not a failure of the store: it is raised as it is.
        """
        reason = str(error)
        if isinstance(error, DbClosedError):
            return StorageError(f"cannot {doing}: the store in {self._path} is closed")
        if type(error) is not Exception and not isinstance(error, OSError):
            raise error
        # After an append to the log has failed, each further use of that log only says that there was an error before.
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
    """Read options of a scan up to `end`. A scan fills no cache, so that blocks that gets need stay cached."""
    bounds = ReadOptions()
    bounds.fill_cache(False)  # type: ignore[call-arg]  # rocksdict's stub lacks the argument
    if end is not None:
        bounds.set_iterate_upper_bound(end)
    return bounds
