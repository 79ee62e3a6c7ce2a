"""What redis_exporter and RedisInsight ask at connect; MONITOR, CLIENT PAUSE and key lookups beside those of Redis."""

from __future__ import annotations

import re
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from protocol import resp
from tests.core.commands.test_info import LOOKUPS
from tests.wire.cluster import WireCluster, connect, wait_for
from tests.wire.differential.servers import redis_server
from tests.wire.raw import raw

# github.com/oliver006/redis_exporter, exporter/*.go: what it asks at a scrape, options included.
EXPORTER = (
    "PING|CLIENT SETNAME redis_exporter|INFO ALL|CONFIG GET *|CLUSTER INFO|CLUSTER NODES|LATENCY LATEST|LATENCY HISTOGRAM|"
    "SLOWLOG LEN|SLOWLOG GET 1|CLIENT LIST|INFO MODULES|SELECT 0|TYPE tools:hash|MEMORY USAGE tools:hash|GET tools:str|"
    "PFCOUNT tools:none|STRLEN tools:str|LLEN tools:none|SCARD tools:none|ZCARD tools:none|HLEN tools:hash|XLEN tools:none|"
    "SCAN 0 MATCH tools:* COUNT 1000|XINFO STREAM tools:stream|CONFIG GET maxmemory|COMMAND INFO COMMANDLOG"
)
# github.com/redis/RedisInsight, redisinsight/api/src/modules: at connect, its browser, its profiler and its analysis.
INSIGHT = (
    "HELLO|INFO|INFO SERVER|MODULE LIST|COMMAND INFO ft.search json.get|CONFIG GET databases|CLIENT LIST|DBSIZE|"
    "ACL CAT dangerous|ACL WHOAMI|CLUSTER INFO|CLUSTER NODES|CLUSTER SLOTS|COMMAND|COMMAND DOCS get|ROLE|"
    "SCAN 0 MATCH tools:* COUNT 500|SCAN 0 TYPE hash|TYPE tools:str|TTL tools:str|MEMORY USAGE tools:hash SAMPLES 0|"
    "OBJECT ENCODING tools:str|HSCAN tools:hash 0|SLOWLOG GET 50|SLOWLOG LEN|CONFIG GET slowlog*|PUBSUB CHANNELS|"
    "MEMORY STATS|MEMORY DOCTOR|LATENCY DOCTOR|XINFO STREAM tools:stream|FUNCTION LIST|PUBSUB SHARDCHANNELS"
)
NOT_THERE = {"XINFO STREAM tools:stream"}  # the tools show nothing for it


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("asked", [EXPORTER, INSIGHT], ids=["redis_exporter", "RedisInsight"])
def test_what_tools_ask_is_answered(cluster: WireCluster, asked: str, protocol: int) -> None:
    with connect(cluster.ports[1], protocol=protocol) as client:
        client.set("tools:str", "v")
        client.hset("tools:hash", "f", "v")
        client.xadd("tools:stream", {"f": "v"})
        refused, callbacks = {}, dict(client.response_callbacks)
        client.response_callbacks.clear()  # the tools read replies in their own ways
        for line in asked.split("|"):
            try:
                client.execute_command(*line.split())
            except redis.ResponseError as error:
                refused[line] = str(error)
        assert set(refused) <= NOT_THERE, refused
        client.response_callbacks.update(callbacks)
        info = client.info("all")
    assert {"keyspace_hits", "keyspace_misses", "evicted_keys", "expired_keys", "total_error_replies", "db0", "maxclients",
            "used_memory_peak", "mem_fragmentation_ratio", "dyn_version", "instantaneous_ops_per_sec",
            "number_of_cached_scripts", "connected_clients", "maxmemory_policy"} <= set(info)  # fmt: skip
    assert info["used_memory_peak"] >= info["used_memory"] and info["db0"]["keys"] >= 3


