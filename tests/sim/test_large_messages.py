"""Messages in pieces, in virtual time: links that break in the middle, small messages that pass, the order of commands."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from tests.sim.host import Host
from tests.sim.probes import values_on
from tests.sim.seeds import seeds
from tests.sim.world import World

CONFIG = Config(large_message_bytes=400)  # in pieces of 100 bytes
LARGE = b"x" * 5000


def _world(seed: int) -> World:
    world = World(seed, 3, CONFIG)
    world.start()
    world.run(200)
    return world


def _keys_of(world: World, owner: Host) -> list[bytes]:
    """Two keys that the same node coordinates, of the same owners."""
    key = world.key_of(owner)
    others = (b"other%d" % number for number in range(10**6))
    return [key, next(other for other in others if world.owners(other) == world.owners(key))]


@pytest.mark.parametrize("seed", range(4))
def test_small_commands_pass_a_large_one(seed: int) -> None:
    """51 pieces take their time, and a small write through the same link does not wait for the last of them."""
    world = _world(seed)
    n1, n2, _ = world.hosts
    keys = _keys_of(world, n2)
    large = world.client(n1).send([b"SET", keys[0], LARGE])[0]
    world.run(5)
    small = world.client(n1).send([b"SET", keys[1], b"small"])[0]
    world.run(2000)
    assert large.reply == small.reply == b"OK"
    assert small.answered_ms < large.answered_ms - 20
    assert values_on(world, world.hosts[2], keys[0]) == [LARGE]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("pause_ms", [0, 3, 20])
def test_commands_of_a_key_keep_their_order_though_one_is_large(seed: int, pause_ms: int) -> None:
    world = _world(seed)
    n1, n2, _ = world.hosts
    key = world.key_of(n2)
    client = world.client(n1)
    sent = client.send([b"SET", key, b"first"], [b"SET", key, LARGE])
    world.run(pause_ms)
    sent += client.send([b"SET", key, b"last"], [b"GET", key])
    world.run(2000)
    assert [operation.reply for operation in sent] == [b"OK", b"OK", b"OK", b"last"]
    for host in world.hosts:
        assert values_on(world, host, key) == [b"last"]


@pytest.mark.parametrize("delay_ms", range(2, 60, 8))
def test_a_link_that_breaks_in_the_middle_of_a_message_costs_no_write(delay_ms: int) -> None:
    world = _world(delay_ms)
    n1, n2, n3 = world.hosts
    key = world.key_of(n2)
    operation = world.client(n1).send([b"SET", key, LARGE])[0]
    world.run(delay_ms)
    for pipe in world.network.pipes(sender=n1.id, receiver=n2.id) + world.network.pipes(sender=n2.id, receiver=n3.id):
        pipe.abort()
    world.run(8000)
    assert operation.reply == b"OK"
    for host in world.hosts:
        # Twice if the second attempt ran at another coordinator than the first, which had written before it was lost.
        assert set(values_on(world, host, key)) == {LARGE}, host.member.name
    assert not any(host.running.state.hints.owners() for host in world.hosts)


def test_a_peer_that_takes_large_messages_too_slowly_gets_hints_for_them() -> None:
    world = _world(1)
    n1, _, n3 = world.hosts
    key, other = _keys_of(world, n1)
    n1.running.state.backlogged[n3.id] = None
    assert world.ask(n1, "SET", key, LARGE).reply == b"OK"
    assert world.ask(n1, "SET", other, b"small").reply == b"OK"
    assert values_on(world, n3, other) == [b"small"]
    assert n1.running.state.hints.count(n3.id) == 1
    n1.running.state.backlogged.clear()
    world.run(4000)
    assert values_on(world, n3, key) == [LARGE]
    assert not n1.running.state.hints.count(n3.id)


def test_a_quorum_is_not_given_up_to_spare_slow_peers() -> None:
    world = _world(2)
    n1, n2, n3 = world.hosts
    key = world.key_of(n1)
    for host in (n2, n3):
        n1.running.state.backlogged[host.id] = None
    assert world.ask(n1, "SET", key, LARGE).reply == b"OK"
    world.run(1000)
    assert values_on(world, n2, key) == values_on(world, n3, key) == [LARGE]
    assert not n1.running.state.hints.owners()


@pytest.mark.parametrize("seed", seeds(8, 24))
@pytest.mark.parametrize("large", ["command", "reply"])
def test_a_node_that_stops_has_heard_and_said_all_that_is_large(seed: int, large: str) -> None:
    """What may not run twice is on its way to a coordinator that stops, or its reply on the way back: neither is lost,
    though the question whether the node may go is small, and would pass them."""
    world = _world(seed)
    n1, n2, _ = world.hosts
    key = world.key_of(n2)
    command = [b"SET", key, LARGE, b"NX"]
    if large == "reply":
        assert world.ask(n1, "SET", key, LARGE).reply == b"OK"
        world.run(500)
        command = [b"SET", key, b"small", b"GET"]
    operation = world.client(n1).send(command)[0]
    world.run(seed % 12)
    n2.deliver("operator", n2.running.services.shutdown.begin)
    assert world.run_until(2000, lambda: n2.running.services.shutdown.over)
    n2.stop()
    world.run(2000)
    assert operation.reply == (LARGE if large == "reply" else b"OK")
    assert n1.running.state.statistics.relays_retried == 0
