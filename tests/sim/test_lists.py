"""Moves between lists by many clients at once: while all is well no item is lost or there twice, and nobody waits long."""

from __future__ import annotations

import random
from typing import Any

import pytest

from server.core.base.holds import Holds
from tests.sim.world import World

ITEMS = [b"item%d" % number for number in range(12)]
ENDS = (b"LEFT", b"RIGHT")
ROUNDS = 25
CLIENTS = 8


def _moved(seed: int) -> tuple[list[str], list[bytes], int]:
    """Errors, the items that are there in the end, sorted, and how long the longest command took in milliseconds."""
    world = World(seed, 3)
    world.start()
    world.run(200)
    lists = [world.key_of(host) for host in world.hosts]  # each is coordinated by another node
    assert not world.ask(world.hosts[0], "RPUSH", lists[0], *ITEMS).error
    rng = random.Random(seed)
    clients = [world.client(world.hosts[number % 3], f"c{number}") for number in range(CLIENTS)]
    operations = []
    for _ in range(ROUNDS):
        for client in clients:
            source, destination = rng.choice(lists), rng.choice(lists)
            operations += client.send([b"LMOVE", source, destination, rng.choice(ENDS), rng.choice(ENDS)])
            if rng.random() < 0.3:
                operations += client.send([b"RPOPLPUSH", destination, destination])
        world.run(rng.randrange(30))
    assert world.run_until(60_000, lambda: all(operation.answered for operation in operations))
    found: list[bytes] = []
    for key in lists:
        found += world.ask(world.hosts[0], "LRANGE", key, "0", "-1").reply
    errors = [f"{operation.args}: {operation.error}" for operation in operations if operation.error]
    longest_ms = max(operation.answered_ms - operation.invoked_ms for operation in operations)
    return errors, sorted(found), longest_ms


@pytest.mark.parametrize("seed", range(4))
def test_moves_in_all_directions_lose_nothing_and_double_nothing(seed: int) -> None:
    errors, found, longest_ms = _moved(seed)
    assert errors == []
    assert found == sorted(ITEMS)
    assert longest_ms < 1500, "two moves waited for each other"


def _hold_nothing(patch: Any) -> None:
    patch(Holds, "hold", lambda self, storage_key: None)
    patch(Holds, "release", lambda self, storage_key: None)


def _find_nothing_held(patch: Any) -> None:
    patch(Holds, "is_held", lambda self, storage_key: False)


@pytest.mark.interpreted
@pytest.mark.parametrize("plant", [_hold_nothing, _find_nothing_held])
def test_a_planted_bug_is_found(plant: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    runs = [_moved(seed) for seed in range(4)]
    assert any(errors or found != sorted(ITEMS) for errors, found, _ in runs)
