"""Which layout follows which: commits, phases, and merges of two layouts that were made at the same time."""

import functools
import itertools
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.ring.addresses import is_unknown
from server.core.ring.assignment import assign
from server.core.ring.change import (
    ADDRESS,
    JOIN,
    LEAVE,
    READ_QUORUM,
    REMOVE,
    REPLACE,
    WEIGHT,
    WRITE_QUORUM,
    ZONE,
    Change,
)
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout, Member
from server.core.ring.merging import merge
from server.core.ring.succession import (
    LOG_MAX,
    ChangeError,
    commit,
    hand_over,
    move,
    readdress,
    release,
    settle,
)

_count = itertools.count()


def first_layout(nodes: int = 3, partitions: int = 16, n: int = 3) -> Layout:
    members = tuple(Member(f"m{i}", f"n{i}", f"127.0.0.1:{7000 + i}", "z", 1) for i in range(nodes))
    quorum = n // 2 + 1
    return Layout("c1", 1, partitions, n, quorum, quorum, members, assign(members, partitions, n))


def join(number: int, name: str = "") -> Change:
    return Change(f"x{next(_count)}", JOIN, f"m{number}", name=name or f"n{number}",
                  address=f"127.0.0.1:{7000 + number}", zone="z", weight=1)  # fmt: skip


def about(kind: str, number: int, **fields: object) -> Change:
    return Change(f"x{next(_count)}", kind, f"m{number}", **fields)  # type: ignore[arg-type]


def through(layout: Layout) -> Layout:
    """Returns the layout after all phases of its change."""
    return settle(hand_over(layout)) if layout.phase == TRANSFER else layout


def names(layout: Layout) -> list[str]:
    return [member.name for member in layout.members]


def test_a_join_names_the_owners_that_are_to_be_beside_those_that_hold_the_data() -> None:
    before = first_layout()
    after = commit(before, [join(3)])
    assert (after.epoch, after.revision, after.phase) == (2, 0, TRANSFER)
    assert names(after) == ["n0", "n1", "n2", "n3"]
    moving = [p for p in range(16) if set(after.owners[p]) != set(before.owners[p])]
    assert moving == [p for p, _ in after.former] and moving
    for p in range(16):
        assert after.readers(p) == (before.owners[p] if p in moving else after.owners[p])
        assert set(after.keepers(p)) == {*before.owners[p], *after.owners[p]}
    assert Layout.decode(after.encode()) == after


def test_reads_move_at_the_handover_and_writes_when_it_is_over() -> None:
    moved = commit(first_layout(), [join(3)])
    handed = hand_over(moved)
    assert (handed.epoch, handed.revision, handed.phase) == (2, 1, HANDOVER)
    assert all(handed.readers(p) == handed.owners[p] for p in range(16))
    assert all(set(handed.keepers(p)) == set(moved.keepers(p)) for p in range(16))
    done = settle(handed)
    assert (done.epoch, done.revision, done.phase, done.former) == (2, 2, SETTLED, ())
    assert all(done.keepers(p) == done.owners[p] for p in range(16))
    assert handed.wins_over(moved) and done.wins_over(handed)


def test_who_leaves_stays_a_member_until_it_holds_nothing() -> None:
    before = first_layout(4)
    after = commit(before, [about(LEAVE, 1)])
    assert after.leaving == ("m1",) and "m1" not in itertools.chain(*after.owners)
    assert any("m1" in after.readers(p) for p in range(16))
    done = through(after)
    assert [member.id for member in done.staying] == ["m0", "m2", "m3"]
    assert all("m1" not in done.preference_list(p) for p in range(16))
    assert names(release(done, ["m1"])) == ["n0", "n2", "n3"]


def test_who_is_removed_is_asked_for_nothing_any_more() -> None:
    after = commit(first_layout(4), [about(REMOVE, 1)])
    assert "m1" not in {node for p in range(16) for node in after.keepers(p)}
    assert all(1 <= len(after.readers(p)) <= 3 for p in range(16))


