"""SWAPDB among three nodes: no swap is lost, and OK means that every node that may serve clients has it."""

from __future__ import annotations

import json
import random
from itertools import permutations

import pytest

from protocol.bounds import COUNTER_MAX
from protocol.databases import DATABASES, UNSWAPPED
from protocol.peer_versions import CAPABILITIES, SWAPS
from server.core.base.errors import CommandError
from server.core.base.room import FOR_NOTHING, FOR_WRITES
from server.core.messages.numberings import Swap
from server.core.node import Node
from server.core.records.records import META
from server.core.scripts.libraries import LibraryEntry
from server.core.shared.numberings import SWAPS_MAX, Numberings, swap_id
from server.core.users.document import UserEntry
from server.core.users.rules import User
from tests.core.commands.swapping import NODES, NOTHING, PAIRS, Swapping, document, entry, filled, swapped
from tests.core.commands.talking import CONFIG, WALL_MS, Client, Store, finish_turn, go_by_own_clock, make_node, member

# --- at the same moment


@pytest.mark.parametrize("places", [*permutations(range(NODES), 2)])
def test_of_two_swaps_at_the_same_moment_none_is_lost(places: tuple[int, int]) -> None:
    cluster = Swapping()
    one, other = [cluster.client(place) for place in places]
    one.begin("SWAPDB 0 1")
    other.begin("SWAPDB 2 3")
    assert (one.reply(), other.reply()) == ("OK", "OK")
    assert cluster.spaces() == [swapped((0, 1), (2, 3))] * NODES


@pytest.mark.parametrize("cut", PAIRS)
def test_nodes_that_disagree_who_orders_swaps_lose_none(cut: tuple[int, int]) -> None:
    cluster = Swapping()
    cluster.cut(*cut)
    talkers = [cluster.client(place) for place in range(NODES)]
    for number, talker in enumerate(talkers):
        talker.begin(f"SWAPDB {2 * number} {2 * number + 1}")
    cluster.step()
    cluster.connect(*cut)
    assert [talker.reply() for talker in talkers] == ["OK"] * NODES
    assert cluster.spaces() == [swapped((0, 1), (2, 3), (4, 5))] * NODES


@pytest.mark.parametrize("seed", range(4))
def test_many_swaps_at_once_are_some_order_of_them(seed: int) -> None:
    chance, cluster = random.Random(seed), Swapping(seed)
    swaps = [(chance.randrange(DATABASES), chance.randrange(DATABASES)) for _ in range(6)]
    talkers = [cluster.client(chance.randrange(NODES)) for _ in swaps]
    for talker, (first, second) in zip(talkers, swaps, strict=True):
        talker.begin(f"SWAPDB {first} {second}")
    assert [talker.reply() for talker in talkers] == ["OK"] * len(swaps)
    spaces = cluster.spaces()
    assert spaces == spaces[:1] * NODES and spaces[0] in {swapped(*order) for order in permutations(swaps)}


# --- what OK means


def test_ok_waits_for_every_node_that_is_not_known_to_be_down() -> None:
    cluster = Swapping()
    cluster.cut(1, 2)  # so that n3 hears of the swap from nobody else
    talker = cluster.client(1)
    cluster.freeze(0)
    cluster.run(500)
    talker.begin("SWAPDB 0 1")
    assert talker.reply(200) is NOTHING
    cluster.connect(1, 2)
    cluster.thaw(0)
    assert talker.reply() == "OK"
    assert cluster.spaces() == [swapped((0, 1))] * NODES


def test_a_frozen_node_makes_the_outcome_unknown_until_it_is_known_to_be_down() -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    cluster.freeze(2)
    error = talkers[0].ask("SWAPDB 0 1")
    assert error.startswith("TIMEOUT databases 0 and 1 are swapped, but nodes have not confirmed it within "), error
    assert "request_timeout_ms=3000: n3. " in error and error.endswith("a second SWAPDB would swap them back")
    assert cluster.spaces() == [swapped((0, 1)), swapped((0, 1)), swapped()]
    cluster.run(4500)
    assert talkers[1].ask("SWAPDB 2 3") == "OK", "n3 is down"
    cluster.thaw(2)
    cluster.step()
    assert cluster.spaces() == [swapped((0, 1), (2, 3))] * NODES
    assert talkers[2].ask("GET k") == "one"


def test_a_swap_survives_the_loss_of_the_node_that_orders_it() -> None:
    cluster = Swapping()
    talker = cluster.client(2)
    cluster.freeze(0)
    talker.begin("SWAPDB 0 1")
    for other in (1, 2):
        cluster.cut(0, other)
    assert talker.reply() == "OK"
    cluster.thaw(0)
    for other in (1, 2):
        cluster.connect(0, other)
    cluster.run(2000)
    assert cluster.spaces() == [swapped((0, 1))] * NODES, "it was not swapped twice"


