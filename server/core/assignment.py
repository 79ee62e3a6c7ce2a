"""Who owns what when a cluster is made: N owners for each of Q partitions, as evenly as the members allow.

Theory. Dynamo's "strategy 3" (SOSP 2007, section 6.2) cuts the ring into Q equal partitions and gives each node an
equal number of them. A token ring leaves evenness to chance; here it is computed, in three steps of which each keeps
what the former has reached:

1. `shares`: how many partitions each node owns. Partitions go one at a time to the node with the lowest load by weight
   (D'Hondt's method), which makes max(owned / weight) as low as it can be. No node owns a partition twice, so a heavy
   one stops at Q and the others take the excess.
2. `deal`: which nodes own a partition together. Rows are dealt one after the other, and a node is taken only when the
   rest can still be dealt. That test is exact: the limits of nodes, zones and rows nest, so what can be dealt in
   fractions can be dealt whole (an integral flow). Of the nodes that pass, one is taken that has much left and has
   seldom met those of the row: so the copies of a lost node's records lie with all others alike.
3. `arrange`: which of them is first, second, and so on. Each node is first as often as second, and the next owners of
   its partitions, on whom its work falls when it fails, are all others alike. Positions that the search leaves
   uneven are levelled exactly, by exchanges along shortest paths (de Werra's equitable colouring of bipartite graphs).

Zones come before balance. A partition takes a second owner from a zone only when each zone has given one or has no
more nodes, a third only when each has given two, and so on. That is the limit of balance as well: with as many zones
as owners each zone keeps every partition once, whatever its size. With zones a a a b b c and N=3 the nodes in a own Q/3
each, those in b Q/2, that in c Q: the balance is 0.5, and no layout with distinct zones has a better one.

Pure and deterministic: the result depends on ids, zones and weights alone, not on the order of the members. A change of
membership starts from the same `ZoneRule` and `shares` (what should be), then moves rows towards them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import permutations

from server.core.layout import Member

Row = list[int]  # the owners of one partition, as indexes into the members sorted by id

SWEEPS_MAX = 6  # of `arrange` over all rows; it mostly settles in two or three
WINDOW = 3  # neighbouring positions of a row that are permuted together
# Prices of `arrange`, found by trial, where 1 is that of one more row in which x follows y in the same positions:
POSITION_WEIGHT = 2.0  # once more in a position than is fair
NEXT_WEIGHT = 8.0  # one more row in which x follows y in any of the n - 1 pairs of positions, divided by n - 1


def assign(members: Sequence[Member], partitions: int, n: int) -> tuple[tuple[str, ...], ...]:
    """The owners' ids of every partition, in order: min(n, members) of them.

    `partitions` is a power of two (not needed here), `n` at least 1. ValueError: no members.
    """
    if not members:
        raise ValueError("a cluster needs at least one member")
    ordered = sorted(members, key=lambda member: member.id)
    zones = ZoneRule.of(ordered, min(n, len(ordered)))
    quotas = shares([member.weight for member in ordered], zones, partitions)
    rows = deal(quotas, zones, partitions)
    arrange(rows, quotas)
    return tuple(tuple(ordered[node].id for node in row) for row in rows)


@dataclass(frozen=True, slots=True)
class ZoneRule:
    """Of the `count` owners of a partition, zone z has at least `least[z]` and at most `most[z]`.

    Zones and nodes are numbers: places among the sorted zones, and among the members sorted by id.
    """

    count: int
    zone_of: tuple[int, ...]
    least: tuple[int, ...]
    most: tuple[int, ...]

    @staticmethod
    def of(members: Sequence[Member], count: int) -> ZoneRule:
        """Fills all zones alike, as far as each has nodes. `members` sorted by id, at least `count` of them."""
        names = sorted({member.zone for member in members})
        zone_of = tuple(names.index(member.zone) for member in members)
        sizes = [zone_of.count(zone) for zone in range(len(names))]
        level = 1
        while sum(min(size, level) for size in sizes) < count:
            level += 1
        least = tuple(min(size, level - 1) for size in sizes)
        return ZoneRule(count, zone_of, least, tuple(min(size, level) for size in sizes))


def shares(weights: Sequence[int], zones: ZoneRule, partitions: int) -> list[int]:
    """The number of partitions each node owns: `zones.count * partitions` in all, by weight within the zones' bounds.

    Equal weights without bounds in the way differ by at most one. Of all admissible shares these have the lowest
    max(owned / weight).
    """
    owned = [0] * len(weights)
    in_zone = [0] * len(zones.most)

    def hand_out(nodes: Iterable[int], seats: int) -> None:
        queue = [((owned[node] + 1) / weights[node], node) for node in nodes]
        heapq.heapify(queue)
        while seats:
            _, node = heapq.heappop(queue)
            zone = zones.zone_of[node]
            if owned[node] == partitions or in_zone[zone] == zones.most[zone] * partitions:
                continue  # full for good: not pushed back
            owned[node] += 1
            in_zone[zone] += 1
            seats -= 1
            heapq.heappush(queue, ((owned[node] + 1) / weights[node], node))

    for zone, least in enumerate(zones.least):
        hand_out([node for node, of in enumerate(zones.zone_of) if of == zone], least * partitions)
    hand_out(range(len(weights)), zones.count * partitions - sum(owned))
    return owned


def deal(quotas: Sequence[int], zones: ZoneRule, partitions: int) -> list[Row]:
    """`partitions` rows of `zones.count` distinct nodes: node i in `quotas[i]` of them, each row within the zone rule.

    The quotas must be such that rows of these sizes exist, as `shares` makes them: none above `partitions`, those of
    each zone within its bounds, `zones.count * partitions` in all.
    """
    table = _Deal(quotas, zones)
    return [table.next_row(rows_left) for rows_left in range(partitions, 0, -1)]


class _Deal:
    """The state between two rows: what each node and zone has left, and how often two nodes share a row already."""

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
        self._take(row)
        return row

    def _allowed(self, waiting: Row, low: list[int], high: list[int], slots: int, rows_left: int) -> Row:
        """The nodes that can have the next of the row's `slots` with the rest still dealable.

        A node with as many partitions left as there are rows must be in this row, and in each after it.
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

    def _take(self, row: Row) -> None:
        for node in row:
            self.left[node] -= 1
            self.zone_left[self.zones.zone_of[node]] -= 1
            for other in row:
                self.together[node][other] += 1


