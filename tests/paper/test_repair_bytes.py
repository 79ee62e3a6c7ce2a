"""The bytes of Merkle repair grow with the difference, not with the data (repair_bytes.py makes the whole table)."""

from __future__ import annotations

from tests.paper.repair_bytes import VALUE, measure

LEAF_BITS = 17


def test_bytes_grow_with_the_difference() -> None:
    one, ten, hundred = (measure(4000, differing, LEAF_BITS) for differing in (1, 10, 100))
    assert [cost.keys_repaired for cost in (one, ten, hundred)] == [1, 10, 100]
    assert one.counted_bytes < 3000
    assert ten.counted_bytes < 8 * one.counted_bytes
    assert hundred.counted_bytes < 10 * ten.counted_bytes
    assert hundred.counted_bytes < 4000 * len(VALUE) / 4


def test_they_hardly_grow_with_the_data() -> None:
    small, large = (measure(keys, 10, LEAF_BITS) for keys in (1000, 16_000))
    assert large.counted_bytes < 2 * small.counted_bytes


def test_the_nodes_count_what_they_send() -> None:
    """The links also carry gossip: about two hundred bytes a message, for the seconds that the repair takes."""
    cost = measure(2000, 500, LEAF_BITS)
    assert 0 < cost.link_bytes - cost.counted_bytes < 15_000
    assert cost.link_bytes < 1.1 * cost.counted_bytes