def test_where_all_who_held_a_partition_are_removed_the_new_owners_read() -> None:
    before = first_layout(3, n=1)
    after = commit(before, [about(REMOVE, 1)])
    lost = [p for p in range(16) if before.owners[p] == ("m1",)]
    assert lost and all(after.readers(p) == after.owners[p] for p in lost)


def test_a_replacement_takes_exactly_the_seats_of_the_old_one() -> None:
    before = first_layout(4)
    for gone in (False, True):
        after = commit(before, [about(REPLACE, 1, other="m9", name="n9", address="h:9", zone="z", weight=1, gone=gone)])
        assert after.owners == tuple(tuple("m9" if node == "m1" else node for node in row) for row in before.owners)
        assert after.leaving == (() if gone else ("m1",))


def test_a_node_that_replaces_another_may_be_replaced_at_once() -> None:
    """This happens when changes of one side of a network partition are made to the layout of the other side."""
    before = first_layout()
    fields = {"weight": 1, "zone": "z"}
    first = about(REPLACE, 1, other="m8", name="n8", address="h:8", **fields)
    second = about(REPLACE, 8, other="m9", name="n9", address="h:9", **fields)
    after = commit(before, [first, second])
    assert after.owners == commit(before, [replace(second, node="m1")]).owners
    assert names(after) == ["n0", "n1", "n2", "n9"]
    joined = commit(before, [join(8), second])
    assert names(joined) == ["n0", "n1", "n2", "n9"]
    there = commit(through(commit(before, [first])), [second])
    here = through(commit(through(commit(through(commit(before, [join(5)])), [join(6)])), [join(7)]))
    both = merge(here, there)
    assert [member.name for member in both.staying] == ["n0", "n2", "n5", "n6", "n7", "n9"]
    assert both.leaving == ("m1", "m8"), "who was a member there may hold what was written meanwhile"


def test_who_is_removed_takes_nobodys_place_by_the_same_commit() -> None:
    back = about(REPLACE, 1, other="m2", name="n9", address="h:9", weight=1)
    with pytest.raises(ChangeError, match="cannot take the place"):
        commit(first_layout(), [about(REMOVE, 2), back])


def test_a_change_may_be_made_in_the_middle_of_another() -> None:
    before = first_layout()
    one = commit(before, [join(3)])
    two = commit(one, [join(4)])
    assert all(two.readers(p) == before.owners[p] for p, _ in two.former)
    back = commit(two, [about(REMOVE, 3), about(REMOVE, 4)])
    assert back.phase == SETTLED or all(set(back.readers(p)) <= set(before.owners[p]) for p in range(16))
    late = commit(hand_over(one), [join(4)])
    assert all(late.readers(p) == one.owners[p] for p, _ in late.former)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ([join(1)], "is a member already"),
        ([join(7, name="n1")], "there is a node n1 already, at 127.0.0.1:7001"),
        ([join(7), join(7)], "is a member already"),
        ([about(LEAVE, 9)], "no member of the cluster has the id m9"),
        ([about(LEAVE, 0), about(LEAVE, 0)], "is leaving already"),
        ([about(LEAVE, 0), about(LEAVE, 1), about(LEAVE, 2)], "no node would be left"),
        ([about(WEIGHT, 0, weight=0)], "is not positive"),
        ([about(ZONE, 0, zone="a b")], "is not a printable word"),
        ([about(REPLACE, 0, other="m1")], "has a place already"),
        ([about("dance", 0)], "not known to this version"),
    ],
)
def test_what_cannot_be_is_refused(changes: list[Change], sentence: str) -> None:
    with pytest.raises(ChangeError, match=sentence):
        commit(first_layout(), changes)


def test_two_commits_side_by_side_are_both_made() -> None:
    present = first_layout()
    here, there = commit(present, [join(3)]), commit(present, [join(4), about(WEIGHT, 0, weight=3)])
    both = merge(here, there)
    assert both == merge(there, here) and both.encode() == merge(there, here).encode()
    assert names(both) == ["n0", "n1", "n2", "n3", "n4"] and both.members[0].weight == 3
    assert (both.epoch, both.merged_epoch) == (3, 3)
    assert merge(both, here) == merge(there, both) == both


