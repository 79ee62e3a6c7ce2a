"""Nodes leave until fewer than N are left: the numbers that hold meanwhile, and the model of test_replica_change.py."""

from __future__ import annotations

import itertools

import pytest

from server.core.ring import replica_change
from server.core.ring.change import LEAVE, REMOVE
from server.core.ring.layout import TRANSFER, Layout
from server.core.ring.succession import commit, hand_over, settle
from tests.core.ring.test_replica_change import Model, layout_of, numbers_of, promising
from tests.core.ring.test_succession import about, join


def test_fewer_nodes_than_n_are_left_and_the_numbers_of_the_former_owners_hold_until_the_rest_has_all() -> None:
    before = layout_of(3, 3, 1, nodes=3)
    after = commit(before, [about(LEAVE, 2)])
    assert (after.phase, numbers_of(after), after.former_numbers) == (TRANSFER, (3, 3, 1, 0), (3, 3, 1, 0))
    assert (after.effective_r, after.effective_w, after.others_w, after.serving_n) == (3, 1, 1, 3)
    assert after.fetching(0) == after.owners[0] and after.fetch_quorum == 3
    handed = hand_over(after)
    assert (handed.effective_r, handed.effective_w, handed.others_w, handed.serving_n) == (2, 1, 1, 2)
    assert settle(handed).former_numbers == ()
    assert Layout.decode(after.encode()) == after
    again = commit(after, [join(8)])
    assert again.former_numbers == (3, 3, 1, 0), "who is to have it all may not have fetched it yet"


def test_what_leaves_n_owners_to_each_partition_or_removes_the_dead_asks_nobody_to_fetch_more() -> None:
    before = layout_of(3, 2, 2, nodes=4)
    for changes in ([about(LEAVE, 3)], [about(REMOVE, 3), about(REMOVE, 2)], [about(LEAVE, 3), join(8)]):
        assert commit(before, changes).former_numbers == ()


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_no_read_misses_a_write_while_nodes_leave_until_fewer_than_n_are_left(n: int) -> None:
    for (r, w), gone in itertools.product(promising(n), range(1, n)):
        before = layout_of(n, r, w, nodes=n, partitions=1)
        assert not Model.of(before, [about(LEAVE, number) for number in range(gone)]).missed()


@pytest.mark.parametrize(("r", "w", "gone"), [(3, 1, 1), (2, 2, 2)])
def test_the_model_sees_reads_by_the_smaller_numbers_of_those_that_stay(
    r: int, w: int, gone: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_change, "are_fewer", lambda owners, holding: False)
    found = Model.of(layout_of(3, r, w, nodes=3, partitions=1), [about(LEAVE, each) for each in range(gone)]).missed()
    assert any("written before" in each and "read transfer" in each for each in found)
