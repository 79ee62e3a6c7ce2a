"""Another N: the rules, and a model in which every read must meet every acknowledged write at every step of the change."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from server.core.base.quorum import Verdict
from server.core.base.routing import build_routes
from server.core.ring.change import (
    LEAVE,
    READ_QUORUM,
    REMOVE,
    REPLICA_COUNT,
    WRITE_QUORUM,
    Change,
    decode_known,
    without_superseded,
)
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout, LayoutError
from server.core.ring.merging import merge
from server.core.ring.replica_change import remark_on
from server.core.ring.succession import ChangeError, commit, end_full_repair, hand_over, settle
from tests.core.ring.test_succession import about, first_layout, join, through

_count = itertools.count()


def layout_of(n: int, r: int, w: int, nodes: int = 5, written_w: int = 0, partitions: int = 4) -> Layout:
    return replace(first_layout(nodes, partitions=partitions, n=n), r=r, w=w, written_w=written_w)


def numbers(n: int = 0, r: int = 0, w: int = 0) -> list[Change]:
    """The changes that an operator stages for these numbers; 0: none."""
    wanted = ((REPLICA_COUNT, n), (READ_QUORUM, r), (WRITE_QUORUM, w))
    return [Change(f"c{next(_count)}", kind, "", weight=number) for kind, number in wanted if number]


def numbers_of(layout: Layout) -> tuple[int, int, int, int]:
    return layout.n, layout.r, layout.w, layout.written_w


# --- the steps of a change


def test_a_larger_n_gives_each_partition_more_owners_and_keeps_the_ones_that_it_has() -> None:
    before = layout_of(3, 2, 2)
    after = commit(before, numbers(5, 3, 3))
    assert (after.epoch, after.phase, numbers_of(after), after.former_numbers) == (
        2,
        TRANSFER,
        (5, 3, 3, 0),
        (3, 2, 2, 0),
    )
    for partition in range(4):
        assert after.readers(partition) == before.owners[partition]
        assert set(after.owners[partition]) >= set(before.owners[partition]) and len(after.owners[partition]) == 5
        assert after.fetching(partition) == after.owners[partition], "those that stay compare their copies, too"
    assert (after.effective_r, after.effective_w, after.others_w) == (2, 2, 3)
    handed = hand_over(after)
    assert (handed.effective_r, handed.effective_w, handed.others_w) == (3, 3, 2)
    assert not handed.fetching(0)
    done = settle(handed)
    assert (done.effective_r, done.effective_w, done.others_w, done.former_numbers) == (3, 3, 0, ())
    for layout in (after, handed, done):
        assert Layout.decode(layout.encode()) == layout


def test_a_smaller_n_moves_no_data_and_the_owners_that_go_take_writes_until_the_end() -> None:
    before = layout_of(5, 3, 3, nodes=6, partitions=16)
    after = commit(before, numbers(3, 2, 2))
    for partition in range(16):
        assert set(after.owners[partition]) < set(before.owners[partition]) == set(after.keepers(partition))
        assert set(hand_over(after).keepers(partition)) == set(before.owners[partition])
        assert set(settle(hand_over(after)).keepers(partition)) == set(after.owners[partition])
    assert (after.effective_r, after.effective_w, after.others_w) == (3, 3, 2)
    shares = settle(hand_over(after)).owned().values()
    assert max(shares) - min(shares) <= 1


def test_a_cluster_that_began_with_one_node_gets_three_copies_with_the_nodes_that_join() -> None:
    before = layout_of(1, 1, 1, nodes=1)
    with pytest.raises(ChangeError, match="N=3 needs 3 nodes, and the cluster would have 1: stage the others first"):
        commit(before, numbers(3, 2, 2))
    after = commit(before, [join(1), join(2), *numbers(3, 2, 2)])
    assert all(after.readers(p) == ("m0",) and len(after.owners[p]) == 3 for p in range(4))
    assert (after.effective_r, after.effective_w, after.others_w) == (1, 1, 2)
    assert {node for p in range(4) for node in after.fetching(p)} == {"m1", "m2"}, "m0 has nobody to fetch from"


def test_the_numbers_must_fit_each_other_and_the_refusal_says_what_to_stage() -> None:
    with pytest.raises(
        ChangeError,
        match="R=2 and W=2 do not go with N=5: they are not more than N=5 together, so reads may miss acknowledged writes; "
        "stage all three together, such as `dyn config set n 5 --r 3 --w 3`",
    ):
        commit(layout_of(3, 2, 2), numbers(5))
    with pytest.raises(
        ChangeError, match="R=3 and W=3 do not go with N=2: of N=2 owners, no read or write can wait for more"
    ):
        commit(layout_of(5, 3, 3), numbers(2))
    with pytest.raises(ChangeError, match="N is a number from 1, not 0"):
        commit(layout_of(3, 2, 2), [Change("c", REPLICA_COUNT, "", weight=0)])
    assert commit(layout_of(5, 3, 3), numbers(3)).former_numbers == (5, 3, 3, 0), "3 and 3 of 3 are enough"
    assert commit(layout_of(3, 1, 1), numbers(5)).n == 5, "nothing was promised before"
    assert commit(layout_of(3, 1, 3), numbers(5, 3, 3)).n == 5, "no mix of old and new numbers is ever asked"


def test_a_leave_in_the_same_plan_counts_as_a_node_less() -> None:
    with pytest.raises(ChangeError, match="N=5 needs 5 nodes, and the cluster would have 4"):
        commit(layout_of(3, 2, 2), [about(LEAVE, 4), *numbers(5, 3, 3)])


def test_an_n_that_no_owner_feels_is_a_change_all_the_same() -> None:
    """Two nodes with N=3 have two owners a partition, with N=2, too. The numbers change in the same phases."""
    after = commit(layout_of(3, 2, 2, nodes=2), numbers(2))
    assert after.phase == TRANSFER and len(after.former) == 4
    assert through(after).n == 2


def test_the_last_number_of_a_kind_counts() -> None:
    five, three = numbers(5, 3, 3), numbers(3, 2, 2)
    assert without_superseded([*five, *three]) == three
    assert commit(layout_of(5, 3, 3), [*numbers(4), *three]).n == 3


def test_what_is_written_with_fewer_copies_is_fetched_from_more_owners() -> None:
    """W was raised to 2, and what W=1 has written is not copied yet: each of the 3 former owners may have the only copy."""
    after = commit(layout_of(3, 3, 2, written_w=1), numbers(5, 3, 3))
    assert (after.former_numbers, after.written_w) == ((3, 3, 2, 1), 0)
    assert after.fetch_quorum == 3
    assert commit(layout_of(3, 2, 2), numbers(5, 3, 3)).fetch_quorum == 2
    assert hand_over(after).fetch_quorum == 3, "of the five: N - W + 1"


# --- the next commit


def test_a_member_that_is_removed_in_the_middle_leaves_the_rest_as_it_was() -> None:
    after = commit(commit(layout_of(3, 2, 2), numbers(4, 3, 3)), [about(REMOVE, 4)])
    assert (after.phase, after.n, after.former_numbers) == (TRANSFER, 4, (3, 2, 2, 0))
    assert all(node != "m4" for p, former in after.former for node in (*former, *after.owners[p]))
    assert len(after.former) == 4
    handed = commit(hand_over(after), [join(7)])
    assert handed.former_numbers == () and all(handed.readers(p) == after.owners[p] for p, _ in handed.former)


def test_n_goes_back_to_the_owners_that_it_came_from() -> None:
    before = layout_of(3, 2, 2)
    back = commit(commit(before, numbers(5, 3, 3)), numbers(3, 2, 2))
    assert (back.phase, back.former_numbers, back.n) == (TRANSFER, (3, 2, 2, 0), 3)
    assert [set(row) for row in back.owners] == [set(row) for row in before.owners]


def test_r_and_w_change_while_n_does() -> None:
    """All owners fetch again, so nothing but R' + W' > N' is asked."""
    moving = commit(layout_of(3, 2, 2), numbers(5, 3, 3))
    after = commit(moving, numbers(r=1, w=5))
    assert (numbers_of(after), after.former_numbers) == ((5, 1, 5, 0), (3, 2, 2, 0))
    with pytest.raises(ChangeError, match="R=2 and W=3 do not go with N=5"):
        commit(moving, numbers(r=2))
    with pytest.raises(ChangeError, match="first stage"):
        commit(hand_over(moving), numbers(r=1, w=5))


