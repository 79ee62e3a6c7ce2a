"""What a storage engine promises, and how it fails.

Theory. A turn ends with one atomic batch (`commit`) and only then speaks, so the engine's unit is the batch, not the
key. Durability has two steps because they cost a factor of fifty apart: what `commit` returned from survives the death
of the process at any instant (it is in the kernel), what `sync` returned from survives a power loss (it is on the
disk). `sync` waits for the disk, so it belongs into a thread of its own while the turns go on.

A store that cannot answer says so. Damage is never a missing key, a short scan or an older value: it raises.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Protocol

NO_BYTES_MAX: Final = 1 << 62


class StorageError(Exception):
    """The store could not do what was asked. The message is written for an operator: what, where, what to do."""


class StorageDamaged(StorageError):
    """Bytes on disk are not the bytes that were written, or cannot be read. The message names the directory."""


class StorageFull(StorageError):
    """No space left on the disk. Reads still work, nothing acknowledged is lost."""


class StorageLocked(StorageError):
    """The directory is open already, in another process or in this one."""


class Engine(Protocol):
    """One ordered key space: keys (0 bytes to 64 KiB) and values are opaque bytes, the order is that of `bytes`.

    One thread, the owner, calls everything; `sync` and `compact` may each run in another thread at the same time. After
    `close` every call but `close` and `reopen` raises StorageError.
    """

    def get(self, key: bytes) -> bytes | None:
        """HOT. The value under `key`, or None. Raises StorageDamaged when the block that holds it is damaged."""

    def get_many(self, keys: list[bytes]) -> list[bytes | None]:
        """The values under `keys`, in their order. One damaged value raises for all: then `get` them one by one."""

    def commit(self, writes: dict[bytes, bytes | None]) -> None:
        """HOT. Apply all writes or none; None deletes, absent keys too. Visible, and safe from `kill -9`, on return.

        When it raises, nothing of the batch is visible in the open store. Treat its fate after a restart as unknown.
        """

    def sync(self) -> None:
        """Return once everything committed before the call is on the disk. Holds no GIL while it waits.

        When it raises, nothing is known to be on the disk that was not before; after StorageFull try again later.
        """

    def scan(
        self, start: bytes, end: bytes | None, limit: int, bytes_max: int = NO_BYTES_MAX
    ) -> list[tuple[bytes, bytes]]:
        """At most `limit` pairs with start <= key < end in ascending order; an `end` of None is behind all keys.

        None after the one whose value brings the bytes of all values to `bytes_max`: no more than that and one value are in
        memory. Fewer pairs and bytes mean that the range has no more. The next page starts at the last key + b"\\0".
        """

    def snapshot(self, path: Path) -> None:
        """Write a consistent copy of all that is committed to the new directory `path`, a complete rocksdb store.

        `open_engine("rocksdb", path)` opens it, whichever engine wrote it. Raises StorageError when `path` exists.
        """

    def flush(self) -> None:
        """Move what is in memory into the engine's sorted files, so that the next open has no log to replay."""

    def compact(self, start: bytes, end: bytes) -> None:
        """Give back to the disk what deleted and superseded values in start <= key < end occupy. For a thread of its own.

        Takes room itself for what is left of the range, until it ends.
        """

    def set_compaction(self, wanted: bool) -> None:
        """Whether the engine compacts by itself, which takes as much room for a while as what it compacts."""

    def cancel(self) -> None:
        """Make a `flush` or `compact` that waits in another thread end. Only `close` and `reopen` may follow."""

    def reopen(self, compacts: bool = True) -> None:
        """Closes and opens, so that a store that has refused writes accepts them again: there is room on the disk now, or a
        compaction had met a damaged block, and the store is opened without compactions from then on.

        All that was committed is there afterwards; of the commit that was refused nothing is known.
        """

    def close(self) -> None:
        """Flush, sync, and let go of the directory. Closing twice is fine. Waits for a running `sync`.

        The store is closed even when this raises; all that was committed is in the log and there at the next open.
        """

    def stats(self) -> dict[str, int | str]:
        """Cheap figures for operators and metrics: `engine`, `keys_estimate`, and what the engine adds."""
