"""Requests in virtual time: what clients see when coordinators, replicas and links fail at the worst moment."""

from __future__ import annotations

import pytest

from server.core.base.config import Config
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.probes import values_on
from tests.sim.seeds import seeds
from tests.sim.world import World

TIMEOUT_MS = Config().request_timeout_ms
GRACE_MS = 300  # ticks and journeys


@pytest.fixture
def world() -> World:
    """Three nodes that see each other, and have heard each other's clocks."""
    world = World(1, 3)
    world.start()
    world.run(100)
    return world


def _killed_meanwhile(delay_ms: int, *command: bytes | str) -> tuple[World, Operation]:
    """`command key …` through n1 while the key's coordinator, n2, is killed after so many milliseconds."""
    world = World(1, 3)
    world.start()
    n1, n2, _ = world.hosts
    key = world.key_of(n2)
    client = world.client(n1)
    operation = client.send([_bytes(command[0]), key, *(_bytes(word) for word in command[1:])])[0]
    world.run(delay_ms)
    n2.kill()
    world.run(TIMEOUT_MS + 1000)
    return world, operation


def _bytes(word: bytes | str) -> bytes:
    return word if isinstance(word, bytes) else word.encode()


@pytest.mark.parametrize("delay_ms", range(0, 16, 2))
def test_a_killed_coordinator_costs_no_error(delay_ms: int) -> None:
    world, operation = _killed_meanwhile(delay_ms, "SET", "value")
    assert operation.reply == b"OK"
    assert operation.answered_ms - operation.invoked_ms < 200
    n1, _, n3 = world.hosts
    for host in (n1, n3):
        # The first attempt may reach an owner later than the second: then both stand side by side.
        assert {*values_on(world, host, operation.args[1])} == {b"value"}
        assert world.ask(host, "GET", operation.args[1]).reply == b"value"
    assert world.history.stray_replies == []


def test_relays_are_sent_again_when_their_coordinator_is_killed() -> None:
    retried = 0
    for delay_ms in range(0, 16, 2):
        world, _ = _killed_meanwhile(delay_ms, "SET", "value")
        retried += world.hosts[0].running.state.statistics.relays_retried
    assert retried >= 2


def test_a_command_that_must_not_run_twice_has_an_unknown_outcome() -> None:
    replies = []
    for delay_ms in range(0, 40, 3):
        world, operation = _killed_meanwhile(delay_ms, "SET", "value", "NX")
        assert world.history.stray_replies == []
        replies.append(operation.reply if operation.reply == b"OK" else operation.error)
    unknown = [reply for reply in replies if reply != b"OK"]
    assert b"OK" in replies
    assert unknown
    for reply in unknown:
        assert str(reply).startswith("TIMEOUT ")
        assert "outcome=maybe-written" in str(reply)


def test_a_second_attempt_does_not_deny_the_first(world: World) -> None:
    """n2 writes it and is lost before a word of that gets out; then n1 alone cannot, but must not say that nothing was."""
    n1, n2, n3 = world.hosts
    key = world.key_of(n2)
    n3.kill()
    world.run(1000)
    world.network.cut(n2.id, n1.id)
    operation = world.client(n1).send([b"SET", key, b"value"])[0]
    world.events.run(1000, lambda: values_on(world, n2, key) == [b"value"])
    n2.kill()
    world.run(1000)
    assert operation.error.startswith("NOQUORUM ")
    assert "outcome=maybe-written" in operation.error
    assert "nothing was written" not in operation.error


@pytest.mark.parametrize("seed", seeds(4, 8))
def test_a_relay_that_was_not_sent_yet_goes_elsewhere(seed: int) -> None:
    """The command and the news of the broken link come in one turn, in this order or in that."""
    world = World(seed, 3)
    world.start()
    n1, n2, _ = world.hosts
    n1.freeze()
    operation = world.client(n1).send([b"SET", world.key_of(n2), b"value"])[0]
    n2.kill()
    world.run(100)
    n1.thaw()
    world.run(200)
    assert operation.reply == b"OK"


