"""A commit in the HANDOVER of a join: it waits for nodes that still read by TRANSFER, or their reads would miss writes."""

from __future__ import annotations

import json

import pytest

from protocol.slots import key_slot
from server.core.base.config import Config
from server.core.commands import membership_command
from server.core.membership.change_coordinator import ChangeCoordinator
from server.core.membership.membership import Membership
from server.core.repair.anti_entropy import AntiEntropy
from server.core.ring.layout import HANDOVER, SETTLED, TRANSFER, Layout
from tests.sim.changes import commit_at, join, settled, unfinished
from tests.sim.clients import Operation
from tests.sim.host import Host
from tests.sim.world import World

DONE_MS = 60_000
# Nothing copies what a write has left out before the reads: no hints within the test, no comparisons.
ALONE = Config(hint_after_ms=20_000, repair_interval_ms=86_400_000, request_timeout_ms=25_000)
KEYS = [b"key%d" % number for number in range(80)]


@pytest.fixture(autouse=True)
def no_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anti-entropy is off: it would copy the writes sooner, by chance."""
    monkeypatch.setattr(AntiEntropy, "_next_peer", lambda self: None)


def layout_of(host: Host) -> Layout:
    layout = host.running.state.layout
    assert layout is not None
    return layout


def in_handover(monkeypatch: pytest.MonkeyPatch, r: int = 2, w: int = 2) -> World:
    """Three nodes and n4, which has joined and takes partitions from n1 alone, as both are in one zone. The HANDOVER, and
    what follows it, does not reach n1 while `Membership.offer` is patched."""
    world = World(7, 3, ALONE, r=r, w=w)
    world.start()
    n1 = world.hosts[0]
    offer = Membership.offer

    def hold_back(self: Membership, layout: Layout) -> None:
        if n1.node is None or self is not n1.running.services.membership or layout.phase == TRANSFER:
            offer(self, layout)

    monkeypatch.setattr(Membership, "offer", hold_back)
    commit_at(n1, join(world.add_host()))
    others = world.hosts[1:]
    # n1 coordinates the change, and would adopt the next phase as the one who makes it.
    monkeypatch.setattr(ChangeCoordinator, "_is_mine", lambda self, layout: self._state.id == others[0].id)
    assert world.run_until(DONE_MS, lambda: all(layout_of(host).phase == HANDOVER for host in others))
    assert world.run_until(DONE_MS, world.at_peace)
    assert layout_of(n1).phase == TRANSFER
    return world


def commit_another_weight(world: World) -> Operation:
    n2 = world.hosts[1]
    assert not world.ask(n2, "DYN.CLUSTER", "WEIGHT", "n2", 2).error
    plan = json.loads(world.ask(n2, "DYN.CLUSTER", "PLAN").reply)
    return world.ask(n2, "DYN.CLUSTER", "COMMIT", plan["epoch"], "PLAN", plan["digest"])


def missed(world: World, value: bytes) -> list[bytes]:
    """Keys that n2 and n4 acknowledge while nothing gets from them to n3, and that n1 does not find then."""
    n1, n2, n3, n4 = world.hosts
    layout = layout_of(n2)
    for sender in (n2, n4):
        world.network.cut(sender.id, n3.id)
    acknowledged, found = 0, []
    for key in KEYS:
        owners = layout.owners[layout.partition_of(key_slot(key))]
        if n1.id in owners or owners[0] == n3.id:
            continue
        if world.ask(world.host(owners[0]), "SET", key, value, within_ms=300).reply == b"OK":
            acknowledged += 1
            found += [] if world.ask(n1, "GET", key).reply == value else [key]
    assert acknowledged > 5
    for sender in (n2, n4):
        world.network.mend(sender.id, n3.id)
    return found


def test_a_commit_waits_for_a_node_that_still_reads_from_the_former_owners(monkeypatch: pytest.MonkeyPatch) -> None:
    world = in_handover(monkeypatch)
    assert not missed(world, b"first")
    refused = commit_another_weight(world).error
    assert refused.startswith(
        "ERR at the end of a change, the next commit is taken only when every node has adopted the layout of epoch 2, and "
        "n1 did not say so: commit again in a second if it is up"
    )
    world.run(2000)
    assert not missed(world, b"second"), "nothing has changed"
    monkeypatch.undo()
    assert world.run_until(DONE_MS, lambda: layout_of(world.hosts[0]).phase != TRANSFER)
    assert not world.ask(world.hosts[1], "DYN.CLUSTER", "COMMIT", 3).error
    assert world.run_until(DONE_MS, settled(world)), unfinished(world)
    assert {(layout_of(host).epoch, layout_of(host).phase) for host in world.hosts} == {(3, SETTLED)}


@pytest.mark.parametrize("command", [("WEIGHT", "n2", 2), ("REMOVE", "n1")])
def test_a_node_that_is_down_holds_up_no_commit(
    command: tuple[str | int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = in_handover(monkeypatch)
    n1, n2, *_ = world.hosts
    monkeypatch.setattr(ChangeCoordinator, "_is_mine", lambda self, layout: False)  # else HANDOVER is over by then
    n1.kill()
    world.run(15_000)
    assert layout_of(n2).phase == HANDOVER
    assert not world.ask(n2, "DYN.CLUSTER", *command).error
    assert not world.ask(n2, "DYN.CLUSTER", "COMMIT", 3).error


def test_without_the_question_that_node_misses_acknowledged_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    world = in_handover(monkeypatch)
    monkeypatch.setattr(membership_command, "check_members", lambda services, layout, changes: iter(()))
    assert not missed(world, b"first")
    assert not commit_another_weight(world).error
    world.run(500)
    assert missed(world, b"second")
