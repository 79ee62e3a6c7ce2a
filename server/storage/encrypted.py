"""Encryption at rest: an engine whose values are encrypted before another engine gets them, with AES-256-GCM.

| covered: in the engine's logs, sorted files and snapshots, and in the caches of its blocks | every value |
| not covered | keys, the size of values, when they were written; what is in the memory of the process; the node's log |

A value is MAGIC, the id of its key (4 bytes), a nonce (12), the ciphertext and its tag (16). The storage key is
authenticated with it, so that no value can be moved to another key; an older value of the same key is as genuine as the
present one. A nonce is 8 random bytes, drawn anew for each run and after 2**32 values, and a counter: no nonce comes
twice under one key. A value that fails is answered as `DAMAGED`, which is no record: the core finds that by its checksum,
does not serve it, and mends it from the other owners.

A store may begin without encryption, and keys change: then some values are in clear, or under an older key. They are read,
and `rewrite_some` rewrites them page by page while the node serves. The file DIR/encryption has the ids of all keys that a
value may be encrypted with, and CLEAR while some may be in clear. After that a value in clear is damage: who can write to
the disk cannot bring one in. A store is not opened without each of these keys. `change_keys` takes other keys while the
store is open: then all values are looked at anew.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from server.storage.engine import NO_BYTES_MAX, Engine, StorageError
from server.storage.keyring import ID_BYTES, KeyRing

MAGIC = b"\xffE1"
NONCE_BYTES, RANDOM_BYTES = 12, 8
HEAD_BYTES = len(MAGIC) + ID_BYTES + NONCE_BYTES
COUNTER_MAX = 1 << 32
PAGE_KEYS, PAGE_BYTES = 200, 1 << 20
CLEAR = "clear"
DAMAGED = b"\xffdamaged"  # in the place of a value that is not what was written


class EncryptedEngine:
    """An `Engine` over another one. `marker` is the file that says which keys values are encrypted with."""

    def __init__(self, inner: Engine, ring: KeyRing, marker: Path) -> None:
        """Raises StorageError if a key is missing."""
        self._inner = inner
        self._marker = marker
        self._random = os.urandom(RANDOM_BYTES)
        self._counter = 0
        self.damaged = 0  # values that failed
        self.changes = 0  # of the key that values are encrypted with
        self._keys: dict[bytes, bytes] = {}
        self._adopt(ring)

    def _adopt(self, ring: KeyRing) -> None:
        """Encrypts with these keys from now on. Raises StorageError if one is missing or is another than before."""
        words = read_marker(self._marker) or [CLEAR]
        missing = [word for word in words if word != CLEAR and bytes.fromhex(word) not in ring.keys]
        if missing:
            raise StorageError(
                f"values of this node are encrypted with the key {missing[0]}, which is not in the key file: put its line "
                "back, before the present one"
            )
        other = [key_id.hex() for key_id, key in self._keys.items() if ring.keys.get(key_id, key) != key]
        if other:
            raise StorageError(
                f"the key file has another key with the id {other[0]} than before: put the former one back"
            )
        current = ring.current.hex()
        if current not in words:
            write_marker(self._marker, [*words, current])  # before the first value under it
        self._keys = dict(ring.keys)
        self._ciphers = {key_id.hex(): AESGCM(key) for key_id, key in ring.keys.items()}
        self._current, self._head = current, MAGIC + ring.current
        self._takes_clear = CLEAR in words
        self._cursor: bytes | None = None if words == [current] else b""  # None: all values are as they should be

    def change_keys(self, ring: KeyRing) -> bool:
        """Takes the keys of a changed file. Returns whether values have to be rewritten for that.

        Raises StorageError if a key is missing that values need, or is another one now; then nothing has changed.
        """
        before = self._current, self._cursor
        self._adopt(ring)
        if self._current == before[0]:
            self._cursor = before[1]
            return False
        self.changes += 1
        return True

    # Values

    def _seal(self, key: bytes, value: bytes) -> bytes:
        if self._counter == COUNTER_MAX:
            self._random, self._counter = os.urandom(RANDOM_BYTES), 0
        nonce = self._random + self._counter.to_bytes(NONCE_BYTES - RANDOM_BYTES)
        self._counter += 1
        return b"".join((self._head, nonce, self._ciphers[self._current].encrypt(nonce, value, key)))

    def _open(self, key: bytes, stored: bytes) -> bytes:
        if stored.startswith(MAGIC):
            cipher = self._ciphers.get(stored[len(MAGIC) : len(MAGIC) + ID_BYTES].hex())
            try:
                if cipher is not None:
                    return cipher.decrypt(stored[HEAD_BYTES - NONCE_BYTES : HEAD_BYTES], stored[HEAD_BYTES:], key)
            except (InvalidTag, ValueError):
                pass
        # A value in clear begins as MAGIC by chance, one in 2**24. If this is none, the core finds that by its checksum.
        return stored if self._takes_clear else self._failed()

    def _failed(self) -> bytes:
        self.damaged += 1
        return DAMAGED

    def get(self, key: bytes) -> bytes | None:
        """HOT. As Engine.get."""
        stored = self._inner.get(key)
        return None if stored is None else self._open(key, stored)

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """As Engine.get_many."""
        found = zip(keys, self._inner.get_many(keys), strict=True)
        return [None if stored is None else self._open(key, stored) for key, stored in found]

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. As Engine.commit."""
        self._inner.commit({key: None if value is None else self._seal(key, value) for key, value in writes.items()})

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """As Engine.scan."""
        return [(key, self._open(key, stored)) for key, stored in self._inner.scan(start, end, limit, bytes_max)]

    # Rewriting

    def rewrite_some(self) -> bool:
        """Rewrites the next page of values that are in clear or under an older key. False once all are done.

        Then `compact`, and `finish_rewriting`. Raises StorageError; it may be called again. Damaged values stay
        as they are.
        """
        if self._cursor is None:
            return False
        page = self._inner.scan(self._cursor, None, PAGE_KEYS, PAGE_BYTES)
        if not page:
            return False
        opened = {key: self._open(key, stored) for key, stored in page if not stored.startswith(self._head)}
        old = {key: self._seal(key, value) for key, value in opened.items() if value is not DAMAGED}
        if old:
            self._inner.commit(dict(old))
        self._cursor = page[-1][0] + b"\0"
        return True

    def finish_rewriting(self) -> None:
        """All values are rewritten and flushed: none in clear, or under another key, is taken from now on.

        Only if the keys are the same as before the first page: see `changes`."""
        write_marker(self._marker, [self._current])
        self._cursor, self._takes_clear = None, False

    @property
    def is_whole(self) -> bool:
        """Whether all values are encrypted with the present key."""
        return self._cursor is None

    @property
    def key_id(self) -> str:
        """The id of the present key."""
        return self._current

    # What concerns the other engine alone

    def sync(self, waits: bool = True) -> bool:
        """As Engine.sync."""
        return self._inner.sync(waits)

    def snapshot(self, path: Path) -> None:
        """As Engine.snapshot: the copy is encrypted."""
        self._inner.snapshot(path)

    def flush(self) -> None:
        """As Engine.flush."""
        self._inner.flush()

    def compact(self, start: bytes, end: bytes) -> None:
        """As Engine.compact."""
        self._inner.compact(start, end)

    def set_compaction(self, wanted: bool) -> None:
        """As Engine.set_compaction."""
        self._inner.set_compaction(wanted)

    def cancel(self) -> None:
        """As Engine.cancel."""
        self._inner.cancel()

    def reopen(self, compacts: bool = True) -> None:
        """As Engine.reopen."""
        self._inner.reopen(compacts)

    def close(self) -> None:
        """As Engine.close."""
        self._inner.close()

    def is_congested(self) -> bool:
        """As Engine.is_congested."""
        return self._inner.is_congested()

    def require(self, mark: str) -> bool:
        """Marks the store; what it has is not encrypted."""
        return self._inner.require(mark)

    def stats(self) -> dict[str, int | str]:
        """As Engine.stats, and whether all values are encrypted with the present key."""
        return self._inner.stats() | {"encryption_key": self._current, "encrypted": int(self.is_whole)}


def read_marker(path: Path) -> list[str]:
    """The ids of the keys that values may be encrypted with, and CLEAR; empty if the store was never encrypted."""
    try:
        return path.read_text().split()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error


def write_marker(path: Path, words: list[str]) -> None:
    """Replaces the marker. Raises StorageError."""
    beside = path.with_suffix(".new")
    try:
        with beside.open("w") as file:
            file.write(" ".join(words) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error
