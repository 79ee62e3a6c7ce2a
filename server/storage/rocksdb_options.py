"""The options of the RocksDB store; rocksdb.py says what was measured."""

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


def options(block_cache_bytes: int) -> Options:
    """Returns the options of a store whose cache of decoded blocks has so many bytes."""
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # The only mode that opens after a torn tail, which kill -9 may leave, and refuses damage before the tail.
    options.set_wal_recovery_mode(DBRecoveryMode.tolerate_corrupted_tail_records())
    options.set_paranoid_checks(True)
    _bound_memory(options, block_cache_bytes)
    _keep_writes_flowing(options)
    _keep_logs_small(options)
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
    none, lz4 = DBCompressionType.none(), DBCompressionType.lz4()
    options.set_compression_per_level([none, none, lz4, lz4, lz4, lz4, lz4])  # none where files are rewritten often


def _keep_logs_small(options: Options) -> None:
    """Bounds RocksDB's text log, LOG, and its MANIFEST. Each open begins a new LOG."""
    options.set_keep_log_file_num(INFO_LOGS)
    options.set_max_log_file_size(INFO_LOG_BYTES)
    options.set_stats_dump_period_sec(0)
    options.set_stats_persist_period_sec(0)
    options.set_max_manifest_file_size(MANIFEST_BYTES)
