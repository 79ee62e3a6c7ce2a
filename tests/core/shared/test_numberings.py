"""Documents of numberings: their merge undoes no swap, does none twice, and does not depend on who meets whom when."""

from __future__ import annotations

import random
from contextlib import suppress

import pytest

from protocol.databases import DATABASES
from server.core.messages.numberings import numberings_in
from server.core.shared.document import merged
from server.core.shared.numberings import (
    OPEN_MAX,
    SETTLED_MAX,
    SWAPS_MAX,
    NumberingEntry,
    Numberings,
    OrderedSwap,
    swap_id,
)

NODES = ("n1", "n2", "n3", "n4")


class Nodes:
    """Nodes that order swaps, some of them twice, and meet by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.entries = dict.fromkeys(NODES, NumberingEntry())
        self.ordered: dict[str, OrderedSwap] = {}  # by id: the swap of the lowest version

    def order(self, node: str, again: str = "") -> None:
        """The node orders a new swap, or one that another node has ordered, too."""
        chance, entry = self.chance, self.entries[node]
        known = self.ordered.get(again)
        first, second = known[3:] if known else (chance.randrange(DATABASES), chance.randrange(DATABASES))
        swap = OrderedSwap(
            entry.counter + chance.randint(1, 3), node, again or swap_id(len(self.ordered), chance), first, second
        )
        self.entries[node] = entry.with_swap(swap)
        self.ordered[swap.id] = min(swap, known or swap)

    def meet(self, one: str, other: str) -> None:
        """One of two nodes hears of the document of the other."""
        self.entries[one] = self.entries[one].merged_with(self.entries[other])

    def live(self, steps: int) -> None:
        """Orders and meetings."""
        for _ in range(steps):
            node, other = self.chance.sample(NODES, 2)
            unheard = [swap for swap in self.ordered if swap not in self.entries[node].ids()]
            if self.chance.random() < 0.5:
                self.meet(node, other)
            else:
                self.order(node, self.chance.choice(unheard) if unheard and self.chance.random() < 0.3 else "")

    def gather(self) -> NumberingEntry:
        """Everybody meets everybody until nothing changes: what all have then."""
        for _ in range(10):
            pairs = [(one, other) for one in NODES for other in NODES]
            self.chance.shuffle(pairs)
            for pair in pairs:
                self.meet(*pair)
            if len({*self.entries.values()}) == 1:
                return self.entries["n1"]
        raise AssertionError(f"the nodes do not come to one document: {self.entries}")


def test_all_nodes_come_to_all_swaps_each_once_and_in_the_order_of_their_versions() -> None:
    for seed in range(100):
        nodes = Nodes(seed)
        nodes.live(150)
        assert len(nodes.ordered) <= OPEN_MAX
        final = nodes.gather()
        assert final.swaps == tuple(sorted(nodes.ordered.values())) and not final.settled
        spaces = list(range(DATABASES))
        for _, _, _, first, second in final.swaps:
            spaces[first], spaces[second] = spaces[second], spaces[first]
        assert final.numbering().spaces == tuple(spaces)


def test_a_merge_depends_on_no_order() -> None:
    for seed in range(100):
        nodes = Nodes(seed)
        nodes.live(random.Random(seed).choice((5, 50, 150)))
        a, b, c = [nodes.entries[node] for node in NODES[:3]]
        assert a.merged_with(b) == b.merged_with(a)
        assert a.merged_with(b).merged_with(c) == a.merged_with(b.merged_with(c))
        assert a.merged_with(a) == a and a.merged_with(b).merged_with(b) == a.merged_with(b)


def test_nodes_that_have_settled_different_swaps_come_to_one_document_all_the_same() -> None:
    """Sides of a partition that have ordered more swaps than a document keeps open."""
    for seed in range(8):
        nodes = Nodes(seed)
        nodes.live(20)
        for node, count in zip(NODES, (OPEN_MAX + 60, OPEN_MAX - 1, 3, SWAPS_MAX + 40), strict=True):
            for _ in range(count):
                nodes.order(node)
        a, b = nodes.entries["n1"], nodes.entries["n4"]
        assert a.settled and b.settled and a.merged_with(b) == b.merged_with(a)
        assert a.merged_with(b).merged_with(a) == a.merged_with(b)
        final = nodes.gather()
        assert len(final.settled) == SETTLED_MAX
        open_swaps = sorted(nodes.ordered.values())[-OPEN_MAX:]  # but for those of the same reading as a settled one
        assert final.swaps == tuple([swap for swap in open_swaps if swap.counter > final.floor])


def test_a_settled_swap_is_done_once_though_a_node_that_was_away_has_ordered_it_later() -> None:
    nodes = Nodes(1)
    nodes.order("n1")
    (swap,) = nodes.ordered
    for _ in range(5):
        nodes.order("n2")
    nodes.order("n2", swap)
    late = nodes.entries["n2"].swaps[-1]
    while swap not in nodes.entries["n1"].settled:
        nodes.order("n1")
    assert late.counter > nodes.entries["n1"].floor, "by its version alone it would be open"
    both = nodes.entries["n1"].merged_with(nodes.entries["n2"])
    assert both.ids().count(swap) == 1 and late not in both.swaps


def test_settling_changes_no_numbering() -> None:
    nodes, chance = Nodes(3), random.Random(3)
    spaces = list(range(DATABASES))
    for _ in range(SWAPS_MAX + 50):
        first, second = chance.randrange(DATABASES), chance.randrange(DATABASES)
        spaces[first], spaces[second] = spaces[second], spaces[first]
        entry = nodes.entries["n1"]
        swap = OrderedSwap(entry.counter + 1, "n1", swap_id(1, chance), first, second)
        nodes.entries["n1"] = entry.with_swap(swap)
        assert nodes.entries["n1"].numbering().spaces == tuple(spaces)


def test_swaps_of_one_reading_of_the_clock_are_settled_together() -> None:
    """The floor is a reading of the clock, so it cannot be between them."""
    chance = random.Random(4)
    swaps = [OrderedSwap(place // 2 + 1, NODES[place % 2], swap_id(1, chance), 0, 1) for place in range(OPEN_MAX + 1)]
    entry = NumberingEntry(swaps=tuple(swaps[:-1])).with_swap(swaps[-1])
    assert entry.floor == 1 and entry.settled == (swaps[0].id, swaps[1].id) and len(entry.swaps) == OPEN_MAX - 1


def test_of_two_documents_that_have_settled_up_to_one_reading_the_same_one_counts_everywhere() -> None:
    chance, entries = random.Random(5), []
    for node in NODES[:2]:
        entry = NumberingEntry()
        for counter in range(1, OPEN_MAX + 2):
            entry = entry.with_swap(OrderedSwap(counter, node, swap_id(1, chance), *chance.sample(range(DATABASES), 2)))
        entries.append(entry)
    one, other = entries
    assert one.floor == other.floor == 1 and one.spaces != other.spaces
    both = one.merged_with(other)
    assert both == other.merged_with(one) == both.merged_with(one) == both.merged_with(other)


def test_documents_are_read_as_they_were_written() -> None:
    for seed in range(20):
        nodes = Nodes(seed)
        nodes.live(40)
        document = merged(Numberings({b"c": nodes.gather()}), Numberings())
        assert numberings_in(document.encode()) == document


def test_an_entry_whose_swaps_are_all_settled_is_read_and_takes_further_ones() -> None:
    """More nodes than an entry has open swaps have ordered one each, by one reading of the clock."""
    chance = random.Random(8)
    swaps = [OrderedSwap(5, f"n{place:03}", swap_id(1, chance), 0, 1) for place in range(OPEN_MAX + 1)]
    one, other = [Numberings({b"c": NumberingEntry(swaps=tuple(part))}) for part in (swaps[1:], swaps[:1])]
    both = merged(one, other)
    entry = both.entries[b"c"]
    assert not entry.swaps and (entry.counter, entry.node, len(entry.settled)) == (5, "", SETTLED_MAX)
    assert numberings_in(both.encode()) == both == merged(both, both)
    later = OrderedSwap(6, "n1", swap_id(1, chance), 2, 3)
    assert entry.with_swap(later).merged_with(entry).swaps == (later,)


@pytest.mark.parametrize("cluster", ["c", "é", "\u0100\U0001f600"])
def test_the_id_of_a_cluster_is_any_text(cluster: str) -> None:
    entry = NumberingEntry(swaps=(OrderedSwap(5, "n1", swap_id(1, random.Random(9)), 0, 1),))
    document = numberings_in(Numberings({cluster.encode(): entry}).encode())
    assert document.entries == {cluster.encode(): entry}
    assert document.numbering_of(cluster).spaces == entry.numbering().spaces


def test_a_document_of_damaged_bytes_is_refused_or_merges_like_any_other() -> None:
    """Whatever a node takes, it can send to others."""
    chance, read = random.Random(7), 0
    nodes = Nodes(0)
    nodes.live(60)
    held = Numberings({b"c": nodes.gather()})
    whole = held.encode()
    for _ in range(600):
        damaged = bytearray(whole)
        for _ in range(chance.randint(1, 3)):
            damaged[chance.randrange(len(damaged))] = chance.choice(b'0123456789abcdef",[]{}n:\xff')
        with suppress(ValueError):
            document = numberings_in(bytes(damaged))
            both = merged(held, document)
            assert both == merged(document, held) == merged(both, document)
            assert numberings_in(document.encode()) == document and numberings_in(both.encode()) == both
            read += 1
            held = both if chance.random() < 0.2 else held
    assert 50 < read < 550
