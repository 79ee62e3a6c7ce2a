"""A dead node is known as `down` within 5 seconds, stops nobody, and is `up` again within 5 seconds of its return."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
import redis

from tests.wire.cluster import WireCluster, wait_for

pytestmark = pytest.mark.serial  # the seconds that are promised are those of a machine that has a core for each node
PROMISE_S = 5.0
KEYS = 300


def _states(cluster: WireCluster, seen_from: int, of: int, state: str) -> Callable[[], bool]:
    seer, seen = cluster.nodes[seen_from], cluster.nodes[of]
    return lambda: seer.states()[seen.name] == state


def test_a_dead_node_is_down_within_5_s_and_up_again_within_5_s(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    first, second, third = cluster.nodes
    clients = [second.client(), third.client()]
    clients[0].mset({f"k{i}": "before" for i in range(KEYS)})
    first.kill()
    # At once, before anybody can have been declared dead: requests of every key go on (R=W=2).
    for i in range(KEYS):
        writer, reader = clients if i % 2 else clients[::-1]
        assert reader.get(f"k{i}") == b"before"
        assert writer.set(f"k{i}", f"after{i}")
    for seer in (1, 2):
        wait_for(_states(cluster, seer, 0, "down"), f"n{seer + 1} knows that n1 is down", PROMISE_S)
    status = second.document("DYN.CLUSTER", "STATUS")
    assert status["verdict"] == "degraded"
    assert "n1" in status["summary"]
    for i in range(KEYS):
        assert clients[i % 2].get(f"k{i}") == b"after%d" % i
        assert clients[i % 2].set(f"k{i}", f"down{i}")
    first.start()
    wait_for(first.serves, "n1 serves again")
    for seer in (1, 2):
        wait_for(_states(cluster, seer, 0, "up"), f"n{seer + 1} knows that n1 is up", PROMISE_S)
    cluster.wait_healthy()
    with first.client() as client:
        assert client.mget([f"k{i}" for i in range(KEYS)]) == [b"down%d" % i for i in range(KEYS)]


def test_a_frozen_node_is_not_up_and_comes_back(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    with cluster.nodes[2].frozen():
        for seer in (0, 1):
            wait_for(_states(cluster, seer, 2, "down"), f"n{seer + 1} knows that n3 is down", PROMISE_S)
    for seer in (0, 1):
        wait_for(_states(cluster, seer, 2, "up"), f"n{seer + 1} knows that n3 is up", PROMISE_S)
    assert set(cluster.nodes[2].states().values()) == {"up"}, "its own pause is no evidence against the others"


def test_with_two_of_three_dead_errors_come_at_once_and_tell_all(make_cluster: Callable[..., WireCluster]) -> None:
    # A deadline a minute away: whatever waits for it is caught by the client's own, so an answer is one given at once.
    cluster = make_cluster(config="request_timeout_ms = 60000")
    survivor = cluster.nodes[0]
    client = survivor.client(timeout_s=20)
    client.mset({f"k{i}": f"v{i}" for i in range(KEYS)})
    for node in cluster.nodes[1:]:
        node.kill()
    told = re.compile(r"NOQUORUM .*got=1 wanted=2 hinted=0 outcome=(\S+):")
    for i in range(KEYS):
        with pytest.raises(redis.ResponseError, match="NOQUORUM") as refused:
            client.set(f"k{i}", "lost")
        assert (match := told.match(str(refused.value))), refused.value
        assert match[1] in ("unwritten", "maybe-written")
        with pytest.raises(redis.ResponseError, match="NOQUORUM") as refused:
            client.get(f"k{i}")
        assert (match := told.match(str(refused.value))), refused.value
        assert match[1] == "unread"
    assert survivor.document("DYN.CLUSTER", "STATUS")["verdict"] == "unavailable"
    with survivor.client(single_connection_client=True) as single:
        assert single.execute_command("DYN.QUORUM", "R", 1) == [3, 1, 2]
        assert [single.get(f"k{i}") for i in range(KEYS)] == [b"v%d" % i for i in range(KEYS)]
        assert single.execute_command("DYN.QUORUM", "W", 1) == [3, 1, 1]
        assert all(single.set(f"k{i}", f"alone{i}") for i in range(KEYS))
        assert [single.get(f"k{i}") for i in range(KEYS)] == [b"alone%d" % i for i in range(KEYS)]
