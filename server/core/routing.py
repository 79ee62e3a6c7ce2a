"""Where a key's requests run: per partition, the coordinator of its writes and who may serve its reads.

Theory. Both are pure functions of the layout (who owns) and of liveness (who can be reached): a write runs at the key's
first live owner, so that writes which follow each other in time follow each other in causality; a read runs here if
this node is an owner, else at the first live owner. They change only when the layout or liveness changes, so they are
computed for all partitions then, and the hot path is one list index.

Requests of one turn that ask the same peers share one group (one message, one tally): a `Plan` is the place where the
group of this turn is found, one for each distinct set of fellow owners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from server.core.layout import Layout

if TYPE_CHECKING:
    from server.core.reads import ReadGroup
    from server.core.writes import WriteGroup


class Plan:
    """The fellow owners that a request asks, and the groups that gather for them in the present turn, by quorum."""

    __slots__ = ("peers", "reading", "writing")

    def __init__(self, peers: tuple[str, ...]) -> None:
        self.peers = peers
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
        disagree about that, and a command passed on and on would help nobody.
        """
        return None if relayed and self.owned else self.coordinator


def no_routes() -> list[Route]:
    """The single route of a node without a layout: nowhere."""
    return [Route((), False, "", "", Plan(()))]


def build_routes(layout: Layout, self_id: str, is_live: Callable[[str], bool]) -> list[Route]:
    """One route a partition. When no owner is believed live, the first one is tried all the same."""
    plans: dict[tuple[str, ...], Plan] = {}
    routes = []
    for owners in layout.owners:
        peers = tuple(sorted(owner for owner in owners if owner != self_id))
        plan = plans.get(peers)
        if plan is None:
            plan = plans[peers] = Plan(peers)
        owned = self_id in owners
        first = next((owner for owner in owners if owner == self_id or is_live(owner)), owners[0])
        coordinator = None if first == self_id else first
        routes.append(Route(owners, owned, coordinator, None if owned else first, plan))
    return routes
