"""Brings every node to its target number of seats with the fewest moves: cheapest paths of exchanges.

Theory. This is a minimum-cost flow. Nodes, zones of rows, and rows are a network. A seat is one unit of flow from a
node, through one zone of a row, into the row; it costs 1 if it is new. The flow is found by successive shortest paths
(Busacker and Gowen, 1960): suppose that no cycle of exchanges makes a flow cheaper. If then one unit is led along a
cheapest path from a node above its target to a node below it, the result is again a flow of that kind. The start is
such a flow, because each row has kept all owners that it could. So the end has the fewest new seats of all rows with
these targets. A test compares it with an exhaustive search.

A path x, y, z means: in some row y gets a seat of x, in another row z gets one of y. Mostly it is a single exchange:
the most loaded node gives to the one that is furthest below its target. Only the nodes are vertices here. An edge from
x to y stands for the cheapest row in which that exchange is allowed. Among equally cheap paths a shortest one is taken.
Such a path never uses one row twice in a way that the zone rule forbids, because leaving out the detour in between
would make it shorter. Any row with the price of the edge may be used, so the one that makes the pairs most even is.

Cost: tables of nodes² entries, updated in O(nodes) for each changed row; a path takes O(nodes²). With 30 nodes: 0.2 ms
a seat.
"""

from __future__ import annotations

from itertools import pairwise

from server.core.ring.computation import Computation
from server.core.ring.seats import Seats

LONG = 1 << 20  # more than the length of any path, so that paths compare by price first, then by length
NO_WAY = 1 << 60
PRICES = (-1, 0, 1)
CANDIDATES_MAX = 100  # rows compared for one exchange; limits the time if nodes own thousands of rows


def meet_targets(seats: Seats) -> Computation[None]:
    """Exchanges seats until every node has its target. Rows must be full, obey the zone rule, have fewest new seats."""
    if any(seats.missing):
        yield from _Exchanges(seats).run()


class _Exchanges:
    """For each pair of nodes: in how many rows the second can get the first one's seat, by price."""

    def __init__(self, seats: Seats) -> None:
        nodes = len(seats.missing)
        self.seats = seats
        self.ways = [[[0] * nodes for _ in range(nodes)] for _ in PRICES]  # [price + 1][leaver][comer]: rows
        self.cheapest = [[NO_WAY] * nodes for _ in range(nodes)]  # [leaver][comer]: price and length of the edge

    def run(self) -> Computation[None]:
        """Leads one seat after the other from a node above its target to one below, until there is none."""
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
        """Returns (price + 1, leaver, comer) of all exchanges that `row` permits."""
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
        """Returns a cheapest path from a node above its target to one below (Bellman-Ford).

        Among equally cheap ones the most loaded node gives.
        """
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
        """Makes an exchange in one of the cheapest rows: in the one that makes pairs most even."""
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
        """Returns up to `CANDIDATES_MAX` rows that permit the exchange at this price. The next search begins after them."""
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
