"""Wall clocks that are off: they change no TTL and make no dots, the node says so, and every status shows it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.core.base.clock import SEQUENCE_BITS
from server.core.base.state import State
from tests.sim import expiry
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.seeds import seeds
from tests.sim.wall_clock import EPOCH_MS
from tests.sim.world import World


def _world(skew_ms: int) -> World:
    """Three nodes, the wall clock of the last of which is off."""
    world = World(1, 3)
    world.hosts[2].skew_ms = skew_ms
    world.start()
    world.run(3000)
    return world


def _status(world: World, host: Host) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)
    return document


def test_a_wrong_clock_moves_nobodys_hybrid_clock_and_its_node_knows_until_it_is_set_right() -> None:
    world = _world(86_400_000)
    n1, _, n3 = world.hosts
    assert world.ask(n3, "SET", "key", "value").reply == b"OK"
    for host in world.hosts:
        state = host.running.state
        assert abs(state.time_ms - EPOCH_MS - world.events.now_ms) < 100
        assert (state.clock.last >> SEQUENCE_BITS) - EPOCH_MS - world.events.now_ms < 100
        assert (state.clock.refused, state.statistics.clock_complaints) == (0, 0)
    assert [round(host.running.services.clock_report.own_error_ms() / 1000) for host in world.hosts] == [0, 0, 86_400]
    assert _status(world, n1)["clock_bound_ms"] < 100
    n3.skew_ms = 0
    world.run(3000)
    assert n3.running.services.clock_report.own_error_ms() == 0
    assert _status(world, n1)["verdict"] == "healthy"


@pytest.mark.parametrize(
    ("skew_ms", "off"), [(720_000, "720 s ahead of"), (-720_000, "720 s behind"), (9000, "9 s ahead of")]
)
def test_each_status_names_the_node_whose_clock_is_off(skew_ms: int, off: str) -> None:
    world = _world(skew_ms)
    for host in world.hosts:
        status = _status(world, host)
        assert status["verdict"] == "degraded"
        assert f"the clock of n3 is {off} the others'" in status["summary"]
        assert status["summary"].count("the clock of") == 1


def test_a_clock_a_little_off_is_nobodys_concern() -> None:
    world = _world(4000)
    assert [_status(world, host)["verdict"] for host in world.hosts] == ["healthy"] * 3
    assert all(host.running.services.clock_report.own_error_ms() == 0 for host in world.hosts)


def test_when_all_clocks_are_set_back_ttls_run_on_and_the_status_says_so() -> None:
    world = World(1, 3)
    world.start()
    n1, n2, _ = world.hosts
    assert world.ask(n1, "SET", "before", "v", "PX", 10_000).reply == b"OK"
    for host in world.hosts:
        host.skew_ms = -40_000
    world.run(4000)
    assert world.ask(n2, "SET", "after", "v", "PX", 3000).reply == b"OK"
    world.run(2800)
    assert world.ask(n1, "GET", "after").reply == b"v"
    assert world.ask(n1, "GET", "before").reply == b"v"
    world.run(400)
    assert world.ask(n1, "GET", "after").reply is None
    status = _status(world, n1)
    assert status["verdict"] == "healthy"
    assert "40 s ahead of them and follows within 66 min" in status["summary"]
    assert 39_000 < status["clock_bound_ms"] < 41_000
    world.run(3000)
    assert world.ask(n2, "GET", "before").reply is None


@pytest.mark.parametrize("back_ms", [8000, pytest.param(40_000, marks=pytest.mark.soak)])
def test_cluster_time_comes_to_where_all_clocks_were_set(back_ms: int) -> None:
    """By a hundredth of the time that passes; then the status complains no more."""
    world = World(1, 3)
    world.start()
    n1 = world.hosts[0]
    for host in world.hosts:
        host.skew_ms = -back_ms
    world.run(10_000)
    assert "ahead of them and follows within" in _status(world, n1)["summary"]
    assert n1.running.state.time_ms - n1.wall_ms() > back_ms - 1000
    world.run(100 * back_ms)
    assert "follows" not in _status(world, n1)["summary"]
    assert abs(n1.running.state.time_ms - n1.wall_ms()) < 100


@pytest.mark.parametrize("seed", seeds(3, 8))
def test_a_key_lives_as_long_as_it_was_told_to(seed: int) -> None:
    """Whatever a minority of the clocks read. `SEED` replays it: `expiry.storm(SEED)`."""
    world, faults = expiry.storm(seed)
    assert expiry.off(world, expiry.bound_ms(faults)) == []


def _judge_by_the_hybrid_clock(state: State, now_ms: int) -> None:
    """As it was: the clock that counts dots follows our own wall clock and the fastest of all, and tells the time."""
    state.now_ms = now_ms
    state.clock.advance(now_ms + state.wall_offset_ms)
    state.time_ms = state.clock.last >> SEQUENCE_BITS


@pytest.mark.parametrize("words", ["too soon", "too long"])
def test_the_checker_finds_expiry_by_the_hybrid_clock(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def follow_time(state: State) -> None:
        state.has_time = state.cluster_time.is_set = True
        _judge_by_the_hybrid_clock(state, state.now_ms)

    monkeypatch.setattr(State, "at", _judge_by_the_hybrid_clock)
    monkeypatch.setattr(State, "follow_time", follow_time)
    found = (expiry.off(world, expiry.bound_ms(faults)) for world, faults in map(expiry.storm, range(20)))
    assert any(words in fault for faults in found for fault in faults)


def _cold_start(*skews_ms: int) -> World:
    """All nodes at once, with such clocks; a client waits at each of them from the beginning."""
    world = World(3, len(skews_ms))
    for host, skew_ms in zip(world.hosts, skews_ms, strict=True):
        host.skew_ms = skew_ms
    return world


@pytest.mark.parametrize("skews_ms", [(3_600_000, 0, 0), (-3_600_000, 0, 0), (-3_600_000, 0, 3_600_000, 0, 0)])
def test_a_node_that_starts_answers_no_command_by_its_own_clock(skews_ms: tuple[int, ...]) -> None:
    """Neither when all start, nor when it starts alone; and what is relayed to it meanwhile waits as well."""
    world = _cold_start(*skews_ms)
    for _ in range(2):
        for host in world.hosts:
            if host.node is None:
                host.start()
        asked = [world.client(host).send([b"TIME"], [b"PING"]) for host in world.hosts]
        world.start()
        world.run(500)
        for time, ping in asked:
            assert abs(int(time.reply[0]) - (EPOCH_MS + time.answered_ms) // 1000) <= 1
            assert ping.reply == b"PONG"
        world.hosts[0].kill()
        world.run(3000)


def test_a_node_that_reaches_nobody_goes_by_its_own_clock_until_it_reaches_others() -> None:
    world = _cold_start(0, 0, 86_400_000)
    n1, _, n3 = world.hosts
    n3.start()
    world.run(3000)
    assert abs(int(world.ask(n3, "TIME").reply[0]) - n3.wall_ms() // 1000) <= 1
    actor = n3.running.state.actor
    times: list[Operation] = []

    def ask_on() -> None:
        times.extend(world.client(n3).send([b"TIME"]))
        world.events.after(1, ask_on)

    world.events.after(1, ask_on)
    world.start()
    world.run(2000)
    said = [int(time.reply[0]) - time.answered_ms // 1000 - EPOCH_MS // 1000 for time in times if time.answered]
    own, right = [off for off in said if off > 80_000], [off for off in said if -2 < off < 2]
    assert len(own) + len(right) == len(said)
    assert 0 < len(own) < 300 < len(right), "by its own clock before it reaches others, and then no more"
    assert said == own + right
    state = n3.running.state
    assert state.actor != actor
    assert state.clock.last >> SEQUENCE_BITS <= n1.wall_ms() + 1000, "its dots lie in the future no more"
    assert int(state.records.document(b"clock") or 0) >> SEQUENCE_BITS < n1.wall_ms() + 60_000, (
        "it votes after a restart"
    )


def test_keys_written_a_day_ahead_are_written_again_by_any_command() -> None:
    """A node that knows no majority goes by its own clock. What it wrote then is neither refused nor in the way."""
    world = _cold_start(0, 0, 86_400_000)
    n1, n2, n3 = world.hosts
    n3.start()
    world.run(1500)
    keys = [world.key_of(n3), *(b"day%d" % number for number in range(5))]
    for key in keys:
        reply = world.ask(n3, "DYN.SET", key, "v", "W", 1).reply
        assert reply[1] == 1
    n3.skew_ms = 0
    world.start()
    world.run(5000)
    for host, key in zip((n1, n2, n3, n1, n2, n3), keys, strict=True):
        context, values = world.ask(host, "DYN.GET", key, "R", 3).reply
        assert values == [b"v"]
        context, *_ = world.ask(host, "DYN.SET", key, "w", "CONTEXT", context).reply
        assert world.ask(n2, "DYN.GET", key, "R", 3).reply[1] == [b"w"]
        assert world.ask(n1, "SET", key, "x").reply == b"OK"
        assert world.ask(n3, "GET", key).reply == b"x"
        context, _ = world.ask(n3, "DYN.GET", key).reply
        assert world.ask(n2, "DEL", key).reply == 1
        assert not world.ask(host, "DYN.SET", key, "y", "CONTEXT", context).error
