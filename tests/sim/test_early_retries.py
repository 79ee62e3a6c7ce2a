"""A coordinator that stands still for a moment: others run its plain writes soon, and when it goes on it runs none late."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from server.core import retries
from server.core.base.config import Config
from server.core.requests import relays
from server.core.requests.early_retries import MARGIN_MS, EarlyRetries
from server.core.requests.relay_rows import RelayRow
from server.core.requests.relays import Relays
from tests.sim.plants import Patch
from tests.sim.world import World

RETRY_MS = 250
TICKS_MS = 2 * Config().tick_ms
JOURNEYS_MS = 50
SEEDS = range(8)


def _world(seed: int) -> tuple[World, bytes]:
    """Three nodes that have answered relays of each other, and a key that n2 coordinates."""
    world = World(seed, 3, config=replace(Config(), relay_retry_ms=RETRY_MS))
    world.start()
    for host in world.hosts:
        for other in world.hosts:
            assert world.ask(host, "SET", world.key_of(other), "warm").reply == b"OK"
    world.run(1000)
    return world, world.key_of(world.hosts[1])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("command", ["SET k v", "DEL k", "SADD s v", "GET k"])
def test_a_read_or_blind_write_waits_for_nobody(seed: int, command: str) -> None:
    world, key = _world(seed)
    n1, n2, _ = world.hosts
    n2.freeze()
    name, _, *words = command.split()
    answer = world.ask(n1, name, b"{%b}:s" % key if name == "SADD" else key, *words)
    assert not answer.error
    assert answer.answered_ms - answer.invoked_ms < RETRY_MS + TICKS_MS + JOURNEYS_MS


@pytest.mark.parametrize("frozen_ms", [100, 300, 700])
def test_an_increment_is_counted_once(frozen_ms: int) -> None:
    """It waits for the coordinator, which has read it, or has it in its socket, and goes on."""
    world, key = _world(frozen_ms)
    n1, n2, _ = world.hosts
    operations = [operation for _ in range(9) for operation in world.client(n1).send([b"INCR", b"{%b}:n" % key])]
    world.run(frozen_ms % 7)
    n2.freeze()
    world.run(frozen_ms)
    n2.thaw()
    assert world.run_until(5000, lambda: all(each.answered for each in operations))
    assert sorted(each.reply for each in operations) == list(range(1, 10))


def _write_around_a_freeze(seed: int) -> list[bytes]:
    """What the nodes read in the end. n1 sends n2 a value, and another owner runs that; then n3 sends a newer one. Both
    commands lie in the sockets of n2 when it goes on."""
    world, key = _world(seed)
    n1, n2, n3 = world.hosts
    n2.freeze()
    old = world.ask(n1, "SET", key, "old")
    new = world.ask(n3, "SET", key, "new")
    assert old.reply == new.reply == b"OK"
    frozen_ms = world.events.now_ms - old.invoked_ms
    assert frozen_ms < Config().relay_stale_ms, "without a limit the coordinator would run both"
    n2.thaw()
    world.run(3000)
    return [world.ask(host, "GET", key).reply for host in world.hosts]


def _ignore_limits(patch: Patch) -> None:
    patch(relays, "LIMIT_PLACE", 99)


def _retry_before_the_limit(patch: Patch) -> None:
    """The first coordinator may still run what the next one has run already."""

    def set_limit(self: EarlyRetries, row: RelayRow) -> None:
        row.is_eligible = True
        row.limit_ms, row.wait_ms = Config().relay_stale_ms, RETRY_MS

    patch(EarlyRetries, "_set_limit", set_limit)


PLANTS: dict[str, Callable[[Patch], None]] = {
    "ignore limits": _ignore_limits,
    "retry before the limit": _retry_before_the_limit,
}


def test_a_thawed_coordinator_brings_nothing_old_back() -> None:
    assert all(_write_around_a_freeze(seed) == [b"new"] * 3 for seed in SEEDS)


@pytest.mark.parametrize("plant", PLANTS)
def test_a_plant_loses_the_newer_value(plant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    PLANTS[plant](monkeypatch.setattr)
    assert any(b"old" in _write_around_a_freeze(seed) for seed in SEEDS)


def _ranges_lost(seed: int, frozen_ms: int, slow_ms: int) -> int:
    """How many acknowledged SETRANGEs of one string do not show. n1 and n3 send them; n2 is frozen, or its path slow."""
    world, key = _world(seed)
    n1, n2, n3 = world.hosts
    world.ask(n1, "SETRANGE", b"{%b}:s" % key, "0", "." * 240)
    path = world.network.path(n1.id, n2.id)
    operations = []
    for turn in range(120):
        if turn == 20 and frozen_ms:
            n2.freeze()
        if turn == 20 and slow_ms:
            path.delay_ms_min = path.delay_ms_max = slow_ms
        if turn == 20 + (frozen_ms or slow_ms) // 5:
            n2.thaw() if frozen_ms else world.network.mend(n1.id, n2.id)
        for place, host in enumerate((n1, n3)):
            args = [b"SETRANGE", b"{%b}:s" % key, b"%d" % (2 * turn + place), b"x"]
            operations += world.client(host).send(args)
        world.run(5)
    assert world.run_until(6000, lambda: all(each.answered for each in operations))
    value = world.ask(n1, "GET", b"{%b}:s" % key).reply
    return sum(value[place : place + 1] != b"x" for place, each in enumerate(operations) if isinstance(each.reply, int))


@pytest.mark.parametrize(("frozen_ms", "slow_ms"), [(280, 0), (0, 200)], ids=["a pause", "a slow path"])
@pytest.mark.parametrize("seed", range(4))
def test_no_write_that_reads_first_is_lost(seed: int, frozen_ms: int, slow_ms: int) -> None:
    """No second coordinator runs them beside the first."""
    assert _ranges_lost(seed, frozen_ms, slow_ms) == 0


@pytest.mark.parametrize(("frozen_ms", "slow_ms"), [(280, 0), (0, 200)], ids=["a pause", "a slow path"])
def test_retries_of_all_that_may_run_twice_lose_writes(
    frozen_ms: int, slow_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As well as a STALE that is run at another owner than the one that has sent it."""
    monkeypatch.setattr(retries, "is_eligible", lambda args: args[0] != b"APPEND")
    retry_row = Relays._retry_row

    def elsewhere(self: Relays, row: RelayRow, items: Any, maybe_run: bool, trouble: str, avoided: str = "") -> None:
        retry_row(self, row, items, maybe_run, trouble, row.peer)

    monkeypatch.setattr(Relays, "_retry_row", elsewhere)
    assert any(_ranges_lost(seed, frozen_ms, slow_ms) for seed in range(4))


