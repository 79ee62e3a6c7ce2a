"""A node whose wall clock is off is told so, in its log, and every status shows it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.wire.cluster import WireCluster, WireNode, wait_for

LIBFAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")


def test_a_clock_twelve_minutes_ahead_is_told_and_shown(make_cluster: Callable[..., WireCluster]) -> None:
    if not LIBFAKETIME.exists():
        pytest.skip(f"{LIBFAKETIME} is missing (package libfaketime)")
    # The monotonic clock stays true, as it does on a machine whose wall clock is wrong.
    ahead = {"LD_PRELOAD": str(LIBFAKETIME), "FAKETIME": "+720s", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    cluster = make_cluster(environments={2: ahead}, config="clock_warn_ms = 1000000")  # or it would not be healthy
    n1, _, n3 = cluster.nodes
    cluster.stop()
    (n1.directory.parent / "settings.toml").write_text("")
    cluster.start()
    told = re.compile(r"this node's clock is 720 s ahead of those of most members: set it")
    wait_for(lambda: told.search(n3.log), "n3 says that its clock is ahead")
    for node in cluster.nodes:
        what = f"{node.name} shows that the clock of n3 is ahead, and nothing else"
        wait_for(lambda node=node: "the clock of n3 is 720 s ahead of the others'" in _summary(node), what)
        assert node.document("DYN.CLUSTER", "STATUS")["verdict"] == "degraded"
        assert "the clock of n1" not in _summary(node)
    assert "this node's clock" not in n1.log
    assert n1.client().set("key", "value")


def _summary(node: WireNode) -> str:
    return str(node.document("DYN.CLUSTER", "STATUS")["summary"])
