"""Who owns what after a change of members: from the present owners, the fewest moves to an even assignment.

Theory. Where data lies is dear to change, so the present owners are the start, not the members alone as in `assign`:

1. Targets: `shares` by weight. Of nodes with equal claims those that have the seats keep them.
2. Each row by itself keeps as many of its owners as the members and the zone rule allow, and its empty seats go to
   nodes that miss the most.
3. `meet_targets`: what is then above its target gives to what is below, along cheapest paths. The number of seats
   that change hands is the least that these targets and zones allow: exactly, not nearly.
4. `even_pairs`: among the seats that move anyway, exchanges that cost no further move and make all pairs of nodes meet
   alike, so that the load of a failed node still falls on all others after many changes.
5. `rearrange`: the order within rows. It moves no data, so it makes each node first, second, … owner equally often
   and its successors even, each time anew; who stays keeps the position where that is as good.

A node that replaces another takes exactly that node's seats and positions: one stream from one machine to one, with no
thought of balance. Pure and deterministic, whatever the order of the members.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from server.core.ring.arrangement import Row, rearrange
from server.core.ring.assignment import ZoneRule, shares
from server.core.ring.computation import Computation, finish
from server.core.ring.exchanges import meet_targets
from server.core.ring.layout import Layout, Member
from server.core.ring.pairs import even_pairs
from server.core.ring.seats import Seats

Owners = tuple[tuple[str, ...], ...]
NO_ONE: Mapping[str, str] = {}


def check_replacements(present: Layout, replaced: Mapping[str, str]) -> None:
    """Raises ValueError: a replacement of one who is no member that stays, or by one who is a member."""
    stood_for = {new: old for old, new in replaced.items()}
    staying = [member.id for member in present.staying]
    for gone, new in replaced.items():
        if gone not in staying or new in staying or stood_for[new] != gone:
            raise ValueError(f"{new!r} cannot take the place of {gone!r}")


def next_owners(present: Layout, members: Sequence[Member], replaced: Mapping[str, str] = NO_ONE) -> Owners:
    """The owners of the next layout, in which `members` are those that stay. `replaced`: old id -> new id.

    When nothing but replacements (or names and addresses) changes, every other seat and all positions stay: the new
    node has the old one's share, whatever its own weight and zone. ValueError: a replacement of one who is no member,
    or by one who is.
    """
    return finish(following_owners(present, members, replaced))


def following_owners(present: Layout, members: Sequence[Member], replaced: Mapping[str, str]) -> Computation[Owners]:
    """As `next_owners`, step by step."""
    check_replacements(present, replaced)
    newcomers = frozenset(replaced.values())
    owners = substitute(present.owners, replaced)
    yield len(owners)
    old = {member.id: (member.zone, member.weight) for member in present.staying}
    same = len(members) == len(old) and all(
        member.id in newcomers or old.get(member.id) == (member.zone, member.weight) for member in members
    )
    return owners if same else (yield from reassigned(owners, members, present.n))


def substitute(owners: Owners, replaced: Mapping[str, str]) -> Owners:
    """The same seats, with each replaced node's id exchanged for that of the node in its place."""
    return tuple(tuple(replaced.get(owner, owner) for owner in row) for row in owners)


def reassign(owners: Owners, members: Sequence[Member], n: int) -> Owners:
    """The next owners of every partition, in order: min(n, members) of them, as few of them new as can be.

    Owners that are no members any more have left. ValueError: no members.
    """
    return finish(reassigned(owners, members, n))


def reassigned(owners: Owners, members: Sequence[Member], n: int) -> Computation[Owners]:
    """As `reassign`, step by step."""
    if not members:
        raise ValueError("a cluster needs at least one member")
    ordered = sorted(members, key=lambda member: member.id)
    place = {member.id: index for index, member in enumerate(ordered)}
    before = [[place.get(owner, -1) for owner in row] for row in owners]  # -1: has left
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
    """Takes away the fewest seats of the row that leave it within the zone rule, from nodes with the most too many.

    A zone keeps at most its most, and room for the zones that must still come.
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
    """Gives the row's empty seats to nodes that miss the most and have seldom met those of the row."""
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
    """`now` in the order of `before`; who is new takes the places of those who left, then the last ones."""
    comers = [node for node in now if node not in before]
    row = []
    for node in before:
        if node in now:
            row.append(node)
        elif comers:
            row.append(comers.pop(0))
    return row + comers
