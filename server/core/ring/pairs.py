"""Makes all pairs of nodes share rows equally often after a change, without a further move.

Theory. The targets decide which node gives a seat and which gets it. In which row that happens is mostly free, and the
choice of rows decides which nodes own partitions together. Two exchanges keep the targets if they cancel each other's
effect on the totals of the nodes: x leaves row p for y, and y leaves row q for x. Such a pair of exchanges is made if
it costs no further new seat and lowers the unevenness (seats.py). One of the two seats must be new; otherwise both
would move. So for a new seat of x the candidates are: a y with a new seat of its own; or a y that owned p before and
gave it up (y gets p back, and gives q).

The search is a descent: sweeps over the new seats, limited by a number of trials so that its time is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator

from server.core.ring.computation import Computation
from server.core.ring.seats import Seats

SWEEPS_MAX = 8
TRIALS_MAX = 30_000  # pairs of exchanges tried: takes a tenth of a second


def even_pairs(seats: Seats) -> Computation[None]:
    """Exchanges new seats while that makes pairs more even, up to the limits above."""
    trials = 0
    for _ in range(SWEEPS_MAX):
        better = False
        new = seats.new_seats()
        newcomers = _rows_by_node(new, len(seats.missing))
        for row, node in new:
            if not (node in seats.rows[row] and seats.is_new(row, node)):
                continue  # exchanged earlier in this sweep
            before = trials
            best, best_gain = None, -1e-9
            for other_row, other in _partners(seats, newcomers, row, node):
                trials += 1
                gain = _gain(seats, row, node, other_row, other)
                if gain < best_gain:
                    best, best_gain = (other_row, other), gain
            if best is not None:
                _swap(seats, row, node, *best)
                better = True
            yield 4 * (trials - before) + len(newcomers)
            if trials > TRIALS_MAX:
                return
        if not better:
            return


def _rows_by_node(new: list[tuple[int, int]], nodes: int) -> list[list[int]]:
    rows: list[list[int]] = [[] for _ in range(nodes)]
    for row, node in new:
        rows[node].append(row)
    return rows


def _partners(seats: Seats, newcomers: list[list[int]], row: int, node: int) -> Iterator[tuple[int, int]]:
    """Yields (row, node) of the seats that can be exchanged for this new one, at no price and within the zone rule."""
    present = seats.rows[row]
    for other in range(len(newcomers)):
        if other in present or not seats.zones_permit(row, node, other):
            continue
        gave_up = not seats.is_new(row, other)
        for other_row in seats.rows_of[other] if gave_up else newcomers[other]:
            if (
                seats.permits(other_row, other, node)
                and seats.price(row, node, other) + seats.price(other_row, other, node) <= 0
            ):
                yield other_row, other


def _gain(seats: Seats, row: int, node: int, other_row: int, other: int) -> float:
    """Returns the change of unevenness. Pairs with nodes that own both rows do not change."""
    here, there = seats.rows[row], seats.rows[other_row]
    return seats.crowding(row, node, other, there) + seats.crowding(other_row, other, node, here)


def _swap(seats: Seats, row: int, node: int, other_row: int, other: int) -> None:
    seats.leave(row, node)
    seats.leave(other_row, other)
    seats.enter(row, other)
    seats.enter(other_row, node)
