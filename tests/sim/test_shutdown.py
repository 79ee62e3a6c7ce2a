"""A node that stops or leaves ends what it has begun: whoever asks through others gets the answer of the first attempt."""

from __future__ import annotations

import pytest

from server.core.membership.change_coordinator import POLL_MS
from server.core.membership.shutdown import REOPEN_MS
from server.core.ring.layout import SETTLED
from tests.sim.changes import commit_at, leave
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.seeds import seeds
from tests.sim.world import World


def _shut_down(world: World, host: Host, within_ms: int) -> bool:
    """`host` is asked to stop, and its process ends as soon as it may; whether that was soon enough."""
    host.deliver("operator", host.running.services.shutdown.begin)
    for _ in range(within_ms):
        world.run(1)
        if host.running.services.shutdown.over:
            host.stop()
            return True
    return False


@pytest.mark.parametrize("seed", seeds(12, 40))
def test_nobody_notices_a_coordinator_that_shuts_down(seed: int) -> None:
    """DELs of keys that are there, relayed to a node that stops meanwhile: each answers 1, and is not asked for twice."""
    world = World(seed, 3)
    world.start()
    n1, n2, n3 = world.hosts
    key = world.key_of(n2)
    assert world.ask(n1, "SET", key, "value").reply == b"OK"
    operations = [world.client(host).send([b"DEL", key])[0] for host in (n1, n3)]
    world.run(seed % 16)
    assert _shut_down(world, n2, 1000)
    assert n2.id in n1.running.state.draining, "nothing new is begun with it"
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
    assert _shut_down(world, n2, 1000)
    assert [operation.reply for operation in operations] == [b"OK", 1] * 4


def test_a_request_that_cannot_end_does_not_keep_a_node_for_ever() -> None:
    world = World(1, 3)
    world.start()
    n1 = world.hosts[0]
    n1.running.state.in_flight += 1
    assert _shut_down(world, n1, n1.running.state.config.request_timeout_ms + 100)


def _ask_through(world: World, host: Host, seconds: float) -> list[Operation]:
    """SETs and DELs of keys of their own through `host` at all times, until it has left or the time is over."""
    clients = [world.client(host) for _ in range(4)]
    operations: list[Operation] = []
    for round_number in range(int(seconds * 1000)):
        for number, client in enumerate(clients):
            if client.idle:
                key = b"%d-%d" % (round_number, number)
                operations += client.send([b"SET", key, b"value"], [b"DEL", key])
        world.run(1)
        if host.running.state.layout is None:
            break
    world.run(1000)
    return operations


@pytest.mark.parametrize("seed", seeds(4, 12))
def test_clients_of_a_node_that_leaves_get_answers_and_then_refusals(seed: int) -> None:
    """None of them hears that its command may have been done, or finds that it was."""
    world = World(seed, 4)
    world.start()
    n1, n2 = world.hosts[:2]
    commit_at(n1, leave(n2))
    operations = _ask_through(world, n2, 20)
    assert n2.running.state.layout is None
    done = [operation for operation in operations if not operation.error]
    refused = [operation for operation in operations if operation.error]
    assert done
    assert refused
    assert all(operation.reply == (b"OK" if operation.name == "SET" else 1) for operation in done)
    for operation in refused:
        assert operation.error.startswith("CLUSTERDOWN node n2 "), operation
    written = [operation.args[1] for operation in done if operation.name == "SET"]
    for operation in refused[:20]:
        key = operation.args[1]
        expected = b"value" if key in written else None
        assert world.ask(n1, "GET", key).reply == expected, "what was refused was not done"


def test_a_node_leaves_only_once_its_slowest_request_has_ended() -> None:
    world = World(1, 4)
    world.start()
    n1, n2, n3, n4 = world.hosts
    _, slow, _ = sorted((n1, n3, n4), key=lambda host: host.id)  # the first is the change coordinator
    commit_at(n1, leave(n2))
    assert world.run_until(20_000, lambda: world.learn_layout().epoch == 2 and world.layout.phase == SETTLED)
    slow.freeze()
    operation = world.client(n2).send([b"SET", world.key_of(slow), b"value"])[0]
    world.run(POLL_MS * 4)
    assert n2.running.state.layout is not None
    assert not operation.answered
    slow.thaw()
    assert world.run_until(20_000, lambda: n2.running.state.layout is None)
    assert operation.reply == b"OK"


