"""Queues in storms (queues.py): no element is lost, and in a calm cluster none comes twice. Each plant is seen."""

from __future__ import annotations

import random
from typing import Any

import pytest

from protocol.peer_versions import XREADS
from server.core.waiting import order
from server.core.waiting.blocked import REVIEWED_PER_TURN, Blocked
from server.core.waiting.deliveries import Deliveries
from server.core.waiting.order import AHEAD_MS
from server.core.work.timers import CALLS_PER_TURN
from tests.sim.clients import Client, Operation
from tests.sim.queues import run
from tests.sim.runs import config
from tests.sim.seeds import seeds
from tests.sim.typed import HARMLESS
from tests.sim.world import World, encode

PLANT_SEEDS = 40
WAITERS = 10_000
SLOW_SYNC_MS = 120


def _faults_of(seed: int) -> tuple[str, ...]:
    rng = random.Random(f"faults of queues {seed}")
    return tuple(sorted(rng.sample(HARMLESS, rng.randint(1, 3))))


@pytest.mark.parametrize("seed", seeds(2, 40))
def test_in_calm_each_element_comes_once(seed: int) -> None:
    assert run(seed, ())[0] == []


@pytest.mark.parametrize("seed", seeds(3, 120))
def test_in_a_storm_none_is_lost(seed: int) -> None:
    assert run(seed, _faults_of(seed))[0] == []


@pytest.mark.parametrize("seed", seeds(2, 40))
def test_none_is_lost_where_power_fails_and_syncs_are_slow(seed: int) -> None:
    """A push takes half a second there, so producers need long after the storm: the nodes find each other all the same."""
    faults = tuple(sorted({"power loss", random.Random(seed).choice(HARMLESS)}))
    assert run(seed, faults, config=config(fsync="always"), sync_ms_max=SLOW_SYNC_MS)[0] == []


def _forget_the_dead_client(patch: Any) -> None:
    """An element that was popped for a client that has gone is dropped."""
    patch(Deliveries, "_send_back", lambda self, coordinator, number: None)
    patch(Deliveries, "_return", lambda self, number: self._open.pop(number, None))


def _let_the_lost_keep_it(patch: Any) -> None:
    """What a coordinator has popped is lost with it."""
    patch(Deliveries, "keep", lambda self, coordinator, number, words: None)
    patch(Deliveries, "load", lambda self: None)


def _serve_twice(patch: Any) -> None:
    """A client gets an element, and so does the next one."""
    opened = Deliveries.open

    def twice(self: Deliveries, *args: Any) -> int:
        number = opened(self, *args)
        self._put_back(list(self._open[number].words))
        return number

    patch(Deliveries, "open", twice)


def _forget_no_row(patch: Any) -> None:
    patch(Blocked, "_forget", lambda self, node, number: None)


