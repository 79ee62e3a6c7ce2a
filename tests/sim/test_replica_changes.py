"""N changes, and no read by a quorum misses an acknowledged write, at any step; none is lost, whoever goes or stays."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from protocol.slots import key_slot
from server.core.base.config import Config
from server.core.base.quorum import Tally
from server.core.base.routing import Plan
from server.core.membership.cleanup import Cleanup
from server.core.membership.transfers import Transfers
from server.core.repair.anti_entropy import AntiEntropy
from server.core.ring.change import READ_QUORUM, REPLICA_COUNT, WRITE_QUORUM, Change
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout
from server.core.ring.layout_fields import LayoutFields
from tests.sim.changes import commit_at, join, settled, unfinished, watch_cleanup
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.runs import Profile, run
from tests.sim.runs import config as runs_config
from tests.sim.seeds import seeds
from tests.sim.world import World

DONE_MS = 60_000
# Nothing but the transfer copies what a write has left out: no hints, no comparisons, no read repair before the reads.
ALONE = Config(hints_bytes_max=0, repair_interval_ms=86_400_000)
CHANGES = (((3, 2, 2), (5, 3, 3)), ((5, 3, 3), (3, 2, 2)), ((3, 2, 2), (2, 1, 2)), ((2, 2, 1), (3, 2, 2)))
Numbers = tuple[int, int, int]

_count = itertools.count()


def layout_of(host: Host) -> Layout:
    layout = host.running.state.layout
    assert layout is not None
    return layout


def world_of(numbers: Numbers, config: Config = ALONE, seed: int = 3) -> World:
    n, r, w = numbers
    world = World(seed, 5, config, n=n, r=r, w=w)
    world.start()
    return world


def stage(world: World, host: Host, numbers: Numbers) -> Operation:
    n, r, w = numbers
    return world.ask(host, "DYN.CLUSTER", "QUORUM", "N", n, "R", r, "W", w)


def change(world: World, host: Host, numbers: Numbers) -> dict[str, Any]:
    """An operator stages N, R and W, looks at the plan and commits it. Returns the plan."""
    staged = stage(world, host, numbers)
    assert not staged.error, staged.error
    plan: dict[str, Any] = json.loads(world.ask(host, "DYN.CLUSTER", "PLAN").reply)
    committed = world.ask(host, "DYN.CLUSTER", "COMMIT", plan["epoch"], "PLAN", plan["digest"])
    assert not committed.error, committed.error
    return plan


def is_done(world: World, numbers: Numbers) -> Callable[[], bool]:
    """A condition: all nodes have these numbers, and no phase is under way."""

    def check() -> bool:
        layouts = [layout_of(host) for host in world.hosts if host.node is not None]
        return all(((each.n, each.r, each.w), each.phase) == (numbers, SETTLED) for each in layouts)

    return check


def paths(ones: Sequence[Host], others: Sequence[Host]) -> list[tuple[str, str]]:
    both = [(one.id, other.id) for one in ones for other in others]
    return both + [(other, one) for one, other in both]


def split(world: World, ones: Sequence[Host]) -> Callable[[], None]:
    """Cuts these hosts off from the others. The result mends it."""
    cut = paths(ones, [host for host in world.hosts if host not in ones])
    for path in cut:
        world.network.cut(*path)

    def mend() -> None:
        for path in cut:
            world.network.mend(*path)

    return mend


def written_with_few_copies(world: World, numbers: Numbers) -> list[bytes]:
    """Writes keys that are on W of their owners and on no others. Which owners lack them differs from key to key."""
    n, _, w = numbers
    written = []
    for away in itertools.combinations(world.hosts, n - w):
        mend = split(world, away)
        world.run(8000)  # all take each other for down
        there = [host for host in world.hosts if host not in away]
        for number in range(12):
            key = b"key-%d-%d" % (len(written), number)
            lacks = len([host for host in world.owners(key) if host in away]) == n - w
            if lacks and world.ask(there[number % len(there)], "SET", key, b"value-" + key).reply == b"OK":
                written.append(key)
        mend()
        assert world.run_until(DONE_MS, world.at_peace)
    for host in world.hosts:  # the transfer waits for them: but W owners have acknowledged each write without a hint
        host.running.state.hints.dropped_hints.clear()
    assert len(written) > 10
    return written


def missed(world: World, written: list[bytes]) -> list[str]:
    """Acknowledged writes that are missed by a read. Each read is the first of its key, at another node for each key."""
    return [
        f"{host.member.name} misses {key!r}"
        for number, key in enumerate(written)
        for host in [world.hosts[number % len(world.hosts)]]
        if world.ask(host, "GET", key).reply != b"value-" + key
    ]


@pytest.fixture(autouse=True)
def no_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anti-entropy is off: it would copy the writes sooner, by chance."""
    monkeypatch.setattr(AntiEntropy, "_next_peer", lambda self: None)


