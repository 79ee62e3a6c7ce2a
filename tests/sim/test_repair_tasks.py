"""`dyn repair` and `dyn task` in virtual time: tasks that run, that are found again, and that tell the truth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.base.config import Config
from server.core.records.records import storage_key_of
from tests.sim.host import Host
from tests.sim.test_anti_entropy import VALUE, counted, equal, everything, filled, record, records_on
from tests.sim.world import World

PARTITIONS = 16
Document = dict[str, Any]


@pytest.fixture
def world() -> World:
    """Three nodes with 200 keys that have compared themselves: from now on nothing is repaired for ten minutes."""
    world = filled(3, 200)
    settle(world)
    return world


def settle(world: World) -> None:
    """All nodes up, compared and equal."""
    world.start()
    world.run(5000)
    assert equal(world)


def plant(host: Host, records: dict[bytes, bytes]) -> None:
    """Puts records on one node without anybody's notice."""

    def absorb() -> None:
        for key, value in records.items():
            host.running.state.records.merge_all([storage_key_of(key), value])

    host.deliver("hand", absorb)


def ask(world: World, host: Host, *command: str | bytes | int) -> Document:
    """The JSON document that a command answers."""
    operation = world.ask(host, *command)
    assert not operation.error, operation.error
    document: Document = json.loads(operation.reply)
    return document


def wait(world: World, host: Host, task: Document, within_ms: int = 60_000) -> Document:
    """What `dyn task wait` does."""
    end_ms = world.events.now_ms + within_ms
    while task["state"] == "running":
        assert world.events.now_ms < end_ms, task
        world.run(100)
        task = ask(world, host, "DYN.TASK", "SHOW", task["task"])
    return task


def test_a_repair_makes_all_owners_equal_and_counts(world: World) -> None:
    n1, n2, n3 = world.hosts
    for number, host in enumerate(world.hosts):
        plant(host, everything(30, b"only%d." % number))
    plant(n3, {b"k7": record(999, b"actor--b")})
    begun = ask(world, n2, "DYN.REPAIR", "START")
    assert begun["state"] == "running"
    assert begun["node"] == "n2"
    assert begun["partitions"] == PARTITIONS
    ended = wait(world, n1, begun)
    assert equal(world)
    assert len(records_on(n1)) == 290
    assert ended.pop("started_ms") < ended.pop("ended_ms")
    assert ended | {"bytes_sent": 0} == {
        "task": begun["task"],
        "state": "done",
        "partitions": PARTITIONS,
        "partitions_done": PARTITIONS,
        "keys_compared": 290,
        "keys_repaired": 3 * 30 * 2 + 2,
        "bytes_sent": 0,
        "node": "n2",
        "error": "",
        "keys_verified": 3 * 200 + 30 * 3,
        "mended": {},
        "lost": {},
        "unreadable": {},
    }
    payload = 90 * 2 * (len(record(1)) + 12)
    assert payload < ended["bytes_sent"] < 4 * payload
    again = wait(world, n1, ask(world, n1, "DYN.REPAIR", "START"))
    assert (again["keys_compared"], again["keys_repaired"]) == (290, 0)
    assert again["bytes_sent"] < 10_000
    assert [task["task"] for task in ask(world, n3, "DYN.TASK", "LIST")["tasks"]] == [begun["task"], again["task"]]


def test_only_the_partitions_asked_for_are_repaired(world: World) -> None:
    n1, n2, _ = world.hosts
    plant(n1, everything(100, b"new"))
    before = len(records_on(n2))
    task = wait(world, n2, ask(world, n2, "DYN.REPAIR", "START", "PARTITION", 3, "partition", 11, "PARTITION", 3))
    assert (task["state"], task["partitions"], task["partitions_done"]) == ("done", 2, 2)
    slots = [int.from_bytes(key[:2], "big") for key in records_on(n2)]
    assert before < len(slots) < before + 50
    there = {key for key in records_on(n1) if int.from_bytes(key[:2], "big") >> 10 in (3, 11)}
    assert all(there <= set(records_on(host)) for host in world.hosts)
    assert task["keys_compared"] == len(there)
    assert len(slots) - before == task["keys_repaired"] // 2


