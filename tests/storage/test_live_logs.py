"""A log file that must exist and does not is damage; one that RocksDB has deleted itself, at any instant, is not."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage import live_logs
from server.storage.engine import StorageDamaged
from server.storage.engines import open_engine
from server.storage.live_logs import FILE_NAME, LiveLogs, log_sizes
from tests.storage.counting import count
from tests.storage.crash import batch_of, crash_image, scratch_directory

BIG = b"v" * 20_000


@pytest.fixture(scope="module")
def crashed() -> Iterator[Path]:
    """A store that was killed with several logs of unflushed writes, all of them synced."""
    with scratch_directory() as directory:
        engine = open_engine("rocksdb", directory / "store")
        for number in range(300):
            engine.commit({b"%06d" % number: BIG})
        engine.sync()
        image = crash_image(directory / "store", directory / "image")
        engine.close()
        assert len(log_sizes(image)) >= 3
        yield image


def _logs(store: Path) -> list[Path]:
    return sorted(store.glob("*.log"))


@pytest.mark.parametrize("place", [0, 1, -1])
def test_a_log_that_is_missing_refuses_to_open(crashed: Path, tmp_path: Path, place: int) -> None:
    copy = crash_image(crashed, tmp_path / "copy")
    log = _logs(copy)[place]
    content = log.read_bytes()
    log.unlink()
    with pytest.raises(StorageDamaged, match=rf"{log.name} is missing, of {len(content)} bytes.*--rebuild"):
        open_engine("rocksdb", copy)
    log.write_bytes(content)
    engine = open_engine("rocksdb", copy)
    assert count(engine) == 300
    engine.close()


def test_a_log_that_is_cut_short_of_what_was_synced_refuses_to_open(crashed: Path, tmp_path: Path) -> None:
    copy = crash_image(crashed, tmp_path / "copy")
    os.truncate(_logs(copy)[-1], 100)
    with pytest.raises(StorageDamaged, match="has 100 bytes, and had"):
        open_engine("rocksdb", copy)


def test_the_only_log_of_a_store_that_was_never_synced_is_missed_too(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    for number in range(1000):
        engine.commit(batch_of(number))
    image = crash_image(tmp_path / "store", tmp_path / "image")
    engine.close()
    for log in _logs(image):
        log.unlink()
    with pytest.raises(StorageDamaged, match="is missing"):
        open_engine("rocksdb", image)


COMMIT_AND_SYNC_UNTIL_KILLED = """
import os, sys
from pathlib import Path
from server.storage.engines import open_engine
engine = open_engine("rocksdb", Path(sys.argv[1]))
number = int(sys.argv[2])
while True:
    engine.commit({b"%06d" % number: b"v" * 20_000})
    if number % 5 == 0:
        engine.sync()
    if number % 101 == 100:
        engine.flush()
    os.write(1, b"%d\\n" % number)
    number += 1
