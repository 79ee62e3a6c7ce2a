"""Client-side caching with stock redis-py: a write through any node invalidates what any client has cached."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from redis.cache import CacheConfig

from tests.wire.cluster import Client, WireCluster, connect, wait_for


def _caching(port: int) -> Client:
    return connect(port, protocol=3, cache_config=CacheConfig())


def _cached(client: Client) -> list[Any]:
    """The keys that a client has in its cache."""
    return [key.redis_keys for key in client.get_cache().collection]


def test_a_write_through_any_node_invalidates_at_the_node_that_tracks(cluster: WireCluster) -> None:
    readers = [_caching(port) for port in cluster.ports]
    writers = [connect(port) for port in cluster.ports]
    for round_ in range(5):
        for number, writer in enumerate(writers):
            key, value = f"cached:{number}", f"{round_}".encode()
            writer.set(key, value)
            for reader in readers:
                wait_for(lambda reader=reader, key=key, value=value: reader.get(key) == value, "the new value is read")
    for reader in readers:  # a link between nodes that is made anew empties all caches

        def has_all(reader: Client = reader) -> bool:
            return all(reader.get(f"cached:{number}") == b"4" for number in range(3)) and reader.get_cache().size >= 3

        wait_for(has_all, "it is cached")
    info = [writer.info() for writer in writers]
    assert all(each["tracking_clients"] >= 1 and each["tracking_total_keys"] >= 3 for each in info)


def test_what_is_cached_is_read_without_asking(cluster: WireCluster) -> None:
    reader, writer = _caching(cluster.ports[0]), connect(cluster.ports[1])
    writer.set("cached:quiet", "1")
    wait_for(lambda: reader.get("cached:quiet") == b"1" and reader.get_cache().size == 1, "it is cached")
    before = writer.info()["total_commands_processed"], connect(cluster.ports[0]).info()["reads"]
    assert [reader.get("cached:quiet") for _ in range(100)] == [b"1"] * 100
    assert connect(cluster.ports[0]).info()["reads"] < before[1] + 100


def test_hashes_and_many_keys(cluster: WireCluster) -> None:
    reader, writer = _caching(cluster.ports[2]), connect(cluster.ports[0])
    writer.hset("cached:hash", "f", "1")
    writer.mset({f"cached:m{number}": "old" for number in range(50)})
    keys = [f"cached:m{number}" for number in range(50)]
    wait_for(lambda: reader.mget(keys) == [b"old"] * 50 and reader.hget("cached:hash", "f") == b"1", "all are read")
    writer.hset("cached:hash", "f", "2")
    writer.set("cached:m7", "new")
    wait_for(lambda: reader.mget(keys)[7] == b"new" and reader.hget("cached:hash", "f") == b"2", "both are read anew")


def test_a_lost_link_drops_all_that_is_cached(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    reader, writer = _caching(cluster.ports[0]), connect(cluster.ports[1])
    writer.set("k", "1")
    wait_for(lambda: reader.get("k") == b"1" and reader.get_cache().size == 1, "it is cached")
    cluster.nodes[2].kill()
    listener = connect(cluster.ports[0], protocol=3)
    assert listener.info()["tracking_clients"] == 1
    wait_for(lambda: listener.info()["tracking_total_keys"] == 0, "what was tracked is forgotten")
    writer.set("k", "2")
    wait_for(lambda: reader.get("k") == b"2", "the new value is read")
