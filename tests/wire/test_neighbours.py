"""One client stops nobody: each of these does what a stock client may do, as much of it as it can, beside a client that
only wants its few answers, from the same node and from the next (issue 10).

CI asserts that no request of the other client fails, that no node is suspected, and that memory stays within its bounds;
`-m soak` asserts the latencies, too, for they say something of a quiet machine only.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
import redis

from protocol import resp
from tests.wire.cluster import Client, WireCluster, WireNode
from tests.wire.raw import raw, read_exactly

MIB = 1 << 20


class Bounds(NamedTuple):
    """What the other client may notice."""

    p99_ms: float
    worst_ms: float


TIGHT = f"client_buffers_bytes_max = {16 * MIB}\nrequest_bytes_max = {8 * MIB}\nvalue_bytes_max = {2 * MIB}\n"
QUIET = Bounds(50, 500)


@pytest.fixture(scope="module")
def beset(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WireCluster]:
    """Three nodes for this module."""
    cluster = WireCluster(tmp_path_factory.mktemp("beset"))
    try:
        cluster.form()
        yield cluster
        cluster.assert_logs_clean()
    finally:
        cluster.dispose()


def _execute(client: Client, commands: list[tuple[Any, ...]]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    replies = pipeline.execute(raise_on_error=False)
    assert not [reply for reply in replies if isinstance(reply, Exception)][:3]
    return list(replies)


def _alternating(node: WireNode) -> None:
    commands = [word for i in range(4000) for word in (("SET", f"b{i}", i), ("GET", f"a{i}"))]
    _execute(node.client(timeout_s=60), commands)


def _one_key(node: WireNode) -> None:
    commands = [word for i in range(4000) for word in (("SET", "one", i), ("GET", "one"))]
    replies = _execute(node.client(timeout_s=60), commands)
    assert replies[1::2] == [b"%d" % i for i in range(4000)]


def _few_keys(node: WireNode) -> None:
    _execute(node.client(timeout_s=60), [("SET", f"few{i % 3000}", i) for i in range(30_000)])


def _locks(node: WireNode) -> None:
    client = node.client(timeout_s=60)
    replies = _execute(client, [("SET", f"lock{i % 5000}", i, "NX") for i in range(10_000)])
    assert sum(bool(reply) for reply in replies) == 5000
    client.execute_command("DEL", *[f"lock{i}" for i in range(5000)])


def _written_before_read(node: WireNode) -> None:
    """600 × (SET of 100 kB; GET of it): all of it is sent before anything is read."""
    value, replies = b"v" * 100_000, b""
    with raw(node.port, 60) as connection:
        for number in range(600):
            key = b"deep%d" % (number % 50)
            connection.sendall(resp.command("SET", key, value) + resp.command("GET", key))
            replies = resp.OK + resp.bulk(value)
        for _ in range(600):
            assert read_exactly(connection, len(replies)) == replies


def _one_large_value_many_times(node: WireNode) -> None:
    client = node.client(timeout_s=60)
    client.set("large", b"x" * MIB)
    command = resp.command("MGET", *["large"] * 2000)
    with raw(node.port, 60) as connection:
        connection.sendall(command)
        assert node.resident_mib() < 1000  # 2 GiB of replies, in which one value stands 2,000 times
        assert read_exactly(connection, 7) == b"*2000\r\n"


def _unread_large_values(node: WireNode) -> None:
    client = node.client(timeout_s=60)
    for number in range(16):
        client.set(f"unread{number}", b"x" * (4 * MIB))
    with raw(node.port, 60) as connection:
        connection.sendall(b"".join(resp.command("GET", f"unread{number % 16}") for number in range(256)))
        for _ in range(256):
            assert len(read_exactly(connection, 4 * MIB + 12)) == 4 * MIB + 12


def _sixteen_writers_of_large_values(node: WireNode) -> None:
    """64 SETs of 10 MB by 16 clients at once."""
    value = b"x" * 10_000_000

    def write(client: Client, number: int) -> None:
        for count in range(4):
            assert client.set(f"huge{number}:{count}", value)

    clients = [node.client(timeout_s=120) for _ in range(16)]
    with ThreadPoolExecutor(16) as threads:
        for done in [threads.submit(write, client, number) for number, client in enumerate(clients)]:
            done.result()
    clients[0].delete(*[f"huge{number}:{count}" for number in range(16) for count in range(4)])


MEMBERS = [b"member:%07d" % number for number in range(30_000)]


def _large_collections(node: WireNode) -> None:
    """Commands with 30,000 arguments, and replies of as many elements."""
    client = node.client(timeout_s=120)
    assert client.sadd("large:set", *MEMBERS) == len(MEMBERS)
    assert client.zadd("large:zset", {member: place * 7919 % 1000 for place, member in enumerate(MEMBERS)})
    for _ in range(3):
        assert client.scard("large:set") == len(client.smembers("large:set")) == len(MEMBERS)
        assert len(client.zrange("large:zset", 0, -1, withscores=True)) == len(MEMBERS)
    assert client.sunionstore("large:union", ["large:set", "large:zset:none"]) == len(MEMBERS)
    assert client.srem("large:set", *MEMBERS[::2]) == len(MEMBERS) // 2
    for _ in range(20):
        assert client.zpopmin("large:zset")
    client.delete("large:set", "large:zset", "large:union")


HOSTILE: dict[str, Callable[[WireNode], None]] = {
    "SET and GET in turn": _alternating,
    "SET and GET of one key": _one_key,
    "few keys again and again": _few_keys,
    "SET NX": _locks,
    "a pipeline written before anything is read": _written_before_read,
    "one large value many times": _one_large_value_many_times,
    "large values that nobody fetches": _unread_large_values,
    "large collections": _large_collections,
}


HEAVY: dict[str, Callable[[WireNode], None]] = {"sixteen writers of large values": _sixteen_writers_of_large_values}


def _check(cluster: WireCluster, name: str, bounds: Bounds | None, growth_mib: float = 700) -> dict[str, Any]:
    node, other = cluster.nodes[0], cluster.nodes[1]
    before = [member.resident_mib() for member in cluster.nodes]
    words = [sys.executable, "-m", "tests.wire.probe", str(node.port), str(other.port)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as probe:
        assert probe.stdout is not None and probe.stdout.readline() == b"ready\n"
        try:
            (HOSTILE | HEAVY)[name](node)
        finally:
            said, _ = probe.communicate()
    report: dict[str, Any] = json.loads(said)
    grown = [member.resident_mib() - size for member, size in zip(cluster.nodes, before, strict=True)]
    report["grown_mib"] = [round(size) for size in grown]
    assert not report["errors"] and not report["suspected"], report
    if bounds is not None:
        assert report["p99_ms"] < bounds.p99_ms and report["worst_ms"] < bounds.worst_ms, report
    assert max(grown) < growth_mib, report
    return report


@pytest.mark.parametrize("name", HOSTILE)
def test_one_client_stops_nobody(beset: WireCluster, name: str) -> None:
    print(name, _check(beset, name, None))


@pytest.mark.soak
@pytest.mark.parametrize("name", HOSTILE)
def test_one_client_stops_nobody_on_a_quiet_machine(beset: WireCluster, name: str) -> None:
    print(name, _check(beset, name, QUIET))


@pytest.mark.soak
@pytest.mark.parametrize("name", HEAVY)
def test_large_values_stop_nobody(beset: WireCluster, name: str) -> None:
    """Values are staged (server/storage/chunked.py), so no turn takes more than some 13 ms of CPU for one of 10 MB."""
    print(name, _check(beset, name, QUIET, growth_mib=2000))


def test_the_loop_lag_is_a_statistic(beset: WireCluster) -> None:
    stats = beset.nodes[0].client().info("stats")
    assert 0 <= stats["loop_lag_ms"] <= stats["loop_lag_ms_max"]


def test_the_greediest_client_is_cut_when_all_hold_too_much(make_cluster: Callable[..., WireCluster]) -> None:
    """A client that writes without end and never reads is cut; one that holds little is served before and after."""
    cluster = make_cluster(nodes=1, config=TIGHT)
    node = cluster.nodes[0]
    modest = node.client()
    modest.set("value", b"v" * 100_000)
    with raw(node.port, 30) as greedy, pytest.raises(OSError):
        while True:
            greedy.sendall(resp.command("GET", "value") * 1000 + resp.command("SET", "other", b"v" * MIB))
    assert modest.get("value") == b"v" * 100_000
    assert "is cut: " in node.log
    assert node.resident_mib() < 400


def test_a_client_that_reads_late_gets_all(make_cluster: Callable[..., WireCluster]) -> None:
    """Replies worth many times the output limit, unread until the last request is sent."""
    cluster = make_cluster(nodes=1, config=f"client_output_bytes_max = {64 << 10}\nclient_input_bytes_max = 4096\n")
    node = cluster.nodes[0]
    assert isinstance(node.client(), redis.Redis)
    value = b"v" * 10_000
    node.client().set("value", value)
    with raw(node.port, 60) as connection:
        for number in range(2000):
            connection.sendall(resp.command("SET", b"k%d" % number, value) + resp.command("GET", "value"))
        for _ in range(2000):
            assert read_exactly(connection, 5 + 10_000 + 10) == resp.OK + resp.bulk(value)
