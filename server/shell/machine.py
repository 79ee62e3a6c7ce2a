"""What a node knows of its process and its machine, for `dyn doctor`: limits, disk, memory, kernel settings, certificate.

Theory. Most of what goes wrong with a node in practice is not in its code: a limit of 1024 files, a disk that is nearly
full, a kernel that gives memory in pages of 2 MiB. Only the node can see that on its machine. It looks when it is asked:
at some ten small files of /proc, which takes a fraction of a millisecond. What cannot be read is left out.
"""

from __future__ import annotations

import os
import re
import resource
import shutil
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from server.core import node
from server.shell.caches import memory_bytes

_NUMBERS = {  # by name of the fact: the file of a number
    "overcommit_memory": "/proc/sys/vm/overcommit_memory",
    "swappiness": "/proc/sys/vm/swappiness",
    "somaxconn": "/proc/sys/net/core/somaxconn",
}
_HUGE_PAGES = "/sys/kernel/mm/transparent_hugepage/enabled"
_BOOT = "/proc/sys/kernel/random/boot_id"


def machine_facts(directory: Path, cache: dict[str, Any]) -> dict[str, Any]:
    """The facts. `cache` keeps those that never change while this process runs."""
    if not cache:
        cache |= {
            "version": _version("dyn"),
            "build": "interpreted" if node.__file__.endswith(".py") else "compiled",
            "python": ".".join(map(str, sys.version_info[:3])),
            "rocksdict": _version("rocksdict"),
            "machine": _text(_BOOT),  # the same for all nodes of a machine, in containers, too
            "host": os.uname().nodename,
            "cpus": os.cpu_count(),
        }
    found: dict[str, Any] = dict(cache)
    for read in (lambda: _disk(directory), _files, _memory, _kernel):
        try:
            found |= read()
        except (OSError, ValueError):
            continue
    return found


def _disk(directory: Path) -> dict[str, int]:
    usage = shutil.disk_usage(directory)
    return {"disk_bytes": usage.total, "disk_free_bytes": usage.free}


def _files() -> dict[str, int]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return {"files_max": soft, "files_hard_max": hard}  # -1: no limit


def _memory() -> dict[str, int]:
    page_bytes = resource.getpagesize()
    resident_bytes = int(Path("/proc/self/statm").read_text().split()[1]) * page_bytes
    meminfo = dict(re.findall(r"(\w+): +(\d+) kB", Path("/proc/meminfo").read_text()))
    return {
        "memory_bytes": memory_bytes(),
        "machine_memory_bytes": int(meminfo["MemTotal"]) * 1024,
        "memory_available_bytes": int(meminfo["MemAvailable"]) * 1024,
        "swap_bytes": int(meminfo["SwapTotal"]) * 1024,
        "resident_bytes": resident_bytes,
    }


def _kernel() -> dict[str, Any]:
    numbers = {name: int(_text(path)) for name, path in _NUMBERS.items() if _text(path).isdigit()}
    chosen = re.search(r"\[(\w+)\]", _text(_HUGE_PAGES))
    return {"kernel": numbers | ({"transparent_hugepages": chosen[1]} if chosen else {})}


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that was never installed


def examiner(directory: Path, listen: str, others: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """What makes the facts of a node that listens at `listen`, with those of `others`."""
    cache: dict[str, Any] = {}
    return lambda: machine_facts(directory, cache) | {"listen": listen} | others()
