"""Links between nodes by TLS: who gets in, how a cluster changes to it without a stop, and how certificates are changed."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dynamo_cli.certificates import LOCAL_HOSTS, make
from protocol import resp
from protocol.handshake import fingerprint
from tests.wire.cluster import PATIENCE, PATIENT, SECRET, WireCluster, WireNode, connect, wait_for
from tests.wire.intruding import counters, grown
from tests.wire.load import Load
from tests.wire.raw import exchange, read_exactly
from tests.wire.tls import Cluster, certificates, client_settings, encrypted, settings_of, tls_cluster

NEW = bytes(range(100, 132))
REREAD = "certificate read again"
TLS_ONLY = b"takes other nodes by TLS only (tls_peers = yes)"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three nodes whose links are by TLS."""
    made = tls_cluster(tmp_path_factory.mktemp("peers"), tls_peers="yes")
    yield made
    made[0].dispose()
    made[0].assert_logs_clean()


def introduction(node: WireNode, other: WireNode) -> bytes:
    """What `other` would say to `node`, by facts that anybody may ask for."""
    status = node.document("DYN.CLUSTER", "STATUS")
    ids = {each["name"]: each["id"] for each in status["nodes"]}
    with node.client() as client:
        cluster = client.info("dyn")["cluster_id"]
    return resp.command("DYN.PEER", "1", str(cluster), str(ids[other.name]), "9999999999999")


def test_data_goes_between_nodes_by_tls(shared: Cluster) -> None:
    cluster, _, _ = shared
    large = os.urandom(12 << 20)
    with cluster.nodes[0].client() as client:
        client.execute_command("DYN.QUORUM", "R", 1, "W", 3)
        assert client.set("k", "v") and client.set("k:large", large)
    for node in cluster.nodes:
        with node.client() as client:
            assert client.get("k") == b"v" and client.get("k:large") == large


def test_a_stolen_id_makes_no_node(shared: Cluster) -> None:
    """Neither in clear, nor by TLS without a certificate, nor with that of a client, nor with that of another CA."""
    cluster, home, _ = shared
    node, other = cluster.nodes[:2]
    words, before = introduction(node, other), counters(node)
    with socket.create_connection(("127.0.0.1", node.port), 20) as plain:
        assert TLS_ONLY in exchange(plain, words)
    for name in ("", "alice"):
        with encrypted(node.port, client_settings(home, name)) as secure:
            secure.sendall(words)
            assert TLS_ONLY in secure.recv(4096)
    others = certificates(home / "others")
    stranger = client_settings(home)
    stranger.load_cert_chain(others / "node.crt", others / "node.key")
    with pytest.raises((ssl.SSLError, ConnectionError)), encrypted(node.port, stranger) as secure:
        secure.sendall(words)
        assert not secure.recv(4096)
        raise ConnectionError
    genuine = client_settings(home, "node")
    with encrypted(node.port, genuine) as secure:
        secure.sendall(words)
        assert b"NOPROOF" in secure.recv(4096), "a certificate is enough for the TLS, and the secret is wanted, too"
    assert grown(node, before) == {"peers_without_proof": 4, "tls_handshakes_failed": 1}


def test_a_node_joins_by_tls(shared: Cluster) -> None:
    cluster, _, _ = shared
    seed = cluster.nodes[0]
    node = cluster.add("--join", seed.address)
    wait_for(lambda: "has staged that node" in node.log, "its join is staged")
    seed.document("DYN.CLUSTER", "ABORT")
    cluster.forget(node)


def test_one_port_for_all_and_tls_only(tmp_path: Path) -> None:
    home = certificates(tmp_path / "certificates")
    cluster = WireCluster(tmp_path / "cluster", nodes=2, config=settings_of(home, tls_peers="yes"))
    for node in cluster.nodes:
        node._options = [*node._options, "--set", f"tls_port={node.port}"]
        node.client = client_by_tls(node, home)  # type: ignore[method-assign]
    try:
        cluster.form()
        with cluster.nodes[0].client() as client:
            client.execute_command("DYN.QUORUM", "W", 2)
            assert client.set("k", "v")
            assert {row[2][1] for row in client.execute_command("CLUSTER", "SLOTS")} == set(cluster.ports)
        with socket.create_connection(("127.0.0.1", cluster.ports[0]), 20) as plain:
            assert b"TLS connections only" in exchange(plain, resp.command("GET", "k"))
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()


def client_by_tls(node: WireNode, home: Path) -> Any:
    def client(**options: Any) -> Any:
        return connect(node.port, host="localhost", ssl=True, ssl_ca_certs=str(home / "ca.crt"), **options)

    return client


