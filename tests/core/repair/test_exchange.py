"""The exchange: two nodes hold the join of both afterwards, at a cost that grows with the difference."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.records.records import storage_key_of
from server.core.records.trees import Span
from server.core.records.versions import merge
from server.core.repair.differences import How, LeafDifference
from server.core.repair.exchange import Exchange, Outcome, PeerLost
from server.core.repair.exchange_answers import LISTED_KEYS, PAGE_BYTES
from server.core.work.background import BATCH_KEYS
from tests.core.repair.machines import CONFIG, Machine, Machines, keys_of, record_of, tombstone, written

ALL: list[Span] = [(0, 1 << 14)]
LONG_MS = 60_000


class Two:
    """n1 exchanges with n2. What both store at first is given to both."""

    def __init__(self, *keys: bytes) -> None:
        self.machines = Machines(2)
        self.here, self.there = self.machines[1], self.machines[2]
        self.outcome = Outcome()
        for machine in (self.here, self.there):
            machine.write(b"v", *keys)

    def begin(self, spans: list[Span] = ALL, must_give: bool = True) -> list[Any]:
        """Starts an exchange; the list gets None or PeerLost."""
        here = self.here
        exchange = Exchange(here.state, here.questions, here.background, "n2", self.outcome, must_give)
        return here.begin(exchange.repair(spans), PeerLost)

    def repair(self, spans: list[Span] = ALL, must_give: bool = True) -> Any:
        """An exchange, and how it has ended."""
        ended = self.begin(spans, must_give)
        self.machines.pass_ms(LONG_MS)
        [result] = ended
        return result

    def both(self, key: bytes) -> list[bytes | None]:
        """The records of both."""
        return [self.here.record(key), self.there.record(key)]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Keys repaired, of these taken, unsettled, unreadable."""
        outcome = self.outcome
        return outcome.keys_repaired, outcome.keys_taken, outcome.unsettled, outcome.unreadable

    def questions(self) -> list[bytes]:
        """The kinds of questions, in order."""
        return [message.question for message in self.machines.said if message.question]

    def on_answer_to(self, kind: bytes, then: Any) -> None:
        """Whenever n2 answers such a question, `then` is called before the answer arrives; it arrives unless that
        answers False."""
        numbers: dict[bytes, None] = {}

        def pass_on(message: Any) -> bool:
            if message.question == kind:
                numbers[message.words[2]] = None
            elif message.words[0] == b"ANSWER" and message.words[2] in numbers:
                return then() is not False
            return True

        self.machines.pass_on = pass_on


# --- what comes out


def test_equal_nodes_exchange_one_hash() -> None:
    two = Two(*keys_of(500))
    assert two.repair() is None
    assert two.questions() == [b"HASHES"] and two.counts == (0, 0, 0, 0)
    assert two.outcome.bytes_sent < 300


def test_nodes_without_records_are_equal() -> None:
    two = Two()
    assert two.repair() is None and two.questions() == [b"HASHES"]


@pytest.mark.parametrize("spans", [[], [(3, 4)]])
def test_only_the_ranges_asked_for_are_made_equal(spans: list[Span]) -> None:
    two = Two()
    two.there.write(b"v", b"k1")
    assert two.repair(spans) is None
    assert two.both(b"k1") == [None, written(b"v", b"k1")]


OLD, NEW, BESIDE = record_of(b"old", 1), record_of(b"new", 2), record_of(b"beside", 2, b"actor-y.")


@pytest.mark.parametrize(
    ("here", "there", "counts"),
    [
        (OLD, None, (1, 0, 0, 0)),
        (None, OLD, (1, 1, 0, 0)),
        (OLD, NEW, (1, 1, 0, 0)),
        (NEW, OLD, (1, 0, 0, 0)),
        (OLD, BESIDE, (2, 1, 0, 0)),
        (tombstone(2), OLD, (1, 0, 0, 0)),
        (OLD, tombstone(2), (1, 1, 0, 0)),
        (None, tombstone(2), (1, 1, 0, 0)),
    ],
    ids=[
        "missing there",
        "missing here",
        "newer there",
        "newer here",
        "siblings",
        "deleted here",
        "deleted there",
        "dead",
    ],
)
@pytest.mark.parametrize("others", [0, 40])
def test_both_hold_the_join(here: bytes | None, there: bytes | None, counts: tuple[int, ...], others: int) -> None:
    """Whether the range is empty on a side or full of equal records."""
    two = Two(*keys_of(others))
    for machine, record in ((two.here, here), (two.there, there)):
        if record is not None:
            machine.put(record, b"key")
    assert two.repair() is None
    join = merge(here, there)
    assert two.both(b"key") == [join, join]
    assert two.counts == counts
    assert two.here.state.statistics.keys_repaired == counts[0]
    two.machines.said.clear()
    assert two.repair() is None
    assert two.questions() == [b"HASHES"], "a second one finds nothing"


def test_keys_that_share_a_leaf_are_told_apart() -> None:
    keys = keys_of(5, "tag")
    two = Two(*keys)
    two.here.write(b"new", keys[1], at=2)
    two.there.write(b"new", keys[3], at=2)
    assert two.repair() is None
    for machine in (two.here, two.there):
        assert machine.values(keys) == [b"v", b"new", b"v", b"new", b"v"]


