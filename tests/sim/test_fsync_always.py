"""Under fsync `always` a write is on W disks when its client hears of it (P1); what nobody has heard of is not told."""

from __future__ import annotations

import random

import pytest

from server.core.outbox import Outbox
from tests.sim.host import Host
from tests.sim.runs import config
from tests.sim.seeds import seeds
from tests.sim.test_wait import send
from tests.sim.test_waitaof import cluster_of, durable
from tests.sim.world import World


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


@pytest.mark.parametrize("home", [0, 1])
def test_an_element_is_put_back_if_its_client_hangs_up_before_the_sync(home: int) -> None:
    world = World(5, 3, config(fsync="always"))
    for host in world.hosts:
        host.disk.sync_ms_max = 400
    world.start()
    world.run(2000)
    key, host = world.key_of(world.hosts[0]), world.hosts[home]
    client = world.client(host)
    waiting = client.send([b"BLPOP", key, b"0"])[0]
    world.run(4000)
    world.client(world.hosts[2]).send([b"RPUSH", key, b"a"])
    deliveries = host.running.services.waiting.deliveries
    assert world.events.run(4000, lambda: bool(deliveries.unsent)), "the reply is held"
    client.hang_up()
    world.run(10_000)
    assert not waiting.answered and not deliveries.unsettled()
    assert world.ask(world.hosts[2], "LRANGE", key, "0", "-1").reply == [b"a"]
