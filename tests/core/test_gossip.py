"""Which tables are answered when links open: in a large cluster only those that tell something new."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.core.membership.test_membership import Machine, layout_of, member


def asks(machine: Machine, peer: str) -> bool:
    """Whether the table that the peer is sent now wants an answer."""
    ((wants_answer,),) = {tuple(m[2] for m in machine.numbered()[peer] if m[0] == b"GOSSIP")}
    return wants_answer == b"1"


@pytest.mark.parametrize("members", [3, 40])
def test_a_peer_that_has_just_come_is_asked_for_no_table_in_a_large_cluster(members: int) -> None:
    names = [f"m{number}" for number in range(100, 100 + members - 1)]
    others = [replace(member("n2"), id=name, name=name, address=f"{name}:7") for name in names]
    layout = layout_of()
    known = [each for each in layout.members if each.id == "n1"]
    owners = tuple([("m100", "m101", "n1")] * layout.partitions)
    machine = Machine(layout=replace(layout, members=(*others, *known), owners=owners))
    machine.node.connected("m100", machine.now_ms)
    assert asks(machine, "m100"), "nothing was heard of it: is it alive?"
    machine.node.greeted("m101", machine.now_ms)
    machine.node.connected("m101", machine.now_ms)
    assert asks(machine, "m101") is (members == 3), "its own link brings its table anyway"
    machine.node.disconnected("m101", machine.now_ms)
    machine.turn()
    machine.node.connected("m101", machine.now_ms)
    assert asks(machine, "m101"), "it has said nothing since our link broke"
