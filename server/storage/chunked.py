"""Large values in chunks: an engine that writes a value bit by bit before the batch that it belongs to.

The problem. To commit a value of 10 MB takes RocksDB 10 to 25 ms of CPU (log, memtable), and it holds the GIL meanwhile.
A node does nothing else then. The value of one SET is committed on three nodes, and a request of somebody else crosses
five turns. So beside clients that write such values, one request in a hundred took 95 ms.

The idea. Whoever receives a large value stages it: `begin`, then `write_chunk` in each pass of the loop, and the others are
served between two chunks. Then the value is handled as ever. If the batch of that turn has a value that ends with the
staged bytes, `commit` writes only what is before them, and the batch adopts the chunks. So the batch is small, and it is
still the moment at which the value is there.

    key of the value         FRONT, id, number of chunks, and what the value has before them
    CHUNKS, id, 4 bytes      a chunk: 0, 1, 2, …; a zero byte, and its part of the value
    OWNERS, id               a checksum, the number of chunks, and the key of the value; no key while they are only staged

Why it is right. A batch is written whole or not at all, so a value is there with all its chunks or not at all. The log
keeps the order of commits, so no death of the process leaves a value without its chunks. (A loss of power may lose logs in
any order, and so chunks of a value that is there: it is damaged then, see below.) Chunks that a crash has left behind are
those whose row in OWNERS has no key: `_load` deletes them. The batch that overwrites or deletes a value deletes its chunks,
too. Which value has which chunks is known in memory, from the rows in OWNERS. If some of these cannot be read, chunks may
be left over, and no value is affected: reading needs no such row.

A chunk that is missing or damaged is damage of its value. The core finds that by the checksum of its records, and mends it.
The rows are behind all keys of records, and nobody walks over them but the encryption (encrypted.py), which is below this
class and encrypts each row by itself. The zero byte is for it: a client chooses what is in a chunk, and a row in clear must
not begin as an encrypted one does.

Whoever scans reads many values, once. So a scan gets the chunks by scans, too, which leave the cache of blocks as it is.

A binary that does not know chunks would serve the fronts. So the store is marked before the first one is written
(`Engine.require`), and such a binary refuses it. A store without large values is as it was.

Rejected: to hold the output of a turn until its value is written, as `always` does for a sync: the small requests of that
turn and of those behind it would wait as long as before. A thread for the commit: rocksdict holds the GIL.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from xxhash import xxh3_64_digest

from server.storage.engine import NO_BYTES_MAX, Engine, StorageDamaged, StorageError

MARK: Final = "chunks"
CHUNK_BYTES: Final = 256 << 10  # half a millisecond of RocksDB's
OWNERS: Final = b"\xff\xfb"
CHUNKS: Final = b"\xff\xfc"
FRONT_BYTES_MAX: Final = 64 << 10  # of a value, before its chunks
FRONT: Final = bytes.fromhex("ff43e1b27d0a95c6681f3e9d5428c70b")  # no value of another kind begins so, but by chance
ID_BYTES: Final = 8
CHUNK_HEAD: Final = b"\0"  # of the row of each chunk
_COUNT_BYTES: Final = 4
_CHECKSUM_BYTES: Final = 8
_HEAD_BYTES: Final = len(FRONT) + ID_BYTES + _COUNT_BYTES
_PAGE_ROWS: Final = 1000
RANGES: Final = [  # of all chunks: an id is random
    (CHUNKS + bytes((first,)), CHUNKS + bytes((first + 15,)) + b"\xff" * 12) for first in range(0, 256, 16)
]
_PAGE_BYTES: Final = 1 << 20


class StagedValue:
    """A value that is being staged, or is staged and not adopted."""

    __slots__ = ("count", "id", "is_adopted", "value", "written")

    def __init__(self, id_: bytes, value: bytes, count: int) -> None:
        self.id = id_
        self.value = value
        self.count = count  # of its chunks
        self.written = 0  # of these
        self.is_adopted = False


class ChunkedEngine:
    """An `Engine` over another one, `inner`, in which staged values lie in chunks. `damage_error` is what `inner` raises
    for bytes that it cannot read."""

    def __init__(
        self,
        inner: Engine,
        damage_error: type[Exception] = StorageDamaged,
        draw_id: Callable[[], bytes] = lambda: os.urandom(ID_BYTES),
        chunk_bytes: int = CHUNK_BYTES,
    ) -> None:
        self.inner = inner
        self._chunk_bytes = chunk_bytes
        self._draw_id = draw_id
        self._damage_error = damage_error
        self._staged: dict[bytes, StagedValue] = {}  # those that are complete, by id
        self._chunked: dict[
            bytes, tuple[bytes, int]
        ] = {}  # the id and the number of the chunks of each value that has some
        self._is_marked = False
        self._load()

    def _load(self) -> None:
        """Finds the values that have chunks, and deletes the chunks that no value has."""
        self._staged.clear()
        self._chunked.clear()
        start, end, left_over = OWNERS, _after(OWNERS), []
        with suppress(self._damage_error):
            while page := self.inner.scan(start, end, _PAGE_ROWS, _PAGE_BYTES):
                for row, value in page:
                    id_, content = row[len(OWNERS) :], value[_CHECKSUM_BYTES:]
                    if value[:_CHECKSUM_BYTES] != xxh3_64_digest(id_ + content):
                        continue
                    count, key = int.from_bytes(content[:_COUNT_BYTES], "big"), content[_COUNT_BYTES:]
                    if key:
                        self._chunked[key] = id_, count
                    else:
                        left_over.append((id_, count))
                start = page[-1][0] + b"\0"
        for id_, count in left_over:
            with suppress(StorageError):  # the disk is full: at the next start
                self.inner.commit(_deletions(id_, count))

    # Staging

    def begin(self, value: bytes) -> StagedValue | None:
        """Begins to stage a value; None if that is impossible now. Then `write_chunk` until that returns True."""
        self._is_marked = self._is_marked or self.inner.require(MARK)
        return StagedValue(self._draw_id(), value, -(-len(value) // self._chunk_bytes)) if self._is_marked else None

    def write_chunk(self, staged: StagedValue) -> bool:
        """Writes the next chunk. Returns whether that was the last one: the next `commit` may adopt the value, and after it
        `discard` must be called. Raises StorageError; then call `discard`, too."""
        number, start = staged.written, staged.written * self._chunk_bytes
        batch: dict[bytes, bytes | None] = {} if number else {OWNERS + staged.id: _owner(staged, b"")}
        part = memoryview(staged.value)[start : start + self._chunk_bytes]
        batch[_chunk_key(staged.id, number)] = b"".join((CHUNK_HEAD, part))
        self.inner.commit(batch)
        staged.written = number + 1
        if staged.written < staged.count:
            return False
        self._staged[staged.id] = staged
        return True

    def discard(self, staged: StagedValue) -> None:
        """Ends the staging of a value: deletes what was written of it, unless it was adopted."""
        self._staged.pop(staged.id, None)
        if not staged.is_adopted and staged.written:
            tried = min(staged.written + 1, staged.count)  # a commit that was refused may be there after a restart
            with suppress(StorageError):  # the next start deletes it
                self.inner.commit(_deletions(staged.id, tried))

    # Values

    def get(self, key: bytes) -> bytes | None:
        """HOT. As Engine.get."""
        value = self.inner.get(key)
        return self._gathered(value) if value is not None and value.startswith(FRONT) else value

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """As Engine.get_many."""
        values = self.inner.get_many(keys)
        for place, value in enumerate(values):
            if value is not None and value.startswith(FRONT):
                values[place] = self._gathered(value)
        return values

    def _gathered(self, front: bytes) -> bytes:
        id_, count = _chunks_of(front)
        return _whole(front, self.inner.get_many([_chunk_key(id_, number) for number in range(count)]))

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """As Engine.scan. A value whose chunks cannot be read is none that was ever written."""
        pairs: list[tuple[bytes, bytes]] = []
        for key, stored in self.inner.scan(start, end, limit, bytes_max):
            value = self._scanned(stored) if stored.startswith(FRONT) else stored
            pairs.append((key, value))
            bytes_max -= len(value)
            if bytes_max <= 0:
                break
        return pairs

    def _scanned(self, front: bytes) -> bytes:
        id_, count = _chunks_of(front)
        try:
            rows = self.inner.scan(_chunk_key(id_, 0), _chunk_key(id_, count), count, NO_BYTES_MAX)
        except self._damage_error:
            return front
        return _whole(front, [chunk for _, chunk in rows])

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. As Engine.commit. Values that end with staged bytes adopt their chunks."""
        if not self._staged and not self._chunked:
            self.inner.commit(writes)
            return
        adopted: dict[bytes, StagedValue] = {}
        batch = self._reduced(writes, adopted)
        self.inner.commit(batch)
        if batch is not writes:  # nothing has changed here if the commit has raised
            for key in writes:
                self._chunked.pop(key, None)
            for key, staged in adopted.items():
                staged.is_adopted = True
                self._chunked[key] = staged.id, staged.count

    def _reduced(
        self, writes: dict[bytes, bytes | None], adopted: dict[bytes, StagedValue]
    ) -> dict[bytes, bytes | None]:
        """Returns the batch with fronts in place of the values that adopt chunks, which it adds to `adopted`, and with the
        deletions of the chunks that are not needed any more; `writes` itself if there are none of either."""
        changes: dict[bytes, bytes | None] = {}
        for key in writes:
            if key in self._chunked:
                changes |= _deletions(*self._chunked[key])
        for staged in self._staged.values():
            found = None if staged.is_adopted else _first_with(staged, writes, adopted)
            if found is None:
                continue
            key, value = found
            before = value[: len(value) - len(staged.value)]
            changes[key] = b"".join((FRONT, staged.id, staged.count.to_bytes(_COUNT_BYTES, "big"), before))
            changes[OWNERS + staged.id] = _owner(staged, key)
            adopted[key] = staged
        return writes | changes if changes else writes

    # What concerns the other engine alone

    def sync(self, waits: bool = True) -> bool:
        """As Engine.sync."""
        return self.inner.sync(waits)

    def snapshot(self, path: Path) -> None:
        """As Engine.snapshot."""
        self.inner.snapshot(path)

    def flush(self) -> None:
        """As Engine.flush."""
        self.inner.flush()

    def compact(self, start: bytes, end: bytes) -> None:
        """As Engine.compact. The chunks of values are in `RANGES`, far from the keys of the values."""
        self.inner.compact(start, end)

    def set_compaction(self, wanted: bool) -> None:
        """As Engine.set_compaction."""
        self.inner.set_compaction(wanted)

    def cancel(self) -> None:
        """As Engine.cancel."""
        self.inner.cancel()

    def reopen(self, compacts: bool = True) -> None:
        """As Engine.reopen. What was being staged is deleted, and nobody may go on with it: the run has ended."""
        self.inner.reopen(compacts)
        self._load()

    def close(self) -> None:
        """As Engine.close."""
        self.inner.close()

    def is_congested(self) -> bool:
        """As Engine.is_congested."""
        return self.inner.is_congested()

    def require(self, mark: str) -> bool:
        """As Engine.require."""
        return self.inner.require(mark)

    def stats(self) -> dict[str, int | str]:
        """As Engine.stats, and how many values have chunks."""
        return self.inner.stats() | {"chunked_values": len(self._chunked)}


