"""Stock clients, unmodified: redis-py in its kinds. What they cannot have gets Redis' own error texts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import redis
import redis.asyncio
from redis.cluster import RedisCluster

from tests.wire.cluster import Client, WireCluster, wait_for

KEYS = 120
CONCURRENT = 80  # redis-py's pools allow 100 connections
UNSUPPORTED = (
    ("XACK", "stream", "group", "0-1"),
    ("PFSELFTEST",),
    ("BGSAVE",),
    ("NOSUCH", "a", "b"),
)


@pytest.fixture(params=[{}, {"protocol": 2}, {"protocol": 3}], ids=["defaults", "RESP2", "RESP3"])
def client(request: pytest.FixtureRequest, cluster: WireCluster) -> Iterator[Client]:
    """redis-py, with its own retries and timeouts."""
    with redis.Redis(port=cluster.ports[0], **request.param) as client:
        yield client
        for name in client.scan_iter(match=r"py:*"):
            client.delete(name)


def test_strings_and_keys(client: Client) -> None:
    assert client.ping() is True
    assert client.echo("hello") == b"hello"
    assert client.set("py:a", "1") is True
    assert client.get("py:a") == b"1"
    assert client.get("py:missing") is None
    assert client.set("py:a", "2", nx=True) is None
    assert client.set("py:a", "2", xx=True, get=True) == b"1"
    assert client.set("py:none", "2", xx=True) is None
    assert client.mset({"py:b": "3", "py:c": b"\x00\xff"}) is True
    assert client.mget("py:a", "py:b", "py:c", "py:missing") == [b"2", b"3", b"\x00\xff", None]
    assert client.strlen("py:c") == 2
    assert client.exists("py:a", "py:b", "py:missing") == 2
    assert client.type("py:a") == b"string"
    assert client.type("py:missing") == b"none"
    assert client.delete("py:a", "py:missing") == 1
    assert client.unlink("py:b", "py:c") == 2
    assert client.get("py:a") is None


def test_expiry(client: Client) -> None:
    assert client.set("py:ttl", "x", ex=1000)
    assert 990 < client.ttl("py:ttl") <= 1000
    assert 990_000 < client.pttl("py:ttl") <= 1_000_000
    assert client.persist("py:ttl") is True
    assert client.ttl("py:ttl") == -1
    assert client.ttl("py:missing") == -2
    assert client.expire("py:ttl", 500) is True
    assert client.set("py:ttl", "y", keepttl=True)
    assert 490 < client.ttl("py:ttl") <= 500
    assert client.set("py:soon", "x", px=50)
    wait_for(lambda: client.get("py:soon") is None, "it expires")
    assert client.exists("py:soon") == 0


def test_keyspace(client: Client) -> None:
    names = {f"py:scan:{number}".encode() for number in range(KEYS)}
    client.mset(dict.fromkeys(names, "x"))
    found = list(client.scan_iter(match=r"py:scan:*", count=10))
    assert sorted(found) == sorted(names), "each key once"
    assert sorted(client.keys("py:scan:*")) == sorted(names)
    assert set(client.scan_iter(match=r"py:scan:1*", _type="string")) == {
        n for n in names if n.startswith(b"py:scan:1")
    }
    assert client.dbsize() >= KEYS
    assert client.randomkey() is not None
    assert client.delete(*names) == KEYS
    assert client.keys("py:scan:*") == []


def test_pipelines(client: Client) -> None:
    with client.pipeline(transaction=False) as pipeline:
        for number in range(KEYS):
            pipeline.set(f"py:pipe:{number}", number).get(f"py:pipe:{number}").set(f"py:pipe:{number}", -number)
        replies = pipeline.execute()
    assert replies == [reply for number in range(KEYS) for reply in (True, b"%d" % number, True)]
    assert client.mget([f"py:pipe:{number}" for number in range(KEYS)]) == [b"%d" % -n for n in range(KEYS)]


def test_what_clients_ask_about_the_server(client: Client) -> None:
    assert client.client_id() > 0
    assert client.client_setname("tester") is True
    info = client.info()
    assert info["redis_version"].split(".")[0].isdigit()
    assert client.info("server")["redis_version"] == info["redis_version"]
    assert client.config_get("maxmemory*") is not None
    assert "get" in client.command() or b"GET" in client.command()
    assert client.command_count() > 50
    assert client.execute_command("COMMAND GETKEYS", "MSET", "a", "1", "b", "2") in ([b"a", b"b"], ["a", "b"])
    assert any(entry["name"] == "tester" for entry in client.client_list())
    assert client.select(0) is True
    assert client.select(1) is True
    assert client.select(0) is True
    with pytest.raises(redis.ResponseError, match="DB index is out of range"):
        client.select(16)


@pytest.mark.parametrize("command", UNSUPPORTED, ids=lambda words: words[0])
def test_what_there_is_not_gets_the_text_of_redis(client: Client, command: tuple[Any, ...]) -> None:
    name, *arguments = command
    with pytest.raises(redis.ResponseError) as refused:
        client.execute_command(*command)
    shown = "".join(f"'{argument}' " for argument in arguments)
    assert str(refused.value) == f"unknown command '{name}', with args beginning with: {shown}"


def test_a_pipeline_is_a_transaction_by_default(client: Client) -> None:
    assert client.pipeline().set("py:multi", "x").get("py:multi").execute() == [True, b"x"]


def test_flushall_wants_to_be_sure(client: Client) -> None:
    assert client.set("py:kept", "x")
    with pytest.raises(redis.ResponseError, match=r"FLUSHALL|flushall"):
        client.flushall()
    assert client.get("py:kept") == b"x"


@pytest.fixture(params=[{}, {"protocol": 2}, {"read_from_replicas": True}], ids=["defaults", "RESP2", "replicas"])
def rc(request: pytest.FixtureRequest, cluster: WireCluster) -> Iterator[RedisCluster]:
    """redis-py's cluster client, which sends each key to its coordinator."""
    with RedisCluster(host="127.0.0.1", port=cluster.ports[1], **request.param) as client:
        yield client


