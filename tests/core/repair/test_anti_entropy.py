"""The continual comparison: who leads, when it is due, and what it makes equal."""

from __future__ import annotations

import itertools

import pytest

from server.core.records.trees import Span
from server.core.records.versions import DamagedRecord
from server.core.repair.anti_entropy import OVERDUE_MS_MIN, RETRY_MS, SOON_MS, AntiEntropy, shared_spans
from server.core.ring.partners import Partners
from server.core.work.background import BATCH_KEYS
from tests.core.repair.machines import CONFIG, PARTITIONS, Machines, keys_of, layout_of

INTERVAL_MS = 60_000
CONFIGURED = CONFIG.of({"engine": "memory", "tree_leaf_bits": 14, "repair_interval_ms": INTERVAL_MS})
KEYS = keys_of(200)


class Owners:
    """Machines that compare themselves; `leader` leads against `other`."""

    def __init__(self, count: int = 2, n: int = 3) -> None:
        self.machines = Machines(count, n, CONFIGURED)
        self.loops = {
            name: AntiEntropy(machine.state, machine.questions, machine.background)
            for name, machine in self.machines.all.items()
        }
        leader, other = ("n1", "n2") if Partners(self.machines.layout, "n1").leads("n2") else ("n2", "n1")
        self.leader, self.other = self.machines.all[leader], self.machines.all[other]

    def compared(self) -> list[int]:
        """How many comparisons each machine has led to their end."""
        return [machine.state.statistics.trees_compared for machine in self.machines.all.values()]

    def held(self, keys: list[bytes] = KEYS) -> list[int]:
        """How many of the keys each machine holds."""
        return [sum(machine.record(key) is not None for key in keys) for machine in self.machines.all.values()]


@pytest.mark.parametrize("count", range(2, 10))
def test_of_each_two_members_one_leads_and_all_lead_about_half_of_their_pairs(count: int) -> None:
    layout = layout_of(count)
    ids = [member.id for member in layout.members]
    led = dict.fromkeys(ids, 0)
    for one, other in itertools.combinations(ids, 2):
        assert Partners(layout, one).leads(other) is not Partners(layout, other).leads(one)
        led[one if Partners(layout, one).leads(other) else other] += 1
    assert max(led.values()) - min(led.values()) <= 2


def test_shared_spans_are_those_that_both_should_hold_adjacent_ones_joined() -> None:
    trees = Machines(1)[1].state.records.trees
    holders: dict[int, tuple[str, ...]] = dict.fromkeys(range(PARTITIONS), ("n1", "n3"))
    holders |= dict.fromkeys((2, 3, 4, 8), ("n2", "n1"))
    width = (1 << 14) // PARTITIONS

    def of(one: str, other: str) -> list[Span]:
        return shared_spans(PARTITIONS, trees, range(PARTITIONS), one, other, holders.__getitem__)

    assert of("n1", "n2") == of("n2", "n1") == [(2 * width, 5 * width), (8 * width, 9 * width)]
    assert of("n2", "n3") == []
    assert of("n1", "n3") == [(0, 2 * width), (5 * width, 8 * width), (9 * width, 1 << 14)]


def test_what_differs_is_equal_within_the_interval() -> None:
    owners = Owners()
    owners.machines.pass_ms(2 * SOON_MS + 1500)
    owners.other.write(b"v", *KEYS[:100])
    owners.leader.write(b"v", *KEYS[100:])
    owners.machines.pass_ms(INTERVAL_MS)
    assert owners.held() == [200, 200]
    assert owners.leader.state.statistics.keys_repaired == 200


def test_equal_nodes_are_compared_by_one_of_them_once_in_the_interval() -> None:
    owners = Owners()
    for machine in owners.machines.all.values():
        machine.write(b"v", *KEYS)
    owners.machines.pass_ms(4 * INTERVAL_MS)
    count = owners.leader.state.statistics.trees_compared
    assert 4 <= count <= 6 and sum(owners.compared()) == count
    assert {message.sender for message in owners.machines.said if message.question} == {owners.leader.name}
    assert len(owners.machines.asked(b"HASHES")) == count and len(owners.machines.said) == 2 * count


def test_a_peer_that_has_come_up_is_compared_soon_after_its_hints() -> None:
    owners = Owners()
    owners.machines.cut("n2")
    owners.machines.pass_ms(5000)
    assert owners.machines.said == []
    owners.other.write(b"v", *KEYS)
    owners.machines.link("n2")
    owners.machines.pass_ms(SOON_MS - 10)
    assert owners.machines.said == [], "its hints go first"
    owners.machines.pass_ms(SOON_MS + 1100)
    assert owners.held() == [200, 200]


def test_a_new_process_of_a_peer_is_compared_though_its_links_never_seemed_broken() -> None:
    owners = Owners()
    owners.machines.pass_ms(10_000)
    assert sum(owners.compared()) == 1
    owners.loops[owners.leader.name].connected(owners.other.name)
    owners.machines.pass_ms(2 * SOON_MS + 1100)
    assert sum(owners.compared()) == 2


def test_a_member_that_becomes_a_partner_again_counts_as_one_that_has_come_up() -> None:
    owners = Owners()
    leader, loop = owners.leader.state, owners.loops[owners.leader.name]
    owners.machines.pass_ms(10_000)
    assert sum(owners.compared()) == 1
    leader.adopt(layout_of(2, 1))
    owners.machines.pass_ms(OVERDUE_MS_MIN)
    assert sum(owners.compared()) == 1, "they share no partition"
    leader.adopt(layout_of(2))
    assert loop.overdue_s() == {}, "nobody expected it to be compared meanwhile"
    owners.machines.pass_ms(2 * SOON_MS + 1500)
    assert sum(owners.compared()) == 2


