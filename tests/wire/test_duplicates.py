"""A directory is copied and both are started: the first process stays, the second one is refused, and everybody says so."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis

from tests.ports import free_ports
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for


@contextmanager
def copied(cluster: WireCluster, original: WireNode, place: Path) -> Iterator[WireNode]:
    """A copy of the directory of `original`, which does not run yet."""
    original.stop()
    shutil.copytree(original.directory, place / original.name)
    (place / original.name / "log").unlink()
    original.start()
    wait_for(original.serves, "the original serves")
    cluster.wait_healthy()
    copy = WireNode(place / original.name, free_ports(1), [], {})
    try:
        yield copy
    finally:
        copy.dispose()


def _refusal(node: WireNode) -> str:
    """What a write is told."""
    with node.client() as client:
        try:
            client.set("through", "the copy")
        except redis.ResponseError as error:
            return str(error)
    return ""


def entry_of(node: WireNode, name: str) -> dict[str, Any]:
    """What `node` says of a member."""
    (entry,) = [entry for entry in node.document("DYN.CLUSTER", "STATUS")["nodes"] if entry["name"] == name]
    return entry


def test_a_copy_beside_the_original_is_refused(make_cluster: Callable[..., WireCluster], tmp_path: Path) -> None:
    """On both sides, in the log and in the status; also when the original or another member is restarted. It goes away when
    the copy does."""
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    with copied(cluster, n2, tmp_path / "elsewhere") as copy:
        copy.start()
        wait_for(copy.serves, "the copy serves")
        wait_for(lambda: "COPY node n2 runs at" in copy.log, "the log of the copy says so")
        wait_for(lambda: f"a process at {copy.address} has this node's id" in n2.log, "and that of the original")
        for node in (n1, n2, n3):
            wait_for(lambda node=node: entry_of(node, "n2").get("copies") == [copy.address], "so does the status")  # type: ignore[misc]
        document = n1.document("DYN.CLUSTER", "STATUS")
        assert document["verdict"] == "degraded"
        assert n2.address in document["summary"] and copy.address in document["summary"]
        assert dyn("cluster", "status", port=n1.port).returncode == 4
        wait_for(lambda: entry_of(n1, "n2")["state"] == "up", "the original is up")
        assert entry_of(n1, "n2")["address"] == n2.address
        wait_for(lambda: copy.document("DYN.CLUSTER", "STATUS")["verdict"] == "unavailable", "it knows that it is none")
        summary = copy.document("DYN.CLUSTER", "STATUS")["summary"]
        assert "the other nodes refuse this process: COPY node n2" in summary
        assert "gone for good" not in summary, "n1 and n3 run: nobody should remove them"
        wait_for(lambda: "the cluster refuses it: COPY node n2" in _refusal(copy), "it serves nobody")
        assert f"node n1 at {n1.address} refuses us: -COPY" in copy.log
        n2.kill()
        n2.start()
        wait_for(
            lambda: n1.states()["n2"] == "up" and n3.states()["n2"] == "up", "a restart does not wait for anything"
        )
        assert entry_of(n3, "n2")["address"] == n2.address, "the copy does not come first"
        copy.stop()
    cluster.wait_healthy()


@pytest.mark.soak  # 18 s
def test_members_that_restart_know_the_original_from_the_copy(
    make_cluster: Callable[..., WireCluster], tmp_path: Path
) -> None:
    """They have its address in their layout, and try that first."""
    cluster = make_cluster()
    n1, n2, n3 = cluster.nodes
    with copied(cluster, n2, tmp_path / "elsewhere") as copy:
        copy.start()
        wait_for(lambda: copy.log.count("COPY node n2 runs at") >= 2, "both refuse it")
        for node in (n1, n3):
            node.kill()
            node.start()
            wait_for(node.serves, "it serves")
            wait_for(lambda node=node: entry_of(node, "n2").get("copies") == [copy.address], "it is refused again")  # type: ignore[misc]
            wait_for(lambda node=node: entry_of(node, "n2")["state"] == "up", "the original is up")  # type: ignore[misc]
            assert entry_of(node, "n2")["address"] == n2.address
        copy.stop()
    cluster.wait_healthy()


@pytest.mark.soak  # 18 s
def test_a_copy_that_came_while_the_original_was_down_stays(
    make_cluster: Callable[..., WireCluster], tmp_path: Path
) -> None:
    """Nobody can tell it from the node itself at another address; then the original is the one too many."""
    cluster = make_cluster()
    n1, n2, _ = cluster.nodes
    with copied(cluster, n2, tmp_path / "elsewhere") as copy:
        n2.stop()
        copy.start()
        wait_for(lambda: copy.serves() and copy.is_healthy(), "the copy is the node")
        n2.start()
        wait_for(lambda: "COPY node n2 runs at" in n2.log, "the log of the original says so")
        wait_for(lambda: entry_of(n1, "n2").get("copies") == [n2.address], "so does the status")
        assert entry_of(n1, "n2")["address"] == copy.address
        n2.stop()
        copy.stop()
        n2.start()
        wait_for(n2.serves, "it serves")
        cluster.wait_healthy()
        assert entry_of(n1, "n2")["address"] == n2.address
