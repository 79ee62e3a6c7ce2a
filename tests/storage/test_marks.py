"""Marks: a store that needs a newer binary is refused by an older one, and by no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from rocksdict import Options, Rdict

from server.storage import rocksdb
from server.storage.engine import MARKS, StorageError
from server.storage.engines import ENGINES, open_engine
from server.storage.rocksdb import RocksEngine
from tests.storage.crash import crash_image


@pytest.mark.parametrize("name", ENGINES)
def test_a_marked_store_works_and_so_do_its_snapshots(name: str, tmp_path: Path) -> None:
    engine = open_engine(name, tmp_path / "store")
    engine.commit({b"a": b"1"})
    assert engine.require(MARKS[0]) and engine.require(MARKS[0])
    engine.commit({b"b": b"2"})
    engine.snapshot(tmp_path / "copy")
    if name == "rocksdb":
        engine.reopen()
        assert engine.require(MARKS[0])
    assert engine.scan(b"", None, 9) == [(b"a", b"1"), (b"b", b"2")]
    engine.close()
    for place in ("store", "copy") if name == "rocksdb" else ("copy",):
        again = RocksEngine(tmp_path / place)
        assert again.scan(b"", None, 9) == [(b"a", b"1"), (b"b", b"2")]
        again.close()
        assert Rdict.list_cf(str(tmp_path / place)) == ["default", "needs patches"]


def test_the_binary_before_refuses_a_marked_store(tmp_path: Path) -> None:
    """It names one column family, the default; RocksDB then says which others there are."""
    engine = RocksEngine(tmp_path)
    engine.require(MARKS[0])
    engine.close()
    with pytest.raises(Exception, match="Column families not opened: needs patches"):
        Rdict(str(tmp_path), Options(raw_mode=True), column_families={"default": Options(raw_mode=True)})


def test_a_mark_that_only_newer_binaries_know_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = RocksEngine(tmp_path)
    engine.require("tomorrow")
    engine.close()
    with pytest.raises(StorageError, match=r"written by a newer version .*needs tomorrow.*--rebuild"):
        RocksEngine(tmp_path)
    monkeypatch.setattr(rocksdb, "MARKS", ("patches", "tomorrow"))
    RocksEngine(tmp_path).close()


def test_a_mark_is_there_after_a_crash(tmp_path: Path) -> None:
    """Before the first commit that needs it."""
    engine = RocksEngine(tmp_path / "store")
    engine.require(MARKS[0])
    image = crash_image(tmp_path / "store", tmp_path / "image")
    engine.commit({b"a": b"1"})
    engine.close()
    copy = RocksEngine(image)
    assert copy.require(MARKS[0]) and Rdict.list_cf(str(image)) == ["default", "needs patches"]
    copy.close()


def test_logs_are_deleted_as_before(tmp_path: Path) -> None:
    """An empty column family keeps no log."""
    engine = RocksEngine(tmp_path)
    engine.require(MARKS[0])
    for number in range(60):
        engine.commit({b"%d" % (number % 7): bytes(1 << 20)})
        if number % 20 == 19:
            engine.flush()
            engine.sync()
    assert len(list(tmp_path.glob("*.log"))) <= 2
    engine.close()
