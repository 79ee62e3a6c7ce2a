"""WAIT with stock redis-py on real nodes: all replicas of a write, and one that is frozen."""

from __future__ import annotations

from collections.abc import Callable

from tests.wire.cluster import WireCluster, wait_for


def test_wait_counts_the_replicas_of_this_connections_writes(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    for node in cluster.nodes:
        client = node.client(single_connection_client=True)

        def all_have_it(client: object = client) -> bool:  # a node that has just started does not know what was before
            return client.set("key", node.name) and client.wait(2, 5000) == 2  # type: ignore[attr-defined, no-any-return] # noqa: B023

        wait_for(all_have_it, f"the writes through {node.name} are on all nodes")
        replies = [client.set(f"key:{number}", node.name) and client.wait(2, 5000) for number in range(20)]
        assert {*replies} <= {1, 2} and replies.count(2) > 10, replies  # on a busy machine a replica may be too late
        assert client.wait(1, 0) >= 1
        client.close()
    with n1.client(single_connection_client=True) as client, n3.frozen():
        client.ping()
        client.set("key", "without n3")
        assert client.wait(2, 200) == 1
    cluster.wait_healthy()
    with n2.client(single_connection_client=True) as client:
        wait_for(lambda: client.set("key", "with n3") and client.wait(2, 5000) == 2, "n3 takes writes again")


def test_waitaof_counts_the_disks_of_this_connections_writes(make_cluster: Callable[..., WireCluster]) -> None:
    n1, _, n3 = make_cluster().nodes
    with n1.client(single_connection_client=True) as client:

        def is_on_all_disks() -> bool:  # within a second under everysec, and a busy machine takes longer
            return bool(client.set("key", "v")) and client.execute_command("WAITAOF", 1, 2, 5000) == [1, 2]

        wait_for(is_on_all_disks, "the writes are on all disks")
        with n3.frozen():
            client.set("key", "without n3")
            assert sum(client.execute_command("WAITAOF", 1, 2, 1500)) < 3
