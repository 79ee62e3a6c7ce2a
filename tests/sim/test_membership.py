"""The ring changes while it is written to: nothing is lost, nothing is left behind, every node ends at the same layout."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from server.core.base.config import Config
from server.core.records.records import META
from server.core.ring.change import REPLACE
from server.core.ring.layout import SETTLED, TRANSFER
from tests.sim.changes import (
    change,
    commit_at,
    join,
    leave,
    lost_writes,
    members_of,
    records_on,
    remove,
    settled,
    unfinished,
    watch_cleanup,
)
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.world import World

KEYS = 1000
VALUE = b"v" * 300
DONE_MS = 60_000


def filled(nodes: int, seed: int = 1, keys: int = KEYS, config: Config | None = None) -> tuple[World, list[Operation]]:
    """A cluster with so many keys, and the writes that made them."""
    world = World(seed, nodes, config)
    world.start()
    client = world.client(world.hosts[0])
    operations = client.send(*[[b"SET", b"k%d" % number, b"%d-" % number + VALUE] for number in range(keys)])
    assert world.run_until(10_000, lambda: all(operation.answered for operation in operations))
    return world, operations


def write_on(world: World, hosts: list[Host], rounds: int) -> list[Operation]:
    """New keys through each of the hosts, while time goes on."""
    operations = []
    for number in range(rounds):
        for host in hosts:
            if host.node is not None:
                key = b"%b-%d-%d" % (host.member.name.encode(), number, len(world.history.operations))
                operations += world.client(host).send([b"SET", key, b"w-" + key])
        world.run(50)
    return operations


def check(world: World, operations: list[Operation], missing: list[str]) -> None:
    """What has to hold when a change is done."""
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)[:5]
    assert not missing
    assert not lost_writes(world, operations)
    asked = members_of(world)[-1]
    for operation in operations[:: max(1, len(operations) // 20)]:
        if operation.reply == b"OK":
            assert world.ask(asked, "GET", operation.args[1]).reply == operation.args[2]


def transferred_bytes(world: World) -> int:
    """What all nodes together have spent on transfers that they tell of."""
    return sum(
        row["bytes_sent"] for host in world.hosts if host.node for row in host.running.services.transfers.tasks()
    )


def bytes_on(host: Host) -> int:
    """The size of the records on a disk."""
    return sum(len(key) + len(record) for key, record in records_on(host).items())


def test_a_node_joins_while_keys_are_written() -> None:
    world, operations = filled(3)
    missing = watch_cleanup(world)
    n4 = world.add_host()
    layout = commit_at(world.hosts[0], join(n4))
    assert layout.epoch == 2
    operations += write_on(world, world.hosts, 40)
    check(world, operations, missing)
    assert len(records_on(n4)) > KEYS // 2
    assert world.ask(n4, "GET", "k1").reply == b"1-" + VALUE


def test_reads_do_not_move_to_a_node_that_missed_writes_which_nobody_keeps_hints_of() -> None:
    world, _ = filled(3, keys=200, config=Config(hints_bytes_max=1000))
    n1, n2, n3 = world.hosts
    n4, n5 = world.add_host(), world.add_host()
    world.fill(n5, True)  # so the transfer is not over when n4 is done with it
    commit_at(n1, join(n4), join(n5))
    assert world.run_until(DONE_MS, lambda: n4.running.state.layout is not None)
    assert world.run_until(DONE_MS, n4.running.services.transfers._is_whole)
    paths = [path for host in (n1, n2, n3, n5) for path in ((host.id, n4.id), (n4.id, host.id))]
    for path in paths:
        world.network.cut(*path)
    operations = write_on(world, [n1, n2, n3], 150)
    assert any(host.running.state.hints.dropped_hints for host in (n1, n2, n3))
    world.fill(n5, False)
    assert world.run_until(DONE_MS, n5.running.services.transfers._is_whole)
    for path in paths:
        world.network.mend(*path)
    assert world.run_until(DONE_MS, lambda: world.learn_layout().phase != TRANSFER)
    assert [lost for lost in lost_writes(world, operations) if lost.startswith("n4 ")] == []
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)[:5]


def test_a_join_without_load_moves_little_more_than_the_data() -> None:
    world, operations = filled(3)
    missing = watch_cleanup(world)
    n4 = world.add_host()
    commit_at(world.hosts[1], join(n4))
    check(world, operations, missing)
    assert transferred_bytes(world) <= 1.2 * bytes_on(n4)


def test_a_node_leaves() -> None:
    world, operations = filled(4)
    missing = watch_cleanup(world)
    n2 = world.hosts[1]
    commit_at(world.hosts[0], leave(n2))
    operations += write_on(world, world.hosts, 40)
    check(world, operations, missing)
    assert n2.id not in [member.id for member in world.layout.members]
    assert not records_on(n2)
    assert META + b"layout" not in n2.disk.data
    assert "has left its cluster at epoch 2" in world.ask(n2, "GET", "k1").error


def test_a_dead_node_is_removed_and_learns_of_it_when_it_is_back() -> None:
    world, operations = filled(4)
    missing = watch_cleanup(world)
    n3 = world.hosts[2]
    n3.kill()
    world.run(2000)
    commit_at(world.hosts[0], remove(n3))
    operations += write_on(world, [world.hosts[0], world.hosts[1], world.hosts[3]], 40)
    check(world, operations, missing)
    n3.start()
    assert world.run_until(5000, lambda: n3.running.state.layout is None)
    assert "has left its cluster" in world.ask(n3, "SET", "k1", "old").error


def test_a_dead_node_is_replaced() -> None:
    world, operations = filled(4)
    missing = watch_cleanup(world)
    n3 = world.hosts[2]
    n3.kill()
    world.run(2000)
    n5 = world.add_host()
    commit_at(world.hosts[0], change(REPLACE, n3, n5, gone=True))
    check(world, operations, missing)
    assert {host.member.name for host in members_of(world)} == {"n1", "n2", "n4", "n5"}


def test_a_node_is_replaced_while_it_serves() -> None:
    world, operations = filled(3)
    missing = watch_cleanup(world)
    n1, n2, _ = world.hosts
    n4 = world.add_host()
    commit_at(n1, change(REPLACE, n2, n4))
    operations += write_on(world, world.hosts, 30)
    check(world, operations, missing)
    assert not records_on(n2)


@pytest.mark.parametrize("victim", ["receiver", "sender"])
def test_a_transfer_goes_on_after_a_crash(victim: str) -> None:
    config = Config(background_keys_per_s=100, background_keys_per_s_idle=100)
    world, operations = filled(3, config=config)
    missing = watch_cleanup(world)
    n4 = world.add_host()
    commit_at(world.hosts[0], join(n4))
    assert world.run_until(10_000, lambda: len(records_on(n4)) > 200)
    host = n4 if victim == "receiver" else world.hosts[2]
    before = n4.running.services.transfers.document()
    assert before is not None
    assert 0 < before["keys_done"] < before["keys"]
    host.kill()
    world.run(3000)
    host.start()
    check(world, operations, missing)
    assert bytes_on(n4) * 0.9 < transferred_bytes(world) <= 1.2 * bytes_on(n4)


def test_the_change_coordinator_dies_in_the_middle() -> None:
    world, operations = filled(3, config=Config(background_keys_per_s_idle=1000))
    missing = watch_cleanup(world)
    n4 = world.add_host()
    coordinator = min(world.hosts, key=lambda host: host.id)
    commit_at(world.hosts[1], join(n4))
    world.run(1000)
    coordinator.kill()
    assert world.run_until(30_000, lambda: world.learn_layout().phase == SETTLED)
    coordinator.start()
    check(world, operations, missing)


def test_commits_on_two_sides_of_a_partition_end_in_one_layout() -> None:
    world, operations = filled(5)
    missing = watch_cleanup(world)
    n1, n2, n3, n4, n5 = world.hosts
    n6, n7 = world.add_host(), world.add_host()
    one, other = [n1, n2, n3, n6], [n4, n5, n7]
    for here in one:
        for there in other:
            world.network.cut(here.id, there.id)
            world.network.cut(there.id, here.id)
    commit_at(n1, join(n6))
    commit_at(n4, join(n7))
    operations += write_on(world, world.hosts, 40)
    world.heal()
    check(world, operations, missing)
    assert len(world.layout.members) == 7
    assert world.layout.merged_epoch


def test_a_second_change_in_the_middle_of_the_first() -> None:
    world, operations = filled(4, config=Config(background_keys_per_s_idle=400))
    missing = watch_cleanup(world)
    n5 = world.add_host()
    commit_at(world.hosts[0], join(n5))
    operations += write_on(world, world.hosts, 20)
    commit_at(world.hosts[2], leave(world.hosts[1]))
    operations += write_on(world, world.hosts, 20)
    check(world, operations, missing)
    assert world.layout.epoch == 3


def test_who_was_removed_and_joins_again_brings_no_deleted_value_back() -> None:
    world, _ = filled(4, keys=100)
    missing = watch_cleanup(world)
    n1, n4 = world.hosts[0], world.hosts[3]
    n4.kill()
    world.run(2000)
    commit_at(n1, remove(n4))
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    deleted = world.client(n1).send(*[[b"DEL", b"k%d" % number] for number in range(100)])
    assert world.run_until(DONE_MS, lambda: not any(records_on(host) for host in members_of(world)))
    assert all(operation.reply == 1 for operation in deleted)
    assert records_on(n4)
    n4.start()
    assert world.run_until(5000, lambda: n4.running.state.layout is None)
    commit_at(n1, join(n4))
    check(world, write_on(world, world.hosts, 5), missing)
    for number in range(0, 100, 10):
        assert world.ask(n4, "GET", f"k{number}").reply is None


def test_hints_for_one_who_is_removed_change_hands() -> None:
    """n4 is away while all its fellow owners keep what it misses; then it is gone for good, and its seats are others'."""
    world, operations = filled(5)
    missing = watch_cleanup(world)
    n4 = world.hosts[3]
    n4.kill()
    operations += write_on(world, [host for host in world.hosts if host is not n4], 20)
    owed = [host for host in world.hosts if host.node is not None and host.running.state.hints.count(n4.id)]
    assert owed
    commit_at(world.hosts[0], remove(n4))
    check(world, operations, missing)
    assert not any(host.running.state.hints.total for host in members_of(world))


