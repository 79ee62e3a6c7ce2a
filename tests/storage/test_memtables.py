"""What RocksDB keeps in memory before it is in tables."""

from __future__ import annotations

from pathlib import Path

from server.storage.rocksdb import RocksEngine
from server.storage.rocksdb_options import MEMTABLE_BYTES, MEMTABLES_MAX, MEMTABLES_PER_FLUSH

LARGE_BYTES = 100_000


def test_memtables_take_no_more_than_their_share_of_memory(tmp_path: Path) -> None:
    engine = RocksEngine(tmp_path / "store")
    peak_bytes = 0
    for number in range(2 * MEMTABLES_MAX * MEMTABLE_BYTES // LARGE_BYTES):
        engine.commit({b"%d" % number: bytes(LARGE_BYTES)})
        peak_bytes = max(peak_bytes, int(engine.stats()["memtable_bytes"]))
    engine.close()
    assert MEMTABLES_PER_FLUSH * MEMTABLE_BYTES // 2 < peak_bytes < (MEMTABLES_MAX + 1) * (MEMTABLE_BYTES + LARGE_BYTES)
