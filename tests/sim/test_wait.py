"""WAIT in a cluster: it waits for the replicas that are asked for, up to its timeout, and never counts one too many."""

from __future__ import annotations

import random

import pytest

from server.core.base.config import Config
from server.core.requests.writes import Writes
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.runs import config
from tests.sim.seeds import seeds
from tests.sim.world import World

TIMEOUT_MS = Config().request_timeout_ms


@pytest.fixture
def world() -> World:
    world = World(3, 3)
    world.start()
    world.run(2 * TIMEOUT_MS)
    return world


def send(world: World, host: Host, *lines: str) -> list[Operation]:
    """Commands of a new client, sent at once and run until all are answered."""
    operations = world.client(host).send(*[[word.encode() for word in line.split()] for line in lines])
    world.events.run(20_000, lambda: operations[-1].answered)
    return operations


@pytest.mark.parametrize("coordinator", [0, 1])
def test_it_waits_for_the_last_replica_of_a_write_here_or_elsewhere(world: World, coordinator: int) -> None:
    n1, _, n3 = world.hosts
    key = world.key_of(world.hosts[coordinator])
    client = world.client(n1)
    world.run(2 * TIMEOUT_MS)
    n3.freeze()
    operations = client.send([b"SET", key, b"v"], [b"WAIT", b"1", b"0"], [b"WAIT", b"2", b"1500"])
    world.run(300)
    assert [operation.answered for operation in operations] == [True, True, False]
    assert operations[1].reply == 1, "W replicas have it for sure"
    n3.thaw()
    world.run(300)
    assert operations[2].answered and operations[2].reply == 2


@pytest.mark.parametrize(
    ("timeout_ms", "least_ms", "most_ms"), [(400, 350, 700), (1, 0, 250), (0, 1000, 3 * TIMEOUT_MS)]
)
def test_it_ends_at_its_timeout_or_when_no_more_are_to_come(
    world: World, timeout_ms: int, least_ms: int, most_ms: int
) -> None:
    n1, _, n3 = world.hosts
    n3.freeze()
    write, wait = send(world, n1, f"SET {world.key_of(n1).decode()} v", f"WAIT 2 {timeout_ms}")
    assert (write.reply, wait.reply) == (b"OK", 1)
    assert least_ms <= wait.answered_ms - wait.invoked_ms <= most_ms


def test_with_nothing_written_all_have_it(world: World) -> None:
    client = world.client(world.hosts[0])
    world.run(2 * TIMEOUT_MS)
    wait = client.send([b"WAIT", b"9", b"0"])[0]
    world.run(500)
    assert wait.reply == 2 and wait.answered_ms - wait.invoked_ms < 100


def test_a_write_that_a_replica_has_missed_counts_until_the_next_wait(world: World) -> None:
    n1, _, n3 = world.hosts
    client = world.client(n1)
    n3.kill()
    world.run(500)
    client.send([b"SET", world.key_of(n1), b"v"])
    world.run(500)
    n3.start()
    world.run(4 * TIMEOUT_MS)
    replies = []
    for _ in range(2):
        wait = client.send([b"WAIT", b"2", b"100"])[0]
        world.run(2 * TIMEOUT_MS)
        replies.append(wait.reply)
    assert replies == [1, 2]


def _storm(seed: int) -> list[str]:
    """What WAIT answered in a storm that was more than the disks show at that moment."""
    rng = random.Random(f"wait {seed}")
    world = World(seed, 3, config(fsync="always"))
    world.start()
    world.run(2 * TIMEOUT_MS)
    faults = []
    for number in range(60):
        host = rng.choice(world.hosts)
        match rng.choice(("write",) * 5 + ("kill", "freeze", "cut", "heal")):
            case "write" if host.node is not None:
                key = b"k%d" % rng.randrange(9)
                line = f"SET {key.decode()} v{number};"
                write, wait = send(world, host, line, f"WAIT 2 {rng.choice((1, 300, 2000))}")
                if write.reply == b"OK" and isinstance(wait.reply, int):
                    copies = sum(b"v%d;" % number in (world.stored(each, key) or b"") for each in world.hosts)
                    if copies - 1 < wait.reply:
                        faults.append(f"{key!r}: {wait.reply} answered, {copies} copies")
            case "kill":
                host.kill()
            case "freeze":
                host.freeze()
            case "cut":
                world.network.cut(host.id, world.hosts[0].id)
            case _:
                world.heal()
        world.run(rng.choice((10, 1000)))
    return faults


@pytest.mark.parametrize("seed", seeds(3, 30))
def test_it_never_counts_a_replica_too_many(seed: int) -> None:
    assert _storm(seed) == []


def test_a_count_too_many_would_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Writes, "least_copies", lambda self, since_ms, until_ms, most: (most, False))
    assert any(_storm(seed) for seed in range(10))
