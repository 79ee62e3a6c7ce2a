"""Storms over keys that are deleted and expire all the time, and the one question of P7: has anything come back?

Theory. A value is back if it can be read at the end although some record that ever came to a disk knew it and had it no
more: that record had superseded it, and nobody can have wanted it since. This needs no knowledge of who wrote what, only
that no disk has forgotten anything (then what had superseded the value may rightly be gone).

Requests live a tenth of their usual time here, so a collection takes two seconds and many happen in a storm.
"""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

from server.core.base.config import Config
from server.core.records import versions
from server.core.records.records import PREFIX_BYTES, RECORDS_END
from tests.sim.faults import Storm
from tests.sim.wall_clock import EPOCH_MS
from tests.sim.world import World

HASTY = Config(request_timeout_ms=300, collect_wait_ms=300, hint_after_ms=150, scrub_interval_ms=3000)
FAULTS = (
    "kill", "kill all", "crash", "freeze", "cut", "isolate", "broken connection", "slow node",
    "clock jump", "datagrams", "damage",
)  # fmt: skip

SLOWEST_MS = 300_000  # no clock is further behind


def storm(seed: int, duration_ms: int = 25_000, nodes: int = 0) -> World:
    """Three to five nodes, some faults, and clients that set and delete; healed, and left alone until all is collected."""
    rng = random.Random(seed)
    config = replace(HASTY, fsync=rng.choice(("everysec", "always", "no")), clock_entries_max=rng.choice((2, 8)))
    world = World(seed, nodes or rng.choice((3, 3, 4, 5)), config)
    world.start()
    keys = [b"k%d" % number for number in range(6)]
    Storm(world, rng.sample(FAULTS, rng.randint(1, 4)), rng.choice((300, 1000)), duration_ms)
    end_ms = world.events.now_ms + duration_ms
    for number in range(4):
        _write_on(world, random.Random(rng.getrandbits(64)), keys, f"c{number}", end_ms)
    _delay_some(world, rng, end_ms)
    world.run(duration_ms)
    world.heal()
    assert world.run_until(30_000, world.at_peace)
    world.run_until(120_000, lambda: not left_over(world))
    return world


def _write_on(world: World, rng: random.Random, keys: list[bytes], name: str, end_ms: int) -> None:
    """A client that sets or deletes some key, now at this node and now at that, with long pauses at times."""
    count = 0

    def step() -> None:
        nonlocal count
        hosts = [host for host in world.hosts if host.node is not None]
        if hosts:
            count += 1
            key, value = rng.choice(keys), f"{name}.{count}".encode()
            expiring = [b"SET", key, value, b"PX", b"%d" % rng.randint(1, 3000)]
            command = rng.choice(([b"SET", key, value], expiring, [b"DEL", key], [b"DYN.DEL", key], [b"GET", key]))
            client = world.client(rng.choice(hosts), f"{name}.{count}")
            client.send(command)
            world.events.after(4000, client.hang_up)
        if world.events.now_ms < end_ms:
            world.events.after(rng.choice((20, 200, 200, 3000)), step)

    step()


def _delay_some(world: World, rng: random.Random, end_ms: int) -> None:
    """Now and then what is said on one path in a moment comes seconds later; what follows waits behind it, as with TCP."""
    one, other = rng.sample(world.hosts, 2)
    path = world.network.path(one.id, other.id)
    path.delay_ms_min = path.delay_ms_max = rng.choice((2000, 8000))
    world.events.after(rng.randint(1, 300), partial(world.network.mend, one.id, other.id))
    if world.events.now_ms < end_ms:
        world.events.after(rng.randint(200, 4000), partial(_delay_some, world, rng, end_ms))


def came_back(world: World) -> list[str]:
    """The values that all disks together hold at the end although something had superseded them."""
    known: dict[bytes, list[tuple[dict[bytes, int], dict[tuple[bytes, int], None]]]] = {}
    stored = ((change.key, change.record) for change in world.log if change.record and change.key < RECORDS_END)
    for key, record in dict.fromkeys(stored):
        clock, siblings = versions.decode(record)
        known.setdefault(key, []).append((clock, {sibling[:2]: None for sibling in siblings}))
    final: dict[bytes, bytes | None] = {}
    for host in world.hosts:
        for key, record in host.disk.data.items():
            if key < RECORDS_END:
                final[key] = versions.merge(final.get(key), record)
    now_ms = EPOCH_MS + world.events.now_ms - SLOWEST_MS
    return [
        f"{sibling.value!r} of {key[PREFIX_BYTES:]!r} is back"
        for key, record in final.items()
        for sibling in versions.siblings_of(record)
        if sibling.is_live(now_ms)
        and any(
            clock.get(sibling.actor, -1) >= sibling.counter and sibling[:2] not in held for clock, held in known[key]
        )
    ]


def collected(world: World) -> int:
    """How much was collected or pruned in the lives of the nodes that run now."""
    counters = [host.running.state.statistics for host in world.hosts]
    return sum(c.tombstones_collected + c.expired_collected + c.clocks_pruned for c in counters)


def left_over(world: World) -> list[str]:
    """Dead records that are still on a disk, and owners that do not hold the same."""
    faults = []
    keys = dict.fromkeys(key for host in world.hosts for key in host.disk.data if key < RECORDS_END)
    for key in keys:
        owners = world.owners(key[PREFIX_BYTES:])
        held = {owner.disk.data.get(key) for owner in owners}
        if len(held) > 1:
            faults.append(f"the owners of {key[PREFIX_BYTES:]!r} differ")
        if any(record is not None and versions.is_dead(record, EPOCH_MS + world.events.now_ms) for record in held):
            faults.append(f"{key[PREFIX_BYTES:]!r} is dead and still there")
    return faults
