"""Commands over many keys, scans while keys and nodes come and go, reply formats over relays, and the layout's spread."""

from __future__ import annotations

import json
import random

import pytest

from server.core.base.config import Config
from tests.sim.probes import raw_reply, values_on
from tests.sim.seeds import seeds
from tests.sim.world import World

KEYS = [b"k%d" % number for number in range(60)]


@pytest.fixture
def five() -> World:
    """Five nodes that see each other."""
    world = World(3, 5)
    world.start()
    return world


def _pairs(keys: list[bytes]) -> list[bytes]:
    return [word for key in keys for word in (key, b"v-" + key)]


def test_many_keys_of_all_slots_in_one_command(five: World) -> None:
    n1, n2, n3, n4, n5 = five.hosts
    assert five.ask(n1, "MSET", *_pairs(KEYS)).reply == b"OK"
    assert five.ask(n2, "MGET", *KEYS, "none").reply == [*(b"v-" + key for key in KEYS), None]
    assert five.ask(n3, "EXISTS", *KEYS, "none", KEYS[0]).reply == len(KEYS) + 1
    assert five.ask(n4, "DEL", *KEYS[:10], "none").reply == 10
    assert five.ask(n5, "MGET", *KEYS[:10]).reply == [None] * 10
    assert five.ask(n5, "DBSIZE").reply == len(KEYS) - 10


def test_one_key_without_a_quorum_is_an_error_and_the_others_are_done(five: World) -> None:
    n1, n2, n3, n4, _ = five.hosts
    bad = [key for key in KEYS if n3 in five.owners(key) and n4 in five.owners(key)]
    good = [key for key in KEYS if key not in bad]
    missing = [b"no%d" % number for number in range(50)]  # some of them belong to both of the dead
    assert bad and good
    n3.kill()
    n4.kill()
    five.run(1000)
    client = five.client(n1)
    operations = client.send([b"MSET", *_pairs(KEYS)], [b"MGET", *missing], [b"DEL", *bad], [b"MGET", *good])
    five.run(4000)
    write, read, delete, rest = operations
    assert write.reply == b"OK"  # stand-ins keep what the dead should have
    assert read.error.startswith("NOQUORUM read: got=1 wanted=2")  # the key that is nowhere: the dead may have it
    assert delete.reply == len(bad)
    assert rest.reply == [b"v-" + key for key in good]
    assert five.history.stray_replies == []
    assert five.ask(n2, "DEL", *good).reply == len(good)


def test_scan_returns_what_is_there_throughout(five: World) -> None:
    """Each page from another node, while other keys come and go and a node at a time dies and comes back."""
    rng = random.Random(5)
    coming = [b"c%d" % number for number in range(60)]
    assert five.ask(five.hosts[0], "MSET", *_pairs(KEYS), *_pairs(coming[:30])).reply == b"OK"
    found: list[bytes] = []
    cursor = b"0"
    pages = 0
    while pages == 0 or cursor != b"0":
        host = rng.choice([host for host in five.hosts if host.node is not None])
        page = five.ask(host, "SCAN", cursor, "COUNT", 5)
        assert not page.error
        cursor, keys = page.reply
        found += keys
        pages += 1
        five.ask(host, "DEL", coming[pages % 30])
        five.ask(host, "SET", coming[30 + pages % 30], "new")
        if pages % 4 == 0:
            _swap_the_dead(five, rng)
    assert pages > 10
    assert sorted(key for key in found if key in KEYS) == sorted(KEYS)
    assert all(key in KEYS or key in coming for key in found)
    assert len(set(found)) == len(found)


def _swap_the_dead(world: World, rng: random.Random) -> None:
    """The dead node comes back, another one dies; in the middle of whatever is going on."""
    dead = [host for host in world.hosts if host.node is None]
    for host in dead:
        host.start()
    world.run(1500)
    rng.choice([host for host in world.hosts if host not in dead]).kill()
    world.run(rng.randint(0, 600))


