"""Mending: when a damaged record is replaced, by what, and what happens to the writes that wait for it."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.base.room import FOR_NOTHING
from server.core.messages import record_questions
from server.core.messages.asking import UNREADABLE
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord, merge
from server.core.repair.exchange_answers import PAGE_BYTES
from server.core.repair.mending import AGAIN_MS, Mending
from server.core.work.questions import answered_by
from tests.core.repair.machines import CONFIG, Machine, Machines, keys_of, record_of, tombstone, written

KEY = b"key"
STORED = storage_key_of(KEY)


def mend_at(machine: Machine) -> Mending:
    """A machine's mending, which hears of what is found damaged."""
    mending = Mending(machine.state, machine.questions, machine.background)
    kind, answerer = answered_by(record_questions.COPIES, mending.copies)
    machine.answerers[kind] = answerer
    return mending


class Ward:
    """Three owners of everything (or of some more machines), each with `KEY`; n1 has lost it."""

    def __init__(self, count: int = 3, n: int = 3, config: Any = CONFIG) -> None:
        self.machines = Machines(count, n, config)
        self.mendings = [mend_at(machine) for machine in self.machines.all.values()]
        self.one, self.mending = self.machines[1], self.mendings[0]
        for machine in self.machines.all.values():
            machine.write(b"v", KEY)
        self.one.damage(KEY)

    def find(self, *keys: bytes) -> None:
        """n1 reads keys, and finds them damaged."""
        for key in keys or (KEY,):
            with pytest.raises(DamagedRecord):
                self.one.record(key)

    def find_and_wait(self, duration_ms: int = 10) -> None:
        self.find()
        self.machines.pass_ms(duration_ms)

    @property
    def counts(self) -> tuple[int, int]:
        """Records mended and lost."""
        statistics = self.one.state.statistics
        return statistics.records_mended, statistics.records_lost


def test_a_damaged_record_is_replaced_by_the_copy_of_the_others() -> None:
    ward = Ward()
    ward.find()
    assert len(ward.mending) == 1
    ward.machines.pass_ms(10)
    assert ward.one.value(KEY) == b"v" and ward.one.disk.get(STORED) == written(b"v", KEY)
    assert len(ward.mending) == 0 and ward.counts == (1, 0)
    assert ward.mending.drain_counts() == (1, 0) and ward.mending.drain_counts() == (0, 0)


def test_the_join_of_all_copies_is_stored() -> None:
    ward = Ward()
    beside = record_of(b"beside", 7, b"actor-y.")
    ward.machines[3].put(beside, KEY)
    ward.find_and_wait()
    assert ward.one.record(KEY) == merge(written(b"v", KEY), beside)


def test_it_waits_until_every_other_owner_has_answered() -> None:
    """The damaged record may have been one of W votes of a write that a single other owner has."""
    ward = Ward()
    ward.machines[3].write(b"newer", KEY, at=2)
    ward.machines.cut("n3")
    ward.find_and_wait(10 * AGAIN_MS)
    assert len(ward.mending) == 1 and ward.counts == (0, 0)
    with pytest.raises(DamagedRecord):
        ward.one.record(KEY)
    ward.machines.link("n3")
    ward.machines.pass_ms(2 * AGAIN_MS)
    assert ward.one.value(KEY) == b"newer" and ward.counts == (1, 0)


def test_nodes_that_are_no_owners_are_asked_and_need_not_answer() -> None:
    """They may keep a hint of it."""
    ward = Ward(count=5)
    owners = ward.one.state.owners_of(STORED)
    hinted, away = [name for name in ward.machines.all if name not in owners]
    finder = ward.machines.all[next(owner for owner in owners if owner != "n1")]
    ward.one.disk.commit({STORED: written(b"v", KEY)})
    finder.damage(KEY)
    ward.machines.all[hinted].disk.commit({STORED: None})
    ward.machines.all[hinted].state.records.cache.clear()
    ward.machines.all[hinted].write(b"newer", KEY, at=2)
    ward.machines.cut(away)
    with pytest.raises(DamagedRecord):
        finder.record(KEY)
    ward.machines.pass_ms(10)
    assert finder.value(KEY) == b"newer"


