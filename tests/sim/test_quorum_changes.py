"""R and W change, and no read by a quorum misses an acknowledged write, at any step of the change."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from server.core.base.config import Config
from server.core.membership.full_repair import FullRepair
from server.core.repair.anti_entropy import AntiEntropy
from server.core.ring import succession
from server.core.ring.layout import SETTLED, TRANSFER, Layout
from server.core.ring.layout_fields import LayoutFields
from tests.sim.changes import commit_at, join, settled, unfinished
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.world import World

DONE_MS = 60_000
# Nothing but the full repair copies what a write has left out: no hints, no comparisons, no read repair before the reads.
ALONE = Config(hints_bytes_max=0, repair_interval_ms=86_400_000)
KEYS = [b"key%d" % number for number in range(60)]


def stage(world: World, host: Host, name: str, number: int) -> Operation:
    return world.ask(host, "DYN.CLUSTER", "QUORUM", name, number)


def change(world: World, host: Host, name: str, number: int) -> Operation:
    """An operator stages another R or W, looks at the plan and commits it."""
    staged = stage(world, host, name, number)
    assert not staged.error, staged.error
    plan = json.loads(world.ask(host, "DYN.CLUSTER", "PLAN").reply)
    committed = world.ask(host, "DYN.CLUSTER", "COMMIT", plan["epoch"], "PLAN", plan["digest"])
    if not committed.error:
        assert world.run_until(DONE_MS, lambda: all_have(world, name, number))
    return committed


def all_have(world: World, name: str, number: int) -> bool:
    layouts = [host.running.state.layout for host in world.hosts if host.node is not None]
    return all(layout is not None and {"R": layout.r, "W": layout.w}[name] == number for layout in layouts)


def written_with_few_copies(world: World) -> list[bytes]:
    """Writes keys of which each node is the only owner that has them, and acknowledges them all the same."""
    paths = [(one.id, other.id) for one in world.hosts for other in world.hosts if one is not other]
    for path in paths:
        world.network.cut(*path)
    world.run(8000)  # all take each other for down
    written = []
    for number, key in enumerate(KEYS):
        if world.ask(world.hosts[number % 3], "SET", key, b"value-" + key).reply == b"OK":
            written.append(key)
    for path in paths:
        world.network.mend(*path)
    assert len(written) > 20
    assert world.run_until(DONE_MS, world.at_peace)
    return written


def missed(world: World, written: list[bytes]) -> list[str]:
    """Acknowledged writes that are missed by reads at another node than the one that has written them. Each read is the
    first of its key."""
    return [
        f"{host.member.name} misses {key!r}"
        for number, key in enumerate(written)
        for host in [world.hosts[(number + 1) % 3]]
        if world.ask(host, "GET", key).reply != b"value-" + key
    ]


def world_of(r: int, w: int) -> World:
    world = World(3, 3, ALONE, r=r, w=w)
    world.start()
    return world


def layout_of(host: Host) -> Layout:
    layout = host.running.state.layout
    assert layout is not None
    return layout


def is_repaired(world: World) -> bool:
    return all(layout_of(host).written_w == 0 for host in world.hosts)


def summary_of(world: World, host: Host) -> tuple[str, str]:
    status = json.loads(world.ask(host, "DYN.CLUSTER", "STATUS").reply)
    return status["verdict"], status["summary"]


@pytest.fixture(autouse=True)
def no_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anti-entropy is off: it would copy the writes sooner, by chance."""
    monkeypatch.setattr(AntiEntropy, "_next_peer", lambda self: None)


def test_a_plan_without_the_promise_says_so_and_reads_do_miss_writes_then() -> None:
    """An operator may want that. The test also shows that these checks see a read that misses a write."""
    world = world_of(3, 1)
    written = written_with_few_copies(world)
    assert not stage(world, world.hosts[0], "R", 2).error
    plan = json.loads(world.ask(world.hosts[0], "DYN.CLUSTER", "PLAN").reply)
    assert (plan["r"], plan["w"], plan["moves"]) == ([3, 2], [1, 1], [])
    assert plan["changes"] == [{"change": "read_quorum", "node": "", "quorum": 2}]
    assert plan["quorums"] == "R=2 and W=1 are not more than N=3 together: reads may miss acknowledged writes"
    assert not world.ask(world.hosts[0], "DYN.CLUSTER", "COMMIT", plan["epoch"], "PLAN", plan["digest"]).error
    assert world.run_until(DONE_MS, lambda: all_have(world, "R", 2))
    assert missed(world, written)


