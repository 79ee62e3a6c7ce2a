"""`dyn up` and `dyn down` with processes that only pretend to be nodes."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import Result

from dynamo_cli import local_cluster, processes
from dynamo_cli.cluster_file import LocalCluster, LocalNode
from tests.ports import free_ports

Dyn = Callable[..., Result]
FAKE_NODE = Path(__file__).with_name("fake_node.py")


class Machine:
    """A directory to run a cluster in, with fake nodes that behave as `behaviours` says (`good` if nothing)."""

    def __init__(self, directory: Path, dyn: Dyn) -> None:
        self.directory = directory
        self.port = free_ports(3)
        self.behaviours: dict[str, str] = {}
        self._dyn = dyn

    def argv(self, cluster: LocalCluster, node: LocalNode) -> list[str]:
        """In place of `local_cluster.node_argv`."""
        _, _, _, _, *options = local_cluster.node_argv(cluster, node)
        return [sys.executable, "-I", "-S", str(FAKE_NODE), self.behaviours.get(node.name, "good"), *options]

    def up(self, *options: str) -> Result:
        """`dyn up --detach` with the machine's directory."""
        return self._dyn(None, "up", "--detach", "--dir", str(self.directory), *options)

    def new(self, nodes: int, *options: str) -> Result:
        """The first `dyn up`."""
        return self.up("--nodes", str(nodes), "--base-port", str(self.port), *options)

    def down(self, *options: str) -> Result:
        """`dyn down`."""
        return self._dyn(None, "down", "--dir", str(self.directory), *options)

    def pid(self, name: str) -> int | None:
        """The running process of a node, as `dyn` finds it."""
        process = processes.find(name, self.directory / name)
        return None if process is None else process.pid

    def kill(self, name: str) -> None:
        """kill -9, and wait until it is gone."""
        process = processes.find(name, self.directory / name)
        assert process is not None
        process.signal(signal.SIGKILL)
        processes.wait_any([process.pidfd], None)


