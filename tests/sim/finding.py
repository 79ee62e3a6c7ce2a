"""How nodes that have moved find each other, as server/shell/finding.py does it.

Where all nodes of a cluster have other addresses than before nobody reaches anybody without that: so a cluster that is
healed (World.heal) has seeds, as one has that is run by a careful operator.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from server.core.operators.documents import myself
from tests.sim.host import Host

if TYPE_CHECKING:
    from tests.sim.world import World

LOOK_MS = 500


def look_out(world: World, seeds: Callable[[Host], Sequence[str]]) -> None:
    """Begins to do that on all machines, for good: who misses members asks at its seeds, and where others were."""
    for host in world.hosts:
        if host.node is not None and not host.frozen and host.running.services.addresses.missing():
            for address in dict.fromkeys([*seeds(host), *host.running.services.addresses.places()]):
                _ask(world, host, address)
    world.events.after(LOOK_MS, lambda: look_out(world, seeds))


def _ask(world: World, host: Host, address: str) -> None:
    there = world.at(address)
    if there is None or there.node is None or there.frozen or not world.network.round_trip_works(host.id, there.id):
        return
    told = myself(there.running.services)
    host.deliver("finding", partial(host.running.services.addresses.found, address, told))
    if host.running.services.addresses.is_ahead(told):
        here = host.running.state.member.address
        there.deliver("finding", partial(there.running.services.addresses.found, here, myself(host.running.services)))
