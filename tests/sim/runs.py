"""A seed becomes a profile, the profile a run, the run a verdict.

A calm run has no faults, clocks up to 30 s apart, and keys that one client each writes: there reads must see every write
before them. A stormy run has some of the faults (safety); afterwards the cluster is healed, and has to become whole by
itself (liveness): equal records on all owners' disks, no hints, and what is dead gone; then it is read once more with
R=N. Some runs have a second storm after that, in which another node has the bad luck with its disk.

In a third of the runs, calm ones and stormy ones, an operator changes the ring meanwhile (operators.py). At the end the
change has to be done everywhere, and those who are no members must know it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from server.core.base.config import Config
from server.core.records.versions import VALUE
from server.core.ring.layout import Layout
from tests.sim import answers, checkers
from tests.sim.convergence import dead_records
from tests.sim.disk import LAYOUT
from tests.sim.evidence import NOTHING, Evidence
from tests.sim.faults import FAULTS, Storm
from tests.sim.forgetting import Forgotten
from tests.sim.intents import intents_of
from tests.sim.operators import CHANGES, GENTLE, LOSING, Operator
from tests.sim.rings import Rings
from tests.sim.wall_clock import EPOCH_MS
from tests.sim.workload import Customer
from tests.sim.world import World

CALM_MS, STORM_MS, SECOND_STORM_MS, HEAL_MS_MAX = 3000, 8000, 4000, 12_000
CONVERGE_MS_MAX, COLLECT_MS_MAX = 30_000, 240_000  # of virtual time, from when the nodes see each other again
SKEW_MS_MAX = 30_000
READ_MS_MAX = 10_000
TALKATIVE = (
    "clock jump",
    "clock drift",
    "wrong clock",
    "slow node",
    "slow path",
)  # faults that make no node fall silent


@dataclass(frozen=True)
class Profile:
    """What a run is like."""

    nodes: int
    customers: int
    keys: int
    faults: tuple[str, ...] = ()
    pace_ms: int = 700
    duration_ms: int = STORM_MS
    config: Config = field(default_factory=lambda: config())
    storms: int = 1
    ring: tuple[str, ...] = ()  # the changes of membership among the faults
    ring_pace_ms: int = 1500
    staged_bytes_min: int = 0  # of the values that are written in chunks first; 0: none (staging.py)
    collects: bool = True  # wait until what is dead has gone; long, where a clock was set back (votes.py)

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
        faults = ", ".join((*profile.faults, *profile.ring)) or "none"
        return (
            f"seed {self.seed}: {profile.nodes} nodes, {profile.config.fsync}, faults {faults}; "
            f"{len(operations)} commands, {answered} answered, {errors} errors; trace {self.world.fingerprint()}"
        )


def config(**settings: Any) -> Config:
    """A node's settings in the simulator, where repair is always near."""
    soon = {"repair_interval_ms": 1500, "collect_wait_ms": 3500, "scrub_interval_ms": 2000}
    return Config(**soon | settings)


def profile_of(seed: int, nodes: int | None = None) -> Profile:
    """The profile that a seed stands for: one in four is calm."""
    rng = random.Random(seed)
    nodes = nodes or rng.choice((1, 2, 3, 3, 3, 3, 4, 5, 5, 7, 9))
    hasty = {"request_timeout_ms": 300, "hint_after_ms": 150, "collect_wait_ms": 300} if rng.random() < 0.3 else {}
    settings = config(
        **{"collect_wait_ms": rng.choice((3500, 5000))} | hasty,
        fsync=rng.choice(("everysec", "everysec", "always", "no")),
        record_cache_bytes=rng.choice((2000, 1 << 20)),
        batch_bytes_max=rng.choice((100, 4 << 20)),
        repair_interval_ms=rng.choice((500, 1500, 4000)),
        scrub_interval_ms=rng.choice((1000, 4000)),
        clock_entries_max=rng.choice((2, 8)),
        large_message_bytes=200 if seed % 2 else 256 << 10,  # most of what carries records travels in pieces
        turn_commands_max=rng.choice((3, 200)),
    )
    calm = rng.random() < 0.25
    names = () if calm else tuple(sorted(rng.sample(sorted(FAULTS), rng.randint(1, 6))))
    profile = Profile(
        nodes, rng.randint(3, 6), rng.randint(3, 6), names, rng.choice((150, 500, 1500)),
        CALM_MS if calm else STORM_MS, settings, 2 if not calm and rng.random() < 0.2 else 1,
        staged_bytes_min=12 if seed % 4 == 3 else 0,
        collects=not any("clock" in name for name in names) and rng.random() < (0.3 if nodes < 6 else 0.05),
    )  # fmt: skip
    return _with_changes(profile, random.Random(f"ring {seed}")) if changes_ring(seed) else profile


