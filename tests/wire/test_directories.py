"""Directories that lost a part of themselves, or that somebody else uses: the node does not start, changes nothing there,
and says what to do. What no code expected ends the process.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from server.build import ROOT
from server.shell.crash import EXIT_STATUS
from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.repairs import stop_and_compare, wait_whole, write

MakeCluster = Callable[..., WireCluster]
VALUES: dict[str, bytes | None] = {f"k{number}": b"v%d" % number for number in range(300)}
FAULT = """
import server.core.node
def wake(self, now_ms):
    raise RuntimeError("planted")
server.core.node.Node.wake = wake
"""


def _does_not_start(node: WireNode, *words: str) -> None:
    assert node.wait() == 1
    last = node.log.splitlines()[-1]
    assert "CRITICAL" in last and "does not start" in last
    assert "Traceback" not in node.log
    for word in words:
        assert word in last, last


def _files(node: WireNode) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((node.directory / "data").iterdir())}


def test_a_lost_node_json_is_not_replaced_by_a_stranger(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config="repair_interval_ms = 1000\n")
    victim, other, _ = cluster.nodes
    write(cluster.nodes, VALUES)
    identity = json.loads((victim.directory / "node.json").read_text())["id"]
    assert victim.stop() == 0
    (victim.directory / "node.json").unlink()
    before = _files(victim)
    for options in ((), ("--rebuild",)):
        victim.start(*options)
        _does_not_start(victim, "node.json is missing", "--id ID", "dyn cluster status --json")
    assert _files(victim) == before
    for wrong in ("f" * 40, "n1"):
        victim.start("--id", wrong)
        _does_not_start(victim, "none of its members", f"its member n1 at {victim.address} has the id {identity}")
        assert not (victim.directory / "node.json").exists(), "a wrong id is not remembered"
    status = json.loads(dyn("cluster", "status", "--json", port=other.port).stdout)
    told = next(node["id"] for node in status["nodes"] if node["name"] == victim.name)
    victim.start("--id", told)
    cluster.wait_healthy()
    wait_whole(cluster)
    stop_and_compare(cluster)


def test_rebuild_of_a_running_node_is_refused(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    write([node], VALUES)
    identity = (node.directory / "node.json").read_text()
    second = WireNode(node.directory, free_ports(1), (), {})
    second.start("--rebuild")
    _does_not_start(second, "is open in another process: stop that node first")
    assert not [*node.directory.glob("data.damaged*")]
    assert (node.directory / "node.json").read_text() == identity, "nor is the address of the running node forgotten"
    node.kill()
    node.start()
    wait_for(node.serves, "it serves")
    with node.client() as client:
        assert client.mget(list(VALUES)) == list(VALUES.values())


def test_rebuild_moves_nothing_while_the_port_is_in_use(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=2)
    one, two = cluster.nodes
    assert two.stop() == 0
    before = _files(two)
    second = WireNode(two.directory, one.port, (), {})
    second.start("--rebuild")
    _does_not_start(second, "in use")
    assert _files(two) == before


def test_dyn_up_without_its_file_comes_back_on_its_ports(tmp_path: Path) -> None:
    directory, port = tmp_path / "cluster", free_ports(3)
    try:
        assert dyn("up", "--detach", "--dir", directory, "--base-port", str(port)).returncode == 0
        assert dyn("set", "k", "v", port=port).returncode == 0
        before = (directory / "cluster.json").read_text()
        (directory / "cluster.json").unlink()
        assert dyn("down", "--dir", directory).returncode == 0
        refused = dyn("up", "--detach", "--dir", directory, "--base-port", str(port + 100))
        assert refused.returncode == 2
        assert b"begins at port %d" % port in refused.stderr
        again = dyn("up", "--detach", "--dir", directory)
        assert again.returncode == 0, again.stderr.decode()
        assert b"cluster.json was missing" in again.stderr
        assert (directory / "cluster.json").read_text() == before
        assert dyn("get", "k", port=port + 2).stdout.strip() == b"v"
    finally:
        dyn("down", "--dir", directory)


def test_what_was_not_expected_ends_the_process(tmp_path: Path) -> None:
    for room in ("protocol", "server"):  # not the compiled code: its classes take no planted fault
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("compiled"))
    (tmp_path / "sitecustomize.py").write_text(FAULT)
    cluster = WireCluster(tmp_path / "one", nodes=1, environments={0: {"PYTHONPATH": str(tmp_path)}})
    node = cluster.nodes[0]
    try:
        node.start()
        assert node.wait() == EXIT_STATUS, "it does not limp on"
        assert "CRITICAL the node stops after an unexpected exception" in node.log
        assert "RuntimeError: planted" in node.log
    finally:
        cluster.dispose()
