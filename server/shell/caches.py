"""Computes the sizes of the caches: a share of the machine's memory, unless a setting gives them in bytes.

Theory. A record that is not in the record cache must be read from RocksDB, which costs about thirty times as much. A cache
of a fixed size is too large for a small machine and too small for a large one. So both caches together get a share of the
machine's memory, or of the memory limit of this process' control group if that is less. The sizes are upper bounds: memory
is allocated as records are read and written. The record cache gets four fifths of the share, because a hit there avoids
the call of RocksDB, while a hit in the block cache only avoids a read of the disk.

The settings `record_cache_bytes` and `block_cache_bytes` override the computed sizes.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

from server.core.base.config import Config

BLOCK_SHARE = 5  # the block cache gets one byte in five
CACHE_BYTES_MIN = 8 << 20
_GROUPS = Path("/proc/self/cgroup")
_MOUNT = Path("/sys/fs/cgroup")


def memory_bytes(groups: Path = _GROUPS, mount: Path = _MOUNT) -> int:
    """Returns how much this process may use: the memory of the machine, or the least limit of its control groups.

    `groups` names the groups of the process (man 7 cgroups), `mount` is where they are directories. A limit of systemd
    (MemoryMax=) is that of a group below the root; in a container the group of the process is often the root itself.
    """
    found = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for path in _limits(groups, mount):
        try:
            text = path.read_text().strip()
        except OSError:
            continue
        if text.isdigit():  # "max" says that there is none
            found.append(int(text))
    return min(found)


def _limits(groups: Path, mount: Path) -> list[Path]:
    """The files that may have a limit: of the group of this process, and of all groups that it is in, up to the root."""
    try:
        lines = os.fsdecode(groups.read_bytes()).split("\n")
    except OSError:
        lines = []
    files = [mount / "memory.max", mount / "memory" / "memory.limit_in_bytes"]
    for line in lines:
        number, _, rest = line.partition(":")
        controllers, _, place = rest.partition(":")
        root, name = mount, "memory.max"  # of version 2, whose line is 0::/place
        if "memory" in controllers.split(","):
            root, name = mount / "memory", "memory.limit_in_bytes"
        elif number != "0":
            continue
        if ".." in place.split("/"):  # a group outside of what this process can see
            continue
        group = root / place.lstrip("/")
        files += [each / name for each in (group, *group.parents) if each != root and each.is_relative_to(root)]
    return files


def with_caches(config: Config, given: Collection[str], memory: int) -> Config:
    """Returns the config with computed sizes of the caches, unless `given`, the names of the operator's settings, has them.

    `memory` is what `memory_bytes` has returned.
    """
    if not config.cache_memory_percent:
        return config
    share = memory * config.cache_memory_percent // 100
    block_bytes = max(CACHE_BYTES_MIN, share // BLOCK_SHARE)
    if "block_cache_bytes" not in given:
        config = replace(config, block_cache_bytes=block_bytes)
    if "record_cache_bytes" not in given:
        config = replace(config, record_cache_bytes=max(CACHE_BYTES_MIN, share - block_bytes))
    return config
