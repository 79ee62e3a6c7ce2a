"""Large values in chunks: the engine answers like any other one, whatever was staged, adopted, discarded or cut short."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from server.storage.chunked import CHUNK_HEAD, CHUNKS, FRONT, OWNERS, ChunkedEngine, StagedValue
from server.storage.encrypted import DAMAGED, MAGIC, EncryptedEngine
from server.storage.engine import Engine, StorageDamaged, StorageFull
from server.storage.engines import open_encrypted
from server.storage.memory import MemoryEngine
from server.storage.rocksdb import RocksEngine
from tests.storage.crash import crash_image
from tests.storage.test_encrypted import A, key_file

CHUNK_BYTES = 100
MIB = 1 << 20
VALUE = random.Random(1).randbytes(950)


class Fickle(MemoryEngine):
    """A memory engine that may refuse to commit, and to read some keys."""

    def __init__(self) -> None:
        super().__init__()
        self.refuses: Callable[[dict[bytes, bytes | None]], bool] = lambda writes: False
        self.unreadable: list[bytes] = []

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        if self.refuses(writes):
            raise StorageFull("no space")
        super().commit(writes)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        if any(key in self.unreadable for key in keys):
            raise StorageDamaged("a damaged block")
        return super().get_many(keys)

    def scan(self, start: bytes, end: bytes | None, limit: int, bytes_max: int = 1 << 62) -> list[tuple[bytes, bytes]]:
        if any(start <= key and (end is None or key < end) for key in self.unreadable):
            raise StorageDamaged("a damaged block")
        return super().scan(start, end, limit, bytes_max)


def chunked(inner: Engine) -> ChunkedEngine:
    return ChunkedEngine(inner, chunk_bytes=CHUNK_BYTES)


def stage(engine: ChunkedEngine, value: bytes) -> StagedValue:
    staged = engine.begin(value)
    assert staged is not None
    while not engine.write_chunk(staged):
        pass
    return staged


def put(engine: ChunkedEngine, key: bytes, value: bytes, before: bytes = b"before ") -> None:
    """As a turn does it."""
    staged = stage(engine, value)
    engine.commit({b"other": b"small", key: before + value})
    engine.discard(staged)
    assert staged.is_adopted


def hidden(inner: Engine) -> list[bytes]:
    """The keys of all rows of chunks."""
    return [key for key, _ in inner.scan(OWNERS, b"\xff\xfd", 10_000)]


def test_a_staged_value_is_read_as_it_was_written() -> None:
    inner = MemoryEngine()
    engine = chunked(inner)
    put(engine, b"k", VALUE)
    whole = b"before " + VALUE
    assert engine.get(b"k") == whole and engine.get(b"other") == b"small"
    assert engine.get_many([b"x", b"k", b"other"]) == [None, whole, b"small"]
    assert engine.scan(b"", b"\xf0", 9) == [(b"k", whole), (b"other", b"small")]
    front = inner.get(b"k")
    assert front is not None and front.startswith(FRONT) and len(front) < 50, "the batch of the turn was small"
    assert len(hidden(inner)) == 1 + 10
    assert engine.stats()["chunked_values"] == 1


def test_nobody_sees_what_is_only_staged() -> None:
    engine = chunked(MemoryEngine())
    staged = stage(engine, VALUE)
    engine.commit({b"other": b"small"})
    assert engine.scan(b"", b"\xf0", 9) == [(b"other", b"small")]
    assert not staged.is_adopted


@pytest.mark.parametrize("steps", [0, 1, 4, 10])
def test_what_is_not_adopted_is_deleted(steps: int) -> None:
    inner = MemoryEngine()
    engine = chunked(inner)
    staged = engine.begin(VALUE)
    assert staged is not None
    for _ in range(steps):
        engine.write_chunk(staged)
    engine.commit({b"k": VALUE[:-1] + b"?"})
    engine.discard(staged)
    assert hidden(inner) == []
    assert engine.get(b"k") == VALUE[:-1] + b"?"


@pytest.mark.parametrize("then", [None, b"small", VALUE[:500]])
def test_chunks_go_with_their_value(then: bytes | None) -> None:
    inner = MemoryEngine()
    engine = chunked(inner)
    put(engine, b"k", VALUE)
    put(engine, b"l", VALUE)
    engine = chunked(inner)  # what it knows is in the store
    if then is not None and len(then) > CHUNK_BYTES:
        put(engine, b"k", then, b"")
    else:
        engine.commit({b"k": then})
    assert engine.get(b"k") == then and engine.get(b"l") == b"before " + VALUE
    assert len(hidden(inner)) == 11 + (6 if then is not None and len(then) > CHUNK_BYTES else 0)


def test_two_values_that_are_equal_have_chunks_of_their_own() -> None:
    inner = MemoryEngine()
    engine = chunked(inner)
    first, second = stage(engine, VALUE), stage(engine, VALUE)
    engine.commit({b"a": VALUE, b"b": b"x" + VALUE, b"c": b"y" + VALUE})
    for staged in (first, second):
        engine.discard(staged)
        assert staged.is_adopted
    engine.commit({b"a": None})
    assert engine.scan(b"", b"\xf0", 9) == [(b"b", b"x" + VALUE), (b"c", b"y" + VALUE)]
    assert len(hidden(inner)) == 11


def test_a_page_ends_by_the_bytes_of_whole_values() -> None:
    engine = chunked(MemoryEngine())
    for name in (b"a", b"b", b"c"):
        put(engine, name, VALUE)
    assert [key for key, _ in engine.scan(b"", b"\xf0", 9, 1000)] == [b"a", b"b"]
    assert [key for key, _ in engine.scan(b"b\0", b"\xf0", 9, 1000)] == [b"c", b"other"]


@pytest.mark.parametrize("steps", range(1, 11))
def test_a_crash_amid_staging_leaves_nothing(steps: int, tmp_path: Path) -> None:
    engine = chunked(RocksEngine(tmp_path / "store"))
    put(engine, b"k", VALUE)
    staged = engine.begin(VALUE[::-1])
    assert staged is not None
    for _ in range(steps):
        engine.write_chunk(staged)
    image = crash_image(tmp_path / "store", tmp_path / "image")
    engine.close()
    again = chunked(RocksEngine(image))
    assert len(hidden(again.inner)) == 11
    assert again.get(b"k") == b"before " + VALUE
    again.close()


def test_a_crash_after_adoption_loses_nothing(tmp_path: Path) -> None:
    engine = chunked(RocksEngine(tmp_path / "store"))
    put(engine, b"k", VALUE)
    put(engine, b"k", VALUE[::-1])
    image = crash_image(tmp_path / "store", tmp_path / "image")
    engine.close()
    again = chunked(RocksEngine(image))
    assert again.get(b"k") == b"before " + VALUE[::-1]
    assert len(hidden(again.inner)) == 11
    again.close()


def test_a_refused_commit_changes_nothing() -> None:
    inner = Fickle()
    engine = chunked(inner)
    put(engine, b"k", VALUE)
    staged = stage(engine, VALUE[::-1])
    inner.refuses = lambda writes: True
    with pytest.raises(StorageFull):
        engine.commit({b"k": VALUE[::-1]})
    assert not staged.is_adopted
    assert engine.get(b"k") == b"before " + VALUE
    inner.refuses = lambda writes: False
    engine.commit({b"k": VALUE[::-1]})
    engine.discard(staged)
    assert engine.get(b"k") == VALUE[::-1] and len(hidden(inner)) == 11


def test_a_refused_chunk_that_is_there_after_all_is_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a restart: that a commit was refused does not say that its batch is not in the log."""
    inner = Fickle()
    engine = chunked(inner)
    staged = engine.begin(VALUE)
    assert staged is not None
    engine.write_chunk(staged)
    commit = inner.commit

    def apply_and_refuse(writes: dict[bytes, bytes | None]) -> None:
        commit(writes)
        raise StorageFull("no space")

    monkeypatch.setattr(inner, "commit", apply_and_refuse)
    with pytest.raises(StorageFull):
        engine.write_chunk(staged)
    monkeypatch.undo()
    engine.discard(staged)
    assert hidden(inner) == []


