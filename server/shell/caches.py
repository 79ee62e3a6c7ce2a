"""How large a node's caches are: a share of the machine's memory, unless the settings say it in bytes.

Theory. A record that is in the cache costs a look-up, and one that is not costs a read of RocksDB, which is some thirty
times as much. A cache of a fixed size is too large for a small machine, or leaves most of a large one unused. So it is a
share of the machine's memory, or of what the control group of this process may have, if that is less. The size is a bound:
memory is taken as records are read and written. The record cache gets four fifths: a hit there spares the call of RocksDB.

A setting `record_cache_bytes` or `block_cache_bytes` stands as it is.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from server.core.base.config import Config

BLOCK_SHARE = 5  # one in so many bytes
CACHE_BYTES_MIN = 8 << 20
_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def memory_bytes() -> int:
    """The memory that this process may have: the machine's, or the limit of its control group."""
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _LIMITS:
        try:
            text = Path(path).read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" says that there is none
            found.append(int(text))
    return min(found)


def with_caches(config: Config, named: Collection[str], memory: int) -> Config:
    """The config with the sizes of those caches that no setting has `named`, on a machine with so much memory in bytes."""
    if not config.cache_memory_percent:
        return config
    share = memory * config.cache_memory_percent // 100
    block_bytes = max(CACHE_BYTES_MIN, share // BLOCK_SHARE)
    if "block_cache_bytes" not in named:
        config = replace(config, block_cache_bytes=block_bytes)
    if "record_cache_bytes" not in named:
        config = replace(config, record_cache_bytes=max(CACHE_BYTES_MIN, share - block_bytes))
    return config
