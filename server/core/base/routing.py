"""Where a key's requests run: per partition, the coordinator of its writes and who may serve its reads.

Theory. Both are pure functions of the layout (who owns) and of liveness (who can be reached). A write runs at the key's
first live owner: so a write that follows another one in time supersedes it. A read runs here if this node is an owner,
else at the first live owner. If no owner is live, the first live fallback does both. Routes change only when the layout or
liveness changes. So they are computed then, for the partitions that depend on what has changed, and the hot path is one
list index.

A node without room on its disk serves reads, but counts as not live for writes: the next owner coordinates them, and a
hint is kept for it. It announces that (FULL). If it still gets a write, it relays it to the next owner. While some disk is
full, deletions have routes of their own, because a node accepts them for longer than writes (room.py).

While a partition moves, its *readers*, which hold it whole, coordinate and answer, and its *keepers*, the old and new
owners, all take its writes (layout.py, quorum.py). Nodes learn of each phase at slightly different times. So a keeper runs
whatever is relayed to it, whether it is a reader or not.

Requests of one turn that ask the same peers share one group (one message, one tally). A `Plan` holds the groups of this
turn. There is one plan for each distinct set of other owners.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from server.core.base.quorum import DoubleTally, Tally
from server.core.ring.layout import TRANSFER, Layout
from server.core.ring.preference import FEW

StandIns = tuple[tuple[str, str], ...]  # (owner that is not live, the live fallback that keeps its hints, or "")
NO_SETS: tuple[tuple[str, ...], ...] = ()
DEFER_MIN = 64  # members: with more, routes that have fallen back may be stale for a while
REFRESHED_MAX = 256  # partitions whose stale routes are computed anew in one tick
PLANS_SPARE = 1024  # plans that no route has any more are dropped if there are more


class Plan:
    """The owners that a request asks, the fallbacks for those that are not live, and this turn's groups by their quorum.

    `owned`: this node is one of the owners.
    `owner_sets`: while the partition moves, two sets of owners: those who serve its reads now, and those who will or did.
    `numbers`: the W of each of these sets by the layout, if it needs a look (`_write_quorums`); else ().
    `live_peers` are the other owners that are live, as far as this node needs to know (see `stand_ins`).
    `deletes`: the plan is for deletions, which also go to nodes that have room for nothing else.
    `stand_ins` pairs each owner that is not live with the live fallback that keeps a hint for it, "" if none is left.
    """

    __slots__ = (
        "absent", "deletes", "live_peers", "numbers", "owned", "owner_sets", "peers", "reading", "replicas",
        "stand_ins", "writing",
    )  # fmt: skip

    def __init__(
        self,
        peers: tuple[str, ...],
        owned: bool,
        stand_ins: tuple[tuple[str, str], ...] = (),
        owner_sets: tuple[tuple[str, ...], ...] = (),
        deletes: bool = False,
        numbers: tuple[int, ...] = (),
    ) -> None:
        self.peers = peers
        self.owned = owned
        self.deletes = deletes
        self.owner_sets = owner_sets
        self.numbers = numbers
        self.replicas = len(peers) + owned
        self.stand_ins = stand_ins
        self.absent = tuple([owner for owner, _ in stand_ins]) if stand_ins else ()
        self.live_peers = tuple([peer for peer in peers if peer not in self.absent]) if stand_ins else peers
        self.reading: dict[int, Any] = {}  # by quorum: the ReadGroup of this turn (requests/reads.py)
        self.writing: dict[int, Any] = {}  # by quorum: the WriteGroup of this turn (requests/writes.py)

    def tally(self, wanted: int) -> Tally:
        """The tally of a request that wants `wanted` of the owners. If it wants one, an owner of either set is enough,
        unless `numbers` say more. Who wants the W of the one set by the layout wants that of the other set there."""
        if self.owner_sets:
            asked, others = self.owner_sets
            if self.numbers and self.numbers[0] == wanted:
                return DoubleTally(asked, others, self.replicas, wanted, self.numbers[1])
            if wanted > 1:
                return DoubleTally(asked, others, self.replicas, wanted)
        return Tally(self.replicas, min(wanted, self.replicas))


class Route:
    """Where one partition's requests run: `coordinator` and `reader` are None if that is this node.

    `owners` are all who take writes (the layout's keepers), `owned` says that this node is one, `lacks_room` that it has no
    room for writes. `plan` is for writes, `read_plan` for reads: the same, unless the partition moves or a disk is full.
    """

    __slots__ = ("coordinator", "lacks_room", "owned", "owners", "plan", "read_plan", "reader")

    def __init__(
        self,
        owners: tuple[str, ...],
        owned: bool,
        coordinator: str | None,
        reader: str | None,
        plan: Plan,
        read_plan: Plan,
        lacks_room: bool = False,
    ) -> None:
        self.owners = owners
        self.owned = owned
        self.lacks_room = lacks_room
        self.coordinator = coordinator
        self.reader = reader
        self.plan = plan
        self.read_plan = read_plan

    def coordinator_for(self, relayed: bool) -> str | None:
        """The node that runs a write from a client of this node or, if `relayed`, from another node; None: this node.

        An owner runs what is relayed to it even if it believes that another owner is the first live one: nodes may disagree
        about that for a moment, and a command must not be relayed again and again. A node that is no owner relays such a
        command to an owner that it can reach, and to no other node. So does an owner whose disk is full. The next owner
        has received its FULL before, so it does not send the command back.
        """
        if relayed and not self.lacks_room and (self.owned or self.coordinator not in self.owners):
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
    """One route for each partition. `deletes`: `has_room` tells who has room for deletions."""
    return RouteTable(layout, self_id, deletes).update(is_live, has_room)


class RouteTable:
    """The routes of one node by one layout. An update computes only those anew that depend on a node that has changed.

    A route depends on the keepers of its partition. If fallbacks were asked for, it depends on all nodes: so it does for
    few partitions at a time. If no owner is live, the first live fallback coordinates, or this node: then it answers that
    nobody has room.

    While a node of a large cluster starts, nearly all partitions have fallen back, and each link that opens would compute
    all of them anew: with 1,000 members that took minutes. So if there are more than `DEFER_MIN` members, a node that comes
    back changes the routes of its own partitions at once. Those that have fallen back on others are stale until they are
    refreshed (`is_stale`), `REFRESHED_MAX` in each tick: with 1,000 members all of them took a turn of 1.7 s. Stale routes
    name fallbacks that are able, but perhaps not the first ones.
    """

    def __init__(self, layout: Layout, self_id: str, deletes: bool = False) -> None:
        self.layout = layout
        self._self_id = self_id
        self._deletes = deletes
        self._moving = dict(layout.former)
        self._numbers = _write_quorums(layout)
        self._members = [member.id for member in layout.members]
        self._kept_by: dict[str, list[int]] = {}  # node -> its partitions, once a node has changed
        self._live: dict[str, bool] = {}
        self._able: dict[str, bool] = {}  # live, and with room
        self._few: list[str] | None = None  # the able nodes if they are few
        self._fallen_back: dict[int, None] = {}  # the partitions whose routes depend on all nodes
        self._to_refresh: list[int] = []  # those of them that the refresh under way has still to look at
        self._is_outdated = False  # since that refresh began, nodes have come that may be better fallbacks
        self._plans: dict[tuple[object, ...], Plan] = {}
        self._routes: list[Route] = []

    def update(
        self, is_live: Callable[[str], bool], has_room: Callable[[str], bool], refresh: bool = False
    ) -> list[Route]:
        """One route for each partition: another list if any of them has changed. `refresh`: the next stale ones, too."""
        self_id, partitions = self._self_id, self.layout.partitions
        live = {node: node == self_id or is_live(node) for node in self._members}
        able = {node: live[node] and has_room(node) for node in live}
        able = live if able == live else able
        before_live, before_able = self._live, self._able
        self._live, self._able = live, able
        few = [node for node in able if able[node]]
        self._few = few if len(few) <= FEW else None
        is_first = not self._routes or able[self_id] != before_able[self_id]
        if is_first or len(self._plans) > 4 * partitions + PLANS_SPARE:
            self._plans, self._fallen_back, self._to_refresh, self._is_outdated = {}, {}, [], False
            self._routes = [self._route(partition) for partition in range(partitions)]
            return self._routes
        changed = [node for node in live if live[node] != before_live[node] or able[node] != before_able[node]]
        if changed and not self._kept_by:
            self._find_kept()
        affected = dict.fromkeys([partition for node in changed for partition in self._kept_by[node]])
        if changed and len(self._members) <= DEFER_MIN:
            affected.update(self._fallen_back)
        elif changed and self._fallen_back:
            lost = {node: None for node in changed if not able[node]}
            affected.update(dict.fromkeys(self._fallen_back_on(lost)) if lost else {})
            self._is_outdated = True
        if refresh:
            affected.update(dict.fromkeys(self._next_stale()))
        if not affected:
            return self._routes
        self._routes = self._routes[:]
        for partition in affected:
            self._fallen_back.pop(partition, None)
            self._routes[partition] = self._route(partition)
        return self._routes

    @property
    def is_stale(self) -> bool:
        """Whether routes that have fallen back may have better fallbacks: `refresh` computes the next of them."""
        return self._is_outdated or bool(self._to_refresh)

    def _next_stale(self) -> list[int]:
        """The next partitions to refresh, and no longer to be."""
        if not self._to_refresh and self._is_outdated:
            self._to_refresh, self._is_outdated = list(self._fallen_back), False
        following = self._to_refresh[-REFRESHED_MAX:]
        del self._to_refresh[-REFRESHED_MAX:]
        return [partition for partition in following if partition in self._fallen_back]

    def _fallen_back_on(self, nodes: dict[str, None]) -> list[int]:
        """The partitions with one of these nodes in the place of an owner."""
        found = []
        for partition in self._fallen_back:
            route = self._routes[partition]
            pairs = route.plan.stand_ins + route.read_plan.stand_ins
            if route.coordinator in nodes or route.reader in nodes or any(node in nodes for _, node in pairs):
                found.append(partition)
        return found

    def _find_kept(self) -> None:
        layout, moving = self.layout, self._moving
        kept_by: dict[str, list[int]] = {node: [] for node in self._members}
        for partition, owners in enumerate(layout.owners):
            for keeper in layout.keepers(partition) if partition in moving else owners:
                kept_by[keeper].append(partition)
        self._kept_by = kept_by

    def _route(self, partition: int) -> Route:
        layout, self_id, plans, deletes = self.layout, self._self_id, self._plans, self._deletes
        keepers = readers = layout.owners[partition]
        owner_sets = NO_SETS
        if partition in self._moving:
            keepers, readers = layout.keepers(partition), layout.readers(partition)
            owner_sets = (readers, _others(layout, partition))
        first, stand_ins = self._stand_ins(partition, keepers, self._live)
        reader = None if self_id in readers or first == self_id else first
        standing = stand_ins
        if self._able is not self._live:
            first, stand_ins = self._stand_ins(partition, keepers, self._able)
        plan = read_plan = _plan(plans, self_id, keepers, stand_ins, owner_sets, deletes, self._numbers)
        if owner_sets or standing != stand_ins:
            standing = tuple([(owner, node) for owner, node in standing if owner in readers]) if standing else ()
            read_plan = _plan(plans, self_id, readers, standing, (), deletes)
        coordinator = None if first == self_id else first
        lacks_room = coordinator is not None and not self._able[self_id]
        return Route(keepers, self_id in keepers, coordinator, reader, plan, read_plan, lacks_room)

    def _stand_ins(self, partition: int, keepers: tuple[str, ...], able: dict[str, bool]) -> tuple[str, StandIns]:
        """Returns the coordinator of a partition, and the fallbacks of its absent keepers if this node needs to know them.

        `able` says which nodes may coordinate; a keeper that may not is absent.
        """
        absent = [owner for owner in keepers if not able[owner]]
        if not absent:
            return keepers[0], ()
        self_id, first = self._self_id, ""
        if len(absent) < len(keepers):
            first = next(owner for owner in keepers if able[owner])
            if self_id not in keepers:
                return first, ()
        self._fallen_back[partition] = None
        fallbacks = self._first_fallbacks(partition, keepers, able, len(absent))
        if not first:
            fallbacks = fallbacks or [self_id]  # this node is leaving, and no other one is left
            first = fallbacks[0]
            if first != self_id and self._is_fallback(self_id, keepers, able):
                # as the coordinator it has the record anyway, so it comes first
                fallbacks = [self_id, *(node for node in fallbacks if node != self_id)]
        if len(fallbacks) < len(absent):
            fallbacks += [""] * (len(absent) - len(fallbacks))
        return first, tuple(zip(absent, fallbacks))  # noqa: B905 (there may be more fallbacks)

    def _first_fallbacks(
        self, partition: int, keepers: tuple[str, ...], able: dict[str, bool], count: int
    ) -> list[str]:
        """The first `count` fallbacks that are able."""
        fallbacks, few = self.layout.fallbacks, self._few if able is self._able else None
        if few is not None and len(few) <= 1:  # this node is alone
            return [node for node in few if self._is_fallback(node, keepers, able)]
        if few is not None:
            return fallbacks.first_of(partition, keepers, few, count)
        found: list[str] = []
        for node in fallbacks.order(partition, keepers):
            if able[node]:
                found.append(node)
                if len(found) == count:
                    break
        return found

    def _is_fallback(self, node: str, keepers: tuple[str, ...], able: dict[str, bool]) -> bool:
        return able[node] and node not in keepers and node not in self.layout.leaving


def _write_quorums(layout: Layout) -> tuple[int, ...]:
    """W of the two sets of owners of a partition that moves, if one of each is not enough or not what a client's W says.

    While N changes each set has its own. With W = 1 and R = N, an owner that reads do not ask yet is not enough: they would
    miss the write. With N = 1 it is: while the only reader is down, the other set takes writes alone. The price is that a
    read during the move may miss a write, until both have it.
    """
    if layout.changes_n:
        return layout.effective_w, layout.others_w
    return (1, 1) if layout.effective_w == 1 and layout.effective_r == layout.serving_n > 1 else ()


def _others(layout: Layout, partition: int) -> tuple[str, ...]:
    """The owners of a moving partition that do not serve its reads now, but will or did."""
    return layout.owners[partition] if layout.phase == TRANSFER else layout.former_owners(partition)


def _plan(
    plans: dict[tuple[object, ...], Plan],
    self_id: str,
    owners: tuple[str, ...],
    stand_ins: tuple[tuple[str, str], ...],
    owner_sets: tuple[tuple[str, ...], ...],
    deletes: bool,
    numbers: tuple[int, ...] = (),
) -> Plan:
    """The plan for these owners: one for all partitions that have the same."""
    owned = self_id in owners
    peers = tuple(sorted([owner for owner in owners if owner != self_id] if owned else owners))
    key = (peers, owned, stand_ins, owner_sets)
    plan = plans.get(key)
    if plan is None:
        plan = plans[key] = Plan(peers, owned, stand_ins, owner_sets, deletes, numbers)
    return plan