@pytest.mark.parametrize(
    ("command", "error"),
    [
        (("PARTITION", PARTITIONS), "ERR there is no partition 16: they are numbered 0 to 15"),
        (("PARTITION", "x"), "ERR value is not an integer or out of range"),
        (("PARTITION",), "ERR syntax error"),
        (("KEY", "a", "KEY", "b"), "ERR syntax error"),
        (("KEY", "a", "PARTITION", 1), "ERR syntax error"),
    ],
)
def test_what_makes_no_sense_is_refused(world: World, command: tuple[str | int, ...], error: str) -> None:
    assert world.ask(world.hosts[0], "DYN.REPAIR", "START", *command).error == error
    assert ask(world, world.hosts[0], "DYN.TASK", "LIST") == {"tasks": []}


def test_an_unknown_task(world: World) -> None:
    for command in ("SHOW", "ABORT"):
        assert world.ask(world.hosts[0], "DYN.TASK", command, "nix").error.startswith("ERR no such task")


# --- one key


def test_one_key_is_repaired_while_you_wait() -> None:
    world = World(1, 5)
    settle_unequal(world)
    key = b"key"
    owners = world.owners(key)
    outsider = next(host for host in world.hosts if host not in owners)
    plant(owners[0], {key: record(1, b"actor--a"), b"other": record(3)})
    plant(owners[1], {key: record(2, b"actor--b")})
    world.run(10)
    task = ask(world, outsider, "DYN.REPAIR", "START", "KEY", key)
    assert (task["state"], task["partitions"], task["keys_compared"], task["keys_repaired"]) == ("done", 1, 1, 3)
    world.run(10)
    assert len({world.stored(owner, key) for owner in owners}) == 1
    assert world.ask(outsider, "DYN.GET", key, "R", 3).reply[1] == [VALUE, VALUE]
    assert world.stored(outsider, key) is None
    again = ask(world, owners[2], "DYN.REPAIR", "START", "KEY", key)
    assert (again["keys_compared"], again["keys_repaired"]) == (1, 0)
    nothing = ask(world, owners[2], "DYN.REPAIR", "START", "KEY", "nothing")
    assert (nothing["state"], nothing["keys_compared"]) == ("done", 0)
    owners[2].kill()
    world.run(3000)
    plant(owners[0], {key: record(9, b"actor--c")})
    failed = ask(world, outsider, "DYN.REPAIR", "START", "KEY", key)
    assert failed["state"] == "failed"
    assert failed["error"].startswith(f"{owners[2].member.name} could not be reached")
    world.run(10)
    assert world.stored(owners[0], key) == world.stored(owners[1], key)


def settle_unequal(world: World) -> None:
    """All nodes up and compared, in a cluster where not everybody owns everything."""
    world.start()
    world.run(5000)


# --- when nodes fail


def test_an_owner_that_is_down_fails_the_task_and_the_others_are_repaired(world: World) -> None:
    n1, n2, n3 = world.hosts
    plant(n1, everything(50, b"new"))
    world.run(10)
    n3.kill()
    world.run(5000)
    task = wait(world, n2, ask(world, n2, "DYN.REPAIR", "START"))
    assert task["state"] == "failed"
    assert task["error"] == "n3 could not be reached: 16 of 16 partitions were not made equal there"
    assert (task["partitions_done"], task["keys_compared"], task["keys_repaired"]) == (PARTITIONS, 250, 50)
    assert records_on(n1) == records_on(n2)


def test_an_owner_that_comes_back_in_time_does_not_fail_the_task(world: World) -> None:
    n1, n2, n3 = world.hosts
    n3.kill()
    world.run(5000)
    plant(n1, everything(50, b"new"))
    begun = ask(world, n2, "DYN.REPAIR", "START")
    world.run(1000)
    n3.start()
    assert wait(world, n2, begun)["state"] == "done"
    assert equal(world)


@pytest.mark.parametrize("stop", [True, False])
def test_a_task_survives_the_restart_of_its_node(stop: bool) -> None:
    world = filled(3, 200, Config(background_keys_per_s_idle=500, background_keys_per_s=500))
    settle(world)
    n1, n2, _ = world.hosts
    plant(n1, everything(1500, b"new"))
    begun = ask(world, n2, "DYN.REPAIR", "START")
    world.run(2500)
    before = ask(world, n2, "DYN.TASK", "SHOW", begun["task"])
    assert before["state"] == "running"
    assert 0 < before["partitions_done"] < PARTITIONS
    n2.stop() if stop else n2.kill()
    world.run(3000)
    assert world.ask(n1, "DYN.TASK", "SHOW", begun["task"]).error.startswith("ERR no such task")
    n2.start()
    world.run(1000)
    after = ask(world, n1, "DYN.TASK", "SHOW", begun["task"])
    assert after["state"] == "running"
    assert after["partitions_done"] > 0
    ended = wait(world, n1, after)
    assert (ended["state"], ended["partitions_done"], ended["node"]) == ("done", PARTITIONS, "n2")
    assert ended["keys_compared"] == 1700
    assert equal(world)


