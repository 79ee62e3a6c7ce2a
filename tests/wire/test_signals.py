"""Signals that must not end a node: SIGHUP reads files again, SIGUSR1 says where its threads are."""

from __future__ import annotations

import signal
from collections.abc import Callable

from tests.wire.cluster import WireCluster, wait_for


def test_a_node_goes_on_after_each_of_them(make_cluster: Callable[..., WireCluster]) -> None:
    [node] = make_cluster(nodes=1).nodes
    node.signal(signal.SIGUSR2)
    node.signal(signal.SIGUSR1)
    node.signal(signal.SIGHUP)
    wait_for(lambda: "most recent call first" in node.log, "the stacks are in its log")
    wait_for(
        lambda: "SIGHUP: settings, certificates, secrets and keys are read again" in node.log,
        "its files were read again",
    )
    assert node.document("DYN.CLUSTER", "STATUS")["verdict"] == "healthy"
