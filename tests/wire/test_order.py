"""Writes that follow each other in time follow each other in causality, whichever nodes take them and whatever their
clocks say: the later one wins, and one version is left.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.cluster import WireCluster

ROUNDS = 240
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


def test_the_later_of_two_sets_through_different_nodes_wins(cluster: WireCluster) -> None:
    _check_order(cluster)


def test_deletes_are_in_order_too(cluster: WireCluster) -> None:
    clients = [node.client() for node in cluster.nodes]
    for number, (one, other, third) in zip(range(60), itertools.cycle(itertools.permutations(clients)), strict=False):
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
    cluster = make_cluster(environments=faked)
    clocks = [_log_time_s(node.log) - time.time() for node in cluster.nodes]
    assert clocks[2] - clocks[1] > 25, "the clock of n3 is not ahead"
    assert clocks[1] - clocks[0] > 25, "the clock of n1 is not behind"
    _check_order(cluster)


def _log_time_s(log: str) -> float:
    """The wall clock of the node when it wrote its first line."""
    stamp = log[: len("2026-01-01 00:00:00")]
    return time.mktime(time.strptime(stamp, "%Y-%m-%d %H:%M:%S"))