def test_a_thawed_coordinator_refuses_stale_relays(world: World) -> None:
    n1, n2, n3 = world.hosts
    key = world.key_of(n2)
    n2.freeze()
    first = world.ask(n1, "SET", key, "old")
    assert first.reply == b"OK"
    assert Config().relay_silence_ms <= first.answered_ms - first.invoked_ms < TIMEOUT_MS
    assert world.ask(n1, "SET", key, "new").reply == b"OK"
    n2.thaw()
    world.run(3000)
    assert n2.running.state.statistics.relays_stale == 1
    for host in world.hosts:
        assert world.ask(host, "GET", key).reply == b"new"
        assert world.ask(host, "DYN.GET", key, "R", 3).reply[1] == [b"new"]
    assert b"old" not in values_on(world, n2, key)
    assert values_on(world, n3, key) == [b"new"]


def test_a_coordinator_that_froze_just_after_a_word_is_given_up_all_the_same(world: World) -> None:
    n1, n2, _ = world.hosts
    key = world.key_of(n2)
    operation = world.client(n1).send([b"SET", key, b"value"])[0]
    n2.freeze()
    world.run(200)
    n1.running.receive(n2.id, [b"NOISE", b"0", b"0"], n1.now_ms())
    world.run(TIMEOUT_MS)
    assert operation.reply == b"OK"


def test_a_conditional_set_that_a_stale_relay_did_not_run_is_run_elsewhere(world: World) -> None:
    n1, n2, _ = world.hosts
    key = world.key_of(n2)
    client = world.client(n1)
    n2.freeze()
    operation = client.send([b"SET", key, b"value", b"NX"])[0]
    world.run(1300)
    n2.thaw()
    world.run(1000)
    assert operation.reply == b"OK"
    assert n2.running.state.statistics.relays_stale == 1
    assert values_on(world, n1, key) == [b"value"]


def test_a_clock_that_runs_faster_does_not_make_relays_stale() -> None:
    """A little for hours would add up to more than a relay may be late; here a limit of 30 ms is passed soon."""
    world = World(1, 2, Config(relay_stale_ms=30))
    world.start()
    n1, n2 = world.hosts
    key = world.key_of(n2)
    for _ in range(5):
        assert world.ask(n1, "SET", key, "value").reply == b"OK"
        world.run(20_000)
        n2.boot_ms += 15
    assert n2.running.state.statistics.relays_stale == 0


@pytest.mark.parametrize("role", [1, 2])
def test_a_frozen_replica_delays_nobody(world: World, role: int) -> None:
    n1 = world.hosts[0]
    key = world.key_of(n1)
    world.owners(key)[role].freeze()
    for command in (("SET", key, "value"), ("GET", key), ("SET", key, "other", "XX"), ("DEL", key)):
        operation = world.ask(n1, *command)
        assert not operation.error
        assert operation.answered_ms - operation.invoked_ms < 50


def _alone(world: World) -> Host:
    """n1, the others dead, and known to be."""
    n1, n2, n3 = world.hosts
    n2.kill()
    n3.kill()
    world.run(1000)
    return n1


def test_without_a_quorum_a_write_is_refused_at_once_and_written_nowhere(world: World) -> None:
    keys = [world.key_of(host) for host in world.hosts]
    n1 = _alone(world)
    for key in keys:
        for command in (("SET", key, "v"), ("DYN.SET", key, "v"), ("SET", key, "v", "EX", 9)):
            refused = world.ask(n1, *command)
            assert refused.error.startswith("NOQUORUM ")
            assert "got=1 wanted=2 hinted=0 outcome=unwritten" in refused.error
            assert refused.answered_ms - refused.invoked_ms < 20
        assert all(world.stored(host, key) is None for host in world.hosts)


@pytest.mark.parametrize(
    "command",
    ["HSET key field value", "SET key value NX", "INCR key", "RENAME key other", "DBSIZE", "FLUSHDB"],
)
def test_a_read_without_quorum_names_the_command_that_the_client_sent(world: World, command: str) -> None:
    error = world.ask(_alone(world), *command.split()).error
    name = command.split()[0]
    assert error.startswith(f"NOQUORUM read for {name}: got=1 wanted=2 hinted=0 outcome=unread: 1 of 3 replicas ")
    assert error.endswith("; nothing was read")