def changes_ring(seed: int) -> bool:
    """Whether an operator changes the ring in the run that the seed stands for."""
    return seed % 3 == 2


def _with_changes(profile: Profile, rng: random.Random) -> Profile:
    """The same where the ring changes meanwhile."""
    names = GENTLE if profile.calm else sorted(CHANGES)
    ring = tuple(sorted(rng.sample(names, rng.randint(1, 4))))
    faults = profile.faults
    if faults and any(name in ring for name in LOSING):
        # Nobody can fetch what is unreadable where it was kept last.
        faults = tuple(name for name in faults if name != "damaged record") or ("cut",)
    return replace(
        profile, faults=faults, nodes=min(5, max(2, profile.nodes)), ring=ring,
        ring_pace_ms=rng.choice((300, 1000, 2500)), duration_ms=profile.duration_ms + 2000,
    )  # fmt: skip


def run(seed: int, profile: Profile | None = None, keep_trace: bool = False) -> Verdict:
    """Runs the seed and judges it."""
    profile = profile or profile_of(seed)
    staged_bytes_min = profile.staged_bytes_min
    world = World(seed, profile.nodes, profile.config, keep_trace=keep_trace, staged_bytes_min=staged_bytes_min)
    for host in world.hosts:
        host.skew_ms = world.rng.randint(-SKEW_MS_MAX, SKEW_MS_MAX) // 2
    world.start()
    faults: list[str] = []
    for number in range(profile.storms):
        faults += _weather(world, profile, number)
        if not faults:
            faults += _converge(world)
        if faults:
            break
    if not faults and profile.collects:
        faults += _collect(world)
    faults += _judge(world, profile)
    return Verdict(seed, profile, world, faults)


def _weather(world: World, profile: Profile, number: int) -> list[str]:
    """A storm, or a calm day, and what is left of it once all is healed."""
    customers = _customers(world, profile, number)
    duration_ms = SECOND_STORM_MS if number else profile.duration_ms
    Storm(world, list(profile.faults), profile.pace_ms, duration_ms)
    if profile.ring:
        end_ms = world.events.now_ms + duration_ms
        Operator(world, profile.ring, profile.ring_pace_ms, end_ms, profile.calm)
    world.run(duration_ms)
    for customer in customers:
        customer.stop()
    world.heal(within_ms=0 if profile.calm else 1000)
    world.run(100)
    if world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and all(c.client.idle for c in customers)):
        return []
    return ["after the storm the nodes do not find each other, or clients still wait"]


def _customers(world: World, profile: Profile, number: int) -> list[Customer]:
    kinds = b"p" if profile.calm else b"pdmx"
    keys = [b"%c%d" % (kinds[index % len(kinds)], index) for index in range(profile.keys)]
    customers = []
    for index in range(profile.customers):
        own = [b"p%d.%d" % (index, number) for number in range(3)] if profile.calm else keys
        name = f"c{index}" if not number else f"c{index}.{number}"
        hosts = world.hosts[:2] if profile.calm and profile.ring else world.hosts  # who leaves answers no more
        customers.append(Customer(world, name, hosts, own, profile.calm))
    return customers


def _converge(world: World) -> list[str]:
    """The cluster becomes whole by itself."""
    if not world.run_until(CONVERGE_MS_MAX, lambda: not world.differences()):
        return [f"does not converge: {difference}" for difference in world.differences()]
    world.trace("converged")
    if world.layout.effective_n > 1:  # else nobody else has what the only disk may not have synced
        world.losses.convergences.append((world.events.step, [member.id for member in world.layout.members]))
    return []


