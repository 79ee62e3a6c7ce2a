"""The setting `compression`: it reaches the files, stores of any size get smaller, and it may change between two starts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from server.core.base.config import Config, ConfigError
from server.storage.engines import open_engine
from server.storage.rocksdb import RocksEngine
from server.storage.rocksdb_options import BLOCK_CACHE_BYTES, COMPRESSIONS

KEYS = [b"%06d" % number for number in range(5_000)]
VALUES = {key: json.dumps({"id": key.decode(), "city": "Berlin", "tags": ["red", "new"]}).encode() * 3 for key in KEYS}


def _opened(path: Path, compression: str) -> RocksEngine:
    engine = open_engine("rocksdb", path, BLOCK_CACHE_BYTES, compression=compression)
    assert isinstance(engine, RocksEngine)
    return engine


def _bytes_after_compaction(engine: RocksEngine, path: Path) -> int:
    engine.commit(dict(VALUES))
    engine.compact(b"", b"\xff")
    assert engine.get_many(KEYS) == list(VALUES.values())
    engine.close()
    return sum(file.stat().st_size for file in path.glob("*.sst"))


def test_each_way_makes_files_of_its_size(tmp_path: Path) -> None:
    """Also a store that fits in one level, as most do."""
    sizes = {way: _bytes_after_compaction(_opened(tmp_path / way, way), tmp_path / way) for way in COMPRESSIONS}
    assert sizes["none"] > sum(map(len, VALUES.values()))
    assert sizes["lz4"] < sizes["none"] / 3
    assert sizes["zstd"] < sizes["lz4"]
    default = open_engine("rocksdb", tmp_path / "default")
    assert isinstance(default, RocksEngine)
    assert _bytes_after_compaction(default, tmp_path / "default") == pytest.approx(sizes["lz4"], rel=0.05)


def test_a_store_is_read_with_any_setting_and_follows_the_present_one(tmp_path: Path) -> None:
    path = tmp_path / "store"
    sizes = [_bytes_after_compaction(_opened(path, way), path) for way in ("none", "zstd", "none", "lz4")]
    assert sizes[1] < sizes[3] < sizes[0] / 3
    assert sizes[2] == pytest.approx(sizes[0], rel=0.05)


def test_the_setting_knows_three_words() -> None:
    for way in COMPRESSIONS:
        assert Config.of({"compression": way}).compression == way
    assert Config().compression == "lz4"
    with pytest.raises(ConfigError, match="setting 'compression' must be none, lz4 or zstd, not 'gzip'"):
        Config.of({"compression": "gzip"})