def test_r_is_lowered_only_once_the_writes_of_a_smaller_w_have_been_copied() -> None:
    world = world_of(3, 1)
    n1, n2, n3 = world.hosts
    written = written_with_few_copies(world)
    assert not stage(world, n2, "W", 2).error
    refused = stage(world, n1, "R", 2).error
    assert "first stage `dyn config set w 2` and commit that, then `dyn config set r 2`" in refused
    n3.kill()
    assert world.run_until(DONE_MS, lambda: not world.sees(n1, n3))
    assert "n3 did not say so" in world.ask(n1, "DYN.CLUSTER", "COMMIT", 2).error, "a node might use an older layout"
    n3.start()
    assert world.run_until(DONE_MS, world.at_peace)
    assert not world.ask(n1, "DYN.CLUSTER", "COMMIT", 2).error
    assert world.run_until(DONE_MS, lambda: all_have(world, "W", 2))
    n3.kill()
    assert [layout_of(host).written_w for host in (n1, n2)] == [1, 1]
    world.run(20_000)
    assert [layout_of(host).written_w for host in (n1, n2)] == [1, 1], "n3 may have the only copy of a write"
    assert "wait until they have been copied to all owners" in stage(world, n1, "R", 2).error
    summary = summary_of(world, n1)[1]
    assert "writes from before W was raised have W=1 copies" in summary and "every read by R finds them" in summary
    n3.start()
    assert world.run_until(DONE_MS, lambda: is_repaired(world))
    assert not change(world, n1, "R", 2).error
    assert not missed(world, written)
    assert "before W was raised" not in summary_of(world, n2)[1]


def test_a_cluster_that_begins_to_promise_it_is_degraded_until_the_promise_holds() -> None:
    world = world_of(2, 1)
    n1, _, n3 = world.hosts
    written = written_with_few_copies(world)
    assert not stage(world, n1, "W", 2).error
    plan = json.loads(world.ask(n1, "DYN.CLUSTER", "PLAN").reply)
    assert plan["quorums"].startswith("reads by R=2 may miss writes that were acknowledged with W=1, until these")
    assert not world.ask(n1, "DYN.CLUSTER", "COMMIT", 2).error
    n3.kill()
    world.run(10_000)
    assert "reads by R=2 may miss them" in summary_of(world, n1)[1]
    n3.start()
    assert world.run_until(DONE_MS, lambda: is_repaired(world))
    assert not missed(world, written)


def _forget_older_writes(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(succession, "written_w_after", lambda before, w: 0)


def _compare_with_nobody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(FullRepair, "_is_done", lambda self, layout: True)


def _let_every_change_pass(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(succession, "fault_of", lambda present, r, w: "")
    patch.setattr(FullRepair, "_repair", lambda self, layout: iter(()))  # it has not come to it yet


@pytest.mark.parametrize("bug", [_forget_older_writes, _compare_with_nobody, _let_every_change_pass])
def test_without_one_of_the_rules_a_read_misses_a_write(
    bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)
    world = world_of(3, 1)
    written = written_with_few_copies(world)
    assert not change(world, world.hosts[0], "W", 2).error
    world.run(5000)
    assert not change(world, world.hosts[1], "R", 2).error
    assert missed(world, written)


@pytest.mark.parametrize("by_present_w", [False, True])
def test_a_new_owner_fetches_from_all_that_may_have_the_only_copy(
    by_present_w: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W is 2 by now, but what was written with W=1 is on one of the former owners, and that may be the one that is down."""
    if by_present_w:  # the bug: the new owner is content with N - W + 1 = 2 of them
        monkeypatch.setattr(LayoutFields, "least_w", property(lambda self: self.w))
    world = world_of(3, 1)
    n1, _, n3 = world.hosts
    written = written_with_few_copies(world)
    assert not change(world, n1, "W", 2).error
    n3.kill()
    n4 = world.add_host()
    commit_at(n1, join(n4))
    world.run(40_000)
    assert layout_of(n1).phase == (SETTLED if by_present_w else TRANSFER)
    if not by_present_w:
        n3.start()
        assert world.run_until(DONE_MS, settled(world)), unfinished(world)[:5]
        assert world.run_until(DONE_MS, lambda: is_repaired(world))
        assert not missed(world, written)


def test_keys_are_served_and_none_is_lost_while_r_and_w_go_round() -> None:
    """From (2, 2) to (3, 3), (3, 1), (3, 3), (1, 3) and back, through other nodes each time, under writes."""
    world = World(5, 4, Config())
    world.start()
    written: dict[bytes, bytes] = {}
    steps = [("R", 3), ("W", 3), ("W", 1), ("W", 3), ("R", 1), ("R", 2), ("W", 2)]
    for number, (name, quorum) in enumerate(steps):
        host = world.hosts[number % 4]
        assert not stage(world, host, name, quorum).error
        plan = json.loads(world.ask(host, "DYN.CLUSTER", "PLAN").reply)
        clients = [world.client(each) for each in world.hosts]
        assert not world.ask(host, "DYN.CLUSTER", "COMMIT", plan["epoch"]).error
        for count in range(30):
            key, value = b"k%d" % (count % 10), b"%d-%d" % (number, count)
            operation = clients[count % 4].send([b"SET", key, value])[0]
            assert world.run_until(5000, lambda operation=operation: operation.answered)
            if operation.reply == b"OK":
                written[key] = value
            assert world.ask(world.hosts[(count + 1) % 4], "GET", key).reply == written[key]
        assert world.run_until(DONE_MS, lambda: all_have(world, name, quorum) and is_repaired(world))  # noqa: B023
    assert {(layout_of(host).r, layout_of(host).w) for host in world.hosts} == {(2, 2)}
