"""Where a key's requests run: per partition, the coordinator of its writes and who may serve its reads.

Theory. Both are pure functions of the layout (who owns) and of liveness (who can be reached): a write runs at the key's
first live owner, so that writes which follow each other in time follow each other in causality; a read runs here if
this node is an owner, else at the first live owner. Where no owner is live the first live fallback does both. Routes
change only when the layout or liveness changes, so they are computed for all partitions then, and the hot path is one
list index.

Requests of one turn that ask the same peers share one group (one message, one tally): a `Plan` is the place where the
group of this turn is found, one for each distinct set of fellow owners.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import TYPE_CHECKING

from server.core.layout import Layout

if TYPE_CHECKING:
    from server.core.reads import ReadGroup
    from server.core.writes import WriteGroup


class Plan:
    """The owners that a request asks, who stands in for those that are not live, and the groups that gather in the
    present turn, by quorum.

    `stand_ins` pairs each owner that is not live with the live fallback that keeps a hint for it; "" where none is left.
    """

    __slots__ = ("absent", "owned", "peers", "reading", "replicas", "stand_ins", "writing")

    def __init__(self, peers: tuple[str, ...], owned: bool, stand_ins: tuple[tuple[str, str], ...] = ()) -> None:
        self.peers = peers
        self.owned = owned
        self.replicas = len(peers) + owned
        self.stand_ins = stand_ins
        self.absent = tuple(owner for owner, _ in stand_ins)
        self.reading: dict[int, ReadGroup] = {}
        self.writing: dict[int, WriteGroup] = {}


class Route:
    """How one partition's requests go: `coordinator` and `reader` are None when they run on this node."""

    __slots__ = ("coordinator", "owned", "owners", "plan", "reader")

    def __init__(
        self, owners: tuple[str, ...], owned: bool, coordinator: str | None, reader: str | None, plan: Plan
    ) -> None:
        self.owners = owners
        self.owned = owned
        self.coordinator = coordinator
        self.reader = reader
        self.plan = plan

    def coordinator_for(self, relayed: bool) -> str | None:
        """Who runs a write that a client sent here, or another node relayed; None: this node.

        An owner runs what is relayed to it even if it holds another owner for the first live one: for a moment nodes may
        disagree about that, and a command passed on and on would help nobody. A node that is no owner passes a relayed
        command on to an owner that it can reach, and to nobody else.
        """
        if relayed and (self.owned or self.coordinator not in self.owners):
            return None
        return self.coordinator

    def reader_for(self, relayed: bool) -> str | None:
        """Who answers a read that a client sent here, or another node relayed; None: this node."""
        return None if relayed and self.reader not in self.owners else self.reader


def no_routes() -> list[Route]:
    """The single route of a node without a layout: nowhere."""
    return [Route((), False, "", "", Plan((), False))]


def build_routes(layout: Layout, self_id: str, is_live: Callable[[str], bool]) -> list[Route]:
    """One route a partition. Where no owner is live, the first live fallback coordinates, this node if need be."""
    live = {member.id: member.id == self_id or is_live(member.id) for member in layout.members}
    plans: dict[tuple[tuple[str, ...], tuple[tuple[str, str], ...]], Plan] = {}
    routes = []
    for partition, owners in enumerate(layout.owners):
        owned = self_id in owners
        first = next((owner for owner in owners if live[owner]), None)
        stand_ins: tuple[tuple[str, str], ...] = ()
        if (owned and not all(live[owner] for owner in owners)) or first is None:
            fallbacks = [node for node in layout.preference_list(partition)[len(owners) :] if live[node]]
            if first is None:
                first = fallbacks[0]
                fallbacks.sort(key=lambda node: node != self_id)  # the coordinator has the record anyway
            absent = [owner for owner in owners if not live[owner]]
            stand_ins = tuple(zip_longest(absent, fallbacks[: len(absent)], fillvalue=""))
        peers = tuple(sorted(owner for owner in owners if owner != self_id))
        plan = plans.get((peers, stand_ins))
        if plan is None:
            plan = plans[peers, stand_ins] = Plan(peers, owned, stand_ins)
        coordinator = None if first == self_id else first
        routes.append(Route(owners, owned, coordinator, None if owned else coordinator, plan))
    return routes
