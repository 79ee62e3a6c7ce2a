"""Owners become equal by comparing their trees: whatever one of them missed, at a price that grows with the difference."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest

from server.core.base.config import Config
from server.core.base.statistics import Statistics
from server.core.records.records import META, RECORDS_END, storage_key_of
from server.core.records.trees import Trees
from server.core.records.versions import Sibling, encode, merge, supersede
from server.core.repair.exchange_answers import PAGE_BYTES, RECORDS
from server.core.work.questions import Questions
from tests.sim.host import Host
from tests.sim.probes import content_bytes
from tests.sim.world import World

ACTORS = (b"actor--a", b"actor--b")
VALUE = b"v" * 50
SOON_MS = 5000  # a comparison begins within two seconds of a connection


def record(number: int, actor: bytes = ACTORS[0], seen: bytes | None = None) -> bytes:
    """A record like no other, for `number` is its dot."""
    return supersede(seen, actor, number + 1, VALUE)


def put(host: Host, records: dict[bytes, bytes]) -> None:
    """Writes records straight on the disk of a host that does not run."""
    assert host.node is None
    host.disk.commit({storage_key_of(key): value for key, value in records.items()})
    host.disk.sync(host.disk.unsynced())


def everything(count: int, prefix: bytes = b"k") -> dict[bytes, bytes]:
    """So many records, each of another key."""
    return {b"%b%d" % (prefix, number): record(number) for number in range(count)}


def records_on(host: Host) -> dict[bytes, bytes]:
    """What is on a disk, but for the node's own documents and hints."""
    return {key: value for key, value in host.disk.data.items() if key < RECORDS_END}


def counted(world: World, name: str) -> int:
    """A statistic, added up over the nodes that run."""
    running = [host.node.state.statistics for host in world.hosts if host.node is not None]
    assert name in Statistics.__dataclass_fields__
    return sum(getattr(statistics, name) for statistics in running)


def equal(world: World) -> bool:
    """Whether all disks hold the same records; for clusters in which every node owns everything."""
    return all(records_on(host) == records_on(world.hosts[0]) for host in world.hosts)


def filled(nodes: int, count: int, config: Config | None = None, leaf_bits: int = 14) -> World:
    """A cluster of which every node holds so many records, not yet started."""
    world = World(1, nodes, config)
    for host in world.hosts:
        host.config = replace(host.config, tree_leaf_bits=leaf_bits)
        put(host, everything(count))
    return world


@pytest.mark.parametrize("nodes", [2, 3])
def test_what_lies_on_one_disk_comes_to_all(nodes: int) -> None:
    world = filled(nodes, 300)
    for number, host in enumerate(world.hosts):
        put(host, everything(20, b"only%d." % number))
    world.start()
    assert world.run_until(SOON_MS, lambda: equal(world))
    assert len(records_on(world.hosts[0])) == 300 + 20 * nodes
    assert counted(world, "keys_repaired") == 20 * nodes * (nodes - 1)


def test_concurrent_records_become_their_join() -> None:
    world = filled(3, 100)
    n1, n2, n3 = world.hosts
    old = record(7)
    put(n1, {b"k7": record(500, ACTORS[0], old)})
    put(n2, {b"k7": record(501, ACTORS[1], old)})
    put(n3, {b"k7": record(502, ACTORS[1], old)})
    world.start()
    assert world.run_until(SOON_MS, lambda: equal(world))
    expected = encode(
        {ACTORS[0]: 501, ACTORS[1]: 503},
        [Sibling(ACTORS[0], 501, 0, 0, VALUE), Sibling(ACTORS[1], 503, 0, 0, VALUE)],
    )
    assert world.stored(n1, b"k7") == expected


def test_a_wiped_node_is_filled_again() -> None:
    world = filled(3, 3000)
    world.start()
    world.run(100)
    n2 = world.hosts[1]
    n2.kill()
    world.wipe(n2)
    n2.disk.commit({META + b"layout": world.layout.encode()})
    world.run(5000)
    n2.start()
    assert world.run_until(SOON_MS, lambda: equal(world))
    assert n2.running.state.records.keys == 3000
    payload = sum(len(key) + len(value) for key, value in records_on(n2).items())
    assert counted(world, "repair_bytes_sent") < 2.5 * payload, "two peers fill it at once, and nothing goes twice more"


