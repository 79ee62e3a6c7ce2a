"""The secret of a cluster while it serves: rotated, given to a cluster that has none, lost, and taken back."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from protocol import resp
from protocol.handshake import fingerprint
from tests.wire.cluster import PATIENT, SECRET, WireCluster, WireNode, wait_for
from tests.wire.load import Load
from tests.wire.raw import exchange, raw
from tests.wire.repairs import stop_and_compare, wait_whole
from tests.wire.test_restarts import BEFORE, _sources

MakeCluster = Callable[..., WireCluster]
NEW = bytes(range(100, 132))
CONFIG = "repair_interval_ms = 1000\n"


def _secrets_of(cluster: WireCluster) -> list[list[str]]:
    """The fingerprints that the nodes show in the status, in order."""
    rows: list[dict[str, Any]] = cluster.nodes[0].document("DYN.CLUSTER", "STATUS")["nodes"]
    return [row.get("secrets", []) for row in rows]


def _summary(node: WireNode) -> str:
    return str(node.document("DYN.CLUSTER", "STATUS")["summary"])


def _is_open_to_anybody(node: WireNode) -> bool:
    """Whether it takes a node that proves nothing."""
    myself = node.document("DYN.CLUSTER", "MYSELF")
    introduction = resp.command("DYN.PEER", 1, myself["cluster"], "f" * 40, 1, myself["epoch"], 99)
    with raw(node.port) as connection:
        connection.sendall(introduction)
        answer = connection.recv(100)
    assert answer.startswith((b"+OK", b"-NOPROOF"))
    return answer.startswith(b"+OK")


def _assert_unharmed(cluster: WireCluster, load: Load) -> None:
    assert not load.errors, load.errors[:10]
    wait_whole(cluster)
    load.assert_all_there(*cluster.nodes)
    stop_and_compare(cluster)


def test_a_rotation_under_load_fails_no_request(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config=PATIENT + CONFIG)
    load = Load(cluster.ports, deletes=0.1)
    with load.running():
        for step in ((SECRET, NEW), (NEW, SECRET), (NEW,)):
            for node in cluster.nodes:
                load.more(10)
                node.write_secrets(*step)
                node.signal(signal.SIGHUP)
            wanted = [[fingerprint(secret) for secret in step]] * 3
            wait_for(lambda wanted=wanted: _secrets_of(cluster) == wanted, "all nodes have the file")
            load.more(10)
        cluster.wait_healthy()
    assert "refuses us" not in "".join(node.log for node in cluster.nodes)
    for node in cluster.nodes:  # what was made with the old secret was made anew
        counted = node.document("DYN.STATS")["counters"]
        assert counted["peers_with_wrong_proof"] == counted["blocks_forged"] == 0
    fresh = cluster.add()
    assert fresh.document("DYN.CLUSTER", "MYSELF")["secrets"] == [fingerprint(SECRET)], "the old one"
    with fresh.client() as client:
        assert client.ping()
    cluster.forget(fresh)
    _assert_unharmed(cluster, load)


def test_a_cluster_without_a_secret_gets_one_without_a_stop(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config=PATIENT + CONFIG, secrets=())
    assert "nodes are not authenticated: whoever reaches a port may act as a node; make a secret with" in _summary(
        cluster.nodes[0]
    )
    assert "WARNING nodes are not authenticated: this node has no secret" in cluster.nodes[0].log
    load = Load(cluster.ports, deletes=0.1)
    with load.running():
        for place, node in enumerate(cluster.nodes):
            assert all(map(_is_open_to_anybody, cluster.nodes))
            load.more(10)
            node.write_secrets(SECRET)
            if place < 2:
                names = ", ".join(other.name for other in cluster.nodes[place + 1 :])
                said = f"nodes are not authenticated before {names} has the secret, too"
                wait_for(lambda said=said: said in _summary(cluster.nodes[0]), "the status says who lacks it")  # type: ignore[misc]
            load.more(10)
            cluster.wait_healthy()
        wait_for(lambda: _summary(cluster.nodes[0]) == "all 3 nodes are up", "nothing is left to say")
        wait_for(lambda: not any(map(_is_open_to_anybody, cluster.nodes)), "no node takes one that proves nothing")
        load.more(10)
    for node in cluster.nodes:
        node.stop()
        node.start()
        wait_for(node.serves, "it serves again")
        assert not _is_open_to_anybody(node), "it knows that after a restart"
    cluster.wait_healthy()
    _assert_unharmed(cluster, load)


def test_a_node_that_lost_its_secret_does_not_start_and_a_bad_file_changes_nothing(make_cluster: MakeCluster) -> None:
    cluster = make_cluster()
    node = cluster.nodes[2]
    file = node.directory / "secret"
    for bad, complaint in (("abc\n", "a secret is 64 hexadecimal digits"), ("", "it is empty")):
        file.write_text(bad)
        wait_for(lambda complaint=complaint: complaint in node.log, "it says so")  # type: ignore[misc]
    file.unlink()
    node.signal(signal.SIGHUP)
    wait_for(lambda: "is gone; this node keeps the secrets that it has" in node.log, "it says so")
    cluster.wait_healthy()
    node.secrets = ()
    node.stop()
    node.start()
    assert node.wait() == 1
    assert "copy the file from the directory of another node (mode 600)" in node.log
    file.write_text(SECRET.hex())
    file.chmod(0o644)
    node.start()
    assert node.wait() == 1 and f"chmod 600 {file}" in node.log
    file.chmod(0o600)
    node.start()
    wait_for(node.serves, "n3 serves")
    cluster.wait_healthy()


def test_the_secret_comes_by_a_named_file_or_by_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "shared"
    file.write_text(SECRET.hex())
    file.chmod(0o600)
    text = {"DYN_SECRET": SECRET.hex()}
    cluster = WireCluster(tmp_path / "cluster", environments={0: text, 1: {"DYN_SECRET_FILE": str(file)}}, secrets=())
    try:
        for node in cluster.nodes[:2]:
            node.start()
        cluster.nodes[2].start("--secret-file", str(file))
        for node in cluster.nodes:
            wait_for(node.serves, f"{node.name} serves")
            assert node.document("DYN.CLUSTER", "MYSELF")["secrets"] == [fingerprint(SECRET)]
            words = Path(f"/proc/{node.pid}/cmdline").read_bytes()
            assert SECRET.hex().encode() not in words
        third = cluster.nodes[2]
        third.stop()
        third.start()  # it remembers the file
        wait_for(third.serves, "n3 serves")
        assert third.document("DYN.CLUSTER", "MYSELF")["secrets"] == [fingerprint(SECRET)]
    finally:
        cluster.dispose()
    cluster.assert_logs_clean()


def test_the_way_back_to_a_version_that_knows_no_secrets(make_cluster: MakeCluster, tmp_path: Path) -> None:
    cluster = make_cluster(config=CONFIG)
    old = {"PYTHONPATH": str(_sources(BEFORE, tmp_path / "before"))}
    load = Load(cluster.ports)
    with load.running():
        for node in cluster.nodes:
            load.more(10)
            assert node.stop() == 0
            node.start("--set", "peer_auth_required=false")
            cluster.wait_healthy()
        for node in cluster.nodes:
            load.more(10)
            assert node.stop() == 0
            node.change_environment(old)
            node.start()
            cluster.wait_healthy()
        load.more(10)
    _assert_unharmed(cluster, load)


def test_a_handshake_begins_a_connection_or_not_at_all(cluster: WireCluster) -> None:
    """Only a connection's first command begins a handshake; later it is an unknown command."""
    with raw(cluster.nodes[0].port) as connection:
        said = exchange(connection, b"PING\r\n" + resp.command("DYN.AUTH", "1", "0" * 64) + resp.command("QUIT"))
    assert said.startswith(b"+PONG\r\n-ERR unknown command 'DYN.AUTH'")
