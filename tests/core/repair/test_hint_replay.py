"""Hinted handoff: hints go to their owners, and away when these have confirmed the very record that is held."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.base.room import FOR_NOTHING
from server.core.messages import exchange_questions
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord
from server.core.repair.hint_replay import BATCH_BYTES_MAX, RETRY_MS, HintReplay
from server.core.requests import replica
from server.core.ring.change import LEAVE, Change
from server.core.ring.layout import Layout
from server.core.ring.succession import commit, hand_over, release, settle
from server.core.work.background import BATCH_KEYS
from server.core.work.questions import answered_by
from tests.core.repair.machines import CONFIG, Machine, Machines, keys_of, record_of, tombstone, written

KEYS = keys_of(40)


class Debt:
    """n1 keeps hints for others."""

    def __init__(self, count: int = 3, n: int = 3, config: Any = CONFIG) -> None:
        self.machines = Machines(count, n, config)
        for machine in self.machines.all.values():
            kind, answerer = answered_by(
                exchange_questions.ABSORB, lambda pairs, m=machine: replica.store_if_owned(m.state, pairs)
            )
            machine.answerers[kind] = answerer
        self.one: Machine = self.machines[1]
        self.start()

    def start(self) -> None:
        one = self.one
        self.replay = HintReplay(one.state, one.background, one.questions)

    @property
    def hints(self) -> Any:
        return self.one.state.hints

    def owe(self, owner: str, *keys: bytes, only_copy: bool = False) -> None:
        """n1 has written keys that an owner has not got."""
        state = self.one.state
        self.one.write(b"v", *keys, at=2)
        state.hints.keep(owner, [storage_key_of(key) for key in keys], state.time_ms, state.now_ms, only_copy)

    def tick(self, duration_ms: int = 0) -> None:
        """Time passes with the node's ticks; the last one is now."""
        for _ in range(duration_ms // 100):
            self.machines.pass_ms(100)
            self.replay.tick(self.machines.now_ms)
        self.replay.tick(self.machines.now_ms)
        self.machines.pass_ms(10)

    @property
    def delivered(self) -> int:
        return self.one.state.statistics.hints_delivered


def test_an_owner_that_can_be_reached_gets_its_hints_with_the_next_tick() -> None:
    debt = Debt()
    debt.owe("n2", *KEYS[:3])
    debt.owe("n3", KEYS[3])
    debt.tick()
    assert debt.machines[2].values(KEYS[:4]) == [b"v"] * 3 + [None] and debt.machines[3].value(KEYS[3]) == b"v"
    assert debt.hints.total == 0 and debt.delivered == 4
    assert not debt.one.disk.scan(b"\xff\xfe", b"\xff\xff", 10), "nor are they on the disk"


def test_an_owner_that_is_away_gets_them_when_it_is_back() -> None:
    debt = Debt()
    debt.machines.cut("n2")
    debt.owe("n2", KEYS[0])
    debt.tick(20_000)
    assert debt.hints.total == 1 and debt.machines.asked(b"ABSORB") == []
    debt.machines.link("n2")
    debt.tick()
    assert debt.machines[2].value(KEYS[0]) == b"v" and debt.hints.total == 0


def test_they_go_in_batches_oldest_first() -> None:
    debt = Debt()
    debt.owe("n2", *KEYS)
    debt.tick(100)
    sent = [items[::2] for items in debt.machines.asked(b"ABSORB")]
    assert [len(keys) for keys in sent] == [BATCH_KEYS, BATCH_KEYS, len(KEYS) - 2 * BATCH_KEYS]
    assert [key for keys in sent for key in keys] == [storage_key_of(key) for key in KEYS]


def test_large_records_go_in_smaller_batches() -> None:
    debt = Debt()
    debt.owe("n2", *KEYS[:3])
    for key in KEYS[:3]:
        debt.one.put(written(bytes(BATCH_BYTES_MAX * 2 // 3), key, 9), key)
    debt.tick(1000)
    assert [len(items) for items in debt.machines.asked(b"ABSORB")] == [2, 2, 2] and debt.hints.total == 0


def test_all_that_is_owed_waits_for_the_budget_of_background_work() -> None:
    debt = Debt(config=CONFIG.of({"engine": "memory", "tree_leaf_bits": 14, "background_keys_per_s_idle": 16}))
    debt.owe("n2", *KEYS)
    debt.tick()
    assert len(debt.machines.asked(b"ABSORB")) == 1
    debt.tick(1000)
    assert len(debt.machines.asked(b"ABSORB")) == 2


def test_a_newer_write_meanwhile_keeps_the_hint_and_the_next_pass_brings_that() -> None:
    debt = Debt()
    debt.owe("n2", KEYS[0])

    def write(message: Any) -> bool:
        if message.words[0] == b"ANSWER":
            debt.one.write(b"newer", KEYS[0], at=9)
            debt.machines.pass_on = lambda message: True
        return True

    debt.machines.pass_on = write
    debt.tick()
    assert (debt.machines[2].value(KEYS[0]), debt.hints.total) == (b"v", 1)
    debt.tick(2 * RETRY_MS)
    assert (debt.machines[2].value(KEYS[0]), debt.hints.total) == (b"newer", 0)


@pytest.mark.parametrize("case", ["refuses", "never answers", "is lost"])
def test_an_owner_that_does_not_confirm_is_left_alone_for_a_while(case: str) -> None:
    debt = Debt()
    debt.owe("n2", *KEYS[:2])
    if case == "refuses":
        debt.machines[2].state.room = FOR_NOTHING
    elif case == "never answers":
        debt.machines.pass_on = lambda message: message.sender != "n2"
    else:
        debt.machines.pass_on = lambda message: message.question != b"ABSORB"
    debt.tick()
    if case == "is lost":
        debt.machines.cut("n2")
        debt.machines.link("n2")
    debt.tick(CONFIG.request_timeout_ms + RETRY_MS - 200)
    asked = len(debt.machines.asked(b"ABSORB"))
    assert debt.hints.total == 2 and asked <= (2 if case == "never answers" else 5)
    debt.machines.pass_on = lambda message: True
    debt.machines[2].state.room = 0
    debt.tick(2 * RETRY_MS)
    assert debt.hints.total == 0


def test_two_owners_are_paid_side_by_side_and_one_does_not_hold_up_the_other() -> None:
    debt = Debt()
    debt.machines.pass_on = lambda message: message.sender != "n2"
    debt.owe("n2", *KEYS[:2])
    debt.owe("n3", *KEYS[2:])
    debt.tick(100)
    assert debt.hints.owners() == ["n2"] and debt.machines[3].values(KEYS[2:]) == [b"v"] * 38


def test_a_damaged_record_is_not_sent_and_holds_up_no_other_hint() -> None:
    debt = Debt()
    debt.owe("n2", *KEYS)
    debt.one.damage(*KEYS[:BATCH_KEYS])
    debt.tick(500)
    assert debt.machines[2].values(KEYS) == [None] * BATCH_KEYS + [b"v"] * (len(KEYS) - BATCH_KEYS)
    assert debt.hints.keys("n2") == [storage_key_of(key) for key in KEYS[:BATCH_KEYS]], (
        "they wait until they are mended"
    )
    for key in KEYS[:BATCH_KEYS]:
        debt.one.state.records.mend(storage_key_of(key), written(b"v", key, 2))
    debt.tick(2 * RETRY_MS)
    assert debt.hints.total == 0


def test_nothing_held_is_nothing_owed() -> None:
    debt = Debt()
    debt.owe("n2", KEYS[0])
    debt.one.state.records.remove(storage_key_of(KEYS[0]))
    debt.tick(100)
    assert debt.hints.total == 0 and debt.machines.asked(b"ABSORB") == []


def test_a_stand_in_says_when_the_last_hint_of_a_record_is_paid() -> None:
    debt = Debt(count=4, n=2)
    key = next(key for key in KEYS if not debt.one.state.owns(storage_key_of(key)))
    owners = debt.one.state.owners_of(storage_key_of(key))
    debt.machines.cut(owners[1])
    for owner in owners:
        debt.owe(owner, key, only_copy=True)
    debt.tick(100)
    assert debt.hints.owners() == [owners[1]] and not debt.one.state.cleanup_due
    debt.machines.link(owners[1])
    debt.tick(100)
    assert debt.hints.total == 0 and debt.one.state.cleanup_due
    assert debt.one.value(key) == b"v", "it goes as all such records go (cleanup.py)"


def test_a_full_disk_writes_off_nothing_for_the_end_of_a_hint_is_a_write_too() -> None:
    debt = Debt()
    debt.owe("n2", KEYS[0])
    debt.one.state.room = FOR_NOTHING
    debt.tick(5000)
    assert debt.hints.total == 1 and debt.machines.asked(b"ABSORB") == []


def test_hints_outlive_a_restart() -> None:
    debt = Debt()
    debt.machines.cut("n2")
    debt.owe("n2", KEYS[0])
    debt.one.end_turn()
    debt.machines.restart(1)
    debt.start()
    assert debt.hints.total == 1
    debt.tick(100)
    assert debt.machines[2].value(KEYS[0]) == b"v" and debt.hints.total == 0


# --- old debts


def test_an_owners_old_hints_are_left_to_repair_and_it_is_remembered_that_something_is_missing() -> None:
    config = CONFIG.of({"engine": "memory", "tree_leaf_bits": 14, "hint_age_ms_max": 60_000})
    debt = Debt(count=4, n=3, config=config)
    own = [key for key in KEYS if debt.one.state.owns(storage_key_of(key))]
    other = next(key for key in KEYS if not debt.one.state.owns(storage_key_of(key)))
    debt.machines.cut("n2")
    debt.tick()
    debt.owe("n2", *own[:2])
    debt.owe("n2", other, only_copy=True)
    debt.tick(50_000)
    debt.owe("n2", own[2])
    assert debt.hints.total == 4
    debt.tick(12_000)
    assert debt.hints.keys("n2") == [storage_key_of(other), storage_key_of(own[2])], "a stand-in's may be the only copy"
    assert debt.hints.dropped_hints == {"n2": 2} and debt.one.state.statistics.hints_expired == 2


def test_a_process_that_has_just_started_gives_up_nothing() -> None:
    """The clock may have been set while it was down: nobody knows how old the hints are."""
    config = CONFIG.of({"engine": "memory", "tree_leaf_bits": 14, "hint_age_ms_max": 60_000})
    debt = Debt(config=config)
    debt.machines.cut("n2")
    state = debt.one.state
    debt.one.write(b"v", KEYS[0])
    state.hints.keep("n2", [storage_key_of(KEYS[0])], state.time_ms - 1_000_000, 0, False)
    debt.tick(50_000)
    assert debt.hints.total == 1
    debt.tick(12_000)
    assert debt.hints.total == 0


# --- another layout


def _without(debt: Debt, name: str) -> Layout:
    """The layout after a member has left."""
    return release(settle(hand_over(commit(debt.machines.layout, [Change("c", LEAVE, name)]))), [name])


def test_hints_of_an_owner_that_keeps_the_key_no_more_change_hands() -> None:
    debt = Debt(count=4, n=2)
    key = next(key for key in KEYS if "n1" not in debt.one.state.owners_of(storage_key_of(key)))
    gone = debt.one.state.owners_of(storage_key_of(key))[0]
    debt.machines.cut(gone)
    debt.owe(gone, key, only_copy=True)
    debt.hints.dropped_hints[gone] = 3
    debt.machines.adopt(_without(debt, gone))
    debt.replay.review()
    owners = debt.one.state.owners_of(storage_key_of(key))
    assert gone not in owners
    debt.tick(2000)
    assert debt.hints.total == 0 and debt.hints.dropped_hints == {}
    assert [debt.machines.all[owner].value(key) for owner in owners] == [b"v"] * len(owners)


def test_a_review_that_meets_an_expected_error_is_made_again() -> None:
    debt = Debt(count=4, n=2)
    key = next(key for key in KEYS if "n1" not in debt.one.state.owners_of(storage_key_of(key)))
    gone = debt.one.state.owners_of(storage_key_of(key))[0]
    debt.tick(200)
    debt.machines.cut(gone)
    debt.owe(gone, key, only_copy=True)
    debt.machines.adopt(_without(debt, gone))
    debt.one.state.unexpected.plant("procedure hint review", DamagedRecord("planted"))
    debt.replay.review()
    debt.tick(5000)
    assert debt.one.state.statistics.procedure_errors == 1 and debt.hints.total == 0


# --- the operator


def told(debt: Debt, replay: bool) -> dict[str, Any]:
    return debt.replay.asked(replay)


def test_an_operator_learns_what_is_owed_since_when() -> None:
    debt = Debt()
    debt.machines.cut("n2")
    debt.owe("n2", *KEYS[:3])
    debt.hints.dropped_hints["n3"] = 5
    debt.machines.pass_ms(7000)
    document = told(debt, False)
    [row] = document["hints"]
    assert (row["owner"], row["count"], row["oldest_s"]) == ("n2", 3, 7) and row["bytes"] > 0
    assert document["behind"] == {"n3": 5} and document["delivered"] == 0


def test_a_replay_by_hand_tries_owners_that_were_left_alone() -> None:
    debt = Debt()
    debt.owe("n2", KEYS[0])
    debt.machines[2].state.room = FOR_NOTHING
    debt.tick()
    debt.machines[2].state.room = 0
    debt.tick()
    assert debt.hints.total == 1
    told(debt, True)
    debt.machines.pass_ms(10)
    assert debt.hints.total == 0 and told(debt, False)["delivered"] == 1


def test_a_hint_of_a_tombstone_is_a_hint_like_others() -> None:
    debt = Debt()
    debt.machines[2].put(record_of(b"v"), b"key")
    debt.one.put(tombstone(5), b"key")
    debt.hints.keep("n2", [storage_key_of(b"key")], debt.one.state.time_ms, 0, False)
    debt.tick()
    assert debt.machines[2].record(b"key") == tombstone(5)
