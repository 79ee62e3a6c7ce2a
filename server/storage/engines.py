"""Opens a storage engine by its name."""

from __future__ import annotations

from pathlib import Path

from server.storage.encrypted import EncryptedEngine, read_marker
from server.storage.engine import Engine, StorageError
from server.storage.keyring import read_keys
from server.storage.memory import MemoryEngine
from server.storage.rocksdb import FILES_MAX, RocksEngine
from server.storage.rocksdb_options import BLOCK_CACHE_BYTES, COMPRESSION

ENGINES = ("memory", "rocksdb")


def open_engine(
    name: str,
    path: Path | None,
    block_cache_bytes: int = BLOCK_CACHE_BYTES,
    files_max: int = FILES_MAX,
    compression: str = COMPRESSION,
) -> Engine:
    """Opens the engine `name`. `rocksdb` keeps its files in the directory `path`, and creates it if it is missing.

    `block_cache_bytes` bounds the rocksdb engine's cache of decoded blocks, and `files_max` the files that it holds open.
    `compression` (none, lz4, zstd) is that of its files. The memory engine ignores all of these, and `path`.
    Raises ValueError for an unknown name or a missing path, StorageError or a subclass if the store cannot be opened.
    """
    if name == "memory":
        return MemoryEngine()
    if name == "rocksdb":
        if path is None:
            raise ValueError("the rocksdb engine needs a directory, but path is None")
        return RocksEngine(path, block_cache_bytes, files_max, compression)
    raise ValueError(f"unknown storage engine {name!r}; known are {', '.join(ENGINES)}")


def open_encrypted(engine: Engine, key_file: Path | None, marker: Path) -> Engine:
    """The engine, encrypted with the keys of the file. Without one the engine as it is, if no value is encrypted.

    Raises StorageError, and then closes the engine.
    """
    try:
        if key_file is not None:
            return EncryptedEngine(engine, read_keys(key_file), marker)
        if used := read_marker(marker):
            raise StorageError(f"the store is encrypted (key {used[-1]}): set encryption_key_file")
    except StorageError:
        engine.close()
        raise
    return engine