def test_a_node_that_was_suspended_swaps_nothing_twice() -> None:
    """What it finds in its buffers was ordered by another node meanwhile."""
    cluster = Swapping()
    talkers = [cluster.client(place) for place in range(NODES)]
    cluster.freeze(0)
    for number, talker in enumerate(talkers[1:]):
        talker.begin(f"SWAPDB {2 * number} {2 * number + 1}")
    asked = [message for _, message in cluster.frozen[0] if b"SWAP" in message]
    assert len(asked) == 2
    cluster.run(2600)
    cluster.thaw(0)
    assert [talker.reply() for talker in talkers[1:]] == ["OK"] * 2
    assert cluster.spaces() == [swapped((0, 1), (2, 3))] * NODES


def test_after_a_partition_the_swaps_of_both_sides_are_done() -> None:
    cluster = Swapping()
    talkers = filled(cluster)
    cluster.cut(0, 1), cluster.cut(0, 2)
    cluster.run(6000)
    assert talkers[1].ask("SWAPDB 0 1") == "OK"
    cluster.run(200)
    assert talkers[0].ask("SWAPDB 2 3") == "OK"
    assert cluster.spaces() == [swapped((2, 3)), swapped((0, 1)), swapped((0, 1))]
    cluster.connect(0, 1), cluster.connect(0, 2)
    cluster.run(2000)
    assert cluster.spaces() == [swapped((0, 1), (2, 3))] * NODES
    assert [talker.ask("GET k") for talker in talkers] == ["one"] * NODES


def test_a_node_that_was_away_hears_of_the_swap_before_it_serves_clients() -> None:
    cluster = Swapping()
    filled(cluster)
    cluster.cut(0, 2), cluster.cut(1, 2)
    cluster.run(6000)
    assert cluster.client(0).ask("SWAPDB 0 1") == "OK"
    cluster.nodes[2] = cluster.make_node(2, run=1)  # the process begins anew
    talker = cluster.client(2)
    talker.begin("GET k")
    assert cluster.nodes[2].state.numbering is UNSWAPPED
    cluster.connect(0, 2)
    assert talker.reply() == "one"


def test_a_node_has_its_numbering_again_after_a_restart() -> None:
    cluster = Swapping()
    assert cluster.client(0).ask("SWAPDB 0 1") == "OK"
    assert [cluster.make_node(place, run=1).state.numbering.spaces for place in range(NODES)] == cluster.spaces()


def test_a_node_is_upgraded_that_has_a_numbering_of_the_former_form_on_its_disk() -> None:
    """Such an entry was the numbering itself, with the version of its last swap and the ids of the latest ones."""
    node, ids = make_node(), [f"{number:024x}" for number in range(SWAPS_MAX)]
    store = node.state.records._store
    assert isinstance(store, Store)
    row = ["1f", member(2).id, [*swapped((0, 1))], ids]
    store.pairs[META + b"numberings"] = json.dumps({"floor": "0", "numberings": {"c": row}}).encode()
    numbering = [UNSWAPPED.spaces]
    for run, pair in ((2, (1, 2)), (3, (0, 5))):
        node = Node(member(1), b"actor--%d" % run, run, CONFIG, store, random.Random(run), WALL_MS)
        go_by_own_clock(node)
        assert node.state.records.damaged == 0 and node.services.numbering.has_swap(ids[-1])
        numbering.append(node.state.numbering.spaces)
        assert Client(node).ask(f"SWAPDB {pair[0]} {pair[1]}") == "OK"
        finish_turn(node)
    assert numbering[1:] == [swapped((0, 1)), swapped((0, 1), (1, 2))]
    assert node.state.numbering.spaces == swapped((0, 1), (1, 2), (0, 5))


# --- who takes part


def test_a_member_that_does_not_know_swaps_must_be_upgraded_first() -> None:
    cluster = Swapping(capabilities=tuple([word for word in CAPABILITIES if word != SWAPS]))
    error = cluster.client(1).ask("SWAPDB 0 1")
    assert error.startswith("ERR SWAPDB needs a version that knows it on every node, and these "), error
    assert error.endswith((": n1, n3", ": n2, n3")), error
    assert cluster.spaces() == [swapped()] * NODES
    for pair in PAIRS:
        cluster.cut(*pair)
    cluster.capabilities = CAPABILITIES
    for pair in PAIRS:
        cluster.connect(*pair)
    assert cluster.client(1).ask("SWAPDB 0 1") == "OK"


def test_a_document_of_another_cluster_changes_nothing() -> None:
    node = make_node()
    node.services.numbering.merge(Numberings({b"another": entry(1 << 50, (0, 1))}))
    assert node.state.numbering is UNSWAPPED and not node.services.numbering.sharing.document.entries


def test_a_node_that_is_no_member_yet_takes_its_future_clusters_numbering_and_no_other() -> None:
    node = make_node(0)
    for cluster, pair in ((b"another", (2, 3)), (b"c", (0, 1))):
        node.services.numbering.merge(Numberings({cluster: entry(5, pair)}))
    assert node.state.numbering is UNSWAPPED
    joined = make_node(1)
    assert joined.state.layout is not None
    node.services.membership.offer(joined.state.layout)
    assert node.state.numbering.spaces == swapped((0, 1))
    assert list(node.services.numbering.sharing.document.entries) == [b"c"]


