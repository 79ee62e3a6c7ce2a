"""Batches that can be recognised after a crash, and what a killed process leaves behind, without killing one."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

BATCH_KEYS = 3


def batch_of(number: int, size: int = BATCH_KEYS) -> dict[bytes, bytes | None]:
    """Batch `number`: keys that no other batch has, values that say which batch wrote them."""
    return {b"%06d-%d" % (number, index): b"written by batch %d" % number for index in range(size)}


def crash_image(store: Path, image: Path) -> Path:
    """Copy the directory of an open store to `image`, as `kill -9` at this moment would leave it.

    RocksDB clears obsolete files away in the background; one that goes while we copy makes us copy again.
    """
    while True:
        try:
            return Path(shutil.copytree(store, image))
        except (shutil.Error, FileNotFoundError):
            shutil.rmtree(image)


@contextmanager
def scratch_directory() -> Iterator[Path]:
    """A new directory, in memory where that is possible: to open and close a store costs a dozen fsyncs on a disk.

    The crash of a process looks the same there; that of the machine is another matter.
    """
    memory = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None, prefix="storage-") as name:
        yield Path(name)
