"""The assignment after a change: valid for any change, the fewest moves of all, and as even as a new one."""

import itertools
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from server.core.ring.assignment import ZoneRule, assign, shares
from server.core.ring.layout import Layout, Member
from server.core.ring.preview import zone_violations
from server.core.ring.reassignment import Owners, next_owners, reassign, substitute
from tests.core.hash_seeds import output_under_any_hash_seed


def make_member(number: int, zone: str = "", weight: int = 1) -> Member:
    return Member(f"m{number:02}", f"n{number}", f"127.0.0.1:{7001 + number}", zone, weight)


def make_layout(members: list[Member], partitions: int, n: int = 3, owners: Owners | None = None) -> Layout:
    rows = assign(members, partitions, n) if owners is None else owners
    return Layout("c", 1, partitions, n, 1, 1, tuple(members), rows)


def count_owned(owners: Owners) -> Counter[str]:
    return Counter(itertools.chain(*owners))


def count_moves(before: Owners, after: Owners) -> int:
    return sum(owner not in old for old, new in zip(before, after, strict=True) for owner in new)


def fewest_moves(before: Owners, after: Owners) -> int:
    """Returns a lower bound for the new seats of any assignment with these shares: seats that nodes have gained."""
    held = count_owned(before)
    return sum(max(0, owned - held[node]) for node, owned in count_owned(after).items())


def make_members(zones: str, weights: st.SearchStrategy[int], numbers: int) -> st.SearchStrategy[list[Member]]:
    """Draws some of the members 0 to `numbers - 1`, sorted by id, each with a zone and a weight."""
    member = st.builds(make_member, st.integers(0, numbers - 1), st.sampled_from(zones), weights)
    return st.lists(member, min_size=1, max_size=numbers, unique_by=lambda m: m.id).map(
        lambda members: sorted(members, key=lambda m: m.id)
    )


MEMBERS = make_members("aabcd", st.sampled_from([1, 1, 1, 2, 3, 7, 100]), 12)
PARTITIONS = st.integers(0, 7).map(lambda bits: 1 << bits)
N = st.integers(1, 5)
laws = settings(max_examples=40)


# --- laws of any change: `before` and `after` have some members in common, with other zones and weights


@laws
@given(MEMBERS, MEMBERS, PARTITIONS, N, N)
def test_the_next_rows_are_valid(before: list[Member], after: list[Member], partitions: int, n: int, m: int) -> None:
    """N grows and shrinks, too, with the number of members or alone."""
    owners = reassign(assign(before, partitions, n), after, m)
    layout = make_layout(after, partitions, m, owners)  # refuses rows that are not
    assert zone_violations(layout.owners, after, m) == ()


@laws
@given(MEMBERS, MEMBERS, PARTITIONS, N)
def test_the_next_shares_are_as_good_as_new_ones(
    before: list[Member], after: list[Member], partitions: int, n: int
) -> None:
    owners = reassign(assign(before, partitions, n), after, n)
    rule = ZoneRule.of(after, min(n, len(after)))
    best = shares([member.weight for member in after], rule, partitions)
    owned = count_owned(owners)
    loads = [owned[member.id] / member.weight for member in after]
    assert max(loads) == max(share / member.weight for share, member in zip(best, after, strict=True))


@laws
@given(MEMBERS, MEMBERS, PARTITIONS, N)
def test_every_position_is_shared_like_the_whole(
    before: list[Member], after: list[Member], partitions: int, n: int
) -> None:
    owners = reassign(assign(before, partitions, n), after, n)
    owned = count_owned(owners)
    for column in zip(*owners, strict=True):
        times = Counter(column)
        for member in after:
            assert abs(times[member.id] - owned[member.id] / len(owners[0])) < 1


@laws
@given(MEMBERS, MEMBERS, PARTITIONS, N)
def test_a_change_that_is_made_needs_no_other(
    before: list[Member], after: list[Member], partitions: int, n: int
) -> None:
    owners = reassign(assign(before, partitions, n), after, n)
    assert count_moves(owners, reassign(owners, after, n)) == 0


FEW = make_members("aab", st.sampled_from([1, 1, 2]), 5)


@settings(max_examples=100)
@given(FEW, FEW, st.sampled_from([1, 2, 4]), st.integers(1, 3))
def test_no_rows_with_these_shares_need_fewer_moves(
    before: list[Member], after: list[Member], partitions: int, n: int
) -> None:
    """Compares with an exhaustive search for the fewest moves to each possible number of seats."""
    old = assign(before, partitions, n)
    new = reassign(old, after, n)
    ids = [member.id for member in after]
    rows = [row for row in itertools.combinations(ids, min(n, len(ids))) if not zone_violations((row,), after, n)]
    fewest: dict[tuple[int, ...], int] = {(0,) * len(ids): 0}
    for owners in old:
        longer: dict[tuple[int, ...], int] = {}
        for (owned, moves), row in itertools.product(fewest.items(), rows):
            key = tuple(count + (node in row) for node, count in zip(ids, owned, strict=True))
            price = moves + sum(node not in owners for node in row)
            longer[key] = min(price, longer.get(key, price))
        fewest = longer
    owned_now = count_owned(new)
    assert count_moves(old, new) == fewest[tuple(owned_now[node] for node in ids)]


