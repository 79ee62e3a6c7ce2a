"""What the tests of repair share: filling a cluster, waiting until it has repaired itself, asking it to."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from server.core.records import versions
from server.core.records.records import storage_key_of
from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.disks import Records, assert_owners_equal
from tests.wire.ring_changes import status_text

BATCH = 500
REPAIR_S = 120.0
Values = dict[str, bytes | None]  # what stands under a key; None: it is deleted


def write(nodes: Sequence[WireNode], values: Mapping[str, bytes | None]) -> None:
    """Writes through all of the nodes in turn; every single write must be acknowledged."""
    names = list(values)
    clients = [node.client(timeout_s=30) for node in nodes]
    for batch, start in enumerate(range(0, len(names), BATCH)):
        pipeline = clients[batch % len(clients)].pipeline(transaction=False)
        for name in names[start : start + BATCH]:
            value = values[name]
            if value is None:
                pipeline.delete(name)
            else:
                pipeline.set(name, value)
        assert all(pipeline.execute())
    for client in clients:
        client.close()


def keys(node: WireNode) -> int:
    """How many keys a node holds."""
    return int(node.document("DYN.CLUSTER", "MYSELF")["keys"])


def hints(node: WireNode) -> dict[str, Any]:
    """DYN.HINTS LIST, as this node tells it of all."""
    return node.document("DYN.HINTS", "LIST")


def wait_delivered(cluster: WireCluster) -> None:
    """Waits until no node holds a hint."""
    wait_for(lambda: hints(cluster.nodes[0])["total"] == 0, "all hints are delivered", REPAIR_S)


def wait_whole(cluster: WireCluster, healthy: bool = True) -> None:
    """Waits until no node is owed anything: no hint is open, and all nodes have compared with all others twice in vain. For
    clusters whose `repair_interval_ms` is a matter of seconds."""
    if healthy:
        cluster.wait_healthy()
    wait_delivered(cluster)
    wait_for(lambda: _compares_in_vain(cluster), "the owners are equal", REPAIR_S)
    wait_for(
        lambda: "old copies of keys" not in status_text(cluster.nodes[0]),
        "no node keeps what it does not own",
        REPAIR_S,
    )


def _compares_in_vain(cluster: WireCluster) -> bool:
    def has_compared(node: WireNode, count: int) -> bool:
        return counters(node)["trees_compared"] >= count

    before = [counters(node) for node in cluster.nodes]
    rounds = len(cluster.nodes) - 1  # of each two nodes one leads, so this is two rounds
    for node, counted in zip(cluster.nodes, before, strict=True):
        goal = counted["trees_compared"] + rounds
        wait_for(partial(has_compared, node, goal), f"{node.name} has compared {rounds} times", REPAIR_S)
    after = [counters(node) for node in cluster.nodes]
    return [one["keys_repaired"] for one in before] == [one["keys_repaired"] for one in after]


def counters(node: WireNode) -> dict[str, int]:
    """What a node has counted since it started."""
    answered: dict[str, int] = node.document("DYN.STATS")["counters"]
    return answered


def repair(node: WireNode, *words: str) -> dict[str, Any]:
    """`dyn repair`, which must succeed; its document."""
    done = dyn("repair", "--json", *words, port=node.port, timeout_s=REPAIR_S)
    assert done.returncode == 0, done.stderr.decode()
    document: dict[str, Any] = json.loads(done.stdout)
    assert document["state"] == "done"
    return document


def wipe(node: WireNode) -> None:
    """The node that does not run loses its disk."""
    shutil.rmtree(node.directory / "data")


def _uptime_s(node: WireNode) -> int:
    with node.client() as client:
        return int(client.info("server")["uptime_in_seconds"])


def stop_and_compare(cluster: WireCluster) -> dict[str, Records]:
    """Stops the cluster: all owners must hold the same bytes. Returns the records of each node.

    Owners confirm what they have stored at their next tick. A node that stops before it has heard that keeps hints.
    """
    owners = cluster.nodes[0].document("DYN.RING", "SHOW")["owners"]
    begun_s = {node.name: _uptime_s(node) for node in cluster.nodes}
    for node in cluster.nodes:
        wait_for(lambda node=node: _uptime_s(node) >= begun_s[node.name] + 2, f"{node.name} has ticked")  # type: ignore[misc]
    cluster.stop()
    return assert_owners_equal(cluster, owners)


def assert_holds(records: Records, values: Mapping[str, bytes | None]) -> None:
    """A node has these values on its disk."""
    now_ms = time.time_ns() // 1_000_000
    for name, value in values.items():
        record = records.get(storage_key_of(name.encode()))
        found = None if record is None else versions.value_of(record, now_ms)
        assert found == value, f"{name}: {found!r} for {value!r}"
