"""Publish/subscribe over a cluster with stock redis-py, and what a slow subscriber and a dead node do to the others."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import pytest
import redis

from protocol import resp
from tests.wire.cluster import Client, WireCluster, connect, wait_for
from tests.wire.raw import raw, read_exactly

TIMEOUT_S = 10.0


def _subscribed(client: Client, *channels: str, patterns: tuple[str, ...] = ()) -> Any:
    """A subscriber whose subscriptions are confirmed."""
    subscriber = client.pubsub()
    subscriber.kept = client  # when a client is collected, its connections close
    if channels:
        subscriber.subscribe(*channels)
    if patterns:
        subscriber.psubscribe(*patterns)
    for _ in range(len(channels) + len(patterns)):
        assert subscriber.get_message(timeout=TIMEOUT_S)["type"] in ("subscribe", "psubscribe")
    return subscriber


def _next(subscriber: Any) -> tuple[bytes, bytes]:
    """The next message: its channel and its data."""
    message = subscriber.get_message(timeout=TIMEOUT_S)
    assert message is not None, "no message has come"
    return message["channel"], message["data"]


@pytest.mark.parametrize("protocol", [2, 3])
def test_a_message_through_any_node_reaches_the_subscribers_of_all(cluster: WireCluster, protocol: int) -> None:
    clients = [connect(port, protocol=protocol) for port in cluster.ports]
    channel = f"news:{protocol}"
    subscribers = [_subscribed(client, channel, patterns=(f"new?:{protocol}",)) for client in clients]
    for number, client in enumerate(clients):
        assert client.publish(channel, f"from {number}") == 2, "the subscriptions at this node"
        for subscriber in subscribers:
            got = [_next(subscriber), _next(subscriber)]
            assert got == [(channel.encode(), b"from %d" % number)] * 2
    assert clients[0].pubsub_numsub(channel, "other") == [(channel.encode(), 3), (b"other", 0)]
    assert clients[1].pubsub_channels(f"*:{protocol}") == [channel.encode()]
    wait_for(lambda: clients[2].pubsub_numpat() == 1, "nobody else has a pattern there")
    for subscriber in subscribers:
        subscriber.close()
    wait_for(lambda: clients[0].pubsub_channels(f"*:{protocol}") == [], "the connections have ended")


def test_sharded_channels(cluster: WireCluster) -> None:
    first, second = connect(cluster.ports[0]), connect(cluster.ports[1])
    subscriber = first.pubsub()
    subscriber.ssubscribe("orders")
    assert subscriber.get_sharded_message(timeout=TIMEOUT_S)["type"] == "ssubscribe"
    assert second.spublish("orders", "one") == 0
    assert subscriber.get_sharded_message(timeout=TIMEOUT_S)["data"] == b"one"
    assert second.pubsub_shardchannels() == [b"orders"] and second.pubsub_shardnumsub("orders") == [(b"orders", 1)]
    subscriber.close()


def test_the_messages_of_a_publisher_stay_in_order(cluster: WireCluster) -> None:
    """Small ones, in pipelines, between some that travel in pieces."""
    subscriber = _subscribed(connect(cluster.ports[2]), "order")
    publisher = connect(cluster.ports[0])
    sent = []
    for batch in range(10):
        pipeline = publisher.pipeline(transaction=False)
        for number in range(50):
            sent.append(b"%d:%d" % (batch, number) + (b"x" * 600_000 if number == 20 else b""))
            pipeline.publish("order", sent[-1])
        pipeline.execute()
    assert [_next(subscriber)[1] for _ in sent] == sent
    subscriber.close()


def test_a_message_follows_what_its_publisher_has_written(cluster: WireCluster) -> None:
    subscriber, reader = _subscribed(connect(cluster.ports[1]), "written"), connect(cluster.ports[1])
    writer = connect(cluster.ports[0])
    for number in range(50):
        writer.pipeline(transaction=False).set("written:key", number).publish("written", number).execute()
        assert _next(subscriber)[1] == b"%d" % number
        assert reader.get("written:key") == b"%d" % number
    subscriber.close()


def test_a_slow_subscriber_is_cut_and_harms_nobody(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config="push_bytes_max = 262144\n")
    publisher, good = connect(cluster.ports[0]), _subscribed(connect(cluster.ports[1]), "flood")
    with raw(cluster.ports[1]) as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.sendall(resp.command("SUBSCRIBE", "flood"))
        assert read_exactly(slow, len(b"*3\r\n$9\r\nsubscribe\r\n$5\r\nflood\r\n:1\r\n"))
        payload, admin, number = b"x" * 1_000_000, connect(cluster.ports[1]), 0
        while admin.info("dyn")["subscribers_cut"] == 0:
            assert number < 100, "the slow one is not cut"
            publisher.publish("flood", b"%d:" % number + payload)
            assert _next(good)[1].startswith(b"%d:" % number)
            number += 1
        wait_for(lambda: admin.pubsub_numsub("flood") == [(b"flood", 1)], "the good one is left")
    wait_for(lambda: "push_bytes_max=262144" in cluster.nodes[1].log, "the log says why")
    good.close()


def test_a_dead_node_takes_only_its_own_subscribers(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    clients = [connect(node.port) for node in cluster.nodes]
    subscribers = [_subscribed(client, "c") for client in clients]
    cluster.nodes[2].kill()
    assert clients[0].publish("c", "while it is dead") == 1
    assert [_next(each)[1] for each in subscribers[:2]] == [b"while it is dead"] * 2
    with pytest.raises(redis.ConnectionError):
        subscribers[2].get_message(timeout=TIMEOUT_S)
    cluster.nodes[2].start()
    cluster.wait_healthy()
    again = _subscribed(connect(cluster.nodes[2].port), "c")
    wait_for(lambda: clients[0].pubsub_numsub("c")[0][1] == 3, "the node is asked again")
    clients[0].publish("c", "back")
    assert _next(again)[1] == b"back" and _next(subscribers[1])[1] == b"back"