def test_a_record_that_nobody_has_is_lost_and_counted() -> None:
    ward = Ward()
    for number in (2, 3):
        ward.machines[number].damage(KEY)
    ward.find_and_wait(100)
    assert ward.counts == (0, 1) and ward.mending.drain_counts() == (0, 1)
    assert ward.one.record(KEY) is None, "and it damages nothing any more"


def test_one_that_was_never_there_is_not_lost() -> None:
    """The engine could not read the block, and nobody has anything of that key."""
    ward = Ward()
    ward.one.disk.unreadable[storage_key_of(b"other")] = None
    ward.find(b"other")
    ward.machines.pass_ms(10)
    assert ward.counts == (0, 0) and len(ward.mending) == 0 and ward.one.record(b"other") is None


def test_nothing_is_given_up_while_a_member_that_may_keep_a_hint_is_away() -> None:
    ward = Ward(count=5)
    owners = ward.one.state.owners_of(STORED)
    for machine in ward.machines.all.values():
        machine.disk.commit({STORED: None})
        machine.state.records.cache.clear()
    finder = ward.machines.all[owners[0]]
    finder.damage(KEY)
    away = next(name for name in ward.machines.all if name not in owners)
    ward.machines.cut(away)
    with pytest.raises(DamagedRecord):
        finder.record(KEY)
    ward.machines.pass_ms(3 * AGAIN_MS)
    assert finder.state.statistics.records_lost == 0
    ward.machines.all[away].write(b"hinted", KEY)
    ward.machines.link(away)
    ward.machines.pass_ms(2 * AGAIN_MS)
    assert finder.value(KEY) == b"hinted" and finder.state.statistics.records_lost == 0


def test_damage_of_a_moment_is_mended_from_the_disk_itself() -> None:
    ward = Ward()
    ward.one.write(b"newest", b"other", at=5)
    ward.one.lose_blocks(b"other")
    ward.find(b"other")
    ward.one.disk.unreadable.clear()
    ward.machines.pass_ms(10)
    assert ward.one.value(b"other") == b"newest" and ward.counts == (1, 0)


def test_a_new_actor_is_taken_before_anything_is_written_again() -> None:
    """The damaged bytes may have been the only place where some of our own dots were known. Once a turn is enough."""
    ward = Ward()
    keys = keys_of(2)
    for machine in ward.machines.all.values():
        machine.write(b"v", *keys)
    ward.one.damage(*keys)
    actors = [ward.one.state.actor]
    for key in keys:
        ward.find(key)
        actors.append(ward.one.state.actor)
    assert actors[0] != actors[1] == actors[2]
    ward.one.end_turn()
    ward.find(keys[0])
    assert ward.one.state.actor != actors[2]


def test_what_all_have_agreed_to_forget_meanwhile_is_not_stored_again() -> None:
    ward = Ward()
    ward.find()

    def forget(message: Any) -> bool:
        if message.words[0] == b"ANSWER":
            for number in (2, 3):
                ward.machines[number].disk.commit({STORED: None})
                ward.machines[number].state.records.cache.clear()
            ward.one.state.draw_line()
            ward.machines.pass_on = lambda message: True
        return True

    ward.machines.pass_on = forget
    ward.machines.pass_ms(10)
    assert len(ward.mending) == 1, "the answers are from before the line: they are asked again"
    ward.machines.pass_ms(AGAIN_MS)
    assert ward.one.record(KEY) is None


def test_what_lay_here_for_a_hint_that_is_paid_just_goes() -> None:
    ward = Ward(count=4, n=1)
    other = next(machine for machine in ward.machines.all.values() if not machine.state.owns(STORED))
    other.damage(KEY)
    with pytest.raises(DamagedRecord):
        other.record(KEY)
    ward.machines.pass_ms(10)
    assert other.record(KEY) is None and other.disk.get(STORED) is None
    assert (other.state.statistics.records_mended, other.state.statistics.records_lost) == (0, 0)


def test_many_are_mended_in_batches_and_no_more_are_kept_in_mind_than_configured() -> None:
    keys = keys_of(40)
    ward = Ward(config=CONFIG.of({"engine": "memory", "tree_leaf_bits": 14, "damaged_records_max": 20}))
    for machine in ward.machines.all.values():
        machine.write(b"v", *keys)
    ward.one.damage(*keys)
    ward.find(*keys)
    assert len(ward.mending) == 20
    ward.machines.pass_ms(100)
    assert len(ward.mending) == 0 and ward.counts == (20, 0)
    assert [len(items) for items in ward.machines.asked(b"COPIES", 2)] == [16, 4]
    ward.find(*keys[20:])
    ward.machines.pass_ms(100)
    assert ward.one.values(keys) == [b"v"] * 40, "reading finds the others again"