def test_busy_at_the_limit_and_fine_below_it() -> None:
    world = World(1, 3, Config(requests_in_flight_max=10))
    world.start()
    n1, n2, n3 = world.hosts
    n2.freeze()
    n3.freeze()
    world.client(n1).send(*([b"SET", world.key_of(n1), b"v"] for _ in range(30)))
    world.run(100)
    late = world.client(n1).send([b"SET", b"x", b"v"], [b"GET", b"x"], [b"PING"])
    world.run(100)
    assert [operation.error[:5] for operation in late] == ["BUSY ", "BUSY ", ""]
    n2.thaw()
    n3.thaw()
    world.run(1000)
    assert n1.running.state.in_flight == 0
    assert world.ask(n1, "SET", "x", "v").reply == b"OK"


@pytest.mark.parametrize(("hello", "null"), [((), b"$-1\r\n"), (("HELLO", 3), b"_\r\n")])
def test_replies_keep_their_protocol_over_relays(hello: tuple[str | int, ...], null: bytes) -> None:
    world = World(1, 5)
    world.start()
    n1 = world.hosts[0]
    key = next(key for key in KEYS if n1 not in world.owners(key))
    commands: list[tuple[bytes | str | int, ...]] = [hello] if hello else []
    commands += [("GET", key), ("SET", key, "v"), ("SET", key, "w", "NX"), ("GETDEL", key), ("DYN.GET", b"x" + key)]
    raw = raw_reply(world, n1, *commands)
    expected = null + b"+OK\r\n" + null + b"$1\r\nv\r\n"
    assert n1.running.state.statistics.relays >= 4
    assert expected in raw
    assert raw.endswith(b"*2\r\n" + null + b"*0\r\n")


def test_init_spreads_from_one_node_to_those_that_are_there_and_those_that_come() -> None:
    world = World(1, 5, laid_out=False)
    for host in world.hosts[:3]:
        host.start()
    world.run(500)
    n1, n2, _, _, n5 = world.hosts
    assert world.ask(n2, "SET", "k", "v").error.startswith("ERR this node is not part of a cluster yet")
    made = world.ask(n1, "DYN.CLUSTER", "INIT", json.dumps(world.wish))
    assert json.loads(made.reply)["epoch"] == 1
    for host in world.hosts[3:]:
        host.start()
    world.start(5000)
    layouts = [host.running.state.layout for host in world.hosts]
    assert all(layout is not None and layout == layouts[0] for layout in layouts)
    assert world.ask(n5, "SET", "k", "v").reply == b"OK"
    assert world.ask(n2, "GET", "k").reply == b"v"
    assert world.ask(n2, "DYN.CLUSTER", "INIT", json.dumps(world.wish)).error.startswith("ERR node n2 is in cluster")
    for host in world.hosts:
        host.kill()
    world.start(5000)
    assert world.ask(n5, "GET", "k").reply == b"v"


@pytest.mark.parametrize("seed", seeds(3, 6))
def test_what_follows_in_time_follows_in_causality(seed: int) -> None:
    """A stable cluster, clocks 30 s apart: SET through one node, then through another; any third answers the second."""
    world = World(seed, 3)
    for host in world.hosts:
        host.skew_ms = world.rng.choice((-15_000, 15_000))
    world.hosts[seed % 3].skew_ms = 15_000
    world.hosts[(seed + 1) % 3].skew_ms = -15_000
    world.start()
    for number in range(12):
        one, other, third = world.rng.sample(world.hosts, 3)
        key = b"k%d" % number
        assert world.ask(one, "SET", key, "first").reply == b"OK"
        assert world.ask(other, "SET", key, "second").reply == b"OK"
        assert world.ask(third, "GET", key).reply == b"second"
        world.run(20)
        assert all(values_on(world, host, key) == [b"second"] for host in world.hosts)
