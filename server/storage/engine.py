"""What a storage engine guarantees, and how it fails.

A turn ends with one atomic batch (`commit`), and messages and replies leave only after it. So the unit of an engine is
the batch, not the key. Durability has two steps, because their costs differ by a factor of fifty:

    returned from   the batch is in   and survives
    commit          the kernel        the death of the process at any instant
    sync            the disk          a loss of power

`sync` waits for the disk. So it runs in a thread of its own while the turns go on.

A store that cannot answer says so. Damage is never a missing key, a short scan or an older value: it raises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

NO_BYTES_MAX: Final = 1 << 62
MARKS: Final = (
    "patches",  # patch rows, core/records/patch_rows.py
    "chunks",  # large values in chunks, chunked.py
)  # what a store may require (`Engine.require`)


class StorageError(Exception):
    """The store failed. The message is written for an operator: what failed, where, and what to do."""


class StorageDamaged(StorageError):
    """Bytes on the disk differ from those that were written, or cannot be read. The message names the directory."""


class StorageFull(StorageError):
    """No space is left on the disk. Reads still work, and nothing that was acknowledged is lost."""


class StorageLocked(StorageError):
    """Another process, or this one, has the directory open already."""


class Engine(Protocol):
    """One ordered key space: keys (0 bytes to 64 KiB) and values are opaque bytes; the order is that of `bytes`.

    One thread, the owner, makes all calls; `sync` and `compact` may each run in another thread at the same time. After
    `close`, every call except `close` and `reopen` raises StorageError.
    """

    def get(self, key: bytes) -> bytes | None:
        """HOT. The value under `key`, or None. Raises StorageDamaged if the block that holds it is damaged."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order. One damaged value raises for all; then `get` them one by one."""

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. Applies all writes or none; None deletes, also a key that is absent. Safe from `kill -9` on return.

        If it raises, nothing of the batch is visible in the open store. Whether it is there after a restart is unknown.
        """

    def sync(self, waits: bool = True) -> bool:
        """Returns once everything that was committed before the call is on the disk. Releases the GIL while it waits.

        `waits=False`: if another thread flushes or makes a snapshot, returns False at once, without a sync.
        If it raises, nothing more is known to be on the disk than before. After StorageFull try again later.
        """

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs with start <= key < end, in ascending order. An `end` of None is behind all keys.

        The scan also stops after the pair with which the values reach `bytes_max` bytes in all, so that at most `bytes_max`
        and one value are in memory. If neither limit was reached, the range has no more pairs. The next page starts at the
        last key + b"\\0".
        """

    def snapshot(self, path: Path) -> None:
        """Writes a consistent copy of everything committed into the new directory `path`, as a rocksdb store.

        `open_engine("rocksdb", path)` opens it, whichever engine wrote it. Raises StorageError if `path` exists.
        """

    def flush(self) -> None:
        """Moves what is in memory into the engine's sorted files, so that the next open replays no log."""

    def compact(self, start: bytes, end: bytes) -> None:
        """Frees the disk space of deleted and superseded values in start <= key < end. Call it in a thread of its own.

        Until it ends, it needs disk space itself for what is left of the range.
        """

    def set_compaction(self, wanted: bool) -> None:
        """Turns the engine's own compactions on or off. While one runs it needs as much disk space as what it compacts."""

    def cancel(self) -> None:
        """Ends a `flush` or `compact` that waits in another thread. Only `close` and `reopen` may follow."""

    def reopen(self, compacts: bool = True) -> None:
        """Closes and opens the store, so that it accepts writes again after a full disk. Call it once there is space.

        After a compaction has met a damaged block, a store that is opened without compactions accepts writes again.

        Everything that was committed is there afterwards. Whether the commit that was refused is there is unknown.
        """

    def close(self) -> None:
        """Flushes, syncs and releases the directory. May be called twice. Waits for a running `sync`.

        The store is closed even if this raises; everything that was committed is in the log, and there at the next open.
        """

    def is_congested(self) -> bool:
        """Whether so much waits to be flushed that a commit may soon have to wait, too."""

    def require(self, mark: str) -> bool:
        """Marks the store, once and for all: binaries that do not know the mark (`MARKS`) refuse to open it, and its
        snapshots. False if it has no mark, because the disk is too full."""

    def stats(self) -> dict[str, int | str]:
        """Cheap figures for operators and metrics: `engine`, `keys_estimate`, and those that the engine adds."""
