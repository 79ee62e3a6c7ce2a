"""Nodes come back at other addresses, all of them at once, too, and find each other; dead addresses are told of."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import redis

from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for


def addresses(node: WireNode) -> dict[str, str]:
    """What the layout of `node` has, by name."""
    return {entry["name"]: entry["address"] for entry in node.document("DYN.CLUSTER", "STATUS")["nodes"]}


def reasons(node: WireNode) -> list[str | None]:
    """Why each node cannot be reached, as `node` shows it."""
    return [entry.get("reason") for entry in node.document("DYN.CLUSTER", "STATUS")["nodes"]]


def move(cluster: WireCluster, ports: Sequence[int], *options: str) -> None:
    """All nodes stop, and start at other ports."""
    with cluster.nodes[0].client() as client:
        client.set("before", "there")
    cluster.stop()
    for node, port in zip(cluster.nodes, ports, strict=True):
        node.port = port
        node.start(*options)
    for node in cluster.nodes:
        wait_for(node.serves, f"{node.name} serves")


def assert_whole(cluster: WireCluster) -> None:
    """Every node has the addresses where the nodes are, and serves every key; clients are sent there."""
    cluster.wait_healthy()
    wanted = {node.name: node.address for node in cluster.nodes}
    for node in cluster.nodes:
        wait_for(lambda node=node: addresses(node) == wanted, f"{node.name} knows where all are")  # type: ignore[misc]
        with node.client() as client:
            assert client.get("before") == b"there"
            assert client.set(f"by:{node.name}", "x")
            ports = {place[1] for row in client.execute_command("CLUSTER", "SLOTS") for place in row[2:]}
            assert ports <= set(cluster.ports)


def fresh_ports(count: int) -> list[int]:
    base = free_ports(count)
    return list(range(base, base + count))


def test_all_nodes_move_at_once_and_find_each_other_through_one_seed(make_cluster: Callable[..., WireCluster]) -> None:
    """The directories remember the seeds, so that they need not be said again."""
    cluster = make_cluster()
    ports = fresh_ports(3)
    move(cluster, ports, "--seeds", f"127.0.0.1:{ports[1]}")
    assert_whole(cluster)
    cluster.stop()
    for node in cluster.nodes:
        node.start()
    for node in cluster.nodes:
        wait_for(node.serves, f"{node.name} serves")
    assert json.loads((cluster.nodes[0].directory / "node.json").read_text())["seeds"] == [f"127.0.0.1:{ports[1]}"]
    assert_whole(cluster)


def test_a_seed_may_be_a_host_name_and_only_one_node_may_know_it(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    ports = fresh_ports(3)
    move(cluster, ports)
    last = cluster.nodes[2]
    last.stop()
    seeds = f"nowhere.invalid:7001,localhost:{ports[0]},127.0.0.1:{free_ports(1)}"
    last.start("--seeds", seeds, "--seeds", f"localhost:{ports[1]}")
    wait_for(last.serves, "n3 serves")
    assert_whole(cluster)
    told = "seed nowhere.invalid:7001: its host name leads to no address"
    wait_for(lambda: told in last.log, "it says which seed it cannot use")


def test_an_operator_tells_one_node_where_the_others_are(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    move(cluster, fresh_ports(3))
    n1, n2, n3 = cluster.nodes
    wait_for(lambda: n1.states() == {"n1": "up", "n2": "down", "n3": "down"}, "n1 is alone")
    wait_for(lambda: reasons(n1) == [None, "stopped", "stopped"], "it knows why")
    shown = dyn("cluster", "status", port=n1.port).stdout.decode()
    assert "connection refused" in shown and "dyn cluster readdress HOST:PORT" in shown
    nobody = f"127.0.0.1:{free_ports(1)}"
    done = dyn("cluster", "readdress", f"n3={n2.address}", n3.address, nobody, port=n1.port)
    lines = done.stdout.decode().splitlines()
    assert (done.returncode, lines[:2]) == (
        1,
        [f"{n2.address}: node n2 answers there, not n3", f"n3 is at {n3.address}"],
    )
    assert lines[2].startswith(f"{nobody}: ")
    assert_whole(cluster)
    done = dyn("cluster", "readdress", f"n2={n2.address}", "--json", port=n1.port)
    asked = {"asked": n2.address, "node": "n2", "address": n2.address, "error": ""}
    assert (done.returncode, json.loads(done.stdout)) == (0, {"nodes": [asked]})


def test_nodes_that_swap_their_addresses_need_no_seeds(make_cluster: Callable[..., WireCluster]) -> None:
    """Each of them answers where the layout has another one: nobody is taken for somebody else."""
    cluster = make_cluster()
    first, second, third = cluster.ports
    move(cluster, [second, third, first])
    assert_whole(cluster)
    move(cluster, [third, second, first])
    assert_whole(cluster)


def test_members_of_other_clusters_are_no_seeds(make_cluster: Callable[..., WireCluster]) -> None:
    cluster, other = make_cluster(nodes=2), make_cluster(nodes=1)
    (stranger,) = other.nodes
    move(cluster, fresh_ports(2), "--seeds", stranger.address)
    n1, n2 = cluster.nodes
    wait_for(lambda: "belongs to cluster" in n1.log, "it says so")
    done = dyn("cluster", "readdress", stranger.address, port=n1.port)
    assert done.returncode == 1 and b"belongs to cluster" in done.stdout
    assert other.nodes[0].states() == {"n1": "up"}
    assert dyn("cluster", "readdress", n2.address, port=n1.port).returncode == 0
    assert_whole(cluster)


def test_a_node_listens_everywhere_and_is_found_where_it_says(make_cluster: Callable[..., WireCluster]) -> None:
    """0.0.0.0 is never handed on; a host name is, if it is advertised, and stock cluster clients use it."""
    cluster = make_cluster()
    with cluster.nodes[0].client() as client:
        client.set("before", "there")
    for node in cluster.nodes:
        node.stop()
        node.start("--listen", f"0.0.0.0:{node.port}", "--advertise", f"localhost:{node.port}")
        wait_for(node.serves, f"{node.name} serves")
    cluster.wait_healthy()
    wanted = {node.name: f"localhost:{node.port}" for node in cluster.nodes}
    for node in cluster.nodes:
        wait_for(lambda node=node: addresses(node) == wanted, f"{node.name} knows where all are")  # type: ignore[misc]
        with node.client() as client:
            replies: list[Any] = [client.execute_command("CLUSTER", word) for word in ("SLOTS", "SHARDS", "NODES")]
            assert "0.0.0.0" not in repr(replies)
            assert {place[0] for row in replies[0] for place in row[2:]} == {b"localhost"}
    with redis.RedisCluster(host="localhost", port=cluster.ports[0]) as client:
        for number in range(50):
            assert client.set(f"key:{number}", number)
        assert client.get("key:7") == b"7"
        assert client.get("before") == b"there"


def test_a_host_name_to_listen_on_is_not_handed_on(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1)
    (n1,) = cluster.nodes
    n1.stop()
    n1.start("--listen", f"localhost:{n1.port}")
    wait_for(n1.serves, "it serves")
    assert n1.document("DYN.CLUSTER", "MYSELF")["address"] == f"127.0.0.1:{n1.port}"


@pytest.mark.parametrize("advertise", ["0.0.0.0:7001", "[::]:7001", ":7001", "host"])
def test_what_nobody_can_connect_to_is_not_advertised(advertise: str, make_cluster: Callable[..., WireCluster]) -> None:
    done = dyn("node", "start", "--dir", "/nowhere", "--advertise", advertise)
    assert done.returncode == 2 and done.stderr


def test_an_address_that_cannot_be_reached_is_told_from_a_node_that_has_stopped(
    make_cluster: Callable[..., WireCluster],
) -> None:
    """One node has stopped; of the other the name does not resolve any more."""
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    n3.stop()
    n3.start("--advertise", f"nowhere.invalid:{n3.port}")
    wait_for(lambda: addresses(n1)["n3"] == f"nowhere.invalid:{n3.port}", "n1 has its new address")
    n3.stop()
    n2.stop()
    wait_for(lambda: n1.states() == {"n1": "up", "n2": "down", "n3": "down"}, "n1 is alone")
    wait_for(lambda: reasons(n1) == [None, "stopped", "unresolved"], "it knows why")
    document = n1.document("DYN.CLUSTER", "STATUS")
    assert "n2 (127.0.0.1" in document["summary"] and "connection refused" in document["summary"]
    assert "its host name leads to no address" in document["summary"]


def test_a_frozen_node_is_silent(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    n1, n2, _ = cluster.nodes
    with n2.frozen():
        wait_for(lambda: n1.states()["n2"] == "down", "n2 is silent")
        wait_for(lambda: reasons(n1)[1] == "silent", "the status says so")