@pytest.mark.parametrize("delay_ms", range(0, 1000, 250))
def test_a_node_that_comes_back_empty_at_once_is_not_taken_for_the_one_that_went(delay_ms: int) -> None:
    """n1, who leads, looks once a second, and may never see n2 away."""
    world = filled(2, 300)
    world.start()
    world.run(SOON_MS + delay_ms)
    n2 = world.hosts[1]
    n2.kill()
    world.wipe(n2)
    n2.disk.commit({META + b"layout": world.layout.encode()})
    n2.start()
    assert world.run_until(SOON_MS, lambda: equal(world))
    assert n2.running.state.records.keys == 300


@pytest.mark.parametrize("holder", [0, 1])
def test_a_slot_of_many_pages_goes_either_way(holder: int) -> None:
    world = filled(2, 50)
    put(world.hosts[holder], everything(500, b"{tag}"))
    world.start()
    assert world.run_until(SOON_MS, lambda: equal(world))
    assert len(records_on(world.hosts[0])) == 550
    assert counted(world, "keys_repaired") == 500


def test_writes_that_an_owner_missed_reach_it_without_hints() -> None:
    """n3 is cut off while W=2 is met; then the others forget that they owe it anything."""
    world = World(1, 3, Config(repair_interval_ms=2000))
    world.start()
    world.run(3000)
    n1, n2, n3 = world.hosts
    for other in (n1, n2):
        world.network.cut(other.id, n3.id)
        world.network.cut(n3.id, other.id)
    for number in range(40):
        assert world.ask(n1, "SET", f"k{number}", "v").reply == b"OK"
    world.run(5000)
    assert len(records_on(n3)) < 40
    for host in (n1, n2):
        hints = host.running.state.hints
        for owner in hints.owners():
            for storage_key in hints.keys(owner):
                hints.confirm(owner, storage_key, host.now_ms())
    for other in (n1, n2):
        world.network.mend(other.id, n3.id)
        world.network.mend(n3.id, other.id)
    assert world.run_until(10_000, lambda: equal(world) and len(records_on(n3)) == 40)


def test_a_peer_that_missed_hints_is_held_for_whole_once_it_is_compared() -> None:
    """Who could keep no hint says that the peer is behind, until it has compared with it: also where the other leads."""
    world = filled(3, 100, Config(repair_interval_ms=2000))
    world.start()
    world.run(100)
    for host in world.hosts:
        for other in world.hosts:
            if other is not host:
                host.running.state.hints.dropped_hints[other.id] = 7
    assert world.run_until(3 * SOON_MS, lambda: not any(host.running.state.hints.dropped_hints for host in world.hosts))


def test_the_interval_alone_brings_equality() -> None:
    """A record that came to lie on one disk without anybody's notice, in the middle of the run."""
    world = filled(3, 50, Config(repair_interval_ms=4000))
    world.start()
    world.run(3000)
    n3 = world.hosts[2]
    n3.running.state.records.merge_all([storage_key_of(b"new"), record(1000)])
    assert world.run_until(6000, lambda: equal(world) and len(records_on(n3)) == 51)


def test_equal_nodes_exchange_next_to_nothing() -> None:
    world = filled(3, 2000)
    world.start()
    world.run(SOON_MS)
    assert counted(world, "trees_compared") == 3
    assert counted(world, "repair_bytes_sent") < 3 * 1000
    assert counted(world, "keys_repaired") == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_peer_that_dies_in_the_middle_is_repaired_when_it_is_back(seed: int) -> None:
    world = World(seed, 3)
    for host in world.hosts:
        put(host, everything(500))
    put(world.hosts[1], everything(3000, b"more"))
    world.start()
    victim = world.hosts[seed % 3]
    world.run_until(SOON_MS, lambda: counted(world, "keys_repaired") > 500)
    if seed < 3:
        victim.kill()
        world.run(3000)
        victim.start()
    else:
        victim.freeze()
        world.run(7000)
        victim.thaw()
    assert world.run_until(30_000, lambda: equal(world))


