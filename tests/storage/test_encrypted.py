"""Encryption at rest: what lies on the disk, what a changed file does, and how a store gets encrypted and changes keys."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from server.core.records.versions import verify
from server.storage.encrypted import CLEAR, DAMAGED, MAGIC, EncryptedEngine, read_marker
from server.storage.engine import Engine, StorageError
from server.storage.engines import open_encrypted, open_engine
from server.storage.keyring import read_keys
from server.storage.memory import MemoryEngine

A, B = ("0000000a " + "11" * 32, "0000000b " + "22" * 32)
SECRET = b"the plain value that nobody shall find"


def key_file(directory: Path, *lines: str) -> Path:
    path = directory / "keys"
    path.write_text("# keys of this node\n" + "\n".join(lines) + "\n")
    path.chmod(0o600)
    return path


def encrypted(directory: Path, inner: Engine, *lines: str) -> EncryptedEngine:
    engine = open_encrypted(inner, key_file(directory, *lines), directory / "encryption")
    assert isinstance(engine, EncryptedEngine)
    return engine


def rewrite(engine: EncryptedEngine) -> None:
    while engine.rewrite_some():
        pass
    engine.flush()
    engine.compact(b"", b"\xff" * 32)
    engine.finish_rewriting()


def raw_files(directory: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(directory.rglob("*")) if path.is_file())


def test_it_answers_as_the_engine_below(tmp_path: Path) -> None:
    engine = encrypted(tmp_path, MemoryEngine(), A)
    engine.commit({b"a": b"1", b"b": b"", b"c": b"x" * 70_000})
    engine.commit({b"a": None, b"d": b"4"})
    assert (
        engine.get(b"b") == b"" and engine.get(b"a") is None and engine.get_many([b"c", b"e"]) == [b"x" * 70_000, None]
    )
    assert engine.scan(b"b", b"d", 10) == [(b"b", b""), (b"c", b"x" * 70_000)]
    assert engine.scan(b"", None, 2) == [(b"b", b""), (b"c", b"x" * 70_000)]


@pytest.mark.parametrize("flushed", [False, True])
def test_no_value_is_on_the_disk_in_clear(tmp_path: Path, flushed: bool) -> None:
    """Neither in the log nor in sorted files; the control is the same store without encryption."""
    found = []
    for lines in ((), (A,)):
        home = tmp_path / f"{len(lines)}"
        home.mkdir()
        inner = open_engine("rocksdb", home / "data")
        engine = encrypted(home, inner, *lines) if lines else inner
        engine.commit({b"key:%d" % number: SECRET + b"%d" % number for number in range(50)})
        engine.sync()
        if flushed:
            engine.flush()
        found.append(SECRET in raw_files(home / "data"))
        assert flushed or b"key:7" in raw_files(home / "data"), "keys are in clear"
        engine.close()
    assert found == [True, False]


def test_a_store_in_clear_is_encrypted_while_it_serves(tmp_path: Path) -> None:
    inner = open_engine("rocksdb", tmp_path / "data")
    inner.commit({b"key:%03d" % number: SECRET + b"%d" % number for number in range(500)})
    inner.flush()
    engine = encrypted(tmp_path, inner, A)
    assert not engine.is_whole and read_marker(tmp_path / "encryption") == [CLEAR, "0000000a"]
    assert engine.rewrite_some() and engine.get(b"key:499") == SECRET + b"499"
    engine.commit({b"key:499": b"changed meanwhile"})
    rewrite(engine)
    assert engine.is_whole and read_marker(tmp_path / "encryption") == ["0000000a"]
    assert SECRET not in raw_files(tmp_path / "data")
    assert engine.get(b"key:000") == SECRET + b"0" and engine.get(b"key:499") == b"changed meanwhile"
    assert len(engine.scan(b"", None, 1000)) == 500
    engine.close()


@pytest.mark.parametrize("begin", [MAGIC, MAGIC + bytes(4), MAGIC + bytes.fromhex("0000000a")])
def test_a_value_in_clear_may_begin_as_an_encrypted_one(tmp_path: Path, begin: bytes) -> None:
    """A record begins with a checksum, and one in 16 million with these bytes."""
    inner = MemoryEngine()
    inner.commit({b"k": begin + SECRET})
    engine = encrypted(tmp_path, inner, A)
    assert engine.get(b"k") == begin + SECRET and engine.damaged == 0


def test_after_that_a_value_in_clear_is_damage(tmp_path: Path) -> None:
    inner = MemoryEngine()
    engine = encrypted(tmp_path, inner, A)
    rewrite(engine)
    inner.commit({b"k": b"brought in by who can write to the disk"})
    assert engine.get(b"k") == DAMAGED and engine.scan(b"", None, 1) == [(b"k", DAMAGED)] and engine.damaged == 2
    assert not verify(DAMAGED), "the core takes it for a damaged record, and mends it"


@pytest.mark.parametrize("place", [0, 3, 7, 20, 30, -1])
def test_a_changed_byte_is_damage(tmp_path: Path, place: int) -> None:
    inner = MemoryEngine()
    engine = encrypted(tmp_path, inner, A, B)
    rewrite(engine)
    engine.commit({b"k": SECRET, b"other": b"o"})
    stored = bytearray(inner.get(b"k") or b"")
    assert stored.startswith(MAGIC) and SECRET not in stored
    stored[place] ^= 1
    inner.commit({b"k": bytes(stored)})
    assert engine.get_many([b"k", b"other"]) == [DAMAGED, b"o"]


def test_a_value_cannot_be_moved_to_another_key(tmp_path: Path) -> None:
    inner = MemoryEngine()
    engine = encrypted(tmp_path, inner, A)
    rewrite(engine)
    engine.commit({b"k": SECRET, b"l": b"o"})
    inner.commit({b"l": inner.get(b"k")})
    assert engine.get(b"l") == DAMAGED and engine.get(b"k") == SECRET


def test_keys_change_in_the_background(tmp_path: Path) -> None:
    inner = MemoryEngine()
    engine = encrypted(tmp_path, inner, A)
    engine.commit({b"k:%d" % number: b"v%d" % number for number in range(450)})
    rewrite(engine)
    engine = encrypted(tmp_path, inner, A, B)
    assert read_marker(tmp_path / "encryption") == ["0000000a", "0000000b"]
    engine.rewrite_some()
    engine = encrypted(tmp_path, inner, A, B)  # it was restarted in the middle
    assert engine.get(b"k:0") == b"v0" and engine.get(b"k:99") == b"v99"
    with pytest.raises(StorageError, match="the key 0000000a, which is not in the key file"):
        encrypted(tmp_path, MemoryEngine(), B)
    rewrite(engine)
    engine = encrypted(tmp_path, inner, B)
    assert engine.is_whole and engine.damaged == 0
    assert [engine.get(b"k:%d" % number) for number in range(450)] == [b"v%d" % number for number in range(450)]


def test_keys_change_while_the_store_is_open(tmp_path: Path) -> None:
    inner = MemoryEngine()
    engine = encrypted(tmp_path, inner, A)
    engine.commit({b"k:%d" % number: b"v%d" % number for number in range(450)})
    rewrite(engine)
    assert not engine.change_keys(read_keys(key_file(tmp_path, A))), "nothing new"
    assert engine.is_whole
    assert engine.change_keys(read_keys(key_file(tmp_path, A, B)))
    assert read_marker(tmp_path / "encryption") == ["0000000a", "0000000b"], "before the first value under it"
    engine.commit({b"new": b"value"})
    assert (inner.get(b"new") or b"").startswith(MAGIC + bytes.fromhex("0000000b"))
    assert not engine.is_whole and engine.get(b"k:7") == b"v7"
    rewrite(engine)
    assert engine.change_keys(read_keys(key_file(tmp_path, B))) is False, "the older one may go"
    assert engine.is_whole and engine.damaged == 0
    assert [engine.get(b"k:%d" % number) for number in range(450)] == [b"v%d" % number for number in range(450)]


def test_a_changed_file_that_lacks_a_key_changes_nothing(tmp_path: Path) -> None:
    engine = encrypted(tmp_path, MemoryEngine(), A)
    engine.commit({b"k": SECRET})
    with pytest.raises(StorageError, match="the key 0000000a, which is not in the key file"):
        engine.change_keys(read_keys(key_file(tmp_path, B)))
    other = A[:9] + "33" * 32
    with pytest.raises(StorageError, match="another key with the id 0000000a"):
        engine.change_keys(read_keys(key_file(tmp_path, other, B)))
    engine.commit({b"l": SECRET})
    assert engine.get(b"k") == engine.get(b"l") == SECRET and engine.key_id == "0000000a"
    assert "0000000b" not in read_marker(tmp_path / "encryption")


def test_nonces_never_come_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.storage.encrypted.COUNTER_MAX", 100)
    inner = MemoryEngine()
    engine = encrypted(tmp_path, inner, A)
    nonces = []
    for _ in range(350):
        engine.commit({b"k": b"same"})
        nonces.append((inner.get(b"k") or b"")[7:19])
    assert len(set(nonces)) == 350 and len({nonce[:8] for nonce in nonces}) == 4


def test_an_encrypted_store_is_not_opened_without_its_keys(tmp_path: Path) -> None:
    inner = MemoryEngine()
    encrypted(tmp_path, inner, A)
    with pytest.raises(StorageError, match=r"the store is encrypted \(key 0000000a\): set encryption_key_file"):
        open_encrypted(inner, None, tmp_path / "encryption")
    plain = MemoryEngine()
    assert open_encrypted(plain, None, tmp_path / "none") is plain


@pytest.mark.parametrize(
    ("text", "mode", "error"),
    [
        (A, 0o644, "chmod 600"),
        ("", 0o600, "has no key"),
        ("0000000a " + "1" * 63, 0o600, "line 1 .* 64 hexadecimal"),
        (f"{A}\n{A}", 0o600, "the id 0000000a twice"),
        (None, 0o600, "cannot read the key file"),
    ],
)
def test_key_files_that_cannot_be_used(tmp_path: Path, text: str | None, mode: int, error: str) -> None:
    path = tmp_path / "keys"
    if text is not None:
        path.write_text(text)
        os.chmod(path, mode)
    with pytest.raises(StorageError, match=error) as refused:
        read_keys(path)
    assert "11" * 16 not in str(refused.value), "no error shows a key"