def test_redis_cluster(rc: Any, cluster: WireCluster) -> None:
    assert {node.port for node in rc.get_nodes()} == set(cluster.ports)
    names = [f"rc:{number}" for number in range(KEYS)]
    for name in names:
        assert rc.set(name, f"value of {name}") is True
        assert rc.get(name) == f"value of {name}".encode()
    assert rc.mget_nonatomic(names) == [f"value of {name}".encode() for name in names]
    assert rc.mset_nonatomic(dict.fromkeys(names, "again"))
    with rc.pipeline() as pipeline:
        for name in names:
            pipeline.get(name).set(name, "piped").get(name)
        assert pipeline.execute() == [b"again", True, b"piped"] * KEYS
    assert rc.mset({f"{{tag}}rc:{number}": number for number in range(5)}) is True
    assert rc.mget([f"{{tag}}rc:{number}" for number in range(5)]) == [b"0", b"1", b"2", b"3", b"4"]
    assert rc.keyslot("rc:1") == rc.cluster_keyslot("rc:1")
    assert rc.exists(*names) == KEYS
    assert rc.delete(*names) == KEYS
    assert rc.get(names[0]) is None


def test_redis_cluster_spreads_its_keys_over_all_nodes(rc: Any, cluster: WireCluster) -> None:
    before = [node.document("DYN.STATS")["counters"] for node in cluster.nodes]
    for number in range(KEYS):
        rc.set(f"rc:spread:{number}", "x")
    after = [node.document("DYN.STATS")["counters"] for node in cluster.nodes]
    grown = [now["writes"] - then["writes"] for then, now in zip(before, after, strict=True)]
    assert min(grown) > KEYS / 6, grown
    assert sum(now["relays"] - then["relays"] for then, now in zip(before, after, strict=True)) == 0, (
        "all went straight"
    )


def test_redis_cluster_scans_each_key_once(rc: Any) -> None:
    names = {f"rc:scan:{number}".encode() for number in range(KEYS)}
    for name in names:
        rc.set(name, "x")
    assert set(rc.scan_iter(match=r"rc:scan:*", count=50)) == names
    assert rc.delete(*names) == KEYS


def test_redis_asyncio(cluster: WireCluster) -> None:
    async def use() -> None:
        async with redis.asyncio.Redis(port=cluster.ports[2]) as client:
            names = [f"aio:{number}" for number in range(CONCURRENT)]
            assert all(await asyncio.gather(*(client.set(name, name) for name in names)))
            assert await asyncio.gather(*(client.get(name) for name in names)) == [name.encode() for name in names]
            assert await client.mget(names) == [name.encode() for name in names]
            assert {key async for key in client.scan_iter(match=r"aio:*")} == {name.encode() for name in names}
            assert await client.delete(*names) == CONCURRENT

    asyncio.run(use())


def test_redis_asyncio_cluster(cluster: WireCluster) -> None:
    async def use() -> None:
        async with redis.asyncio.RedisCluster(host="127.0.0.1", port=cluster.ports[0]) as client:
            names = [f"aioc:{number}" for number in range(CONCURRENT)]
            assert all(await asyncio.gather(*(client.set(name, name) for name in names)))
            assert await client.mget_nonatomic(names) == [name.encode() for name in names]
            assert await client.delete(*names) == CONCURRENT

    asyncio.run(use())
