"""Opens a storage engine by its name."""

from __future__ import annotations

from pathlib import Path

from server.storage.engine import Engine
from server.storage.memory import MemoryEngine
from server.storage.rocksdb import BLOCK_CACHE_BYTES, FILES_MAX, RocksEngine

ENGINES = ("memory", "rocksdb")


def open_engine(
    name: str, path: Path | None, block_cache_bytes: int = BLOCK_CACHE_BYTES, files_max: int = FILES_MAX
) -> Engine:
    """Opens the engine `name`. `rocksdb` keeps its files in the directory `path`, and creates it if it is missing.

    `block_cache_bytes` bounds the rocksdb engine's cache of decoded blocks, and `files_max` the files that it holds open.
    The memory engine ignores both, and `path`.
    Raises ValueError for an unknown name or a missing path, StorageError or a subclass if the store cannot be opened.
    """
    if name == "memory":
        return MemoryEngine()
    if name == "rocksdb":
        if path is None:
            raise ValueError("the rocksdb engine needs a directory, but path is None")
        return RocksEngine(path, block_cache_bytes, files_max)
    raise ValueError(f"unknown storage engine {name!r}; known are {', '.join(ENGINES)}")
