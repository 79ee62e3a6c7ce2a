"""A cluster in which every node has answered relays of every other one."""

from __future__ import annotations

from tests.sim.world import World


def warm_world(seed: int, run_ms: int) -> tuple[World, bytes]:
    """Three nodes, `run_ms` after they have answered relays of each other, and a key that n2 coordinates."""
    world = World(seed, 3)
    world.start()
    for host in world.hosts:
        for other in world.hosts:
            assert world.ask(host, "SET", world.key_of(other), "warm").reply == b"OK"
    world.run(run_ms)
    return world, world.key_of(world.hosts[1])
