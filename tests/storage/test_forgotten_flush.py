"""RocksDB may forget a flush for which somebody waits: it is asked for it again."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from server.storage import rocksdb
from server.storage.rocksdb import RocksEngine


class Forgetful:
    """A database handle that forgets a flush for which somebody waits, until it is asked for one again."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._asked = threading.Event()

    def flush(self, wait: bool = True) -> None:
        if wait:
            assert self._asked.wait(20), "nobody has asked again"
        else:
            self._asked.set()
        self._handle.flush(wait)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)


@pytest.mark.parametrize("doing", ["flush", "close"])
def test_a_flush_that_rocksdb_forgets_is_asked_for_again(
    doing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rocksdb, "ASK_AGAIN_S", 0.01)
    engine = RocksEngine(tmp_path)
    engine.commit({b"a": b"1"})
    monkeypatch.setattr(engine, "_db", Forgetful(engine._db))
    getattr(engine, doing)()
    engine.close()
    again = RocksEngine(tmp_path)
    assert again.get(b"a") == b"1"
    again.close()