def test_a_wiped_node_is_filled_in_pages_of_records_and_nothing_is_compared() -> None:
    two = Two()
    keys = keys_of(5 * BATCH_KEYS)
    two.there.write(b"v", *keys)
    assert two.repair() is None
    assert two.here.values(keys) == [b"v"] * len(keys)
    assert two.questions() == [b"HASHES"] + [b"LIST"] * 6 and two.counts == (80, 80, 0, 0)
    assert {items[1] for items in two.machines.asked(b"LIST")} == {b"r"}


def test_a_question_lists_many_keys_and_the_few_that_differ_travel_together() -> None:
    two = Two(*keys_of(1000))
    two.there.write(b"new", *keys_of(1000)[::10], at=2)
    assert two.repair() is None
    assert two.counts == (100, 100, 0, 0)
    assert two.questions().count(b"LIST") <= 1000 // LISTED_KEYS + 5
    assert two.questions().count(b"FETCH") == two.questions().count(b"LIST")


def test_what_is_empty_there_is_sent_in_pages() -> None:
    two = Two()
    keys = keys_of(5 * BATCH_KEYS)
    two.here.write(b"v", *keys)
    assert two.repair() is None
    assert two.there.values(keys) == [b"v"] * len(keys)
    assert two.questions() == [b"HASHES"] + [b"MERGE"] * 5 and two.counts == (80, 0, 0, 0)


def test_large_records_travel_alone() -> None:
    two = Two()
    keys = keys_of(3)
    two.here.put(record_of(bytes(2 * PAGE_BYTES)), *keys)
    assert two.repair() is None
    assert [len(items) for items in two.machines.asked(b"MERGE")] == [3, 3, 3]
    assert two.there.values(keys) == two.here.values(keys)


# --- where they differ


def test_one_difference_among_many_keys_costs_a_few_small_questions() -> None:
    keys = keys_of(2000)
    two = Two(*keys)
    two.there.write(b"new", keys[700], at=2)
    assert two.repair() is None
    assert two.here.value(keys[700]) == b"new"
    kinds = two.questions()
    assert kinds.count(b"HASHES") <= 4 and kinds.count(b"LIST") == kinds.count(b"FETCH") == 1
    assert two.outcome.bytes_sent < 2500


def test_where_most_parts_differ_they_are_listed_together() -> None:
    keys = keys_of(160)
    two = Two(*keys)
    two.there.write(b"new", *keys[::2], at=2)
    assert two.repair() is None
    assert two.here.values(keys) == two.there.values(keys)
    assert two.questions().count(b"HASHES") == 2, "the whole, and its sixteen parts"


def test_what_differs_is_found_without_changing_anything() -> None:
    two = Two(*keys_of(200))
    two.there.write(b"new", b"k7", at=2)
    two.here.write(b"v", *keys_of(1, "only here"))
    two.there.write(b"v", *keys_of(1, "only there"))

    def leaf_of(key: bytes) -> Span:
        slot = int.from_bytes(storage_key_of(key)[:2], "big")
        return slot, slot + 1

    here, there, changed = leaf_of(b"{only here}0"), leaf_of(b"{only there}0"), leaf_of(b"k7")
    equal = next((slot, slot + 1) for slot in range(1 << 14) if not two.here.state.records.trees.counts[slot])
    exchange = Exchange(two.here.state, two.here.questions, two.here.background, "n2", two.outcome)
    found = two.here.begin(exchange.compare([here, there, changed, equal, (0, 1 << 14)]))
    two.machines.settle()
    assert found == [
        [
            LeafDifference(here, How.PUSH),
            LeafDifference(there, How.PULL),
            LeafDifference(changed, How.LIST),
            LeafDifference((0, 1 << 14), How.OPEN),
        ]
    ]
    assert two.here.value(b"k7") == b"v"


def test_a_large_range_is_compared_in_parts() -> None:
    machines = Machines(2, config=CONFIG.of({"engine": "memory", "tree_leaf_bits": 18}))
    machine = machines[1]
    machines[2].write(b"v", b"k1")
    exchange = Exchange(machine.state, machine.questions, machine.background, "n2", Outcome())
    found = machine.begin(exchange.compare([(0, 1 << 18)]))
    machines.settle()
    [[difference]] = found
    assert difference.how is How.PULL and difference.span in ((0, 1 << 17), (1 << 17, 1 << 18))


def test_leaves_of_another_size_are_listed_key_by_key() -> None:
    two = Two(*keys_of(20))
    two.there.write(b"new", b"k3", at=2)
    other = Machine("n2", two.machines.layout, CONFIG.of({"engine": "memory", "tree_leaf_bits": 16}), 1000)
    other.disk.commit(dict(two.there.disk.scan(b"", b"\x40", 100)))
    other.start(1000)
    two.machines.all["n2"] = other
    two.machines.link("n2")
    assert two.repair() is None
    assert two.here.value(b"k3") == b"new" and two.counts == (1, 1, 0, 0)
