"""Repair tasks as rows: told, aborted, kept, taken up after a restart; hints that a task makes good; single keys."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.messages.questions import TaskQuery
from server.core.records.records import storage_key_of
from server.core.records.versions import DamagedRecord
from tests.core.repair.machines import keys_of
from tests.core.repair.test_tasks import ALL, KEYS, Cluster, equip

KEPT = 20


def test_tasks_are_told_all_or_one_by_name() -> None:
    cluster = Cluster()
    first, second = cluster.tasks.start([1]), cluster.tasks.start([2])
    assert [row["task"] for row in cluster.told()] == [first.name, second.name] and first.name != second.name
    assert [row["task"] for row in cluster.told(second.name)] == [second.name]
    assert cluster.tasks.answer_tasks(TaskQuery("nobody's", False)) is None
    assert cluster.tasks.answer_tasks(TaskQuery("", False)) is not None


def test_other_long_work_of_the_node_stands_beside_them() -> None:
    cluster = Cluster()
    task = cluster.tasks.start([1])
    cluster.tasks._others = (lambda: [{"task": "fill", "state": "running"}],)
    assert [row["task"] for row in cluster.told()] == [task.name, "fill"]
    assert [row["task"] for row in cluster.told("fill")] == ["fill"]


def test_a_task_that_is_aborted_stops_its_jobs_and_stays_aborted() -> None:
    cluster = Cluster(n2=KEYS)
    task = cluster.tasks.start(ALL)
    cluster.machines.pass_ms(20)
    [row] = cluster.told(task.name, abort=True)
    assert row["state"] == "aborted"
    cluster.machines.pass_ms(20_000)
    said = len(cluster.machines.said)
    cluster.machines.pass_ms(20_000)
    assert cluster.row(task)["state"] == "aborted" and len(cluster.machines.said) == said
    assert {items[2] for items in cluster.machines.asked(b"REPAIR")} <= {b"go", b"stop"}


def test_a_job_that_runs_is_told_to_stop_when_its_task_is_aborted() -> None:
    cluster = Cluster(n2=KEYS)
    task = cluster.tasks.start(ALL)
    while not cluster.machines.asked(b"REPAIR", 2):
        cluster.machines.pass_ms(1)
    cluster.told(task.name, abort=True)
    cluster.machines.pass_ms(5000)
    assert cluster.machines.asked(b"REPAIR", 2)[-1][2] == b"stop"


def test_one_that_has_ended_cannot_be_aborted() -> None:
    cluster = Cluster()
    task = cluster.tasks.start([1])
    cluster.machines.pass_ms(5000)
    assert cluster.told(task.name, abort=True)[0]["state"] == "done"


def test_the_last_ended_tasks_are_kept() -> None:
    cluster = Cluster()
    names = []
    for _ in range(KEPT + 3):
        names.append(cluster.tasks.start([]).name)
        cluster.machines.pass_ms(1000)
    assert [row["task"] for row in cluster.told()] == names[3:]
    running = cluster.tasks.start(ALL)
    assert len(cluster.told()) == KEPT + 1 and cluster.told()[-1]["task"] == running.name


# --- over errors and restarts


def test_a_task_goes_on_after_a_restart_with_what_is_left() -> None:
    cluster = Cluster(n2=KEYS)
    cluster.machines.cut("n3")
    task = cluster.tasks.start([3, 7])
    ended = cluster.tasks.start([])
    cluster.machines.pass_ms(3000)
    cluster.machines.restart(1)
    cluster.tasks = equip(cluster.one)
    rows = {row["task"]: row for row in cluster.told()}
    assert (rows[task.name]["state"], rows[ended.name]["state"]) == ("running", "done")
    cluster.machines.link("n3")
    cluster.machines.pass_ms(10_000)
    row = cluster.row(task)
    assert (row["state"], row["partitions"], row["partitions_done"]) == ("done", 2, 2)
    assert row["keys_compared"] == sum(cluster.held()) - 60 - cluster.held()[0]


def test_a_task_goes_on_after_an_error_that_is_expected() -> None:
    cluster = Cluster(n2=KEYS)
    task = cluster.tasks.start(ALL)
    cluster.one.state.unexpected.plant("procedure repair task", DamagedRecord("planted"))
    cluster.machines.pass_ms(20_000)
    assert cluster.row(task)["state"] == "done" and cluster.held() == [60, 60, 60]
    assert cluster.one.state.statistics.procedure_errors == 1


def test_what_a_failed_drive_has_not_made_equal_is_tried_again() -> None:
    cluster = Cluster(n2=KEYS)
    cluster.one.state.unexpected.plant("procedure repair drive", DamagedRecord("planted"))
    assert cluster.run()["state"] == "done" and cluster.held() == [60, 60, 60]


@pytest.mark.parametrize("place", ["repair job", "verification"])
def test_a_procedure_of_a_member_that_meets_an_expected_error_does_not_end_the_task(place: str) -> None:
    cluster = Cluster(n2=KEYS)
    cluster.machines[2].state.unexpected.plant(f"procedure {place}", DamagedRecord("planted"))
    row = cluster.run()
    assert row["state"] == "done" and cluster.held() == [60, 60, 60]


# --- hints that found no room


def dropped(cluster: Cluster) -> list[dict[str, int]]:
    return [machine.state.hints.dropped_hints for machine in cluster.machines.all.values()]


def test_a_repair_of_everything_makes_good_the_hints_that_found_no_room() -> None:
    cluster = Cluster(n2=KEYS)
    dropped(cluster)[1]["n3"] = 5
    dropped(cluster)[0]["n2"] = 2
    assert cluster.run()["state"] == "done" and dropped(cluster) == [{}, {}, {}]


@pytest.mark.parametrize("case", ["some partitions", "failed", "more meanwhile"])
def test_other_repairs_do_not(case: str) -> None:
    cluster = Cluster(n2=KEYS)
    dropped(cluster)[1]["n3"] = 5
    if case == "failed":
        cluster.machines.cut("n1")
    if case == "more meanwhile":
        cluster.on_question(b"REPAIR", lambda: dropped(cluster)[1].update(n3=6))
    cluster.run(ALL[:-1] if case == "some partitions" else ALL)
    assert dropped(cluster)[1] == {"n3": 6 if case == "more meanwhile" else 5}


# --- single keys


def repair_key(cluster: Cluster, key: bytes, duration_ms: int = 10_000) -> dict[str, Any]:
    ended = cluster.one.begin(cluster.tasks.repair_key(cluster.machines.layout, storage_key_of(key)))
    cluster.machines.pass_ms(duration_ms)
    [task] = ended
    return cluster.row(task)


def test_a_key_is_made_equal_at_once_as_a_task_that_has_ended() -> None:
    cluster = Cluster(n2=KEYS)
    row = repair_key(cluster, KEYS[3], 500)
    assert (row["state"], row["partitions"], row["keys_compared"], row["keys_repaired"]) == ("done", 1, 1, 2)
    assert cluster.held() == [1, 60, 1] and row["bytes_sent"] > 0


def test_a_key_that_an_owner_does_not_get_is_a_failed_task() -> None:
    cluster = Cluster(n2=KEYS)
    cluster.machines.cut("n3")
    row = repair_key(cluster, KEYS[3])
    assert row["state"] == "failed" and row["error"].startswith("n3 could not be reached: 1 of 1 partitions")
    assert cluster.held() == [1, 60, 0]


def test_a_damaged_copy_of_a_key_is_waited_for_until_it_is_mended() -> None:
    cluster = Cluster(n1=KEYS, n2=KEYS, n3=KEYS)
    cluster.machines[3].damage(KEYS[3])
    row = repair_key(cluster, KEYS[3])
    assert (row["state"], row["mended"]) == ("done", {"n3": 1}) and cluster.machines[3].values(KEYS) == [b"v"] * 60


def test_a_key_that_is_damaged_everywhere_fails_or_is_lost_but_ends() -> None:
    cluster = Cluster(n1=KEYS, n2=KEYS, n3=KEYS)
    for machine in cluster.machines.all.values():
        machine.damage(KEYS[3])
    row = repair_key(cluster, KEYS[3], 60_000)
    assert row["state"] in ("done", "failed") and sum(row["lost"].values()) >= 1


def test_a_key_that_nobody_holds_is_done() -> None:
    row = repair_key(Cluster(), keys_of(1)[0])
    assert (row["state"], row["keys_compared"]) == ("done", 0)
