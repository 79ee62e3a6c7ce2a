"""`dyn repair` after damage: it mends what it meets and says what; the status shows damage while there is some (P11)."""

from __future__ import annotations

from typing import Any

import pytest

from server.core.base.config import Config
from server.core.membership import rebuild
from server.core.records import versions
from server.core.records.records import storage_key_of
from server.core.ring.layout import SETTLED
from tests.sim.changes import commit_at, join
from tests.sim.filled import KEYS, fill, is_sound, value_of
from tests.sim.host import Host
from tests.sim.test_repair_tasks import ask, wait
from tests.sim.world import World

DAMAGED = 20  # of each node
SCRUBBING = Config(scrub_interval_ms=2000)
SELDOM = Config(scrub_interval_ms=86_400_000)


def _world(config: Config = SELDOM, nodes: int = 3, n: int = 3) -> World:
    return fill(World(3, nodes, config, n=n))


def _damage(world: World, how: str) -> None:
    """Other records on each node, and nothing of them in memory."""
    for number, host in enumerate(world.hosts):
        for key in KEYS[number :: len(KEYS) // DAMAGED]:
            _damage_one(world, host, key, how)
        host.running.state.records.cache.clear()


def _damage_one(world: World, host: Host, key: bytes, how: str) -> None:
    storage_key, record = storage_key_of(key), world.stored(host, key)
    assert record is not None
    if how == "record":
        host.disk.damage(storage_key, record[:-1] + b"?")
    elif how == "block":
        host.disk.damage_block(storage_key)
    else:
        host.disk.damage_sorted_file(storage_key)


def _damage_met(world: World) -> list[int]:
    return [host.running.state.records.damaged for host in world.hosts]


def _summary(world: World) -> tuple[str, str]:
    status: dict[str, Any] = ask(world, world.hosts[0], "DYN.CLUSTER", "STATUS")
    return status["verdict"], status["summary"]


@pytest.mark.parametrize("how", ["record", "block", "sorted file"])
def test_a_repair_finds_and_mends_what_nobody_has_read(how: str) -> None:
    world = _world()
    _damage(world, how)
    ended = wait(world, world.hosts[1], ask(world, world.hosts[0], "DYN.REPAIR", "START"))
    assert (ended["state"], ended["error"]) == ("done", "")
    assert ended["mended"] == {"n1": DAMAGED, "n2": DAMAGED, "n3": DAMAGED}
    assert ended["lost"] == {}
    assert all(is_sound(world, host) for host in world.hosts)
    assert ended["keys_verified"] >= 3 * (len(KEYS) - DAMAGED)
    if how == "sorted file":
        assert set(ended["unreadable"]) == {"n1", "n2", "n3"}
    else:
        assert ended["unreadable"] == {}
        verdict, summary = _summary(world)
        assert verdict == "healthy" and summary.startswith("all 3 nodes are up; nodes are not authenticated"), summary
    again = wait(world, world.hosts[1], ask(world, world.hosts[2], "DYN.REPAIR", "START"))
    assert (again["state"], again["mended"]) == ("done", {}), "what was told is not told again"


@pytest.mark.parametrize("how", ["record", "block", "sorted file"])
def test_a_scrub_after_the_repair_finds_nothing(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rebuild, "HOLD_MS", 1 << 40)  # no store is set aside meanwhile
    world = _world(SCRUBBING)
    _damage(world, how)
    wait(world, world.hosts[1], ask(world, world.hosts[0], "DYN.REPAIR", "START"))
    met = _damage_met(world)
    scrubs = [host.running.state.statistics.scrubs for host in world.hosts]
    assert world.run_until(
        30_000,
        lambda: all(
            host.running.state.statistics.scrubs > scrubs[number] + 1 for number, host in enumerate(world.hosts)
        ),
    )
    assert _damage_met(world) == met
    assert all(is_sound(world, host) for host in world.hosts)


def test_what_was_mended_before_by_reads_is_named_by_the_next_repair() -> None:
    world = _world()
    _damage(world, "block")
    reads = world.client(world.hosts[1]).send(*[[b"GET", key] for key in KEYS])
    world.run(2000)
    assert all(operation.reply == value_of(key) for operation, key in zip(reads, KEYS, strict=True))
    assert all(is_sound(world, host) for host in world.hosts)
    ended = wait(world, world.hosts[0], ask(world, world.hosts[2], "DYN.REPAIR", "START"))
    assert ended["mended"] == {"n1": DAMAGED, "n2": DAMAGED, "n3": DAMAGED}


def test_a_key_that_is_damaged_is_repaired_by_name() -> None:
    world = _world()
    _damage_one(world, world.hosts[1], KEYS[0], "record")
    world.hosts[1].running.state.records.cache.clear()
    task = ask(world, world.hosts[0], "DYN.REPAIR", "START", "KEY", KEYS[0])
    assert (task["state"], task["mended"], task["keys_compared"]) == ("done", {"n2": 1}, 1)
    assert is_sound(world, world.hosts[1])


@pytest.mark.parametrize("how", ["record", "sorted file"])
def test_the_verdict_shows_damage_while_there_is_some(how: str) -> None:
    world = _world()
    n1, _, n3 = world.hosts
    world.network.cut(n1.id, n3.id)
    world.network.cut(n3.id, n1.id)
    _damage_one(world, n1, KEYS[0], how)
    n1.running.state.records.cache.clear()
    assert world.ask(world.hosts[1], "GET", KEYS[0]).reply == value_of(KEYS[0])
    assert world.run_until(3000, lambda: "n1 has 1 damaged records" in _summary(world)[1])
    assert _summary(world)[0] == "degraded"
    world.network.mend(n1.id, n3.id)
    world.network.mend(n3.id, n1.id)
    assert world.run_until(20_000, lambda: "damaged records" not in _summary(world)[1] and world.at_peace())
    if how == "record":
        assert world.run_until(5000, lambda: _summary(world)[0] == "healthy")
    else:
        wait(world, n1, ask(world, n1, "DYN.REPAIR", "START"))
        verdict, summary = _summary(world)
        assert verdict == "degraded"
        assert "n1 cannot read all of its store (1 of 16384 slots are hit)" in summary
        assert "--rebuild" in summary


def test_a_range_that_cannot_be_read_does_not_hold_up_what_lies_behind_it() -> None:
    """An owner that cannot list a range still gets, and gives, all that the others name."""
    world = _world()
    n1, n2, n3 = world.hosts
    bad = sorted(KEYS, key=storage_key_of)[::10]
    for key in bad:
        _damage_one(world, n1, key, "sorted file")
    newer = {
        storage_key_of(key): versions.supersede(world.stored(n2, key), b"actor--x", 1 << 59, b"newer")
        for key in KEYS[::3]
    }
    n3.running.state.records.merge_all([item for pair in newer.items() for item in pair])
    ended = wait(world, n2, ask(world, n2, "DYN.REPAIR", "START"))
    assert (ended["state"], ended["error"]) == ("done", "")
    for key in KEYS:
        assert len({world.stored(host, key) for host in world.hosts}) == 1
    assert all(is_sound(world, host) for host in world.hosts)


@pytest.mark.parametrize("how", ["block", "sorted file"])
def test_a_range_that_the_last_former_owner_cannot_read_does_not_stop_a_transfer(how: str) -> None:
    """With N = 1 there is nobody else to ask: what can be read moves, and the rest is said to be lost or unreadable."""
    world = _world(nodes=2, n=1)
    bad = sorted(KEYS, key=storage_key_of)[5:195:20]
    for host in world.hosts:
        for key in bad:
            if world.stored(host, key) is not None:
                _damage_one(world, host, key, how)
        host.running.state.records.cache.clear()
    n3 = world.add_host()
    world.run(500)
    commit_at(world.hosts[0], join(n3))
    assert world.run_until(120_000, lambda: all(_is_settled(host) for host in world.hosts))
    for key in KEYS:
        if key not in bad:
            assert world.ask(n3, "GET", key).reply == value_of(key)
    assert n3.running.state.records.keys > 20


def _is_settled(host: Host) -> bool:
    layout = host.running.state.layout
    return layout is not None and layout.epoch == 2 and layout.phase == SETTLED


def test_damaged_hints_do_not_hold_up_the_others() -> None:
    world = _world(nodes=4)
    n4 = world.hosts[3]
    owned = [key for key in KEYS if n4 in world.owners(key)]
    n4.kill()
    world.run(1000)
    written = world.client(world.hosts[0]).send(*[[b"SET", key, b"new"] for key in owned])
    assert world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in written))
    holders = [host for host in world.hosts[:3] if host.running.state.hints.count(n4.id) > 40]
    assert holders
    for host in world.hosts[:3]:  # no mending: that wants an answer of n4
        for storage_key in host.running.state.hints.keys(n4.id)[:20]:
            host.disk.damage_block(storage_key)
        host.running.state.records.cache.clear()
    counts = {host: host.running.state.hints.count(n4.id) for host in holders}
    for host in world.hosts[:3]:
        host.running.services.mending._mend = lambda keys: _nothing()  # type: ignore[assignment]
    n4.start()
    assert world.run_until(10_000, lambda: all(host.running.state.hints.count(n4.id) <= 20 for host in holders)), counts


def _nothing() -> Any:
    yield from ()
    return False
