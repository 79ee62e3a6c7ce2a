"""Keys that change while values are rewritten: at the end all are under the last one, and only then another may go."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from server.shell import rewriting
from server.shell.rewriting import KeyWatch
from server.storage.encrypted import MAGIC, EncryptedEngine, read_marker
from server.storage.keyring import read_keys
from server.storage.memory import MemoryEngine

A, B, C = ("0000000a " + "11" * 32, "0000000b " + "22" * 32, "0000000c " + "33" * 32)


def write_keys(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")
    path.chmod(0o600)


class Compacting(MemoryEngine):
    """Its file of keys is another one by the time that the compaction for the second key ends."""

    watch: KeyWatch
    keys: Path

    def compact(self, start: bytes, end: bytes) -> None:
        """Compacts a range."""
        text = self.keys.read_text()
        if not start and "0000000b" in text and "0000000c" not in text:
            write_keys(self.keys, A, B, C)
            self.watch.check()


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rewriting, "PAUSE_S", 0)


def test_a_key_that_changes_during_the_rewriting_starts_it_again(tmp_path: Path) -> None:
    keys, marker, inner = tmp_path / "keys", tmp_path / "encryption", Compacting()
    write_keys(keys, A)
    engine = EncryptedEngine(inner, read_keys(keys), marker)
    engine.commit({b"k:%d" % number: b"v%d" % number for number in range(500)})

    async def change() -> None:
        watch = inner.watch = KeyWatch(engine, str(keys))
        inner.keys = keys
        watch.check()
        loop = asyncio.get_running_loop()
        running = loop.create_task(watch.run())
        while not engine.is_whole:
            await loop.run_in_executor(None, len, ())
        write_keys(keys, A, B)
        watch.check()
        while engine.key_id != "0000000c" or not engine.is_whole:
            await loop.run_in_executor(None, len, ())
        running.cancel()

    asyncio.run(asyncio.wait_for(change(), 30))
    assert read_marker(marker) == ["0000000c"]
    found = [inner.get(b"k:%d" % number) or b"" for number in range(500)]
    assert all(value.startswith(MAGIC + bytes.fromhex("0000000c")) for value in found)
    assert [engine.get(b"k:%d" % number) for number in range(500)] == [b"v%d" % number for number in range(500)]


def test_a_store_that_is_not_encrypted_has_nothing_to_do() -> None:
    watch = KeyWatch(MemoryEngine(), "")
    watch.check()
    watch.read_again()
    asyncio.run(watch.run())
