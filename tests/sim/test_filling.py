"""A node that has lost its disk: it is not healthy until it has everything back, and meanwhile costs nobody an answer."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from server.core.base.config import Config
from tests.sim.filled import fill, value_of
from tests.sim.host import Host
from tests.sim.world import World

KEYS = [b"k%d" % number for number in range(300)]
SLOWLY = Config(background_keys_per_s=100, background_keys_per_s_idle=100)
FILLED_MS = 30_000


def _world(config: Config | None = None, nodes: int = 3) -> World:
    return fill(World(5, nodes, config), KEYS, settle_ms=2000)


def _lose_disk(world: World, host: Host) -> None:
    host.kill()
    world.run(100)
    world.wipe(host)
    host.start()
    assert world.run_until(5000, world.at_peace)


def _status(world: World, host: Host) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)
    return document


def _is_healthy(world: World, host: Host) -> bool:
    return bool(_status(world, host)["verdict"] == "healthy")


@pytest.mark.parametrize("asked", [0, 1])
def test_a_wiped_node_is_degraded_until_it_has_everything_back(asked: int) -> None:
    world = _world(SLOWLY)
    n1, n2, n3 = world.hosts
    _lose_disk(world, n1)
    document = _status(world, world.hosts[asked])
    assert document["verdict"] == "degraded"
    assert "n1 is being filled, " in document["summary"]
    world.run(1500)
    percents = []
    estimates = 0
    while not _is_healthy(world, world.hosts[asked]):
        node = _status(world, world.hosts[asked])["nodes"][0]
        percents.append(node["filling"]["percent"] if "filling" in node else 100)
        if node.get("filling", {}).get("eta_s"):
            estimates += 1
            assert f" %, about {node['filling']['eta_s']} s" in _status(world, world.hosts[asked])["summary"]
        world.run(500)
        assert world.events.now_ms < 60_000
    assert percents == sorted(percents)
    assert estimates
    assert 0 < percents[1] < percents[-1]
    records = [world.stored(n1, key) for key in KEYS]
    assert records == [world.stored(n2, key) for key in KEYS] == [world.stored(n3, key) for key in KEYS]
    assert None not in records
    [task] = [row for row in json.loads(world.ask(n2, "DYN.TASK", "LIST").reply)["tasks"] if row["task"][:5] == "fill-"]
    assert (task["state"], task["node"], task["keys_compared"]) == ("done", "n1", len(KEYS))
    assert 0 < task["keys_repaired"] <= len(KEYS), "its peers push, too"


def test_it_is_no_less_degraded_after_a_restart_in_the_middle() -> None:
    world = _world(SLOWLY)
    n1, n2, _ = world.hosts
    _lose_disk(world, n1)
    world.run(1500)
    assert "n1 is being filled, " in _status(world, n2)["summary"]
    n1.kill()
    n1.start()
    assert world.run_until(5000, world.at_peace)
    assert "n1 is being filled, " in _status(world, n2)["summary"]
    assert world.run_until(FILLED_MS, lambda: _is_healthy(world, n2))
    assert world.differences() == []


def test_it_is_not_whole_while_an_owner_that_it_needs_is_down() -> None:
    """With W = 2 of 3 the only other copy of a write may be there."""
    world = _world()
    n1, n2, n3 = world.hosts
    n3.kill()
    world.run(10_000)
    _lose_disk_but(world, n1)
    world.run(15_000)
    assert n1.running.state.is_filling
    assert "n1 is being filled" in _status(world, n2)["summary"]
    n3.start()
    assert world.run_until(FILLED_MS, lambda: _is_healthy(world, n2))
    assert not n1.running.state.is_filling


def _lose_disk_but(world: World, host: Host) -> None:
    host.kill()
    world.wipe(host)
    host.start()
    world.run(1000)


def test_what_it_does_not_hold_is_no_vote() -> None:
    """Both others must answer: one of them may have missed the write, too, and has not been brought it yet."""
    world = _world(SLOWLY)
    n1, n2, n3 = world.hosts
    n3.kill()
    world.run(1000)
    keys = [b"new%d" % number for number in range(30)]
    written = world.client(n2).send(*[[b"SET", key, b"value"] for key in keys])
    assert world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in written))
    n3.start()
    for host in (n1, n2):
        host.running.state.hints.drop_all()
    _lose_disk_but(world, n1)
    assert n1.running.state.lacks_records
    for host in (n1, n3):
        reads = world.client(host).send(*[[b"GET", key] for key in keys])
        world.run(500)
        assert [operation.reply for operation in reads] == [b"value"] * len(keys)


def test_scan_and_dbsize_miss_no_key_that_a_node_that_is_being_filled_lacks() -> None:
    """Two owners lack the same keys: one is being filled, and the other has missed their writes."""
    world = _world(Config(background_keys_per_s=1, background_keys_per_s_idle=1))
    n1, n2, n3 = world.hosts
    n3.kill()
    world.run(1000)
    keys = [b"new%d" % number for number in range(30)]
    written = world.client(n2).send(*[[b"SET", key, b"value"] for key in keys])
    assert world.run_until(5000, lambda: all(operation.reply == b"OK" for operation in written))
    n3.start()
    for host in (n1, n2):
        host.running.state.hints.drop_all()
    _lose_disk_but(world, n1)
    assert n1.running.state.lacks_records
    for host in world.hosts:
        assert world.ask(host, "DBSIZE").reply == len(KEYS) + len(keys)
        assert set(world.ask(host, "KEYS", "*").reply) == {*KEYS, *keys}
    n2.kill()
    world.run(3000)
    for host in (n1, n3):
        for command in (("DBSIZE",), ("KEYS", "*"), ("SCAN", "0")):
            assert world.ask(host, *command).error.startswith("NOQUORUM")


def test_a_new_cluster_is_healthy_at_once() -> None:
    world = World(5, 3, laid_out=False)
    for host in world.hosts:
        host.start()
    world.run(500)
    assert not world.ask(world.hosts[0], "DYN.CLUSTER", "INIT", json.dumps(world.wish)).error
    assert world.run_until(2000, world.at_peace)
    assert world.run_until(1000, lambda: _is_healthy(world, world.hosts[1]))
    assert all(not host.running.state.is_filling for host in world.hosts)


def test_disks_replaced_one_after_the_other_lose_nothing() -> None:
    """Each step is gated on the verdict alone. Clients write and read all the time, through every node that runs."""
    world = _world(Config(background_keys_per_s=30, background_keys_per_s_idle=30))
    newest = {key: value_of(key) for key in KEYS}
    failures: list[str] = []

    def load(number: int) -> None:
        key, value = KEYS[number % len(KEYS)], b"v%d" % number
        running = [host for host in world.hosts if host.node is not None]
        operation = world.ask(running[number % len(running)], "SET", key, value)
        failures.extend([operation.error] if operation.error else [])
        newest[key] = value
        seen = world.ask(running[(number + 1) % len(running)], "GET", KEYS[number * 7 % len(KEYS)])
        if seen.error or seen.reply != newest[seen.args[1]]:
            failures.append(f"{seen.args} was answered with {seen.reply or seen.error}")

    number = 0
    for host in world.hosts:
        while not _is_healthy(world, world.hosts[0]):
            number += 1
            load(number)
            assert number < 20_000
        host.stop()
        world.wipe(host)
        host.start()
        world.run(1000)
    assert world.run_until(FILLED_MS, lambda: _is_healthy(world, world.hosts[0]))
    assert failures == []
    for host in world.hosts:
        reads = world.client(host).send(*[[b"GET", key] for key in KEYS])
        world.run(1000)
        assert [operation.reply for operation in reads] == [newest[key] for key in KEYS]
    assert number > 100


def _serve(world: World, host: Host, duration_ms: int) -> None:
    """A client writes every few milliseconds, whatever becomes of its writes before."""
    client = world.client(host)
    for number in range(duration_ms // 5):
        client.send([b"SET", KEYS[number % len(KEYS)], b"%d" % number])
        world.run(5)
    client.hang_up()


@pytest.mark.parametrize(("link_ms", "is_delayed"), [(4, False), (30, True)])
def test_it_is_filled_fast_while_clients_are_served_unless_they_are_delayed(link_ms: int, is_delayed: bool) -> None:
    """At the pace of the floor 300 keys take three seconds. Links become slow when the node comes back."""
    world = _world(Config(background_keys_per_s=100, background_keys_per_s_idle=4000))
    n1, n2, _ = world.hosts
    _serve(world, n2, 3000)
    _lose_disk(world, n1)
    for one, other in itertools.permutations(world.hosts, 2):
        path = world.network.path(one.id, other.id)
        path.delay_ms_min = path.delay_ms_max = link_ms
    paces = []
    while n1.node.state.is_filling:
        _serve(world, n2, 500)
        paces.append(n1.node.services.background.keys_per_s)
        assert world.events.now_ms < 60_000
    assert (sorted(paces)[len(paces) // 2] == 100) is is_delayed, paces
