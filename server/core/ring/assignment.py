"""The owners for a new cluster: N owners for each of Q partitions, as evenly as the members allow.

Theory. Dynamo's "strategy 3" (SOSP 2007, section 6.2) cuts the ring into Q equal partitions and gives each node an
equal number of them. With random tokens the result is even only by chance; here it is computed, in three steps. Each
step keeps what the steps before have reached:

1. `shares`: how many partitions each node owns. Partitions are given one at a time to the node with the lowest load by
   weight (D'Hondt's method). That makes max(owned / weight) as low as possible. No node owns a partition twice, so a
   heavy node stops at Q and the others get the rest.
2. `deal`: which nodes own a partition together. A *row* is the owners of one partition. Rows are dealt one after the
   other. A node may be chosen only if the remaining rows can still be dealt. That test is exact: the limits of nodes,
   zones and rows are nested, so if the rest can be dealt in fractions, it can be dealt whole (an integral flow). Among
   the allowed nodes the choice prefers a node that has many partitions left and has seldom shared a row with those of
   this row. So if a node is lost, the other copies of its records are spread over all nodes alike.
3. `arrange` (arrangement.py): which owner is first, second, and so on, so that each node is equally often in each
   position.

Zones come before balance. A partition gets a second owner from a zone only if each zone has given one, or has no more
nodes; a third one only if each has given two; and so on. This also limits the balance: if there are as many zones as
owners, each zone holds every partition once, whatever its size. With zones a a a b b c and N=3 the nodes in a own Q/3
each, those in b Q/2, the one in c Q. The balance is 0.5, and no layout with distinct zones has a better one.

Pure and deterministic: the result depends on ids, zones and weights only, not on the order of the members. A change of
members (reassignment.py) starts from the same `ZoneRule` and `shares` as targets, and then moves rows towards them.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.core.ring.arrangement import Row, arrange
from server.core.ring.computation import Computation, compute_now
from server.core.ring.layout import Member


def assign(members: Sequence[Member], partitions: int, n: int) -> tuple[tuple[str, ...], ...]:
    """Returns the owners' ids of each partition, in order: min(n, members) of them.

    `n` is at least 1. Raises ValueError if there are no members.
    """
    return compute_now(assigned(members, partitions, n))


def assigned(members: Sequence[Member], partitions: int, n: int) -> Computation[tuple[tuple[str, ...], ...]]:
    """The same as `assign`, as a computation in steps."""
    if not members:
        raise ValueError("a cluster needs at least one member")
    ordered = sorted(members, key=lambda member: member.id)
    zones = ZoneRule.of(ordered, min(n, len(ordered)))
    quotas = shares([member.weight for member in ordered], zones, partitions)
    yield partitions * zones.count
    rows = yield from deal(quotas, zones, partitions)
    yield from arrange(rows, quotas)
    return tuple(tuple(ordered[node].id for node in row) for row in rows)


@dataclass(frozen=True, slots=True)
class ZoneRule:
    """The rule for zones: of the `count` owners of a partition, zone z has at least `least[z]` and at most `most[z]`.

    Zones and nodes are numbers: indexes into the sorted zones, and into the members sorted by id.
    """

    count: int
    zone_of: tuple[int, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]

    @staticmethod
    def of(members: Sequence[Member], count: int) -> ZoneRule:
        """Returns the rule that fills all zones alike, as far as each has nodes. `members` are sorted by id."""
        names = sorted({member.zone for member in members})
        zone_of = tuple(names.index(member.zone) for member in members)
        sizes = [zone_of.count(zone) for zone in range(len(names))]
        level = 1
        while sum(min(size, level) for size in sizes) < count:
            level += 1
        least = tuple(min(size, level - 1) for size in sizes)
        return ZoneRule(count, zone_of, least, tuple(min(size, level) for size in sizes))


def shares(weights: Sequence[int], zones: ZoneRule, partitions: int, held: Sequence[int] = ()) -> list[int]:
    """Returns how many partitions each node owns: `zones.count * partitions` in all, by weight, within the zones' limits.

    Of all shares that the limits allow, these have the lowest max(owned / weight). Nodes of equal weight differ by at
    most one where no limit prevents it. Of nodes with equal claims, those that hold more already (`held`, if given) go
    first.
    """
    owned = [0] * len(weights)
    in_zone = [0] * len(zones.most)

    def claim(node: int) -> tuple[float, bool, int]:
        """Returns the sort key of a node: the lowest one gets the next partition."""
        return (owned[node] + 1) / weights[node], not held or held[node] <= owned[node], node

    def hand_out(nodes: Iterable[int], seats: int) -> None:
        queue = [claim(node) for node in nodes]
        heapq.heapify(queue)
        while seats:
            _, _, node = heapq.heappop(queue)
            zone = zones.zone_of[node]
            if owned[node] == partitions or in_zone[zone] == zones.most[zone] * partitions:
                continue  # full, so it leaves the queue
            owned[node] += 1
            in_zone[zone] += 1
            seats -= 1
            heapq.heappush(queue, claim(node))

    for zone, least in enumerate(zones.least):
        hand_out([node for node, of in enumerate(zones.zone_of) if of == zone], least * partitions)
    hand_out(range(len(weights)), zones.count * partitions - sum(owned))
    return owned


def deal(quotas: Sequence[int], zones: ZoneRule, partitions: int) -> Computation[list[Row]]:
    """Returns `partitions` rows of `zones.count` distinct nodes within the zone rule, with node i in `quotas[i]` of them.

    Such rows must exist. That holds for the quotas of `shares`: none is above `partitions`, those of each zone are
    within its limits, and together they are `zones.count * partitions`.
    """
    table = _Deal(quotas, zones)
    rows = []
    for rows_left in range(partitions, 0, -1):
        rows.append(table.next_row(rows_left))
        yield 4 * len(quotas)
    return rows


class _Deal:
    """The state between two rows: what each node and zone has left, and how many rows each two nodes share so far."""

    def __init__(self, quotas: Sequence[int], zones: ZoneRule) -> None:
        self.zones = zones
        self.quotas = quotas
        self.left = list(quotas)
        self.zone_left = [0] * len(zones.most)
        for node, quota in enumerate(quotas):
            self.zone_left[zones.zone_of[node]] += quota
        self.together = [[0] * len(quotas) for _ in quotas]

    def next_row(self, rows_left: int) -> Row:
        after = rows_left - 1
        bounds = list(zip(self.zones.least, self.zones.most, self.zone_left, strict=True))
        low = [max(least, left - most * after) for least, most, left in bounds]
        high = [min(most, left - least * after) for least, most, left in bounds]
        waiting = [node for node, left in enumerate(self.left) if left]
        met = [0] * len(self.left)
        row: Row = []
        while len(row) < self.zones.count:
            allowed = self._allowed(waiting, low, high, self.zones.count - len(row), rows_left)
            chosen = min(allowed, key=lambda node: (met[node] - self.left[node]) / self.quotas[node])
            waiting.remove(chosen)
            low[self.zones.zone_of[chosen]] -= 1
            high[self.zones.zone_of[chosen]] -= 1
            row.append(chosen)
            met = [a + b for a, b in zip(met, self.together[chosen], strict=True)]
        self._count_row(row)
        return row

    def _allowed(self, waiting: Row, low: list[int], high: list[int], slots: int, rows_left: int) -> Row:
        """Returns the nodes that may be chosen next for the row, so that the remaining rows can still be dealt.

        `slots` owners of the row are still to be chosen. A node that has as many partitions left as there are rows must
        be in this row and in each one after it.
        """
        zone_of = self.zones.zone_of
        musts, able = [0] * len(low), [0] * len(low)
        for node in waiting:
            able[zone_of[node]] += 1
            musts[zone_of[node]] += self.left[node] == rows_left
        spare = slots - sum(map(max, low, musts))
        open_zones = [
            low[zone] > must or (spare > 0 and must < min(high[zone], able[zone])) for zone, must in enumerate(musts)
        ]
        return [node for node in waiting if self.left[node] == rows_left or open_zones[zone_of[node]]]

    def _count_row(self, row: Row) -> None:
        for node in row:
            self.left[node] -= 1
            self.zone_left[self.zones.zone_of[node]] -= 1
            for other in row:
                self.together[node][other] += 1
