"""Storms of wrong clocks over keys that expire, and the one question: does a key live as long as it was told to?

Theory. The simulator knows the true time. A SET with PX t that was asked for at a and answered at b set the key's end
to some moment from a + t to b + t. So a read that was asked for later than that and finds the value has found it too
long alive, and one that was answered earlier and finds nothing has missed it; PTTL must lie in between as well. Each
key is written once, so nothing but its expiry can end it. What is allowed beside that is a hundredth of t, for cluster
time may be on its way from one right clock to another (cluster_time.py), and a bound that the weather sets: how well
clocks can be compared over slow paths.

A minority of the clocks may be days off, jump, and be put right; the others are a little off, and drift.
"""

from __future__ import annotations

import random

from server.core.base.cluster_time import SLEW
from tests.sim.clients import Operation
from tests.sim.faults import Storm
from tests.sim.world import World

FAULTS = ("wrong clock", "clock drift", "lone restart", "slow node", "slow path")
SPREADS_MS = (0, 50, 2000, 15_000)  # of the right clocks
LIVES_MS = (300, 1000, 3000, 10_000, 20_000)
BOUND_MS = 60  # on quick paths: questions to a member take 10 ms, turns 2 ms
SLOW_BOUND_MS = 1000  # where a question may take 800 ms


def storm(seed: int, duration_ms: int = 30_000, faults: tuple[str, ...] = ()) -> tuple[World, tuple[str, ...]]:
    """Three nodes, or five without restarts (then a stand-in may hold what a read asks owners for); and what went wrong."""
    rng = random.Random(seed)
    nodes = rng.choice((3, 3, 5))
    chosen = faults or ("wrong clock", *rng.sample(FAULTS[1:], rng.randint(0, 3)))
    if nodes > 3:
        chosen = tuple(name for name in chosen if name != "lone restart")
    world = World(seed, nodes)
    spread_ms = rng.choice(SPREADS_MS)
    for host in world.hosts:
        host.skew_ms = rng.randint(-spread_ms, spread_ms)
    world.start()
    Storm(world, list(chosen), rng.choice((300, 1000)), duration_ms)
    end_ms = world.events.now_ms + duration_ms
    keys: list[bytes] = []
    for number in range(4):
        _go_on(world, random.Random(rng.getrandbits(64)), keys, f"c{number}", end_ms)
    world.run(duration_ms)
    world.heal()
    assert world.run_until(30_000, world.at_peace)
    world.run(5000)
    return world, chosen


def _go_on(world: World, rng: random.Random, keys: list[bytes], name: str, end_ms: int) -> None:
    """A client that writes keys, each once, and looks at the latest, now at this node and now at that."""

    def step() -> None:
        hosts = [host for host in world.hosts if host.node is not None]
        if hosts:
            if rng.random() < 0.3 or not keys:
                keys.append(b"k%d" % len(keys))
                command = [b"SET", keys[-1], keys[-1] + b"=", b"PX", b"%d" % rng.choice(LIVES_MS)]
            else:
                command = [rng.choice((b"GET", b"PTTL")), rng.choice(keys[-40:])]
            client = world.client(rng.choice(hosts), f"{name}.{len(world.history.operations)}")
            client.send(command)
            world.events.after(9000, client.hang_up)
        if world.events.now_ms < end_ms:
            world.events.after(rng.choice((5, 50, 200)), step)

    step()


def off(world: World, bound_ms: int) -> list[str]:
    """What has lived too long, or not long enough, by true time."""
    written: dict[bytes, Operation] = {}
    faults: list[str] = []
    for operation in world.history.operations:
        key = operation.args[1]
        if operation.name == "SET":
            written[key] = operation
        elif operation.answered and not operation.error and _is_known(written[key], operation):
            faults += _judge(written[key], operation, bound_ms)
    return faults


def _is_known(write: Operation, read: Operation) -> bool:
    """Whether the write was acknowledged before the read was asked for."""
    return write.reply == b"OK" and write.answered_ms <= read.invoked_ms


def _judge(write: Operation, read: Operation, bound_ms: int) -> list[str]:
    life_ms = int(write.args[4])
    allowed_ms = bound_ms + life_ms // SLEW
    least_ms = write.invoked_ms + life_ms - read.answered_ms - allowed_ms  # to live, at the read
    most_ms = write.answered_ms + life_ms - read.invoked_ms + allowed_ms
    found = read.reply not in (None, -2)
    if found and most_ms < 0:
        return [f"lives {-most_ms} ms too long: {write} {read}"]
    if not found and least_ms > 0:
        return [f"died {least_ms} ms too soon: {write} {read}"]
    if found and read.name == "PTTL" and not least_ms <= int(read.reply) <= most_ms:
        return [f"PTTL should be from {least_ms} to {most_ms}: {write} {read}"]
    return []


def bound_ms(faults: tuple[str, ...]) -> int:
    """How far off a TTL may be in such weather."""
    return SLOW_BOUND_MS if "slow path" in faults or "slow node" in faults else BOUND_MS
