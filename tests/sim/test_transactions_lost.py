"""Transactions whose nodes die, freeze or lose each other: whole or not at all, on each replica, and what EXEC says."""

from __future__ import annotations

import random

import pytest

from server.core.base.state import State
from server.core.requests import replica
from tests.sim.host import CRASH_STEPS
from tests.sim.test_transactions import CLIENTS, is_whole, made, transaction, values_at, wait_for_all
from tests.sim.world import encode


def held_in_part(seed: int) -> tuple[list[str], int]:
    """Replicas die within turns while transactions are written. Which disks had a part of one before their node was
    started again, and how many transactions were told to be done."""
    world, keys = made(seed)
    rng = random.Random(seed)
    coordinator, *replicas = world.owners(keys[0])
    clients = [world.client(coordinator, f"c{number}") for number in range(CLIENTS)]
    operations, parts = [], []
    for count in range(24):
        for client in clients:
            value = b"%b:%d" % (client.name.encode(), count)
            operations.append(transaction(client, *[[b"SET", key, value] for key in rng.sample(keys, len(keys))]))
        victim = replicas[count // 3 % 2]
        if count % 3 == 0:
            victim.crash_before = rng.choice(("commit", "messages", "some messages"))
        for _ in range(rng.randrange(2, 10)):
            world.run(1)
            if count % 3 < 2 and not is_whole(values := values_at(world, victim, keys)):
                parts.append(f"{victim.member.name}: {values}")
        if count % 3 == 2:  # repairs bring its keys one by one: it is looked at again once they are through
            victim.crash_before = ""
            if victim.node is None:
                victim.start()
            world.run_until(30_000, lambda: world.at_peace() and not world.differences())
    wait_for_all(world, operations)
    return parts, sum(not operation.error for operation in operations)


@pytest.mark.parametrize("seed", range(4))
def test_a_replica_that_dies_has_whole_transactions(seed: int) -> None:
    parts, done = held_in_part(seed)
    assert parts == [] and done > 100


@pytest.mark.interpreted
def test_a_batch_that_is_stored_in_parts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica stores the first record of a batch, and the others with its next batch."""
    store, rests = replica.store, dict[str, list[bytes]]()

    def store_in_parts(state: State, pairs: list[bytes]) -> str | None:
        rest = rests.pop(state.id, [])
        rests[state.id] = pairs[2:]
        return store(state, rest + pairs[:2])

    monkeypatch.setattr(replica, "store", store_in_parts)
    assert any(held_in_part(seed)[0] for seed in range(4))


def counted(seed: int) -> tuple[int, int, int]:
    """Clients increase a number by WATCH, GET, EXEC, and its coordinator dies meanwhile: how many of them were told that
    they have, how many do not know, and the number in the end."""
    world, (key, *_) = made(seed)
    rng = random.Random(seed)
    coordinator = world.owners(key)[0]
    others = [host for host in world.hosts if host is not coordinator]
    clients = [world.client(others[number % 2], f"c{number}") for number in range(CLIENTS)]
    succeeded = unknown = 0
    for count in range(12):
        looks = [client.send([b"WATCH", key], [b"GET", key]) for client in clients]
        wait_for_all(world, [look for pair in looks for look in pair])
        if count == 5:
            coordinator.crash_before = rng.choice(CRASH_STEPS)
        ends = []
        for client, (watch, look) in zip(clients, looks, strict=True):
            if watch.error or look.error:
                transaction(client)
            else:
                ends.append(transaction(client, [b"SET", key, b"%d" % (int(look.reply or 0) + 1)]))
        if count == 5:
            world.run(rng.randrange(30))
            coordinator.kill()
        wait_for_all(world, ends)
        succeeded += sum(end.reply == [b"OK"] for end in ends)
        unknown += sum(bool(end.error) for end in ends)
        if count == 8:
            world.heal()
            assert world.run_until(30_000, world.at_peace)
    return succeeded, unknown, int(world.ask(others[0], "GET", key).reply)


@pytest.mark.parametrize("seed", range(4))
def test_no_increment_by_watch_is_lost_with_its_coordinator(seed: int) -> None:
    succeeded, unknown, number = counted(seed)
    assert succeeded <= number <= succeeded + unknown
    assert succeeded >= 8, "one of each round but those in which it was lost"


CHANGES = [
    ("SET {k} other", True),
    ("SET {k} first", True),
    ("DEL {k}|SET {k} first", True),
    ("PEXPIRE {k} 200", True),
    ("RENAME {o} {k}", True),
    ("GET {k}", False),
    ("SET {o} x", False),
    ("HGET {k} f", False),
]


@pytest.mark.parametrize(("change", "is_seen"), CHANGES)
@pytest.mark.parametrize("dies", [False, True])
def test_a_watched_key_that_was_changed_through_another_node(change: str, is_seen: bool, dies: bool) -> None:
    """Also if its coordinator dies between the change and EXEC: the next one knows what was acknowledged."""
    world, (key, other, third) = made(7)
    coordinator, home, elsewhere = world.owners(key)
    world.ask(home, "MSET", key, "first", other, "second")
    client = world.client(home)
    watch = client.send([b"WATCH", key])
    wait_for_all(world, watch)
    for line in change.split("|"):
        world.ask(elsewhere, *encode([{"{k}": key, "{o}": other}.get(word, word) for word in line.split()]))
    world.run(500)
    if dies:
        coordinator.kill()
        world.run(8000)
    end = transaction(client, [b"SET", third, b"done"])
    wait_for_all(world, [end])
    assert end.reply == (None if is_seen else [b"OK"])
    assert world.ask(home, "GET", third).reply == (None if is_seen else b"done")


@pytest.mark.parametrize("frozen", [1, 2])
def test_an_exec_without_its_quorum_is_whole_or_nothing_in_the_end(frozen: int) -> None:
    world, keys = made(3)
    coordinator, *replicas = world.owners(keys[0])
    for host in replicas[:frozen]:
        host.freeze()
    client = world.client(coordinator)
    end = transaction(client, *[[b"SET", key, b"x"] for key in keys])
    wait_for_all(world, [end])
    if frozen == 1:
        assert end.reply == [b"OK"] * 3
    else:
        assert end.error.startswith(("TIMEOUT", "NOQUORUM")) and "outcome=" in end.error
    for host in replicas:
        assert is_whole(values_at(world, host, keys))
    world.heal()
    assert world.run_until(60_000, lambda: world.at_peace() and not world.differences())
    found = [values_at(world, host, keys) for host in world.hosts]
    assert all(values == found[0] and is_whole(values) for values in found)
    if "outcome=unwritten" in end.error or "outcome=unread" in end.error:
        assert found[0] == [None] * 3
