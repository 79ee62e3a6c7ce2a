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
# RedisInsight's browser, redisinsight/api/src/modules/browser/constants/browser-tool-commands.ts, without modules.
BROWSER = (
    "SCAN 0 COUNT 500|TTL tools:str|TYPE tools:str|EXISTS tools:str|EXPIRE tools:str 100|PERSIST tools:str|DBSIZE|"
    "RENAME tools:str tools:to|RENAMENX tools:to tools:str|MEMORY USAGE tools:str|SET tools:str v|GET tools:str|"
    "STRLEN tools:str|HSET tools:hash g v|HGET tools:hash g|HLEN tools:hash|HSCAN tools:hash 0 COUNT 500|HDEL tools:hash g|"
    "RPUSH tools:list a b|LPUSH tools:list c|LLEN tools:list|LRANGE tools:list 0 9|LSET tools:list 0 d|LINDEX tools:list 0|"
    "RPUSHX tools:list e|LPUSHX tools:list f|LPOP tools:list|RPOP tools:list|SADD tools:set a|SCARD tools:set|"
    "SSCAN tools:set 0 MATCH * COUNT 500|SISMEMBER tools:set a|SREM tools:set a|ZADD tools:zset 1 m|ZCARD tools:zset|"
    "ZSCAN tools:zset 0 MATCH * COUNT 500|ZRANGE tools:zset 0 9 WITHSCORES|ZREVRANGE tools:zset 0 9 WITHSCORES|"
    "ZSCORE tools:zset m|ZREM tools:zset m|XLEN tools:stream|XRANGE tools:stream - + COUNT 5|XREVRANGE tools:stream + -|"
    "XINFO STREAM tools:stream|DEL tools:list"
)
NOT_THERE = {"XINFO STREAM tools:stream"}  # the tools show nothing for it


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("asked", [EXPORTER, INSIGHT, BROWSER], ids=["redis_exporter", "RedisInsight", "its browser"])
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


# The fields that RedisInsight's overview and redis_exporter read by section; a client library puts all sections together.
SECTIONS = {
    "server": "redis_version redis_mode os process_id uptime_in_seconds",
    "clients": "connected_clients blocked_clients maxclients",
    "memory": "used_memory used_memory_rss used_memory_peak maxmemory mem_fragmentation_ratio number_of_cached_scripts",
    "stats": "instantaneous_ops_per_sec instantaneous_input_kbps instantaneous_output_kbps keyspace_hits keyspace_misses "
             "total_connections_received total_commands_processed rejected_connections expired_keys evicted_keys "
             "total_net_input_bytes total_net_output_bytes total_error_replies",
    "replication": "role connected_slaves master_repl_offset",
    "cpu": "used_cpu_sys used_cpu_user",
    "keyspace": "db0",
}  # fmt: skip


def test_each_field_is_in_the_section_where_tools_look_for_it(cluster: WireCluster) -> None:
    with connect(cluster.ports[0]) as client:
        client.set("tools:str", "v")
        client.response_callbacks.clear()
        for section, names in SECTIONS.items():
            for asked in (section, "all"):
                text = client.execute_command("INFO", asked).decode()
                part = re.search(
                    rf"^# {section}\r\n(.*?)(?:\r\n\r\n|\Z)", text, re.DOTALL | re.IGNORECASE | re.MULTILINE
                )
                assert part is not None, section
                found = {line.partition(":")[0] for line in part[1].splitlines()}
                assert not set(names.split()) - found, section


def test_the_groups_of_keys_that_an_exporter_computes_by_a_script(cluster: WireCluster) -> None:
    """redis_exporter's option --check-key-groups: SCAN and MEMORY USAGE in a script that is called by its hash."""
    script = (
        "local page, sum = redis.call('SCAN', ARGV[1], 'COUNT', ARGV[2]), 0 "
        "for _, key in ipairs(page[2]) do if string.find(key, ARGV[3]) then "
        "sum = sum + redis.pcall('MEMORY', 'USAGE', key) end end return {page[1], sum}"
    )
    with connect(cluster.ports[2]) as client:
        client.set("tools:group:a", "v" * 100)
        client.set("tools:group:b", "v" * 100)
        sha, cursor, total = client.script_load(script), b"0", 0
        while True:
            cursor, size = client.evalsha(sha, 0, cursor, 50, "^tools:group:")
            total += size
            if cursor == b"0":
                break
        assert total == sum([client.memory_usage(f"tools:group:{name}") for name in "ab"]) > 200


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


def test_latency_has_a_sample_of_each_event_once_it_takes_long(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1, fsync="always", config="latency_monitor_threshold_ms = 1\n")
    client: Any = cluster.nodes[0].client()

    def events() -> dict[str, int]:
        assert client.set("large", "x" * (8 << 20)), "it takes more than a millisecond to store, to sync and to read"
        return {row[0].decode(): row[3] for row in client.execute_command("LATENCY", "LATEST")}

    wait_for(lambda: set(events()) == {"command", "commit", "sync", "event-loop"}, "each event has a sample")
    worst_ms = events()
    assert worst_ms["command"] >= worst_ms["commit"] >= 1 and worst_ms["sync"] >= 1
    for name in worst_ms:
        assert client.execute_command("LATENCY", "HISTORY", name), name
    assert client.execute_command("LATENCY", "RESET") == 4
    client.close()
