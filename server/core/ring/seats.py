"""The seats of all partitions while an assignment changes: who sits where, what a change costs, what it makes uneven.

Theory. A row is one partition's owners, a seat one place in it. A seat is new when its node did not own the partition
before: then the partition's data must move there, and the number of new seats is the price of the whole change. One
step is an exchange in one row: x leaves, y comes. Its price is the change in the number of new seats: 1, 0 or -1.

Evenness is how alike every two nodes meet in rows: for a lost node's partitions the owners left are then all others
alike. It is measured as the sum over pairs of (rows together)² by weight, which is least when all are equal. An
exchange changes few pairs, so its effect is counted, not searched for.

Nodes are numbers here: places among the members sorted by id. Sets are only asked, never iterated.
"""

from __future__ import annotations

from collections.abc import Sequence

from server.core.ring.arrangement import Row
from server.core.ring.assignment import ZoneRule


class Seats:
    """The rows as they are now, beside what they were. `targets[i]` is how many seats node i should have."""

    def __init__(self, before: Sequence[Row], targets: Sequence[int], zones: ZoneRule) -> None:
        nodes = range(len(targets))
        mean = sum(targets) / len(targets)
        self.before = [frozenset(row) for row in before]
        self.rows: list[Row] = [[] for _ in before]
        self.rows_of: list[dict[int, None]] = [{} for _ in nodes]  # an ordered set: the rows where the node sits
        self.zones = zones
        self.zone_counts = [[0] * len(zones.most) for _ in before]
        self.missing = list(targets)  # seats that the node should have and has not; negative: too many
        self.together = [[0] * len(targets) for _ in nodes]
        self.scale = [mean / (target or 1) for target in targets]
        for row, owners in enumerate(before):
            for node in owners:
                self.enter(row, node)

    def enter(self, row: int, node: int) -> None:
        """Gives `node` a further seat in `row`."""
        for other in self.rows[row]:
            self.together[node][other] += 1
            self.together[other][node] += 1
        self.rows[row].append(node)
        self.rows_of[node][row] = None
        self.zone_counts[row][self.zones.zone_of[node]] += 1
        self.missing[node] -= 1

    def leave(self, row: int, node: int) -> None:
        """Takes the seat of `node` away; the row has one less."""
        self.rows[row].remove(node)
        for other in self.rows[row]:
            self.together[node][other] -= 1
            self.together[other][node] -= 1
        del self.rows_of[node][row]
        self.zone_counts[row][self.zones.zone_of[node]] -= 1
        self.missing[node] += 1

    def is_new(self, row: int, node: int) -> bool:
        """Whether a seat of `node` in `row` means that data moves."""
        return node not in self.before[row]

    def price(self, row: int, leaver: int, comer: int) -> int:
        """How many more seats are new after the exchange: 1, 0 or -1."""
        before = self.before[row]
        return (leaver in before) - (comer in before)

    def zones_permit(self, row: int, leaver: int, comer: int) -> bool:
        """Whether the zone rule, which holds in `row`, holds after the exchange."""
        old, new = self.zones.zone_of[leaver], self.zones.zone_of[comer]
        counts = self.zone_counts[row]
        return old == new or (counts[old] > self.zones.least[old] and counts[new] < self.zones.most[new])

    def permits(self, row: int, leaver: int, comer: int) -> bool:
        """Whether `leaver` sits in `row`, `comer` does not, and the zone rule allows the exchange."""
        owners = self.rows[row]
        return leaver in owners and comer not in owners and self.zones_permit(row, leaver, comer)

    def crowding(self, row: int, leaver: int, comer: int, spared: Sequence[int] = ()) -> float:
        """What the exchange adds to the unevenness of pairs. `spared` are owners whose pairs are left out."""
        total = 0.0
        met, left = self.together[comer], self.together[leaver]
        scale, comer_scale, leaver_scale = self.scale, self.scale[comer], self.scale[leaver]
        for other in self.rows[row]:
            if other != leaver and other not in spared:
                total += scale[other] * (comer_scale * (2 * met[other] + 1) - leaver_scale * (2 * left[other] - 1))
        return total

    def new_seats(self) -> list[tuple[int, int]]:
        """All (row, node) where data moves, in the order of the rows."""
        return [(row, node) for row, owners in enumerate(self.rows) for node in owners if self.is_new(row, node)]
