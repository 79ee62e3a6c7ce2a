"""Clients by TLS: stock clients, who is refused and how, limits, and that half-made handshakes delay nobody."""

from __future__ import annotations

import json
import os
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from dynamo_cli.certificates import make
from protocol import resp
from tests.ports import free_ports
from tests.wire.cluster import DYN, connect, wait_for
from tests.wire.raw import exchange, read_exactly
from tests.wire.tls import Cluster, client_settings, encrypted, hello, tls_cluster

PING = resp.command("PING")
HALF_MADE = 1000


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes that take TLS beside plain connections."""
    made = tls_cluster(tmp_path_factory.mktemp("tls"))
    yield made
    made[0].dispose()
    made[0].assert_logs_clean()


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})


def test_redis_cli_and_redis_benchmark(shared: Cluster) -> None:
    _, home, ports = shared
    words = ("-h", "localhost", "-p", str(ports[0]), "--tls", "--cacert", home / "ca.crt")
    assert run("redis-cli", *words, "set", "k:cli", "v").stdout == "OK\n"
    assert run("redis-cli", *words, "-c", "get", "k:cli").stdout == "v\n"
    with_certificate = ("--cert", home / "alice.crt", "--key", home / "alice.key")
    assert run("redis-cli", *words, *with_certificate, "ping").stdout == "PONG\n"
    done = run("redis-benchmark", *words, "-n", "2000", "-c", "20", "-P", "4", "-t", "set,get", "--csv")
    assert '"SET"' in done.stdout and '"GET"' in done.stdout, done


def test_redis_py_and_its_cluster_client(shared: Cluster) -> None:
    cluster, home, ports = shared
    options = {"ssl": True, "ssl_ca_certs": str(home / "ca.crt"), "host": "localhost"}
    large = os.urandom(3 << 20)
    with connect(ports[1], **options) as client:
        assert client.set("k:large", large) and client.get("k:large") == large
        assert [client.ping() for _ in range(3)] == [True] * 3
    with redis.RedisCluster(port=ports[0], **options) as client:
        assert {node.port for node in client.get_nodes()} == set(ports)
        for number in range(50):
            assert client.set(f"k:{number}", number) and client.get(f"k:{number}") == b"%d" % number
    with cluster.nodes[0].client() as plain:
        assert plain.get("k:large") == large
        assert {node[2][1] for node in plain.execute_command("CLUSTER", "SLOTS")} <= set(cluster.ports)


def test_cluster_answers_name_the_ports_of_tls(shared: Cluster) -> None:
    _, home, ports = shared
    with connect(ports[0], ssl=True, ssl_ca_certs=str(home / "ca.crt"), host="localhost") as client:
        assert {row[2][1] for row in client.execute_command("CLUSTER", "SLOTS")} == set(ports)

    with encrypted(ports[0], client_settings(home)) as raw:
        raw.sendall(resp.command("CLUSTER", "NODES") + resp.command("CLUSTER", "SHARDS") + resp.command("QUIT"))
        said = b"".join(iter(lambda: raw.recv(65536), b"")).decode()
    assert all(said.count(f"127.0.0.1:{port}@{port} ") == 1 for port in ports)
    assert all(said.count(f"$8\r\ntls-port\r\n:{port}\r\n") == 1 for port in ports)


def test_dyn_by_tls(shared: Cluster) -> None:
    cluster, home, ports = shared
    there = ("--host", "localhost", "--port", str(ports[0]))
    assert run(DYN, *there, "--cacert", home / "ca.crt", "set", "k:dyn", "v").returncode == 0
    assert run(DYN, *there, "--insecure", "get", "k:dyn").stdout == "v\n"
    url = f"rediss://localhost:{ports[1]}"
    assert run(DYN, "--cacert", home / "ca.crt", "get", "k:dyn", DYN_URL=url).stdout == "v\n"
    status = [DYN, "--cacert", home / "ca.crt", "cluster", "status", "--json"]
    wait_for(lambda: json.loads(run(*status, DYN_URL=url).stdout)["verdict"] == "healthy", "a healthy cluster")
    examined = json.loads(run(DYN, *there, "--cacert", home / "ca.crt", "doctor", "--json").stdout)
    assert [node["reached"] for node in examined["nodes"]] == [True] * len(ports)
    unknown = run(DYN, *there, "--tls", "get", "k:dyn")
    assert unknown.returncode == 3 and "is not accepted" in unknown.stderr and "--cacert" in unknown.stderr
    plain = run(DYN, "--port", str(cluster.ports[0]), "--insecure", "get", "k:dyn")
    assert plain.returncode == 3 and "no TLS connection" in plain.stderr
    half = run(DYN, *there, "--cert", home / "alice.crt", "get", "k:dyn")
    assert half.returncode == 2 and "--key" in half.stderr


def test_who_speaks_the_other_way_is_refused_with_a_line_in_the_log(shared: Cluster) -> None:
    cluster, _, ports = shared
    node = cluster.nodes[0]
    before = node.log.count("this port does not take TLS")
    with node.client() as client:
        refused = client.info("dyn")["tls_refused"]
    with socket.create_connection(("127.0.0.1", ports[0]), 20) as plain:
        assert exchange(plain, PING) == resp.error("ERR this port takes TLS connections only")
    with socket.create_connection(("127.0.0.1", node.port), 20) as secure:
        assert exchange(secure, hello()) == resp.error("ERR this port does not take TLS: see tls_port in CONFIG GET")
    wait_for(lambda: node.log.count("this port takes TLS connections only") >= 1, "it is logged")
    wait_for(lambda: node.log.count("this port does not take TLS") > before, "it is logged")
    with node.client() as client:
        assert client.info("dyn")["tls_refused"] == refused + 2


def test_old_versions_and_nonsense_end_the_handshake(shared: Cluster) -> None:
    _, home, ports = shared
    old = client_settings(home)
    old.set_ciphers("DEFAULT:@SECLEVEL=0")
    old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, ConnectionError)), encrypted(ports[0], old):
        pass
    for nonsense in (
        b"\x16",
        b"\x16" * 1000,
        b"\x16\x03\x01\x40\x00" + os.urandom(0x4000),
        b"\x16\x03\x01\xff\xff" * 60_000,
    ):
        with socket.create_connection(("127.0.0.1", ports[0]), 20) as connection:
            connection.settimeout(20)
            exchange(connection, nonsense)
    with encrypted(ports[0], client_settings(home)) as client:
        client.sendall(PING)
        assert read_exactly(client, len(resp.PONG)) == resp.PONG


def test_a_broken_record_ends_the_connection(shared: Cluster) -> None:
    """Whoever changes a byte on the way changes nothing here: the command does not run."""
    cluster, home, ports = shared
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    talk = client_settings(home).wrap_bio(incoming, outgoing, server_hostname="localhost")
    with socket.create_connection(("127.0.0.1", ports[0]), 20) as connection:
        while True:
            try:
                talk.do_handshake()
                break
            except ssl.SSLWantReadError:
                connection.sendall(outgoing.read())
                incoming.write(connection.recv(65536))
        talk.write(resp.command("SET", "k:broken", "x"))
        data = bytearray(outgoing.read())
        data[-1] ^= 1
        exchange(connection, bytes(data))
    with cluster.nodes[0].client() as client:
        assert client.get("k:broken") is None


def test_half_made_handshakes_delay_nobody(shared: Cluster) -> None:
    """A thousand connections from one host, half of which say hello and nothing more: other clients work meanwhile, also
    those that are yet to connect, and no more than the limit are held."""
    cluster, home, ports = shared
    node = cluster.nodes[0]
    opened: list[socket.socket] = []
    first = hello(client_settings(home))
    settings = client_settings(home)
    try:
        with encrypted(ports[0], settings) as client, node.client() as watcher:
            for number in range(HALF_MADE):
                opened.append(socket.create_connection(("127.0.0.1", ports[0]), 20))
                if number % 2:
                    opened[-1].sendall(first)
                if not number % 50:
                    client.sendall(PING)
                    assert read_exactly(client, len(resp.PONG)) == resp.PONG
                    with encrypted(ports[0], settings) as other:
                        other.sendall(PING)
                        assert read_exactly(other, len(resp.PONG)) == resp.PONG
            ended = HALF_MADE - 256 - 30
            wait_for(lambda: watcher.info("dyn")["tls_handshakes_failed"] >= ended, "no more than the limit are held")
            assert _open_files(node.pid) < 256 + 200
    finally:
        for connection in opened:
            connection.close()
    assert node.log.count("it makes room for others") < 100  # the log is not flooded


def _open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_a_handshake_has_a_time_limit(tmp_path: Path) -> None:
    cluster, _, ports = tls_cluster(tmp_path, nodes=1, tls_handshake_ms_max=200)
    try:
        for first in (b"", b"\x16\x03", hello()):
            with socket.create_connection(("127.0.0.1", ports[0]), 20) as connection:
                connection.sendall(first)
                while connection.recv(65536):
                    pass
        node = cluster.nodes[0]
        wait_for(lambda: node.log.count("it has not ended within tls_handshake_ms_max (200)") == 3, "it is logged")
    finally:
        cluster.dispose()


def test_client_certificates(tmp_path: Path) -> None:
    cluster, home, ports = tls_cluster(tmp_path, nodes=1, tls_client_certificates="required")
    try:
        make(tmp_path / "others", "alice", (), 60)
        with encrypted(ports[0], client_settings(home, "alice")) as client:
            client.sendall(PING)
            assert read_exactly(client, len(resp.PONG)) == resp.PONG
        stranger = client_settings(home)
        stranger.load_cert_chain(tmp_path / "others" / "alice.crt", tmp_path / "others" / "alice.key")
        for settings in (client_settings(home), stranger):
            with pytest.raises((ssl.SSLError, ConnectionError)), encrypted(ports[0], settings) as client:
                client.sendall(PING)
                assert not client.recv(100)
                raise ConnectionError
        wait_for(lambda: "TLS handshake with 127.0.0.1:" in cluster.nodes[0].log, "the log says why")
    finally:
        cluster.dispose()


def test_the_name_in_a_certificate_is_the_user(tmp_path: Path) -> None:
    """A client with the certificate of a user needs no password; without one, or without such a user, it does."""
    cluster, home, ports = tls_cluster(tmp_path, nodes=1, tls_client_certificates="optional")
    make(home, "nobody", (), 60)
    make(home, "default", (), 60)
    try:
        with cluster.nodes[0].client() as operator:
            operator.execute_command("ACL", "SETUSER", "alice", "on", "~app:*", "+get", "+set", "+acl|whoami")
            operator.execute_command("ACL", "SETUSER", "default", "resetpass", ">secret")
        commands = resp.command("ACL", "WHOAMI") + resp.command("SET", "app:k", "v") + resp.command("SET", "k", "v")
        expected = resp.bulk(b"alice") + resp.OK + b"-NOPERM"
        with encrypted(ports[0], client_settings(home, "alice")) as client:
            client.sendall(commands)
            assert read_exactly(client, len(expected)) == expected
        for name in ("", "nobody", "default"):
            with encrypted(ports[0], client_settings(home, name)) as client:
                client.sendall(resp.command("SET", "app:k", "w"))
                assert read_exactly(client, 7) == b"-NOAUTH"
    finally:
        cluster.dispose()


def test_a_client_that_does_not_read_holds_no_more_than_its_limits(tmp_path: Path) -> None:
    """Back pressure holds by TLS: replies wait in the store and not in memory, and other clients are served."""
    cluster, home, ports = tls_cluster(tmp_path, nodes=1, client_output_bytes_max=1 << 20)
    try:
        node = cluster.nodes[0]
        with node.client() as watcher, encrypted(ports[0], client_settings(home)) as client:
            watcher.set("k", b"x" * (1 << 20))
            before_mib, before = node.resident_mib(), watcher.info("dyn")["reads"]
            for _ in range(200):
                client.sendall(resp.command("GET", "k"))
            assert all(watcher.ping() for _ in range(1000))  # others are served, and all that can begin has begun
            assert watcher.info("dyn")["reads"] - before < 50
            assert node.resident_mib() - before_mib < 60
            reply = resp.bulk(b"x" * (1 << 20))
            for _ in range(200):
                assert read_exactly(client, len(reply)) == reply
    finally:
        cluster.dispose()


def test_dyn_up_with_tls(tmp_path: Path) -> None:
    base_port, tls_port = free_ports(2), free_ports(2)
    words = ("up", "--dir", tmp_path / "d", "--nodes", "2", "--base-port", str(base_port), "--detach")
    try:
        started = run(DYN, *words, "--tls", "--set", f"tls_port={tls_port}")
        assert started.returncode == 0, started.stderr
        ca = tmp_path / "d" / "tls" / "ca.crt"
        assert run("redis-cli", "-p", str(tls_port + 1), "--tls", "--cacert", ca, "set", "k", "v").stdout == "OK\n"
        assert run(DYN, "--port", str(base_port), "get", "k").stdout == "v\n"
        assert run(DYN, "down", "--dir", tmp_path / "d").returncode == 0
        assert run(DYN, *words).returncode == 0, "the next start knows it"
        assert run("redis-cli", "-p", str(tls_port), "--tls", "--cacert", ca, "get", "k").stdout == "v\n"
    finally:
        run(DYN, "down", "--dir", tmp_path / "d")