def _after(prefix: bytes) -> bytes:
    return prefix[:-1] + bytes((prefix[-1] + 1,))


def _first_with(
    staged: StagedValue, writes: dict[bytes, bytes | None], adopted: dict[bytes, StagedValue]
) -> tuple[bytes, bytes] | None:
    """The first key of a batch whose value may adopt the chunks, and that value; None if there is none."""
    for key, value in writes.items():
        if value is not None and key not in adopted and _ends_with(value, staged):
            return key, value
    return None


def _ends_with(value: bytes, staged: StagedValue) -> bool:
    if not 0 <= len(value) - len(staged.value) <= FRONT_BYTES_MAX:
        return False
    return value is staged.value or value.endswith(staged.value)


def _chunk_key(id_: bytes, number: int) -> bytes:
    return b"%b%b%b" % (CHUNKS, id_, number.to_bytes(_COUNT_BYTES, "big"))


def _chunks_of(front: bytes) -> tuple[bytes, int]:
    """The id and the number of the chunks of a value that begins with a front."""
    id_ = front[len(FRONT) : len(FRONT) + ID_BYTES]
    return id_, int.from_bytes(front[len(FRONT) + ID_BYTES : _HEAD_BYTES], "big")


def _whole(front: bytes, chunks: Sequence[bytes | None]) -> bytes:
    """The value that begins with a front; the front itself if chunks are missing."""
    parts = [memoryview(front)[_HEAD_BYTES:]]
    for chunk in chunks:
        if chunk is None or not chunk.startswith(CHUNK_HEAD):
            return front
        parts.append(memoryview(chunk)[len(CHUNK_HEAD) :])
    return b"".join(parts) if len(chunks) == _chunks_of(front)[1] else front


def _owner(staged: StagedValue, key: bytes) -> bytes:
    """The row of OWNERS for the chunks of a value, which lies under a key if it is adopted."""
    content = staged.count.to_bytes(_COUNT_BYTES, "big") + key
    return xxh3_64_digest(staged.id + content) + content


def _deletions(id_: bytes, count: int) -> dict[bytes, bytes | None]:
    """The batch that deletes so many chunks."""
    rows = [OWNERS + id_, *[_chunk_key(id_, number) for number in range(count)]]
    return dict.fromkeys(rows, None)
