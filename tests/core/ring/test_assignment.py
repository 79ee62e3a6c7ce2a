"""The first assignment of partitions: rules that hold for all members, and how even it is where that is possible."""

import itertools
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.ring.assignment import ZoneRule, assign, shares
from server.core.ring.layout import Layout, Member
from tests.core.hash_seeds import output_under_any_hash_seed

Owners = tuple[tuple[str, ...], ...]


def make_members(weights: list[int], zones: str | list[str] = "") -> list[Member]:
    """Returns members m00, m01, … with these weights and zones (all in one zone by default)."""
    return [
        Member(f"m{i:02}", f"n{i}", f"127.0.0.1:{7001 + i}", zones[i] if zones else "", weight)
        for i, weight in enumerate(weights)
    ]


def count_owned(owners: Owners) -> Counter[str]:
    return Counter(itertools.chain(*owners))


def list_owned(members: list[Member], owners: Owners) -> list[int]:
    owned = count_owned(owners)
    return [owned[member.id] for member in members]


def balance(members: list[Member], partitions: int, n: int, owners: Owners) -> float:
    return Layout("c", 1, partitions, n, 1, 1, tuple(members), owners).balance()


MEMBERS = st.lists(
    st.tuples(st.sampled_from([1, 1, 1, 2, 3, 7, 100]), st.sampled_from("aabcd")), min_size=1, max_size=12
).map(lambda pairs: make_members([weight for weight, _ in pairs], [zone for _, zone in pairs]))
PARTITIONS = st.integers(0, 10).map(lambda bits: 1 << bits)
laws = settings(max_examples=20)


@laws
@given(MEMBERS, PARTITIONS, st.integers(1, 5))
def test_every_partition_has_n_distinct_owners(members: list[Member], partitions: int, n: int) -> None:
    owners = assign(members, partitions, n)
    assert len(owners) == partitions
    ids = {member.id for member in members}
    for row in owners:
        assert len(row) == len(set(row)) == min(n, len(members))
        assert ids.issuperset(row)


@laws
@given(MEMBERS, PARTITIONS, st.integers(1, 5))
def test_zones_are_used_alike_by_every_partition(members: list[Member], partitions: int, n: int) -> None:
    """A zone gives a further owner only when every other zone has given as many, or has no more nodes."""
    zone_of = {member.id: member.zone for member in members}
    sizes = Counter(zone_of.values())
    for row in assign(members, partitions, n):
        used = Counter(zone_of[owner] for owner in row)
        fewest = min((used[zone] for zone in sizes if used[zone] < sizes[zone]), default=len(members))
        assert max(used.values()) <= fewest + 1
        assert len(used) == min(len(row), len(sizes))


@laws
@given(MEMBERS, PARTITIONS, st.integers(1, 5))
def test_within_a_zone_no_move_of_a_partition_would_lower_the_load(
    members: list[Member], partitions: int, n: int
) -> None:
    owned = count_owned(assign(members, partitions, n))
    for one, other in itertools.permutations(members, 2):
        if one.zone == other.zone and owned[other.id] < partitions:
            assert owned[one.id] / one.weight <= (owned[other.id] + 1) / other.weight


@laws
@given(MEMBERS, PARTITIONS, st.integers(1, 5))
def test_every_position_is_shared_like_the_whole(members: list[Member], partitions: int, n: int) -> None:
    """A node is first, second, … owner equally often, to within one: coordinators are as balanced as copies."""
    owners = assign(members, partitions, n)
    owned = count_owned(owners)
    for column in zip(*owners, strict=True):
        times = Counter(column)
        for member in members:
            assert abs(times[member.id] - owned[member.id] / len(owners[0])) < 1


@given(
    st.lists(st.tuples(st.integers(1, 5), st.sampled_from("ab")), min_size=1, max_size=4),
    st.sampled_from([1, 2, 4]),
    st.integers(1, 3),
)
@settings(max_examples=60)
def test_shares_are_the_best_of_all_admissible_ones(nodes: list[tuple[int, str]], partitions: int, n: int) -> None:
    """Compares with an exhaustive search over all shares that the zones allow."""
    members = make_members([weight for weight, _ in nodes], [zone for _, zone in nodes])
    weights = [member.weight for member in members]
    rule = ZoneRule.of(members, min(n, len(members)))

    def load(owned_by: tuple[int, ...]) -> float:
        return max(count / weight for count, weight in zip(owned_by, weights, strict=True))

    def admissible(owned_by: tuple[int, ...]) -> bool:
        sums = [0] * len(rule.most)
        for zone, count in zip(rule.zone_of, owned_by, strict=True):
            sums[zone] += count
        bounds = zip(rule.least, sums, rule.most, strict=True)
        return sum(owned_by) == rule.count * partitions and all(
            least * partitions <= total <= most * partitions for least, total, most in bounds
        )

    every = itertools.product(range(partitions + 1), repeat=len(members))
    found = tuple(shares(weights, rule, partitions))
    assert admissible(found)
    assert load(found) == min(load(owned_by) for owned_by in every if admissible(owned_by))