@pytest.mark.parametrize(("before", "after"), CHANGES)
def test_no_read_misses_what_was_acknowledged_with_other_numbers(before: Numbers, after: Numbers) -> None:
    world = world_of(before)
    let_go = watch_cleanup(world)
    written = written_with_few_copies(world, before)
    plan = change(world, world.hosts[1], after)
    assert plan["n"] == [before[0], after[0]] and ("drops" in plan) == (after[0] < before[0])
    assert bool(plan["moves"]) == (after[0] > before[0])
    assert world.run_until(DONE_MS, is_done(world, after)), unfinished(world)
    assert not missed(world, written)
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert not let_go
    status = json.loads(world.ask(world.hosts[2], "DYN.CLUSTER", "STATUS").reply)
    assert (status["n"], status["r"], status["w"]) == after and "change" not in status


def _be_whole_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Transfers, "_is_whole", lambda self: True)
    patch.setattr(Transfers, "_fetch_all", lambda self, layout: iter(()))  # it has not come to it yet


def _let_those_that_stay_fetch_nothing(patch: pytest.MonkeyPatch) -> None:
    def fetching(self: LayoutFields, partition: int) -> tuple[str, ...]:
        former = self.former_owners(partition)
        return tuple(owner for owner in self.owners[partition] if owner not in former)

    patch.setattr(LayoutFields, "fetching", fetching)


BUGS = (
    (_be_whole_at_once, CHANGES[0]),
    (_be_whole_at_once, CHANGES[1]),
    (_let_those_that_stay_fetch_nothing, CHANGES[1]),
    (_let_those_that_stay_fetch_nothing, CHANGES[2]),
)


