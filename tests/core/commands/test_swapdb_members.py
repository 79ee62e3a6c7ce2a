"""Once databases are swapped, a node that joins must know swaps, and knows them before it serves clients."""

from __future__ import annotations

import random
from dataclasses import replace

from protocol.bounds import COUNTER_MAX, NODE_ID_BYTES_MAX
from protocol.peer_versions import SWAPS
from server.core.messages.numberings import numberings_in
from server.core.ring.change import JOIN
from server.core.shared.numberings import (
    CLUSTER_BYTES_MAX,
    CLUSTERS_MAX,
    SWAPS_MAX,
    NumberingEntry,
    Numberings,
    OrderedSwap,
    swap_id,
)
from tests.core.commands.swapping import NODES, Swapping, entry, swapped
from tests.core.commands.talking import Client, layout_of, make_node, member
from tests.core.commands.test_membership import ask, error, myself


def test_once_databases_are_swapped_a_node_must_know_that_to_join() -> None:
    node, old = make_node(1), myself(4)
    assert ask(node, f"JOIN {old}")["changes"] == 1
    swapped = Client(node).error("SWAPDB 0 1")
    assert swapped.endswith("have not announced one to node n1: n4; commit or abort first")
    assert ask(node, "ABORT") == {"aborted": 1}
    assert Client(node).ask("SWAPDB 0 1") == "OK"
    assert error(node, f"JOIN {old}").startswith("ERR node n4 (10.0.0.4:7004) runs a version that does not read ")
    new = myself(4, capabilities=["orderly", "entries", "databases", "quorums", "replicas", "swaps"])
    assert ask(node, f"JOIN {new}")["changes"] == 1
    assert Client(node).ask("SWAPDB 0 1") == "OK", "a node that knows it may be staged"
    assert Client(node).ask("SWAPDB 2 3") == "OK"
    assert ask(node, "COMMIT 8")["epoch"] == 8


def test_a_join_that_was_staged_elsewhere_is_committed_only_if_its_node_knows_swaps() -> None:
    node = make_node(1)
    assert Client(node).ask("SWAPDB 0 1") == "OK"
    assert node.state.layout is not None
    fields = {"name": "n4", "address": "10.0.0.4:7004", "zone": "b", "weight": 1}
    node.services.staging.stage(node.state.layout, JOIN, member(4).id, **fields)
    assert error(node, "COMMIT 8").startswith("ERR node n4 (10.0.0.4:7004) runs a version that does not read ")
    node.state.with_swaps.announced(member(4).id, (SWAPS,))
    assert ask(node, "COMMIT 8")["epoch"] == 8


def test_a_node_that_joins_knows_the_swaps_as_soon_as_it_is_a_member() -> None:
    """It hears of them before it has a layout, from whoever opens a link to it."""
    cluster = Swapping()
    assert cluster.client(0).ask("SWAPDB 0 1") == "OK"
    place = cluster.add()
    for other in range(NODES):
        cluster.connect(other, place)
    cluster.end_turn(0)
    newcomer, layout = cluster.nodes[place], cluster.nodes[0].state.layout
    assert newcomer.state.layout is None and layout is not None
    members = layout_of(tuple([member(number) for number in range(1, NODES + 2)]))
    newcomer.services.membership.offer(replace(members, epoch=layout.epoch + 1))
    assert newcomer.state.layout is not None and newcomer.state.numbering.spaces == swapped((0, 1))


def test_a_node_that_is_no_member_keeps_the_numberings_of_some_clusters_and_others_can_read_them() -> None:
    node = make_node(0)
    numbering, chance = node.services.numbering, random.Random(1)
    largest = NumberingEntry()
    for place in range(SWAPS_MAX):
        swap = OrderedSwap(COUNTER_MAX - 1000 + place, "n" * NODE_ID_BYTES_MAX, swap_id(1, chance), 10, 11)
        largest = largest.with_swap(swap)
    for number in range(CLUSTERS_MAX):
        numbering.merge(Numberings({b"%d" % number * (CLUSTER_BYTES_MAX // 2): largest}))
    document = numbering.sharing.document
    assert len(document.entries) == CLUSTERS_MAX and numberings_in(document.encode()) == document
    for number in range(5):
        numbering.merge(Numberings({b"late %d" % number: entry(COUNTER_MAX, (0, 1))}))
        numbering.merge(Numberings({b"early %d" % number: entry(number + 1, (0, 1))}))
    kept = numbering.sharing.document
    assert len(kept.entries) == CLUSTERS_MAX and numberings_in(kept.encode()) == kept
    assert sum(name.startswith(b"late") for name in kept.entries) == 5
    assert not any(name.startswith(b"early") for name in kept.entries)
