"""Collection of tombstones, expired values and long clocks, one situation at a time, and under storms (P7)."""

from __future__ import annotations

from typing import Any

import pytest

from server.core import peer_messages
from server.core.base.config import Config
from server.core.collection.collection import Collection
from server.core.records import versions
from server.core.records.records import storage_key_of
from tests.sim import resurrection
from tests.sim.host import Host
from tests.sim.probes import values_on
from tests.sim.seeds import seeds
from tests.sim.world import World

COLLECTED_MS = 12_000  # a look, a vote, the wait, a sync, and room
PAST_BOUND_MS = 25_000  # a node that has started again gives no vote for that long at most


@pytest.fixture
def three() -> World:
    return _world(1, 3)


def _world(seed: int, nodes: int, config: Config | None = None) -> World:
    world = World(seed, nodes, config)
    world.start()
    world.run(100)
    return world


def _gone(world: World, *keys: bytes) -> bool:
    return all(world.stored(host, key) is None for host in world.hosts for key in keys)


def _count(world: World, name: str) -> int:
    return sum(getattr(host.running.state.statistics, name) for host in world.hosts if host.node is not None)


def _delete(world: World, key: bytes) -> None:
    assert world.ask(world.hosts[0], "SET", key, "value").reply == b"OK"
    assert world.ask(world.hosts[0], "DEL", key).reply == 1


def _voted(world: World) -> bool:
    """Whether a vote is open somewhere: the time between the vote and the fence."""
    return any(host.running.services.votes._rows for host in world.hosts if host.node is not None)


def test_deleted_keys_leave_all_disks(three: World) -> None:
    keys = [b"k%d" % number for number in range(300)]  # more than one ballot
    client = three.client(three.hosts[0])
    client.send(*[[b"SET", key, b"value"] for key in keys])
    deletion = client.send([b"DEL", *keys])[0]
    assert three.events.run(2000, lambda: deletion.answered)
    assert not _gone(three, keys[0])
    assert three.run_until(COLLECTED_MS, lambda: _gone(three, *keys))
    assert _count(three, "tombstones_collected") == len(keys)
    assert all(host.running.state.records.keys == 0 for host in three.hosts)
    assert three.ask(three.hosts[1], "GET", keys[0]).reply is None
    assert three.ask(three.hosts[1], "SET", keys[0], "again").reply == b"OK"
    three.run(COLLECTED_MS)
    assert three.ask(three.hosts[2], "GET", keys[0]).reply == b"again"


def test_expired_values_leave_all_disks(three: World) -> None:
    assert three.ask(three.hosts[0], "SET", "brief", "value", "PX", 3000).reply == b"OK"
    assert three.ask(three.hosts[1], "DYN.SET", "brief too", "value", "EX", 2).reply[1:] == [2, 0]
    assert three.ask(three.hosts[0], "SET", "lasting", "value", "EX", 1000).reply == b"OK"
    assert not _gone(three, b"brief")
    assert three.run_until(3000 + COLLECTED_MS, lambda: _gone(three, b"brief", b"brief too"))
    assert _count(three, "expired_collected") == 2
    assert three.ask(three.hosts[0], "GET", "lasting").reply == b"value"


def test_a_value_whose_expiry_was_put_off_stays(three: World) -> None:
    assert three.ask(three.hosts[0], "SET", "key", "value", "PX", 500).reply == b"OK"
    assert three.ask(three.hosts[0], "EXPIRE", "key", 30).reply == 1
    three.run(COLLECTED_MS)
    assert three.ask(three.hosts[1], "GET", "key").reply == b"value"
    assert three.run_until(30_000 + COLLECTED_MS, lambda: _gone(three, b"key"))


def test_a_member_that_is_down_stops_collection() -> None:
    """Any member: here one that is no owner, but might keep a hint of an older version."""
    world = _world(2, 5)
    key = b"key"
    away = next(host for host in world.hosts if host not in world.owners(key))
    away.kill()
    world.run(1000)
    assert world.ask(world.owners(key)[0], "SET", key, "value").reply == b"OK"
    assert world.ask(world.owners(key)[0], "DEL", key).reply == 1
    world.run(2 * COLLECTED_MS)
    assert all(world.stored(owner, key) is not None for owner in world.owners(key))
    away.start()
    assert world.run_until(PAST_BOUND_MS + 3 * COLLECTED_MS, lambda: _gone(world, key))


def test_an_owner_that_was_away_gets_the_tombstone_first(three: World) -> None:
    """It holds the value; its hint is delivered, and only then the tombstone may go."""
    n1, _, n3 = three.hosts
    key = three.key_of(n1)
    assert three.ask(n1, "SET", key, "value").reply == b"OK"
    three.run(100)
    n3.kill()
    three.run(1000)
    assert three.ask(n1, "DEL", key).reply == 1
    three.run(COLLECTED_MS)
    assert values_on(three, n3, key) == [b"value"]
    n3.start()
    assert three.run_until(PAST_BOUND_MS + 3 * COLLECTED_MS, lambda: _gone(three, key))
    assert three.ask(n3, "DYN.GET", key, "R", 3).reply == [None, []]