def check_evenness(members: list[Member], partitions: int, n: int) -> None:
    """Equal nodes: counts, firsts and seconds to within one, successors to within a fifth or two partitions of even."""
    owners = assign(members, partitions, n)
    ids = [member.id for member in members]
    for column in (list(itertools.chain(*owners)), *zip(*owners, strict=True)):
        times = Counter(column)
        assert max(times[i] for i in ids) - min(times[i] for i in ids) <= 1
    successors = Counter(pair for row in owners for pair in itertools.pairwise(row))
    heirs = Counter(row[:2] for row in owners)
    pairs = list(itertools.permutations(ids, 2))
    for counted in (successors, heirs):
        if pairs and n > 1:
            even = counted.total() / len(pairs)
            for pair in pairs:
                assert abs(counted[pair] - even) <= max(2.0, even / 5)


@pytest.mark.parametrize("nodes", range(1, 10))
@pytest.mark.parametrize("n", [1, 2, 3])
def test_the_default_cluster_is_even(nodes: int, n: int) -> None:
    check_evenness(make_members([1] * nodes), 128, n)


@pytest.mark.parametrize("nodes", range(1, 10))
def test_the_default_cluster_is_balanced(nodes: int) -> None:
    members = make_members([1] * nodes)
    assert balance(members, 128, 3, assign(members, 128, 3)) >= 0.99


@pytest.mark.parametrize("nodes", range(3, 31))
def test_a_large_cluster_is_even(nodes: int) -> None:
    check_evenness(make_members([1] * nodes), 1024, 3)


def test_equal_zones_cost_no_balance() -> None:
    members = make_members([1] * 9, "aaabbbccc")
    owners = assign(members, 128, 3)
    assert balance(members, 128, 3, owners) >= 0.99
    assert all({"m00", "m01", "m02"}.intersection(row) for row in owners)


def test_unequal_zones_limit_the_balance() -> None:
    """As many zones as owners: each zone keeps every partition once, shared by its nodes."""
    members = make_members([1] * 6, "aaabbc")
    owners = assign(members, 128, 3)
    assert list_owned(members, owners) == [43, 43, 42, 64, 64, 128]
    assert balance(members, 128, 3, owners) == 0.5


def test_more_zones_than_owners_leave_room_for_balance() -> None:
    members = make_members([1] * 6, "aabbcd")
    assert balance(members, 128, 3, assign(members, 128, 3)) == 1.0


def test_fewer_zones_than_owners_use_both() -> None:
    members = make_members([1] * 8, "aaaabbbb")
    owners = assign(members, 128, 3)
    assert list_owned(members, owners) == [48] * 8
    assert {sum(owner < "m04" for owner in row) for row in owners} == {1, 2}


def test_shares_follow_the_weights() -> None:
    members = make_members([1, 2, 3, 4, 6])
    owners = assign(members, 128, 2)
    assert list_owned(members, owners) == [16, 32, 48, 64, 96]


def test_a_node_owns_no_partition_twice_however_heavy() -> None:
    members = make_members([1, 1, 100, 1])
    owners = assign(members, 128, 3)
    assert list_owned(members, owners) == [86, 85, 128, 85]


@given(MEMBERS, PARTITIONS, st.integers(1, 5), st.randoms(use_true_random=False))
@settings(max_examples=15)
def test_the_order_of_the_members_does_not_matter(
    members: list[Member], partitions: int, n: int, rng: random.Random
) -> None:
    shuffled = list(members)
    rng.shuffle(shuffled)
    assert assign(shuffled, partitions, n) == assign(members, partitions, n)


def test_the_hash_seed_does_not_matter() -> None:
    program = (
        "from server.core.ring.assignment import assign; from server.core.ring.layout import Layout, Member;"
        "m = tuple(Member(f'm{i}', f'n{i}', f'h:{i + 1}', 'abc'[i % 3], i % 2 + 1) for i in range(7));"
        "layout = Layout('c', 1, 64, 3, 2, 2, m, assign(m, 64, 3));"
        "print(layout.encode(), [layout.preference_list(p) for p in range(64)])"
    )
    assert b"epoch" in output_under_any_hash_seed(program)


def test_no_members() -> None:
    with pytest.raises(ValueError, match="at least one member"):
        assign([], 128, 3)