@laws
@given(MEMBERS, MEMBERS, PARTITIONS, N, st.randoms(use_true_random=False))
def test_the_order_of_the_members_does_not_matter(
    before: list[Member], after: list[Member], partitions: int, n: int, rng: random.Random
) -> None:
    owners = assign(before, partitions, n)
    shuffled = list(after)
    rng.shuffle(shuffled)
    assert reassign(owners, shuffled, n) == reassign(owners, after, n)


def test_the_hash_seed_does_not_matter() -> None:
    program = (
        "from server.core.ring.assignment import assign; from server.core.ring.layout import Member;"
        "from server.core.ring.reassignment import reassign;"
        "m = [Member(f'm{i}', f'n{i}', f'h:{i + 1}', 'abc'[i % 3], i % 2 + 1) for i in range(9)];"
        "print(reassign(assign(m[:7], 64, 3), m[2:], 3))"
    )
    assert b"m8" in output_under_any_hash_seed(program)


# --- growing and shrinking one by one


def grow_and_shrink(nodes_max: int, partitions: int, zones: int = 1) -> Iterator[tuple[list[Member], Owners, Owners]]:
    """From three nodes to `nodes_max` and back, the oldest first: (members, owners before, owners after) of each step."""
    members = [make_member(number, f"z{number % zones}") for number in range(max(3, zones))]
    owners = assign(members, partitions, 3)
    turns = [*range(len(members), nodes_max), *[-1] * (nodes_max - len(members))]
    for number in turns:
        members = members[1:] if number < 0 else [*members, make_member(number, f"z{number % zones}")]
        before, owners = owners, reassign(owners, members, 3)
        yield members, before, owners


def check_evenness(members: list[Member], owners: Owners) -> None:
    """Equal nodes: owners together, successors and heirs to within a fifth or two partitions of even."""
    ids = [member.id for member in members]
    together = Counter(pair for row in owners for pair in itertools.permutations(row, 2))
    successors = Counter(pair for row in owners for pair in itertools.pairwise(row))
    heirs = Counter(row[:2] for row in owners)
    pairs = list(itertools.permutations(ids, 2))
    for counted in (together, successors, heirs):
        even = counted.total() / len(pairs)
        for pair in pairs:
            assert abs(counted[pair] - even) <= max(2.0, even / 5)


def test_thirty_nodes_one_by_one_and_back() -> None:
    """Every join and every leave: balanced, the fewest moves, and failures that fall on all others alike."""
    for members, before, after in grow_and_shrink(30, 1024):
        layout = make_layout(members, 1024, owners=after)
        assert layout.balance() >= 0.99
        assert count_moves(before, after) == fewest_moves(before, after)
        firsts = Counter(row[0] for row in after)
        assert max(firsts[m.id] for m in members) - min(firsts[m.id] for m in members) <= 1
        check_evenness(members, after)


@pytest.mark.parametrize(("zones", "excess"), [(2, 1.0), (3, 1.0), (4, 1.05)])
def test_zones_one_by_one_and_back(zones: int, excess: float) -> None:
    """Zones differ by one node at most.

    With more zones than owners a leave can ask for more moves than its shares alone: which zones a row does without must
    change as well. That these are the fewest, the comparison with the dumb way says.
    """
    moves = fewest = 0
    for members, before, after in grow_and_shrink(12, 128, zones):
        assert zone_violations(after, members, 3) == ()
        best = max(shares([1] * len(members), ZoneRule.of(members, 3), 128))
        assert max(count_owned(after).values()) == best
        moves += count_moves(before, after)
        fewest += fewest_moves(before, after)
    assert moves <= excess * fewest


def test_the_partitions_of_a_failed_node_fall_back_on_all_others() -> None:
    for members, _, owners in itertools.islice(grow_and_shrink(12, 256), 4, 15, 5):
        layout = make_layout(members, 256, owners=owners)
        stands_in = Counter((owner, lst[3]) for lst in map(layout.preference_list, range(256)) for owner in lst[:3])
        pairs = list(itertools.permutations([member.id for member in members], 2))
        even = stands_in.total() / len(pairs)
        for pair in pairs:
            assert abs(stands_in[pair] - even) <= max(2.0, even / 5)


# --- single changes


