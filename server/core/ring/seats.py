"""The seats of all partitions during a reassignment: who owns what, what an exchange costs, and how even the pairs are.

Theory. A row is the owners of one partition; a seat is one place in a row. A seat is *new* if its node did not own the
partition before: then the data of the partition must move to that node. The number of new seats is the cost of the
whole change. One step is an exchange in one row: one node leaves, another one comes. Its price is the change in the
number of new seats: 1, 0 or -1.

Pairs are even if every two nodes share equally many rows. Then, if a node is lost, the other owners of its partitions
are all others alike. The unevenness is the sum over all pairs of (rows shared)², by weight; it is least when all are
equal. An exchange changes few pairs, so its effect is computed directly.

Nodes are numbers here: indexes into the members sorted by id. Sets are only tested for membership, never iterated.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.core.ring.arrangement import Row
from server.core.ring.assignment import ZoneRule


class Seats:
    """The present rows, and the rows before the change. `targets[i]` is how many seats node i should have."""

    def __init__(self, before: Sequence[Row], targets: Sequence[int], zones: ZoneRule) -> None:
        nodes = range(len(targets))
        mean = sum(targets) / len(targets)
        self.before = [frozenset(row) for row in before]
        self.rows: list[Row] = [[] for _ in before]
        self.rows_of: list[dict[int, None]] = [{} for _ in nodes]  # node -> its rows, as an ordered set
        self.zones = zones
        self.zone_counts = [[0] * len(zones.most) for _ in before]
        self.missing = list(targets)  # how many seats each node is below its target; negative: above it
        self.together = [[0] * len(targets) for _ in nodes]
        self.scale = [mean / (target or 1) for target in targets]
        for row, owners in enumerate(before):
            for node in owners:
                self.enter(row, node)

    def enter(self, row: int, node: int) -> None:
        """Gives `node` a seat in `row`."""
        for other in self.rows[row]:
            self.together[node][other] += 1
            self.together[other][node] += 1
        self.rows[row].append(node)
        self.rows_of[node][row] = None
        self.zone_counts[row][self.zones.zone_of[node]] += 1
        self.missing[node] -= 1

    def leave(self, row: int, node: int) -> None:
        """Removes the seat of `node` from `row`."""
        self.rows[row].remove(node)
        for other in self.rows[row]:
            self.together[node][other] -= 1
            self.together[other][node] -= 1
        del self.rows_of[node][row]
        self.zone_counts[row][self.zones.zone_of[node]] -= 1
        self.missing[node] += 1

    def is_new(self, row: int, node: int) -> bool:
        """Whether a seat of `node` in `row` is new, so that data must move."""
        return node not in self.before[row]

    def price(self, row: int, leaver: int, comer: int) -> int:
        """Returns how many more new seats there are after the exchange: 1, 0 or -1."""
        before = self.before[row]
        return (leaver in before) - (comer in before)

    def zones_permit(self, row: int, leaver: int, comer: int) -> bool:
        """Whether the zone rule still holds in `row` after the exchange."""
        old, new = self.zones.zone_of[leaver], self.zones.zone_of[comer]
        counts = self.zone_counts[row]
        return old == new or (counts[old] > self.zones.least[old] and counts[new] < self.zones.most[new])

    def permits(self, row: int, leaver: int, comer: int) -> bool:
        """Whether `leaver` is in `row`, `comer` is not, and the zone rule allows the exchange."""
        owners = self.rows[row]
        return leaver in owners and comer not in owners and self.zones_permit(row, leaver, comer)

    def crowding(self, row: int, leaver: int, comer: int, spared: Sequence[int] = ()) -> float:
        """Returns what the exchange adds to the unevenness of pairs. The pairs of owners in `spared` are left out."""
        total = 0.0
        met, left = self.together[comer], self.together[leaver]
        scale, comer_scale, leaver_scale = self.scale, self.scale[comer], self.scale[leaver]
        for other in self.rows[row]:
            if other != leaver and other not in spared:
                total += scale[other] * (comer_scale * (2 * met[other] + 1) - leaver_scale * (2 * left[other] - 1))
        return total

    def new_seats(self) -> list[tuple[int, int]]:
        """Returns (row, node) of all new seats, in the order of the rows."""
        return [(row, node) for row, owners in enumerate(self.rows) for node in owners if self.is_new(row, node)]