@pytest.fixture
def control(tmp_path: Path) -> Iterator[int]:
    """The port of a redis-server."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with redis_server(tmp_path / "control") as port:
        yield port


def test_redis_counts_the_same_lookups(control: int) -> None:
    with connect(control) as client:
        client.set("str", "v")
        client.hset("hash", "f", "v")
        client.set("dead", "v", px=1)
        wait_for(lambda: client.exists("dead") == 0, "it has expired")
        for line, hits, misses in LOOKUPS:
            client.config_resetstat()
            client.execute_command(*line.split())
            stats = client.info("stats")
            assert (stats["keyspace_hits"], stats["keyspace_misses"]) == (hits, misses), line


SESSION = (
    ["SET", "mon:a", 'x\n\r\t\x07"\\y\xff'], ["get", "mon:a"], ["NOSUCH", "x"], ["GET"], ["MULTI"], ["SET", "mon:b", "1"],
    ["GET", "mon:b"], ["EXEC"], ["MULTI"], ["DISCARD"], ["CONFIG", "GET", "port"], ["CLIENT", "SETNAME", "joe"],
    ["CLIENT", "LIST"], ["AUTH", "default", "secret"], ["HELLO", "2", "AUTH", "default", "secret"], ["HELLO", "2"],
    ["EVAL", "return 1", "0"], ["ACL", "WHOAMI"], ["ACL", "SETUSER", "mon", ">secret"], ["INFO"], ["PING"],
    ["DEL", "mon:a", "mon:b"], ["SUBSCRIBE", "mon:c"],
)  # fmt: skip


@contextmanager
def monitoring(port: int) -> Iterator[socket.socket]:
    with raw(port) as connection:
        connection.sendall(b"MONITOR\r\n")
        assert connection.recv(5) == b"+OK\r\n"
        yield connection


def shown(port: int) -> list[str]:
    """What MONITOR shows of the session, without times and addresses."""
    with monitoring(port) as watcher, raw(port) as client:
        said = b""
        for words in SESSION:
            client.sendall(resp.command(*[word.encode("latin-1") for word in words]))
        while b'"SUBSCRIBE" "mon:c"\r\n' not in said:
            piece = watcher.recv(1 << 16)
            assert piece
            said += piece
    lines = said.decode("ascii").splitlines()
    assert all(re.match(r"\+\d{10}\.\d{6} \[0 127\.0\.0\.1:\d+\] \"", line) for line in lines)
    return [line.partition("] ")[2] for line in lines]


def test_monitor_shows_what_redis_shows(cluster: WireCluster, control: int) -> None:
    assert shown(cluster.ports[0]) == shown(control)


def test_who_monitors_and_does_not_read_is_cut_and_others_go_on(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(config="push_bytes_max = 262144\n")
    node = cluster.nodes[0]
    with monitoring(node.port) as slow, monitoring(node.port) as good, node.client() as client:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        value, number = "x" * 60_000, 0
        while client.info("dyn")["subscribers_cut"] == 0:
            assert number < 2000, "the slow one is not cut"
            client.set(f"mon:{number}", value)
            said = b""
            while b'"mon:%d"' % number not in said:
                said = said[-100:] + good.recv(1 << 20)
            number += 1
    wait_for(lambda: "push_bytes_max=262144" in node.log, "the log says why")


def test_a_paused_node_still_replicates_and_others_write_its_keys(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    one, two = (node.client() for node in cluster.nodes[:2])
    with raw(cluster.ports[0]) as held:
        assert one.execute_command("CLIENT", "PAUSE", 600_000, "ALL")
        held.sendall(resp.command("SET", "held", "1"))
        for number in range(100):
            assert two.set(f"pause:{number}", number)
        assert two.exists(*[f"pause:{number}" for number in range(100)]) == 100
        assert cluster.nodes[1].is_healthy(), "gossip goes on"
        assert two.get("held") is None
        assert one.execute_command("CLIENT", "UNPAUSE")
        assert held.recv(5) == b"+OK\r\n"
    assert two.get("held") == b"1"


def _from(host: str, port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), 20.0, (host, 0))


def test_half_sent_requests_of_one_host_do_not_fail_large_values_of_others(
    make_cluster: Callable[..., WireCluster],
) -> None:
    """200 connections of 127.0.0.2 have sent a part of a large value and send no more."""
    cluster = make_cluster()
    port, value = cluster.ports[0], b"x" * (8 << 20)
    begin = b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$16000000\r\n" + b"x" * 300_000
    with ExitStack() as stack:
        half = [stack.enter_context(_from("127.0.0.2", port)) for _ in range(200)]
        for connection in half:
            connection.setblocking(False)
            connection.send(begin)
        client: Any = connect(port, timeout_s=10.0)
        wait_for(lambda: sum(int(row["qbuf"]) > 16_000 for row in client.client_list()) >= 100, "they have sent")
        for number in range(5):
            assert client.set(f"large:{number}", value)
        assert client.strlen("large:4") == len(value)
        client.close()
