"""Jobs: an owner makes some partitions equal on all their owners, as long as somebody asks about it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from server.core.messages.questions import RepairJob
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord
from server.core.repair.exchange import LOST, UNSETTLED
from server.core.repair.jobs import JOBS_MAX, SILENCE_MS, RepairJobs
from tests.core.repair.machines import CONFIG, PARTITIONS, Machines, keys_of

KEYS = keys_of(60)
ALL = list(range(PARTITIONS))


class Shop:
    """n1 takes jobs; n2 and n3 own everything, too."""

    def __init__(self, keys_per_s: int = 40_000, **held: list[bytes]) -> None:
        self.machines = Machines(3, config=replace(CONFIG, background_keys_per_s_idle=keys_per_s))
        for name, keys in held.items():
            self.machines.all[name].write(b"v", *keys)
        one = self.one = self.machines[1]
        self.jobs = RepairJobs(one.state, one.questions, one.background)

    def ask(self, name: str = "job", partitions: list[int] = ALL, action: bytes = b"go", epoch: int = 1) -> Any:
        """What it says of a job; None for no answer."""
        answer = self.jobs.asked(RepairJob(epoch, name, action, partitions))
        return None if answer is None else json.loads(json.dumps(answer))  # tuples are lists on the wire

    def work(self, duration_ms: int = 5000, **options: Any) -> Any:
        """A job that is asked about twice a second, to its end."""
        for _ in range(duration_ms // 500):
            told = self.ask(**options)
            if told["state"] != "running":
                return told
            self.machines.pass_ms(500)
        return told

    def held(self) -> list[int]:
        """How many of the keys each machine holds."""
        return [sum(machine.record(key) is not None for key in KEYS) for machine in self.machines.all.values()]


def partition_of(key: bytes) -> int:
    return int.from_bytes(storage_key_of(key)[:2], "big") * PARTITIONS >> 14


@pytest.mark.parametrize("holder", ["n1", "n2", "n3"])
def test_all_owners_hold_afterwards_what_any_of_them_held(holder: str) -> None:
    """Also what the last one brought: those that came before it are visited again."""
    shop = Shop(**{holder: KEYS})
    told = shop.work()
    assert shop.held() == [60, 60, 60]
    assert (told["state"], told["missed"], told["keys_repaired"]) == ("done", [], 120)
    assert told["bytes_sent"] > 0
    assert dict(told["keys"]) == {p: sum(partition_of(key) == p for key in KEYS) for p in ALL}


def test_owners_that_differ_each_from_each_become_equal() -> None:
    shop = Shop(n1=KEYS[:20], n2=KEYS[20:40], n3=KEYS[40:])
    assert shop.work()["missed"] == [] and shop.held() == [60, 60, 60]


def test_equal_owners_are_compared_once() -> None:
    shop = Shop(n1=KEYS, n2=KEYS, n3=KEYS)
    assert shop.work()["keys_repaired"] == 0
    assert [len(shop.machines.asked(b"HASHES", number)) for number in (2, 3)] == [1, 1]


def test_only_the_partitions_of_the_job_are_made_equal() -> None:
    shop = Shop(n2=KEYS)
    wanted = [partition_of(KEYS[0]), partition_of(KEYS[-1])]
    told = shop.work(partitions=wanted)
    inside = sum(partition_of(key) in wanted for key in KEYS)
    assert shop.held() == [inside, 60, inside] and sorted(dict(told["keys"])) == wanted
    assert shop.work(name="another", partitions=[])["state"] == "done"


def test_the_question_that_begins_it_tells_how_far_it_is_too() -> None:
    shop = Shop(n2=KEYS)
    assert shop.ask() == {"state": "running", "keys_repaired": 0, "bytes_sent": 0, "keys": [], "missed": []}
    shop.machines.turn()
    shop.machines.turn()
    assert shop.ask()["bytes_sent"] > 0
    shop.machines.pass_ms(1000)
    assert shop.ask()["state"] == "done"
    asked = len(shop.machines.said)
    shop.machines.pass_ms(3000)
    assert len(shop.machines.said) == asked, "it is over"
    assert shop.ask()["state"] == "running", "and forgotten, so that the same name begins another one"


@pytest.mark.parametrize("options", [{"epoch": 2}, {"partitions": [PARTITIONS]}])
def test_what_does_not_fit_the_layout_is_not_answered(options: Any) -> None:
    shop = Shop(n2=KEYS)
    assert shop.ask(**options) is None
    shop.machines.pass_ms(1000)
    assert shop.held()[0] == 0
    shop.one.state.leave()
    assert shop.ask() is None


def test_so_many_jobs_run_at_once_and_each_is_told_apart() -> None:
    shop = Shop(n2=KEYS)
    for number in range(JOBS_MAX):
        assert shop.ask(f"job{number}", [4 * number, 4 * number + 1])["state"] == "running"
    assert shop.ask("one too many", [3]) == {"state": "busy"}
    shop.machines.pass_ms(1000)
    told = [shop.ask(f"job{number}", [4 * number, 4 * number + 1]) for number in range(JOBS_MAX)]
    assert [row["state"] for row in told] == ["done"] * JOBS_MAX
    assert [sorted(dict(row["keys"])) for row in told] == [[4 * n, 4 * n + 1] for n in range(JOBS_MAX)]
    assert shop.ask("one too many", [3])["state"] == "running"


def test_a_job_that_is_stopped_asks_nothing_more() -> None:
    shop = Shop(n2=KEYS)
    shop.ask()
    assert shop.ask(action=b"stop") == {"state": "done"} == shop.ask("another", action=b"stop")
    shop.machines.pass_ms(2000)
    assert len(shop.machines.said) <= 4 and shop.held()[0] == 0, "but for the questions that were on their way"
    assert shop.ask()["state"] == "running", "it is forgotten"


@pytest.mark.parametrize("is_asked", [True, False])
def test_a_job_that_nobody_asks_about_ends(is_asked: bool) -> None:
    shop = Shop(keys_per_s=2, n2=KEYS)
    shop.ask()
    for _ in range(9):
        shop.machines.pass_ms(SILENCE_MS - 1000)
        if is_asked:
            shop.ask()
    assert (shop.held()[0] == 60) is is_asked
    said = len(shop.machines.said)
    shop.machines.pass_ms(3 * SILENCE_MS)
    assert is_asked or len(shop.machines.said) == said


# --- owners that are not made equal


def test_an_owner_that_is_away_is_missed_and_the_others_are_equal() -> None:
    shop = Shop(n1=KEYS)
    shop.machines.cut("n3")
    told = shop.work(partitions=[2, 5])
    assert told["missed"] == [[2, "n3", LOST], [5, "n3", LOST]]
    assert shop.held()[1] == sum(partition_of(key) in (2, 5) for key in KEYS)


def test_an_owner_that_is_lost_in_the_middle_is_missed() -> None:
    shop = Shop(n1=KEYS)
    shop.machines.pass_on = lambda message: message.question != b"MERGE" or message.receiver != "n2"
    told = shop.work(8000, partitions=[2])
    assert told["missed"] == [[2, "n2", LOST]] and shop.held()[2] > 0


@pytest.mark.parametrize("fault", ["full disk", "damage"])
def test_an_owner_that_does_not_take_everything_is_unsettled(fault: str) -> None:
    shop = Shop(n1=KEYS, n2=KEYS, n3=KEYS)
    key = KEYS[7]
    shop.one.write(b"new", key, at=2)
    if fault == "damage":
        shop.machines[2].damage(key)
    else:
        shop.machines[2].state.room = 1
    told = shop.work()
    missed = [row for row in told["missed"] if row[0] == partition_of(key)]
    assert missed == [[partition_of(key), "n2", UNSETTLED]] and shop.machines[3].value(key) == b"new"


def test_a_node_that_takes_nothing_itself_is_the_one_that_is_unsettled() -> None:
    shop = Shop(n2=KEYS)
    shop.one.state.room = 1
    told = shop.work(partitions=[2, 5])
    assert told["missed"] == [[2, "n1", UNSETTLED], [5, "n1", UNSETTLED]]


def test_an_error_that_is_expected_ends_it_with_its_own_node_unsettled() -> None:
    shop = Shop(n2=KEYS)
    shop.one.state.unexpected.plant("procedure repair job", DamagedRecord("planted"))
    told = shop.work(partitions=[2, 5])
    assert told["missed"] == [[2, "n1", UNSETTLED], [5, "n1", UNSETTLED]]
    assert shop.work(partitions=[2, 5])["missed"] == [], "the next one is well"


def test_its_watch_goes_on_after_an_error_that_is_expected() -> None:
    shop = Shop(keys_per_s=2, n2=KEYS)
    shop.one.state.unexpected.plant("procedure repair job watch", DamagedRecord("planted"))
    shop.ask()
    shop.machines.pass_ms(9 * SILENCE_MS)
    assert shop.held()[0] < 60
