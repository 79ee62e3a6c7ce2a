"""Repair tasks: what is made equal, what an operator is told, and how a task survives errors and restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from server.core.base.errors import CommandError
from server.core.collection.collection import Collection
from server.core.messages import questions, record_questions
from server.core.messages.questions import TaskQuery
from server.core.records.records import storage_key_of
from server.core.repair.hint_replay import HintReplay
from server.core.repair.jobs import RepairJobs
from server.core.repair.mending import Mending
from server.core.repair.scrub import Scrub
from server.core.repair.tasks import RUNNING_MAX, RepairTasks, Task
from server.core.repair.verification import Verification
from server.core.work.questions import answered_by
from tests.core.repair.machines import PARTITIONS, Machine, Machines, keys_of

KEYS = keys_of(60)
ALL = list(range(PARTITIONS))


def equip(machine: Machine) -> RepairTasks:
    """All that a task needs of a node; its tasks."""
    state, asker, background = machine.state, machine.questions, machine.background
    mending = Mending(state, asker, background)
    scrub = Scrub(state, asker, background, Collection(state, asker, background))
    verification = Verification(state, background, scrub, mending)
    jobs = RepairJobs(state, asker, background)
    replay = HintReplay(state, background, asker)
    tasks = RepairTasks(state, asker, background)
    machine.answerers |= dict(
        (
            answered_by(record_questions.COPIES, mending.copies),
            answered_by(record_questions.VERIFY, verification.asked),
            answered_by(record_questions.HINTS, replay.asked),
            answered_by(questions.REPAIR, jobs.asked),
            answered_by(questions.WHOLE, tasks.whole),
        )
    )
    return tasks


class Cluster:
    """Three owners of everything (or some of more machines); n1 runs tasks."""

    def __init__(self, count: int = 3, n: int = 3, **held: list[bytes]) -> None:
        self.machines = Machines(count, n)
        for name, keys in held.items():
            self.machines.all[name].write(b"v", *keys)
        self.tasks, *_ = [equip(machine) for machine in self.machines.all.values()]
        self.one = self.machines[1]

    def run(self, partitions: list[int] = ALL, duration_ms: int = 20_000) -> dict[str, Any]:
        """A task, and what is told of it at last."""
        task = self.tasks.start(partitions)
        self.machines.pass_ms(duration_ms)
        return self.row(task)

    def row(self, task: Task) -> dict[str, Any]:
        [row] = self.told(task.name)
        return row

    def told(self, name: str = "", abort: bool = False) -> list[dict[str, Any]]:
        """What TASKS answers."""
        return self.tasks.answer_tasks(TaskQuery(name, abort)) or []

    def held(self) -> list[int]:
        return [sum(machine.record(key) is not None for key in KEYS) for machine in self.machines.all.values()]

    def on_question(self, kind: bytes, then: Callable[[], None]) -> None:
        """`then` is called once, when such a question is asked."""

        def pass_on(message: Any) -> bool:
            if message.question == kind:
                self.machines.pass_on = lambda message: True
                then()
            return True

        self.machines.pass_on = pass_on


def partition_of(key: bytes) -> int:
    return int.from_bytes(storage_key_of(key)[:2], "big") * PARTITIONS >> 14


# --- what is done


def test_owners_are_equal_when_a_task_is_done_and_it_says_what_it_did() -> None:
    cluster = Cluster(n1=KEYS[:20], n2=KEYS[20:40], n3=KEYS[40:])
    row = cluster.run()
    assert cluster.held() == [60, 60, 60]
    assert row == {
        **row, "state": "done", "node": "n1", "error": "", "partitions": PARTITIONS, "partitions_done": PARTITIONS,
        "keys_compared": 60, "keys_repaired": 120, "keys_verified": 60, "mended": {}, "lost": {}, "unreadable": {},
    }  # fmt: skip
    assert row["bytes_sent"] > 0 and row["started_ms"] > 1_700_000_000_000


def test_equal_owners_are_compared_and_that_is_all() -> None:
    row = Cluster(n1=KEYS, n2=KEYS, n3=KEYS).run()
    assert (row["state"], row["keys_compared"], row["keys_repaired"]) == ("done", 60, 0)


@pytest.mark.parametrize("wanted", [[], [3], [3, 4, 9, 12, 15]])
def test_a_task_of_some_partitions_leaves_the_others(wanted: list[int]) -> None:
    cluster = Cluster(n2=KEYS)
    row = cluster.run(wanted)
    inside = sum(partition_of(key) in wanted for key in KEYS)
    assert (row["state"], row["partitions_done"], row["keys_compared"]) == ("done", len(wanted), inside)
    assert cluster.held() == [inside, 60, inside]


def test_each_partition_is_given_to_its_first_live_owner() -> None:
    cluster = Cluster(4, 2, n1=KEYS, n2=KEYS, n3=KEYS, n4=KEYS)
    cluster.machines.cut("n3")
    cluster.run(duration_ms=3000)
    layout = cluster.machines.layout
    for message in cluster.machines.said:
        if message.question == b"REPAIR" and message.items[2] == b"go":
            partitions = [int(item) for item in message.items[3:]]
            live = [[owner for owner in layout.owners[p] if owner != "n3"] for p in partitions]
            assert [owners[0] for owners in live] == [message.receiver] * len(live)


def test_two_tasks_at_once_are_both_done() -> None:
    cluster = Cluster(n2=KEYS)
    tasks = [cluster.tasks.start(ALL), cluster.tasks.start(ALL)]
    cluster.machines.pass_ms(20_000)
    rows = [cluster.row(task) for task in tasks]
    assert [row["state"] for row in rows] == ["done", "done"] and cluster.held() == [60, 60, 60]
    assert [row["keys_verified"] for row in rows] == [60, 60]


def test_no_more_than_so_many_run_at_once() -> None:
    cluster = Cluster(n2=KEYS)
    tasks = [cluster.tasks.start(ALL) for _ in range(RUNNING_MAX)]
    with pytest.raises(CommandError, match=f"BUSY {RUNNING_MAX} tasks run on node n1"):
        cluster.tasks.start(ALL)
    cluster.told(tasks[0].name, abort=True)
    assert cluster.tasks.start(ALL).state == "running"


# --- damage


def test_what_is_found_damaged_is_mended_first_and_told_by_node() -> None:
    """A repair that compares trees only finds two owners equal of which one has lost its copy."""
    cluster = Cluster(n1=KEYS, n2=KEYS, n3=KEYS)
    cluster.machines[2].damage(KEYS[3], KEYS[9])
    cluster.machines[3].damage(KEYS[30])
    row = cluster.run()
    assert (row["state"], row["mended"], row["lost"]) == ("done", {"n2": 2, "n3": 1}, {})
    assert [machine.values(KEYS) for machine in cluster.machines.all.values()] == [[b"v"] * 60] * 3


def test_what_nobody_has_any_more_is_told_as_lost() -> None:
    cluster = Cluster(n1=KEYS, n2=KEYS, n3=KEYS)
    for machine in cluster.machines.all.values():
        machine.damage(KEYS[3])
    row = cluster.run(duration_ms=60_000)
    assert row["state"] == "done" and sum(row["lost"].values()) >= 1 and not row["unreadable"]


# --- owners that are away


def test_a_task_that_misses_an_owner_tries_again_and_then_fails_and_says_why() -> None:
    cluster = Cluster(n2=KEYS)
    cluster.machines.cut("n3")
    row = cluster.run()
    assert row["state"] == "failed" and row["partitions_done"] == row["partitions"] == PARTITIONS
    assert row["error"] == "n3 could not be reached: 16 of 16 partitions were not made equal there"
    assert cluster.held() == [60, 60, 0], "what could be compared has been"
    assert row["keys_compared"] == 60


def test_an_owner_that_is_back_in_time_is_made_equal_in_a_later_pass() -> None:
    cluster = Cluster(n2=KEYS)
    cluster.machines.cut("n3")
    task = cluster.tasks.start(ALL)
    cluster.machines.pass_ms(1500)
    assert cluster.row(task)["state"] == "running"
    cluster.machines.link("n3")
    cluster.machines.pass_ms(5000)
    assert cluster.row(task)["state"] == "done" and cluster.held() == [60, 60, 60]


def test_a_leader_that_is_lost_in_the_middle_has_its_partitions_made_equal_by_others() -> None:
    cluster = Cluster(n2=KEYS)
    cluster.on_question(b"REPAIR", lambda: cluster.machines.cut("n3"))
    row = cluster.run()
    assert row["state"] == "failed" and "n3 could not be reached: 16 of 16" in row["error"]
    assert cluster.held()[:2] == [60, 60]


def test_partitions_without_a_live_owner_are_named() -> None:
    cluster = Cluster(3, 1, n1=KEYS)
    cluster.machines.cut("n2")
    row = cluster.run()
    owned = sum(owners == ("n2",) for owners in cluster.machines.layout.owners)
    assert row["state"] == "failed"
    assert row["error"] == f"n2 could not be reached: {owned} of 16 partitions were not made equal there"
    assert row["partitions_done"] == PARTITIONS - owned


def test_an_owner_that_takes_nothing_is_named_in_other_words() -> None:
    """Also for the partitions that it leads itself: not those whom it takes nothing from."""
    cluster = Cluster(n2=KEYS)
    cluster.machines[3].state.room = 1
    row = cluster.run()
    assert row["state"] == "failed"
    assert row["error"] == "n3 could not read or store all records: 16 of 16 partitions were not made equal there"


def test_a_busy_leader_is_asked_again() -> None:
    cluster = Cluster(n2=KEYS)
    two = cluster.machines[2]
    answer, refusals = two.answerers[b"REPAIR"], [None] * 5

    def busy(job: Any) -> Any:
        if refusals:
            refusals.pop()
            return {"state": "busy", "keys_repaired": 0, "bytes_sent": 0, "keys": [], "missed": []}
        return answer(job)

    two.answerers[b"REPAIR"] = busy
    assert cluster.run()["state"] == "done" and not refusals


def test_a_member_of_the_version_before_verifies_nothing_and_holds_up_nobody() -> None:
    cluster = Cluster(n1=KEYS, n2=KEYS, n3=KEYS)
    del cluster.machines[3].answerers[b"VERIFY"]
    assert cluster.run()["state"] == "done"


def test_a_node_that_has_left_its_cluster_meanwhile_ends_its_task() -> None:
    cluster = Cluster(n2=KEYS)
    task = cluster.tasks.start(ALL)
    cluster.on_question(b"REPAIR", cluster.one.state.leave)
    cluster.machines.pass_ms(20_000)
    assert cluster.row(task)["state"] == "failed"
