"""Bringing every node to its target with the fewest moves: shortest paths of exchanges.

Theory. Rows, nodes and zones form a network: a seat is a unit of flow from a node, through one zone of a row, into the
row, and costs 1 when it is new. Cheapest flows are found by shortest augmenting paths (Busacker and Gowen, 1960): from
a flow that no cycle of exchanges makes cheaper, each unit that is led from a node with too many seats to one with too
few along a cheapest path leaves a flow of that kind. The start is one: rows that each kept all they could. So the end
has the fewest new seats of all rows with these targets; no search could do better, and a test holds it against trying
all.

A path x, y, z is: in some row y takes a seat of x, in some other z one of y. Mostly it is a single exchange: the most
loaded gives to the one that misses seats. Only the nodes are vertices here; an edge from x to y stands for the cheapest
row in which the exchange is permitted. Of equally cheap paths a shortest one never needs the same row twice in a way
that the zones forbid, since leaving out the detour between would be shorter. Any row of that price can be taken, so
the one that makes pairs most even is.

Costs: tables of nodes², kept current by O(nodes) a changed row; a path O(nodes²). With 30 nodes, 0.2 ms a seat.
"""

from __future__ import annotations

from itertools import pairwise

from server.core.ring.computation import Computation
from server.core.ring.seats import Seats

LONG = 1 << 20  # above the length of any path: paths are compared by price, then by length
NO_WAY = 1 << 60
PRICES = (-1, 0, 1)
CANDIDATES_MAX = 100  # rows that are compared for an exchange: bounds the time where nodes own thousands


def meet_targets(seats: Seats) -> Computation[None]:
    """Exchanges seats until no node misses any. Every row is complete, its zones in order, its new seats fewest."""
    if any(seats.missing):
        yield from _Exchanges(seats).run()


class _Exchanges:
    """For every pair of nodes, in how many rows the second can take the first's seat at each price."""

    def __init__(self, seats: Seats) -> None:
        nodes = len(seats.missing)
        self.seats = seats
        self.ways = [[[0] * nodes for _ in range(nodes)] for _ in PRICES]  # [price + 1][leaver][comer]: rows
        self.cheapest = [[NO_WAY] * nodes for _ in range(nodes)]  # [leaver][comer]: price and length of the edge

    def run(self) -> Computation[None]:
        """One seat from a node that has too many to one that misses some, until there are none."""
        nodes = len(self.seats.missing)
        for row in range(len(self.seats.rows)):
            self._count(row, 1)
            yield nodes
        for leaver in range(nodes):
            for comer in range(nodes):
                self._renew(leaver, comer)
            yield nodes
        while any(missing > 0 for missing in self.seats.missing):
            path = self._cheapest_path()
            for leaver, comer in pairwise(path):
                self._exchange(leaver, comer)
                yield 4 * nodes
            yield nodes * nodes // 4

    def _exchanges_of(self, row: int) -> list[tuple[int, int, int]]:
        """All (price + 1, leaver, comer) that `row` permits."""
        seats = self.seats
        owners, before = seats.rows[row], seats.before[row]
        zone_of, least, most = seats.zones.zone_of, seats.zones.least, seats.zones.most
        counts = seats.zone_counts[row]
        has_room = [count < limit for count, limit in zip(counts, most, strict=True)]
        found = []
        comers = [(node, zone_of[node], node in before) for node in range(len(zone_of)) if node not in owners]
        for leaver in owners:
            own_zone = zone_of[leaver]
            may_go = counts[own_zone] > least[own_zone]
            dear = 1 + (leaver in before)
            found += [
                (dear - cheap, leaver, comer)
                for comer, zone, cheap in comers
                if zone == own_zone or (may_go and has_room[zone])
            ]
        return found

    def _count(self, row: int, step: int) -> list[tuple[int, int, int]]:
        exchanges = self._exchanges_of(row)
        for price, leaver, comer in exchanges:
            self.ways[price][leaver][comer] += step
        return exchanges

    def _renew(self, leaver: int, comer: int) -> None:
        for price, ways in zip(PRICES, self.ways, strict=True):
            if ways[leaver][comer]:
                self.cheapest[leaver][comer] = price * LONG + 1
                return
        self.cheapest[leaver][comer] = NO_WAY

    def _cheapest_path(self) -> list[int]:
        """From a node with too many seats to one with too few; of equal ones the most loaded gives (Bellman-Ford)."""
        missing = self.seats.missing
        nodes = range(len(missing))
        scale = self.seats.scale
        distance = [0 if missing[node] < 0 else NO_WAY for node in nodes]
        came_from = [-1] * len(missing)
        changed = sorted((node for node in nodes if missing[node] < 0), key=lambda node: missing[node] * scale[node])
        while changed:
            reached: dict[int, None] = {}
            for node in changed:
                so_far = distance[node]
                for other, price in enumerate(self.cheapest[node]):
                    if so_far + price < distance[other] and price != NO_WAY:
                        distance[other] = so_far + price
                        came_from[other] = node
                        reached[other] = None
            changed = list(reached)
        takers = [node for node in nodes if missing[node] > 0]
        path = [min(takers, key=lambda node: (distance[node], -missing[node] * scale[node]))]
        while came_from[path[0]] >= 0:
            path.insert(0, came_from[path[0]])
        return path

    def _exchange(self, leaver: int, comer: int) -> None:
        """In the cheapest row, of these the one that makes pairs most even."""
        seats = self.seats
        price = (self.cheapest[leaver][comer] - 1) // LONG
        rows = self._candidates(leaver, comer, price)
        row = min(rows, key=lambda row: (seats.crowding(row, leaver, comer), row))
        touched = self._count(row, -1)
        seats.leave(row, leaver)
        seats.enter(row, comer)
        touched += self._count(row, 1)
        for _, giver, taker in touched:
            self._renew(giver, taker)

    def _candidates(self, leaver: int, comer: int, price: int) -> list[int]:
        """Rows that permit the exchange at this price, `CANDIDATES_MAX` of them; the next search begins after them."""
        seats = self.seats
        found = []
        seen = []
        for row in seats.rows_of[leaver]:
            seen.append(row)
            if seats.price(row, leaver, comer) == price and seats.permits(row, leaver, comer):
                found.append(row)
                if len(found) == CANDIDATES_MAX:
                    break
        for row in seen:
            del seats.rows_of[leaver][row]
            seats.rows_of[leaver][row] = None
        return found