@pytest.mark.interpreted
@pytest.mark.parametrize(
    ("plant", "faults", "told"),
    [
        (_forget_the_dead_client, (), "lost"),
        (_let_the_lost_keep_it, ("kill",), "lost"),
        (_serve_twice, (), "came 2 times"),
        (_forget_no_row, (), "rows of clients that have gone"),
    ],
)
def test_a_planted_bug_is_found(
    plant: Any, faults: tuple[str, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(lambda owner, name, replacement: monkeypatch.setattr(owner, name, replacement))
    found = next((seed for seed in range(PLANT_SEEDS) if any(told in each for each in run(seed, faults)[0])), None)
    assert found is not None
    monkeypatch.undo()
    assert run(found, faults)[0] == []


# --- directed


@pytest.fixture
def world() -> World:
    world = World(5, 3)
    world.start()
    world.run(200)
    return world


def _send(client: Client, *words: bytes | str) -> Operation:
    return client.send(encode(words))[0]


@pytest.mark.parametrize("home", [0, 1, 2])
def test_first_come_first_served(world: World, home: int) -> None:
    key = world.key_of(world.hosts[0])
    waiting = []
    for _ in range(5):
        waiting.append(_send(world.client(world.hosts[home]), "BLPOP", key, "0"))
        world.run(50)
    assert world.ask(world.hosts[1], "RPUSH", key, "a", "b", "c").reply == 3
    world.run(50)
    assert [operation.reply for operation in waiting] == [[key, b"a"], [key, b"b"], [key, b"c"], None, None]
    assert world.ask(world.hosts[1], "LLEN", key).reply == 0


@pytest.mark.parametrize("seed", seeds(3, 6))
@pytest.mark.parametrize("command", ["BLPOP {k} 0", "BLMOVE {k} to LEFT LEFT 0"])
def test_clients_of_all_nodes_are_served_in_their_order(seed: int, command: str) -> None:
    """Elements come faster than attempts, so attempts of several called clients are under way at a time."""
    world = World(seed, 3)
    world.start()
    world.run(200)
    key = world.key_of(world.hosts[0])
    words = command.format(k=key.decode()).split()
    waiting = []
    for number in range(12):
        waiting.append(_send(world.client(world.hosts[number % 3]), *words))
        world.run(50)
    pusher = world.client(world.hosts[0])
    pusher.send(*[encode(["RPUSH", key, f"{number}"]) for number in range(12)])
    world.run(3000)
    items = [b"%d" % number for number in range(12)]
    assert [operation.reply if "MOVE" in command else operation.reply[1] for operation in waiting] == items


@pytest.mark.parametrize("command", ["BLPOP {k} 0", "BLMOVE {k} to LEFT LEFT 0"])
def test_who_comes_later_does_not_get_what_a_woken_client_is_about_to_take(world: World, command: str) -> None:
    key = world.key_of(world.hosts[0])
    words = command.format(k=key.decode()).split()
    first = _send(world.client(world.hosts[2]), *words)
    world.run(100)
    here = world.client(world.hosts[0])
    _, second = here.send(encode(["RPUSH", key, "a"]), encode(words))
    world.run(500)
    assert first.answered and not second.answered
    world.ask(world.hosts[1], "RPUSH", key, "b")
    world.run(200)
    assert second.answered


@pytest.mark.interpreted
@pytest.mark.parametrize("ahead_ms", [AHEAD_MS, 5000])
def test_a_frozen_client_is_waited_for_a_moment_only(
    world: World, ahead_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(order, "AHEAD_MS", ahead_ms)
    key = world.key_of(world.hosts[0])
    frozen = _send(world.client(world.hosts[2]), "BLPOP", key, "0")
    world.run(100)
    second = _send(world.client(world.hosts[1]), "BLPOP", key, "0")
    world.run(100)
    world.hosts[2].freeze()
    _send(world.client(world.hosts[0]), "RPUSH", key, "a", "b")
    world.run(2 * AHEAD_MS)
    assert not frozen.answered and second.answered == (ahead_ms == AHEAD_MS)


@pytest.mark.parametrize("gone", ["kill", "freeze", "stop"])
def test_clients_wait_on_at_the_next_coordinator(world: World, gone: str) -> None:
    key, other = world.key_of(*world.hosts), world.hosts[1]
    waiting = [_send(world.client(other), "BRPOP", key, "0"), _send(world.client(world.hosts[2]), "BRPOP", key, "0")]
    world.run(100)
    getattr(world.hosts[0], gone)()
    world.run(6000)
    assert world.ask(other, "LPUSH", key, "a", "b").reply == 2
    world.run(500)
    assert sorted(operation.reply for operation in waiting) == [[key, b"a"], [key, b"b"]]


@pytest.mark.parametrize("announces", [False, True])
def test_a_reader_waits_on_while_the_next_coordinator_keeps_no_rows(world: World, announces: bool) -> None:
    """In a rolling upgrade the next coordinator may be of an earlier version, and not announce `xreads`, or later."""
    first, home, old = world.hosts
    key, own = world.key_of(first, old), world.key_of(home)
    waiting = _send(world.client(home), "XREAD", "BLOCK", "0", "STREAMS", key, "$")
    limited = _send(world.client(home), "XREAD", "BLOCK", "9000", "STREAMS", own, key, "0", "9")
    world.run(100)
    capable = home.running.state.capable[XREADS]
    del capable[old.id]
    first.kill()
    world.run(6000)
    assert not waiting.answered and old.running.services.waiting.rows.count == 0
    if announces:
        capable[old.id] = None
        world.run(1000)
    assert old.running.services.waiting.rows.count == 2 * announces
    assert world.ask(home, "XADD", key, "5-0", "f", "v").reply == b"5-0"
    world.run(500)
    assert waiting.reply == [[key, [[b"5-0", [b"f", b"v"]]]]] and not limited.answered
    world.run(3000)
    assert limited.answered and limited.reply is None
    assert [host.running.services.waiting.rows.count for host in (home, old)] == [0, 0]


def test_a_client_of_two_coordinators_gets_one_element(world: World) -> None:
    one, other = world.key_of(world.hosts[0]), world.key_of(world.hosts[1])
    waiting = _send(world.client(world.hosts[2]), "BLPOP", one, other, "0")
    world.run(100)
    pushing = [
        _send(world.client(host), "RPUSH", key, "x") for host, key in zip(world.hosts, (one, other), strict=False)
    ]
    world.run(1000)
    assert all(operation.answered for operation in (waiting, *pushing))
    left = [world.ask(world.hosts[0], "LLEN", key).reply for key in (one, other)]
    assert sorted(left) == [0, 1]
    assert all(host.running.services.waiting.rows.count == 0 for host in world.hosts)


@pytest.mark.parametrize(
    ("command", "makes"),
    [
        ("BLPOP {k} 0", "LPUSH {k} a"),
        ("BLPOP {k} 0", "RENAME {o} {k}"),
        ("BLPOP {k} 0", "COPY {o} {k}"),
        ("BLPOP {k} 0", "LMOVE {o} {k} LEFT LEFT"),
        ("BLPOP {k} 0", "RPOPLPUSH {o} {k}"),
        ("BLPOP {k} 0", "SORT {o} ALPHA STORE {k}"),
        ("BLMPOP 0 2 none {k} RIGHT COUNT 2", "RPUSH {k} a"),
        ("BZPOPMIN {k} 0", "ZADD {k} 1 a"),
        ("BZPOPMAX {k} 0", "ZUNIONSTORE {k} 1 {z}"),
        ("BZMPOP 0 1 {k} MIN", "ZRANGESTORE {k} {z} 0 -1"),
        ("BRPOPLPUSH {k} to 0", "LPUSH {k} a"),
        ("BLMOVE {k} to LEFT LEFT 0", "LPUSH {k} a"),
    ],
)
def test_whatever_makes_the_key_wakes_its_clients(world: World, command: str, makes: str) -> None:
    names = {"k": world.key_of(world.hosts[1]).decode(), "o": world.key_of(world.hosts[2]).decode(), "z": "zset"}
    world.ask(world.hosts[0], "RPUSH", names["o"], "a")
    world.ask(world.hosts[0], "ZADD", names["z"], "1", "a")
    waiting = world.client(world.hosts[0]).send([word.encode() for word in command.format(**names).split()])[0]
    world.run(200)
    assert not waiting.answered
    done = world.ask(world.hosts[2], *makes.format(**names).split())
    world.run(200)
    assert not done.error and waiting.answered and not waiting.error
    assert "a" in str(waiting.reply)


@pytest.mark.parametrize("seed", seeds(3, 8))
def test_what_comes_for_a_client_that_left_a_frozen_node_is_put_back(seed: int) -> None:
    world = World(seed, 3)
    world.start()
    world.run(200)
    home, key = world.hosts[0], world.key_of(world.hosts[1])
    client = world.client(home)
    waiting = _send(client, "BLPOP", key, "0")
    world.run(200)
    _send(world.client(world.hosts[2]), "RPUSH", key, "a")
    world.run(2 * seed)  # somewhere between the push and the reply
    home.freeze()
    world.run(2500)
    client.hang_up()
    world.run(100)
    home.thaw()
    world.run(8000)
    left = world.ask(world.hosts[2], "LRANGE", key, "0", "-1").reply
    assert left == ([] if waiting.answered else [b"a"])


def test_another_type_does_not_end_a_wait(world: World) -> None:
    key = world.key_of(world.hosts[1])
    waiting = _send(world.client(world.hosts[0]), "BLPOP", key, "0")
    world.run(100)
    for words in (["ZADD", key, "1", "m"], ["DEL", key], ["SET", key, "v"], ["DEL", key]):
        world.ask(world.hosts[2], *words)
    assert not waiting.answered
    world.ask(world.hosts[2], "RPUSH", key, "a")
    world.run(100)
    assert waiting.reply == [key, b"a"]


def test_a_node_that_stops_closes_its_waiting_clients(world: World) -> None:
    host = world.hosts[0]
    client = world.client(host)
    waiting = _send(client, "BLPOP", "key", "0")
    world.run(100)
    host.deliver("signal", host.running.services.shutdown.begin)
    assert world.run_until(1500, lambda: host.running.services.shutdown.over)
    assert not waiting.answered and not client.connected


def test_ten_thousand_waiting_clients_cost_no_work(world: World) -> None:
    host, key = world.hosts[0], world.key_of(world.hosts[1])
    sessions = []
    for number in range(WAITERS):
        session = host.running.open_session("127.0.0.1:1", "", host.now_ms())
        sessions.append(session)
        host.running.command(session, encode(["BLPOP", key, "0" if number % 2 else "60"]), host.now_ms())
        if not number % 500:
            host.deliver("client", lambda: None)
            world.run(20)
    host.deliver("client", lambda: None)
    world.run(2000)
    waiting = host.running.services.waiting
    assert waiting.blocked.waiting == WAITERS
    assert world.hosts[1].running.services.waiting.rows.count == WAITERS
    with_them = _turns(world)
    for session in sessions:
        host.running.close_session(session)
    host.deliver("client", lambda: None)
    world.run(2000)
    assert waiting.blocked.waiting == 0 and world.hosts[1].running.services.waiting.rows.count == 0
    assert abs(with_them - _turns(world)) < 30


def _turns(world: World) -> int:
    """How many turns all nodes end in ten seconds."""
    before = sum(host.running.state.statistics.turns for host in world.hosts)
    world.run(10_000)
    return sum(host.running.state.statistics.turns for host in world.hosts) - before


def test_many_timeouts_at_once_take_several_turns(world: World) -> None:
    host = world.hosts[0]
    ended = host.running.services.waiting.blocked
    for _ in range(3 * CALLS_PER_TURN):
        session = host.running.open_session("127.0.0.1:1", "", host.now_ms())
        host.running.command(session, encode(["BLPOP", "key", "1"]), host.now_ms())
    host.deliver("client", lambda: None)
    world.run(900)
    assert ended.waiting == 3 * CALLS_PER_TURN
    most = 0
    while ended.waiting:
        before = ended.waiting
        world.run(1)
        most = max(most, before - ended.waiting)
    assert 0 < most <= CALLS_PER_TURN


def test_the_rows_of_many_clients_move_some_at_a_time(world: World) -> None:
    key, host = world.key_of(*world.hosts), world.hosts[2]
    for _ in range(3 * REVIEWED_PER_TURN):
        session = host.running.open_session("127.0.0.1:1", "", host.now_ms())
        host.running.command(session, encode(["BLPOP", key, "0"]), host.now_ms())
    host.deliver("client", lambda: None)
    world.run(1000)
    assert world.hosts[0].running.services.waiting.rows.count == 3 * REVIEWED_PER_TURN
    world.hosts[0].kill()
    home, most = host.running.services.waiting.blocked, 0
    for _ in range(5000):
        before = len(home._to_review)
        world.run(1)
        most = max(most, before - len(home._to_review))
    assert world.hosts[1].running.services.waiting.rows.count == 3 * REVIEWED_PER_TURN
    assert 0 < most <= REVIEWED_PER_TURN


def test_replies_of_a_pipeline_wait_behind_a_blocking_command(world: World) -> None:
    key = world.key_of(world.hosts[1])
    client = world.client(world.hosts[0])
    first, second, third = client.send(encode(["BLPOP", key, "0"]), encode(["SET", "x", "1"]), encode(["PING"]))
    world.run(500)
    assert not first.answered and not second.answered and not third.answered
    assert world.ask(world.hosts[2], "GET", "x").reply is None
    world.ask(world.hosts[2], "RPUSH", key, "a")
    world.run(200)
    assert [first.reply, second.reply, third.reply] == [[key, b"a"], b"OK", b"PONG"]
