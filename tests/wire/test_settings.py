"""The settings of real nodes: the file that a directory remembers, SIGHUP, CONFIG REWRITE, and what `dyn config` shows."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for

MakeCluster = Callable[..., WireCluster]


def shown(node: WireNode, name: str) -> tuple[Any, str]:
    """The value of a setting and its source."""
    rows = {row["name"]: row for row in node.document("DYN.CONFIG", "SHOW")["settings"]}
    return rows[name]["value"], rows[name]["source"]


def started(node: WireNode, *options: str) -> WireNode:
    node.start(*options)
    wait_for(node.serves, f"{node.name} serves")
    return node


def test_a_directory_remembers_its_file_and_the_file_beats_what_else_it_remembers(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("siblings_max = 5\n")
    node = WireNode(tmp_path / "n1", free_ports(1), (), {})
    started(node, "--config", str(path), "--fsync", "no")
    assert shown(node, "fsync") == ("no", "option") and shown(node, "siblings_max") == (5, "file")
    assert node.stop() == 0
    path.write_text("siblings_max = 6\n\nfsync = 'always'\n")
    started(node)
    assert shown(node, "fsync") == ("always", "file") and shown(node, "siblings_max") == (6, "file")
    assert f"fsync is always by line 3 of {path}: no of an earlier start counts no more" in node.log
    assert node.stop() == 0
    node.change_environment({**os.environ, "DYN_SIBLINGS_MAX": "7"})
    started(node, "--set", "users_max=8")
    assert shown(node, "siblings_max") == (7, "environment") and shown(node, "users_max") == (8, "option")
    assert node.stop() == 0
    node.change_environment({})
    path.unlink()
    node.start()
    assert node.wait() == 1 and f"{path}, which this directory remembers" in node.log.splitlines()[-1]
    started(node, "--config", "/dev/null")
    assert shown(node, "siblings_max") == (100, "default")
    assert node.stop() == 0
    node.start("--engine", "memory")
    assert node.wait() == 1 and "engine memory (an option of this start) would begin empty" in node.log.splitlines()[-1]


def test_a_running_node_follows_its_file_and_writes_to_it(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=2, config="# few\nsiblings_max = 5 # five\n")
    one, other = cluster.nodes
    path = cluster.directory / "settings.toml"
    set_all = dyn("config", "set", "--all", "siblings_max", "6", port=one.port)
    assert set_all.returncode == 0 and set_all.stdout.count(b"siblings_max = 6") == 2
    assert [shown(node, "siblings_max") for node in cluster.nodes] == [(6, "command")] * 2
    with one.client() as client:
        assert client.config_rewrite() == b"OK"
    assert path.read_text() == "# few\nsiblings_max = 6 # five\n"
    path.write_text('siblings_max = 7\nlog_format = "json"\npeers_max = 50\n')
    other.signal(signal.SIGHUP)
    wait_for(lambda: shown(other, "siblings_max") == (7, "file"), "it follows the file")
    lines = [json.loads(line) for line in other.log.splitlines() if line.startswith("{")]
    events = {line["event"]: line for line in lines}
    assert events["settings_need_restart"]["settings"] == "peers_max" and events["settings_changed"]["node"] == "n2"
    assert shown(one, "siblings_max") == (6, "file"), "no signal, no change"
    refused = dyn("config", "set", "peers_max", "9", port=one.port)
    assert (
        refused.returncode == 1
        and b"can't set immutable config: the node takes it from its config file" in refused.stderr
    )


def test_r_and_w_are_changed_by_a_plan(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=3)
    one, other = cluster.nodes[:2]
    with one.client() as client:
        assert client.set("key", "value")
    wait_for(lambda: dyn("config", "set", "w", "3", port=one.port).returncode == 0, "all nodes know each other")
    refused = dyn("config", "set", "n", "5", port=one.port)
    assert refused.returncode == 1 and b"N=5 needs 5 nodes, and the cluster would have 3" in refused.stderr
    refused = dyn("config", "set", "w", "2", "--r", "2", port=one.port)
    assert refused.returncode == 2 and b"--r and --w go with dyn config set n alone" in refused.stderr
    plan = json.loads(dyn("cluster", "plan", "--json", port=other.port).stdout)
    assert (plan["w"], plan["moves"]) == ([2, 3], []) and "W=2 copies" in plan["quorums"]
    words = ("cluster", "commit", "--epoch", str(plan["epoch"]), "--plan", plan["digest"])
    wait_for(lambda: dyn(*words, port=other.port).returncode == 0, "all nodes have adopted the layout")
    wait_for(
        lambda: all(node.document("DYN.CLUSTER", "STATUS")["w"] == 3 for node in cluster.nodes), "all nodes have it"
    )
    wait_for(lambda: "written_w" not in one.document("DYN.CLUSTER", "STATUS"), "older writes have been copied")
    assert dyn("config", "set", "r", "1", port=one.port).returncode == 0
    with other.client() as client:
        assert client.execute_command("DYN.QUORUM") == [3, 2, 3] and client.get("key") == b"value"
    assert dyn("cluster", "abort", port=other.port).stdout == b"1 change is no longer staged\n"


def test_the_log_of_a_node_is_rotated(tmp_path: Path) -> None:
    path = tmp_path / "log"
    node = WireNode(tmp_path / "n1", free_ports(1), ("--set", f"log_to={path}"), {})
    started(node, "--set", "log_file_bytes_max=300", "--set", "log_files_kept=2")
    with node.client() as client:
        for number in range(20):
            client.config_set("siblings_max", number)
    wait_for(lambda: (tmp_path / "log.2").exists(), "the log is rotated")
    assert all(each.stat().st_size <= 300 for each in (path, tmp_path / "log.1"))
    assert "serves on" not in node.log, "nothing of it goes to standard error"
    assert node.stop() == 0