"""


def test_no_kill_at_any_instant_is_taken_for_damage() -> None:
    """Logs come and go all the time; each life begins on what the one before has left."""
    rng = random.Random(1)
    total = 0
    with scratch_directory() as directory:
        for _ in range(8):
            words = [sys.executable, "-c", COMMIT_AND_SYNC_UNTIL_KILLED, str(directory / "store"), str(total)]
            with subprocess.Popen(words, stdout=subprocess.PIPE) as child:
                assert child.stdout is not None
                until = total + rng.randrange(50, 600)
                while total < until:
                    line = child.stdout.readline()
                    assert line, "the child ended by itself: it did not open what was left"
                    total = int(line) + 1
                child.kill()
                total = max(total, *(int(line) + 1 for line in child.stdout.read().splitlines()[:-1]), 0)
        engine = open_engine("rocksdb", directory / "store")
        assert count(engine) in (total, total + 1, total + 2)
        engine.close()


def _noted(store: Path) -> list[int]:
    _, _, *words = (store / FILE_NAME).read_text().split()
    return [int(word.split(":")[0]) for word in words]


def test_deleted_logs_are_told_from_missing_ones_by_the_manifest(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    for number in range(400):
        engine.commit({b"%06d" % number: BIG})
    engine.sync()
    engine.flush()  # from here on the noted logs are not needed, and most are gone
    for number in range(10):
        engine.commit({b"more%d" % number: BIG})
    image = crash_image(tmp_path / "store", tmp_path / "image")
    engine.sync()
    later = crash_image(tmp_path / "store", tmp_path / "later")
    engine.close()
    assert set(_noted(image)) - set(log_sizes(image)), "it names logs that RocksDB has deleted"
    copy = open_engine("rocksdb", image)
    assert count(copy) == 410
    copy.close()
    _logs(later)[-1].unlink()
    with pytest.raises(StorageDamaged, match="is missing"):
        open_engine("rocksdb", later)


def test_a_store_that_was_closed_may_lose_its_empty_log(tmp_path: Path) -> None:
    engine = open_engine("rocksdb", tmp_path / "store")
    engine.commit(batch_of(1))
    engine.close()
    for log in _logs(tmp_path / "store"):
        assert log.stat().st_size == 0
        log.unlink()
    engine = open_engine("rocksdb", tmp_path / "store")
    assert count(engine) == 3
    engine.close()


@pytest.mark.parametrize("note", [None, b"", b"nonsense", b"00000000 open 1:5 2:7\n"])
def test_a_store_without_a_sound_note_opens(crashed: Path, tmp_path: Path, note: bytes | None) -> None:
    """That of an earlier release, or one that a power loss has torn: nothing is known of its logs."""
    copy = crash_image(crashed, tmp_path / "copy")
    _logs(copy)[0].unlink()
    (copy / FILE_NAME).unlink()
    if note is not None:
        (copy / FILE_NAME).write_bytes(note)
    open_engine("rocksdb", copy).close()


def test_a_checkpoint_opens(crashed: Path, tmp_path: Path) -> None:
    engine = open_engine("rocksdb", crash_image(crashed, tmp_path / "copy"))
    engine.commit(batch_of(1))
    engine.snapshot(tmp_path / "snapshot")
    engine.close()
    copy = open_engine("rocksdb", tmp_path / "snapshot")
    assert count(copy) == 303
    copy.close()


def test_a_note_too_long_for_its_block_keeps_its_beginning(tmp_path: Path) -> None:
    logs = LiveLogs(tmp_path)
    logs.note(dict.fromkeys(range(1, 1000), 1 << 40))
    assert (tmp_path / FILE_NAME).stat().st_size == 4096
    assert 100 < len(_noted(tmp_path)) < 1000
    logs.close()


def test_each_look_tells_the_sizes_of_all_logs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "000004.log").write_bytes(b"old")
    logs = LiveLogs(tmp_path)
    lists = [0]

    def listing(store: Path) -> dict[int, int]:
        lists[0] += 1
        return log_sizes(store)

    monkeypatch.setattr(live_logs, "log_sizes", listing)
    assert logs.sizes() == {4: 3}
    (tmp_path / "000007.log").write_bytes(b"")  # perhaps at the same time of the file system's clock
    assert logs.sizes() == {4: 3, 7: 0}
    long_ago_ns = time.time_ns() - 10**10
    os.utime(tmp_path, ns=(long_ago_ns, long_ago_ns))
    assert logs.sizes() == {4: 3, 7: 0} and lists[0] == 3
    for size in range(1, 4):
        (tmp_path / "000007.log").write_bytes(bytes(size))
        assert logs.sizes() == {4: 3, 7: size}
    assert lists[0] == 3, "the directory has not changed"
    (tmp_path / "000004.log").unlink()
    assert logs.sizes() == {7: 3} and lists[0] == 4
    logs.close()


def test_an_unchanged_directory_without_its_newest_log_is_listed(tmp_path: Path) -> None:
    (tmp_path / "000004.log").write_bytes(b"old")
    (tmp_path / "000007.log").write_bytes(b"new")
    logs = LiveLogs(tmp_path)
    long_ago_ns = time.time_ns() - 10**10
    os.utime(tmp_path, ns=(long_ago_ns, long_ago_ns))
    assert logs.sizes() == {4: 3, 7: 3}
    (tmp_path / "000007.log").unlink()
    os.utime(tmp_path, ns=(long_ago_ns, long_ago_ns))
    assert logs.sizes() == {4: 3}
    logs.close()