def test_a_change_of_members_alone_has_no_former_numbers() -> None:
    assert commit(layout_of(3, 2, 2), [join(8)]).former_numbers == ()


# --- two sides


def test_the_larger_n_of_two_sides_rules_with_its_own_r_and_w() -> None:
    before = layout_of(3, 2, 2)
    two, five = commit(before, numbers(2, 2, 1)), commit(before, numbers(5, 3, 3))
    four = commit(before, numbers(4, 3, 2))
    for one, other, expected in ((two, five, (5, 3, 3)), (five, four, (5, 3, 3)), (two, four, (4, 3, 2))):
        both = merge(one, other)
        assert both == merge(other, one)
        assert numbers_of(both)[:3] == expected, "not N of one side and R or W of the other"
        assert (both.phase, both.epoch) == (TRANSFER, 3)
        assert both.former_numbers[:3] == (3, 2, 2)
        assert merge(both, one) == merge(both, other) == both


def test_r_of_one_side_does_not_break_the_promise_of_the_other_sides_n() -> None:
    before = layout_of(3, 3, 3)
    ours, theirs = commit(before, numbers(r=1)), commit(before, numbers(5))
    both = merge(ours, theirs)
    assert both == merge(theirs, ours) and both.r + both.w > both.n
    before = layout_of(3, 2, 2)
    for one in (numbers(r=3), numbers(w=3)):
        both = merge(commit(before, one), commit(before, numbers(5, 3, 3)))
        assert numbers_of(both)[:3] == (5, 3, 3)


