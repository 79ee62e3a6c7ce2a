"""Transactions of stock clients over real nodes: redis-py's pipelines, WATCH under contention, and a killed coordinator."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import redis
from redis.cluster import RedisCluster

from tests.wire.cluster import WireCluster

CLIENTS, INCREMENTS = 6, 15


@pytest.fixture
def client(cluster: WireCluster) -> Iterator[redis.Redis]:
    with redis.Redis(port=cluster.ports[1], socket_timeout=20) as client:
        yield client


@pytest.mark.parametrize("tag", ["{tx}", ""])
def test_the_default_pipeline_of_redis_py(client: redis.Redis, tag: str) -> None:
    keys = [f"tx:{tag}{number}" for number in range(300)]
    with client.pipeline() as pipeline:
        for number, key in enumerate(keys):
            pipeline.set(key, number).incr(key).get(key)
        replies = pipeline.execute()
    assert replies == [reply for number in range(300) for reply in (True, number + 1, b"%d" % (number + 1))]
    assert client.mget(keys) == [b"%d" % (number + 1) for number in range(300)]


def test_an_error_of_one_command_does_not_stop_the_others(client: redis.Redis) -> None:
    with client.pipeline() as pipeline:
        replies = pipeline.set("{tx}e", "x").incr("{tx}e").append("{tx}e", "y").execute(raise_on_error=False)
    assert (replies[0], replies[2]) == (True, 2)
    assert isinstance(replies[1], redis.ResponseError)
    with pytest.raises(redis.ResponseError), client.pipeline() as pipeline:
        pipeline.set("{tx}e", "z").execute_command("NOSUCH").execute()
    assert client.get("{tx}e") == b"xy", "it was refused whole"


def test_watch_error_of_redis_py(client: redis.Redis, cluster: WireCluster) -> None:
    with client.pipeline() as pipeline:
        pipeline.watch("{tx}w")
        redis.Redis(port=cluster.ports[2]).set("{tx}w", "other")
        pipeline.multi()
        pipeline.set("{tx}w", "mine")
        with pytest.raises(redis.WatchError):
            pipeline.execute()
    assert client.get("{tx}w") == b"other"


@pytest.mark.parametrize("other", ["{tx}c:log", "elsewhere"])
def test_optimistic_increments_of_many_clients_lose_none(cluster: WireCluster, other: str) -> None:
    """With the transaction() helper, through all nodes; also if the transaction writes a key of another slot."""
    key = f"{{tx}}c:{other}"
    retries = [0] * CLIENTS

    def work(number: int) -> None:
        client = redis.Redis(port=cluster.ports[number % len(cluster.ports)], socket_timeout=20)

        def increment(pipeline: redis.client.Pipeline) -> None:
            retries[number] += 1
            value = int(pipeline.get(key) or 0)
            pipeline.multi()
            pipeline.set(key, value + 1)
            if other.startswith("{tx}"):
                pipeline.rpush(other, value + 1)

        for _ in range(INCREMENTS):
            client.transaction(increment, key)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    client = redis.Redis(port=cluster.ports[0])
    assert int(client.get(key)) == CLIENTS * INCREMENTS
    if other.startswith("{tx}"):
        assert client.lrange(other, 0, -1) == [b"%d" % (number + 1) for number in range(CLIENTS * INCREMENTS)]
    assert sum(retries) > CLIENTS * INCREMENTS, "they met"


def test_readers_never_see_a_part_of_a_transaction(cluster: WireCluster) -> None:
    """Writers set two keys of a slot to the same number; readers read both in a transaction, through another node."""
    end = threading.Event()
    seen: list[list[bytes | None]] = []

    def write(number: int) -> None:
        client = redis.Redis(port=cluster.ports[number], socket_timeout=20)
        for count in range(150):
            client.pipeline().set("{pair}a", f"{number}:{count}").set("{pair}b", f"{number}:{count}").execute()
        end.set()

    writers = [threading.Thread(target=write, args=(number,)) for number in range(2)]
    for writer in writers:
        writer.start()
    reader = redis.Redis(port=cluster.ports[2], socket_timeout=20)
    while not end.is_set():
        seen.append(reader.pipeline().get("{pair}a").get("{pair}b").execute())
    for writer in writers:
        writer.join()
    assert len({tuple(pair) for pair in seen}) > 2
    assert [pair for pair in seen if pair[0] != pair[1]] == []


def test_the_cluster_client_of_redis_py(cluster: WireCluster) -> None:
    with RedisCluster(host="127.0.0.1", port=cluster.ports[0]) as client:
        assert client.pipeline().set("{tc}a", 1).set("b", 2).get("{tc}a").execute() == [True, True, b"1"]


def test_a_killed_coordinator_leaves_whole_transactions_only(make_cluster: Callable[..., WireCluster]) -> None:
    """Each transaction writes the same number to three keys. The coordinator of their slot is killed amid them: what was
    answered is there, and the keys agree afterwards."""
    cluster = make_cluster()
    client = redis.Redis(port=cluster.ports[0])
    slot = client.execute_command("CLUSTER KEYSLOT", "{kill}a")
    ranges = client.execute_command("CLUSTER SLOTS")
    port = next(node[1] for first, last, node, *_ in ranges if first <= slot <= last)
    victim = cluster.ports.index(port)
    survivor = redis.Redis(port=cluster.ports[(victim + 1) % 3], socket_timeout=20)
    acknowledged = 0
    for number in range(1, 400):
        if number == 100:
            cluster.nodes[victim].kill()
        try:
            pipeline = survivor.pipeline()
            replies = pipeline.set("{kill}a", number).set("{kill}b", number).set("{kill}c", number).execute()
        except redis.RedisError:
            continue  # its outcome is unknown, or it was refused
        assert replies == [True] * 3
        acknowledged = number
    assert acknowledged == 399, "the next owner has taken over"
    assert survivor.mget("{kill}a", "{kill}b", "{kill}c") == [b"399"] * 3
