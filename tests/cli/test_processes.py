"""Pid files and processes: a foreign process is never taken for a node."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_cli import processes
from dynamo_cli.failures import Failure
from dynamo_cli.processes import NodeProcess

# A process that is there until it is told to end; the second one does not listen.
SLEEPER = "import signal; signal.pause()"
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"


def argv(program: str, directory: Path) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", program, "--dir", str(directory)]


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[NodeProcess]:
    process = processes.start("n1", tmp_path, argv(SLEEPER, tmp_path), detached=False)
    yield process
    process.signal(signal.SIGKILL)
    processes.wait_any([process.pidfd], None)
    assert process.has_ended()


@pytest.mark.parametrize("detached", [False, True])
def test_a_started_process_is_found_by_its_pid_file_and_stopped(tmp_path: Path, detached: bool) -> None:
    process = processes.start("n1", tmp_path, argv(SLEEPER, tmp_path), detached)
    assert (tmp_path / "pid").read_text() == f"{process.pid}\n"
    assert os.getpgid(process.pid) == process.pid
    assert (os.getsid(process.pid) == process.pid) == detached
    found = processes.find("n1", tmp_path)
    assert found is not None
    assert found.pid == process.pid
    assert processes.stop([process], 30) == ([process], [])
    assert not (tmp_path / "pid").exists()
    assert found.has_ended()


def test_a_reused_pid_is_no_node(tmp_path: Path, sleeper: NodeProcess) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "pid").write_text(f"{sleeper.pid}\n")
    assert processes.find("n2", other) is None
    assert not sleeper.has_ended()


@pytest.mark.parametrize("content", ["", "x", "-1", "0", "99999999999999999999", "4194304"])
def test_a_pid_file_that_names_no_process_is_stale(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)
    assert processes.find("n1", tmp_path) is None


def test_a_zombie_does_not_run(tmp_path: Path) -> None:
    child = subprocess.Popen(argv("", tmp_path))
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    (tmp_path / "pid").write_text(f"{child.pid}\n")
    assert processes.find("n1", tmp_path) is None
    child.wait()


def test_one_that_does_not_end_is_killed(tmp_path: Path) -> None:
    process = processes.start("n1", tmp_path, argv(STUBBORN, tmp_path), detached=False)
    while b"deaf" not in process.log.read_bytes():
        processes.wait_any([process.pidfd], 0.005)
    assert processes.stop([process], 0.02) == ([], [process])
    assert process.exit_text() == "killed by SIGKILL"


def test_the_log_is_appended_to_and_its_tail_is_of_this_run(tmp_path: Path) -> None:
    for number in (1, 2):
        program = f"[print({number}, i) for i in range(3)]; raise SystemExit({number})"
        process = processes.start("n1", tmp_path, argv(program, tmp_path), detached=False)
        processes.wait_any([process.pidfd], None)
        assert process.has_ended()
        assert process.exit_text() == f"exit status {number}"
        assert process.log_tail(lines_max=2) == [f"{number} 1", f"{number} 2"]
        assert process.log_tail() == [f"{number} 0", f"{number} 1", f"{number} 2"]
        process.forget()
    assert (tmp_path / "log").read_text().splitlines()[0] == "1 0"


def test_a_pid_file_that_cannot_be_read_is_no_stale_one(tmp_path: Path) -> None:
    """A directory in its place, because root may read every file. Another user's file is refused in the same way."""
    (tmp_path / "pid").mkdir()
    with pytest.raises(Failure, match=r"cannot read .*/pid, so it is not known whether the node runs: Is a directory"):
        processes.find("n1", tmp_path)


def test_a_pid_file_of_bytes_is_stale(tmp_path: Path) -> None:
    (tmp_path / "pid").write_bytes(b"\xff\xfe")
    assert processes.find("n1", tmp_path) is None


def test_the_pid_file_of_a_later_process_is_left(tmp_path: Path) -> None:
    process = processes.start("n1", tmp_path, argv("", tmp_path), detached=False)
    processes.wait_any([process.pidfd], None)
    (tmp_path / "pid").write_text("1\n")
    process.forget()
    assert (tmp_path / "pid").read_text() == "1\n"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_a_node_takes_memory_in_huge_pages_unless_it_is_tuned(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, expected: str
) -> None:
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if given is not None:
        monkeypatch.setenv("GLIBC_TUNABLES", given)
    process = processes.start("n1", tmp_path, argv(SLEEPER, tmp_path), detached=True)
    environment = b""
    while not environment:  # empty until the kernel has laid out the new program
        environment = Path(f"/proc/{process.pid}/environ").read_bytes()
    environment = environment.replace(b"\0", b":")  # glibc ends each tunable by a 0
    process.signal(signal.SIGKILL)
    processes.wait_any([process.pidfd], None)
    assert process.has_ended()
    assert f":GLIBC_TUNABLES={expected}:".encode() in environment