def test_n_of_one_side_and_a_join_or_a_leave_of_the_other() -> None:
    before = layout_of(3, 2, 2, nodes=6)
    for change in (join(8), about(LEAVE, 1)):
        for theirs in (commit(before, [change]), through(commit(before, [change]))):
            ours = commit(before, numbers(5, 3, 3))
            both = merge(ours, theirs)
            assert both == merge(theirs, ours)
            assert (both.n, both.phase, both.former_numbers) == (5, TRANSFER, (3, 2, 2, 0))
            assert len(both.former) == 4 and all(len(row) == 5 for row in both.owners)


def test_the_merge_knows_of_the_smaller_w_that_the_other_side_has_written_with() -> None:
    before = layout_of(3, 3, 3)
    ours, theirs = commit(before, numbers(5, 3, 3)), commit(before, numbers(w=1))
    both = merge(ours, theirs)
    assert both.n == 5 and both.former_numbers[:2] == (3, 3)
    assert both.former_numbers[2:] in ((3, 1), (1, 0), (1, 1)), "whichever change comes first"
    assert both.fetch_quorum == 3, "owners fetch from all three"


def test_a_leave_on_one_side_that_leaves_too_few_nodes_for_the_other_sides_n() -> None:
    """The leave is made. N is cut to the nodes that stay, or does not change; which of both is the same on all."""
    before = layout_of(3, 2, 2, nodes=5)
    ours, theirs = commit(before, numbers(5, 3, 3)), commit(before, [about(LEAVE, 4)])
    for side in (theirs, through(theirs)):
        both = merge(ours, side)
        assert both == merge(side, ours) and both.leaving == ("m4",)
        assert numbers_of(both)[:3] in ((5, 3, 3), (3, 2, 2)) and all(
            len(row) == both.effective_n for row in both.owners
        )


# --- the document


def test_an_earlier_version_reads_the_change_and_passes_the_layout_on() -> None:
    change = numbers(5)[0]
    assert set(change.encode()) <= {"id", "kind", "node", "weight"}
    assert decode_known(change.encode()) == change and (change.copies, change.quorum) == (5, 0)


@pytest.mark.parametrize("wrong", [(3, 2), (3, 4, 2, 0), (3, 2, 2, 2), (0, 1, 1, 0), (3, 2, 0, 0)])
def test_wrong_former_numbers_are_refused(wrong: tuple[int, ...]) -> None:
    with pytest.raises(LayoutError, match="former numbers"):
        replace(commit(layout_of(3, 2, 2), numbers(5, 3, 3)), former_numbers=wrong)


def test_former_numbers_that_an_older_coordinator_has_left_behind_mean_nothing() -> None:
    """It knows no such field, keeps it, and ends the phases."""
    left = replace(settle(hand_over(commit(layout_of(3, 2, 2), numbers(5, 3, 3)))), former_numbers=(3, 2, 2, 0))
    assert (left.effective_r, left.effective_w, left.others_w, left.changes_n) == (3, 3, 0, False)


def test_the_plan_says_what_to_expect() -> None:
    before = layout_of(3, 2, 2)
    following = commit(before, numbers(5, 3, 3))
    assert remark_on(following).startswith(
        "all owners compare their partitions with the former owners first, and all nodes"
    )
    members = tuple(replace(member, zone=f"z{index % 3}") for index, member in enumerate(before.members))
    zoned = replace(before, members=members)
    assert "3 zones, so some zones hold more than one of 5 copies" in remark_on(commit(zoned, numbers(5, 3, 3)))
    assert "no write succeeds while an owner is down" in remark_on(commit(before, numbers(5, 1, 5)))
    assert "reads may miss acknowledged writes" in remark_on(commit(layout_of(3, 1, 1), numbers(5)))
    assert not remark_on(commit(before, [join(8)]))


# --- the model

