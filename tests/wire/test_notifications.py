"""Keyspace notifications over a cluster: each change is told once to the subscribers of every node."""

from __future__ import annotations

from collections.abc import Callable

from tests.wire.cluster import Client, WireCluster, connect, wait_for


def _setting(client: Client) -> str:
    return str(client.config_get("notify-keyspace-events")["notify-keyspace-events"])


def test_each_change_through_any_node_is_told_once_on_all_nodes(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    clients = [connect(node.port) for node in cluster.nodes]
    assert clients[1].config_set("notify-keyspace-events", "KEA")
    wait_for(
        lambda: all(
            client.config_get("notify-keyspace-events") == {"notify-keyspace-events": "AKE"} for client in clients
        ),
        "all nodes have the setting",
    )
    subscribers = [client.pubsub() for client in clients]
    for subscriber in subscribers:
        subscriber.psubscribe("__keyevent@0__:*")
        assert subscriber.get_message(timeout=10)["type"] == "psubscribe"
    wanted = []
    for number in range(30):
        client, key = clients[number % 3], f"key:{number}"
        client.set(key, "1", ex=100)
        client.lpush(f"list:{number}", "x")
        client.delete(key)
        wanted += [("set", key), ("expire", key), ("lpush", f"list:{number}"), ("del", key)]
    clients[0].set("expires", "soon", px=300)
    wanted += [("set", "expires"), ("expire", "expires"), ("expired", "expires")]
    for subscriber in subscribers:
        messages = [subscriber.get_message(timeout=10) for _ in wanted]
        assert None not in messages
        told = [(each["channel"].decode().partition(":")[2], each["data"].decode()) for each in messages]
        assert sorted(told) == sorted(wanted)
        assert subscriber.get_message(timeout=0.01) is None
    cluster.nodes[2].kill()
    cluster.nodes[2].start()
    cluster.wait_healthy()
    again = connect(cluster.nodes[2].port)
    wait_for(
        lambda: again.config_get("notify-keyspace-events") == {"notify-keyspace-events": "AKE"}, "it learns the setting"
    )
