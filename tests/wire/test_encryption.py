"""Encryption at rest on real nodes: a cluster that has data gets it, changes its key, and keeps all values meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.wire.cluster import WireCluster, wait_for

SECRET = b"the plain value that nobody shall find"
A, B, C = ("0000000a " + "11" * 32, "0000000b " + "22" * 32, "0000000c " + "33" * 32)


def test_a_node_compresses_as_it_is_told(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster(nodes=1)
    node = cluster.nodes[0]
    for way, name in (("", "kLZ4Compression"), ("zstd", "kZSTD"), ("none", "kNoCompression")):
        if way:
            assert node.stop() == 0
            node.start("--set", f"compression={way}")
            wait_for(node.serves, "it serves")
        levels = f"compression_per_level={':'.join(['kNoCompression'] + [name] * 6)}\n"
        assert levels in max((node.directory / "data").glob("OPTIONS-*")).read_text()
        with node.client() as client:
            assert client.config_get("compression") == {"compression": way or "lz4"}
    assert node.stop() == 0
    node.start("--set", "compression=gzip")
    assert node.wait() == 1 and "setting 'compression' must be none, lz4 or zstd, not 'gzip'" in node.log


def is_found(directory: Path) -> bool:
    return any(SECRET in path.read_bytes() for path in directory.rglob("*") if path.is_file())


def restart(cluster: WireCluster, keys: Path, *lines: str) -> None:
    """One node after the other, with these keys."""
    keys.write_text("\n".join(lines) + "\n")
    keys.chmod(0o600)
    for node in cluster.nodes:
        assert node.stop() == 0
        node.start("--set", f"encryption_key_file={keys}")
        wait_for(node.serves, f"{node.name} serves")
        wait_for(lambda node=node: f"encrypted with key {lines[-1][:8]}: no other" in node.log, "it is encrypted")  # type: ignore[misc]
        cluster.wait_healthy()


def change_while_they_serve(cluster: WireCluster, keys: Path) -> None:
    """Another key, which the nodes notice; before that a file that lacks a key, which they do not use."""
    keys.write_text(f"{C}\n")
    for node in cluster.nodes:
        wait_for(lambda node=node: "this node keeps the keys that it has" in node.log, "it is refused")  # type: ignore[misc]
    keys.write_text(f"{B}\n{C}\n")
    with cluster.nodes[1].client() as client:
        for node in cluster.nodes:
            wait_for(lambda node=node: "encrypted with key 0000000c: no other" in node.log, "it is encrypted")  # type: ignore[misc]
            assert client.set("k:new", SECRET)
        assert all(client.get(f"k:{number}") == SECRET + b"%d" % number for number in range(300))
    assert not any(is_found(node.directory / "data") for node in cluster.nodes)


def test_a_cluster_is_encrypted_and_changes_its_key(make_cluster: Callable[..., WireCluster], tmp_path: Path) -> None:
    cluster = make_cluster()
    with cluster.nodes[0].client() as client:
        client.execute_command("DYN.QUORUM", "R", 1, "W", 3)
        for number in range(300):
            client.set(f"k:{number}", SECRET + b"%d" % number)
    for node in cluster.nodes:
        wait_for(lambda node=node: is_found(node.directory / "data"), f"it is on the disk of {node.name}")  # type: ignore[misc]
    for lines in ((A,), (A, B)):
        restart(cluster, tmp_path / "keys", *lines)
        with cluster.nodes[0].client() as client:
            client.execute_command("DYN.QUORUM", "R", 1, "W", 3)
            assert client.set("k:new", SECRET)
            assert all(client.get(f"k:{number}") == SECRET + b"%d" % number for number in range(300))
        assert not any(is_found(node.directory / "data") for node in cluster.nodes)
    change_while_they_serve(cluster, tmp_path / "keys")
    node = cluster.nodes[0]
    assert node.stop() == 0
    node.start()
    assert node.wait() == 1 and "the store is encrypted (key 0000000c): set encryption_key_file" in node.log
    (tmp_path / "keys").write_text(C + "\n")  # the older keys may go
    node.start("--set", f"encryption_key_file={tmp_path / 'keys'}")
    wait_for(node.serves, "it serves")
    cluster.wait_healthy()
