"""Where a key's requests run: per partition, the coordinator of its writes and who may serve its reads.

Theory. Both are pure functions of the layout (who owns) and of liveness (who can be reached): a write runs at the key's
first live owner, so that writes which follow each other in time follow each other in causality; a read runs here if
this node is an owner, else at the first live owner. Where no owner is live the first live fallback does both. Routes
change only when the layout or liveness changes, so they are computed for all partitions then, and the hot path is one
list index.

A node without room on its disk serves reads, but for writes it counts as not live: the next owner coordinates, and a hint
is kept for it. It tells the others (FULL); a command that it gets all the same is relayed to the next owner. While some
disk is full, deletions have routes of their own, since a node takes them for longer than writes (room.py).

While a partition moves its *readers*, who hold it whole, coordinate and answer, and its *keepers*, old and new owners, all
take its writes (layout.py, quorum.py). Nodes learn of each phase at slightly different times, so a keeper runs whatever is
relayed to it, whether it is a reader or not.

Requests of one turn that ask the same peers share one group (one message, one tally): a `Plan` is the place where the
group of this turn is found, one for each distinct set of other owners.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import zip_longest
from typing import Any

from server.core.base.quorum import DoubleTally, Tally
from server.core.ring.layout import TRANSFER, Layout


class Plan:
    """The owners that a request asks, the fallbacks for those that are not live, and the groups of the present turn by
    their quorum. `owned` tells whether this node is one of the owners. While the partition moves, `rows` are two sets of
    owners: those who serve its reads now, and those who will or did.

    `deletes`: the plan is for deletions, which also go to nodes that have room for nothing else.
    `stand_ins` pairs each owner that is not live with the live fallback that keeps a hint for it, "" if none is left.
    """

    __slots__ = ("absent", "deletes", "owned", "peers", "reading", "replicas", "rows", "stand_ins", "writing")

    def __init__(
        self,
        peers: tuple[str, ...],
        owned: bool,
        stand_ins: tuple[tuple[str, str], ...] = (),
        rows: tuple[tuple[str, ...], ...] = (),
        deletes: bool = False,
    ) -> None:
        self.peers = peers
        self.owned = owned
        self.deletes = deletes
        self.rows = rows
        self.replicas = len(peers) + owned
        self.stand_ins = stand_ins
        self.absent = tuple(owner for owner, _ in stand_ins)
        self.reading: dict[int, Any] = {}  # by quorum: the ReadGroup of this turn (requests/reads.py)
        self.writing: dict[int, Any] = {}  # by quorum: the WriteGroup of this turn (requests/writes.py)

    def tally(self, wanted: int) -> Tally:
        """The tally of a request that wants `wanted` of the owners. If it wants one, an owner of either row is enough."""
        if self.rows and wanted > 1:
            asked, others = self.rows
            return DoubleTally(asked, others, self.replicas, wanted)
        return Tally(self.replicas, min(wanted, self.replicas))


class Route:
    """Where one partition's requests run: `coordinator` and `reader` are None if that is this node.

    `owners` are all who take writes (the layout's keepers), `owned` says that this node is one, `cramped` that it has no
    room for writes. `plan` is for writes, `read_plan` for reads: the same, unless the partition moves or a disk is full.
    """

    __slots__ = ("coordinator", "cramped", "owned", "owners", "plan", "read_plan", "reader")

    def __init__(
        self,
        owners: tuple[str, ...],
        owned: bool,
        coordinator: str | None,
        reader: str | None,
        plan: Plan,
        read_plan: Plan,
        cramped: bool = False,
    ) -> None:
        self.owners = owners
        self.owned = owned
        self.cramped = cramped
        self.coordinator = coordinator
        self.reader = reader
        self.plan = plan
        self.read_plan = read_plan

    def coordinator_for(self, relayed: bool) -> str | None:
        """The node that runs a write from a client of this node or, if `relayed`, from another node; None: this node.

        An owner runs what is relayed to it even if it believes that another owner is the first live one: nodes may disagree
        about that for a moment, and a command must not be relayed again and again. A node that is no owner relays such a
        command to an owner that it can reach, and to no other node. So does an owner whose disk is full: the next one
        has been told of that before, so the command does not come back.
        """
        if relayed and not self.cramped and (self.owned or self.coordinator not in self.owners):
            return None
        return self.coordinator

    def reader_for(self, relayed: bool) -> str | None:
        """The node that answers a read from a client of this node or, if `relayed`, from another node; None: this node."""
        return None if relayed and (self.owned or self.reader not in self.owners) else self.reader


def no_routes() -> list[Route]:
    """The single route of a node without a layout: it has no owners."""
    nobody = Plan((), False)
    return [Route((), False, "", "", nobody, nobody)]


def build_routes(
    layout: Layout,
    self_id: str,
    is_live: Callable[[str], bool],
    has_room: Callable[[str], bool] = lambda node: True,
    deletes: bool = False,
) -> list[Route]:
    """One route for each partition. `deletes`: `has_room` tells who has room for deletions.

    If no owner is live, the first live fallback coordinates, or this node: then it answers that nobody has room.
    """
    live = {member.id: member.id == self_id or is_live(member.id) for member in layout.members}
    able = {node: live[node] and has_room(node) for node in live}
    some_are_full = able != live
    plans: dict[tuple[object, ...], Plan] = {}
    routes = []
    for partition in range(layout.partitions):
        keepers, readers = layout.keepers(partition), layout.readers(partition)
        first, stand_ins = _stand_ins(layout, partition, self_id, live)
        reader = None if self_id in readers or first == self_id else first
        standing = stand_ins
        if some_are_full:
            first, stand_ins = _stand_ins(layout, partition, self_id, able)
        rows = (readers, _others(layout, partition)) if layout.former_owners(partition) else ()
        plan = read_plan = _plan(plans, self_id, keepers, stand_ins, rows, deletes)
        if rows or some_are_full:
            standing = tuple((owner, node) for owner, node in standing if owner in readers)
            read_plan = _plan(plans, self_id, readers, standing, (), deletes)
        coordinator = None if first == self_id else first
        cramped = coordinator is not None and not able[self_id]
        routes.append(Route(keepers, self_id in keepers, coordinator, reader, plan, read_plan, cramped))
    return routes


def _stand_ins(
    layout: Layout, partition: int, self_id: str, able: dict[str, bool]
) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The coordinator of a partition, given which nodes are `able` to be, and the fallbacks of owners that are not, if this
    node needs to know them."""
    keepers = layout.keepers(partition)
    if all(map(able.__getitem__, keepers)):
        return keepers[0], ()
    first = next((owner for owner in keepers if able[owner]), None)
    if first is not None and self_id not in keepers:
        return first, ()
    fallbacks = [node for node in layout.preference_list(partition)[len(keepers) :] if able[node]]
    if first is None:
        fallbacks = fallbacks or [self_id]  # this node is leaving, and no other one is left
        first = fallbacks[0]
        fallbacks.sort(key=lambda node: node != self_id)  # this node first: as the coordinator it has the record anyway
    absent = [owner for owner in keepers if not able[owner]]
    return first, tuple(zip_longest(absent, fallbacks[: len(absent)], fillvalue=""))


def _others(layout: Layout, partition: int) -> tuple[str, ...]:
    """The owners of a moving partition that do not serve its reads now, but will or did."""
    return layout.owners[partition] if layout.phase == TRANSFER else layout.former_owners(partition)


def _plan(
    plans: dict[tuple[object, ...], Plan],
    self_id: str,
    owners: tuple[str, ...],
    stand_ins: tuple[tuple[str, str], ...],
    rows: tuple[tuple[str, ...], ...],
    deletes: bool,
) -> Plan:
    """The plan for these owners: one for all partitions that have the same."""
    peers = tuple(sorted(owner for owner in owners if owner != self_id))
    owned = self_id in owners
    key = (peers, owned, stand_ins, rows)
    plan = plans.get(key)
    if plan is None:
        plan = plans[key] = Plan(peers, owned, stand_ins, rows, deletes)
    return plan