@pytest.fixture
def machine(tmp_path: Path, dyn: Dyn, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    made = Machine(tmp_path / "d", dyn)
    monkeypatch.setattr("dynamo_cli.local_commands.node_argv", made.argv)
    yield made
    for name in ("n1", "n2", "n3"):
        if made.pid(name) is not None:
            made.kill(name)


def test_up_starts_makes_the_layout_and_says_ready(machine: Machine) -> None:
    got = machine.new(2)
    assert (got.exit_code, got.stdout) == (
        0,
        f"ready: 2 nodes, 127.0.0.1:{machine.port} 127.0.0.1:{machine.port + 1}\n",
    )
    layout = json.loads((machine.directory / "layout").read_text())
    assert {**layout, "members": [member["name"] for member in layout["members"]]} == {
        "partitions": 128,
        "n": 3,
        "r": 2,
        "w": 2,
        "members": ["n1", "n2"],
    }
    for name in ("n1", "n2"):
        assert int((machine.directory / name / "pid").read_text()) == machine.pid(name)
        assert (machine.directory / name / "log").read_text() == "serves\n"


def test_a_node_is_started_with_all_its_options(machine: Machine) -> None:
    machine.new(1, "--fsync", "always", "--engine", "memory")
    words = (machine.directory / "n1" / "argv").read_text().split("\n")
    remembered = json.loads((machine.directory / "cluster.json").read_text())["nodes"][0]["id"]
    assert len(remembered) == 40
    assert dict(zip(words[::2], words[1::2], strict=True)) == {
        "--id": remembered,
        "--dir": str(machine.directory / "n1"),
        "--name": "n1",
        "--listen": f"127.0.0.1:{machine.port}",
        "--zone": "z1",
        "--weight": "1",
        "--fsync": "always",
        "--engine": "memory",
        "--set": f"log_to={machine.directory / 'n1' / 'log'}",
    }


def test_nodes_get_the_settings_also_at_later_starts(machine: Machine, tmp_path: Path) -> None:
    config = tmp_path / "settings.toml"
    config.write_text("siblings_max = 7\n")
    machine.new(1, "--config", str(config), "--set", "flushall=true", "--set", "hints_bytes_max=9")
    machine.down()
    assert machine.up("--set", "hints_bytes_max=").exit_code == 0
    words = (machine.directory / "n1" / "argv").read_text().split("\n")
    options = list(zip(words[::2], words[1::2], strict=True))
    assert [option for option in options if option[0] in ("--config", "--set")] == [
        ("--config", str(config)),
        ("--set", f"log_to={machine.directory / 'n1' / 'log'}"),
        ("--set", "flushall=true"),
    ]
    machine.down()
    config.write_text("log_to = 'journal'\n")
    assert machine.up().exit_code == 0
    assert "log_to" not in (machine.directory / "n1" / "argv").read_text(), "the file says where"


def test_other_settings_than_those_of_running_nodes_are_refused(machine: Machine) -> None:
    machine.new(2, "--set", "flushall=true")
    machine.kill("n2")
    got = machine.up("--set", "flushall=false")
    assert got.exit_code == 2 and "run with other settings" in got.stderr and "dyn down" in got.stderr
    assert machine.up("--set", "flushall=true").exit_code == 0


def test_settings_with_which_no_node_starts_are_not_stored(machine: Machine) -> None:
    machine.new(1, "--set", "flushall=true")
    machine.down()
    machine.behaviours["n1"] = "dies"
    assert machine.up("--set", "nosuch=1").exit_code == 1
    del machine.behaviours["n1"]
    assert machine.up().exit_code == 0
    assert json.loads((machine.directory / "cluster.json").read_text())["settings"] == {"flushall": "true"}


def test_the_real_command_line_cannot_take_a_server_folder_here_for_ours(tmp_path: Path) -> None:
    assert local_cluster.server_argv("--dir", "x") == [sys.executable, "-P", "-m", "server", "--dir", "x"]


def test_up_again_says_already_running_and_starts_nothing(machine: Machine) -> None:
    machine.new(2)
    before = [machine.pid("n1"), machine.pid("n2")]
    got = machine.up("--json")
    assert got.exit_code == 0
    assert "already running" in got.stderr
    document = json.loads(got.stdout)
    assert [(node["name"], node["pid"], node["started"]) for node in document["nodes"]] == [
        ("n1", before[0], False),
        ("n2", before[1], False),
    ]


def test_up_starts_only_the_dead_ones_and_makes_no_second_layout(machine: Machine) -> None:
    machine.new(2)
    layout = (machine.directory / "layout").stat().st_mtime_ns
    survivor, dead = machine.pid("n1"), machine.pid("n2")
    machine.kill("n2")
    got = machine.up("--json")
    assert [node["started"] for node in json.loads(got.stdout)["nodes"]] == [False, True]
    assert machine.pid("n1") == survivor
    assert machine.pid("n2") not in (None, dead)
    assert (machine.directory / "layout").stat().st_mtime_ns == layout


def test_down_stops_all_and_up_brings_the_same_nodes_back(machine: Machine) -> None:
    machine.new(2)
    got = machine.down("--json")
    assert (got.exit_code, json.loads(got.stdout)) == (0, {"stopped": ["n1", "n2"], "killed": [], "not_running": []})
    assert "ended as told" in (machine.directory / "n1" / "log").read_text()
    assert not (machine.directory / "n1" / "pid").exists()
    assert machine.up().stdout == f"ready: 2 nodes, 127.0.0.1:{machine.port} 127.0.0.1:{machine.port + 1}\n"


def test_down_twice_is_fine_and_down_of_nothing_is_not(machine: Machine) -> None:
    assert machine.down().exit_code == 1
    machine.new(1)
    assert machine.down().stdout == "stopped: n1\n"
    got = machine.down()
    assert (got.exit_code, got.stdout) == (0, "not running: n1\n")


def test_down_kills_what_does_not_end_and_says_so(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_cluster, "STOP_PATIENCE_S", 3)  # enough for the other one, on a busy machine, too
    machine.behaviours["n2"] = "stubborn"
    machine.new(2)
    got = machine.down()
    assert (got.exit_code, got.stdout) == (0, "stopped: n1\nkilled: n2\n")
    assert "n2 did not end within 3 s" in got.stderr


def test_a_node_that_dies_is_named_with_its_status_and_log_and_none_is_left(machine: Machine) -> None:
    machine.behaviours["n2"] = "dies"
    got = machine.new(2)
    assert (got.exit_code, got.stdout) == (1, "")
    assert f"n2 (127.0.0.1:{machine.port + 1}) ended before the cluster was ready: exit status 7" in got.stderr
    assert "    the disk is on fire" in got.stderr.splitlines()
    assert machine.pid("n1") is None
    assert list(machine.directory.glob("*/pid")) == []


@pytest.mark.parametrize("behaviour", ["mute", "unhealthy"])
def test_a_cluster_that_never_gets_ready_is_given_up(machine: Machine, behaviour: str) -> None:
    machine.behaviours["n1"] = behaviour
    got = machine.new(1, "--wait", "0.1")
    assert (got.exit_code, got.stdout) == (1, "")
    assert f"n1 (127.0.0.1:{machine.port}) was not ready within 0.1 s" in got.stderr
    assert machine.pid("n1") is None


@pytest.mark.parametrize("behaviour", ["repairing", "grown"])
def test_what_is_no_matter_of_this_start_is_not_waited_for(machine: Machine, behaviour: str) -> None:
    """Repairs, and members that joined later and live elsewhere."""
    machine.behaviours["n2"] = behaviour
    assert machine.new(2, "--wait", "60").exit_code == 0


def test_a_node_that_has_left_is_not_waited_for(machine: Machine) -> None:
    machine.new(2)
    machine.kill("n2")
    machine.behaviours["n2"] = "left"
    got = machine.up("--wait", "60")
    assert got.exit_code == 0 and "n2 has left the cluster and serves no requests" in got.stderr


def test_of_nodes_that_have_all_left_no_new_cluster_is_made(machine: Machine) -> None:
    machine.new(2)
    machine.down()
    machine.behaviours |= {"n1": "left", "n2": "left"}
    got = machine.up("--wait", "60")
    assert (
        got.exit_code == 1 and "n1 n2 left their cluster, which runs elsewhere: there is nothing to run" in got.stderr
    )
    assert machine.pid("n1") is None


def test_a_failed_start_leaves_alone_what_ran_before(machine: Machine) -> None:
    machine.new(2)
    survivor = machine.pid("n1")
    machine.kill("n2")
    machine.behaviours["n2"] = "dies"
    assert machine.up().exit_code == 1
    assert machine.pid("n1") == survivor


def test_a_port_in_use_is_named_and_nothing_starts(machine: Machine) -> None:
    with socket.create_server(("127.0.0.1", machine.port + 1)):
        got = machine.new(2)
    assert (got.exit_code, got.stdout) == (1, "")
    assert f"port {machine.port + 1}, which n2 needs, is in use by another program" in got.stderr
    assert not (machine.directory / "n1" / "log").exists()


def test_a_contradiction_to_what_is_there_is_wrong_usage(machine: Machine) -> None:
    machine.new(1)
    for options in (("--nodes", "2"), ("--base-port", "1024"), ("--engine", "memory"), ("--fsync", "no")):
        got = machine.up(*options)
        assert (got.exit_code, got.stdout) == (2, ""), options
        assert f"{options[0]} " in got.stderr
    machine.down()
    assert machine.up("--fsync", "no").exit_code == 0


@pytest.mark.parametrize("nodes", ["0", "10", "x"])
def test_one_to_nine_nodes(machine: Machine, nodes: str) -> None:
    assert machine.up("--nodes", nodes).exit_code == 2
    assert not machine.directory.exists()


def test_two_commands_do_not_work_on_a_directory_at_once(machine: Machine) -> None:
    machine.new(1)
    with local_cluster._lock(machine.directory):
        for got in (machine.up(), machine.down()):
            assert got.exit_code == 1
            assert "another dyn up or dyn down is at work" in got.stderr
    assert machine.pid("n1") is not None


def test_a_directory_that_cannot_be_is_an_error(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    machine.directory = tmp_path / "file" / "d"
    got = machine.up()
    assert (got.exit_code, got.stdout) == (1, "")
    assert "cannot" in got.stderr


def test_an_interrupt_while_starting_stops_what_was_started(machine: Machine) -> None:
    machine.behaviours["n1"] = "mute"
    machine.directory.mkdir()
    (machine.directory / "n1").mkdir()
    os.mkfifo(machine.directory / "n1" / "argv")  # the node writes it first: our read returns when the node runs

    def interrupt() -> None:
        (machine.directory / "n1" / "argv").read_text()
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    got = machine.new(1)
    thread.join()
    assert (got.exit_code, got.stdout) == (1, "")
    assert "interrupted before the cluster was ready" in got.stderr
    assert machine.pid("n1") is None