@pytest.mark.parametrize(("bug", "numbers"), BUGS)
def test_without_one_of_the_rules_a_read_misses_a_write(
    bug: Callable[[pytest.MonkeyPatch], None], numbers: tuple[Numbers, Numbers], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    monkeypatch.setattr(Cleanup, "_round", lambda self, layout: iter(()))  # it would push them to those that stay
    before, after = numbers
    world = world_of(before)
    written = written_with_few_copies(world, before)
    change(world, world.hosts[1], after)
    assert world.run_until(DONE_MS, is_done(world, after))
    assert missed(world, written)


def test_the_checker_sees_a_cluster_that_drops_copies_before_the_owners_that_stay_have_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def confirm(
        self: Cleanup, layout: Layout, keepers: Sequence[str], batch: dict[bytes, bytes]
    ) -> Generator[Any, Any, dict[bytes, bytes]]:
        yield self._background.sleep(1)
        return batch

    _be_whole_at_once(monkeypatch)
    monkeypatch.setattr(Cleanup, "_confirm", confirm)
    world = world_of((5, 3, 3))
    let_go = watch_cleanup(world)
    written = written_with_few_copies(world, (5, 3, 3))
    change(world, world.hosts[1], (3, 2, 2))
    assert world.run_until(DONE_MS, is_done(world, (3, 2, 2)))
    world.run(5000)
    assert let_go and missed(world, written)


@pytest.mark.parametrize(("before", "after"), [*CHANGES[:2], ((3, 2, 2), (2, 2, 1)), CHANGES[3]])
def test_under_load_and_kills_every_read_finds_the_last_write(before: Numbers, after: Numbers) -> None:
    """One node after the other is killed and comes back. A key has one writer; who reads is another node each time.

    R is 2 at least: a read of one owner may miss what a stand-in has acknowledged for it while it was down."""
    world = world_of(before, Config())
    let_go = watch_cleanup(world)
    acknowledged: dict[bytes, bytes] = {}
    unknown: dict[bytes, list[bytes]] = {}
    change(world, world.hosts[0], after)
    for count in range(160):
        victim = world.hosts[count // 20 % 5]
        if count % 20 == 5:
            victim.kill()
        if count % 20 == 15:
            victim.start()
        running = [host for host in world.hosts if host.node is not None]
        key, value = b"k%d" % (count % 20), b"%d" % count
        writer, reader = running[count % len(running)], running[(count + 1) % len(running)]
        if world.ask(writer, "SET", key, value).reply == b"OK":
            acknowledged[key], unknown[key] = value, []
        else:
            unknown.setdefault(key, []).append(value)
        read = world.ask(reader, "GET", key)
        assert read.error or read.reply in (acknowledged.get(key), *unknown[key]), f"{count}: {read}"
        world.run(60)
    assert len(acknowledged) == 20
    assert world.run_until(DONE_MS, is_done(world, after)), unfinished(world)
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    for number, (key, value) in enumerate(acknowledged.items()):
        assert world.ask(world.hosts[number % 5], "GET", key).reply in (value, *unknown[key])
    assert not let_go


@pytest.mark.parametrize("is_one_sum", [False, True])
def test_a_write_in_the_middle_needs_both_sets_of_owners(is_one_sum: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """New owners that a write does not reach are found missing, unless the write is refused or a hint delays the change."""
    if is_one_sum:  # the bug
        monkeypatch.setattr(Plan, "tally", lambda self, wanted: Tally(self.replicas, min(wanted, self.replicas)))
    world = world_of((5, 3, 3), Config(hint_after_ms=4000, request_timeout_ms=3000))
    monkeypatch.setattr(Transfers, "_is_whole", lambda self: False)
    change(world, world.hosts[0], (3, 2, 2))
    assert world.run_until(5000, lambda: all(layout_of(host).phase == TRANSFER for host in world.hosts))
    layout = layout_of(world.hosts[0])
    partition = next(p for p in range(layout.partitions) if layout.former_owners(p)[0] not in layout.owners[p])
    first = world.host(layout.former_owners(partition)[0])
    keys = [b"k%d" % number for number in range(400)]
    key = next(key for key in keys if layout.partition_of(key_slot(key)) == partition)
    for node in layout.owners[partition][1:]:
        world.network.cut(first.id, node)
    operation = world.client(first).send([b"SET", key, b"value"])[0]
    world.run(400)
    assert operation.answered == is_one_sum, (
        "the two that go and one that stays are W of five, but no W of those that stay"
    )


def numbers_changes(numbers: Numbers) -> list[Change]:
    kinds = (REPLICA_COUNT, READ_QUORUM, WRITE_QUORUM)
    return [Change(f"n{next(_count)}", kind, "", weight=each) for kind, each in zip(kinds, numbers, strict=True)]


@pytest.mark.parametrize("others", [(2, 2, 1), (4, 3, 2)])
@pytest.mark.parametrize("is_split", [False, True])
def test_two_operators_change_n_at_the_same_time(others: Numbers, is_split: bool) -> None:
    """By the commands only at the same moment; here also on two sides, which a command refuses, for the worst."""
    world = world_of((3, 2, 2), Config() if is_split else ALONE)
    let_go = watch_cleanup(world)
    written = [] if is_split else written_with_few_copies(world, (3, 2, 2))
    n1, n2, *_ = world.hosts
    mend = split(world, world.hosts[:2]) if is_split else lambda: None
    commit_at(n1, *numbers_changes((5, 3, 3)))
    commit_at(world.hosts[-1], *numbers_changes(others))
    if is_split:
        world.run(3000)
        for number in range(20):
            for host in (n2, world.hosts[-1]):
                key = b"%s-%d" % (host.member.name.encode(), number)
                if world.ask(host, "SET", key, b"value-" + key).reply == b"OK":
                    written.append(key)
    mend()
    assert world.run_until(DONE_MS, is_done(world, (5, 3, 3))), [layout_of(host).version for host in world.hosts]
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert not missed(world, written) and not let_go


def test_n_of_one_side_meets_a_join_of_the_other() -> None:
    world = world_of((3, 2, 2))
    written = written_with_few_copies(world, (3, 2, 2))
    n1 = world.hosts[0]
    n6 = world.add_host()
    mend = split(world, world.hosts[:2])
    commit_at(n1, *numbers_changes((5, 3, 3)))
    commit_at(world.hosts[2], join(n6))
    world.run(20_000)
    mend()
    assert world.run_until(DONE_MS, is_done(world, (5, 3, 3))), [layout_of(host).version for host in world.hosts]
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert len(world.members()) == 6
    assert not missed(world, written)


def status_of(world: World, host: Host) -> dict[str, Any]:
    status: dict[str, Any] = json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)
    return status


def test_the_change_waits_for_a_node_that_is_down_until_it_is_removed() -> None:
    world = world_of((3, 2, 2), Config())
    n1, n2, *_, n5 = world.hosts
    assert world.ask(n1, "SET", "key", "value").reply == b"OK"
    assert not stage(world, n1, (4, 3, 2)).error
    n5.kill()
    assert world.run_until(DONE_MS, lambda: not world.sees(n1, n5))
    assert "n5 did not say so" in world.ask(n1, "DYN.CLUSTER", "COMMIT", 2).error
    n5.start()
    assert world.run_until(DONE_MS, world.at_peace)
    assert not world.ask(n1, "DYN.CLUSTER", "COMMIT", 2).error
    n5.kill()
    world.run(20_000)
    status = status_of(world, n2)
    assert status["change"]["waits_for"] == ["n5"] and status["change"]["numbers"] == {"n": 4, "r": 3, "w": 2}
    assert (status["n"], status["r"], status["w"]) == (3, 2, 2), "reads still go to three"
    assert "N becomes 4 with R=3 and W=2" in status["summary"] and "dyn cluster remove n5" in status["summary"]
    assert world.ask(n2, "GET", "key").reply == b"value"
    assert not world.ask(n1, "DYN.CLUSTER", "REMOVE", "n5").error
    assert not world.ask(n1, "DYN.CLUSTER", "COMMIT", 3).error
    running = [host for host in world.hosts if host is not n5]
    assert world.run_until(DONE_MS, lambda: all(layout_of(host).phase == SETTLED for host in running))
    assert (layout_of(n1).n, layout_of(n1).effective_n) == (4, 4)
    assert world.ask(n2, "GET", "key").reply == b"value"


def test_in_the_handover_nothing_is_committed_until_all_that_stay_have_adopted_it() -> None:
    world = world_of((3, 2, 2), Config())
    n1, n2, *_, n5 = world.hosts
    change(world, n1, (4, 3, 2))
    assert world.run_until(DONE_MS, lambda: any(layout_of(host).phase == HANDOVER for host in world.hosts))
    n5.kill()
    world.run(20_000)
    assert layout_of(n1).phase == HANDOVER and status_of(world, n2)["change"]["waits_for"] == ["n5"]
    assert not world.ask(n1, "DYN.CLUSTER", "LEAVE", "n2").error
    refused = world.ask(n1, "DYN.CLUSTER", "COMMIT", 3).error
    assert "the next commit is taken only when every node has adopted the layout of epoch 2, and n5" in refused
    assert not world.ask(n1, "DYN.CLUSTER", "ABORT").error
    assert not world.ask(n1, "DYN.CLUSTER", "REMOVE", "n5").error
    assert not world.ask(n1, "DYN.CLUSTER", "COMMIT", 3).error
    running = [host for host in world.hosts if host is not n5]
    assert world.run_until(DONE_MS, lambda: all(layout_of(host).phase == SETTLED for host in running))


def test_an_operator_pauses_it_and_goes_back_to_the_former_owners() -> None:
    world = world_of((3, 2, 2), Config(background_keys_per_s=20, background_keys_per_s_idle=20))
    n1, n2, *_ = world.hosts
    keys = [b"k%d" % number for number in range(200)]
    assert all(world.ask(n1, "SET", key, b"value-" + key).reply == b"OK" for key in keys)
    owners = [set(row) for row in layout_of(n1).owners]
    change(world, n1, (5, 3, 3))

    def pauses() -> bool:
        reply = world.ask(n2, "DYN.TASK", "PAUSE").reply
        return isinstance(reply, bytes) and bool(json.loads(reply))  # an error: no transfer runs yet

    assert world.run_until(DONE_MS, pauses)
    world.run(60_000)
    assert layout_of(n1).phase == TRANSFER and status_of(world, n2)["change"]["paused"]
    change(world, n2, (3, 2, 2))
    assert world.run_until(DONE_MS, is_done(world, (3, 2, 2))), unfinished(world)
    assert [set(row) for row in layout_of(n1).owners] == owners
    assert not missed(world, keys)


@pytest.mark.parametrize("seed", seeds(4, 8))
def test_n_changes_in_a_storm(seed: int) -> None:
    """Without the commands' checks: N changes at nodes that are cut off and behind, while others join and leave."""
    others = (("join", "leave"), ("split",), ("replace",), ())[seed % 4]
    profile = Profile(
        5, 4, 5, ("cut", "kill", "slow path"), 500, 6000, runs_config(), collects=False, ring=("n", "n", *others),
        ring_pace_ms=1200,
    )  # fmt: skip
    verdict = run(seed, profile)
    assert not verdict.faults, (verdict.summary(), verdict.faults[:5])