def test_a_peer_that_is_lost_in_the_middle_is_compared_again() -> None:
    owners = Owners()
    owners.other.write(b"v", *KEYS)
    pages = [None] * 3

    def pass_on(message: object) -> bool:
        if message.question == b"LIST":  # type: ignore[attr-defined]
            if not pages:
                return False
            pages.pop()
        return True

    owners.machines.pass_on = pass_on
    owners.machines.pass_ms(8000)
    assert 0 < owners.held()[0 if owners.leader.name == "n1" else 1] <= 3 * BATCH_KEYS
    owners.machines.pass_on = lambda message: True
    owners.machines.pass_ms(RETRY_MS + 1000)
    assert owners.held() == [200, 200]


def test_a_node_that_is_being_filled_compares_nothing() -> None:
    """Filling does the same."""
    owners = Owners()
    owners.leader.state.is_filling = True
    owners.machines.pass_ms(INTERVAL_MS)
    assert owners.machines.said == []
    owners.leader.state.is_filling = False
    owners.machines.pass_ms(2000)
    assert sum(owners.compared()) == 1


def test_members_that_share_no_partition_exchange_nothing() -> None:
    owners = Owners(2, n=1)
    for machine in owners.machines.all.values():
        machine.write(b"v", *KEYS)
    owners.machines.pass_ms(2 * INTERVAL_MS)
    assert owners.machines.said == [] and owners.compared() == [0, 0]


def test_nodes_of_a_larger_cluster_hold_in_the_end_what_they_own_and_no_more() -> None:
    owners = Owners(4, n=2)
    for key in KEYS:
        owner = owners.machines[1].state.owners_of(_stored(key))[0]
        owners.machines.all[owner].write(b"v", key)
    owners.machines.pass_ms(INTERVAL_MS)
    for machine in owners.machines.all.values():
        owned = [key for key in KEYS if machine.state.owns(_stored(key))]
        assert [key for key in KEYS if machine.record(key) is not None] == owned


def _stored(key: bytes) -> bytes:
    from server.core.records.records import storage_key_of

    return storage_key_of(key)


def test_several_peers_with_differences_take_turns() -> None:
    """So that a wiped node does not keep the others waiting."""
    owners = Owners(5)
    leader = next(
        machine
        for machine in owners.machines.all.values()
        if sum(Partners(owners.machines.layout, machine.name).leads(other) for other in owners.machines.all) >= 2
    )
    partners = Partners(owners.machines.layout, leader.name)
    led = [name for name in owners.machines.all if name != leader.name and partners.leads(name)]
    many = keys_of(3000)
    leader.write(b"v", *[key for key in many if leader.state.owns(_stored(key))])
    owners.machines.pass_ms(3500)
    merges = [message.receiver for message in owners.machines.said if message.question == b"MERGE"]
    receivers = list(dict.fromkeys(merges))
    assert len(receivers) >= 2 and all(name in led for name in merges if name in led)
    first_of_second = merges.index(receivers[1])
    assert receivers[0] in merges[first_of_second:], "the first one is not finished before the second begins"


# --- hints that found no room


def test_whoever_alone_knows_that_a_peer_missed_something_compares_itself_too() -> None:
    owners = Owners()
    owners.machines.pass_ms(5000)
    owners.other.write(b"v", *KEYS)
    owners.other.state.hints.dropped_hints[owners.leader.name] = 200
    before = owners.compared()
    owners.machines.pass_ms(RETRY_MS + 2500)
    assert sum(owners.compared()) > sum(before) and owners.held() == [200, 200]
    assert owners.other.state.hints.dropped_hints == {}, "it has everything now"


def test_hints_that_were_dropped_meanwhile_are_not_forgotten() -> None:
    owners = Owners()
    dropped = owners.leader.state.hints.dropped_hints
    dropped[owners.other.name] = 3
    owners.leader.write(b"v", *KEYS)

    def pass_on(message: object) -> bool:
        if message.question == b"MERGE":  # type: ignore[attr-defined]
            dropped[owners.other.name] = 4
            owners.machines.pass_on = lambda message: True
        return True

    owners.machines.pass_on = pass_on
    owners.machines.pass_ms(4000)
    assert owners.compared() != [0, 0] and dropped == {owners.other.name: 4}
    owners.machines.pass_ms(RETRY_MS + 2000)
    assert dropped == {}


def test_a_peer_that_could_not_take_everything_has_still_missed_something() -> None:
    owners = Owners()
    dropped = owners.leader.state.hints.dropped_hints
    for machine in owners.machines.all.values():
        machine.write(b"v", *KEYS)
    owners.leader.write(b"new", KEYS[3], at=2)
    owners.other.damage(KEYS[3])
    dropped[owners.other.name] = 1
    owners.machines.pass_ms(5000)
    assert sum(owners.compared()) == 1 and dropped == {owners.other.name: 1}


def test_an_error_that_is_expected_ends_it_for_a_moment_only() -> None:
    owners = Owners()
    owners.leader.state.unexpected.plant("procedure anti-entropy", DamagedRecord("planted"))
    owners.machines.pass_ms(1500)
    assert owners.leader.state.statistics.procedure_errors == 1
    owners.other.write(b"v", *KEYS)
    owners.machines.pass_ms(10_000)
    assert owners.held() == [200, 200] and "anti-entropy" in owners.leader.background.failing()
