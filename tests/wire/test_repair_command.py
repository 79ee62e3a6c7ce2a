"""`dyn repair` over real nodes: left alone, found again and ended; followed over a crash of the node that runs it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable

from tests.wire.cluster import DYN, WireCluster, WireNode, dyn, wait_for
from tests.wire.repairs import REPAIR_S, Values, assert_holds, stop_and_compare, wipe, write

KEYS = 3000
SLOW = "background_keys_per_s = 250\nbackground_keys_per_s_idle = 250\nrepair_interval_ms = 3600000\n"
VALUES: Values = {f"k{number}": b"v%d" % number for number in range(KEYS)}


def _wiped(cluster: WireCluster) -> WireNode:
    """A node with a new disk, among others that have it all."""
    write(cluster.nodes, VALUES)
    wiped = cluster.nodes[2]
    wiped.kill()
    wipe(wiped)
    wiped.start()
    wait_for(wiped.serves, "the wiped node serves")
    return wiped


def _done(node: WireNode, task: str) -> int:
    return int(node.document("DYN.TASK", "SHOW", task)["partitions_done"])


def _left_alone_and_ended(runner: WireNode, other: WireNode) -> None:
    started = dyn("repair", "--no-wait", "--json", port=runner.port)
    task = json.loads(started.stdout)["task"]
    listed = json.loads(dyn("task", "list", "--json", port=other.port).stdout)["tasks"]
    repairs = [entry for entry in listed if entry["task"].startswith("repair-")]  # the wiped node is being filled, too
    assert [(entry["task"], entry["state"]) for entry in repairs] == [(task, "running")]
    aborted = dyn("task", "abort", task, "--json", port=other.port)
    assert (aborted.returncode, json.loads(aborted.stdout)["state"]) == (0, "aborted"), aborted.stderr.decode()
    waited = dyn("task", "wait", task, port=other.port)
    assert waited.returncode == 1
    assert waited.stderr.decode() == f"dyn: task {task} aborted\n"


def _followed_over_a_crash(runner: WireNode, other: WireNode) -> None:
    program = [DYN, "--port", str(runner.port), "repair"]
    with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as command:
        assert command.stdout is not None
        task = command.stdout.readline().split()[1].rstrip(":")
        wait_for(lambda: _done(other, task) > 0, "the repair has begun")
        runner.kill()
        runner.start()
        said, complained = command.communicate(timeout=REPAIR_S)
    assert command.returncode == 0, complained
    assert "trying again" in complained
    assert said.splitlines()[-1].startswith(f"task {task}: done, 128 of 128 partitions, {KEYS} keys compared")


def test_a_repair_belongs_to_the_cluster_and_not_to_the_command(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config=SLOW)
    runner, other, _ = cluster.nodes
    wiped = _wiped(cluster)
    _left_alone_and_ended(runner, other)
    _followed_over_a_crash(runner, other)
    assert_holds(stop_and_compare(cluster)[wiped.name], VALUES)
