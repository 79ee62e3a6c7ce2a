"""The scrub: everything is read once in an interval, what is damaged is found, and damaged blocks are read around."""

from __future__ import annotations

from typing import Any

import pytest

from protocol.slots import SLOTS
from server.core.collection.collection import Collection
from server.core.messages import record_questions
from server.core.records.live_slots import is_uncounted
from server.core.records.records import storage_key_of
from server.core.records.versions import encode, supersede
from server.core.repair.scrub import PAUSE_MS_MAX, UNPACED_BYTES_PER_MS, Scrub
from server.core.requests import page_answers
from server.core.work.background import BATCH_KEYS
from server.core.work.questions import answered_by
from tests.core.repair.machines import ACTOR, CONFIG, WALL_MS, Machine, Machines, keys_of, record_of, tombstone

INTERVAL_MS = 100_000
CONFIGURED = CONFIG.of({"engine": "memory", "tree_leaf_bits": 14, "scrub_interval_ms": INTERVAL_MS})


class Walk:
    """n1 scrubs; n2 and n3 own everything, too."""

    def __init__(self, *keys: bytes, count: int = 3, n: int = 3) -> None:
        self.machines = Machines(count, n, CONFIGURED)
        for machine in self.machines.all.values():
            kind, answerer = answered_by(record_questions.PAGE, lambda page, machine=machine: _page(machine, page))
            machine.answerers[kind] = answerer
            machine.write(b"v", *keys)
        self.one: Machine = self.machines[1]
        one = self.one
        self.collection = Collection(one.state, one.questions, one.background)
        self.scrub = Scrub(one.state, one.questions, one.background, self.collection)

    def walk(self, *words: Any, **named: Any) -> list[Any]:
        """A walk over all slots, to its end."""
        ended = self.one.begin(self.scrub.walk(*(words or (0, SLOTS)), **named))
        self.machines.pass_ms(10_000)
        return ended

    @property
    def scrubbed(self) -> int:
        return self.one.state.statistics.records_scrubbed


def _page(machine: Machine, page: record_questions.PageQuestion) -> record_questions.PageAnswer | None:
    return page_answers.page(machine.state, page)


def test_every_record_is_read_from_the_disk_and_not_from_the_cache() -> None:
    keys = keys_of(40)
    walk = Walk(*keys)
    walk.one.disk.commit({storage_key_of(keys[17]): b"junk"})
    assert walk.one.value(keys[17]) == b"v", "the cache has it still"
    assert walk.walk() == [40]
    assert walk.scrubbed == 40 and walk.one.damaged == [storage_key_of(keys[17])]


def test_nothing_to_read_is_read_at_once() -> None:
    walk = Walk()
    assert walk.walk() == [0] and walk.scrubbed == 0


def test_a_walk_over_some_slots_reads_these_only() -> None:
    inside, outside = keys_of(5, "inside"), keys_of(5, "outside")
    walk = Walk(*inside, *outside)
    slot = int.from_bytes(storage_key_of(inside[0])[:2], "big")
    walk.walk(slot, slot + 1)
    assert walk.scrubbed == 5


def test_so_many_keys_are_read_in_a_turn_with_pauses_in_between() -> None:
    walk = Walk(*keys_of(3 * BATCH_KEYS))
    ended = walk.one.begin(walk.scrub.walk(0, SLOTS, 1000))
    seen = []
    for _ in range(4):
        walk.machines.pass_ms(10)
        seen.append(walk.scrubbed)
        walk.machines.pass_ms(990)
    assert seen == [BATCH_KEYS, 2 * BATCH_KEYS, 3 * BATCH_KEYS, 3 * BATCH_KEYS]
    walk.machines.pass_ms(1000)
    assert ended == [3 * BATCH_KEYS]


def test_a_walk_out_of_pace_spends_nothing_of_the_budget_but_pauses_for_bytes() -> None:
    walk = Walk()
    record = record_of(bytes(10 * UNPACED_BYTES_PER_MS))
    walk.one.put(record, b"large")
    ended = walk.one.begin(walk.scrub.walk(0, SLOTS, 5, 100, paced=False))
    walk.machines.pass_ms(9)
    assert ended == []
    walk.machines.pass_ms(2)
    assert ended == [1]
    begun: list[Any] = walk.one.begin(walk.one.background.spend(1))
    assert begun == [None], "the budget has not been touched"


def test_the_scrub_goes_round_in_its_interval_and_counts_its_rounds() -> None:
    keys = keys_of(40)
    walk = Walk(*keys)
    walk.scrub.start()
    walk.machines.pass_ms(min(PAUSE_MS_MAX, INTERVAL_MS) - 10)
    assert walk.scrubbed == 0, "a process that has just started has other work"
    walk.machines.pass_ms(INTERVAL_MS)
    assert (walk.one.state.statistics.scrubs, walk.scrubbed) == (1, 40)
    walk.machines.pass_ms(INTERVAL_MS)
    assert (walk.one.state.statistics.scrubs, walk.scrubbed) == (2, 80)