def test_a_cluster_changes_to_tls_node_by_node(tmp_path: Path) -> None:
    """no, then optional, then yes: each node is restarted twice, as soon as the cluster is healthy. No request is refused,
    and a connection breaks only by the restart of its own node."""
    home = certificates(tmp_path / "certificates")
    cluster = WireCluster(tmp_path / "cluster", config=PATIENT + settings_of(home))
    try:
        cluster.form()
        load = Load(cluster.ports, deletes=0.1)
        with load.running():
            for way in ("optional", "yes"):
                for node in cluster.nodes:
                    load.more(10)
                    before = load.breaks
                    assert node.stop() == 0
                    node._options = [*node._options, "--set", f"tls_peers={way}"]
                    node.start()
                    wait_for(node.serves, f"{node.name} serves")
                    cluster.wait_healthy()
                    load.more(10)
                    assert load.breaks - before <= len(load.writers), (
                        "each thread has one connection, and goes to a node that stays"
                    )
        assert not load.errors, load.errors[:10]
        load.assert_all_there(*cluster.nodes)
        with socket.create_connection(("127.0.0.1", cluster.ports[0]), 20) as plain:
            assert TLS_ONLY in exchange(plain, introduction(*cluster.nodes[:2]))
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()


def test_certificates_the_ca_and_the_secret_change_under_load(tmp_path: Path) -> None:
    """One node after the other, each with its own files: both CAs are trusted for a while; then each node gets a
    certificate of the new one; then the old one goes. The secret is rotated in the same steps. A node without clients is
    restarted in the middle of each step and at its end, so that links are made between old and new, both ways. No request
    fails, and no connection of a client breaks."""
    cluster, home, ports = tls_cluster(tmp_path, apart=True, tls_peers="yes", **PATIENCE)
    new = certificates(tmp_path / "new")
    steps = rotation(home, new)
    try:
        first, _, idle = cluster.nodes
        load = Load(cluster.ports[:2], deletes=0.1)
        with load.running():
            for change, secrets in steps:
                for node in cluster.nodes:
                    load.more(10)
                    read = node.log.count(REREAD)
                    change(home / node.name)
                    node.write_secrets(*secrets)
                    await_reload(node, read + 1, secrets)
                    if node in (first, idle):
                        assert idle.stop() == 0
                        idle.start()
                        cluster.wait_healthy()
            for port in ports:
                with encrypted(port, client_settings(new)) as client:
                    client.sendall(resp.command("PING"))
                    assert read_exactly(client, len(resp.PONG)) == resp.PONG
            load.more(10)
        assert load.writes and not load.errors and load.breaks == 0, load.errors[:10]
        load.assert_all_there(*cluster.nodes)
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()


def rotation(home: Path, new: Path) -> list[tuple[Callable[[Path], None], tuple[bytes, ...]]]:
    """The steps from the certificates of `home` to those of `new`: what becomes of a node's files, and its secrets."""
    old_ca, new_ca = (home / "ca.crt").read_text(), (new / "ca.crt").read_text()

    def trust_both(own: Path) -> None:
        (own / "ca.crt").write_text(old_ca + new_ca)

    def show_the_new(own: Path) -> None:
        for kind in ("key", "crt"):
            shutil.copy(new / f"node.{kind}", own / f"node.{kind}")

    def trust_the_new(own: Path) -> None:
        (own / "ca.crt").write_text(new_ca)

    return [(trust_both, (SECRET, NEW)), (show_the_new, (NEW, SECRET)), (trust_the_new, (NEW,))]


def await_reload(node: WireNode, times: int, secrets: tuple[bytes, ...]) -> None:
    """Waits until a node uses the certificates and secrets that its files have now."""
    wanted = [fingerprint(secret) for secret in secrets]
    wait_for(lambda: node.log.count(REREAD) >= times, f"{node.name} has read its certificates")
    wait_for(lambda: node.document("DYN.CLUSTER", "MYSELF")["secrets"] == wanted, f"{node.name} has its secrets")


def test_the_status_names_a_certificate_that_expires(tmp_path: Path) -> None:
    cluster, home, _ = tls_cluster(tmp_path, nodes=1)
    try:
        node = cluster.nodes[0]
        assert "expires" not in node.document("DYN.CLUSTER", "STATUS")["summary"]
        make(home, "node", LOCAL_HOSTS, 12)
        wait_for(
            lambda: "its certificate expires in 11 days" in node.document("DYN.CLUSTER", "STATUS")["summary"],
            "it warns",
        )
        assert node.is_healthy()
    finally:
        cluster.dispose()
