"""The owners after a change of members: an even assignment that is reached from the present owners with the fewest moves.

Theory. To move data is expensive. So the computation starts from the present owners, not from the members alone as
`assign` does:

1. Targets: `shares` by weight. Of nodes with equal claims, those that hold more partitions come first.
2. Each row keeps as many of its owners as the members and the zone rule allow. Its empty seats go to the nodes that are
   furthest below their targets.
3. `meet_targets`: nodes above their targets give seats to nodes below, along cheapest paths. The number of seats that
   change hands is the exact minimum for these targets and zones.
4. `even_pairs`: among the seats that move anyway, exchanges that cost no further move make all pairs of nodes share
   rows equally often. So even after many changes the load of a failed node falls on all others alike.
5. `rearrange`: the order within rows. That moves no data. It makes each node equally often first, second, … owner, and
   its successors even. An owner that stays keeps its position where that is as good.

A node that replaces another gets exactly that node's seats and positions: one stream from one machine to one other,
without regard to balance. Pure and deterministic, whatever the order of the members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.core.ring.arrangement import Row, rearrange
from server.core.ring.assignment import ZoneRule, shares
from server.core.ring.computation import Computation, compute_now
from server.core.ring.exchanges import meet_targets
from server.core.ring.layout import Layout, Member
from server.core.ring.pairs import even_pairs
from server.core.ring.seats import Seats

Owners = tuple[tuple[str, ...], ...]
NO_ONE: Mapping[str, str] = {}


def check_replacements(present: Layout, replaced: Mapping[str, str]) -> None:
    """Raises ValueError if a replaced node is no staying member, or its replacement is one, or replaces two nodes."""
    stood_for = {new: old for old, new in replaced.items()}
    staying = [member.id for member in present.staying]
    for gone, new in replaced.items():
        if gone not in staying or new in staying or stood_for[new] != gone:
            raise ValueError(f"{new!r} cannot take the place of {gone!r}")


def next_owners(present: Layout, members: Sequence[Member], replaced: Mapping[str, str] = NO_ONE, n: int = 0) -> Owners:
    """Returns the owners of the next layout. `members` are its staying members; `replaced` is old id -> new id; `n` is its
    N, if that is another one than now.

    If nothing but replacements, names and addresses changes, all other seats and all positions stay: the new node gets
    the old one's share, whatever its own weight and zone are. Raises ValueError as `check_replacements` does.
    """
    return compute_now(following_owners(present, members, replaced, n))


def following_owners(
    present: Layout, members: Sequence[Member], replaced: Mapping[str, str], n: int = 0
) -> Computation[Owners]:
    """The same as `next_owners`, as a computation in steps.

    Another N starts from the nodes that hold the data now. So if N goes back while it is under way, the owners go back."""
    check_replacements(present, replaced)
    newcomers = frozenset(replaced.values())
    changes_n = n not in (0, present.n)
    rows = tuple([present.readers(each) for each in range(present.partitions)]) if changes_n else present.owners
    owners = substitute(rows, replaced)
    yield len(owners)
    old = {member.id: (member.zone, member.weight) for member in present.staying}
    same = len(members) == len(old) and all(
        member.id in newcomers or old.get(member.id) == (member.zone, member.weight) for member in members
    )
    return owners if same and not changes_n else (yield from reassigned(owners, members, n or present.n))


def substitute(owners: Owners, replaced: Mapping[str, str]) -> Owners:
    """Returns the same seats, with the id of each replaced node exchanged for the id of its replacement."""
    return tuple(tuple(replaced.get(owner, owner) for owner in row) for row in owners)


def reassign(owners: Owners, members: Sequence[Member], n: int) -> Owners:
    """Returns the next owners of each partition, in order: min(n, members) of them, and as few new ones as possible.

    Present owners that are not in `members` lose their seats. Raises ValueError if there are no members.
    """
    return compute_now(reassigned(owners, members, n))


def reassigned(owners: Owners, members: Sequence[Member], n: int) -> Computation[Owners]:
    """The same as `reassign`, as a computation in steps."""
    if not members:
        raise ValueError("a cluster needs at least one member")
    ordered = sorted(members, key=lambda member: member.id)
    index_of = {member.id: index for index, member in enumerate(ordered)}
    before = [[index_of.get(owner, -1) for owner in row] for row in owners]  # -1: has left
    zones = ZoneRule.of(ordered, min(n, len(ordered)))
    stayed = [[node for node in row if node >= 0] for row in before]
    held = [0] * len(ordered)
    for row in stayed:
        for node in row:
            held[node] += 1
    yield 4 * len(owners)
    targets = shares([member.weight for member in ordered], zones, len(owners), held)
    yield 4 * len(owners)
    seats = Seats(stayed, targets, zones)
    yield 8 * len(owners)
    for index in range(len(stayed)):
        _vacate(seats, index)
        yield 4
    for index in range(len(stayed)):
        _fill(seats, index)
        yield 4
    yield from meet_targets(seats)
    yield from even_pairs(seats)
    rows = [_in_position(was, now) for was, now in zip(before, seats.rows, strict=True)]
    yield 4 * len(owners)
    yield from rearrange(rows, targets)
    return tuple(tuple(ordered[node].id for node in row) for row in rows)


def _vacate(seats: Seats, index: int) -> None:
    """Removes as few owners from a row as needed, so that it can be filled within the zone rule.

    Each zone keeps at most its maximum, and leaves room for zones that are below their minimum. The nodes that are
    furthest above their targets go first.
    """
    zones, counts = seats.zones, seats.zone_counts[index]
    while True:
        booked = sum(max(count, least) for count, least in zip(counts, zones.least, strict=True))
        over = [node for node in seats.rows[index] if counts[zones.zone_of[node]] > zones.most[zones.zone_of[node]]]
        if not over and booked > zones.count:
            over = [
                node for node in seats.rows[index] if counts[zones.zone_of[node]] > zones.least[zones.zone_of[node]]
            ]
        if not over:
            return
        seats.leave(index, min(over, key=lambda node: seats.missing[node] * seats.scale[node]))


def _fill(seats: Seats, index: int) -> None:
    """Fills a row with nodes that are furthest below their targets and seldom share rows with its present owners."""
    zones, counts = seats.zones, seats.zone_counts[index]
    while empty := zones.count - len(seats.rows[index]):
        owed = sum(max(0, least - count) for count, least in zip(counts, zones.least, strict=True))
        limits = zones.least if owed == empty else zones.most
        able = [
            node
            for node, zone in enumerate(zones.zone_of)
            if counts[zone] < limits[zone] and node not in seats.rows[index]
        ]
        seats.enter(index, min(able, key=lambda node: _reluctance(seats, index, node)))


def _reluctance(seats: Seats, index: int, node: int) -> tuple[bool, float]:
    met = sum(seats.together[node][other] for other in seats.rows[index])
    return seats.missing[node] <= 0, (met - seats.missing[node]) * seats.scale[node]


def _in_position(before: Row, now: Row) -> Row:
    """Returns `now` in the order of `before`. New owners get the positions of those that left, then the last ones."""
    comers = [node for node in now if node not in before]
    row = []
    for node in before:
        if node in now:
            row.append(node)
        elif comers:
            row.append(comers.pop(0))
    return row + comers