def test_a_replacement_of_a_node_that_goes_already_leaves_the_new_one_a_member() -> None:
    """It may have accepted writes on its side, so it cannot simply be dropped."""
    present = first_layout(4)
    for kind, gone in ((LEAVE, False), (REMOVE, False), (REMOVE, True)):
        here = commit(commit(present, [about(kind, 1)]), [about(WEIGHT, 0, weight=2)])
        there = commit(
            present, [about(REPLACE, 1, other="m5", name="n5", address="127.0.0.1:7005", weight=1, gone=gone)]
        )
        both = merge(here, there)
        assert both == merge(there, here)
        assert "n5" in names(both)
        assert "m1" not in [member.id for member in both.staying]
        assert merge(both, there) == both


def test_of_replacements_in_a_chain_a_merge_forgets_no_node() -> None:
    """The node in the middle may hold writes of its side, so it leaves like any leaving member."""
    present = first_layout(4)
    first = about(REPLACE, 1, other="m5", name="n5", address="127.0.0.1:7005", weight=1)
    second = about(REPLACE, 5, other="m6", name="n6", address="127.0.0.1:7006", weight=1)
    there = commit(commit(present, [first]), [second])
    here = through(commit(present, [about(WEIGHT, 0, weight=2)]))
    both = merge(here, there)
    assert both == merge(there, here)
    assert [member.name for member in both.staying] == ["n0", "n2", "n3", "n6"]
    assert names(both) == ["n0", "n1", "n2", "n3", "n5", "n6"]


def test_of_two_new_nodes_of_one_name_one_is_left() -> None:
    present = first_layout()
    both = merge(commit(present, [join(3, name="new")]), commit(present, [join(4, name="new")]))
    assert names(both).count("new") == 1
    for other in (commit(present, [join(3, name="new")]), both):
        assert merge(both, other).epoch >= both.epoch
    here, there = commit(present, [join(3, name="new")]), commit(present, [join(4, name="new")])
    both = merge(here, there)
    assert merge(both, here) == both == merge(both, there), "what could not be made is not tried again and again"


def test_who_has_seen_data_move_knows_who_holds_it() -> None:
    """One side has ended a transfer. The other side has committed twice: its epoch is higher, but its owners are old."""
    present = commit(first_layout(), [join(3)])
    ended = through(present)
    cut_off = commit(commit(present, [join(4)]), [join(5)])
    both = merge(ended, cut_off)
    assert both == merge(cut_off, ended)
    assert names(both) == ["n0", "n1", "n2", "n3", "n4", "n5"] and both.epoch == cut_off.epoch + 1
    assert all(both.readers(p) == ended.owners[p] for p, _ in both.former)


def test_an_address_changes_no_epoch() -> None:
    present = first_layout()
    one = readdress(present, about(ADDRESS, 0, address="10.0.0.1:1"))
    other = readdress(present, about(ADDRESS, 1, address="10.0.0.2:1"))
    both = merge(one, other)
    assert both == merge(other, one) and both.epoch == 1
    assert [member.address for member in both.members] == ["10.0.0.1:1", "10.0.0.2:1", "127.0.0.1:7002"]


def at(layout: Layout) -> list[str]:
    """Returns the members' addresses; ? for an unknown one."""
    return ["?" if is_unknown(member.address) else member.address.rpartition(":")[2] for member in layout.members]


@pytest.mark.parametrize("ports", list(itertools.permutations((7000, 7001, 7002))))
def test_addresses_that_change_hands_are_where_their_nodes_say(ports: tuple[int, ...]) -> None:
    """Each node announces its own move. A node that had the address before is elsewhere. Layouts meet in any order."""
    moved = [readdress(first_layout(), move(f"m{i}", f"127.0.0.1:{port}", 1000 + i)) for i, port in enumerate(ports)]
    for order in itertools.permutations(moved):
        met = functools.reduce(merge, order)
        assert at(met) == [str(port) for port in ports]
        assert Layout.decode(met.encode()) == met


