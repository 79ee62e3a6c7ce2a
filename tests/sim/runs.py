"""A seed becomes a profile, the profile a run, the run a verdict.

A calm run has no faults, clocks up to 30 s apart, and keys that one client each writes: there reads must see every write
before them. A stormy run has some of the faults; afterwards the cluster is healed, and read once more with R=N.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

from server.core.config import Config
from tests.sim import answers, checkers
from tests.sim.evidence import Evidence
from tests.sim.faults import FAULTS, Storm
from tests.sim.intents import intents_of
from tests.sim.workload import Customer
from tests.sim.world import World

CALM_MS, STORM_MS, HEAL_MS_MAX = 3000, 8000, 12_000
SKEW_MS_MAX = 30_000
TALKATIVE = ("clock jump", "datagrams", "slow node", "slow path")  # faults that make no node fall silent


@dataclass(frozen=True)
class Profile:
    """What a run is like."""

    nodes: int
    customers: int
    keys: int
    faults: tuple[str, ...] = ()
    pace_ms: int = 700
    duration_ms: int = STORM_MS
    config: Config = field(default_factory=Config)

    @property
    def calm(self) -> bool:
        """Whether nothing goes wrong."""
        return not self.faults


@dataclass
class Verdict:
    """What the checkers say of a run; `faults` is empty if all promises held."""

    seed: int
    profile: Profile
    world: World
    faults: list[str]

    def summary(self) -> str:
        """One line."""
        operations = self.world.history.operations
        answered = sum(operation.answered for operation in operations)
        errors = sum(bool(operation.error) for operation in operations)
        profile = self.profile
        faults = ", ".join(profile.faults) or "none"
        return (
            f"seed {self.seed}: {profile.nodes} nodes, {profile.config.fsync}, faults {faults}; "
            f"{len(operations)} commands, {answered} answered, {errors} errors; trace {self.world.fingerprint()}"
        )


def profile_of(seed: int, nodes: int | None = None) -> Profile:
    """The profile that a seed stands for: one in four is calm."""
    rng = random.Random(seed)
    nodes = nodes or rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5, 7, 9))
    config = Config(
        fsync=rng.choice(("everysec", "everysec", "always", "no")),
        record_cache_bytes=rng.choice((2000, 1 << 20)),
        batch_bytes_max=rng.choice((100, 4 << 20)),
    )
    calm = rng.random() < 0.25
    names = () if calm else tuple(sorted(rng.sample(sorted(FAULTS), rng.randint(1, 6))))
    return Profile(
        nodes, rng.randint(3, 6), rng.randint(3, 6), names, rng.choice((150, 500, 1500)),
        CALM_MS if calm else STORM_MS, config,
    )  # fmt: skip


def run(seed: int, profile: Profile | None = None, keep_trace: bool = False) -> Verdict:
    """Runs the seed and judges it."""
    profile = profile or profile_of(seed)
    world = World(seed, profile.nodes, profile.config, keep_trace=keep_trace)
    for host in world.hosts:
        host.skew_ms = world.rng.randint(-SKEW_MS_MAX, SKEW_MS_MAX) // 2
    world.start()
    customers = _customers(world, profile)
    Storm(world, list(profile.faults), profile.pace_ms, profile.duration_ms)
    world.run(profile.duration_ms)
    for customer in customers:
        customer.stop()
    world.heal()
    world.run(100)
    healed = world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and all(c.client.idle for c in customers))
    faults = [] if healed else ["after the storm the nodes do not find each other, or clients still wait"]
    faults += _judge(world, profile)
    return Verdict(seed, profile, world, faults)


def _customers(world: World, profile: Profile) -> list[Customer]:
    kinds = b"p" if profile.calm else b"pdm"
    keys = [b"%c%d" % (kinds[index % len(kinds)], index) for index in range(profile.keys)]
    customers = []
    for index in range(profile.customers):
        own = [b"p%d.%d" % (index, number) for number in range(3)] if profile.calm else keys
        customers.append(Customer(world, f"c{index}", world.hosts, own, profile.calm))
    return customers


def _judge(world: World, profile: Profile) -> list[str]:
    layout, history = world.layout, world.history
    attempts = 1 if all(fault in TALKATIVE for fault in profile.faults) else 2
    faults = answers.check_in_order(history)
    if faults:
        return faults  # what the answers say is not to be trusted
    faults += answers.check_in_time(
        history, world.hosts, world.events.now_ms, profile.config.request_timeout_ms, attempts
    )
    evidence = Evidence(world.log, [host.disk for host in world.hosts])
    writes = checkers.Writes(intents_of(history, layout.effective_w, layout.effective_n), evidence)
    faults += checkers.check_dots(evidence, writes)
    faults += checkers.check_disks(evidence, writes, world.losses, world.owner_ids)
    faults += checkers.check_acknowledged(writes, world.forgetful)
    faults += checkers.check_refused(writes)
    faults += answers.check_contexts(history, evidence, writes)
    if not world.forgetful and profile.nodes <= layout.effective_n:  # no stand-ins: no sloppy quorums
        faults += answers.check_quorum_reads(history, writes, layout.effective_r, layout.effective_n)
    if profile.calm:
        faults += answers.check_calm(history)
        faults += [f"{key!r} has siblings" for key, known in evidence.final.items() if len(known.siblings) != 1]
    faults += _read_everything(world, evidence)
    return faults


def _read_everything(world: World, evidence: Evidence) -> list[str]:
    """After the storm any node, asked with R=N, answers what all disks know together."""
    faults = []
    for key, known in evidence.final.items():
        read = world.ask(world.rng.choice(world.hosts), "DYN.GET", key, "R", world.layout.effective_n)
        expected = sorted(version.value for version in known.siblings.values() if version.kind == 0)
        if read.error or sorted(read.reply[1]) != expected:
            faults.append(f"the disks know {expected} of {key!r}, but {read}")
    return faults
