"""Under fsync `always` requests leave before the sync, and what says that something is stored leaves behind it (P1)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from server.core import outbox
from server.core.requests.writes import Writes
from tests.sim.disk import Cause
from tests.sim.seeds import seeds
from tests.sim.test_wait import send
from tests.sim.test_waitaof import TIMEOUT_MS, cluster_of, durable


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


@pytest.mark.parametrize("plant", ["answers are requests", "the coordinator's vote is covered"])
def test_the_test_above_finds_what_is_sent_too_early(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if plant == "answers are requests":
        monkeypatch.setattr(outbox, "_REQUESTS", (*outbox._REQUESTS, *outbox._ANSWERS))
    else:
        monkeypatch.setattr(outbox, "_REQUESTS", (*outbox._REQUESTS, b"COVERED"))
        _cover_always(monkeypatch)
    assert any(_replies_too_early(seed) for seed in range(10))


def _cover_always(monkeypatch: pytest.MonkeyPatch) -> None:
    cover = Writes._cover

    def covering(self: Writes, group: Any) -> None:
        state = self._state
        monkeypatch.setattr(state.config, "fsync", "everysec")
        cover(self, group)
        monkeypatch.setattr(state.config, "fsync", "always")

    monkeypatch.setattr(Writes, "_cover", covering)


@pytest.mark.parametrize("coordinator", [0, 1])
def test_the_owners_do_not_wait_for_the_coordinators_sync(coordinator: int, monkeypatch: pytest.MonkeyPatch) -> None:
    world = cluster_of("always")
    host, client = world.hosts[coordinator], world.client(world.hosts[0])
    key = world.key_of(host)
    monkeypatch.setattr(host, "_sync", lambda life: setattr(host, "_syncing", True))  # it never ends
    operation = client.send([b"SET", key, b"v;"])[0]
    world.run(TIMEOUT_MS // 2)
    assert durable(world, key, b"v;") == 2 and not operation.answered


def test_an_element_that_a_blocked_client_gets_is_not_lost_with_the_power(monkeypatch: pytest.MonkeyPatch) -> None:
    """ESCROW, which keeps the element for the client, arrives before the STORE that removes it."""
    world = cluster_of("always")
    n1, n2, n3 = world.hosts
    key = world.key_of(n1)
    assert world.ask(n2, "RPUSH", key, "job").reply == 1
    world.run(TIMEOUT_MS)
    with monkeypatch.context() as patch:
        patch.setattr(n1, "_sync", lambda life: setattr(n1, "_syncing", True))  # it takes longer than the power lasts
        operation = world.client(n2).send([b"BLPOP", key, b"0"])[0]
        world.run(30)
        patch.setattr(n1.disk, "lose_power", lambda rng: n1.disk._become(n1.disk._synced, Cause.LOSS))  # all
        n1.lose_power()
        world.run(5 * TIMEOUT_MS)
    n1.start()
    world.run(5 * TIMEOUT_MS)
    assert operation.reply == [key, b"job"] or world.ask(n3, "LRANGE", key, 0, -1).reply == [b"job"]


def test_a_traced_command_is_not_overtaken_by_the_next_one_of_its_key() -> None:
    world = cluster_of("always")
    n1, n2, _ = world.hosts
    key = world.key_of(n2).decode()
    n1.running.services.traces.one_in = 1
    replies = [operation.reply for operation in send(world, n1, f"SET {key} 1", f"SET {key} 2", f"GET {key}")]
    assert replies == [b"OK", b"OK", b"2"]


@pytest.mark.parametrize("plant", [False, True])
def test_both_tests_above_find_requests_that_overtake_anything(plant: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if plant:
        kinds = (*outbox._ANSWERS, b"ESCROW", b"TRACED")
        monkeypatch.setattr(outbox, "_ANSWERS", kinds)
    failed = []
    for test in (
        lambda: test_an_element_that_a_blocked_client_gets_is_not_lost_with_the_power(monkeypatch),
        test_a_traced_command_is_not_overtaken_by_the_next_one_of_its_key,
    ):
        try:
            test()
        except AssertionError:
            failed.append(test)
    assert len(failed) == (2 if plant else 0)