BEFORE, SETTLED_AGAIN = "before", "settled again"
STEPS = (BEFORE, TRANSFER, HANDOVER, SETTLED_AGAIN)


@dataclass(frozen=True)
class Model:
    """A partition of a cluster that changes N, in all its steps. Nodes are at most one step apart."""

    steps: dict[str, Layout]

    @staticmethod
    def of(before: Layout, changes: list[Change]) -> Model:
        moving = commit(before, changes)
        return Model({BEFORE: before, TRANSFER: moving, HANDOVER: hand_over(moving), SETTLED_AGAIN: through(moving)})

    def acknowledged(self, step: str) -> list[frozenset[str]]:
        """The smallest sets of nodes that acknowledge a write together, by the tally that a coordinator takes."""
        layout = self.steps[step]
        plan = build_routes(layout, layout.keepers(0)[0], lambda node: True)[0].plan
        found: list[frozenset[str]] = []
        for size in range(1, len(layout.keepers(0)) + 1):
            for nodes in itertools.combinations(layout.keepers(0), size):
                tally = plan.tally(layout.effective_w)
                for node in nodes:
                    tally.ack(node)
                if tally.verdict is Verdict.MET and not any(each <= frozenset(nodes) for each in found):
                    found.append(frozenset(nodes))
        return found

    def fetched(self, holders: frozenset[str]) -> frozenset[str]:
        """Who holds a write from before TRANSFER for sure, once all owners have fetched from as few as they have to."""
        layout = self.steps[TRANSFER]
        lacking: list[str] = []
        for owner in layout.fetching(0):
            others = [node for node in layout.former_owners(0) if node != owner]
            needed = min(len(others), layout.fetch_quorum - (owner in layout.readers(0)))
            if any(not holders.intersection((owner, *asked)) for asked in itertools.combinations(others, needed)):
                lacking.append(owner)
        return holders | frozenset(layout.owners[0]).difference(lacking)

    def missed(self) -> list[str]:
        """The reads that may miss a write: a write in some step, a read in the same one, the next ones, or one before."""
        found: list[str] = []
        for written, read in itertools.product(STEPS, repeat=2):
            if STEPS.index(read) < STEPS.index(written) - 1:
                continue
            layout = self.steps[read]
            for acknowledged in self.acknowledged(written):
                is_fetched = written == BEFORE and read in (HANDOVER, SETTLED_AGAIN)
                holders = self.fetched(acknowledged) if is_fetched else acknowledged
                asked = itertools.combinations(layout.readers(0), min(layout.effective_r, len(layout.readers(0))))
                found += [
                    f"written {written} to {sorted(acknowledged)}, read {read} from {nodes}"
                    for nodes in asked
                    if not holders.intersection(nodes)
                ]
        return found


def promising(n: int) -> list[tuple[int, int]]:
    """R and W that promise just enough. With more of either, reads and writes reach more owners."""
    return [(r, n + 1 - r) for r in range(1, n + 1)]


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("then", [1, 2, 3, 4, 5])
def test_no_read_misses_a_write_at_any_step(n: int, then: int) -> None:
    """A write in TRANSFER is not fetched: it may come late."""
    for (r, w), (later_r, later_w) in itertools.product(promising(n), promising(then)):
        before = layout_of(n, r, w, partitions=1)
        if n != then:
            assert not Model.of(before, numbers(then, later_r, later_w)).missed()


def test_the_model_sees_a_write_that_only_one_set_of_owners_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "others_w", property(lambda self: 0))
    found = Model.of(layout_of(3, 2, 2, partitions=1), numbers(5, 3, 3)).missed()
    assert any("written transfer" in each and "read handover" in each for each in found)


def test_the_model_sees_owners_that_stay_and_do_not_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "fetching", lambda self, partition: ())
    model = Model.of(layout_of(5, 3, 3, partitions=1), numbers(3, 2, 2))
    owners = frozenset(model.steps[TRANSFER].owners[0])
    monkeypatch.setattr(Model, "fetched", lambda self, holders: holders)
    assert any("written before" in each and "read handover" in each for each in model.missed()), owners


def test_the_model_sees_an_owner_that_fetches_from_too_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Layout, "fetch_quorum", property(lambda self: self.former_numbers[0] - self.former_numbers[2]))
    assert Model.of(layout_of(3, 2, 2, partitions=1), numbers(5, 3, 3)).missed()


def test_the_full_repair_after_a_raised_w_ends_before_or_after() -> None:
    first = commit(layout_of(3, 3, 1), numbers(w=2))
    assert first.written_w == 1
    assert through(commit(first, numbers(5, 3, 3))).written_w == 0, "all owners have fetched from all three"
    assert end_full_repair(first).phase == SETTLED
