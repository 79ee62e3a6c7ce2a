"""Has the C library keep some freed memory: values of megabytes are copied into memory that the process has already.

The problem. glibc gives freed memory at the end of the heap back to the kernel as soon as there are a few megabytes of it.
A SET of 10 MB makes several copies of that size: as it arrives, on its way between nodes, and in RocksDB. So each copy was
made into pages that the kernel had to find, clear and map first: 2,400 page faults for 10 MB. These took longer than the
copy itself.

The idea. The heap keeps `KEPT_BYTES_MAX`, or a small part of the machine's memory, before anything is given back
(`M_TRIM_THRESHOLD`). Once this is set, glibc no longer raises the size from which it maps each object by itself, so that is
set as well, to the largest value that it takes.

Measured (two busy cores, CPU of the thread that arrives at the value, 10 MB): to read a request in parts of 256 KiB took
12 to 15 ms with 4,851 page faults, and takes 3 ms without any. That is a process that does nothing else. In three nodes
whose 8 clients set 32 values of 10 MB, a SET cost 5,280 page faults a node before, and 4,850 now (most are those of
RocksDB's memtables). What that saves of some 75 ms of CPU a node was lost in the noise of a busy machine.

Another C library, or an operator who has set the same in the environment, is left alone.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from typing import Final

KEPT_BYTES_MAX: Final = 64 << 20
MEMORY_SHARE: Final = 32  # of a small machine, or of the limit of the control group, less is kept
_M_TRIM_THRESHOLD: Final = -1  # malloc.h
_M_MMAP_THRESHOLD: Final = -3
_MMAP_BYTES: Final = 32 << 20
_SET_BY_OPERATORS: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory(memory: int, environment: Mapping[str, str] = os.environ) -> bool:
    """Sets how much freed memory this process keeps, on a machine with so much memory. Returns whether that was done."""
    if any(name in environment for name in _SET_BY_OPERATORS):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    kept_bytes = min(KEPT_BYTES_MAX, memory // MEMORY_SHARE)
    return bool(mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES) and mallopt(_M_TRIM_THRESHOLD, kept_bytes))
