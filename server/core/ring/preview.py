"""Previews a change of owners: which node gives which partitions to which, and how even the cluster is afterwards.

Theory. The new owners of a partition take over from the owners that leave it, one from one. These pairs show an
operator where disk space is needed and where load goes. If no owner leaves for a new one (N grows with the cluster), or
the leaving owner is gone for good, the data comes from the first present owner that is still there. This is the plan; a
transfer may read from another owner.

A change of order within a row moves no data and is not listed. All of this is a pure function of two layouts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from server.core.ring.assignment import ZoneRule
from server.core.ring.layout import Layout, Member
from server.core.ring.reassignment import Owners


@dataclass(frozen=True, slots=True)
class PartitionMove:
    """Node `target` becomes an owner of `partitions` (ascending), and gets their data from node `source`."""

    source: str
    target: str
    partitions: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change means. Balance is the mean of partitions owned per weight, divided by the maximum."""

    moves: tuple[PartitionMove, ...]
    balance_before: float
    balance_after: float
    zone_violations: tuple[int, ...]  # partitions whose next owners could be spread better over the zones


def preview(present: Layout, following: Layout, gone: Collection[str] = ()) -> Preview:
    """Previews the change from `present` to `following`. `gone`: ids of nodes that can give no data."""
    return Preview(
        moves(present.owners, following.owners, gone),
        present.balance(),
        following.balance(),
        zone_violations(following.owners, following.staying, following.n),
    )


def moves(present: Owners, following: Owners, gone: Collection[str] = ()) -> tuple[PartitionMove, ...]:
    """Returns the moves by pair of nodes, sorted by id; each pair of partition and new owner is in one of them."""
    found: dict[tuple[str, str], list[int]] = {}
    for partition, (old, new) in enumerate(zip(present, following, strict=True)):
        for pair in _pairs(old, new, gone):
            found.setdefault(pair, []).append(partition)
    return tuple(PartitionMove(source, target, tuple(found[source, target])) for source, target in sorted(found))


def _pairs(old: Sequence[str], new: Sequence[str], gone: Collection[str]) -> list[tuple[str, str]]:
    """Returns (source, target) for each new owner of a partition. If all present owners are gone, names the first."""
    comers = [node for node in new if node not in old]
    givers = [node for node in old if node not in new and node not in gone]
    source = next((node for node in old if node not in gone), old[0])
    givers += [source] * (len(comers) - len(givers))
    return list(zip(givers, comers, strict=False))


def zone_violations(owners: Owners, members: Sequence[Member], n: int) -> tuple[int, ...]:
    """Returns the partitions that have more or fewer owners in some zone than `ZoneRule` allows.

    There are none after `reassign`. A replacement by a node in another zone can cause some.
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
