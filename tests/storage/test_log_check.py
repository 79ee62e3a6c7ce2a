"""The look at RocksDB's logs: it finds every wrong type or length that matters, and takes no torn tail for damage.

What RocksDB itself does with a recycled type is not tried here: it would not come back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from server.storage.engine import StorageDamaged
from server.storage.engines import open_engine
from server.storage.log_check import HEADER, LOG_BLOCK_BYTES, RECYCLED_TYPES, find_damage
from tests.storage.crash import batch_of, crash_image, scratch_directory

BATCHES = 1200


@pytest.fixture(scope="module")
def image() -> Iterator[Path]:
    """A crashed store with a log of several blocks, small batches and one that spans three blocks."""
    with scratch_directory() as directory:
        engine = open_engine("rocksdb", directory / "store")
        for number in range(BATCHES):
            engine.commit(batch_of(number))
        engine.commit({b"large": b"v" * 2 * LOG_BLOCK_BYTES, b"other": b"v"})
        for number in range(BATCHES, BATCHES + 50):
            engine.commit(batch_of(number))
        crash_image(directory / "store", directory / "image")
        engine.close()
        yield directory / "image"


def the_log(image: Path) -> Path:
    return next(image.glob("*.log"))


def record_positions(content: bytes) -> list[int]:
    """Where the records of an intact log begin."""
    positions = []
    position = 0
    while position + HEADER.size <= len(content):
        left_in_block = LOG_BLOCK_BYTES - position % LOG_BLOCK_BYTES
        if left_in_block < HEADER.size:
            position += left_in_block
            continue
        positions.append(position)
        position += HEADER.size + HEADER.unpack_from(content, position)[1]
    assert position == len(content)
    return positions


def damage_in(content: bytes, directory: Path) -> str | None:
    log = directory / "000001.log"
    log.write_bytes(content)
    return find_damage(log)


def with_header(content: bytes, position: int, length: int | None = None, kind: int | None = None) -> bytes:
    """`content` with another length or type in the record at `position`."""
    checksum, old_length, old_kind = HEADER.unpack_from(content, position)
    changed = bytearray(content)
    HEADER.pack_into(
        changed, position, checksum, old_length if length is None else length, old_kind if kind is None else kind
    )
    return bytes(changed)


def test_intact_and_empty_logs_are_fine(image: Path, tmp_path: Path) -> None:
    content = the_log(image).read_bytes()
    assert {content[position + 6] for position in record_positions(content)} == {1, 2, 3, 4}
    assert find_damage(the_log(image)) is None
    assert find_damage(next(image.glob("MANIFEST-*"))) is None
    assert damage_in(b"", tmp_path) is None
    assert damage_in(content[:LOG_BLOCK_BYTES] + bytes(LOG_BLOCK_BYTES), tmp_path) is None


def test_no_torn_tail_is_damage(image: Path, tmp_path: Path) -> None:
    content = the_log(image).read_bytes()
    last = record_positions(content)[-3:]
    for size in range(last[0], len(content)):
        assert damage_in(content[:size], tmp_path) is None, size
    for size in range(1, len(content), 7919):
        assert damage_in(content[:size], tmp_path) is None, size


def test_every_recycled_type_is_damage_wherever_it_is(image: Path, tmp_path: Path) -> None:
    content = the_log(image).read_bytes()
    positions = record_positions(content)
    for kind in sorted(RECYCLED_TYPES):
        for position in (positions[0], positions[1], positions[len(positions) // 2], positions[-1]):
            found = damage_in(with_header(content, position, kind=kind), tmp_path)
            assert found == f"wrong record type {kind} at byte {position} in 000001.log"


def test_every_length_behind_the_end_of_a_complete_record_is_damage(image: Path, tmp_path: Path) -> None:
    content = the_log(image).read_bytes()
    for position in record_positions(content)[-4:]:
        behind = len(content) - position - HEADER.size + 1
        for length in (behind, behind + 1, 1 << 14, 1 << 15, (1 << 16) - 1):
            found = damage_in(with_header(content, position, length=length), tmp_path)
            assert found == f"wrong record length {length} at byte {position} in 000001.log"


@pytest.mark.parametrize("pattern", ["*.log", "MANIFEST-*"])
def test_the_engine_refuses_what_is_found(image: Path, tmp_path: Path, pattern: str) -> None:
    crash_image(image, tmp_path / "copy")
    file = next((tmp_path / "copy").glob(pattern))
    content = file.read_bytes()
    last = record_positions(content)[-1]
    for change in ({"kind": 5}, {"length": 60_000}):
        file.write_bytes(with_header(content, last, **change))
        with pytest.raises(StorageDamaged, match=r"wrong record (type 5|length 60000) at byte"):
            open_engine("rocksdb", tmp_path / "copy")
    file.write_bytes(content)
    open_engine("rocksdb", tmp_path / "copy").close()
