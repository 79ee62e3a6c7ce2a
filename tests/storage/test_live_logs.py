"""A log file that must exist and does not is damage; one that RocksDB has deleted itself, at any instant, is not."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.engine import StorageDamaged
from server.storage.engines import open_engine
from server.storage.live_logs import FILE_NAME, LiveLogs, find_missing, log_sizes
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
    assert engine.count() == 300
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


def test_no_crash_at_any_instant_is_taken_for_damage(tmp_path: Path) -> None:
    """Images of a store whose logs come and go, taken between all kinds of steps, each opens with all its keys."""
    with scratch_directory() as directory:
        engine = open_engine("rocksdb", directory / "store")
        deleted = 0
        for number in range(2400):
            engine.commit({b"%06d" % (number % 800): BIG})
            if number % 7 == 0:
                engine.sync()
            if number % 160 == 159:
                engine.flush()
            if number % 80 == 79:
                image = crash_image(directory / "store", directory / f"image-{number}")
                deleted += any(not (image / f"{log:06}.log").exists() for log in _noted(image))
                copy = open_engine("rocksdb", image)
                assert copy.count() == min(number + 1, 800)
                copy.close()
        engine.close()
        assert deleted, "no image has shown a log that was deleted since the last note"
        assert find_missing(directory / "store") is None


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
    assert copy.count() == 410
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
    assert engine.count() == 3
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
    assert copy.count() == 303
    copy.close()


def test_a_note_too_long_for_its_block_keeps_its_beginning(tmp_path: Path) -> None:
    logs = LiveLogs(tmp_path)
    logs.note(dict.fromkeys(range(1, 1000), 1 << 40))
    assert (tmp_path / FILE_NAME).stat().st_size == 4096
    assert 100 < len(_noted(tmp_path)) < 1000
    logs.close()
