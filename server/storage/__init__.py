"""Storage: one ordered key space of bytes behind a small interface, and the engines that keep it.

| file | what |
|---|---|
| `engine.py` | the `Engine` interface, its guarantees, and the errors an operator may read |
| `memory.py` | a dict with a lazy order: for tests, caches and the simulator; gone with the process |
| `rocksdb.py` | RocksDB through rocksdict: the durable default, its tuning, its measured costs and its limits |
| `log_check.py` | damage in RocksDB's log files that RocksDB would not refuse by itself |

An engine knows nothing of records, partitions or checksums of ours: keys and values are opaque. Whoever lays out keys
puts what is to be one range (a slot, a partition) into their first bytes.
"""

from __future__ import annotations

from pathlib import Path

from server.storage.engine import Engine, StorageDamaged, StorageError, StorageFull, StorageLocked
from server.storage.memory import MemoryEngine
from server.storage.rocksdb import BLOCK_CACHE_BYTES, RocksEngine

ENGINES = ("memory", "rocksdb")

__all__ = [
    "ENGINES",
    "Engine",
    "StorageDamaged",
    "StorageError",
    "StorageFull",
    "StorageLocked",
    "open_engine",
]


def open_engine(name: str, path: Path | None, block_cache_bytes: int = BLOCK_CACHE_BYTES) -> Engine:
    """Open the engine `name`; `rocksdb` keeps its files in the directory `path`, which is made when missing.

    `block_cache_bytes` bounds the rocksdb engine's cache of decoded blocks; the memory engine ignores it and `path`.
    Raises ValueError for an unknown name or a missing path, StorageError or a subclass when the store cannot be opened.
    """
    if name == "memory":
        return MemoryEngine()
    if name == "rocksdb":
        if path is None:
            raise ValueError("the rocksdb engine needs a directory, but path is None")
        return RocksEngine(path, block_cache_bytes)
    raise ValueError(f"unknown storage engine {name!r}; known are {', '.join(ENGINES)}")