@pytest.mark.parametrize("hurt", ["kill", "freeze"])
def test_a_leader_that_is_lost_in_a_job_is_replaced(hurt: str) -> None:
    world = filled(3, 100, Config(background_keys_per_s_idle=300, background_keys_per_s=300))
    settle(world)
    n1, n2, n3 = world.hosts
    plant(n3, everything(600, b"new"))
    begun = ask(world, n1, "DYN.REPAIR", "START")
    world.run(500)
    assert n2.running.services.jobs._jobs
    getattr(n2, hurt)()
    ended = wait(world, n1, begun)
    assert ended["state"] == "failed"
    assert ended["error"].startswith("n2 could not be reached: ")
    assert records_on(n1) == records_on(n3)
    n2.start() if hurt == "kill" else n2.thaw()
    assert world.run_until(20_000, world.at_peace)
    assert wait(world, n1, ask(world, n1, "DYN.REPAIR", "START"))["state"] == "done"
    assert equal(world)
    world.run(20_000)
    assert all(host.running.services.jobs._jobs == {} for host in world.hosts)


def test_an_aborted_task_ends_and_so_do_its_jobs() -> None:
    world = filled(3, 100, Config(background_keys_per_s_idle=100, background_keys_per_s=100))
    settle(world)
    n1, n2, n3 = world.hosts
    plant(n1, everything(500, b"new"))
    begun = ask(world, n1, "DYN.REPAIR", "START")
    world.run(1000)
    aborted = ask(world, n3, "DYN.TASK", "ABORT", begun["task"])
    assert aborted["state"] == "aborted"
    world.run(3000)
    repaired = counted(world, "keys_repaired")
    assert all(host.running.services.jobs._jobs == {} for host in world.hosts)
    world.run(10_000)
    assert counted(world, "keys_repaired") == repaired < 1000
    n1.kill()
    n1.start()
    world.run(2000)
    assert ask(world, n2, "DYN.TASK", "SHOW", begun["task"])["state"] == "aborted"
    assert ask(world, n2, "DYN.TASK", "ABORT", begun["task"])["state"] == "aborted"


def test_tasks_are_bounded(world: World) -> None:
    n1 = world.hosts[0]
    for host in world.hosts[1:]:
        host.freeze()
    world.run(100)
    client = world.client(n1)
    operations = client.send(*([b"DYN.REPAIR", b"START"] for _ in range(6)))
    world.run(1000)
    assert [operation.error[:4] for operation in operations] == ["", "", "", "", "BUSY", "BUSY"]
    for host in world.hosts[1:]:
        host.thaw()
    world.run(30_000)
    command = ("DYN.REPAIR", "START", "PARTITION", 1)
    names = [wait(world, n1, ask(world, n1, *command))["task"] for _ in range(22)]
    listed = [task["task"] for task in ask(world, n1, "DYN.TASK", "LIST")["tasks"]]
    assert listed == names[-20:]


def test_a_repair_of_everything_settles_what_hints_had_no_room_for() -> None:
    world = filled(3, 100, Config(background_keys_per_s_idle=300, background_keys_per_s=300))
    settle(world)
    n1, n2, n3 = world.hosts
    n1.running.state.hints.dropped_hints = {n3.id: 7}
    n2.running.state.hints.dropped_hints = {n3.id: 5}
    assert ask(world, n1, "DYN.CLUSTER", "STATUS")["verdict"] == "degraded"
    assert wait(world, n1, ask(world, n1, "DYN.REPAIR", "START", "PARTITION", 1))["state"] == "done"
    plant(n1, everything(300, b"new"))
    begun = ask(world, n1, "DYN.REPAIR", "START")
    world.run(500)
    n2.running.state.hints.dropped_hints[n3.id] += 1  # refused in the meantime
    assert wait(world, n1, begun)["state"] == "done"
    world.run(100)
    assert n1.running.state.hints.dropped_hints == {}
    assert n2.running.state.hints.dropped_hints == {n3.id: 6}
