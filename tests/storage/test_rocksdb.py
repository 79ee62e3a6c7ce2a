"""What the rocksdb engine survives, and what it refuses: crashes, torn and damaged logs, damaged and missing files."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.storage.engine import Engine, StorageDamaged, StorageError, StorageLocked
from server.storage.engines import open_engine
from server.storage.log_check import LOG_BLOCK_BYTES
from server.storage.rocksdb import FILES_BESIDE_TABLES, RocksEngine
from tests.storage.counting import count
from tests.storage.crash import BATCH_KEYS, batch_of, crash_image, scratch_directory
from tests.storage.dirty_pages import dirty_pages, skip_unless_written_back

BATCHES = 1500
DATA_BLOCK_BYTES = 4 << 10


def batches_in(engine: Engine, size: int = BATCH_KEYS) -> list[int]:
    """The numbers of the batches that are there; every one must be there whole."""
    pairs = engine.scan(b"", None, 10_000_000)
    present = sorted({int(key[:6]) for key, _ in pairs})
    assert dict(pairs) == {key: value for number in present for key, value in batch_of(number, size).items()}
    return present


def the_file(directory: Path, pattern: str) -> Path:
    """The largest file of a kind."""
    return max(directory.glob(pattern), key=lambda file: file.stat().st_size)


def flip_bit(file: Path, position: int, bit: int = 2) -> None:
    content = bytearray(file.read_bytes())
    content[position] ^= 1 << bit
    file.write_bytes(content)


@pytest.fixture(scope="module")
def crashed() -> Iterator[Path]:
    """A store whose process was killed with BATCHES batches in the log and none in a sorted file."""
    with scratch_directory() as directory:
        engine = open_engine("rocksdb", directory / "store")
        for number in range(BATCHES):
            engine.commit(batch_of(number))
        image = crash_image(directory / "store", directory / "image")
        engine.close()
        assert the_file(image, "*.log").stat().st_size > 3 * LOG_BLOCK_BYTES
        yield image


@pytest.fixture(scope="module")
def sorted_files() -> Iterator[Path]:
    """A cleanly closed store with all of its batches in sorted files."""
    with scratch_directory() as directory:
        engine = open_engine("rocksdb", directory / "store")
        for number in range(BATCHES):
            engine.commit(batch_of(number))
        engine.close()
        yield directory / "store"


def reopened(store: Path, change: Callable[[Path], None]) -> Engine:
    """Open a copy of `store` that `change` was let loose on."""
    copy = Path(tempfile.mkdtemp(dir=store.parent)) / "store"
    crash_image(store, copy)
    change(copy)
    return open_engine("rocksdb", copy)


# The log


def test_an_intact_log_is_replayed_whole(crashed: Path) -> None:
    engine = reopened(crashed, lambda copy: None)
    assert batches_in(engine) == list(range(BATCHES))
    engine.close()


@settings(max_examples=12)
@given(cut_bytes=st.integers(1, 2 * LOG_BLOCK_BYTES))
@example(cut_bytes=1)
@example(cut_bytes=5)
def test_a_torn_log_loses_its_torn_tail_and_nothing_before(crashed: Path, cut_bytes: int) -> None:
    log_bytes = the_file(crashed, "*.log").stat().st_size
    engine = reopened(crashed, lambda copy: os.truncate(the_file(copy, "*.log"), log_bytes - cut_bytes))
    present = batches_in(engine)
    assert present == list(range(len(present)))
    batch_bytes_min = log_bytes // BATCHES - 1
    assert BATCHES - 2 - cut_bytes // batch_bytes_min <= len(present) < BATCHES
    engine.commit(batch_of(BATCHES))
    engine.close()


@settings(max_examples=40)
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_anywhere_in_the_log_refuses_to_open(crashed: Path, where: float, bit: int) -> None:
    log_bytes = the_file(crashed, "*.log").stat().st_size
    with pytest.raises(StorageDamaged, match=r"damaged.*--rebuild") as raised:
        reopened(crashed, lambda copy: flip_bit(the_file(copy, "*.log"), int(where * log_bytes), bit))
    assert str(crashed.parent) in str(raised.value)


COMMIT_UNTIL_KILLED = """
import os, sys
from pathlib import Path
from server.storage.engines import open_engine
from tests.storage.crash import batch_of
engine = open_engine("rocksdb", Path(sys.argv[1]))
number = 0
while True:
    engine.commit(batch_of(number, 20))
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def test_kill_9_loses_no_acknowledged_batch_and_tears_none(tmp_path: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", COMMIT_UNTIL_KILLED, str(tmp_path / "store")], stdout=subprocess.PIPE
    )
    assert child.stdout is not None
    acknowledged = b""
    while acknowledged.count(b"\n") < 2000:
        piece = os.read(child.stdout.fileno(), 1 << 16)
        assert piece, "the child ended by itself"
        acknowledged += piece
    child.kill()
    acknowledged += child.stdout.read()
    child.stdout.close()
    child.wait()
    last = int(acknowledged.rsplit(b"\n", 2)[-2])
    engine = open_engine("rocksdb", tmp_path / "store")
    # The one batch that was not acknowledged yet may be there or not, but not in part.
    assert batches_in(engine, 20) in (list(range(last + 1)), list(range(last + 2)))
    engine.close()