def test_r_and_w_of_one_make_do_with_one_node(world: World) -> None:
    keys = [world.key_of(host) for host in world.hosts]
    assert all(world.ask(world.hosts[1], "SET", key, "before").reply == b"OK" for key in keys)
    world.run(100)
    n1 = _alone(world)
    for key in keys:
        assert world.ask(n1, "GET", key).error.startswith("NOQUORUM read: got=1 wanted=2 hinted=0 outcome=unread")
        assert world.ask(n1, "DYN.GET", key, "R", 1).reply[1] == [b"before"]
        assert world.ask(n1, "DYN.SET", key, "beside", "W", 1).reply[1:] == [1, 2]
    client = world.client(n1)
    sets, gets = [[b"SET", key, b"after"] for key in keys], [[b"GET", key] for key in keys]
    operations = client.send([b"DYN.QUORUM", b"R", b"1", b"W", b"1"], *sets, *gets)
    world.run(1000)
    assert [operation.reply for operation in operations] == [[3, 1, 1], *[b"OK"] * 3, *[b"after"] * 3]


def test_a_deadline_answers_once_and_what_comes_late_does_nothing(world: World) -> None:
    n1, n2, n3 = world.hosts
    key = world.key_of(n1)
    client = world.client(n1)
    n2.freeze()
    n3.freeze()
    write, read = client.send([b"SET", key, b"value"], [b"GET", b"other" + key])
    world.run(TIMEOUT_MS + GRACE_MS)
    assert write.error.startswith(f"TIMEOUT write within {TIMEOUT_MS} ms: got=1 wanted=2 hinted=2 ")
    assert "outcome=maybe-written" in write.error
    assert write.answered_ms - write.invoked_ms >= TIMEOUT_MS
    assert read.answered
    n2.thaw()
    n3.thaw()
    world.run(2000)
    assert world.history.stray_replies == []
    assert n1.running.state.in_flight == 0
    assert client.send([b"GET", key])[0] is world.history.operations[-1]
    world.run(100)
    assert world.history.operations[-1].reply == b"value"


def test_an_answer_to_a_former_life_is_none_to_this_one() -> None:
    """A write of the n1 that was reaches n2 late; its acknowledgement meets a write of the n1 that is."""
    arrived = 0
    for seed in range(4):
        world = World(seed, 3)
        world.start()
        n1, n2, n3 = world.hosts
        key = world.key_of(n1)
        n3.kill()
        path = world.network.path(n1.id, n2.id)
        path.delay_ms_min = path.delay_ms_max = 1000
        world.client(n1).send([b"SET", key, b"old"])
        world.run(20)
        n1.kill()
        n1.start()
        path.delay_ms_min = path.delay_ms_max = 1
        world.run(700)
        path.delay_ms_min = path.delay_ms_max = 10_000
        operation = world.client(n1).send([b"SET", key, b"new"])[0]
        world.run(1000)
        arrived += values_on(world, n2, key) == [b"old"]
        assert not operation.answered
        world.run(TIMEOUT_MS)
        assert operation.error.startswith("TIMEOUT write")
    assert arrived


def test_the_second_step_of_a_relayed_command_does_not_come_late(world: World) -> None:
    """A coordinator sleeps between the read and the write of a DEL, which runs elsewhere; what follows must stand."""
    n1, n2, _ = world.hosts
    key = world.key_of(n1)
    assert world.ask(n2, "SET", key, "old").reply == b"OK"
    client = world.client(n2)
    (delete,) = client.send([b"DEL", key])
    assert world.events.run(100, lambda: n1.running.state.in_flight == 1), "n1 reads, and has not written"
    n1.freeze()
    world.run(2500)
    assert delete.reply == 1
    assert world.ask(n2, "SET", key, "new").reply == b"OK"
    n1.thaw()
    world.run(3000)
    assert world.ask(n2, "GET", key).reply == b"new"