def test_a_write_between_vote_and_fence_stays(three: World) -> None:
    n1 = three.hosts[0]
    key = three.key_of(n1)
    _delete(three, key)
    assert three.run_until(COLLECTED_MS, lambda: _voted(three))
    assert three.ask(n1, "SET", key, "new").reply == b"OK"
    three.run(2 * COLLECTED_MS)
    assert all(values_on(three, host, key) == [b"new"] for host in three.hosts)
    assert _count(three, "tombstones_collected") == 0
    assert _count(three, "collections_refused") == 1


@pytest.mark.parametrize("victim", range(3))
def test_whoever_starts_again_between_vote_and_fence_stops_that_round(three: World, victim: int) -> None:
    """The first is the collector itself. Later all goes well."""
    n1 = three.hosts[0]
    key = three.key_of(n1)
    _delete(three, key)
    assert three.run_until(COLLECTED_MS, lambda: _voted(three))
    three.hosts[victim].kill()
    three.run(100)
    three.hosts[victim].start()
    three.run(COLLECTED_MS)
    assert all(three.stored(host, key) is not None for host in three.hosts)
    n1.running.services.collection.add_candidate(storage_key_of(key), 0)  # as the scrub would
    assert three.run_until(PAST_BOUND_MS + 3 * COLLECTED_MS, lambda: _gone(three, key))


def _late_message(seed: int) -> tuple[World, bytes]:
    """A value that n1 has sent to n3 over a path of two minutes; since then n1 was killed, and the key deleted."""
    world = _world(seed, 3)
    n1, _, n3 = world.hosts
    key = world.key_of(n1)
    path = world.network.path(n1.id, n3.id)
    path.delay_ms_min = path.delay_ms_max = 120_000
    assert world.ask(n1, "SET", key, "old", within_ms=100).reply == b"OK"
    n1.kill()
    world.network.mend(n1.id, n3.id)
    n1.start()
    assert world.run_until(5000, world.at_peace)
    assert world.ask(n1, "DEL", key).reply == 1
    assert world.run_until(100_000, lambda: _gone(world, key)), "it is to be gone before the message comes"
    world.run(120_000)
    return world, key


def test_a_message_of_a_former_life_is_refused() -> None:
    refused = 0
    for seed in range(6):
        world, key = _late_message(seed)
        assert _gone(world, key)
        assert world.ask(world.hosts[2], "DYN.GET", key, "R", 3).reply == [None, []]
        refused += world.hosts[2].running.state.statistics.late_refused
    assert refused, "some of what the dead has sent does arrive"


def test_without_fences_it_would_bring_the_value_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_messages, "carries_records", lambda message: False)
    back = [values_on(world, world.hosts[2], key) for world, key in map(_late_message, range(6))]
    assert [b"old"] in back


def test_a_frozen_node_cannot_bring_it_back(three: World) -> None:
    """What waits in its sockets is older than the tombstone; hints bring that, and the rest is refused or superseded."""
    n1, n2, n3 = three.hosts
    key = three.key_of(n1)
    n3.freeze()
    assert three.ask(n1, "SET", key, "old").reply == b"OK"
    for pipe in three.network.pipes(n1.id, n3.id):
        pipe.abort()
    three.run(3000)
    assert three.ask(n1, "DEL", key).reply == 1
    three.run(COLLECTED_MS)
    assert three.stored(n1, key) is not None
    n3.thaw()
    assert three.run_until(6 * COLLECTED_MS, lambda: _gone(three, key))
    three.run(COLLECTED_MS)
    assert _gone(three, key)
    assert three.ask(n2, "GET", key).reply is None


def test_a_slow_link_delays_it_and_no_more(three: World) -> None:
    n1, _, n3 = three.hosts
    key = three.key_of(n1)
    path = three.network.path(n1.id, n3.id)
    path.delay_ms_min = path.delay_ms_max = 8000
    _delete(three, key)
    three.run(3 * COLLECTED_MS)
    assert three.stored(n1, key) is not None
    three.network.mend(n1.id, n3.id)
    assert three.run_until(10 * COLLECTED_MS, lambda: _gone(three, key))
    three.run(COLLECTED_MS)
    assert _gone(three, key)


