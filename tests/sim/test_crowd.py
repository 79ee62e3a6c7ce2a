"""A large cluster costs each node no more than a bound that holds for any size, and models stand for whole nodes.

Time is virtual and chance comes from a seed, so the counts are the same in each run. `make thousand` measures up to 1,000
nodes.
"""

from __future__ import annotations

from dataclasses import replace

import pytest

from server.core.base.config import Config
from server.core.liveness.liveness import PeerState
from server.core.membership.views import PUBLISHED_MAX
from server.core.ring.layout import Layout
from tests.sim.crowd import LEAF_BITS, Crowd, even_owners, members_of

NODES, PARTITIONS = 30, 64
CONFIG = Config(tree_leaf_bits=LEAF_BITS, tick_ms=200)


def crowd_of(sample: int = 0) -> Crowd:
    """A crowd that has run for a while."""
    members = members_of(NODES)
    crowd = Crowd(
        Layout("c" * 40, 1, PARTITIONS, 3, 2, 2, members, even_owners(members, PARTITIONS)),
        config=CONFIG,
        sample=sample,
    )
    crowd.start()
    crowd.run(4)
    crowd.reset()
    return crowd


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    return crowd_of()


def messages_per_s(crowd: Crowd, seconds: int) -> float:
    """How many messages a whole node sends in a second."""
    crowd.reset()
    crowd.run(seconds)
    return sum(machine.meter.sent for machine in crowd.live()) / len(crowd.live()) / seconds


def test_an_idle_node_sends_a_bounded_number_of_messages(crowd: Crowd) -> None:
    for machine in crowd.live():
        assert all(machine.node.state.is_usable(peer) for peer in crowd.ends if peer != machine.id)
    assert messages_per_s(crowd, 3) <= 160, "tables to some random nodes and to the watched ones, seven messages each"


def test_models_cause_as_many_messages_as_whole_nodes(crowd: Crowd) -> None:
    sampled = crowd_of(sample=5)
    for machine in sampled.live():
        assert all(machine.node.state.is_usable(peer) for peer in sampled.ends if peer != machine.id)
    assert messages_per_s(sampled, 3) == pytest.approx(messages_per_s(crowd, 3), rel=0.15)


def test_a_layout_goes_to_a_few_and_reaches_all(crowd: Crowd) -> None:
    crowd.reset()
    following = replace(crowd.layout, epoch=2)
    maker = crowd.live()[0]
    maker.turn(lambda node: node.services.membership.make(following))

    def has_sent() -> bool:
        return maker.node.state.layout is not crowd.layout

    assert crowd.run_until(has_sent, 1000) >= 0
    crowd.events.run(4)
    assert sum(machine.meter.kinds[b"LAYOUT"] for machine in crowd.live()) == PUBLISHED_MAX, "gossip does the rest"

    def all_have_it() -> bool:
        layouts = [machine.node.state.layout for machine in crowd.live()]
        return all(layout is not None and layout.epoch == 2 for layout in layouts)

    assert crowd.run_until(all_have_it, 10_000) >= 0


def test_a_death_is_known_to_all(crowd: Crowd) -> None:
    gone = crowd.live()[NODES // 2]
    crowd.kill(gone)

    def all_know() -> bool:
        return all(machine.node.state.liveness.state(gone.id) is PeerState.DOWN for machine in crowd.live())

    assert 0 <= crowd.run_until(all_know, 20_000) <= 5000
