"""Nodes come back at other addresses, many at once, in the middle of faults: they find each other, and nothing is lost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from tests.sim.finding import look_out
from tests.sim.host import Host
from tests.sim.operators import CHANGES, Operator
from tests.sim.seeds import seeds
from tests.sim.world import World

FOUND_MS = 20_000


def scatter(world: World, hosts: Sequence[Host], fresh: int) -> None:
    """These stop, or die, and start at once: the addresses that they had and `fresh` new ones change hands at random."""
    addresses = [host.member.address for host in hosts]
    addresses += [f"10.0.0.{place}:{1024 + world.events.now_ms % 60_000}" for place in range(fresh)]  # all of them new
    world.rng.shuffle(addresses)
    for host in hosts:
        host.stop() if world.rng.random() < 0.5 else host.kill()
    for host, address in zip(hosts, addresses, strict=False):
        host.member = replace(host.member, address=address)
        world.events.after(world.rng.randint(0, 3000), lambda host=host: None if host.node else host.start())


def listed(world: World, host: Host) -> dict[str, str]:
    layout = host.running.state.layout
    assert layout is not None
    return {member.id: member.address for member in layout.members}


def assert_found(world: World, keys: Sequence[bytes]) -> None:
    """All see each other, where they are, and what was acknowledged is there."""
    assert world.run_until(FOUND_MS, world.at_peace), "the nodes do not find each other"
    places = {host.id: host.member.address for host in world.hosts}
    assert world.run_until(FOUND_MS, lambda: all(listed(world, host) == places for host in world.hosts))
    for key in keys:
        assert world.ask(world.hosts[0], b"GET", key).reply == b"value"


@pytest.mark.parametrize("fresh", [0, 2, 9])
@pytest.mark.parametrize("seed", seeds(2, 6))
def test_all_nodes_move_at_once(seed: int, fresh: int) -> None:
    """Old addresses go to other nodes (0: all of them do), or to nobody; one node knows where one other will be."""
    world = World(seed, 5)
    world.start()
    keys = [b"key%d" % number for number in range(20)]
    for key in keys:
        assert world.ask(world.hosts[0], b"SET", key, b"value").reply == b"OK"
    for _ in range(2):
        scatter(world, world.hosts, fresh)
        n1, n2, *rest = world.hosts
        seeds = {n1.id: [n2.member.address], **{host.id: [n1.member.address] for host in rest}}
        look_out(world, lambda host, seeds=seeds: seeds.get(host.id, []))  # type: ignore[misc]
        world.run(4000)
        assert_found(world, keys)


@pytest.mark.parametrize("seed", seeds(3, 8))
def test_nodes_move_while_others_cannot_be_reached(seed: int) -> None:
    """Some move while the network is cut somewhere, or one of them is away with an old layout, again and again."""
    world = World(seed, 4)
    world.start()
    assert world.ask(world.hosts[0], b"SET", b"key", b"value").reply == b"OK"
    world.run(3000)
    look_out(world, lambda host: [])
    for _ in range(4):
        one, other = world.rng.sample(world.hosts, 2)
        world.network.cut(one.id, other.id)
        scatter(world, world.rng.sample(world.hosts, world.rng.randint(1, 3)), world.rng.randint(0, 3))
        world.run(world.rng.randint(500, 8000))
        world.network.mend(one.id, other.id)
    world.heal()
    assert_found(world, [b"key"])
    logs = [host.running.state.layout.log for host in world.hosts if host.running.state.layout is not None]
    assert len(dict.fromkeys(logs)) == 1


def test_the_operator_moves_no_two_nodes_to_one_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two processes can listen at one address; a node that moved there too would never be found (seed 7076)."""
    world = World(1, 3)
    world.start()
    operator = Operator(world, (), pace_ms=1000, end_ms=0, gentle=False)
    monkeypatch.setattr(world.rng, "randint", lambda low, high: low)  # each move draws the same port
    for _ in range(4):
        CHANGES["address"](operator)
        world.run(2000)
    moved = [host.member.address for host in world.hosts if host.member.address >= "127.0.0.1:7101"]
    assert len(moved) > 1 and len(dict.fromkeys(moved)) == len(moved)
    look_out(world, lambda host: [])
    assert_found(world, [])