@pytest.mark.parametrize("fsync", ["no", "everysec", "always"])
@pytest.mark.parametrize("seed", seeds(2, 4))
def test_power_losses_bring_nothing_back(fsync: str, seed: int) -> None:
    """The tombstone is on all disks before it goes, so an owner that forgets the last second has it, or nothing."""
    world = _world(seed, 3, Config(fsync=fsync))
    key = world.key_of(world.hosts[0])
    assert world.ask(world.hosts[0], "SET", key, "value").reply == b"OK"
    world.run(1500)
    assert world.ask(world.hosts[0], "DEL", key).reply == 1
    for _ in range(6):
        world.run(world.rng.randint(100, 8000))
        victim = world.rng.choice(world.hosts[1:] if fsync == "no" else world.hosts)
        world.lose_power(victim)
        world.run(world.rng.randint(100, 1000))
        victim.start()
        assert world.run_until(5000, world.at_peace)
    world.hosts[0].running.services.collection.add_candidate(storage_key_of(key), 0)
    world.ask(world.hosts[0], "DYN.GET", key, "R", 3)  # repairs
    assert world.run_until(PAST_BOUND_MS + 10 * COLLECTED_MS, lambda: _gone(world, key))
    assert world.ask(world.hosts[1], "DYN.GET", key, "R", 3).reply == [None, []]


def test_a_vote_counts_once_it_is_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Host, "_synced_in_passing", lambda self, life, batches, turn: None)
    world = _world(1, 3)
    key = world.key_of(world.hosts[0])
    _delete(world, key)
    world.run(3 * COLLECTED_MS)
    assert all(world.stored(host, key) is not None for host in world.hosts)


def test_what_was_read_before_the_line_is_behind_it(three: World) -> None:
    """Read groups and exchanges compare their stamp with `State.fence`, on every node."""
    key = three.key_of(three.hosts[0])
    states = [host.running.state for host in three.hosts]
    _delete(three, key)
    stamps = [state.clock.last for state in states]
    assert three.run_until(COLLECTED_MS, lambda: _voted(three))
    assert three.run_until(COLLECTED_MS, lambda: all(state.fence for state in states))
    assert all(state.fence >= stamp for state, stamp in zip(states, stamps, strict=True))
    assert not _gone(three, key)
    assert all(not state.fences for state in states)
    assert three.run_until(COLLECTED_MS, lambda: _gone(three, key))
    assert all(sorted(state.fences) == sorted(host.id for host in three.hosts) for state in states)
    assert all(state.fence >= stamp for state, stamp in zip(states, stamps, strict=True))


def _after_restarts(world: World, restarts: int, writes: int) -> list[int]:
    """The sizes of a key's clock while its coordinators start again and again."""
    key, sizes = world.key_of(world.hosts[0]), []
    for number in range(restarts):
        host = world.hosts[number % 3]
        host.kill()
        asked = world.hosts[(number + 1) % 3]
        world.run(700)
        client = world.client(asked)
        operations = client.send(*[[b"SET", key, b"%d.%d" % (number, write)] for write in range(writes)])
        assert world.events.run(10_000, lambda: operations[-1].answered)  # noqa: B023
        host.start()
        world.run_until(5000, world.at_peace)
        record = world.stored(world.hosts[0], key)
        sizes.append(versions.clock_entries(record) if record is not None else 0)
    assert world.ask(world.hosts[1], "GET", key).reply == b"%d.%d" % (restarts - 1, writes - 1)
    return sizes


def test_the_clock_is_small_after_100_restarts_and_10_000_writes() -> None:
    world = _world(1, 3)
    sizes = _after_restarts(world, 100, 100)
    key = world.key_of(world.hosts[0])
    limit = Config().clock_entries_max
    busiest = max(sizes)

    def sizes_now() -> list[int]:
        records = [world.stored(host, key) for host in world.hosts]
        return [versions.clock_entries(record) for record in records if record is not None]

    assert world.run_until(PAST_BOUND_MS + 20 * COLLECTED_MS, lambda: max(sizes_now()) <= limit)
    record = world.stored(world.hosts[0], key)
    assert record is not None
    print(
        f"\nclock entries while written and restarted: {busiest} at most; left alone {sizes_now()}, {len(record)} bytes"
    )
    assert busiest > limit
    assert _count(world, "clocks_pruned") > 0
    assert world.ask(world.hosts[2], "GET", key).reply == b"99.99"
    assert len({world.stored(host, key) for host in world.hosts}) == 1


@pytest.mark.parametrize("seed", seeds(3, 12))
def test_storms_bring_nothing_back(seed: int) -> None:
    world = resurrection.storm(seed)
    assert resurrection.came_back(world) == []


def test_storms_do_collect() -> None:
    assert sum(resurrection.collected(resurrection.storm(seed)) for seed in range(5)) > 0


def test_storms_would_show_a_drop_without_an_agreement(monkeypatch: pytest.MonkeyPatch) -> None:
    def drop_at_once(self: Collection, keys: list[bytes]) -> Any:
        layout = self._state.layout
        assert layout is not None
        for ballot in self._ballots(keys, [member.id for member in layout.members]):
            yield from self._drop(ballot)

    monkeypatch.setattr(Collection, "_collect_keys", drop_at_once)
    assert any(resurrection.came_back(resurrection.storm(seed)) for seed in range(60))
