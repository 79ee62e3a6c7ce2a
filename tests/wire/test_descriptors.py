"""File descriptors run out for clients: storage and peers keep theirs, and everybody is told what is the matter."""

from __future__ import annotations

import os
import resource
import shutil
import socket
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
import redis

from tests.wire.cluster import Host, WireCluster, WireNode, wait_for
from tests.wire.raw import exchange, raw, read_exactly

pytestmark = pytest.mark.skipif(shutil.which("prlimit") is None, reason="prlimit (util-linux) is not installed")
FILES = 300
IDLE_CLIENTS = FILES + 200
VALUES, VALUE_BYTES = 7000, 5000  # more than RocksDB keeps in memory: it has to open files
REFUSED = b"-ERR max number of clients reached\r\n"


def _limited(files: int) -> Host:
    return Host(prefix=("prlimit", f"--nofile={files}:{files}"))


def _open_files(node: WireNode) -> int:
    return len(os.listdir(f"/proc/{node.pid}/fd"))


def test_descriptors_run_out_for_clients_only(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(hosts=[_limited(FILES)] * 3)
    node, other = cluster.nodes[0], cluster.nodes[2]
    with ExitStack() as stack:
        client = stack.enter_context(node.client())
        served = int(client.config_get("maxclients")["maxclients"])
        assert 50 < served < FILES // 2
        assert client.info("clients")["maxclients"] == served
        idle = [stack.enter_context(raw(node.port)) for _ in range(IDLE_CLIENTS)]
        wait_for(
            lambda: client.info("stats")["rejected_connections"] >= IDLE_CLIENTS - served, "those too many are refused"
        )
        assert exchange(idle[-1], b"PING\r\n") == REFUSED
        with client.pipeline(transaction=False) as pipe:
            for number in range(VALUES):
                pipe.set(f"files:{number}", os.urandom(VALUE_BYTES))
                if number % 100 == 0:
                    pipe.execute()
            pipe.execute()
        assert other.stop() == 0
        other.start()
        wait_for(other.serves, "the other node serves again")
        wait_for(lambda: set(other.states().values()) == {"up"}, "the full node and the other one are linked again")
        assert _open_files(node) < FILES
        assert client.set("files:last", "x")
    wait_for(node.is_healthy, "new clients are served again")
    assert f"serves {served} clients at a time, not clients_max=10000" in node.log
    with node.client() as client:
        with pytest.raises(redis.ResponseError, match=f"'clients_max' can be {served}"):
            client.config_set("maxclients", served + 1)
        client.config_set("maxclients", 5)
        with ExitStack() as stack:
            [*_, last] = [stack.enter_context(raw(node.port)) for _ in range(5)]
            assert exchange(last, b"PING\r\n") == REFUSED, "the sixth"
            client.config_set("maxclients", served)
            last = stack.enter_context(raw(node.port))
            last.sendall(b"PING\r\n")
            assert last.recv(7) == b"+PONG\r\n"


def test_those_who_come_all_at_once_take_no_descriptor_of_the_store(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1, hosts=[_limited(FILES)])
    node = cluster.nodes[0]
    with ExitStack() as stack:
        client = stack.enter_context(node.client())
        served = int(client.config_get("maxclients")["maxclients"])
        reserved = FILES - served
        before = _open_files(node)
        node.freeze()  # so that all of them wait to be accepted
        for _ in range(IDLE_CLIENTS):
            connection = stack.enter_context(socket.socket())
            connection.setblocking(False)
            connection.connect_ex(("127.0.0.1", node.port))
        node.thaw()
        seen = 0
        for _ in range(200):
            assert client.set("files:burst", "x")
            seen = max(seen, _open_files(node))
        assert seen <= FILES - (reserved - before) // 2, f"{seen} files were open"


def test_accepting_goes_on_once_there_are_descriptors_again(make_cluster: Callable[..., WireCluster]) -> None:
    """No descriptor is left, as when the whole system has none: those who come are closed, nothing else ends."""
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    with node.client() as client, ExitStack() as stack:
        assert client.ping()
        allowed = resource.prlimit(node.pid, resource.RLIMIT_NOFILE)
        last = max([int(name) for name in os.listdir(f"/proc/{node.pid}/fd")])
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, (last + 1, allowed[1]))
        waiting = [stack.enter_context(raw(node.port)) for _ in range(last + 1)]
        assert exchange(waiting[-1], b"") == b""
        until_s = client.info("server")["uptime_in_seconds"] + 2
        wait_for(lambda: client.info("server")["uptime_in_seconds"] >= until_s, "the node has ticked meanwhile")
        resource.prlimit(node.pid, resource.RLIMIT_NOFILE, allowed)
        wait_for(node.serves, "it serves new clients again")


def test_the_kernel_probes_silent_connections(make_cluster: Callable[..., WireCluster]) -> None:
    """Or those whose other end has lost its power would keep their descriptors for ever."""
    cluster = make_cluster(nodes=2, config="keepalive_ms = 60000")
    node = cluster.nodes[0]
    with node.client() as client, raw(node.port) as connection:
        assert client.config_get("tcp-keepalive") == {"tcp-keepalive": "60"}
        connection.sendall(b"PING\r\n")
        assert read_exactly(connection, 7) == b"+PONG\r\n"
        wait_for(lambda: all(_timers(node.port)), f"all connections have a timer: {_timers(node.port)}")
        assert len(_timers(node.port)) >= 3  # those of both clients, and the other node's


def _timers(port: int) -> list[bool]:
    """Of each connection to a port, whether its timer for probes runs; see proc_net_tcp in the kernel's documentation."""
    found = []
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1].endswith(f":{port:04X}") and fields[3] == "01":  # established
            found.append(fields[5].startswith("02"))
    return found


def test_too_few_files_to_run_at_all(tmp_path: Path) -> None:
    cluster = WireCluster(tmp_path / "few", nodes=1, hosts=[_limited(150)])
    node = cluster.nodes[0]
    node.start()
    assert node.wait() == 1
    assert "may open 150 files, and a node needs" in node.log
    assert "Traceback" not in node.log
