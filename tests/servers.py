"""Servers that benchmarks start: a bare redis-server, a cluster by `dyn up`; and the processor's time that they take."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import redis

from tests.ports import free_ports
from tests.revisions import environment_of

_CPUCLOCK_SCHED = 2  # Linux, linux/posix-timers.h: the clock of another process is named by its number


class Served(NamedTuple):
    """A server under test: the port that clients use, and its processes."""

    port: int
    pids: list[int]


@contextmanager
def redis_server(scratch: Path, *options: str) -> Iterator[Served]:
    """A redis-server that writes nothing to disk, unless `options` say so."""
    port = free_ports(1)
    words = ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no", "--dir", str(scratch), *options]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    try:
        _wait_until_it_answers(port, process)
        yield Served(port, [process.pid])
    finally:
        process.terminate()
        process.wait()


def _wait_until_it_answers(port: int, process: subprocess.Popen[bytes]) -> None:
    while True:
        if process.poll() is not None:
            raise SystemExit(f"redis-server ended with status {process.returncode}")
        try:
            with redis.Redis(port=port) as client:
                client.ping()
                return
        except redis.ConnectionError:
            continue


@contextmanager
def dyn_cluster(
    scratch: Path, fsync: str = "everysec", engine: str = "rocksdb", tree: Path | None = None
) -> Iterator[Served]:
    """Three nodes, as `dyn up` makes them, of this tree or of another one; clients use the first one."""
    dyn = shutil.which("dyn", path=str(Path(sys.executable).parent)) or "dyn"
    environment = dict(os.environ) if tree is None else environment_of(tree)
    directory, port = scratch / "cluster", free_ports(3)
    where = ["--dir", str(directory)]
    words = [dyn, "up", "--detach", *where, "--base-port", str(port), "--fsync", fsync, "--engine", engine]
    subprocess.run(words, check=True, stdout=sys.stderr, env=environment)
    try:
        yield Served(port, [int(path.read_text()) for path in sorted(directory.glob("n*/pid"))])
    finally:
        subprocess.run([dyn, "down", *where], check=True, stdout=sys.stderr)


def cpu_s(pids: Sequence[int]) -> float:
    """The processor's time that these processes have taken so far, in seconds: of all threads, with the kernel's part.

    It is exact to the nanosecond; /proc/PID/stat counts in hundredths of a second."""
    return sum([time.clock_gettime(~pid << 3 | _CPUCLOCK_SCHED) for pid in pids])


def resident_mib(pid: int) -> float:
    """The memory that a process occupies."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / (1 << 20)
