"""SWAPDB on three real nodes: at once by clients of all, with one node killed and one frozen, and over a restart."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest
import redis

from protocol.databases import DATABASES
from tests.wire.cluster import WireCluster, WireNode, connect, wait_for

NODES = 3


@pytest.fixture
def swapping(make_cluster: Callable[..., WireCluster]) -> Iterator[WireCluster]:
    """Three nodes; `mark` is the number of its database."""
    cluster = make_cluster(nodes=NODES)
    for number in range(DATABASES):
        with client(cluster.nodes[0], number) as each:
            each.set("mark", number)
    yield cluster


def client(node: WireNode, database: int = 0) -> redis.Redis:
    """A client of a database."""
    each: redis.Redis = connect(node.port, decode_responses=True)
    each.execute_command("SELECT", database)
    return each


def marks(node: WireNode) -> list[str]:
    """The marks of all databases, as a node shows them."""
    found = []
    with client(node) as each:
        for number in range(DATABASES):
            each.execute_command("SELECT", number)
            found.append(each.get("mark"))
    return found


def after(*swaps: tuple[int, int]) -> list[str]:
    """The marks after swaps."""
    found = [str(number) for number in range(DATABASES)]
    for first, second in swaps:
        found[first], found[second] = found[second], found[first]
    return found


def test_all_clients_see_a_swap_and_nodes_keep_it(swapping: WireCluster) -> None:
    first, second, third = [client(node) for node in swapping.nodes]
    waiting = client(swapping.nodes[2])
    popped: list[object] = []
    thread = threading.Thread(target=lambda: popped.append(waiting.blpop(["queue"], 30)))
    thread.start()
    wait_for(lambda: bool(third.info("clients")["blocked_clients"]), "a client that waits")
    assert first.swapdb(0, 5)
    assert [each.get("mark") for each in (first, second, third)] == ["5"] * NODES
    second.rpush("queue", "element")
    thread.join(30)
    assert popped == [("queue", "element")]
    assert [marks(node) for node in swapping.nodes] == [after((0, 5))] * NODES
    swapping.stop()
    swapping.start()
    swapping.wait_healthy()
    assert [marks(node) for node in swapping.nodes] == [after((0, 5))] * NODES


def test_swaps_through_all_nodes_at_once_are_all_done(swapping: WireCluster) -> None:
    """Each thread swaps two databases of its own an odd number of times, so all orders come to the same."""
    errors: list[Exception] = []

    def swap(place: int) -> None:
        try:
            with client(swapping.nodes[place]) as each:
                for _ in range(7):
                    each.swapdb(2 * place, 2 * place + 1)
        except redis.RedisError as error:
            errors.append(error)

    threads = [threading.Thread(target=swap, args=(place,)) for place in range(NODES)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert errors == []
    assert [marks(node) for node in swapping.nodes] == [after((0, 1), (2, 3), (4, 5))] * NODES


def test_a_node_that_was_killed_or_frozen_has_the_swap_when_it_is_back(swapping: WireCluster) -> None:
    first, second, third = swapping.nodes
    second.kill()
    wait_for(lambda: first.states()[second.name] == "down", "the other node to be known to be down")
    with client(first) as each:
        assert each.swapdb(0, 1)
    second.start()
    assert wait_for(lambda: second.serves(), "the node that was killed") and marks(second) == after((0, 1))
    swapping.wait_healthy()
    with third.frozen(), client(first) as each:
        wait_for(lambda: first.states()[third.name] == "down", "the frozen node to be known to be down")
        assert each.swapdb(2, 3)
    swapping.wait_healthy()
    assert [marks(node) for node in swapping.nodes] == [after((0, 1), (2, 3))] * NODES
