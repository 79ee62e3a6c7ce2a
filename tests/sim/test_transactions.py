"""Transactions by many clients at once. Two checkers read what came of them:

a reader      transactions that read all keys of a slot see all writes of another transaction or none
a replica     whatever a node holds, at any instant, is whole transactions (while nothing is repaired key by key)

Beside that, counters by WATCH, and a coordinator that is killed in the middle.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any
from unittest.mock import ANY

import pytest

from server.core.base.config import Config
from server.core.commands.transactions import relayed
from server.core.records import versions
from server.core.requests.writes import Writes
from tests.sim.clients import Client, Operation
from tests.sim.host import Host
from tests.sim.seeds import seeds
from tests.sim.world import World

CLIENTS, ROUNDS = 6, 25
FIELDS = (b"a", b"b", b"c")


def made(seed: int) -> tuple[World, list[bytes]]:
    """Three nodes, and three keys of one slot."""
    world = World(seed, 3)
    world.start()
    world.run(200)
    tag = world.key_of(world.hosts[seed % 3])
    return world, [b"{%b}%b" % (tag, field) for field in FIELDS]


def values_at(world: World, host: Host, keys: Sequence[bytes]) -> list[bytes | None]:
    """What a node has on its disk under keys."""
    records = [world.stored(host, key) for key in keys]
    return [None if record is None else versions.value_of(record, 0) for record in records]


def transaction(client: Client, *commands: list[bytes]) -> Operation:
    """Sends a transaction in one write. Returns the operation of EXEC."""
    return client.send([b"MULTI"], *commands, [b"EXEC"])[-1]


def wait_for_all(world: World, operations: Sequence[Operation]) -> None:
    """Runs until all operations are answered."""
    assert world.run_until(60_000, lambda: all(operation.answered for operation in operations))


def seen_parts(seed: int) -> tuple[list[str], list[list[bytes | None]], list[list[bytes | None]]]:
    """Errors; what readers saw that is not whole; what nodes held that is not whole."""
    world, keys = made(seed)
    rng = random.Random(seed)
    clients = [world.client(world.hosts[number % 3], f"c{number}") for number in range(CLIENTS)]
    writes, reads, held = [], [], []
    for count in range(ROUNDS):
        for number, client in enumerate(clients):
            if rng.random() < 0.5:
                value = b"%d:%d" % (number, count)
                order = rng.sample(keys, len(keys))
                writes.append(transaction(client, *[[b"SET", key, value] for key in order]))
            else:
                reads.append(transaction(client, *[[b"GET", key] for key in keys]))
        for _ in range(rng.randrange(1, 8)):
            world.run(1)
            held += [values for host in world.hosts if not is_whole(values := values_at(world, host, keys))]
    wait_for_all(world, writes + reads)
    errors = [operation.error for operation in writes + reads if operation.error]
    seen = [operation.reply for operation in reads if not operation.error and not is_whole(operation.reply)]
    assert len({tuple(operation.reply) for operation in reads if not operation.error}) > ROUNDS // 4
    return errors, seen, held


def is_whole(values: Sequence[bytes | None]) -> bool:
    """Whether all keys hold the same."""
    return len(set(values)) == 1


@pytest.mark.parametrize("seed", seeds(3, 6))
def test_no_reader_and_no_replica_has_a_part_of_a_transaction(seed: int) -> None:
    assert seen_parts(seed) == ([], [], [])


def _store_the_last_key_later(patch: Any) -> None:
    """What a transaction has written under its last key is stored some turns after the rest."""
    add_batch = Writes.add_batch

    def divided(self: Writes, group: Any, written: Any, finish: Any, sink: Any, number: int) -> None:
        add_batch(self, group, written[:-1], finish, sink, number)
        key, record, _ = written[-1]
        self.later.append((key, record))  # type: ignore[attr-defined]

    launch = Writes.launch

    def launch_later(self: Writes) -> bool:
        is_launched = launch(self)
        if not is_launched and self.later:  # type: ignore[attr-defined]
            self._state.records.merge_all([each for pair in self.later for each in pair])  # type: ignore[attr-defined]
            self.later.clear()  # type: ignore[attr-defined]
        return is_launched

    patch(Writes, "later", [])
    patch(Writes, "add_batch", divided)
    patch(Writes, "launch", launch_later)


@pytest.mark.interpreted
def test_a_transaction_in_parts_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    _store_the_last_key_later(
        lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement, raising=False)
    )
    found = [seen_parts(seed) for seed in range(6)]
    assert any(seen or held for _, seen, held in found)


def counted(seed: int) -> tuple[int, int, int]:
    """Clients increase a number by WATCH, GET, SET. How many of them were told so, the number, and how often one was told
    that somebody else was faster."""
    world, (key, *_) = made(seed)
    clients = [world.client(world.hosts[number % 3], f"c{number}") for number in range(CLIENTS)]
    succeeded = failed = 0
    for _ in range(ROUNDS):
        looks = [client.send([b"WATCH", key], [b"GET", key])[1] for client in clients]
        wait_for_all(world, looks)
        ends = [
            transaction(client, [b"SET", key, b"%d" % (int(look.reply or 0) + 1)])
            for client, look in zip(clients, looks, strict=True)
        ]
        wait_for_all(world, ends)
        succeeded += sum(end.reply == [b"OK"] for end in ends)
        failed += sum(end.reply is None for end in ends)
    return succeeded, int(world.ask(world.hosts[0], "GET", key).reply), failed


@pytest.mark.parametrize("seed", range(3))
def test_no_increment_by_watch_is_lost(seed: int) -> None:
    succeeded, number, failed = counted(seed)
    assert succeeded == number >= ROUNDS, "one of each round succeeds"
    assert succeeded + failed == CLIENTS * ROUNDS


@pytest.mark.interpreted
def test_a_watch_that_sees_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relayed, "token_of", lambda key, record, now_ms: ANY)
    succeeded, number, _ = counted(0)
    assert succeeded > number


@pytest.mark.parametrize("seed", range(4))
def test_a_killed_coordinator_leaves_whole_transactions(seed: int) -> None:
    world, keys = made(seed)
    rng = random.Random(seed)
    coordinator = world.owners(keys[0])[0]
    others = [host for host in world.hosts if host is not coordinator]
    clients = [world.client(others[number % 2], f"c{number}") for number in range(4)]
    operations = []
    for count in range(30):
        operations += [transaction(client, *[[b"SET", key, b"%s:%d" % (client.name.encode(), count)] for key in keys])
                       for client in clients]  # fmt: skip
        if count == 15:
            coordinator.crash_before = rng.choice(("commit", "messages", "some messages", "replies"))
        world.run(rng.randrange(40))
        if count == 15:
            coordinator.kill()
    wait_for_all(world, operations)
    assert all(operation.reply == [b"OK"] * 3 for operation in operations if not operation.error)
    assert sum(not operation.error for operation in operations) > 90
    assert all("outcome=" in operation.error for operation in operations if operation.error)
    assert is_whole(world.ask(others[0], "MGET", *keys).reply)
    world.heal()
    assert world.run_until(60_000, lambda: world.at_peace() and not world.differences())
    for host in world.hosts:
        assert is_whole(values_at(world, host, keys))


@pytest.mark.parametrize("limit", [1, 4])
def test_what_was_admitted_as_a_whole_is_not_refused_in_part(limit: int) -> None:
    """A transaction over many slots runs command by command, within the limit of requests in flight."""
    world = World(1, 3, Config(requests_in_flight_max=limit))
    world.start()
    world.run(200)
    keys = [b"key%d" % number for number in range(60)]
    clients = [world.client(world.hosts[number % 3], f"c{number}") for number in range(CLIENTS)]
    operations = [transaction(client, *[[b"APPEND", key, b"x"] for key in keys]) for client in clients]
    wait_for_all(world, operations)
    done = [operation for operation in operations if not operation.error]
    assert done and all(operation.error.startswith("BUSY") for operation in operations if operation.error)
    assert all(isinstance(reply, int) for operation in done for reply in operation.reply)
    world.run(2000)
    for key in (keys[0], keys[-1]):
        assert len(world.ask(world.hosts[0], "GET", key).reply) == len(done)
