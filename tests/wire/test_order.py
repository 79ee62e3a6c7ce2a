"""Writes that follow each other in time follow each other in causality, whichever nodes take them and whatever their
clocks say: the later one wins, and one version is left.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from protocol import resp
from tests.wire.cluster import WireCluster
from tests.wire.raw import raw, read_exactly

ROUNDS = 240
MUTED_COMMANDS = 16_500  # more than twice pipeline_max, and a multiple of a hundred
LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def _check_order(cluster: WireCluster) -> None:
    """One SET through a node, one through another, a GET through the third; over keys of all partitions, some of which
    are written for the first time and some again, and all orders of the three nodes."""
    clients = [node.client() for node in cluster.nodes]
    orders = itertools.cycle(itertools.permutations(clients))
    for number, (one, other, third) in zip(range(ROUNDS), orders, strict=False):
        key = f"order:{number % (ROUNDS // 2)}"
        assert one.set(key, f"first {number}")
        assert other.set(key, f"second {number}")
        assert third.get(key) == b"second %d" % number
        for client in (one, other, third):
            context, values = client.execute_command("DYN.GET", key, "R", 3)
            assert values == [b"second %d" % number], f"round {number}: {values}"
            assert context


def _check_order_with_one_behind(cluster: WireCluster) -> None:
    """The second SET comes to a node that has not read yet what the first one, answered already, has sent there."""
    clients = [node.client() for node in cluster.nodes]
    orders = itertools.cycle(itertools.permutations(range(3)))
    for number, (one, behind, third) in zip(range(ROUNDS // 4), orders, strict=False):
        name = f"behind:{number}"
        key = next(key for key in (f"{name}:{n}" for n in range(1000)) if _first_owner(cluster, key) != behind)
        with raw(cluster.ports[behind]) as second:
            second.sendall(b"PING\r\n")
            assert read_exactly(second, 7) == b"+PONG\r\n"
            with cluster.nodes[behind].frozen():
                request = resp.command("SET", key, f"second {number}")
                second.sendall(request[:1])  # so that this connection is the first in the queue of those to be read
                assert clients[one].set(key, f"first {number}")
                second.sendall(request[1:])
            assert read_exactly(second, 5) == b"+OK\r\n"
        assert clients[third].get(key) == b"second %d" % number
        for client in clients:
            values = client.execute_command("DYN.GET", key, "R", 3)[1]
            assert values == [b"second %d" % number], f"round {number}: {values}"


def _first_owner(cluster: WireCluster, key: str) -> int:
    """The place of the node that coordinates the key's writes."""
    owners = cluster.nodes[0].document("DYN.RING", "LOCATE", key)["owners"]
    return int(owners[0].removeprefix("n")) - 1


def test_the_later_of_two_sets_through_different_nodes_wins(cluster: WireCluster) -> None:
    _check_order(cluster)


def test_also_when_the_second_node_has_not_read_of_the_first_write(make_cluster: Callable[..., WireCluster]) -> None:
    _check_order_with_one_behind(make_cluster())


def test_deletes_are_in_order_too(cluster: WireCluster) -> None:
    clients = [node.client() for node in cluster.nodes]
    orders = itertools.cycle(itertools.permutations(clients))
    for number, (one, other, third) in zip(range(60), orders, strict=False):
        key = f"deleted:{number}"
        assert one.set(key, "there")
        assert other.delete(key) == 1
        assert third.get(key) is None
        assert one.set(key, "again")
        assert third.execute_command("DYN.GET", key, "R", 3)[1] == [b"again"]


def test_also_with_the_clocks_of_the_nodes_30_s_apart(make_cluster: Callable[..., WireCluster]) -> None:
    if not LIBFAKETIME.exists():
        pytest.skip(f"{LIBFAKETIME} is missing (package libfaketime)")
    # The monotonic clock stays true, as it does on a machine whose wall clock is wrong.
    offsets = {0: "-30s", 2: "+30s"}
    faked = {
        place: {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
        for place, offset in offsets.items()
    }
    cluster = make_cluster(environments=faked, config="clock_warn_ms = 60000")
    clocks = [_log_time_s(node.log) - time.time() for node in cluster.nodes]
    assert clocks[2] - clocks[1] > 15, "the clock of n3 is not ahead"  # they do not start in the same second
    assert clocks[1] - clocks[0] > 15, "the clock of n1 is not behind"
    _check_order(cluster)
    _check_order_with_one_behind(cluster)


def _log_time_s(log: str) -> float:
    """The wall clock of the node when it wrote its first line."""
    stamp = log[: len("2026-01-01 00:00:00")]
    return time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))


def test_a_client_that_wants_no_replies_is_read_on(cluster: WireCluster) -> None:
    """CLIENT REPLY OFF with more commands than may be in flight at a time: nobody writes to it, and it must not stall."""
    with raw(cluster.ports[0]) as connection:
        connection.sendall(resp.command("CLIENT", "REPLY", "OFF"))
        for number in range(MUTED_COMMANDS):
            connection.sendall(resp.command("SET", f"muted:{number % 100}", number))
        connection.sendall(resp.command("CLIENT", "REPLY", "ON") + resp.command("GET", "muted:99"))
        last = resp.OK + resp.bulk(b"%d" % (MUTED_COMMANDS - 1))
        assert read_exactly(connection, len(last)) == last