@pytest.mark.parametrize("full", [0, 1])
def test_a_full_disk_takes_nothing_and_is_filled_when_there_is_room(full: int) -> None:
    world = filled(2, 100)
    for number, host in enumerate(world.hosts):
        put(host, everything(100, b"only%d." % number))
    world.start()
    host = world.hosts[full]
    world.fill(host, True)
    world.run(10_000)
    assert len(records_on(host)) == 200
    assert counted(world, "trees_compared") == 0
    assert counted(world, "repair_bytes_sent") < 60_000
    world.fill(host, False)
    assert world.run_until(15_000, lambda: equal(world) and counted(world, "trees_compared") == 1)


def test_large_records_travel_in_pages_of_their_own() -> None:
    """Some are larger than a page, most are small; some only here, some only there, some newer on one side."""
    world = World(3, 2, n=2)
    n1, n2 = world.hosts
    for number in range(40):
        value = supersede(None, ACTORS[0], number + 1, b"v" * (300_000 if number % 4 == 0 else 50_000))
        newer = supersede(value, ACTORS[1], 1, b"w" * 100_000)
        for host in world.hosts[: 1 + number % 2]:
            put(host, {b"k%d" % number: value})
        if number % 3 == 0:
            put(n2, {b"k%d" % number: newer})
    largest: list[int] = []
    answer, ask = Questions.answered, Questions.asked

    def watching(self: Questions, peer: str, number: int, content: Any) -> None:
        largest.append(content_bytes(content))
        answer(self, peer, number, content)

    def watching_too(self: Questions, peer: str, number: int, kind: bytes, content: Any) -> None:
        largest.append(content_bytes(content))
        ask(self, peer, number, kind, content)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Questions, "answered", watching)
        patch.setattr(Questions, "asked", watching_too)
        world.start()
        assert world.run_until(SOON_MS, lambda: equal(world))
    assert len(records_on(n1)) == 40
    assert 300_000 < max(largest) < PAGE_BYTES + 310_000


def test_leaves_of_different_sizes_do_not_hinder_repair() -> None:
    world = filled(2, 500)
    world.hosts[1].config = replace(world.hosts[1].config, tree_leaf_bits=16)
    put(world.hosts[0], everything(5, b"here"))
    put(world.hosts[1], everything(5, b"there"))
    world.start()
    assert world.run_until(SOON_MS, lambda: equal(world))
    assert counted(world, "repair_bytes_sent") < 55 * 510, "lists of all keys, and little more"


def test_nodes_compare_no_more_than_both_own() -> None:
    world = World(2, 5)
    records = everything(400)
    for key, value in records.items():
        put(world.owners(key)[int(key[1:]) % 3], {key: value})
    world.start()

    def settled() -> bool:
        return all(world.stored(owner, key) == value for key, value in records.items() for owner in world.owners(key))

    assert world.run_until(SOON_MS, settled)
    assert sum(len(records_on(host)) for host in world.hosts) == 3 * 400