def test_a_full_disk_keeps_what_is_left_over_until_the_next_start() -> None:
    inner = Fickle()
    stage(chunked(inner), VALUE)
    inner.refuses = lambda writes: None in writes.values()
    assert chunked(inner).get(b"k") is None and len(hidden(inner)) == 11
    inner.refuses = lambda writes: False
    chunked(inner)
    assert hidden(inner) == []


def test_a_missing_or_changed_chunk_never_gives_the_value() -> None:
    inner = MemoryEngine()
    engine = chunked(inner)
    put(engine, b"k", VALUE)
    rows = [key for key in hidden(inner) if key.startswith(CHUNKS)]
    good = inner.get(rows[3])
    for bad in (None, b"", CHUNK_HEAD, CHUNK_HEAD + b"?" * CHUNK_BYTES, DAMAGED):
        inner.commit({rows[3]: bad})
        whole = b"before " + VALUE
        assert engine.get(b"k") != whole and dict(engine.scan(b"", b"\xf0", 9))[b"k"] != whole
    inner.commit({rows[3]: good})
    assert engine.get(b"k") == b"before " + VALUE


def test_an_unreadable_chunk_is_damage_of_its_value_alone() -> None:
    inner = Fickle()
    engine = chunked(inner)
    put(engine, b"k", VALUE)
    inner.unreadable = [key for key in hidden(inner) if key.startswith(CHUNKS)][:1]
    with pytest.raises(StorageDamaged):
        engine.get(b"k")
    pairs = engine.scan(b"", b"\xf0", 9)
    assert [key for key, _ in pairs] == [b"k", b"other"] and pairs[0][1].startswith(FRONT)
    inner.unreadable = []
    engine.commit({b"k": b"mended"})
    assert engine.get(b"k") == b"mended" and hidden(inner) == []


