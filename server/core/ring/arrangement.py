"""The order of the owners within each partition. Order alone moves no data.

Theory. Each node should be first owner as often as second, and so on. If a node fails, its work falls on the next
owners of its partitions, so these should be all others alike. There are three steps; each keeps what the steps before
have reached:

1. Descent: each row takes the order that is cheapest given all other rows, in several sweeps. The price counts nodes
   that are in a position more often than their fair share, and pairs of neighbours that are often neighbours.
2. `_level`: positions that are still uneven are levelled exactly, by exchanges along shortest paths (de Werra's
   equitable colouring of bipartite graphs).
3. `_Polish`, after a change of members: rows whose neighbours still meet too often swap two positions. If that would
   make the positions uneven, another row swaps the same two nodes the other way round.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from itertools import combinations, islice, pairwise, permutations

from server.core.ring.computation import Computation

Row = list[int]  # the owners of one partition, as indexes into the members sorted by id

SWEEPS_MAX = 6  # sweeps of the descent over all rows; two or three are mostly enough
POLISH_SWEEPS_MAX = 3
WINDOW = 3  # neighbouring positions of a row that are permuted together
# Prices, found by trial. The unit is the price of one more row in which x follows y in the same two positions.
POSITION_WEIGHT = 2.0  # a node is in a position once more than its fair share
POSITION_WEIGHT_AGAIN = (
    1.0  # the same if the rows have an order already; a higher price would keep too much of that order
)
NEXT_WEIGHT = 8.0  # x follows y in one more row, in any two positions; divided by the n - 1 pairs of positions
NEXT_WEIGHT_AT_LAST = 0.5  # the same in step 3, where mostly neighbours in the same positions are left
# Step 3 separates two neighbours if they are neighbours in more rows than even, by both of these (rows, share of even):
CROWDED = 0.75
CROWDED_SHARE = 0.1
PARTNERS_MAX = 8  # second rows tried for a swap
# Units of work (computation.py) for one row:
ORDER_UNITS = 20
PART_UNITS = 100


def arrange(rows: list[Row], quotas: Sequence[int]) -> Computation[None]:
    """Orders the nodes within each row, in place (see above), as a computation in steps.

    Afterwards node i is in each position `quotas[i] / n` times, rounded up or down.
    """
    order = _Order(quotas, len(rows[0]))
    for row in rows:
        row[:] = order.cheapest(sorted(row))
        order.count(row, 1)
        yield ORDER_UNITS
    yield from _settle(rows, quotas, order)


def rearrange(rows: list[Row], quotas: Sequence[int]) -> Computation[None]:
    """The same as `arrange`, but starts from the present order of the rows, and keeps it where it is as good as another."""
    order = _Order(quotas, len(rows[0]), POSITION_WEIGHT_AGAIN)
    for row in rows:
        order.count(row, 1)
        yield 1
    yield from _settle(rows, quotas, order)
    polish = _Polish(rows, quotas)
    yield 2 * len(rows)
    yield from polish.run()


def _settle(rows: list[Row], quotas: Sequence[int], order: _Order) -> Computation[None]:
    """Does steps 1 and 2. `order` must have counted all rows; it is not valid afterwards."""
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
    """Counts over rows: how often each node is in each position, and how often directly after each other node."""

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
        """Returns the cheapest order of the row among those near its present one."""
        orders = [[row[position] for position in window] for window in self.windows]
        return orders[min(range(len(orders)), key=lambda index: self.price(orders[index]))]

    def count(self, row: Row, step: int) -> None:
        for position, node in enumerate(row):
            self.held[position][node] += step
            if position:
                self.next_at[position][row[position - 1]][node] += step
                self.next[row[position - 1]][node] += step

    def price(self, row: Row) -> float:
        """Returns the price of adding this row: positions above the fair share, and neighbours that often are such."""
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
        """Gives the row the cheapest order given all others. Returns whether that changed it."""
        self.count(row, -1)
        best = self.cheapest(row)
        better = self.price(best) < self.price(row) - 1e-9
        if better:
            row[:] = best
        self.count(row, 1)
        return better

    def rise(self, changed: list[tuple[Row, Row]]) -> float:
        """Returns by how much the price of all rows would rise if each `now` became its `then`."""
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
    """Returns all orders of `count` positions that permute `WINDOW` neighbours, the unchanged order first."""
    found: dict[tuple[int, ...], None] = {}
    whole = tuple(range(count))
    for start in range(max(1, count - WINDOW + 1)):
        for middle in permutations(whole[start : start + WINDOW]):
            found[whole[:start] + middle + whole[start + WINDOW :]] = None
    return list(found)


def _level(rows: list[Row], position: int, left: Sequence[int]) -> Computation[None]:
    """Makes node i be in `position` `left[i] / slots` times, rounded up or down, by exchanges with later positions.

    `left[i]` is how often node i is in this or a later position; `slots` is the number of these positions. If each node
    of a row had `1 / slots` of the position, it would be level in fractions. So whole exchanges that level it exist
    (Hoffman's circulation theorem), and the search always finds a path.
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
    """Moves one place in `position` from a giver to a taker, along a shortest path of rows that hold both nodes."""
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
    """Step 3. Each node stays as often in each position as before, or its count stays a rounding of its fair share."""

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
        """Sweeps over the rows until no row gets better."""
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
        """Whether two neighbours of the row are neighbours in these positions clearly more often than in others."""
        for position, (node, other) in enumerate(pairwise(row), 1):
            even = self.together[node][other] / (self.count * (self.count - 1))
            if self.order.next_at[position][node][other] - even > max(CROWDED, CROWDED_SHARE * even):
                return True
        return False

    def _part(self, row: Row) -> bool:
        """Makes the swap of two positions, alone or together with a second row, that lowers the price most."""
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
        """Yields the swaps that leave positions level, each as (row, its new order) for one or two rows."""
        for one, other in combinations(range(self.count), 2):
            first, second = row[one], row[other]
            changed = (row, _swapped(row, one, other))
            if self._has_slack(first, one, other) and self._has_slack(second, other, one):
                yield [changed]
            partners = (that for that in self.rows_of[first] if that[one] == second and that[other] == first)
            for partner in islice(partners, PARTNERS_MAX):
                yield [changed, (partner, _swapped(partner, one, other))]

    def _has_slack(self, node: int, old: int, new: int) -> bool:
        """Whether the node may be in the `old` position once less and in the `new` one once more."""
        held = self.order.held
        return held[old][node] > self.quotas[node] // self.count and held[new][node] < -(
            -self.quotas[node] // self.count
        )


def _swapped(row: Row, one: int, other: int) -> Row:
    then = list(row)
    then[one], then[other] = row[other], row[one]
    return then
