"""Users and the secret of the nodes in storms: what a seed stands for, the run, and the verdict.

Nodes are lost and found again, cut off, slow and frozen, while officers change users, the secret rotates, and an intruder
starts processes on stolen directories. In some runs the cluster begins without a secret, as an upgraded one does. Faults
that destroy disks are left out, as in typed.py; those that lose frames of a connection, too, for what is sealed never
arrives with a gap; and planted faults, which may keep a change of a user from a node until gossip brings it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tests.sim import user_checkers
from tests.sim.faults import Storm
from tests.sim.runs import CONVERGE_MS_MAX, HEAL_MS_MAX, SKEW_MS_MAX, config
from tests.sim.secret_files import Intruder, Rotation, SecretFiles
from tests.sim.typed import HARMLESS
from tests.sim.user_changes import Guest, Officer, Watch
from tests.sim.workload import Customer
from tests.sim.world import World

NAMES = (b"u0", b"u1", b"u2")
FAULTS = tuple(name for name in HARMLESS if "datagrams" not in name and name != "planted fault")
CLOSE_MS_MAX = 20_000


@dataclass(frozen=True)
class Profile:
    """What a run is like."""

    nodes: int = 3
    faults: tuple[str, ...] = ()
    pace_ms: int = 400
    duration_ms: int = 8000
    rotates: bool = True
    intrudes: bool = True
    has_secret: bool = True  # from the beginning


@dataclass
class Verdict:
    """What the checkers say, and how much there was to judge."""

    faults: list[str]
    world: World
    deletions_bound: int = 0  # to other nodes than the officer's
    intrusions: int = 0


def profile_of(seed: int) -> Profile:
    """The profile that a seed stands for."""
    rng = random.Random(f"security {seed}")
    names = tuple(sorted(rng.sample(FAULTS, rng.randint(1, 4))))
    return Profile(
        rng.choice((2, 3, 3, 3, 5)), names, rng.choice((200, 500, 1500)), 8000, rng.random() < 0.6, rng.random() < 0.6,
        rng.random() < 0.7,
    )  # fmt: skip


def run(seed: int, profile: Profile | None = None) -> Verdict:
    """Runs the seed and judges it."""
    profile = profile or profile_of(seed)
    world = World(seed, profile.nodes, config(large_message_bytes=200 if seed % 2 else 256 << 10))
    for host in world.hosts:
        host.skew_ms = world.rng.randint(-SKEW_MS_MAX, SKEW_MS_MAX) // 2
    files = SecretFiles(world)
    first = files.new_secret()
    for host in world.hosts if profile.has_secret else ():
        files.write(host, (first,))
    world.start()
    for host in world.hosts if not profile.has_secret else ():
        files.write(host, (first,))
    if not world.run_until(CLOSE_MS_MAX, files.all_closed):
        return Verdict(["the nodes do not prove their secret to each other"], world)
    end_ms = world.events.now_ms + profile.duration_ms
    if profile.rotates:
        Rotation(world, files, first, 500, end_ms)
    intruder = Intruder(world, files, 1500, end_ms) if profile.intrudes else None
    watch = Watch(world)
    officers = [Officer(world, name, watch) for name in NAMES]
    guests = [Guest(world, number, officer) for officer in officers for number in range(2)]
    customers = [Customer(world, f"c{number}", world.hosts, [b"p0", b"p1"], False) for number in range(2)]
    Storm(world, list(profile.faults), profile.pace_ms, profile.duration_ms)
    world.run(profile.duration_ms)
    for each in (*officers, *guests, *customers):
        each.stop()
    faults = _settle(world, [*officers, *guests, *customers]) or _judge(world, officers, watch)
    faults += [f"an intruder was told by {node} who it is" for node in intruder.told] if intruder is not None else []
    bound = [each for each in watch.deletions if each.is_bound and len(each.processes) > 1]
    return Verdict(faults, world, len(bound), intruder.attempts if intruder is not None else 0)


def _settle(world: World, clients: list[Officer | Guest | Customer]) -> list[str]:
    """The cluster heals, and becomes whole by itself; all nodes know the same users."""
    world.heal(within_ms=1000)
    world.run(100)
    if not world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and all(each.client.idle for each in clients)):
        return ["after the storm the nodes do not find each other, or clients still wait"]
    if not world.run_until(CONVERGE_MS_MAX, lambda: not world.differences()):
        return [f"does not converge: {difference}" for difference in world.differences()]
    if not world.run_until(CONVERGE_MS_MAX, lambda: _know_the_same(world)):
        return ["does not converge: the nodes know different users"]
    return []


def _know_the_same(world: World) -> bool:
    return len({host.running.services.users.sharing.digest() for host in world.hosts}) == 1


def _judge(world: World, officers: list[Officer], watch: Watch) -> list[str]:
    faults = user_checkers.check_intruder(world)
    faults += user_checkers.check_documents(world.hosts)
    faults += user_checkers.check_answers(world, [change for officer in officers for change in officer.changes])
    faults += user_checkers.check_deleted(world.history.operations, watch.deletions)
    return faults + user_checkers.check_in_force(world, officers)
