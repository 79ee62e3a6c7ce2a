"""A directory is replaced by an older copy, as a restored snapshot does: nothing that was deleted since comes back."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import pytest
import redis

from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.repairs import stop_and_compare, write

MakeCluster = Callable[..., WireCluster]
KEYS = [f"k{number}" for number in range(1000)]
HASTY = "request_timeout_ms = 1000\ncollect_wait_ms = 500\n"


def _is_empty(node: WireNode) -> bool:
    """Whether every deleted key is forgotten there."""
    stats = node.document("DYN.STATS")
    return bool(stats["keys"] == stats["tombstones"] == 0)


def _summary(node: WireNode) -> str:
    try:
        return str(node.document("DYN.CLUSTER", "STATUS")["summary"])
    except redis.RedisError:
        return ""


@pytest.mark.soak  # 50 s; the simulator has the same in CI (tests/sim)
def test_a_directory_that_was_set_back_revives_nothing_and_is_filled_anew(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(config=HASTY)
    victim, other, third = cluster.nodes
    write(cluster.nodes, dict.fromkeys(KEYS, b"old"))
    assert victim.stop() == 0
    copy = victim.directory / "copy"
    shutil.copytree(victim.directory / "data", copy)
    victim.start()
    cluster.wait_healthy()
    with other.client() as client:
        assert client.delete(*KEYS) == len(KEYS)
    for node in cluster.nodes:
        wait_for(lambda node=node: _is_empty(node), f"{node.name} has forgotten what was deleted", 90)
    with other.client() as client:
        client.set("kept", "value")
    wait_for(lambda: victim.document("DYN.STATS")["keys"] == 1, "the last write is everywhere")

    victim.kill()
    shutil.rmtree(victim.directory / "data")
    copy.rename(victim.directory / "data")
    victim.start()
    wait_for(lambda: (victim.directory / "data.set-back-1").exists(), "the older copy is set aside", 60)
    cluster.wait_healthy()
    wait_for(lambda: victim.document("DYN.STATS")["keys"] == 1, "it is filled anew")
    for node in cluster.nodes:
        with node.client() as client:
            assert client.get("kept") == b"value"
            assert client.mget(KEYS) == [None] * len(KEYS)
            client.execute_command("DYN.QUORUM", "R", 3)
            assert client.mget(KEYS) == [None] * len(KEYS)
    assert "CRITICAL this node came back with an older copy of its directory" in victim.log
    assert "n1 came back with an older copy of its directory: that is now data.set-back-1 there" in _summary(third)
    cluster.assert_logs_clean()
    stop_and_compare(cluster)
