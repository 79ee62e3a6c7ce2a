"""WAITAOF in a cluster: it waits for syncs, up to its timeout, and never counts a disk too many."""

from __future__ import annotations

import random

import pytest

from server.core.base.config import Config
from server.core.commands import waitaof_command
from server.core.records.records import storage_key_of
from tests.sim.runs import config
from tests.sim.seeds import seeds
from tests.sim.test_wait import send
from tests.sim.world import World

TIMEOUT_MS = Config().request_timeout_ms
POLICIES = ("always", "everysec", "no")


def cluster_of(policy: str, seed: int = 3) -> World:
    """Three nodes that sync by a policy."""
    world = World(seed, 3, config(fsync=policy))
    world.start()
    world.run(2 * TIMEOUT_MS)
    return world


def durable(world: World, key: bytes, value: bytes) -> int:
    """On how many disks a value would outlive a loss of power."""
    return sum(value in (host.disk.durable(storage_key_of(key)) or b"") for host in world.hosts)


@pytest.mark.parametrize(("policy", "most_ms"), [("always", 200), ("everysec", 1500), ("no", 11_000)])
def test_it_ends_once_all_disks_are_synced(policy: str, most_ms: int) -> None:
    world = cluster_of(policy)
    for number in range(3):
        key, value = b"k%d" % number, b"v%d;" % number
        write, wait = send(world, world.hosts[number], f"SET {key.decode()} {value.decode()}", "WAITAOF 1 2 0")
        assert (write.reply, wait.reply) == (b"OK", [1, 2])
        assert durable(world, key, value) == 3
        assert wait.answered_ms - wait.invoked_ms <= most_ms


def test_a_short_timeout_ends_before_the_sync() -> None:
    world = cluster_of("everysec")
    write, wait = send(world, world.hosts[0], "SET k v;", "WAITAOF 1 1 1")
    assert write.reply == b"OK" and wait.reply == [0, 0]


@pytest.mark.parametrize("policy", ["always", "everysec"])
def test_a_node_that_has_long_been_down_does_not_count(policy: str) -> None:
    world = cluster_of(policy)
    world.hosts[2].kill()
    client = world.client(world.hosts[0])
    replies = []
    for _ in range(3):
        world.run(2 * TIMEOUT_MS)
        operations = client.send([b"SET", b"k", b"v;"], [b"WAITAOF", b"1", b"1", b"4000"])
        world.events.run(20_000, lambda: operations[-1].answered)  # noqa: B023
        replies.append(operations[-1].reply)
    assert replies == [[1, 0], [1, 1], [1, 1]], "at first it may have acknowledged something, and not synced it"


def test_in_a_transaction_it_does_not_wait() -> None:
    for policy, reply in (("always", [1, 1]), ("everysec", [0, 0])):
        world = cluster_of(policy)
        assert send(world, world.hosts[0], "MULTI", "SET k v", "WAITAOF 1 1 0", "EXEC")[-1].reply == [b"OK", reply]


def _storm(seed: int) -> list[str]:
    """What WAITAOF answered in a storm that was more than the disks had synced at that moment."""
    rng = random.Random(f"waitaof {seed}")
    world = cluster_of(rng.choice(POLICIES), seed)
    faults = []
    for number in range(60):
        host = rng.choice(world.hosts)
        match rng.choice(("write",) * 6 + ("kill", "freeze", "cut", "power", "heal")):
            case "write" if host.node is not None:
                key, value = b"k%d" % rng.randrange(9), b"v%d;" % number
                timeout_ms = rng.choice((1, 300, 1100, 2000))
                write, wait = send(world, host, f"SET {key.decode()} {value.decode()}", f"WAITAOF 1 2 {timeout_ms}")
                disks = durable(world, key, value)
                if write.reply == b"OK" and isinstance(wait.reply, list) and sum(wait.reply) > disks:
                    faults.append(f"{key!r}: {wait.reply} answered, {disks} disks")
            case "kill":
                host.kill()
            case "freeze":
                host.freeze()
            case "power":
                host.lose_power()
            case "cut":
                world.network.cut(host.id, world.hosts[0].id)
            case _:
                world.heal()
        world.run(rng.choice((10, 1000)))
    return faults


@pytest.mark.parametrize("seed", seeds(4, 30))
def test_it_never_counts_a_disk_too_many(seed: int) -> None:
    assert _storm(seed) == []


@pytest.mark.parametrize(("name", "planted"), [("_has_synced", lambda *_: True), ("_unknown", lambda *_: 0)])
def test_a_disk_too_many_would_be_found(name: str, planted: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waitaof_command, name, planted)
    assert any(_storm(seed) for seed in range(20))
