"""A node that is asked to stop ends what it has begun: whoever asks through others gets the answer of the first attempt."""

from __future__ import annotations

import pytest

from tests.sim.world import World


@pytest.mark.parametrize("delay_ms", range(0, 16, 2))
def test_nobody_notices_a_coordinator_that_says_farewell(delay_ms: int) -> None:
    """DELs of keys that are there, relayed to a node that stops meanwhile: each answers 1, and is not asked for twice."""
    world = World(1, 3)
    world.start()
    n1, n2, n3 = world.hosts
    key = world.key_of(n2)
    assert world.ask(n1, "SET", key, "value").reply == b"OK"
    operations = [world.client(host).send([b"DEL", key])[0] for host in (n1, n3)]
    world.run(delay_ms)
    n2.deliver("operator", n2.running.farewell.begin)
    assert world.run_until(1000, lambda: n2.running.farewell.over)
    assert not n1.running.state.is_usable(n2.id), "nothing new is begun with it"
    n2.kill()
    world.run(1000)
    assert sorted(operation.reply for operation in operations) == [0, 1]  # type: ignore[type-var]
    assert n1.running.state.statistics.relays_retried == n3.running.state.statistics.relays_retried == 0
    n2.start()
    assert world.run_until(5000, lambda: n1.running.state.is_usable(n2.id)), "a new life of it is welcome"


def test_a_request_that_cannot_end_does_not_keep_a_node_for_ever() -> None:
    world = World(1, 3)
    world.start()
    n1, n2, n3 = world.hosts
    n2.kill()
    n3.kill()
    world.client(n1).send([b"SET", world.key_of(n1), b"value"])
    n1.deliver("operator", n1.running.farewell.begin)
    limit_ms = n1.running.state.config.request_timeout_ms + 500
    assert world.run_until(limit_ms, lambda: n1.running.farewell.over)
