"""How much of a file is in the kernel's page cache but not on the disk: what a power loss would take."""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import Path

import pytest

CACHESTAT = 451  # the system call's number on every architecture; Linux 6.5


def dirty_pages(file: Path) -> int:
    """Pages of `file` that are dirty or being written back. Skips the test where the kernel cannot tell."""
    whole = (ctypes.c_uint64 * 2)(0, 0)  # offset, length; a length of 0 reaches to the end
    counts = (ctypes.c_uint64 * 5)()  # cached, dirty, under write-back, evicted, recently evicted
    descriptor = os.open(file, os.O_RDONLY)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.syscall(CACHESTAT, descriptor, ctypes.byref(whole), ctypes.byref(counts), 0)
    finally:
        os.close(descriptor)
    if failed:
        pytest.skip(f"cachestat: {errno.errorcode[ctypes.get_errno()]}")
    return counts[1] + counts[2]


def skip_unless_written_back(directory: Path) -> None:
    """Skip the test on a file system in memory, whose pages stay dirty for ever."""
    probe = directory / "probe"
    with probe.open("wb") as file:
        file.write(b"x" * 10_000)
        file.flush()
        os.fsync(file.fileno())
    if dirty_pages(probe):
        pytest.skip(f"{directory} is on a file system in memory")
    probe.unlink()
