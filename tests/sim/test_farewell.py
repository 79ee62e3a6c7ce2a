"""A node that is asked to stop ends what it has begun: whoever asks through others gets the answer of the first attempt."""

from __future__ import annotations

import pytest

from tests.sim.host import Host
from tests.sim.world import World


def _say_farewell(world: World, host: Host, within_ms: int) -> bool:
    """`host` is asked to stop, and its process ends as soon as it may; whether that was soon enough."""
    host.deliver("operator", host.running.farewell.begin)
    for _ in range(within_ms):
        world.run(1)
        if host.running.farewell.over:
            host.stop()
            return True
    return False


@pytest.mark.parametrize("seed", range(40))
def test_nobody_notices_a_coordinator_that_says_farewell(seed: int) -> None:
    """DELs of keys that are there, relayed to a node that stops meanwhile: each answers 1, and is not asked for twice."""
    world = World(seed, 3)
    world.start()
    n1, n2, n3 = world.hosts
    key = world.key_of(n2)
    assert world.ask(n1, "SET", key, "value").reply == b"OK"
    operations = [world.client(host).send([b"DEL", key])[0] for host in (n1, n3)]
    world.run(seed % 16)
    assert _say_farewell(world, n2, 1000)
    assert n2.id in n1.running.state.going, "nothing new is begun with it"
    world.run(1000)
    assert sorted(operation.reply for operation in operations) == [0, 1]  # type: ignore[type-var]
    assert n1.running.state.statistics.relays_retried == n3.running.state.statistics.relays_retried == 0
    n2.start()
    assert world.run_until(5000, lambda: n1.running.state.is_usable(n2.id)), "a new life of it is welcome"


def test_commands_that_wait_for_each_other_are_all_answered() -> None:
    world = World(1, 3)
    world.start()
    n2 = world.hosts[1]
    key = world.key_of(n2)
    operations = world.client(n2).send(*[[b"SET", key, b"value"], [b"DEL", key]] * 4)
    world.run(1)
    assert _say_farewell(world, n2, 1000)
    assert [operation.reply for operation in operations] == [b"OK", 1] * 4


def test_a_request_that_cannot_end_does_not_keep_a_node_for_ever() -> None:
    world = World(1, 3)
    world.start()
    n1 = world.hosts[0]
    n1.running.state.in_flight += 1
    assert _say_farewell(world, n1, n1.running.state.config.request_timeout_ms + 100)
