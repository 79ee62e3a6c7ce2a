"""Verification: a member reads its part for a repair task, and says what it had to mend."""

from __future__ import annotations

from typing import Any

from server.core.collection.collection import Collection
from server.core.messages import record_questions
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord
from server.core.repair.scrub import Scrub
from server.core.repair.verification import PATIENCE_MS, VERIFIED_KEYS, VERIFIED_MS, Verification
from tests.core.messages.reading import read
from tests.core.repair.machines import PARTITIONS, Machines, keys_of
from tests.core.repair.test_mending import mend_at

ALL = tuple(range(PARTITIONS))


class Member:
    """n1 verifies; n2 owns everything, too."""

    def __init__(self, *keys: bytes) -> None:
        self.machines = Machines(2)
        self.mendings = [mend_at(machine) for machine in self.machines.all.values()]
        one = self.one = self.machines[1]
        for machine in self.machines.all.values():
            machine.write(b"v", *keys)
        collection = Collection(one.state, one.questions, one.background)
        self.scrub = Scrub(one.state, one.questions, one.background, collection)
        self.verification = Verification(one.state, one.background, self.scrub, self.mendings[0])

    def ask(self, run: str = "run", partitions: tuple[int, ...] = ALL, epoch: int = 1) -> dict[str, Any]:
        """What it says of a run; nothing under another layout."""
        words = [b"%d" % number for number in (epoch,)] + [run.encode()] + [b"%d" % each for each in partitions]
        return self.verification.asked(read(record_questions.VERIFY, *words)) or {}

    def run(self, duration_ms: int = 10_000, **options: Any) -> dict[str, Any]:
        """A run, and what it says after a while."""
        self.ask(**options)
        self.machines.pass_ms(duration_ms)
        return self.ask(**options)


def partition_of(key: bytes) -> int:
    return int.from_bytes(storage_key_of(key)[:2], "big") * PARTITIONS >> 14


def test_a_run_begins_when_it_is_first_asked_about_and_says_how_far_it_is() -> None:
    keys = keys_of(3 * VERIFIED_KEYS)
    member = Member(*keys)
    assert member.ask() == {"state": "running", "keys": 0, "mended": 0, "lost": 0, "unreadable": 0, "waiting": 0}
    member.machines.pass_ms(10_000)
    assert member.ask() == {**member.ask(), "state": "done", "keys": len(keys)}
    assert member.one.state.statistics.records_scrubbed == len(keys), "asking again begins nothing again"


def test_it_reads_in_large_steps_without_waiting_for_the_budget_of_background_work() -> None:
    member = Member(*keys_of(3 * VERIFIED_KEYS))
    member.one.begin(member.one.background.spend(1_000_000))
    begun = member.one.begin(member.one.background.spend(1))
    member.ask()
    member.machines.pass_ms(5 * VERIFIED_MS)
    assert member.ask()["state"] == "done" and begun == [], "others wait for theirs"


def test_only_the_wanted_partitions_are_read() -> None:
    keys = keys_of(60)
    member = Member(*keys)
    wanted = (partition_of(keys[0]), partition_of(keys[30]), 1 << 13)
    told = member.run(partitions=wanted)
    assert told["keys"] == sum(partition_of(key) in wanted for key in keys)
    assert member.run(run="another", partitions=())["keys"] == 0


def test_under_another_layout_there_is_no_answer_and_no_run() -> None:
    member = Member(*keys_of(5))
    assert member.run(epoch=2) == {}
    member.one.state.leave()
    assert member.run() == {}
    assert member.one.state.statistics.records_scrubbed == 0


def test_it_waits_until_what_it_has_found_is_mended() -> None:
    keys = keys_of(30)
    member = Member(*keys)
    member.one.damage(keys[3], keys[7])
    told = member.run()
    assert told == {"state": "done", "keys": 30, "mended": 2, "lost": 0, "unreadable": 0, "waiting": 0}
    assert member.one.values(keys) == [b"v"] * 30


def test_what_is_lost_is_told() -> None:
    keys = keys_of(30)
    member = Member(*keys)
    for machine in member.machines.all.values():
        machine.damage(keys[3])
    told = member.run()
    assert (told["state"], told["mended"], told["lost"]) == ("done", 0, 1)


def test_what_an_earlier_run_has_told_is_told_once() -> None:
    keys = keys_of(5)
    member = Member(*keys)
    member.one.damage(keys[3])
    assert member.run()["mended"] == 1
    assert member.run(run="another")["mended"] == 0


def test_it_does_not_wait_for_ever_for_a_node_that_is_away() -> None:
    keys = keys_of(30)
    member = Member(*keys)
    member.one.damage(keys[3])
    member.machines.cut("n2")
    assert member.run(PATIENCE_MS - 100) == {
        "state": "running", "keys": 30, "mended": 0, "lost": 0, "unreadable": 0, "waiting": 1
    }  # fmt: skip
    member.machines.pass_ms(300)
    told = member.ask()
    assert (told["state"], told["waiting"]) == ("done", 1)


def test_a_range_that_cannot_be_read_is_told_as_slots() -> None:
    keys = keys_of(30)
    member = Member(*keys)
    member.one.lose_blocks(keys[3])
    member.machines.cut("n2")
    told = member.run()
    assert (told["state"], told["keys"], told["unreadable"]) == ("done", 29, 1)


def test_two_runs_at_once_are_told_apart() -> None:
    keys = keys_of(60)
    member = Member(*keys)
    member.ask("one", (0, 1))
    member.ask("two", (2,))
    member.machines.pass_ms(1000)
    counts = [sum(partition_of(key) in part for key in keys) for part in ((0, 1), (2,))]
    told = [member.ask("one"), member.ask("two")]
    assert [row["keys"] for row in told] == counts and [row["state"] for row in told] == ["done"] * 2


def test_an_error_that_is_expected_ends_the_run() -> None:
    """The scrub will read what it has not read; a task that waited for it would wait for ever."""
    member = Member(*keys_of(5))
    member.one.state.unexpected.plant("procedure verification", DamagedRecord("planted"))
    assert member.run()["state"] == "done"
    assert member.one.state.statistics.procedure_errors == 1


def test_runs_that_nobody_asks_about_are_forgotten_with_the_oldest() -> None:
    member = Member(*keys_of(5))
    for number in range(9):
        member.run(1000, run=f"run{number}")
    scrubbed = member.one.state.statistics.records_scrubbed
    assert scrubbed == 45
    for kept in ("run1", "run8"):
        member.run(1000, run=kept)
    assert member.one.state.statistics.records_scrubbed == 45, "they are there still"
    member.run(1000, run="run0")
    assert member.one.state.statistics.records_scrubbed == 50, "it is not, and begins anew"
