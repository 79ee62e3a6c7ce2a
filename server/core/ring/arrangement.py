"""Which of a partition's owners is first, second, and so on: a matter of order alone, so that it moves no data.

Theory. Each node should be first as often as second, and the next owners of its partitions, on whom its work falls when
it fails, should be all others alike. Three steps, the later ones keeping what the former have reached:

1. Descent: each row takes the cheapest order given all others, sweep by sweep. The price counts positions held more
   often than is fair, and neighbours that often are neighbours.
2. `_level`: positions that the search leaves uneven are levelled exactly, by exchanges along shortest paths (de Werra's
   equitable colouring of bipartite graphs).
3. `_Polish`, at a change of members: rows whose neighbours still meet too often swap two positions, and where that
   would unlevel these, another row swaps the same two nodes the other way.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import combinations, islice, pairwise, permutations

from server.core.ring.computation import Computation

Row = list[int]  # the owners of one partition, as indexes into the members sorted by id

SWEEPS_MAX = 6  # of the descent over all rows; it mostly settles in two or three
POLISH_SWEEPS_MAX = 3
WINDOW = 3  # neighbouring positions of a row that are permuted together
# Prices, found by trial, where 1 is that of one more row in which x follows y in the same positions:
POSITION_WEIGHT = 2.0  # once more in a position than is fair
POSITION_WEIGHT_AGAIN = 1.0  # the same where the rows have an order already: lower, or it holds on to that too much
NEXT_WEIGHT = 8.0  # one more row in which x follows y in any of the n - 1 pairs of positions, divided by n - 1
NEXT_WEIGHT_AT_LAST = 0.5  # the same in step 3: what is left are mostly neighbours in the same positions
# Step 3 parts two neighbours that are so many rows, and this share of the even number, above it:
CROWDED = 0.75
CROWDED_SHARE = 0.1
PARTNERS_MAX = 8  # second rows that are tried for a swap
# Units of work (computation.py) of one row:
ORDER_UNITS = 20
PART_UNITS = 100


def arrange(rows: list[Row], quotas: Sequence[int]) -> Computation[None]:
    """Orders the nodes within each row, in place, step by step; see the module's theory.

    Afterwards node i stands in each position `quotas[i] / n` times, rounded up or down.
    """
    order = _Order(quotas, len(rows[0]))
    for row in rows:
        row[:] = order.cheapest(sorted(row))
        order.count(row, 1)
        yield ORDER_UNITS
    yield from _settle(rows, quotas, order)


def rearrange(rows: list[Row], quotas: Sequence[int]) -> Computation[None]:
    """As `arrange`, but from the order that the rows have, which stays where it is as good as another."""
    order = _Order(quotas, len(rows[0]), POSITION_WEIGHT_AGAIN)
    for row in rows:
        order.count(row, 1)
        yield 1
    yield from _settle(rows, quotas, order)
    polish = _Polish(rows, quotas)
    yield 2 * len(rows)
    yield from polish.run()


def _settle(rows: list[Row], quotas: Sequence[int], order: _Order) -> Computation[None]:
    """Steps 1 and 2. `order` has counted all rows; it is out of date afterwards."""
    for _ in range(SWEEPS_MAX):
        better = False
        for row in rows:
            better |= order.improve(row)
            yield ORDER_UNITS
        if not better:
            break
    left = list(quotas)
    for position in range(len(rows[0]) - 1):
        yield from _level(rows, position, left)
        for row in rows:
            left[row[position]] -= 1


class _Order:
    """How often each node stands in each position and directly after each other node, over the rows counted so far."""

    def __init__(self, quotas: Sequence[int], count: int, position_weight: float = POSITION_WEIGHT) -> None:
        nodes = range(len(quotas))
        mean = sum(quotas) / len(quotas)
        self.fair = [quota / count for quota in quotas]
        self.scale = [mean / (quota or 1) for quota in quotas]
        self.held = [[0] * len(quotas) for _ in range(count)]
        self.next_at = [[[0] * len(quotas) for _ in nodes] for _ in range(count)]
        self.next = [[0] * len(quotas) for _ in nodes]
        self.next_weight = NEXT_WEIGHT / max(1, count - 1)
        self.position_weight = position_weight
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
                total += self.position_weight * over
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

    def rise(self, changed: list[tuple[Row, Row]]) -> float:
        """What the price of all rows would rise by if each `now` became its `then`."""
        total = 0.0
        for now, then in changed:
            self.count(now, -1)
            total += self.price(then) - self.price(now)
            self.count(then, 1)
        for now, then in changed:
            self.count(then, -1)
            self.count(now, 1)
        return total


def _windows(count: int) -> list[tuple[int, ...]]:
    """All orders of `count` positions that permute `WINDOW` neighbours, each once, the unchanged one first."""
    found: dict[tuple[int, ...], None] = {}
    whole = tuple(range(count))
    for start in range(max(1, count - WINDOW + 1)):
        for middle in permutations(whole[start : start + WINDOW]):
            found[whole[:start] + middle + whole[start + WINDOW :]] = None
    return list(found)


def _level(rows: list[Row], position: int, left: Sequence[int]) -> Computation[None]:
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
        yield 2 * len(rows)


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


class _Polish:
    """Step 3. Each node keeps its number in each position, or one that rounds its fair share as well."""

    def __init__(self, rows: list[Row], quotas: Sequence[int]) -> None:
        self.rows = rows
        self.quotas = quotas
        self.count = len(rows[0])
        self.order = _Order(quotas, self.count, position_weight=0.0)
        self.order.next_weight = NEXT_WEIGHT_AT_LAST
        self.rows_of: list[list[Row]] = [[] for _ in quotas]
        self.together = [[0] * len(quotas) for _ in quotas]
        for row in rows:
            self.order.count(row, 1)
            for node in row:
                self.rows_of[node].append(row)
                for other in row:
                    self.together[node][other] += 1

    def run(self) -> Computation[None]:
        """Sweeps over the rows until none gets better."""
        for _ in range(POLISH_SWEEPS_MAX):
            better = False
            for row in self.rows:
                if self._is_crowded(row):
                    better |= self._part(row)
                    yield PART_UNITS
                yield 1
            if not better:
                return

    def _is_crowded(self, row: Row) -> bool:
        """Whether two neighbours are that in these positions clearly more often than in any others."""
        for position, (node, other) in enumerate(pairwise(row), 1):
            even = self.together[node][other] / (self.count * (self.count - 1))
            if self.order.next_at[position][node][other] - even > max(CROWDED, CROWDED_SHARE * even):
                return True
        return False

    def _part(self, row: Row) -> bool:
        """Swaps two of the row's positions, alone or with a second row, as lowers the price the most."""
        best: list[tuple[Row, Row]] = []
        lowest = -1e-9
        for changed in self._swaps(row):
            rise = self.order.rise(changed)
            if rise < lowest:
                best, lowest = changed, rise
        for now, then in best:
            self.order.count(now, -1)
            now[:] = then
            self.order.count(now, 1)
        return bool(best)

    def _swaps(self, row: Row) -> Iterator[list[tuple[Row, Row]]]:
        """The changes that leave positions level, each as (row, its new order) for one or two rows."""
        for one, other in combinations(range(self.count), 2):
            first, second = row[one], row[other]
            changed = (row, _swapped(row, one, other))
            if self._has_slack(first, one, other) and self._has_slack(second, other, one):
                yield [changed]
            partners = (that for that in self.rows_of[first] if that[one] == second and that[other] == first)
            for partner in islice(partners, PARTNERS_MAX):
                yield [changed, (partner, _swapped(partner, one, other))]

    def _has_slack(self, node: int, old: int, new: int) -> bool:
        """Whether the node can be in the `old` position once less, in the `new` one once more."""
        held = self.order.held
        return held[old][node] > self.quotas[node] // self.count and held[new][node] < -(
            -self.quotas[node] // self.count
        )


def _swapped(row: Row, one: int, other: int) -> Row:
    then = list(row)
    then[one], then[other] = row[other], row[one]
    return then
