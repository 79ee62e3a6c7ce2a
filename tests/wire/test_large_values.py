"""Large values beside small ones: no link is cut, no node suspected, nobody else's request fails, memory stays bounded; and
who goes over a limit can read why."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import redis
from rocksdict import Rdict

from protocol import resp
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.raw import exchange, raw, read_exactly

MIB = 1 << 20
SMALL_LIMITS = f"""
value_bytes_max = {3 * MIB}
record_bytes_max = {4 * MIB}
request_bytes_max = {4 * MIB}
client_buffers_bytes_max = {32 * MIB}
frame_bytes_max = {16 * MIB}
peer_backlog_bytes_max = {8 * MIB}
peer_buffer_bytes_max = {16 * MIB}
values_in_flight_bytes_max = {6 * MIB}
record_cache_bytes = {8 * MIB}
"""  # about a sixteenth of the defaults: 2 MiB a node in flight
CLIENTS, VALUES, VALUE_BYTES = 64, 1, 3 * MIB
GROWTH_MIB = 250  # caches and memtables, which grow with any writes, and what is in flight
WORST_S = 2.5  # of a probe; below the 3 s at which a request fails. On an idle machine it is a twentieth


class Probe:
    """A client of small requests, each of which has to succeed."""

    def __init__(self, node: WireNode) -> None:
        self.latencies_s: list[float] = []
        self._node = node
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.error = ""

    def __enter__(self) -> Probe:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            with self._node.client() as client:
                while not self._over.wait(0.005):
                    key, value = f"probe:{self._node.name}:{len(self.latencies_s) % 50}", str(len(self.latencies_s))
                    begun_s = time.monotonic()
                    client.set(key, value)
                    assert client.get(key) == value.encode()
                    self.latencies_s.append(time.monotonic() - begun_s)
        except (redis.RedisError, AssertionError) as error:
            self.error = repr(error)


def _assert_undisturbed(cluster: WireCluster) -> None:
    for node in cluster.nodes:
        assert set(node.states().values()) == {"up"}
        for word in ("cutting the link", "suspect", "down", "damaged"):
            assert word not in node.log, node.log[-2000:]


@pytest.mark.serial
def test_many_large_values_at_once_disturb_nobody(make_cluster: Callable[..., WireCluster]) -> None:
    """64 clients of one node write and read a value of 3 MiB each: together many times what may be in flight."""
    cluster = make_cluster(config=SMALL_LIMITS)
    first, second, _ = cluster.nodes
    value = os.urandom(VALUE_BYTES)
    before_mib = first.peak_mib()

    def work(number: int) -> None:
        with first.client(timeout_s=60) as client:
            for place in range(VALUES):
                assert client.set(f"large:{number}:{place}", value)
            assert client.get(f"large:{number}:0") == value

    with Probe(first) as here, Probe(second) as there, ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(work, range(CLIENTS)))
    assert here.error == there.error == ""
    assert first.peak_mib() - before_mib < GROWTH_MIB
    assert max(here.latencies_s + there.latencies_s) < WORST_S
    _assert_undisturbed(cluster)


@pytest.mark.serial
def test_a_key_takes_as_many_large_siblings_as_a_record_holds(make_cluster: Callable[..., WireCluster]) -> None:
    """With the limits as they are: what no link could carry is refused, and a plain SET resolves the key."""
    cluster = make_cluster(config="request_timeout_ms = 15000\n")  # 24 MiB on three disks, on a busy machine
    value = os.urandom(8 * MIB)
    names = (
        f"big:{number}" for number in range(1000)
    )  # not relayed, or a pause of the machine would make another attempt
    key = next(name for name in names if cluster.nodes[0].document("DYN.RING", "LOCATE", name)["owners"][0] == "n1")
    with Probe(cluster.nodes[1]) as probe, cluster.nodes[0].client(timeout_s=60) as client:
        for _ in range(3):
            client.execute_command("DYN.SET", key, value)
        for _ in range(3):
            with pytest.raises(redis.ResponseError, match=r"TOOMANYSIBLINGS .* record_bytes_max is 33554432"):
                client.execute_command("DYN.SET", key, value)
        for node in cluster.nodes:
            with node.client(timeout_s=60) as other:
                assert other.execute_command("DYN.GET", key)[1] == [value] * 3
        assert client.set(key, "small")
        assert client.execute_command("DYN.GET", key)[1] == [b"small"]
    assert probe.error == ""
    _assert_undisturbed(cluster)


def test_a_frozen_node_stops_large_writes_no_longer_than_it_takes_to_notice(
    make_cluster: Callable[..., WireCluster],
) -> None:
    cluster = make_cluster(config=SMALL_LIMITS)
    first, _, sleeper = cluster.nodes
    value = os.urandom(MIB)
    with first.client(timeout_s=30) as client:
        client.set("frozen:before", value)
        with sleeper.frozen():
            for number in range(60):  # 60 MiB: more than the buffers of a socket, and than may be in flight
                assert client.set(f"frozen:{number}", value)
        cluster.wait_healthy()
        wait_for(
            lambda: not any(node.document("DYN.HINTS", "LIST")["total"] for node in cluster.nodes),
            "hints are delivered",
        )
    with sleeper.client(timeout_s=30) as client:
        for number in range(60):
            assert client.execute_command("DYN.GET", f"frozen:{number}", "R", 1)[1] == [value]


def test_clients_that_begin_large_requests_and_go_no_further_hold_nobody_up(
    make_cluster: Callable[..., WireCluster],
) -> None:
    cluster = make_cluster(config=SMALL_LIMITS)
    node = cluster.nodes[0]
    value = os.urandom(MIB)
    stuck = [socket.create_connection(("127.0.0.1", node.port), 20) for _ in range(6)]
    try:
        for connection in stuck:
            connection.sendall(b"*3\r\n$3\r\nSET\r\n$5\r\nstuck\r\n$%d\r\n" % (3 * MIB) + value)
        with node.client(timeout_s=30) as client:
            for number in range(3):
                assert client.set(f"meanwhile:{number}", value)
        for connection in stuck[:2]:
            for _ in range(2):
                connection.sendall(value)
            connection.sendall(b"\r\n")
        for connection in stuck[:2]:
            assert read_exactly(connection, 5) == b"+OK\r\n"
        assert node.resident_mib() < 400
    finally:
        for connection in stuck:
            connection.close()


def test_a_request_over_the_limit_is_answered_with_an_error(cluster: WireCluster) -> None:
    """By a client that first sends everything and then reads, as most do."""
    limit = 64 * MIB
    with raw(cluster.ports[0]) as connection:
        connection.sendall(b"*3\r\n$3\r\nSET\r\n$4\r\nover\r\n$%d\r\n" % (limit + MIB))
        chunk = bytes(MIB)
        for _ in range(65):
            connection.sendall(chunk)
        connection.sendall(b"\r\n")
        said = read_exactly(connection, 4)
        assert said + exchange(connection, b"") == (
            b"-ERR Protocol error: too big request: request_bytes_max is 67108864\r\n"
        )
    with raw(cluster.ports[0]) as connection:
        request = resp.command("SET", "over", bytes(17 * MIB)) + resp.command("PING")
        connection.sendall(request)
        error = b"-ERR value of 17825792 bytes exceeds value_bytes_max=16777216\r\n"
        assert read_exactly(connection, len(error) + 7) == error + b"+PONG\r\n"


def test_a_refused_client_that_goes_on_sending_is_cut_in_the_end(cluster: WireCluster) -> None:
    """One that neither reads nor ends holds its connection for a few seconds at most."""
    with raw(cluster.ports[0]) as connection:
        connection.sendall(b"*1\r\n$-1\r\n")
        wait_for(lambda: _is_reset(connection), "the node to end the connection")


def _is_reset(connection: socket.socket) -> bool:
    try:
        connection.sendall(b"x")
    except ConnectionError:
        return True
    return False


def test_the_largest_key_works_everywhere(make_cluster: Callable[..., WireCluster]) -> None:
    """65,536 bytes: written with a node away, hinted, delivered, repaired, listed, deleted and collected."""
    cluster = make_cluster(config="repair_interval_ms = 1000\n")
    first, _, away = cluster.nodes
    keys = [b"%c" % letter * (64 << 10) for letter in b"abc"]
    away.kill()
    with first.client() as client:
        for key in keys:
            wait_for(lambda key=key: client.execute_command("DYN.SET", key, b"value")[1] >= 2, "a quorum takes it")  # type: ignore[misc]
        with pytest.raises(redis.ResponseError, match="key of 65537 bytes exceeds key_bytes_max=65536"):
            client.set(b"k" * 65537, "v")
        away.start()
        cluster.wait_healthy()
        wait_for(lambda: not first.document("DYN.HINTS", "LIST")["total"], "hints are delivered")
        with away.client() as other:
            for key in keys:
                assert set(other.execute_command("DYN.GET", key, "R", 1)[1]) == {b"value"}
            assert sorted(other.scan_iter(count=1)) == sorted(other.keys()) == keys
        for key in keys:
            client.expire(key, 1000)
        assert client.delete(*keys) == 3
        wait_for(lambda: client.dbsize() == 0 and not client.keys(), "they are gone")
        assert client.exists(*keys) == 0


def test_large_values_lie_in_chunks_and_outlive_kills(make_cluster: Callable[..., WireCluster], tmp_path: Path) -> None:
    """Written, overwritten and deleted, while nodes are killed amid it, on encrypted disks; then read from each disk."""
    keys = tmp_path / "keys"
    keys.write_text("0000000a " + "11" * 32 + "\n")
    keys.chmod(0o600)
    settings = f"encryption_key_file = '{keys}'\nrequest_timeout_ms = 20000\nrecord_cache_bytes = {MIB}\n"
    cluster = make_cluster(config=settings)
    first, second, third = cluster.nodes
    values = {f"chunked:{number}": os.urandom(5 * MIB) for number in range(8)}
    deleted = [f"deleted:{number}" for number in range(4)]
    with first.client(timeout_s=60) as client:
        for name in [*values, *deleted]:
            assert client.set(name, b"former" * MIB)
        assert client.delete(*deleted) == len(deleted)
        third.kill()
        for name, value in list(values.items())[:4]:
            assert client.set(name, value)
    third.start()
    cluster.wait_healthy()
    with ThreadPoolExecutor(4) as pool, second.client(timeout_s=60) as client:
        doomed = [pool.submit(_set_or_fail, first, f"doomed:{number}") for number in range(4)]
        for name, value in list(values.items())[4:]:
            assert client.set(name, value)
        first.kill()
        for each in doomed:
            each.result()
    first.start()
    cluster.wait_healthy()
    wait_for(
        lambda: not any(node.document("DYN.HINTS", "LIST")["total"] for node in cluster.nodes), "hints are delivered"
    )
    for node in cluster.nodes:
        with node.client(timeout_s=60) as client:
            for name, value in values.items():
                assert client.execute_command("DYN.GET", name, "R", 1)[1] == [value], (node.name, name)
            assert client.exists(*deleted) == 0
        assert "needs chunks" in Rdict.list_cf(str(node.directory / "data"))


def _set_or_fail(node: WireNode, name: str) -> None:
    with suppress(redis.RedisError), node.client(timeout_s=60) as client:
        client.set(name, os.urandom(5 * MIB))
