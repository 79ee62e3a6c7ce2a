"""The options of the RocksDB store; rocksdb.py says what was measured.

Compression. Files of level 0 are rewritten soon, and are not compressed. RocksDB counts the other levels from the first one
that is used (`level_compaction_dynamic_level_bytes`): a store of less than 256 MB is all in that one, so it must be
compressed, too. 100,000 JSON values of 290 bytes, each written twice, CPU of all threads, least of three runs:

| compression | us a put, with flushes and compactions | us a get of a block that is not cached | MB on disk |
|---|---|---|---|
| none | 4.6 | 6.5 | 32.1 |
| lz4 | 4.8 | 7.3 | 14.2 |
| snappy | 4.8 | 6.8 | 13.8 |
| zstd | 5.3 | 10.6 | 9.5 |

So lz4 is the default: half of the disk for one in a hundred of a SET's CPU. When the setting changes, files stay as they
were written, and are read all the same.
"""

from __future__ import annotations

from rocksdict import BlockBasedOptions, Cache, DBCompressionType, DBRecoveryMode, Options

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
LEVELS = 7
COMPRESSIONS = {"none": DBCompressionType.none, "lz4": DBCompressionType.lz4, "zstd": DBCompressionType.zstd}
COMPRESSION = "lz4"


def options(block_cache_bytes: int, compression: str = COMPRESSION) -> Options:
    """Returns the options of a store whose cache of decoded blocks has so many bytes. `compression` is one of
    COMPRESSIONS."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # The only mode that opens after a torn tail, which kill -9 may leave, and refuses damage before the tail.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    _bound_memory(options, block_cache_bytes)
    _keep_writes_flowing(options)
    _keep_logs_small(options)
    below = COMPRESSIONS[compression]()
    options.set_compression_per_level([DBCompressionType.none()] + [below] * (LEVELS - 1))
    return options


def _bound_memory(options: Options, block_cache_bytes: int) -> None:
    options.set_write_buffer_size(MEMTABLE_BYTES)  # small: an insert costs fewer cache misses in a small skip list
    options.set_max_write_buffer_number(MEMTABLES_MAX)  # many: writes need room while a flush waits for a CPU
    options.set_min_write_buffer_number_to_merge(MEMTABLES_PER_FLUSH)
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO)
    options.set_memtable_whole_key_filtering(True)
    table = BlockBasedOptions()
    table.set_block_cache(Cache.new_hyper_clock_cache(block_cache_bytes, BLOCK_BYTES))
    table.set_block_size(BLOCK_BYTES)
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, False)
    options.set_block_based_table_factory(table)


def _keep_writes_flowing(options: Options) -> None:
    """Lets files pile up in level 0 instead of stalling writes: rocksdict holds the GIL, so a stall stops the node."""
    options.set_max_background_jobs(BACKGROUND_JOBS)  # one flush, one compaction
    options.set_level_zero_slowdown_writes_trigger(LEVEL0_SLOWDOWN_FILES)
    options.set_level_zero_stop_writes_trigger(LEVEL0_STOP_FILES)
    options.set_level_compaction_dynamic_level_bytes(True)
    # If write-back begins early, less is left for the fsync of every second. (No difference was measured on a fast disk.)
    options.set_wal_bytes_per_sync(SYNC_RANGE_BYTES)
    options.set_bytes_per_sync(SYNC_RANGE_BYTES)
    options.set_avoid_unnecessary_blocking_io(True)  # unlink files in the background


def _keep_logs_small(options: Options) -> None:
    """Bounds RocksDB's text log, LOG, and its MANIFEST. Each open begins a new LOG."""
    options.set_keep_log_file_num(INFO_LOGS)
    options.set_max_log_file_size(INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_max_manifest_file_size(MANIFEST_BYTES)