# --- limits


def test_without_room_on_the_disk_the_numbering_counts_at_once_and_is_stored_later() -> None:
    cluster = Swapping()
    full = cluster.nodes[2]
    full.disk_changed(FOR_NOTHING, cluster.now_ms)
    assert cluster.client(0).ask("SWAPDB 0 1") == "OK"
    assert cluster.spaces() == [swapped((0, 1))] * NODES
    assert cluster.make_node(2, run=1).state.numbering is UNSWAPPED, "nothing was stored"
    full.disk_changed(FOR_WRITES, cluster.now_ms)
    cluster.step()
    assert cluster.make_node(2, run=1).state.numbering.spaces == swapped((0, 1))


def test_without_room_on_the_disk_of_the_node_that_orders_swaps_nothing_is_swapped() -> None:
    cluster = Swapping()
    cluster.nodes[0].disk_changed(FOR_NOTHING, cluster.now_ms)
    assert cluster.client(1).ask("SWAPDB 0 1") == "DISKFULL the disk of node n1 has no room: free some space there"
    assert cluster.spaces() == [swapped()] * NODES


def test_beyond_the_highest_version_nothing_is_swapped() -> None:
    cluster = Swapping()
    for node in cluster.nodes:
        node.services.numbering.merge(document(cluster, (2, 3), counter=COUNTER_MAX))
    error = cluster.client(1).ask("SWAPDB 0 1")
    assert error.startswith("ERR node n1 cannot change the numberings: the version of what is there is the highest ")
    assert cluster.spaces() == [swapped((2, 3))] * NODES
    cluster.run(2000)  # what a node sends, others read


def test_beyond_the_highest_version_users_and_libraries_are_not_changed_either() -> None:
    """Other nodes would refuse the document, and close the link to whoever sends it."""
    node = make_node()
    users, functions = node.services.users.sharing, node.services.functions.sharing
    users.adopt(users.document.with_entry(b"ann", UserEntry(COUNTER_MAX, member(2).id, 1, User())))
    functions.adopt(functions.document.with_entry(b"lib", LibraryEntry(COUNTER_MAX, member(2).id, None)))
    client, before = Client(node), users.document
    for line in ("ACL SETUSER ann on", "ACL DELUSER ann"):
        assert client.error(line).startswith("ERR node n1 cannot change the users: the version of what is there is ")
    assert client.ask("ACL SETUSER bob on") == "OK" and client.error("ACL DELUSER bob ann").startswith("ERR node n1 ")
    assert users.document.names() == [*before.names(), b"bob"], "nothing of a deletion that fails is kept"
    with pytest.raises(CommandError, match="cannot change the libraries"):
        functions.next_counter(functions.document.entries[b"lib"])


@pytest.mark.parametrize(
    ("words", "reply"),
    [
        ("x 1", "ERR invalid first DB index"),
        ("1 x", "ERR invalid second DB index"),
        ("16 x", "ERR invalid second DB index"),
        ("16 1", "ERR DB index is out of range"),
        ("0 -1", "ERR DB index is out of range"),
        ("3000000000 1", "ERR invalid first DB index"),
        ("01 1", "ERR invalid first DB index"),
        ("1 1", "OK"),
    ],
)
def test_numbers_are_read_as_in_redis(words: str, reply: str) -> None:
    assert Swapping().client(0).ask(f"SWAPDB {words}") == reply


def test_a_node_without_a_layout_refuses_it() -> None:
    assert Client(make_node(0)).error("SWAPDB 0 1") == Client(make_node(0)).error("DBSIZE")


def test_swaps_that_may_still_be_asked_for_are_never_forgotten() -> None:
    """Else a node that asks again would swap a second time."""
    node = make_node()
    client = Client(node)
    assert [client.ask("SWAPDB 0 1") for _ in range(SWAPS_MAX)] == ["OK"] * SWAPS_MAX
    error = client.error("SWAPDB 0 1")
    assert error.startswith(f"BUSY node n1 orders {SWAPS_MAX} swaps of databases within 4000 ms at most, and has not")
    assert node.state.numbering.spaces == swapped()
    for _ in range(41):
        client.now_ms += 100
        node.tick(client.now_ms, WALL_MS + client.now_ms)
    assert client.ask("SWAPDB 0 1") == "OK"
    (one,) = node.services.numbering.sharing.document.entries.values()
    assert len(one.ids()) == SWAPS_MAX


def test_a_swap_that_is_asked_for_again_is_done_once() -> None:
    node = make_node()
    numbering = node.services.numbering
    for _ in range(3):
        swap = Swap(swap_id(node.state.time_ms, random.Random(1)), 0, 1, numbering.sharing.document)
        answer = numbering.swap(swap)
        assert answer is not None and not answer.refusal
        assert node.state.numbering.spaces == swapped((0, 1))


def test_a_node_alone_swaps_at_once() -> None:
    node = make_node()
    client = Client(node)
    assert client.ask("SWAPDB 0 1") == "OK"
    finish_turn(node)
    assert node.state.numbering.spaces == swapped((0, 1))