def _write_to_the_lost(seed: int) -> bytes:
    """The value in the end. Nobody knows limits. n2 is lost for its silence when a command to it is 100 ms old."""
    world, key = _world(seed)
    n1, n2, n3 = world.hosts
    for host in world.hosts:
        host.running.services.relays.early.peers.clear()
    n2.freeze()
    first = world.client(n1).send([b"SET", b"{%b}:other" % key, b"x"])[0]
    world.run(Config().relay_silence_ms - MARGIN_MS)
    old = world.client(n1).send([b"SET", key, b"old"])[0]
    world.run(2 * MARGIN_MS + 2 * TICKS_MS)
    newer = world.ask(n1, "SET", key, "new") if old.answered else None
    n2.thaw()
    assert world.run_until(5000, lambda: first.answered and old.answered)
    if newer is None:
        assert world.ask(n3, "SET", key, "new").reply == b"OK"
    world.run(3000)
    return bytes(world.ask(n1, "GET", key).reply)


def test_a_lost_coordinator_that_was_only_suspended_brings_nothing_old_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was sent to it a moment before it counted as lost is not run by others yet."""
    assert [_write_to_the_lost(seed) for seed in SEEDS] == [b"new"] * len(SEEDS)
    give_up = Relays.give_up
    monkeypatch.setattr(Relays, "give_up", lambda self, peer, trouble, _: give_up(self, peer, trouble, 1 << 60))
    assert b"old" in [_write_to_the_lost(seed) for seed in SEEDS]