@pytest.mark.parametrize("seed", range(12))
def test_every_owner_gets_the_join_of_all(seed: int) -> None:
    """Any number of nodes and replicas; each key with any history, of which each owner knows another part."""
    rng = random.Random(seed)
    world = World(seed, rng.randint(2, 6), Config(repair_interval_ms=5000), n=rng.randint(2, 4))
    joins: dict[bytes, bytes] = {}
    for number in range(rng.choice((20, 300))):
        key = b"{%d}%d" % (number % rng.choice((3, 1000)), number)
        common = supersede(None, ACTORS[0], number + 1, VALUE) if rng.random() < 0.8 else None
        known = [owner for owner in world.owners(key) if rng.random() < 0.8] or world.owners(key)[:1]
        for place, owner in enumerate(known):
            mine = common
            if common is None or rng.random() < 0.2:
                mine = supersede(common, b"actor--%d" % place, number + 1, VALUE * rng.choice((0, 1, 2000)))
            assert mine is not None
            put(owner, {key: mine})
            joins[key] = merge(joins.get(key), mine) or b""
    world.start()

    def joined() -> bool:
        return all(world.stored(owner, key) == join for key, join in joins.items() for owner in world.owners(key))

    assert world.run_until(SOON_MS, joined)
    spent = counted(world, "keys_repaired")
    for host in world.hosts:
        naive = Trees(14)
        for key, value in records_on(host).items():
            naive.change(key, None, value)
        assert bytes(memoryview(host.running.state.records.trees.leaves)) == bytes(memoryview(naive.leaves))
        assert list(host.running.state.records.trees.counts) == list(naive.counts)
    world.run(8000)
    assert counted(world, "keys_repaired") == spent, "what is equal stays untouched"


def test_a_fence_makes_a_page_begin_again() -> None:
    """What was read before a fence is not stored after it: the first pages are refused, and the repair goes on."""
    world = filled(2, 100)
    put(world.hosts[1], everything(200, b"more"))
    world.start()
    assert world.run_until(SOON_MS, lambda: counted(world, "keys_repaired") > 0)
    for host in world.hosts:
        host.running.state.fence = host.running.state.clock.last + (1 << 16)
    assert world.run_until(60_000, lambda: equal(world))


@pytest.mark.parametrize("count", [0, 100])
@pytest.mark.parametrize("fenced", [True, False])
def test_a_leader_that_thaws_stores_nothing_from_before_a_fence(fenced: bool, count: int) -> None:
    """A page is on its way to n1, who leads, when it freezes."""
    world = filled(2, count)
    n1, n2 = world.hosts
    put(n2, everything(500, b"more"))
    pages: list[bytes] = []
    asked = Questions.asked

    def watching(self: Questions, peer: str, number: int, kind: bytes, args: list[bytes]) -> None:
        if kind == b"FETCH" or (kind == b"LIST" and args[1] == RECORDS):
            pages.append(kind)
        asked(self, peer, number, kind, args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Questions, "asked", watching)
        world.start()
        assert world.events.run(SOON_MS, lambda: len(pages) == 2)
    n1.freeze()
    world.run(1000)
    state = n1.running.state
    known = state.records.keys
    if fenced:
        state.fence = state.clock.last
    n1.thaw()
    assert (state.records.keys == known) == fenced
    assert world.run_until(60_000, lambda: equal(world))


# --- over stops


def _scanned(host: Host) -> list[int]:
    """Counts what scans of the host's disk read, from now on."""
    read: list[int] = []
    scan = host.disk.scan

    def counting(start: bytes, end: bytes | None, limit: int, bytes_max: int) -> list[tuple[bytes, bytes]]:
        found = scan(start, end, limit, bytes_max)
        read.append(sum(key < RECORDS_END for key, _ in found))
        return found

    host.disk.scan = counting  # type: ignore[method-assign]
    return read


@pytest.mark.parametrize(("clean", "expected"), [(True, 0), (False, 500)])
def test_a_clean_stop_spares_the_scan_and_an_unclean_one_does_not(clean: bool, expected: int) -> None:
    world = filled(3, 500)
    world.start()
    n1 = world.hosts[0]
    leaves = bytes(memoryview(n1.running.state.records.trees.leaves))
    n1.stop() if clean else n1.kill()
    read = _scanned(n1)
    n1.start()
    assert sum(read) == expected
    assert bytes(memoryview(n1.running.state.records.trees.leaves)) == leaves
    assert n1.running.state.records.keys == 500
    world.start()
    assert world.ask(n1, "SET", "k", "v").reply == b"OK"
    world.run(100)
    assert META + b"trees" not in n1.disk.data
    n1.kill()
    del read[:]
    n1.start()
    assert sum(read) == 501
