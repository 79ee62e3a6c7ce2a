"""Nodes leave until fewer than N are left, and no read by a quorum misses what was acknowledged before; none is lost."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from server.core.membership.cleanup import Cleanup
from server.core.repair.anti_entropy import AntiEntropy
from server.core.ring import replica_change
from server.core.ring.layout import SETTLED, TRANSFER
from tests.sim.changes import settled, unfinished, watch_cleanup
from tests.sim.host import Host
from tests.sim.test_replica_changes import (
    ALONE,
    DONE_MS,
    Numbers,
    layout_of,
    missed,
    status_of,
    written_with_few_copies,
)
from tests.sim.world import World

# Who leaves in one commit, and R and W: with each of them all copies of a write may be on nodes that leave.
CASES = (((3, 3, 1), ("n3",)), ((3, 2, 2), ("n2", "n3")))


@pytest.fixture(autouse=True)
def nothing_else_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anti-entropy is off: it would copy the writes sooner, by chance."""
    monkeypatch.setattr(AntiEntropy, "_next_peer", lambda self: None)


def world_of(numbers: Numbers) -> World:
    n, r, w = numbers
    world = World(3, 3, ALONE, n=n, r=r, w=w)
    world.start()
    return world


def leave(world: World, names: tuple[str, ...]) -> dict[str, object]:
    n1 = world.hosts[0]
    for name in names:
        assert not world.ask(n1, "DYN.CLUSTER", "LEAVE", name).error
    plan: dict[str, object] = json.loads(world.ask(n1, "DYN.CLUSTER", "PLAN").reply)
    committed = world.ask(n1, "DYN.CLUSTER", "COMMIT", str(plan["epoch"]), "PLAN", str(plan["digest"]))
    assert not committed.error, committed.error
    return plan


def has_settled(hosts: list[Host]) -> Callable[[], bool]:
    return lambda: all(layout_of(host).phase == SETTLED for host in hosts)


@pytest.mark.parametrize(("numbers", "names"), CASES)
def test_reads_find_every_write_in_the_middle_and_afterwards(numbers: Numbers, names: tuple[str, ...]) -> None:
    world = world_of(numbers)
    let_go = watch_cleanup(world)
    written = written_with_few_copies(world, numbers)
    half = len(written) // 2
    plan = leave(world, names)
    assert "fewer than N=3 nodes would be left; the owners that stay compare their partitions" in str(plan["copies"])
    assert layout_of(world.hosts[0]).phase == TRANSFER
    assert not missed(world, written[:half])
    assert "N becomes" not in status_of(world, world.hosts[0])["summary"]
    staying = [host for host in world.hosts if host.member.name not in names]
    assert world.run_until(DONE_MS, has_settled(staying)), unfinished(world)
    found = [world.ask(staying[-1], "GET", key).reply for key in written[half:]]
    assert found == [b"value-" + key for key in written[half:]]
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert not let_go


@pytest.mark.parametrize(("numbers", "names"), CASES)
def test_without_the_former_numbers_a_read_misses_a_write(
    numbers: Numbers, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replica_change, "are_fewer", lambda owners, holding: False)
    monkeypatch.setattr(Cleanup, "_round", lambda self, layout: iter(()))
    world = world_of(numbers)
    written = written_with_few_copies(world, numbers)
    leave(world, names)
    staying = [host for host in world.hosts if host.member.name not in names]
    assert world.run_until(DONE_MS, has_settled(staying))
    found = [world.ask(staying[-1], "GET", key).reply for key in written]
    assert found.count(None) > len(written) // 8