def test_sync_leaves_nothing_of_the_log_unwritten(tmp_path: Path) -> None:
    skip_unless_written_back(tmp_path)
    engine = open_engine("rocksdb", tmp_path / "store")
    for number in range(100):  # the kernel may write back by itself at any time: commit until it has not
        engine.commit({b"%d" % number: b"v" * 10_000})
        log = the_file(tmp_path / "store", "*.log")
        if dirty_pages(log) > 0:
            break
    else:
        pytest.fail("commit is synced already: sync has nothing to do here")
    assert engine.sync()
    assert dirty_pages(log) == 0
    engine.close()


def test_a_sync_that_may_not_wait_does_nothing_beside_a_flush(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RocksEngine(tmp_path / "store")
    answers: list[bool] = []
    flush = engine._flush
    monkeypatch.setattr(engine, "_flush", lambda: (answers.append(engine.sync(waits=False)), flush()))
    engine.flush()
    assert [*answers, engine.sync(waits=False)] == [False, True]
    engine.close()


# The sorted files


def test_a_damaged_block_is_refused_and_the_others_are_served(sorted_files: Path) -> None:
    engine = reopened(sorted_files, lambda copy: flip_bit(the_file(copy, "*.sst"), 5 * DATA_BLOCK_BYTES))
    refused = []
    for number in range(BATCHES):
        for key, value in batch_of(number).items():
            try:
                assert engine.get(key) == value
            except StorageDamaged as error:
                assert str(sorted_files.parent) in str(error)
                refused.append(key)
    assert 0 < len(refused) < 300
    calls: list[Callable[[], object]] = [
        lambda: engine.get_many([b"000000-0", refused[0]]),
        lambda: engine.scan(b"", None, 10_000),
        lambda: engine.scan(b"", refused[-1], 10_000),
        lambda: engine.scan(refused[0], refused[-1], 10_000),
    ]
    for call in calls:
        with pytest.raises(StorageDamaged, match="checksum mismatch"):
            call()
    assert engine.stats()["damage_seen"] == len(refused) + len(calls)
    assert engine.scan(b"", refused[0], 10)[0][0] == b"000000-0"
    after = refused[-1] + b"\0"
    assert len(engine.scan(after, None, 10_000)) == sum(key >= after for n in range(BATCHES) for key in batch_of(n))
    engine.commit({b"still": b"writable", b"and": b"readable"})
    assert engine.get(b"still") == b"writable"
    engine.close()


def test_a_compaction_that_meets_damage_ends_commits_and_leaves_reads(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    for turn in range(3):
        engine.commit({b"%06d" % number: b"turn %d" % turn * 10 for number in range(turn, 3000, 3)})
        engine.flush()
    assert engine.stats()["level0_files"] == 3
    engine.close()
    flip_bit(the_file(tmp_path / "store", "*.sst"), 5 * DATA_BLOCK_BYTES)
    engine = open_engine("rocksdb", tmp_path / "store")
    engine.commit({b"000000": b"new", b"002999": b"new"})
    with pytest.raises(StorageDamaged, match="checksum mismatch"):
        engine.flush()  # the fourth file of level 0: RocksDB begins to compact them in the background
        while True:
            engine.commit({b"000001": b"newer"})
    with pytest.raises(StorageDamaged, match="cannot commit"):
        engine.commit({b"000001": b"newest"})
    assert engine.get(b"000000") == b"new"
    assert int(engine.stats()["background_errors"]) > 0
    with pytest.raises(StorageDamaged, match="cannot flush at close"):
        engine.close()
    engine = open_engine("rocksdb", tmp_path / "store")
    assert engine.get_many([b"000000", b"002999"]) == [b"new", b"new"]
    with suppress(StorageDamaged):  # the compaction may have been tried again by now, or not yet
        engine.close()


def test_a_damaged_store_that_is_opened_without_compactions_takes_writes(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    for turn in range(3):
        engine.commit({b"%06d" % number: b"turn %d" % turn * 10 for number in range(turn, 3000, 3)})
        engine.flush()
    engine.close()
    flip_bit(the_file(tmp_path / "store", "*.sst"), 5 * DATA_BLOCK_BYTES)
    engine = open_engine("rocksdb", tmp_path / "store")
    with pytest.raises(StorageDamaged):
        engine.commit({b"000000": b"new"})
        engine.flush()
        while True:
            engine.commit({b"000001": b"newer"})
    engine.reopen(compacts=False)
    engine.set_compaction(True)  # as the watch of the disk does when there is room
    for turn in range(5):
        engine.commit({b"000002": b"%d" % turn})
        engine.flush()
    assert engine.get_many([b"000000", b"000002"]) == [b"new", b"4"]
    assert engine.stats()["background_errors"] == "0" or not int(engine.stats()["background_errors"])
    engine.close()


def remove(pattern: str) -> Callable[[Path], None]:
    return lambda copy: the_file(copy, pattern).unlink()


def remove_current_and_logs(copy: Path) -> None:
    for file in [copy / "CURRENT", *copy.glob("*.log")]:
        file.unlink()


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(remove("*.sst"), id="sorted file missing"),
        pytest.param(remove("MANIFEST-*"), id="manifest missing"),
        pytest.param(remove_current_and_logs, id="current and logs missing"),
        pytest.param(lambda copy: (copy / "CURRENT").write_text("junk"), id="current is junk"),
        pytest.param(lambda copy: flip_bit(the_file(copy, "MANIFEST-*"), 40), id="manifest damaged"),
        pytest.param(lambda copy: flip_bit(the_file(copy, "*.sst"), -4), id="footer damaged"),
        pytest.param(lambda copy: os.truncate(the_file(copy, "*.sst"), 30_000), id="sorted file truncated"),
    ],
)
def test_a_store_with_missing_or_damaged_files_refuses_to_open(
    sorted_files: Path, change: Callable[[Path], None]
) -> None:
    kept: list[Path] = []

    def changed(copy: Path) -> None:
        change(copy)
        kept.extend(copy.glob("*.sst"))

    with pytest.raises(StorageDamaged, match=r"damaged.*--rebuild"):
        reopened(sorted_files, changed)
    assert all(file.exists() for file in kept), "a refusal deletes nothing"


# The directory


OPEN_AND_REPORT = """
import sys
from pathlib import Path
from server.storage.engine import StorageError
from server.storage.engines import open_engine
try:
    open_engine("rocksdb", Path(sys.argv[1])).close()
except StorageError as error:
    print(type(error).__name__, error)
"""


def test_a_directory_is_open_once(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    with pytest.raises(StorageLocked, match="does this node run already"):
        open_engine("rocksdb", tmp_path / "store")
    child = subprocess.run(
        [sys.executable, "-c", OPEN_AND_REPORT, str(tmp_path / "store")], capture_output=True, text=True, check=True
    )
    assert child.stdout.startswith("StorageLocked")
    assert str(tmp_path / "store") in child.stdout
    engine.commit({b"a": b"1"})
    engine.close()
    engine = open_engine("rocksdb", tmp_path / "store")
    assert engine.get(b"a") == b"1"
    engine.close()


def test_a_path_that_cannot_be_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(StorageError, match="cannot open") as raised:
            open_engine("rocksdb", path)
        assert type(raised.value) is StorageError


def test_reopening_takes_the_options_of_now(tmp_path: Path) -> None:
    for cache_bytes in (16 << 20, 48 << 20):
        engine = open_engine("rocksdb", tmp_path / "store", cache_bytes)
        assert engine.stats()["block_cache_bytes_max"] == cache_bytes
        engine.close()


def test_a_wrong_type_is_a_mistake_of_ours_and_not_of_the_store(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    with pytest.raises(ValueError, match="bytes"):
        engine.commit({b"a": b"bytes", b"b": "text"})  # type: ignore[dict-item]
    assert count(engine) == 0, "nothing of a failed batch is applied"
    engine.close()


def test_the_diary_files_stay_few(tmp_path: Path) -> None:
    for _ in range(5):
        open_engine("rocksdb", tmp_path / "store").close()
    assert len(list((tmp_path / "store").glob("LOG*"))) == 2


def test_files_that_rocksdb_may_hold_open_are_bounded(tmp_path: Path) -> None:
    RocksEngine(tmp_path / "store", files_max=128).close()
    options = max((tmp_path / "store").glob("OPTIONS-*")).read_text()
    assert f"max_open_files={128 - FILES_BESIDE_TABLES}\n" in options


def test_an_io_error_of_a_read_is_damage_and_one_of_a_write_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that does not give one block has not failed as a whole: that record is fetched from other nodes."""
    engine = open_engine("rocksdb", tmp_path / "store")
    engine.commit({b"a": b"1", b"b": b"2"})

    def fails(*_: object) -> None:
        raise Exception("IO error: While pread offset 4096 len 4096: 000012.sst: Input/output error")

    for name in ("_get", "_write"):
        monkeypatch.setattr(engine, name, fails)
    for read in (lambda: engine.get(b"a"), lambda: engine.get_many([b"a", b"b"])):
        with pytest.raises(StorageDamaged, match="Input/output error"):
            read()
    with pytest.raises(StorageError) as raised:
        engine.commit({b"a": b"3", b"b": b"4"})
    assert type(raised.value) is StorageError
    assert engine.stats()["damage_seen"] == 2
    engine.close()
