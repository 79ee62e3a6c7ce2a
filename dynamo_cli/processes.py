"""Processes of nodes: starts them, finds them again in a later command, watches and stops them.

The problem. A pid file may be stale: the process may be gone and another process may have its number.

So a pid is trusted only if /proc/PID/cmdline has `--dir` with this directory, and this is checked *after* a pidfd was
opened. The descriptor stays with one process for good. So whatever is signalled or awaited through it is the process that
was checked, never one that got the number in between. A pidfd also becomes readable when its process ends, child or not,
so that waiting needs no polling.
"""

from __future__ import annotations

import itertools
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from dynamo_cli.failures import Failure

PID_FILE = "pid"
LOG_FILE = "log"
EMPTY_TRIES_MAX = 20
EMPTY_INTERVAL_S = 0.002
TUNABLES = "GLIBC_TUNABLES"
HUGE_PAGES = "glibc.malloc.hugetlb"


class NodeProcess:
    """A node process that runs or has just ended, with its pidfd. `child` is set if this command started it."""

    def __init__(self, name: str, directory: Path, pid: int, pidfd: int, child: subprocess.Popen[bytes] | None) -> None:
        self.name = name
        self.directory = directory
        self.pid = pid
        self.pidfd = pidfd
        self.log_start_bytes = 0  # the offset in the log at which this run begins
        self._child = child

    @property
    def log(self) -> Path:
        """The file with the stdout and stderr of the process."""
        return self.directory / LOG_FILE

    def has_ended(self) -> bool:
        """Whether the process has ended; reaps it if it is our child."""
        if self._child is not None:
            return self._child.poll() is not None
        return bool(wait_any([self.pidfd], 0))

    def exit_text(self) -> str:
        """How it ended: `exit status 1`, `killed by SIGKILL`. Only the status of a child can be known."""
        status = self._child.poll() if self._child is not None else None
        if status is None:
            return "exit status unknown"
        return f"killed by {_signal_name(-status)}" if status < 0 else f"exit status {status}"

    def ended_well(self) -> bool:
        """Whether it is a child and has ended with status 0."""
        return self._child is not None and self._child.poll() == 0

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal, unless the process has ended."""
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return

    def log_tail(self, lines_max: int = 20, bytes_max: int = 16 << 10) -> list[str]:
        """The last lines that this run wrote to its log."""
        with self.log.open("rb") as log:
            size_bytes = log.seek(0, os.SEEK_END)
            start_bytes = self.log_start_bytes if self.log_start_bytes <= size_bytes else 0  # else a new file has begun
            log.seek(max(start_bytes, size_bytes - bytes_max))
            return log.read().decode("utf-8", "replace").splitlines()[-lines_max:]

    def forget(self) -> None:
        """After the process has ended: removes its pid file, unless that has another pid by now, and closes the pidfd."""
        path = self.directory / PID_FILE
        if _read_pid(path) == self.pid:
            path.unlink(missing_ok=True)
        os.close(self.pidfd)


def environment_of_node() -> dict[str, str]:
    """The environment of a node: with it the C library takes memory in huge pages, as protocol/c/arenas.h does for Python's
    objects. If GLIBC_TUNABLES says something about huge pages already, that holds. It is read when a process begins."""
    given = os.environ.get(TUNABLES, "")
    if HUGE_PAGES in given:
        return dict(os.environ)
    return os.environ | {TUNABLES: ":".join(filter(None, (given, f"{HUGE_PAGES}=1")))}


def start(name: str, directory: Path, argv: Sequence[str], detached: bool) -> NodeProcess:
    """Starts a node, appends its output to `log` and writes its pid to `pid`. Raises OSError.

    A detached node leads its own session and outlives the terminal. Another one has its own process group, so that Ctrl-C
    reaches only this command, which then stops the nodes in order.
    """
    with (directory / LOG_FILE).open("ab") as log:
        log_start_bytes = log.seek(0, os.SEEK_END)
        child = subprocess.Popen(
            argv,
            env=environment_of_node(),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=detached,
            process_group=None if detached else 0,
        )
    process = NodeProcess(name, directory, child.pid, os.pidfd_open(child.pid), child)
    process.log_start_bytes = log_start_bytes
    draft = directory / f"{PID_FILE}.new"
    draft.write_text(f"{child.pid}\n")
    os.replace(draft, directory / PID_FILE)
    return process


def find(name: str, directory: Path) -> NodeProcess | None:
    """The running process of the node in `directory` (absolute); None if its pid file is missing or stale. Raises Failure
    if that file cannot be read."""
    pid = _read_pid(directory / PID_FILE)
    if pid is None:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except (OSError, OverflowError):  # no such process, or a number that cannot be one
        return None
    if _is_node(pid, pidfd, directory):
        return NodeProcess(name, directory, pid, pidfd, None)
    os.close(pidfd)
    return None


def stop(processes: Sequence[NodeProcess], patience_s: float) -> tuple[list[NodeProcess], list[NodeProcess]]:
    """Sends SIGTERM to all, and SIGKILL to those that still run after `patience_s`. Returns (stopped, killed).

    Calls `forget` for all of them.
    """
    for process in processes:
        process.signal(signal.SIGTERM)
    running = _await_end(processes, patience_s)
    for process in running:
        process.signal(signal.SIGKILL)
    _await_end(running, patience_s)
    for process in processes:
        process.has_ended()
        process.forget()
    return [process for process in processes if process not in running], running


def wait_any(descriptors: Iterable[int], timeout_s: float | None) -> list[int]:
    """Waits until some descriptors are readable and returns these; none after `timeout_s` (None: waits for ever)."""
    poller = select.poll()
    for descriptor in descriptors:
        poller.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poller.poll(None if timeout_s is None else timeout_s * 1000)]


def _await_end(processes: Sequence[NodeProcess], timeout_s: float) -> list[NodeProcess]:
    deadline = time.monotonic() + timeout_s
    running = list(processes)
    while running and (remaining_s := deadline - time.monotonic()) > 0:
        ended = wait_any([process.pidfd for process in running], remaining_s)
        running = [process for process in running if process.pidfd not in ended]
    return running


def _is_node(pid: int, pidfd: int, directory: Path) -> bool:
    """Whether the process was started with `--dir <directory>`."""
    words = [b""]
    for _ in range(EMPTY_TRIES_MAX):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        # The command line of a zombie is empty. So is, for some microseconds, that of a process during exec.
        if words != [b""] or wait_any([pidfd], EMPTY_INTERVAL_S):
            break
    return (b"--dir", os.fsencode(directory)) in itertools.pairwise(words)


def _read_pid(path: Path) -> int | None:
    """The pid in a file; None if there is no file, or no pid in it. Raises Failure if the file cannot be read: then it is
    not known whether the node runs."""
    try:
        pid = int(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    except OSError as error:
        raise Failure(
            f"cannot read {path}, so it is not known whether the node runs: {error.strerror}",
            "run the command as the user who started the node",
        ) from None
    return pid if pid > 0 else None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
