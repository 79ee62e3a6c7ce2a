"""SIGSTOP in the middle of a load: a node that stands still holds nobody up, and when it goes on it brings nothing old
back over anything newer.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import pytest

from protocol import resp
from tests.wire.cluster import WireCluster, WireNode, wait_for
from tests.wire.load import Load
from tests.wire.raw import raw, read_exactly

pytestmark = pytest.mark.serial  # the lengths of the freezes lie between deadlines of the nodes
FREEZE_S = 6.0
ROUNDS = 3


def _pass_s(seconds: float) -> None:
    """Lets a fault last: the length of a freeze is what these tests are about."""
    threading.Event().wait(seconds)


def _key_owned_first_by(node: WireNode, prefix: str) -> str:
    names = (f"{prefix}:{number}" for number in range(1000))
    return next(name for name in names if node.document("DYN.RING", "LOCATE", name)["owners"][0] == node.name)


def test_a_frozen_node_holds_nobody_up_and_brings_nothing_old_back(make_cluster: Callable[..., WireCluster]) -> None:
    cluster = make_cluster()
    sleeper = cluster.nodes[0]
    load = Load(cluster.ports, timeout_s=3.0)
    with load.running():
        load.more(200)
        with sleeper.frozen():
            before = load.writes
            _pass_s(FREEZE_S)
            assert load.writes > before + 1000, "the others did not go on"
        load.more(200)
        cluster.wait_healthy()
        load.more(200)
    assert not load.errors, load.errors[:10]
    assert load.breaks <= 2, "only the connections to the frozen node may have been given up"
    load.assert_all_there(*cluster.nodes)


def test_the_first_write_after_a_thaw_is_the_newest(make_cluster: Callable[..., WireCluster]) -> None:
    """A node that wakes with an old reading of the clock takes a write, in the very pass of its loop in which it wakes,
    of a key that the others have written meanwhile: the write came later, and has to win."""
    cluster = make_cluster()
    sleeper, other, third = cluster.nodes
    clients = {node.name: node.client() for node in cluster.nodes}
    for number in range(ROUNDS):
        key = _key_owned_first_by(sleeper, f"thawed:{number}")
        with raw(sleeper.port) as direct:
            direct.sendall(b"PING\r\n")
            assert read_exactly(direct, 7) == b"+PONG\r\n"
            request = resp.command("SET", key, "when it woke")
            with sleeper.frozen():
                direct.sendall(request[:1])  # so that this is the first connection that it reads when it wakes
                assert clients[other.name].set(key, "while it slept")
                _pass_s(0.02)  # both writes in one reading of the clock, a millisecond, would have no order
                direct.sendall(request[1:])
            assert read_exactly(direct, 5) == b"+OK\r\n"
        for node in (third, other, sleeper):
            assert clients[node.name].get(key) == b"when it woke", f"round {number}, through {node.name}"
        cluster.wait_healthy()


def test_pipelined_writes_keep_their_order_across_a_freeze(make_cluster: Callable[..., WireCluster]) -> None:
    """Two writes of one key, on one connection, wait for a coordinator that stands still: when it goes on, the first
    has waited too long and is refused, the second has not. The second came second all the same."""
    cluster = make_cluster()
    sleeper, other, _ = cluster.nodes
    for number in range(ROUNDS):
        key = _key_owned_first_by(sleeper, f"pipelined:{number}")
        with raw(other.port) as client:
            with sleeper.frozen():
                client.sendall(resp.command("SET", key, "first"))
                _pass_s(1.15)  # more than relay_stale_ms, less than relay_silence_ms
                client.sendall(resp.command("SET", key, "second"))
                _pass_s(0.15)
            assert read_exactly(client, 10) == b"+OK\r\n+OK\r\n"
        for node in cluster.nodes:
            assert node.client().get(key) == b"second", f"round {number}, through {node.name}"
        cluster.wait_healthy()


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_set_is_answered_early_while_an_increment_waits(make_cluster: Callable[..., WireCluster]) -> None:
    """Once no node has stalled for a while: the next owner runs the SET, and the one that is frozen counts the INCR."""
    cluster = make_cluster()
    sleeper, other, _ = cluster.nodes

    def told(node: WireNode, name: str) -> int:
        return int(node.client().info("dyn")[name])

    wait_for(lambda: max(told(node, "silence_limit_ms") for node in cluster.nodes) <= 900, "low limits", 300.0)
    key = _key_owned_first_by(sleeper, "early")
    with raw(other.port) as setter, raw(other.port) as counter:
        with sleeper.frozen():
            counter.sendall(resp.command("INCR", f"{{{key}}}:n"))
            setter.sendall(resp.command("SET", key, "v"))
            assert read_exactly(setter, 5) == b"+OK\r\n"
            counter.setblocking(False)
            with pytest.raises(BlockingIOError):
                counter.recv(1)
            assert told(other, "coordinators_given_up") == 1
        counter.settimeout(20.0)
        assert read_exactly(counter, 4) == b":1\r\n"


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_freezes_of_all_lengths(make_cluster: Callable[..., WireCluster]) -> None:
    """Around every deadline but request_timeout_ms: relays refused as stale, those that just are not, links that hold."""
    cluster = make_cluster()
    load = Load(cluster.ports, timeout_s=5.0)
    rng = random.Random(3)
    with load.running():
        for number in range(40):
            load.more(50)
            with cluster.nodes[number % 3].frozen():
                _pass_s(rng.uniform(0.2, 2.6))
            load.more(50)
            if number % 4 == 3:
                cluster.wait_healthy()
    assert not load.errors, load.errors[:10]
    load.assert_all_there(*cluster.nodes)
