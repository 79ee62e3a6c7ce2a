"""Real processes with a fault of their own: they end with status and traceback, and started again they are whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.load import Load

PLANTED = str(Path(__file__).parent / "planted")
STATUS = 70  # EX_SOFTWARE


def restart_with(node: WireNode, place: str) -> None:
    """Stops a node, and starts it with a fault planted at a place."""
    node.stop()
    node._environment = {"PYTHONPATH": PLANTED, "DYN_PLANTED": place}
    node.start()


def start_again(cluster: WireCluster, node: WireNode) -> str:
    """What a service manager does. Returns what the log has said since it was last read."""
    node.upgrade()  # no fault is planted
    node.start()
    wait_for(node.serves, f"{node.name} serves again")
    cluster.wait_healthy()
    return read_log(node)


def read_log(node: WireNode) -> str:
    """What the log has said since it was last read."""
    news, node.log_read = node.log[node.log_read :], len(node.log)
    return news


@pytest.fixture
def own_cluster(make_cluster: Callable[..., WireCluster]) -> WireCluster:
    """Three nodes of its own for each test."""
    return make_cluster()


@pytest.mark.parametrize("place", ["procedure change coordinator", "message SAME"])
def test_a_fault_ends_the_process_and_started_again_it_is_whole(place: str, own_cluster: WireCluster) -> None:
    broken, *others = own_cluster.nodes
    load = Load([node.port for node in others])
    with load.running():
        load.more(50)
        restart_with(broken, place)
        wait_for(lambda: _touch(broken) or broken.has_ended(), f"n1 ends by {place}")
        assert broken.wait() == STATUS
        load.more(50)
    assert not load.errors, load.errors[:10]
    news = start_again(own_cluster, broken)
    assert "stops after an unexpected exception" in news
    assert f"PlantedFault: planted at {place}" in news and "Traceback" in news
    load.assert_all_there(*own_cluster.nodes)


def _touch(node: WireNode) -> bool:
    """Makes the node ask others, who answer."""
    try:
        with node.client() as client:
            client.execute_command("SET", "touched", "1")
            client.execute_command("GET", "touched")
    except Exception:  # noqa: BLE001 (it may end at any moment, or not serve yet)
        return False
    return False


@pytest.mark.parametrize("place", ["message STORE", "message RELAY"])
def test_a_request_of_a_peer_that_is_not_digested_is_refused_and_nobody_ends(
    place: str, own_cluster: WireCluster
) -> None:
    broken, *others = own_cluster.nodes
    restart_with(broken, place)
    wait_for(broken.serves, "n1 serves")
    with others[0].client() as client:
        for number in range(300):
            try:
                client.execute_command("SET", f"k{number}", "value")
                client.execute_command("GET", f"k{number}")
            except Exception as error:  # noqa: BLE001
                assert "internal error" in str(error), error
    own_cluster.wait_healthy()
    with broken.client() as client:
        assert client.info("dyn")["messages_undigested"] == 1
    assert not broken.has_ended()
    news = read_log(broken)
    assert news.count("Traceback") == 1 and f"PlantedFault: planted at {place}" in news
    status = broken.document("DYN.CLUSTER", "STATUS")
    assert [node.get("internal_errors", 0) for node in status["nodes"]] == [1, 0, 0]
