"""A disk that fills up, and then has room again. Needs to mount a small file system: skipped where that is forbidden."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.engine import Engine, StorageFull
from server.storage.engines import open_engine
from tests.small_disk import mounted
from tests.storage.counting import count

DISK_BYTES = 24 << 20
FILLER_BYTES = 22 << 20
BATCH_KEYS = 10
VALUE_BYTES = 2000
RESUME_S_MAX = 90


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of DISK_BYTES, in memory."""
    with mounted(tmp_path / "disk", DISK_BYTES) as path:
        yield path


def batch_of(number: int) -> dict[bytes, bytes | None]:
    """Batch `number`: keys that no other batch has."""
    return {b"%06d-%d" % (number, index): (b"%06d" % number) * (VALUE_BYTES // 6) for index in range(BATCH_KEYS)}


def fill(disk: Path, engine: Engine) -> int:
    """Commit batches until the disk is full. Returns how many fitted."""
    (disk / "filler").write_bytes(b"x" * FILLER_BYTES)
    for number in range(1_000_000):
        try:
            engine.commit(batch_of(number))
        except StorageFull as error:
            assert str(disk) in str(error)
            assert "free some" in str(error)
            return number
    raise AssertionError("the disk never filled up")


def check_exactly(engine: Engine, batches: int) -> None:
    """Batches 0 to `batches` - 1 are there whole, and nothing of the one that failed."""
    assert count(engine) == batches * BATCH_KEYS
    for number in range(batches):
        batch = batch_of(number)
        assert engine.get_many(list(batch)) == list(batch.values())
    assert engine.get_many(list(batch_of(batches))) == [None] * BATCH_KEYS


def test_a_full_disk_stops_writes_only_and_reopening_with_room_ends_it(small_disk: Path) -> None:
    engine = open_engine("rocksdb", small_disk / "store")
    fitted = fill(small_disk, engine)
    assert fitted > 0
    check_exactly(engine, fitted)
    for one_more in ({b"a": b"1"}, {b"000000-0": None}, batch_of(fitted)):
        with pytest.raises(StorageFull):
            engine.commit(one_more)
    with pytest.raises(StorageFull):
        engine.sync()
    (small_disk / "filler").unlink()
    with pytest.raises(StorageFull):
        engine.close()
    engine.close()
    engine = open_engine("rocksdb", small_disk / "store")
    check_exactly(engine, fitted)
    engine.commit(batch_of(fitted))
    check_exactly(engine, fitted + 1)
    engine.close()


def test_the_open_store_writes_again_by_itself_once_there_is_room(small_disk: Path) -> None:
    """RocksDB looks for room every five seconds, by its own clock: we read on meanwhile, as a node would."""
    engine = open_engine("rocksdb", small_disk / "store")
    fitted = fill(small_disk, engine)
    (small_disk / "filler").unlink()
    give_up = time.monotonic() + RESUME_S_MAX
    while True:
        try:
            engine.commit(batch_of(fitted))
            break
        except StorageFull:
            assert time.monotonic() < give_up
            check_exactly(engine, fitted)
    check_exactly(engine, fitted + 1)
    engine.close()
    engine = open_engine("rocksdb", small_disk / "store")
    check_exactly(engine, fitted + 1)
    engine.close()


def test_a_store_that_refuses_writes_for_good_takes_them_once_reopened(small_disk: Path) -> None:
    """A sync or a flush that meets the full disk ends RocksDB's own attempts. Reads go on meanwhile."""
    engine = open_engine("rocksdb", small_disk / "store")
    fitted = fill(small_disk, engine)
    for attempt in (engine.sync, engine.flush):
        with pytest.raises(StorageFull):
            attempt()
    (small_disk / "filler").unlink()
    check_exactly(engine, fitted)
    engine.reopen()
    check_exactly(engine, fitted)
    engine.commit(batch_of(fitted))
    engine.sync()
    engine.compact(b"", b"\xff")
    check_exactly(engine, fitted + 1)
    engine.close()


def test_compaction_gives_back_the_room_of_what_was_deleted(small_disk: Path) -> None:
    engine = open_engine("rocksdb", small_disk / "store")
    engine.set_compaction(False)
    for number in range(300):
        engine.commit(batch_of(number))
    engine.flush()
    before_bytes = shutil.disk_usage(small_disk).used
    for number in range(300):
        engine.commit(dict.fromkeys(batch_of(number)))
    engine.compact(b"", b"\xff")
    assert count(engine) == 0
    assert shutil.disk_usage(small_disk).used < before_bytes // 3
    engine.set_compaction(True)
    engine.commit(batch_of(1))
    engine.cancel()
    engine.reopen()
    assert count(engine) == BATCH_KEYS, "a store that was cancelled is whole when it is opened anew"
    engine.commit(batch_of(2))
    engine.close()


def test_a_full_disk_refuses_to_open(small_disk: Path) -> None:
    (small_disk / "filler").write_bytes(b"x" * (DISK_BYTES - 4096))
    with pytest.raises(StorageFull):
        open_engine("rocksdb", small_disk / "store")


def test_a_snapshot_that_does_not_fit_leaves_the_store_usable(small_disk: Path, tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    engine.commit({b"%d" % number: b"v" * 1000 for number in range(1000)})
    (small_disk / "filler").write_bytes(b"x" * (DISK_BYTES - 300_000))
    with pytest.raises(StorageFull):
        engine.snapshot(small_disk / "snapshot")
    engine.commit({b"more": b"1"})
    assert count(engine) == 1001
    engine.close()
