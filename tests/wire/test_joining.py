"""Members are staged, planned and committed by the `dyn` command, against real processes; strangers are kept out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.ring_changes import run


def address(node: WireNode) -> str:
    return f"127.0.0.1:{node.port}"


def staged(node: WireNode) -> list[str]:
    """The changes that `node` knows of, each as two words."""
    return [f"{change['change']} {change['node']}" for change in run(node, "plan")["changes"]]


def refusal(node: WireNode, *words: str) -> str:
    """What `dyn cluster WORDS` says when the cluster refuses it."""
    done = dyn("cluster", *words, port=node.port)
    assert (done.returncode, done.stdout) == (1, b""), (words, done.returncode, done.stdout, done.stderr)
    return done.stderr.decode()


def test_a_node_is_staged_planned_and_committed(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    with n1.client() as client:
        client.mset({f"key:{number}": "x" * 200 for number in range(300)})
    n4 = cluster.add("--zone", "b")
    said = run(n1, "join", address(n4))
    joining = {"change": "join", "node": "n4", "address": address(n4), "zone": "b", "weight": 1}
    assert said == {"staged": joining, "epoch": 2, "changes": 1}
    assert [staged(node) for node in (n1, n2, n3)] == [["join n4"]] * 3, "all know when the command returns"
    run(n2, "weight", "n4", "2")
    plan = run(n3, "plan")
    assert (plan["epoch"], len(plan["changes"]), plan["zone_violations"]) == (2, 2, 0)
    assert {(move["from"], move["to"]) for move in plan["moves"]} == {("n1", "n4"), ("n2", "n4"), ("n3", "n4")}
    for move in plan["moves"]:
        assert move["partitions"] > 0 and 200 * move["keys"] < move["bytes"] < 400 * move["keys"]
    assert (
        plan["eta_s"] >= 1 and plan["balance_before"] >= plan["balance_after"] > 0.85
    )  # each partition has an owner in zone b
    shown = dyn("cluster", "plan", port=n1.port).stdout.decode()
    assert "join n4" in shown and "dyn cluster commit --epoch 2" in shown
    assert run(n2, "abort") == {"aborted": 2}
    assert [staged(node) for node in (n1, n2, n3)] == [[]] * 3
    assert "nothing is staged" in refusal(n1, "commit", "--epoch", "2")
    run(n1, "join", address(n4))
    assert run(n3, "commit", "--epoch", "2") == {"epoch": 2, "changes": 1}
    for node in cluster.nodes:
        wait_for(lambda node=node: node.document("DYN.CLUSTER", "MYSELF")["epoch"] == 2, f"{node.name} knows")  # type: ignore[misc]
    assert "STALEPLAN epoch 2 is already committed" in refusal(n1, "commit", "--epoch", "2")
    assert staged(n1) == []
    wait_for(lambda: set(n1.states()) == {"n1", "n2", "n3", "n4"}, "n4 is a member")
    with n4.client() as client:
        assert client.get("key:17") == b"x" * 200


def test_a_commit_is_followed_to_its_end(make_cluster: Callable[..., WireCluster]) -> None:
    """A node comes, goes, and comes again; each time the command returns when there is nothing left to do."""
    cluster = make_cluster()
    n1, n2, _ = cluster.nodes
    with n1.client() as client:
        client.mset({f"key:{number}": "x" * 200 for number in range(300)})
    n4 = cluster.add()
    for epoch, words in enumerate((("join", address(n4)), ("leave", "n4"), ("join", address(n4))), 2):
        run(n2, *words)
        assert run(n1, "commit", "--epoch", str(epoch), "--wait")["epoch"] == epoch
        assert "change" not in n1.document("DYN.CLUSTER", "STATUS")
        wait_for(n1.is_healthy, "n1 calls the cluster healthy")
        status = n1.document("DYN.CLUSTER", "STATUS")
        roles = {node["name"]: node["role"] for node in status["nodes"]}
        assert roles == dict.fromkeys(("n1", "n2", "n3", "n4") if words[0] == "join" else ("n1", "n2", "n3"), "member")
        if words[0] == "leave":
            done = dyn("cluster", "status", port=n4.port)
            assert done.returncode == 1 and b"node n4 has left its cluster at epoch 3" in done.stderr
    assert {node["name"]: node["owned"] for node in status["nodes"]}["n4"] == 96
    tasks = json.loads(dyn("task", "list", "--json", port=n1.port).stdout)["tasks"]
    (transfer,) = [task for task in tasks if task["task"] == "transfer-4-n4"]
    assert (transfer["state"], transfer["partitions_done"], transfer["partitions"]) == ("done", 96, 96)
    with n4.client() as client:
        assert client.get("key:17") == b"x" * 200


def test_what_is_staged_outlives_its_nodes(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=2)
    n1, n2 = cluster.nodes
    n2.stop()
    wait_for(lambda: n1.states()["n2"] == "down", "n2 is known to be gone")
    run(n1, "weight", "n1", "3")
    assert "n2 is down: every key" not in refusal(n1, "remove", "n9")
    n1.kill()
    n1.start()
    wait_for(n1.serves, "n1 serves")
    assert staged(n1) == ["weight n1"]
    n2.start()
    wait_for(n2.serves, "n2 serves")
    wait_for(lambda: staged(n2) == ["weight n1"], "n2 hears of it")


def test_who_may_not_join(make_cluster: Callable[..., WireCluster], tmp_path: Path) -> None:
    cluster, other = make_cluster(nodes=1), make_cluster(nodes=1)
    (n1,) = cluster.nodes
    stranger = other.nodes[0]
    assert f"is in cluster {stranger.document('DYN.CLUSTER', 'MYSELF')['cluster']}" in refusal(
        n1, "join", address(stranger)
    )
    twin = WireNode(tmp_path / "elsewhere" / "n1", free_ports(1), [], {})
    try:
        twin.start()
        wait_for(twin.serves, "the second n1 serves")
        assert f"there is a node n1 already, at {address(n1)}" in refusal(n1, "join", address(twin))
        assert staged(n1) == []
    finally:
        twin.dispose()
    assert "is up, and not known to be down: use `dyn cluster leave n1`" in refusal(n1, "remove", "n1")
    assert "no node would be left" in refusal(n1, "leave", "n1")
    gone = f"127.0.0.1:{free_ports(1)}"
    assert dyn("cluster", "join", gone, port=n1.port).returncode == 3


def test_a_node_asks_its_seeds_to_stage_its_join(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=2)
    n1, n2 = cluster.nodes
    nobody = f"127.0.0.1:{free_ports(1)}"
    n3 = cluster.add("--join", nobody, "--join", address(n2))
    wait_for(lambda: staged(n1) == ["join n3"], "a seed has staged the join")
    wait_for(lambda: "has staged that node n3 joins" in n3.log, "it says so")
    wait_for(lambda: f"cannot join by {nobody}" in n3.log, "it says what failed")
    n3.kill()
    n3.start("--join", address(n1))
    wait_for(lambda: n3.log.count("has staged that node n3 joins") >= 2, "it is content with what is staged")
    assert staged(n1) == ["join n3"]
    run(n1, "commit", "--epoch", "2")
    wait_for(lambda: n3.document("DYN.CLUSTER", "MYSELF")["epoch"] == 2, "n3 is a member")


def test_a_node_waits_for_seeds_that_are_down(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1)
    (n1,) = cluster.nodes
    n1.stop()
    n2 = cluster.add("--join", address(n1))
    wait_for(lambda: f"cannot join by {address(n1)}" in n2.log, "its seed is down")
    n1.start()
    wait_for(n1.serves, "n1 serves")
    wait_for(lambda: staged(n1) == ["join n2"], "the seed is back")
    assert n2.log.count(f"cannot join by {address(n1)}") <= 2, "what is the same is logged once"


def test_a_directory_of_another_cluster_cannot_join(make_cluster: Callable[..., WireCluster]) -> None:
    cluster, other = make_cluster(nodes=1), make_cluster(nodes=1)
    (n1,) = cluster.nodes
    (stranger,) = other.nodes
    stranger.stop()
    stranger.start("--join", address(n1))
    wait_for(lambda: f"cannot join by {address(n1)}: the directory of node n1 belongs to cluster" in stranger.log,
             "its log says why")  # fmt: skip
    assert staged(n1) == []


def test_records_of_an_earlier_life_do_not_join(make_cluster: Callable[..., WireCluster]) -> None:
    """A directory whose node has forgotten its layout, but not its data."""
    cluster = make_cluster(nodes=1)
    (n1,) = cluster.nodes
    myself = n1.document("DYN.CLUSTER", "MYSELF")
    lived = myself | {"id": "f" * 40, "name": "n2", "address": "127.0.0.1:9", "epoch": 0, "cluster": "", "keys": 17}
    with n1.client() as client, pytest.raises(Exception, match="holds 17 records of an earlier life: empty it"):
        client.execute_command("DYN.CLUSTER", "JOIN", json.dumps(lived))