def test_what_an_owner_wrote_alone_reaches_the_one_who_has_its_place() -> None:
    """n1 has hints for the two others only; when it hears of the change it is no owner any more, and n4 is one."""
    world, operations = filled(3, keys=100)
    n1, n2, n3 = world.hosts
    n4 = world.add_host()
    for other in (n2, n3, n4):
        world.network.cut(n1.id, other.id)
        world.network.cut(other.id, n1.id)
    world.run(8000)
    written = world.client(n1).send([b"DYN.QUORUM", b"W", b"1"], *[[b"SET", b"alone%d" % n, b"v"] for n in range(50)])
    assert world.run_until(5000, lambda: all(operation.answered for operation in written))
    commit_at(n2, change(REPLACE, n1, n4))
    assert world.run_until(DONE_MS, lambda: n4.running.state.layout is not None and world.learn_layout().former == ())
    world.heal()
    check(world, [*operations, *written[1:]], [])
    assert len([operation for operation in written[1:] if operation.reply == b"OK"]) == 50


def test_nothing_is_let_go_while_an_owner_is_away() -> None:
    """n1 is no owner of what n4 has taken over; then one of the present owners does not run for a while."""
    world, operations = filled(3, keys=300)
    missing = watch_cleanup(world)
    n4 = world.add_host()
    commit_at(world.hosts[0], join(n4))
    assert world.run_until(DONE_MS, lambda: world.learn_layout().phase == SETTLED)
    giver = next(host for host in world.hosts if host.running.services.cleanup.remaining())
    away = next(host for host in world.hosts[:3] if host is not giver)
    away.kill()
    world.run(10_000)
    remaining = giver.running.services.cleanup.remaining()
    assert remaining
    world.run(5000)
    assert giver.running.services.cleanup.remaining() == remaining
    away.start()
    check(world, operations, missing)


