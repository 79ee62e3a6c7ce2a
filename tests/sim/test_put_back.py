"""Celery's way to put a task back: by a transaction over three keys of three slots. None is lost if a coordinator dies.

Theory. kombu keeps what a worker has taken in a hash and a sorted set. A worker that ends puts each such task back: it
watches the hash, reads the task, and by one EXEC removes it from both and pushes it to the list. If the coordinator of the
list dies, the removals are done, and the client must not be left with "perhaps" for the push.
"""

from __future__ import annotations

import random

import pytest

from server.core.commands.transactions.queued_run import QueuedRun
from tests.sim.clients import Operation
from tests.sim.host import CRASH_STEPS
from tests.sim.seeds import seeds
from tests.sim.test_transactions import transaction, wait_for_all
from tests.sim.world import World

TASKS = 12
PLANT_SEEDS = 10


def put_back(seed: int) -> tuple[World, list[Operation], list[bytes], list[bytes]]:
    """All tasks are put back by clients of other nodes while the coordinator of the list dies or freezes. Returns the
    answers, the tasks that are in the list in the end, and those that are in the hash."""
    world = World(seed, 3)
    world.start()
    world.run(200)
    rng = random.Random(f"put back {seed}")
    coordinator, *others = world.hosts
    queue, taken, index = world.key_of(coordinator), world.key_of(others[0]), world.key_of(others[1]) + b"i"
    tasks = [b"task%d" % number for number in range(TASKS)]
    for task in tasks:
        assert world.ask(others[0], "HSET", taken, task, task).reply == 1
    ends = []
    for number, task in enumerate(tasks):
        client = world.client(others[number % 2])
        look = client.send([b"WATCH", taken], [b"HGET", taken, task], [b"UNWATCH"])
        wait_for_all(world, look)
        ends.append(transaction(client, [b"ZREM", index, task], [b"HDEL", taken, task], [b"RPUSH", queue, task]))
        if number == TASKS // 2:
            _fail(world, rng)
        world.run(rng.randrange(4))
    wait_for_all(world, ends)
    world.heal()
    assert world.run_until(60_000, lambda: world.at_peace() and not world.differences())
    listed = world.ask(others[0], "LRANGE", queue, "0", "-1").reply
    return world, ends, listed, world.ask(others[0], "HKEYS", taken).reply


def _fail(world: World, rng: random.Random) -> None:
    host = world.hosts[0]
    if rng.random() < 0.3:
        host.freeze()
    else:
        host.crash_before = rng.choice(CRASH_STEPS)


@pytest.mark.parametrize("seed", seeds(6, 200))
def test_no_task_is_lost_whose_list_loses_its_coordinator(seed: int) -> None:
    _, ends, listed, taken = put_back(seed)
    assert [end.error for end in ends if end.error] == []
    replies = [reply for end in ends for reply in end.reply]
    assert all(isinstance(reply, int) for reply in replies), replies
    assert {*listed} == {b"task%d" % number for number in range(TASKS)} and taken == []
    assert len(listed) <= 2 * TASKS, "some may be there twice"


@pytest.mark.interpreted
def test_a_push_of_unknown_outcome_loses_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(QueuedRun, "repeats", lambda self, args: False)
    assert any({*listed, *taken} != {b"task%d" % number for number in range(TASKS)}
               for _, _, listed, taken in map(put_back, range(PLANT_SEEDS)))  # fmt: skip


def test_a_push_that_is_no_move_is_not_run_twice() -> None:
    """Its outcome is unknown, as it is without MULTI."""
    world = World(1, 3)
    world.start()
    world.run(200)
    coordinator, home, other = world.hosts
    queue, total = world.key_of(coordinator), world.key_of(other)
    coordinator.crash_before = "messages"
    end = transaction(world.client(home), [b"RPUSH", queue, b"x"], [b"SET", total, b"1"])
    wait_for_all(world, [end])
    pushed, done = end.reply
    assert str(pushed).startswith("TIMEOUT") and "outcome=maybe-written" in str(pushed) and done == b"OK"
