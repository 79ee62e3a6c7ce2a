"""Facts of the process under INFO's names: its id, its memory, its CPU time."""

from __future__ import annotations

import functools
import gc
import os
import platform
import resource
import sys
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from server.core import node
from server.core.base.statistics import Statistics


class LoopLag:
    """How late the node's timer was: the longest time that the event loop was busy with something else."""

    def __init__(self) -> None:
        self.worst_ms = 0  # since the last call of `facts`
        self._ever_ms = 0

    def note(self, late_ms: int) -> None:
        """The timer came so late."""
        self.worst_ms = max(self.worst_ms, late_ms)
        self._ever_ms = max(self._ever_ms, late_ms)

    def facts(self) -> dict[str, str]:
        """The worst since the last call, and since the start, in milliseconds."""
        facts = {"loop_lag_ms": str(self.worst_ms), "loop_lag_ms_max": str(self._ever_ms)}
        self.worst_ms = 0
        return facts


class Collections:
    """How long Python's collections of garbage took, by the processor's time: the event loop stands still meanwhile."""

    def __init__(self, now_ns: Callable[[], int] = time.thread_time_ns) -> None:
        self._now_ns = now_ns
        self._began_ns = 0
        self._worst_us = 0
        self._count = 0

    def begin(self) -> None:
        """From now on collections are timed."""
        gc.callbacks.append(self._note)

    def stop(self) -> None:
        """They are not timed any more."""
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, _: dict[str, int]) -> None:
        if phase == "start":
            self._began_ns = self._now_ns()
            return
        self._count += 1
        self._worst_us = max(self._worst_us, (self._now_ns() - self._began_ns) // 1000)

    def facts(self) -> dict[str, str]:
        """How many there were since the start, and how long the longest took in milliseconds."""
        return {"gc_collections": str(self._count), "gc_ms_max": f"{self._worst_us / 1000:.1f}"}


class Rates:
    """What went through this node since the last look, for a second, under Redis' names."""

    def __init__(self, statistics: Statistics) -> None:
        self._statistics = statistics
        self._looked_ms = 0
        self._last = (0, 0, 0)

    def facts(self, now_ms: int) -> dict[str, str]:
        """Commands, and kilobytes from and to clients, a second."""
        counted = self._statistics
        now = (counted.commands, counted.net_input_bytes, counted.net_output_bytes)
        span_s = max(1, now_ms - self._looked_ms) / 1000
        commands, came, left = [(new - old) / span_s for new, old in zip(now, self._last, strict=True)]
        self._looked_ms, self._last = now_ms, now
        return {
            "instantaneous_ops_per_sec": f"{commands:.0f}",
            "instantaneous_input_kbps": f"{came / 1024:.2f}",
            "instantaneous_output_kbps": f"{left / 1024:.2f}",
        }


@functools.cache
def _version() -> str:
    try:
        return version("dyn")
    except PackageNotFoundError:
        return "unknown"  # run from a checkout that was never installed


def process_facts() -> dict[str, str]:
    """The facts at this moment; tens of microseconds, meant to be asked once a second."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    page_bytes = resource.getpagesize()
    resident_bytes = int(os.pread(_statm(), 128, 0).split()[1]) * page_bytes
    total_bytes = os.sysconf("SC_PHYS_PAGES") * page_bytes
    peak_bytes = max(usage.ru_maxrss * 1024, resident_bytes)  # the kernel counts the first one less exactly
    facts = {
        "os": f"{platform.system()} {platform.release()} {platform.machine()}",
        "arch_bits": "64" if sys.maxsize > 1 << 32 else "32",
        "process_id": str(os.getpid()),
        "executable": sys.executable,
        "dyn_version": _version(),
        "mem_fragmentation_ratio": "1.00",  # what is used is what is resident
        "dyn_build": "interpreted" if node.__file__.endswith(".py") else "compiled",
        "used_cpu_sys": f"{usage.ru_stime:.6f}",
        "used_cpu_user": f"{usage.ru_utime:.6f}",
        "used_cpu_sys_children": f"{children.ru_stime:.6f}",
        "used_cpu_user_children": f"{children.ru_utime:.6f}",
    }
    sizes = {
        "used_memory": resident_bytes,
        "used_memory_rss": resident_bytes,
        "used_memory_peak": peak_bytes,
        "total_system_memory": total_bytes,
    }
    for name, size_bytes in sizes.items():
        facts[name] = str(size_bytes)
        facts[f"{name}_human"] = _human(size_bytes)
    return facts


@functools.cache
def _statm() -> int:
    """/proc/self/statm, kept open so that it can be read when no descriptor is left."""
    return os.open("/proc/self/statm", os.O_RDONLY | os.O_CLOEXEC)


def _human(size_bytes: int) -> str:
    """As Redis writes it: 1.50M."""
    size, units = float(size_bytes), "BKMGT"
    for unit in units[:-1]:
        if size < 1024:
            return f"{size_bytes}B" if unit == "B" else f"{size:.2f}{unit}"
        size /= 1024
    return f"{size:.2f}{units[-1]}"