def test_a_transfer_waits_for_a_new_owner_that_is_down_and_says_so() -> None:
    world, operations = filled(3, keys=300)
    missing = watch_cleanup(world)
    n4 = world.add_host()
    commit_at(world.hosts[0], join(n4))
    n4.kill()
    operations += write_on(world, world.hosts[:3], 100)
    world.run(10_000)
    assert world.learn_layout().phase == TRANSFER
    assert all(operation.reply == b"OK" for operation in operations), "the former owners serve on"
    n4.start()
    check(world, operations, missing)


def test_a_transfer_that_is_paused_rests_until_it_is_resumed() -> None:
    """Also over a restart of its node, and while keys are written; nothing is lost."""
    world, operations = filled(3, config=Config(background_keys_per_s=100, background_keys_per_s_idle=100))
    missing = watch_cleanup(world)
    n1, n2, _ = world.hosts
    n4 = world.add_host()
    commit_at(n1, join(n4))
    assert world.run_until(10_000, lambda: len(records_on(n4)) > 200)

    def told(*words: str) -> str:
        reply = world.ask(n2, "DYN.TASK", *words).reply
        return reply.decode() if isinstance(reply, bytes) else str(reply)

    assert "no reachable node runs a transfer named t9" in told("PAUSE", "t9")
    assert json.loads(told("PAUSE"))["tasks"][0]["paused"] is True
    assert "cannot be aborted" in told("ABORT", "transfer-2-n4")
    world.run(1000)
    before = n4.running.services.transfers.document()
    world.run(10_000)
    assert n4.running.services.transfers.document() == before
    assert "n4: paused by an operator" in json.loads(world.ask(n2, "DYN.CLUSTER", "STATUS").reply)["summary"]
    n4.kill()
    world.run(500)
    n4.start()
    operations += write_on(world, [n1, n2], 20)
    world.run(10_000)
    after = n4.running.services.transfers.document()
    assert before is not None and after is not None and after["paused"]
    assert before["keys_done"] <= after["keys_done"] <= before["keys_done"] + 40, "only what is written meanwhile comes"
    [row] = json.loads(told("RESUME", "transfer-2-n4"))["tasks"]
    assert row["paused"] is False
    check(world, operations, missing)
    [row] = json.loads(told("LIST"))["tasks"]
    assert row["state"] == "done" and row["started_ms"] < row["ended_ms"] and "paused" not in row