def test_a_node_that_may_go_but_is_not_let_go_serves_again() -> None:
    world = World(1, 4)
    world.start()
    n1, n2, n3, n4 = world.hosts
    commit_at(n1, leave(n2))
    assert world.run_until(20_000, lambda: "is leaving its cluster" in world.ask(n2, "SET", "k", "v").error)
    for command in (("PING",), ("HELLO", 3), ("DYN.QUORUM", "R", 1), ("CLUSTER", "SLOTS")):
        assert not world.ask(n2, *command).error, "it tells what it is asked, and of where to go"
    for host in (n1, n3, n4):
        host.freeze()
    world.run(REOPEN_MS + 1000)
    assert n2.running.state.layout is not None
    assert not world.ask(n2, "DYN.SET", "k", "v", "W", "1").error, "the last node alive takes every write"
    for host in (n1, n3, n4):
        host.thaw()
    assert world.run_until(20_000, lambda: n2.running.state.layout is None)
    assert world.ask(n1, "GET", "k").reply == b"v", "it kept that until it was with the owners"


def test_commands_that_pause_between_their_slices_are_ended() -> None:
    """Nothing of them is in flight then, neither here nor elsewhere."""
    world = World(1, 3)
    world.start()
    n1, n2, _ = world.hosts
    members = [b"m%d" % number for number in range(20_000)]
    key = world.key_of(n2)
    assert world.ask(n2, "SADD", key, *members).reply == len(members)
    sort = [b"SORT", key, b"ALPHA", b"LIMIT", b"0", b"2"]
    operations = [world.client(host).send(sort)[0] for host in (n1, n2) * 4]
    world.run(16)
    assert n2.running.state.procedures >= 4, "the node is at work"
    assert _shut_down(world, n2, 3000)
    world.run(100)
    assert [operation.reply for operation in operations] == [[b"m0", b"m1"]] * len(operations)
    assert not n1.running.state.procedures


def test_a_client_that_waits_for_an_element_keeps_no_node_whenever_it_has_begun() -> None:
    world = World(1, 3)
    world.start()
    n1 = world.hosts[0]
    early = world.client(n1).send([b"BLPOP", b"nothing", b"0"])[0]
    world.run(50)
    n1.deliver("operator", n1.running.services.shutdown.begin)
    late = world.client(n1).send([b"SET", b"k", b"v"], [b"BLPOP", b"nothing", b"0"], [b"GET", b"k"])[1]
    assert _shut_down(world, n1, 200)
    assert not early.answered and not late.answered


def test_wait_is_no_command_to_wait_for() -> None:
    world = World(1, 3)
    world.start()
    n1, _, n3 = world.hosts
    n3.freeze()
    written, waits = world.client(n1).send([b"SET", b"k", b"v"], [b"WAIT", b"2", b"0"])
    world.run(1000)
    assert written.answered and not waits.answered
    assert not n1.running.state.procedures


@pytest.mark.parametrize("delay_ms", range(0, 30, 3))
def test_what_a_late_blocking_command_takes_comes_to_its_client_or_stays(delay_ms: int) -> None:
    world = World(delay_ms, 3)
    world.start()
    n1, n2, _ = world.hosts
    key = world.key_of(n2)
    assert world.ask(n1, "RPUSH", key, "one", "two").reply == 2
    late = world.client(n1).send([b"BLPOP", key, b"0"])[0]
    world.run(delay_ms)
    assert _shut_down(world, n1, 1000)
    world.run(10_000)
    left = world.ask(n2, "LRANGE", key, 0, -1).reply
    assert (late.reply, left) in (([key, b"one"], [b"two"]), (None, [b"one", b"two"]))