def test_nothing_changes_nothing() -> None:
    layout = make_layout([make_member(number) for number in range(7)], 128)
    assert next_owners(layout, layout.members) == layout.owners


def test_a_new_name_and_address_change_nothing() -> None:
    layout = make_layout([make_member(number) for number in range(5)], 128)
    moved = [replace(member, name=member.name + "x", address="elsewhere:1") for member in layout.members]
    assert next_owners(layout, moved) == layout.owners


def test_a_heavier_node_takes_its_share_from_all() -> None:
    members = [make_member(number) for number in range(5)]
    layout = make_layout(members, 128, 2)
    members[2] = replace(members[2], weight=2)
    after = next_owners(layout, members)
    owned = count_owned(after)
    assert [owned[member.id] for member in members] == [43, 43, 85, 43, 42]
    assert count_moves(layout.owners, after) == fewest_moves(layout.owners, after) == 34
    givers = Counter(node for old, new in zip(layout.owners, after, strict=True) for node in old if node not in new)
    assert sorted(givers.values()) == [8, 8, 9, 9]


def test_a_node_in_another_zone_spreads_the_rows_again() -> None:
    members = [make_member(number, "abc"[number % 3]) for number in range(6)]
    layout = make_layout(members, 128)
    members[0] = replace(members[0], zone="d")
    after = next_owners(layout, members)
    assert zone_violations(after, members, 3) == ()
    assert max(count_owned(after).values()) == 64


def test_a_machine_never_holds_two_replicas_if_it_is_a_zone() -> None:
    """Three machines of 16 nodes, a node for each core (docs/services.md): they come and go one by one."""
    members = [make_member(number, "abc"[number // 16]) for number in range(48)]
    layout = make_layout(members, 256)
    assert zone_violations(layout.owners, members, 3) == ()
    for fewer in (members[1:], members[16:], [*members, make_member(48, "a")]):  # a node; a machine; a node more
        after = next_owners(layout, fewer)
        assert zone_violations(after, fewer, 3) == ()
    two_machines = {member.id: member.zone for member in members[16:]}
    after = next_owners(layout, members[16:])
    assert all({two_machines[owner] for owner in row} == {"b", "c"} for row in after)


def test_leaving_with_fewer_than_n_left_moves_nothing() -> None:
    members = [make_member(number) for number in range(3)]
    layout = make_layout(members, 128)
    after = next_owners(layout, members[1:])
    assert all(len(row) == 2 for row in after)
    assert count_moves(layout.owners, after) == 0
    assert count_owned(next_owners(make_layout(members[1:], 128, owners=after), members)) == count_owned(layout.owners)


def test_no_members() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        reassign((("m00",),), [], 3)


# --- replacement


@laws
@given(MEMBERS, PARTITIONS, N, st.data())
def test_a_replacement_takes_exactly_the_old_seats(
    members: list[Member], partitions: int, n: int, data: st.DataObject
) -> None:
    """In the same positions, whatever its weight and zone; and no other seat changes."""
    layout = make_layout(members, partitions, n)
    old = data.draw(st.sampled_from(members))
    new = make_member(99, "e", 5)
    after = next_owners(layout, [new if member == old else member for member in members], {old.id: new.id})
    assert after == tuple(tuple(new.id if owner == old.id else owner for owner in row) for row in layout.owners)


def test_a_replacement_beside_a_join_keeps_the_seats_that_it_can() -> None:
    members = [make_member(number) for number in range(4)]
    layout = make_layout(members, 128)
    new = [*members[1:], make_member(4), make_member(5)]
    after = next_owners(layout, new, {"m00": "m05"})
    in_place = substitute(layout.owners, {"m00": "m05"})
    assert count_moves(in_place, after) == fewest_moves(in_place, after)
    assert all("m05" not in row or "m00" in old for old, row in zip(layout.owners, after, strict=True))


@pytest.mark.parametrize("replaced", [{"m09": "m10"}, {"m00": "m01"}, {"m00": "m10", "m01": "m10"}])
def test_an_impossible_replacement_is_refused(replaced: dict[str, str]) -> None:
    layout = make_layout([make_member(number) for number in range(3)], 8)
    with pytest.raises(ValueError, match="cannot take the place of"):
        next_owners(layout, layout.members, replaced)


@laws
@given(MEMBERS, PARTITIONS)
def test_a_join_disturbs_no_one_who_has_too_little(members: list[Member], partitions: int) -> None:
    """Equal nodes of one zone: only the new node gets seats, and the others only give some."""
    equal = [replace(member, zone="", weight=1) for member in members]
    assume(len(equal) >= 3)
    before = assign(equal, partitions, 3)
    after = reassign(before, [*equal, make_member(50)], 3)
    taken = [node for old, new in zip(before, after, strict=True) for node in new if node not in old]
    assert set(taken) <= {"m50"}
