"""The repair of a single key: every owner holds the join afterwards, and it is said who does not."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.records.records import storage_key_of
from server.core.records.versions import merge
from server.core.repair.exchange import LOST, UNSETTLED
from server.core.repair.one_key import KeyRepair, make_equal
from tests.core.repair.machines import CONFIG, Machines, record_of, tombstone

KEY = b"key"
STORED = storage_key_of(KEY)
OLD, NEW, BESIDE = record_of(b"old", 1), record_of(b"new", 2), record_of(b"beside", 2, b"actor-y.")


class Key:
    """Three owners n1, n2, n3 and what each holds; `asker` repairs."""

    def __init__(self, *records: bytes | None, asker: int = 1, count: int = 3) -> None:
        self.machines = Machines(count)
        self.asker = self.machines[asker]
        self.owners = ["n1", "n2", "n3"]
        for name, record in zip(self.owners, records, strict=True):
            if record is not None:
                self.machines.all[name].put(record, KEY)

    def repair(self) -> KeyRepair:
        asker = self.asker
        ended = asker.begin(make_equal(asker.state, asker.questions, self.owners, STORED))
        self.machines.pass_ms(CONFIG.request_timeout_ms * 2)
        [result] = ended
        return result

    @property
    def records(self) -> list[bytes | None]:
        return [self.machines.all[name].record(KEY) for name in self.owners]


@pytest.mark.parametrize(
    ("records", "repaired"),
    [
        ((OLD, OLD, OLD), 0),
        ((NEW, OLD, OLD), 2),
        ((OLD, OLD, NEW), 2),
        ((None, NEW, None), 2),
        ((OLD, None, BESIDE), 3),
        ((OLD, tombstone(2), OLD), 2),
    ],
)
@pytest.mark.parametrize("asker", [1, 4])
def test_all_owners_hold_the_join(records: tuple[bytes | None, ...], repaired: int, asker: int) -> None:
    """Whether the node that is asked is an owner or not."""
    key = Key(*records, asker=asker, count=4)
    result = key.repair()
    join: bytes | None = None
    for record in records:
        join = merge(join, record)
    assert key.records == [join] * 3
    assert (result.keys_compared, result.keys_repaired, result.missed) == (1, repaired, {})
    assert key.asker.state.statistics.keys_repaired == repaired
    assert len(key.machines.asked(b"MERGE")) == repaired - (asker == 1 and records[0] != join), (
        "to those alone who lack it"
    )
    if asker == 4:
        assert key.asker.record(KEY) is None, "who asks stores nothing"


def test_a_key_that_nobody_holds_is_equal_everywhere() -> None:
    key = Key(None, None, None)
    assert key.repair()[:2] == (0, 0)
    assert key.machines.asked(b"MERGE") == []


def test_bytes_count_both_ways_and_not_to_the_asker_itself() -> None:
    key = Key(NEW, NEW, OLD)
    size = key.repair().bytes_sent
    assert len(NEW) * 2 + len(OLD) < size < len(NEW) * 2 + len(OLD) + 3 * (len(STORED) + 20)
    assert key.asker.state.statistics.repair_bytes_sent == size


def test_an_owner_that_is_away_is_missed_and_the_others_are_equal() -> None:
    key = Key(OLD, NEW, OLD)
    key.machines.cut("n3")
    assert key.repair().missed == {"n3": LOST}
    assert key.records == [NEW, NEW, OLD]


@pytest.mark.parametrize("kind", [b"FETCH", b"MERGE"])
def test_an_owner_that_does_not_answer_is_missed(kind: bytes) -> None:
    key = Key(OLD, NEW, OLD)
    key.machines.pass_on = lambda message: message.question != kind or message.receiver != "n3"
    assert key.repair().missed == {"n3": LOST}


def test_a_damaged_copy_has_no_part_in_the_join_and_is_not_known_to_be_mended() -> None:
    key = Key(OLD, NEW, OLD)
    key.machines[3].damage(KEY)
    result = key.repair()
    assert (result.keys_repaired, result.missed) == (1, {"n3": UNSETTLED})
    assert [key.machines[number].record(KEY) for number in (1, 2)] == [NEW, NEW]
    assert key.machines[3].disk.get(STORED) == b"junk" and key.machines[3].damaged, "which is mending's business"


def test_where_every_copy_is_damaged_nothing_is_sent() -> None:
    key = Key(OLD, OLD, OLD)
    for number in (1, 2, 3):
        key.machines[number].damage(KEY)
    result = key.repair()
    assert result.missed == dict.fromkeys(key.owners, UNSETTLED) and result.keys_compared == 0
    assert key.machines.asked(b"MERGE") == []


def test_a_full_disk_that_takes_nothing_is_missed() -> None:
    key = Key(OLD, NEW, OLD)
    key.machines[3].state.room = 1
    assert key.repair().missed == {"n3": UNSETTLED}
    assert key.records == [NEW, NEW, OLD]


def test_what_was_read_before_a_fence_is_not_sent_after_it() -> None:
    key = Key(OLD, NEW, OLD)

    def fence(message: Any) -> bool:
        if message.words[0] == b"ANSWER":
            key.asker.state.draw_line()
        return True

    key.machines.pass_on = fence
    result = key.repair()
    assert result.missed == {"n1": UNSETTLED, "n3": UNSETTLED} and key.records == [OLD, NEW, OLD]
