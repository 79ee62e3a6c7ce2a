"""What a change of owners means before it is made: what moves from whom to whom, and how even it leaves the cluster.

Theory. A partition's new owners take over from those that leave it, one from one: so the pairs tell an operator where
the room and the load go. A new owner for whom none leaves (N grows with the cluster), or whose giver is gone for good,
has its data from the first present owner that is still there. That is the plan; a transfer may read from another owner.

Changes of order within a row move nothing and are not listed. All of it is a pure function of two layouts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from server.core.ring.assignment import ZoneRule
from server.core.ring.layout import Layout, Member
from server.core.ring.reassignment import Owners


@dataclass(frozen=True, slots=True)
class Move:
    """`target` becomes an owner of `partitions`, whose data `source` gives. Ids of nodes; partitions ascend."""

    source: str
    target: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """From one layout to the next. Balance is mean over max of owned partitions by weight."""

    moves: tuple[Move, ...]
    balance_before: float
    balance_after: float
    zone_violations: tuple[int, ...]  # partitions whose next owners are not spread over the zones as they could be


def preview(present: Layout, following: Layout, gone: Collection[str] = ()) -> Preview:
    """What the change from `present` to `following` means. `gone`: ids of nodes that can give no data."""
    return Preview(
        moves(present.owners, following.owners, gone),
        present.balance(),
        following.balance(),
        zone_violations(following.owners, following.staying, following.n),
    )


def moves(present: Owners, following: Owners, gone: Collection[str] = ()) -> tuple[Move, ...]:
    """Every (partition, new owner) once, by pair of nodes, sorted by their ids."""
    found: dict[tuple[str, str], list[int]] = {}
    for partition, (old, new) in enumerate(zip(present, following, strict=True)):
        for pair in _pairs(old, new, gone):
            found.setdefault(pair, []).append(partition)
    return tuple(Move(source, target, tuple(found[source, target])) for source, target in sorted(found))


def _pairs(old: Sequence[str], new: Sequence[str], gone: Collection[str]) -> list[tuple[str, str]]:
    """Who gives the partition to whom. With all present owners gone there is nobody to ask: the first is named."""
    comers = [node for node in new if node not in old]
    givers = [node for node in old if node not in new and node not in gone]
    source = next((node for node in old if node not in gone), old[0])
    givers += [source] * (len(comers) - len(givers))
    return list(zip(givers, comers, strict=False))


def zone_violations(owners: Owners, members: Sequence[Member], n: int) -> tuple[int, ...]:
    """The partitions that have more or fewer owners in some zone than `ZoneRule` asks for. None after `reassign`.

    A replacement by a node in another zone can leave some.
    """
    ordered = sorted(members, key=lambda member: member.id)
    rule = ZoneRule.of(ordered, min(n, len(ordered)))
    zone_of = {member.id: zone for member, zone in zip(ordered, rule.zone_of, strict=True)}
    return tuple(
        partition for partition, row in enumerate(owners) if not _keeps(rule, [zone_of[owner] for owner in row])
    )


def _keeps(rule: ZoneRule, zones: Sequence[int]) -> bool:
    return all(
        least <= zones.count(zone) <= most for zone, (least, most) in enumerate(zip(rule.least, rule.most, strict=True))
    )