def test_a_transfer_is_a_task_with_an_estimate() -> None:
    world, _ = filled(3, config=Config(background_keys_per_s=100, background_keys_per_s_idle=100))
    n4 = world.add_host()
    commit_at(world.hosts[0], join(n4))
    world.run(4000)
    told = json.loads(world.ask(world.hosts[1], "DYN.TASK", "SHOW", "transfer-2-n4").reply)
    assert (told["state"], told["node"], told["partitions_done"]) == ("running", "n4", 0)
    document = n4.running.services.transfers.document()
    assert document is not None
    left = document["keys"] - document["keys_done"]
    assert left / 200 <= document["eta_s"] <= left / 50
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert n4.running.services.transfers.document() is None
    tasks = json.loads(world.ask(world.hosts[1], "DYN.TASK", "LIST").reply)["tasks"]
    assert [(task["task"], task["state"], task["eta_s"]) for task in tasks] == [("transfer-2-n4", "done", 0)]
    assert tasks[0]["partitions_done"] == tasks[0]["partitions"]
    assert tasks[0]["keys_compared"] == len(records_on(n4))


def test_a_node_comes_back_with_another_address() -> None:
    world, _ = filled(3, keys=10)
    n2 = world.hosts[1]
    n2.kill()
    world.run(1000)
    n2.member = replace(n2.member, address="127.0.0.1:7999")
    n2.start()
    assert world.run_until(10_000, settled(world)), unfinished(world)
    assert [m.address for m in world.layout.members if m.id == n2.id] == ["127.0.0.1:7999"]
    assert world.layout.epoch == 1
