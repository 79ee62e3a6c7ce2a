"""A node that was away for many writes is whole again: by hints, by repair where there was no room for hints, and by
repair after its disk was wiped (see also test_repair.py). Judged on the disks of the stopped nodes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from tests.wire.cluster import WireCluster, WireNode, dyn, wait_for
from tests.wire.repairs import Values, assert_holds, hints, keys, repair, stop_and_compare, wait_delivered, wipe, write

WRITES = 5_000
WRITES_SOAK = 100_000
SELDOM = "repair_interval_ms = 3600000\n"  # no comparison by the clock
NO_ROOM = SELDOM + "hints_bytes_max = 20000\n"  # for a hundred hints or less
MakeCluster = Callable[..., WireCluster]


def _before(count: int) -> Values:
    """A third of the keys are there before the node goes away."""
    return {f"k{number}": b"before" for number in range(0, count, 3)}


def _meanwhile(count: int) -> Values:
    """While it is away all keys are written, and some of those that were there are deleted."""
    return {f"k{number}": None if number % 9 == 0 else b"meanwhile%d" % number for number in range(count)}


def _write_while_away(cluster: WireCluster, count: int) -> WireNode:
    """The third node misses `count` writes, and does not run afterwards."""
    *present, absent = cluster.nodes
    write(cluster.nodes, _before(count))
    # Else the node might die with what it has written and not yet sent to both others: no hint would be kept of that.
    wait_for(
        lambda: all(keys(node) == len(_before(count)) for node in cluster.nodes), "all nodes hold what was written"
    )
    absent.kill()
    write(present, _meanwhile(count))
    return absent


def _whole_by_hints(cluster: WireCluster, count: int) -> None:
    absent = _write_while_away(cluster, count)
    wait_for(lambda: hints(cluster.nodes[0])["total"] == count, "there is a hint for each write")
    listed = dyn("hints", "list", "--json", port=cluster.nodes[0].port)
    document = json.loads(listed.stdout)
    assert {entry["owner"] for entry in document["hints"]} == {absent.name}
    assert document["behind"] == []
    absent.start()
    cluster.wait_healthy()
    wait_delivered(cluster)
    delivered = sum(node.document("DYN.STATS")["counters"]["hints_delivered"] for node in cluster.nodes)
    assert delivered >= count  # on a busy machine one may be delivered twice
    disks = stop_and_compare(cluster)
    assert_holds(disks[absent.name], _meanwhile(count))


def _whole_by_repair(cluster: WireCluster, count: int) -> None:
    present = cluster.nodes[0]
    absent = _write_while_away(cluster, count)
    wait_for(lambda: hints(present)["behind"] == [absent.name], "it is known that there was no room for hints")
    _repair_fails_without(present, absent)
    absent.start()
    wait_for(lambda: "down" not in present.states().values(), "it is back")
    assert absent.name in present.document("DYN.CLUSTER", "STATUS")["summary"]
    wait_delivered(cluster)
    document = repair(present)
    assert document["keys_compared"] >= count
    cluster.wait_healthy()
    disks = stop_and_compare(cluster)
    assert_holds(disks[absent.name], _meanwhile(count))


def _repair_fails_without(present: WireNode, absent: WireNode) -> None:
    wait_for(lambda: present.states()[absent.name] == "down", "it is known to be down")
    done = dyn("repair", "--json", port=present.port)
    document = json.loads(done.stdout)
    assert (done.returncode, document["state"]) == (1, "failed")
    assert absent.name in document["error"]
    assert document["partitions_done"] == document["partitions"], "the others are compared all the same"


def _whole_after_a_wipe(cluster: WireCluster, count: int) -> None:
    absent = cluster.nodes[2]
    values = _before(count) | _meanwhile(count)
    write(cluster.nodes, _before(count))
    write(cluster.nodes, _meanwhile(count))
    absent.kill()
    wipe(absent)
    absent.start()
    cluster.wait_healthy()
    repair(cluster.nodes[0])
    repair(absent)  # asked itself, too
    disks = stop_and_compare(cluster)
    assert_holds(disks[absent.name], values)


def test_a_node_that_was_away_is_whole_by_hints_alone(make_cluster: MakeCluster) -> None:
    _whole_by_hints(make_cluster(config=SELDOM), WRITES)


def test_a_node_whose_hints_had_no_room_is_whole_by_repair(make_cluster: MakeCluster) -> None:
    _whole_by_repair(make_cluster(config=NO_ROOM), WRITES)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_long_absence(make_cluster: MakeCluster) -> None:
    _whole_by_hints(make_cluster(config=SELDOM), WRITES_SOAK)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_long_absence_without_room_for_hints(make_cluster: MakeCluster) -> None:
    _whole_by_repair(make_cluster(config=NO_ROOM), WRITES_SOAK)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_the_wipe_of_a_large_disk(make_cluster: MakeCluster) -> None:
    _whole_after_a_wipe(make_cluster(config=SELDOM), WRITES_SOAK)