def _collect(world: World) -> list[str]:
    """What is dead by everybody's clock goes, and the disks are equal again."""

    def left() -> list[str]:
        wall_ms = EPOCH_MS + world.events.now_ms + min(host.skew_ms for host in world.hosts)
        return dead_records([host.disk for host in world.members()], wall_ms) + world.differences()

    return [] if world.run_until(COLLECT_MS_MAX, lambda: not left()) else left()


def _judge(world: World, profile: Profile) -> list[str]:
    history, members = world.history, world.members()
    rings = Rings([host.disk for host in world.hosts])
    attempts = 1 if all(fault in TALKATIVE for fault in profile.faults) and not profile.ring else 2
    attempts += "damaged record" in profile.faults  # a write first waits until the record is mended
    r, w, n = (min(getattr(layout, f"effective_{name}") for layout in rings.all) for name in "rwn")
    faults = answers.check_in_order(history)
    if faults:
        return faults  # what the answers say is not to be trusted
    faults += answers.check_in_time(
        history, world.hosts, world.events.now_ms, profile.config.request_timeout_ms, attempts
    )
    world.losses.of_nodes += [(0, node) for node in _of_another_side(world)]
    evidence = Evidence(world.log, [host.disk for host in members])
    forgotten = Forgotten(evidence, rings, world.wall_ms_at)
    writes = checkers.Writes(intents_of(history, w, n), evidence, forgotten)
    faults += rings.faults
    faults += forgotten.faults
    faults += checkers.check_dots(evidence, writes)
    faults += checkers.check_disks(evidence, writes)
    faults += checkers.check_acknowledged(writes, world.losses, rings)
    faults += checkers.check_gone(writes, world.losses)
    faults += checkers.check_refused(writes)
    faults += answers.check_contexts(history, evidence, writes, world.wall_ms_at)
    faults += answers.check_quorum_reads(history, writes, world.losses, r, rings)
    if profile.calm:
        faults += answers.check_calm(history)
        faults += [f"{key!r} has siblings" for key, known in evidence.final.items() if len(known.siblings) > 1]
    faults += _read_everything(world, evidence)
    faults += _ask_those_who_left(world)
    return faults + answers.check_values(history, writes)


def _of_another_side(world: World) -> list[str]:
    """Two sides that have removed each other are two clusters from then on: operators' doing, and only one is judged. Who
    is or was of the other one knows of changes that were never heard of here."""
    known = [change.id for change in world.layout.log]
    found = []
    for host in world.hosts:
        documents = [document for _, document, _ in host.disk.layouts if document is not None]
        if documents and host not in world.members():
            last = Layout.decode(documents[-1])
            if LAYOUT in host.disk.data or any(change.id not in known for change in last.log):
                found.append(host.id)
    return found


def _read_everything(world: World, evidence: Evidence) -> list[str]:
    """After the storm any node, asked with R=N, answers what all disks know together. What may expire may be missing;
    what has expired by the answering node's cluster time must be."""
    faults = []
    world.run_until(HEAL_MS_MAX, lambda: world.at_peace() and world.network.is_quick())
    for key in evidence.seen:
        known = evidence.final.get(key, NOTHING)
        host = world.rng.choice(world.members())
        values = [version for version in known.siblings.values() if version.kind == VALUE]
        may = {v.value for v in values if not v.is_dead(host.running.state.time_ms)}
        must = {v.value for v in values if not v.is_dead(world.wall_ms_at(world.events.now_ms + READ_MS_MAX))}
        for _ in range(3):  # a connection may still break over what was damaged under way
            read = world.ask(host, "DYN.GET", key, "R", world.layout.effective_n)
            if not read.error:
                break
        if read.error or not must <= set(read.reply[1]) <= may:
            faults.append(f"the disks know {sorted(must)} of {key!r}, but {read}")
    return faults


def _ask_those_who_left(world: World) -> list[str]:
    """Who is no member any more, and knows it, or has never been one, says so."""
    members = world.members()
    outsiders = [host for host in world.hosts if host not in members and LAYOUT not in host.disk.data]
    asked = [world.ask(host, "GET", "p") for host in outsiders]
    return [
        f"no member, and yet: {operation}"
        for operation in asked
        if "has left its cluster" not in operation.error and "not part of a cluster" not in operation.error
    ]