def test_who_had_an_address_that_another_has_now_is_nobody_knows_where() -> None:
    taken = readdress(first_layout(), move("m0", "127.0.0.1:7001", 1000))
    assert at(taken) == ["7001", "?", "7002"]
    assert at(readdress(taken, move("m1", "127.0.0.1:7009", 1001))) == ["7001", "7009", "7002"]
    with pytest.raises(ChangeError, match="node n0 has taken the address"):
        readdress(taken, move("m1", "127.0.0.1:7001", 999))


def test_of_two_moves_of_a_node_the_later_one_counts_wherever_they_meet() -> None:
    """The log may have dropped the earlier move. A node that still has it must not make it again."""
    early = readdress(first_layout(), move("m0", "127.0.0.1:7005", 1000))
    late = readdress(early, move("m0", "127.0.0.1:7006", 2000))
    forgetful = replace(late, log=late.log[1:])
    aside = readdress(early, move("m1", "127.0.0.1:7007", 1500))
    for one, other in itertools.permutations((forgetful, aside)):
        assert at(merge(one, other)) == ["7006", "7007", "7002"]
    assert merge(forgetful, early) == forgetful


def test_the_same_move_told_by_two_nodes_is_one_change() -> None:
    one, other = (readdress(first_layout(), move("m0", "127.0.0.1:7005", 1000)) for _ in range(2))
    assert one == other == merge(one, other)


def test_moves_do_not_push_out_what_operators_have_committed() -> None:
    layout = commit(first_layout(), [about(WEIGHT, 0, weight=5)])
    for number in range(2 * LOG_MAX):
        layout = readdress(layout, move(f"m{number % 3}", f"10.0.0.{number % 3}:{7000 + number}", number + 1))
    assert len(layout.log) == LOG_MAX
    assert layout.log[0].kind == WEIGHT
    assert [change.moved_ms for change in layout.log[-3:]] == [2 * LOG_MAX - 2, 2 * LOG_MAX - 1, 2 * LOG_MAX]


def test_an_address_and_a_phase_side_by_side() -> None:
    moving = commit(first_layout(), [join(3)])
    one, other = hand_over(moving), readdress(moving, about(ADDRESS, 0, address="10.0.0.1:1"))
    both = merge(one, other)
    assert both == merge(other, one)
    assert (both.epoch, both.phase, both.members[0].address) == (2, HANDOVER, "10.0.0.1:1")


def test_the_log_is_bounded() -> None:
    layout = first_layout()
    for _ in range(LOG_MAX + 5):
        layout = commit(layout, [about(WEIGHT, 0, weight=layout.members[0].weight % 3 + 1)])
    assert len(layout.log) == LOG_MAX


STEP = st.tuples(st.integers(0, 3), st.integers(0, 6), st.integers(0, 9))


def take_step(layout: Layout, kind: int, number: int) -> Layout:
    """Does one possible step to a layout, or nothing if the step is impossible."""
    changes = {
        0: [join(number)],
        1: [about(LEAVE, number)],
        2: [about(REMOVE, number)],
        3: [about(READ_QUORUM if number % 2 else WRITE_QUORUM, number, weight=1 + number // 2)],
        4: [about(WEIGHT, number, weight=number + 1)],
        5: [about(ZONE, number, zone=f"z{number % 2}")],
    }
    try:
        if kind < 6:
            return commit(layout, changes[kind])
        return hand_over(layout) if layout.phase == TRANSFER else settle(layout) if layout.phase == HANDOVER else layout
    except ChangeError:
        return layout


@given(st.lists(STEP, max_size=12), st.randoms(use_true_random=False))
@settings(max_examples=60)
def test_however_layouts_meet_all_nodes_end_with_the_same(steps: list[tuple[int, int, int]], rng: object) -> None:
    """Four nodes change their own layouts and sometimes merge in pairs; at the end they merge until nothing changes."""
    views = [first_layout()] * 4
    for node, kind, number in steps:
        views[node] = take_step(views[node], kind, number)
        if number % 3 == 0:
            views[node] = views[number % 4] = merge(views[node], views[number % 4])
    for _ in range(8):
        for one, other in itertools.permutations(range(4), 2):
            views[one] = views[other] = merge(views[one], views[other])
    assert len({view.encode() for view in views}) == 1
    assert Layout.decode(views[0].encode()) == views[0]
    assert replace(views[0]) == views[0]
