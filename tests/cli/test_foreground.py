"""`dyn up` in the foreground, and `dyn node start`, as processes of their own: signals, deaths, exit statuses."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from dynamo_cli import processes
from tests.ports import free_ports

FAKE_NODE = Path(__file__).with_name("fake_node.py")

# `dyn` with fake nodes in place of the real ones.
DYN = f"""
import sys
from dynamo_cli import app, local_cluster, local_commands
def argv(cluster, node):
    return [sys.executable, "-I", "-S", {str(FAKE_NODE)!r}, "good", *local_cluster.node_argv(cluster, node)[4:]]
local_commands.node_argv = argv
app.main()
"""


class Foreground:
    """A running `dyn up` of two nodes. `port` is the first node's."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_ports(2)
        words = ["up", "--dir", str(directory), "--nodes", "2", "--base-port", str(self.port)]
        self.process = subprocess.Popen(
            [sys.executable, "-c", DYN, *words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> None:
        """Waits for the line that says so."""
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("ready: 2 nodes, ")

    def kill_node(self, name: str, number: signal.Signals) -> None:
        """Sends a signal to a node."""
        os.kill(int((self.directory / name / "pid").read_text()), number)

    def end(self) -> tuple[int, str]:
        """Waits for the end; the exit status and what stood on stderr."""
        _, stderr = self.process.communicate(timeout=30)
        return self.process.returncode, stderr


@pytest.fixture
def foreground(tmp_path: Path) -> Iterator[Foreground]:
    running = Foreground(tmp_path / "d")
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate()
    for name in ("n1", "n2"):
        process = processes.find(name, running.directory / name)
        if process is not None:
            process.signal(signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_stops_all_nodes_cleanly(foreground: Foreground, number: signal.Signals) -> None:
    foreground.ready()
    foreground.process.send_signal(number)
    assert foreground.end() == (0, f"starting n1 n2 in {foreground.directory}\nstopping n1 n2\n")
    for name in ("n1", "n2"):
        assert (foreground.directory / name / "log").read_text() == "serves\nended as told\n"
        assert not (foreground.directory / name / "pid").exists()


def test_a_node_that_dies_is_told_of_and_the_others_go_on(foreground: Foreground) -> None:
    foreground.ready()
    foreground.kill_node("n1", signal.SIGKILL)
    assert foreground.process.stderr is not None
    foreground.process.stderr.readline()
    told = foreground.process.stderr.readline()
    assert told == f"n1 has ended: killed by SIGKILL; its log: {foreground.directory}/n1/log\n"
    assert processes.find("n2", foreground.directory / "n2") is not None
    foreground.process.send_signal(signal.SIGINT)
    assert foreground.end() == (0, "stopping n2\n")


def test_it_ends_when_dyn_down_has_stopped_all(foreground: Foreground) -> None:
    foreground.ready()
    down = [sys.executable, "-m", "dynamo_cli", "down", "--dir", str(foreground.directory)]
    assert subprocess.run(down, capture_output=True, text=True, check=True).stdout == "stopped: n1 n2\n"
    status, told = foreground.end()
    assert status == 0
    assert "n2 has ended: exit status 0" in told


def test_it_fails_when_all_have_died(foreground: Foreground) -> None:
    foreground.ready()
    foreground.kill_node("n1", signal.SIGKILL)
    foreground.kill_node("n2", signal.SIGKILL)
    status, told = foreground.end()
    assert status == 1
    assert told.splitlines()[-1] == "dyn: all nodes have ended"


def test_node_start_becomes_the_node(tmp_path: Path) -> None:
    # A package `server` of our own in place of the real one, which shows what it is started with.
    (tmp_path / "server").mkdir()
    (tmp_path / "server" / "__main__.py").write_text("import os, sys; print(os.getpid(), sys.argv[1:])")
    words = ["node", "start", "--dir", "d", "--listen", "127.0.0.1:7001", "--weight", "2", "--fsync", "no"]
    words[6:6] = ["--advertise", "n1.example:7001"]
    words += ["--join", "127.0.0.1:7002", "--join", "[::1]:7003", "--seeds", "a:1,[::1]:2", "--seeds", "b:3"]
    child = subprocess.Popen(
        [sys.executable, "-m", "dynamo_cli", *words],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    stdout, _ = child.communicate()
    seeds = ["--seeds", "a:1", "--seeds", "[::1]:2", "--seeds", "b:3"]
    assert stdout == f"{child.pid} {[*words[2:-4], *seeds]}\n"
