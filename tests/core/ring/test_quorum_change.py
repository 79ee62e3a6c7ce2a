"""Another R or W, against a model that knows which layouts are in use and with which W each write was acknowledged."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import pytest

from server.core.operators.remarks import weak_quorums
from server.core.ring.change import READ_QUORUM, WRITE_QUORUM, Change, decode_known
from server.core.ring.layout import Layout, LayoutError
from server.core.ring.merging import merge
from server.core.ring.quorum_change import fault_of, may_miss_writes, remark_on
from server.core.ring.succession import ChangeError, commit, end_full_repair
from tests.core.ring.test_succession import first_layout, join, through

_count = itertools.count()


def layout_of(n: int, r: int, w: int, written_w: int = 0) -> Layout:
    return replace(first_layout(n, partitions=2, n=n), r=r, w=w, written_w=written_w)


def quorums(r: int = 0, w: int = 0) -> list[Change]:
    """The changes that an operator stages for this R and W; 0: none."""
    wanted = ((READ_QUORUM, r), (WRITE_QUORUM, w))
    return [Change(f"q{next(_count)}", kind, "", weight=number) for kind, number in wanted if number]


@dataclass(frozen=True)
class Model:
    """A cluster: the layout, and the smallest W with which anything that is stored was acknowledged and not copied since.

    This is what `written_w` has to know, computed from what the nodes did and not from the layout.
    """

    layout: Layout
    least: int

    def promises(self) -> bool:
        """Whether a read by R meets every stored write."""
        return self.layout.r + self.least > self.layout.n and self.layout.r + self.layout.w > self.layout.n

    def after(self, following: Layout) -> Model:
        """Nodes of both layouts have written while it was adopted."""
        return Model(following, min(self.least, self.layout.w, following.w))


def reads_meet_writes(before: Model, following: Layout) -> bool:
    """Whether, while `following` is adopted node by node and afterwards, each read meets each write."""
    n, reads = following.n, (before.layout.r, following.r)
    return all(r + w > n for r in reads for w in (before.least, before.layout.w, following.w))


def every_model(n: int) -> list[Model]:
    """All clusters that commits and full repairs lead to from some first layout with this N."""
    found: dict[tuple[int, int, int], Model] = {}
    waiting = [Model(layout_of(n, r, w), w) for r in range(1, n + 1) for w in range(1, n + 1)]
    while waiting:
        model = waiting.pop()
        name = (model.layout.r, model.layout.w, model.least)
        if name in found:
            continue
        found[name] = model
        for r, w in itertools.product(range(1, n + 1), repeat=2):
            if not fault_of(model.layout, r, w):
                waiting.append(model.after(commit(model.layout, quorums(r, w))))
        if model.layout.written_w:
            waiting.append(Model(end_full_repair(model.layout), model.layout.w))
    return list(found.values())


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_no_change_that_keeps_the_promise_lets_a_read_miss_a_write(n: int) -> None:
    """All clusters of N up to 5, and all changes of R and W in each of them."""
    refused = 0
    for model in every_model(n):
        assert model.layout.least_w <= model.least, "the layout knows of every write with few copies"
        for r, w in itertools.product(range(1, n + 1), repeat=2):
            if fault_of(model.layout, r, w):
                refused += 1
                with pytest.raises(ChangeError):
                    commit(model.layout, quorums(r, w))
                continue
            following = commit(model.layout, quorums(r, w))
            after = model.after(following)
            if model.promises() and r + w > n:
                assert reads_meet_writes(model, following) and not may_miss_writes(following)
            elif not after.promises():
                assert remark_on(model.layout, following), "the plan says what is not promised"
    assert refused or n < 3


@pytest.mark.parametrize("n", [3, 4, 5])
def test_two_steps_lead_to_what_is_refused_at_once(n: int) -> None:
    """What is to be raised comes first; then, once older writes have been copied, the rest."""
    for before in itertools.product(range(1, n + 1), repeat=2):
        for after in itertools.product(range(1, n + 1), repeat=2):
            if sum(before) <= n or not fault_of(layout_of(n, *before), *after):
                continue
            first = commit(layout_of(n, *before), quorums(max(before[0], after[0]), max(before[1], after[1])))
            if first.written_w:
                assert "until" in remark_on(layout_of(n, *before), first)
                assert "copied to all owners" in fault_of(first, *after)
                first = end_full_repair(first)
            second = commit(first, quorums(*after))
            assert ((second.r, second.w), second.written_w) == (after, 0)


def test_the_refusal_names_the_steps() -> None:
    assert fault_of(layout_of(3, 3, 1), 2, 2).endswith(
        "a read by 2 owners may miss a write to 1 of N=3, as nodes change one after the other and older writes keep their "
        "copies: first stage `dyn config set w 2` and commit that, then `dyn config set r 2`; `dyn cluster abort` takes "
        "back what is staged already"
    )
    assert fault_of(layout_of(3, 2, 2), 4, 1) == "R is a number from 1 to N=3, not 4"
    assert fault_of(layout_of(3, 2, 2), 2, 0) == "W is a number from 1 to N=3, not 0"


def test_the_plan_says_that_all_owners_are_needed_for_a_write() -> None:
    present, following = layout_of(3, 2, 2), layout_of(3, 2, 3)
    assert "no write succeeds while an owner is down" in remark_on(present, following)
    assert not remark_on(following, following)
    assert not remark_on(present, layout_of(3, 3, 2))


def test_the_status_tells_of_numbers_that_promise_nothing() -> None:
    assert weak_quorums(layout_of(3, 2, 1)) == [
        "R=2 and W=1 are not more than N=3 together: reads may miss acknowledged writes"
    ]
    assert not weak_quorums(layout_of(3, 2, 2))


def test_a_layout_keeps_the_smaller_w_until_the_repair_has_ended() -> None:
    first = commit(layout_of(3, 3, 1), quorums(w=2))
    assert (first.epoch, first.w, first.written_w, first.least_w) == (2, 2, 1, 1)
    assert Layout.decode(first.encode()) == first
    joined = commit(first, [join(7)])
    assert (joined.written_w, through(joined).written_w) == (1, 1), "a change of members does not end it"
    ended = end_full_repair(first)
    assert (ended.version, ended.written_w, ended.least_w) == ((2, 1), 0, 2) and ended.wins_over(first)
    with pytest.raises(LayoutError, match="written_w is 2, not from 1 to less than w, which is 2"):
        replace(ended, written_w=2)


def test_an_earlier_version_reads_the_change_and_ignores_it() -> None:
    """Its kinds do not include that of a quorum, its fields all that such a change has."""
    for change in quorums(2, 2):
        assert set(change.encode()) <= {"id", "kind", "node", "weight"}
        assert decode_known(change.encode()) == change


def test_changes_of_both_sides_of_a_partition_are_merged_only_if_they_are_safe_together() -> None:
    present = layout_of(3, 3, 3)
    lower_w, lower_r = commit(present, quorums(w=1)), commit(present, quorums(r=1))
    both = merge(lower_w, lower_r)
    assert both == merge(lower_r, lower_w)
    assert (both.r, both.w) in ((3, 1), (1, 3)), "one of them is dropped, else no read would meet a write"
    assert both.least_w == 1, "the side that wrote with W=1 has left such writes"
    assert merge(both, lower_w) == merge(both, lower_r) == both
    present = layout_of(5, 3, 3)
    both = merge(commit(present, quorums(w=4)), commit(present, quorums(r=4)))
    assert (both.r, both.w, both.written_w) == (4, 4, 3)
    assert merge(commit(present, quorums(w=4)), commit(present, [join(8)])).w == 4
