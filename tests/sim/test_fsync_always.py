"""Under fsync `always` a write is on W disks when its client hears of it (P1)."""

from __future__ import annotations

import random

import pytest

from server.core.outbox import Outbox
from tests.sim.host import Host
from tests.sim.seeds import seeds
from tests.sim.test_wait import send
from tests.sim.test_waitaof import cluster_of, durable


def _replies_too_early(seed: int) -> list[str]:
    """The writes of a run that were acknowledged with W = 2 before they were on two disks."""
    rng = random.Random(f"always {seed}")
    world = cluster_of("always", seed)
    faults = []
    for number in range(40):
        host, key = rng.choice(world.hosts), f"k{rng.randrange(9)}"
        words = (
            [f"SET {key} v{number};", f"GET {key}"] if rng.random() < 0.5 else [f"GET {key}", f"SET {key} v{number};"]
        )
        replies = [operation.reply for operation in send(world, host, *words)]
        disks = durable(world, key.encode(), b"v%d;" % number)
        if b"OK" in replies and disks < 2:
            faults.append(f"{words} by {host.member.name}: {disks} disks")
    return faults


@pytest.mark.parametrize("seed", seeds(4, 100))
def test_a_write_is_on_two_disks_when_it_is_acknowledged(seed: int) -> None:
    assert _replies_too_early(seed) == []


def test_the_test_above_finds_what_is_said_before_the_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    def finish_turn(self: Host, outbox: Outbox) -> None:
        self.staging.commit(outbox.writes)
        self.speak(outbox)

    monkeypatch.setattr(Host, "finish_turn", finish_turn)
    assert any(_replies_too_early(seed) for seed in range(10))