def test_a_round_counts_the_keys_with_siblings_and_the_next_one_anew() -> None:
    walk = Walk(*keys_of(5))
    for key in keys_of(2):
        walk.one.put(record_of(b"beside", 1 << 40, b"actor--9"), key)
    walk.scrub.start()
    assert walk.scrub.keys_with_siblings is None
    walk.machines.pass_ms(INTERVAL_MS + PAUSE_MS_MAX)
    assert walk.scrub.keys_with_siblings == 2
    walk.machines.pass_ms(INTERVAL_MS)
    assert walk.scrub.keys_with_siblings == 2


def test_slots_that_could_not_be_counted_are_counted_again() -> None:
    walk = Walk(b"key")
    records = walk.one.state.records
    stored = storage_key_of(b"key")
    slot = int.from_bytes(stored[:2], "big")
    walk.one.lose_blocks(b"key")
    records.rescan(slot, slot + 1)
    assert is_uncounted(records, slot, slot + 1)
    walk.one.disk.unreadable.clear()
    walk.scrub.start()
    walk.machines.pass_ms(2 * INTERVAL_MS)
    assert not is_uncounted(records, slot, slot + 1) and not records.unreadable and records.keys == 1


# --- what is dead, and what lies here by mistake


@pytest.mark.parametrize(
    ("record", "is_candidate"),
    [
        (record_of(b"v"), False),
        (tombstone(1), True),
        (supersede(None, ACTOR, 1, b"v", WALL_MS + 500), True),
        (supersede(None, ACTOR, 1, b"v", WALL_MS + 1_000_000), False),
        (encode({b"actor-%02d" % number: 1 for number in range(9)}, []), True),
    ],
    ids=["value", "tombstone", "expired", "not yet", "long clock"],
)
def test_what_is_dead_or_has_a_long_clock_becomes_a_candidate_where_it_is_coordinated(
    record: bytes, is_candidate: bool
) -> None:
    walk = Walk()
    keys = keys_of(30)
    for machine in walk.machines.all.values():
        machine.put(record, *keys)
    here = [key for key in keys if walk.one.state.owners_of(storage_key_of(key))[0] == "n1"]
    walk.walk()
    assert 0 < len(here) < len(keys) and len(walk.collection.candidates) == (len(here) if is_candidate else 0)
    assert not walk.one.state.cleanup_due


def test_what_is_not_kept_here_is_told_and_is_no_candidate() -> None:
    walk = Walk(count=3, n=1)
    walk.one.put(tombstone(1), *keys_of(30))
    walk.walk()
    owned = [key for key in keys_of(30) if walk.one.state.owns(storage_key_of(key))]
    assert len(owned) < 30 and walk.one.state.cleanup_due and len(walk.collection.candidates) == len(owned)


# --- around a damaged block


def test_a_range_that_cannot_be_scanned_is_read_by_the_keys_of_other_owners() -> None:
    """Those that can still be read are well; the others are found damaged; what lies behind is scanned again."""
    keys = keys_of(60)
    walk = Walk(*keys)
    lost, junk = keys[20], keys[21]
    walk.one.damage(junk)
    assert walk.one.values([keys[0], lost]) == [b"v"] * 2, "which are in the cache now"
    walk.one.disk.unreadable[storage_key_of(lost)] = None
    assert walk.walk() == [59]
    assert walk.one.damaged.count(storage_key_of(lost)) == 1 and storage_key_of(junk) in walk.one.damaged
    assert len(dict.fromkeys(walk.one.damaged)) == 2 and walk.scrubbed == 59
    assert len(walk.machines.asked(b"PAGE")) == 2, "the other two owners, about the gap alone"


def test_what_several_owners_have_is_read_page_by_page() -> None:
    keys = keys_of(3 * BATCH_KEYS, "tag")
    walk = Walk()
    walk.machines[2].write(b"v", *keys[::2])
    walk.machines[3].write(b"v", *keys)
    walk.one.write(b"v", *keys)
    walk.one.lose_blocks(*keys)
    walk.walk()
    assert list(dict.fromkeys(walk.one.damaged)) == [storage_key_of(key) for key in keys]


def test_a_key_that_only_others_have_is_no_damage() -> None:
    keys = keys_of(20, "tag")
    walk = Walk(*keys)
    walk.machines[2].write(b"v", *keys_of(60, "tag"))
    walk.one.lose_blocks(keys[5])
    walk.walk()
    assert list(dict.fromkeys(walk.one.damaged)) == [storage_key_of(keys[5])]


def test_where_no_owner_answers_the_range_stays_known_as_unreadable() -> None:
    keys = keys_of(60)
    walk = Walk(*keys)
    walk.one.lose_blocks(keys[20])
    walk.machines.cut("n1")
    assert walk.walk() == [59]
    slot = int.from_bytes(storage_key_of(keys[20])[:2], "big")
    assert list(walk.one.state.records.unreadable) == [slot] and walk.scrubbed == 59
    walk.one.disk.unreadable.clear()
    walk.walk()
    assert not walk.one.state.records.unreadable, "until a walk gets through"