def test_damaged_rows_of_owners_lose_no_value() -> None:
    """Their chunks may be left over later, but are never taken for chunks that nobody has."""
    inner = Fickle()
    engine = chunked(inner)
    put(engine, b"k", VALUE)
    owner = hidden(inner)[0]
    row = inner.get(owner)
    assert row is not None
    for damaged in (b"\xffdamaged", row[:-1], row[:12], b"", bytes(8) + row[8:]):
        inner.commit({owner: damaged})
        assert chunked(inner).get(b"k") == b"before " + VALUE
    inner.unreadable = [owner]
    assert chunked(inner).get(b"k") == b"before " + VALUE


def test_encryption_is_below_and_covers_the_chunks(tmp_path: Path) -> None:
    inner = MemoryEngine()
    below = open_encrypted(inner, key_file(tmp_path, A), tmp_path / "encryption")
    assert isinstance(below, EncryptedEngine)
    engine = chunked(below)
    put(engine, b"k", VALUE)
    assert engine.get(b"k") == b"before " + VALUE
    stored = [value for _, value in inner.scan(b"", None, 99)]
    assert not any(VALUE[at : at + 20] in value for value in stored for at in range(0, 900, 50))
    rows = [key for key in hidden(inner) if key.startswith(CHUNKS)]
    inner.commit({rows[0]: inner.get(rows[1]), rows[1]: inner.get(rows[0])})
    assert VALUE not in (engine.get(b"k") or b"")


@pytest.mark.parametrize("shift", range(3))
def test_what_a_client_writes_in_clear_is_never_taken_for_encrypted(shift: int, tmp_path: Path) -> None:
    """Encryption begins in a store where each chunk of the value begins with the mark of encrypted rows, or might."""
    inner = MemoryEngine()
    whole = bytes(shift) + MAGIC * 333
    put(chunked(inner), b"k", whole, b"")
    below = open_encrypted(inner, key_file(tmp_path, A), tmp_path / "encryption")
    assert isinstance(below, EncryptedEngine)
    engine = chunked(below)
    assert engine.get(b"k") == whole and dict(engine.scan(b"", b"\xf0", 9))[b"k"] == whole
    while below.rewrite_some():
        pass
    below.finish_rewriting()
    assert engine.get(b"k") == whole and below.damaged == 0


def test_a_scan_leaves_the_cache_of_blocks_as_it_is(tmp_path: Path) -> None:
    engine = ChunkedEngine(RocksEngine(tmp_path))
    values = {b"%d" % number: random.Random(number).randbytes(MIB) for number in range(8)}
    for key, value in values.items():
        put(engine, key, value, b"")
    engine.flush()
    before = int(engine.stats()["block_cache_bytes"])
    assert dict(engine.scan(b"", b"9", 9)) == values
    assert int(engine.stats()["block_cache_bytes"]) < before + MIB, "what others read most may lie there"
    engine.close()


def test_the_store_is_marked_before_the_first_chunk(tmp_path: Path) -> None:
    engine = chunked(RocksEngine(tmp_path))
    engine.commit({b"k": VALUE})
    assert engine.inner._marks() == []  # type: ignore[attr-defined]
    engine.begin(VALUE)
    assert engine.inner._marks() == ["needs chunks"]  # type: ignore[attr-defined]
    engine.reopen()
    assert engine.get(b"k") == VALUE
    engine.close()


def test_nothing_is_staged_in_a_store_that_cannot_be_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    inner = MemoryEngine()
    monkeypatch.setattr(inner, "require", lambda mark: False)
    assert chunked(inner).begin(VALUE) is None


def test_it_answers_like_a_dict_whatever_happens() -> None:
    """Commits, staging that is adopted, discarded or cut short by a crash, in any order."""
    for seed in range(60):
        rng = random.Random(seed)
        inner = MemoryEngine()
        engine, expected = chunked(inner), dict[bytes, bytes]()
        for _ in range(60):
            key, value = rng.choice([b"a", b"b", b"c"]), rng.randbytes(rng.choice((0, 10, 100, 250, 999)))
            staged = engine.begin(value) if value and rng.random() < 0.7 else None
            while staged is not None and not engine.write_chunk(staged) and rng.random() < 0.95:
                pass
            writes: dict[bytes, bytes | None] = {} if rng.random() < 0.2 else {key: rng.randbytes(7) + value}
            writes |= {rng.choice([b"a", b"b", b"d"]): None} if rng.random() < 0.3 else {}
            engine.commit(writes)
            for name, new in writes.items():
                expected.pop(name, None)
                expected |= {} if new is None else {name: new}
            if rng.random() < 0.2:
                engine = chunked(inner)
            elif staged is not None:
                engine.discard(staged)
            assert engine.scan(b"", b"\xf0", 99) == sorted(expected.items())
        engine = chunked(inner)
        engine.commit(dict.fromkeys(expected, None))
        assert inner.scan(b"", None, 9) == [], "no chunk is left over"