def arrange(rows: list[Row], quotas: Sequence[int]) -> None:
    """Orders the nodes within each row, in place; see the module's theory, step 3.

    Afterwards node i stands in each position `quotas[i] / n` times, rounded up or down.
    """
    order = _Order(quotas, len(rows[0]))
    for row in rows:
        row[:] = order.cheapest(sorted(row))
        order.count(row, 1)
    for _ in range(SWEEPS_MAX):
        if not sum([order.improve(row) for row in rows]):
            break
    left = list(quotas)
    for position in range(len(rows[0]) - 1):
        _level(rows, position, left)
        for row in rows:
            left[row[position]] -= 1


class _Order:
    """How often each node stands in each position and directly after each other node, over the rows counted so far."""

    def __init__(self, quotas: Sequence[int], count: int) -> None:
        nodes = range(len(quotas))
        mean = sum(quotas) / len(quotas)
        self.fair = [quota / count for quota in quotas]
        self.scale = [mean / (quota or 1) for quota in quotas]
        self.held = [[0] * len(quotas) for _ in range(count)]
        self.next_at = [[[0] * len(quotas) for _ in nodes] for _ in range(count)]
        self.next = [[0] * len(quotas) for _ in nodes]
        self.next_weight = NEXT_WEIGHT / max(1, count - 1)
        self.windows = _windows(count)

    def cheapest(self, row: Row) -> Row:
        """The best of the row's orders that are near its present one."""
        orders = [[row[position] for position in window] for window in self.windows]
        return orders[min(range(len(orders)), key=lambda index: self.price(orders[index]))]

    def count(self, row: Row, step: int) -> None:
        for position, node in enumerate(row):
            self.held[position][node] += step
            if position:
                self.next_at[position][row[position - 1]][node] += step
                self.next[row[position - 1]][node] += step

    def price(self, row: Row) -> float:
        """What counting this row would cost: positions above the fair number, neighbours that often are neighbours."""
        total = 0.0
        previous = -1
        for position, node in enumerate(row):
            over = self.held[position][node] + 1 - self.fair[node]
            if over > 0:
                total += POSITION_WEIGHT * over
            if position:
                times = self.next_weight * self.next[previous][node] + self.next_at[position][previous][node]
                total += times * self.scale[previous] * self.scale[node]
            previous = node
        return total

    def improve(self, row: Row) -> bool:
        """Gives the row its cheapest order given all others; whether that changed it."""
        self.count(row, -1)
        best = self.cheapest(row)
        better = self.price(best) < self.price(row) - 1e-9
        if better:
            row[:] = best
        self.count(row, 1)
        return better


def _windows(count: int) -> list[tuple[int, ...]]:
    """All orders of `count` positions that permute `WINDOW` neighbours, each once, the unchanged one first."""
    found: dict[tuple[int, ...], None] = {}
    whole = tuple(range(count))
    for start in range(max(1, count - WINDOW + 1)):
        for middle in permutations(whole[start : start + WINDOW]):
            found[whole[:start] + middle + whole[start + WINDOW :]] = None
    return list(found)


def _level(rows: list[Row], position: int, left: Sequence[int]) -> None:
    """Makes node i stand in `position` `left[i] / slots` times, rounded up or down, by exchanges with later positions.

    `left[i]` is how often node i stands in this or a later position, `slots` the number of these. Giving each node of a
    row `1 / slots` of the position would be level in fractions, so exchanges that level it whole exist (Hoffman's
    circulation theorem), and the paths searched for are there to be found.
    """
    slots = len(rows[0]) - position
    while True:
        held = [0] * len(left)
        for row in rows:
            held[row[position]] += 1
        givers = [node for node, times in enumerate(held) if times > -(-left[node] // slots)]
        takers = [node for node, times in enumerate(held) if times < -(-left[node] // slots)]
        if not givers:
            givers = [node for node, times in enumerate(held) if times > left[node] // slots]
            takers = [node for node, times in enumerate(held) if times < left[node] // slots]
            if not takers:
                return
        _hand_over(rows, position, givers, takers)


def _hand_over(rows: list[Row], position: int, givers: Row, takers: Row) -> None:
    """One giver stands in `position` once less, one taker once more: along a shortest path of rows that hold both."""
    rows_of: dict[int, list[Row]] = {}
    for row in rows:
        rows_of.setdefault(row[position], []).append(row)
    reached: dict[int, Row] = {node: [] for node in givers}  # node -> the row it was reached by; empty for a giver
    queue = deque(givers)
    while (node := queue.popleft()) not in takers:
        for row in rows_of.get(node, ()):
            for other in row[position + 1 :]:
                if other not in reached:
                    reached[other] = row
                    queue.append(other)
    while row := reached[node]:
        giver, at = row[position], row.index(node)
        row[position], row[at] = node, giver
        node = giver