def test_nothing_is_mended_on_a_disk_that_takes_nothing() -> None:
    ward = Ward()
    ward.one.state.room = FOR_NOTHING
    ward.find_and_wait(5 * AGAIN_MS)
    assert len(ward.mending) == 1
    ward.one.state.room = 0
    ward.machines.pass_ms(2 * AGAIN_MS)
    assert ward.one.value(KEY) == b"v"


def test_the_tree_is_right_again_after_a_range_that_could_not_be_read() -> None:
    ward = Ward()
    ward.one.disk.commit({STORED: written(b"v", KEY)})
    ward.one.disk.unreadable[STORED] = None
    slot = int.from_bytes(STORED[:2], "big")
    ward.one.state.records.cache.clear()
    ward.one.state.records.rescan(slot, slot + 1)
    leaf = (slot, slot + 1)
    assert ward.one.state.records.trees.hash_of(leaf) != ward.machines[2].state.records.trees.hash_of(leaf)
    ward.find_and_wait(100)
    assert ward.one.state.records.trees.hash_of(leaf) == ward.machines[2].state.records.trees.hash_of(leaf)


# --- writes that wait


def park(ward: Ward, key: bytes | None = STORED) -> tuple[bool, list[str]]:
    """A write waits; the list tells how it has ended."""
    ended: list[str] = []
    return ward.mending.park(key, lambda: ended.append("run"), lambda: ended.append("failed")), ended


def test_a_write_that_met_damage_runs_once_it_is_mended() -> None:
    ward = Ward()
    ward.find()
    waits, ended = park(ward)
    assert waits and ended == []
    ward.machines.pass_ms(10)
    assert ended == ["run"]
    ward.mending.expire(ward.machines.now_ms + CONFIG.request_timeout_ms)
    assert ended == ["run"], "once"


def test_a_write_fails_at_its_deadline_and_others_wait_on() -> None:
    ward = Ward()
    ward.machines.cut("n3")
    ward.find()
    _, first = park(ward)
    ward.machines.pass_ms(500)
    _, second = park(ward)
    ward.mending.expire(1000 + CONFIG.request_timeout_ms - 1)
    assert (first, second) == ([], [])
    ward.mending.expire(1000 + CONFIG.request_timeout_ms)
    assert (first, second) == (["failed"], [])
    ward.machines.link("n3")
    ward.machines.pass_ms(2 * AGAIN_MS)
    assert (first, second) == (["failed"], ["run"])


@pytest.mark.parametrize("case", ["sound", "unknown", "alone"])
def test_a_write_does_not_wait_where_nothing_is_mended(case: str) -> None:
    ward = Ward()
    if case != "sound":
        ward.find()
    if case == "alone":
        ward.machines.cut("n1")
    waits, ended = park(ward, None if case == "unknown" else STORED)
    assert not waits and ended == []


# --- the side that is asked


def test_copies_are_records_nothing_or_damage() -> None:
    ward = Ward()
    two = ward.mendings[1]
    ward.machines[2].put(tombstone(9 << 40), b"gone")
    ward.machines[2].damage(KEY)
    ward.machines[2].write(b"v", b"sound")
    keys = [storage_key_of(key) for key in (b"sound", b"absent", KEY, b"gone")]
    assert two.copies(keys) == [written(b"v", b"sound"), None, UNREADABLE, tombstone(9 << 40)]


def test_copies_are_a_page_and_one_at_least() -> None:
    ward = Ward()
    keys = keys_of(3)
    for key in keys:
        ward.machines[2].put(record_of(bytes(PAGE_BYTES // 2)), key)
    stored = [storage_key_of(key) for key in keys]
    assert len(ward.mendings[1].copies(stored)) == 2
    for machine in (ward.machines[1], ward.machines[3]):
        for key in keys:
            machine.put(record_of(bytes(PAGE_BYTES // 2)), key)
    ward.one.damage(*keys)
    ward.find(*keys)
    ward.machines.pass_ms(100)
    assert ward.counts == (3, 0), "what did not come with the first answer is asked again"
