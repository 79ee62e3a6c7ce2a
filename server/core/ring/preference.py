"""Preference lists: for each partition its keepers, then its fallbacks, in order (Dynamo, section 4.3).

Theory. A preference list is a pure function of the layout. So all nodes with the same layout agree on it without a
message. Members that are about to leave are no fallbacks.
"""

from __future__ import annotations

from server.core.ring.computation import Computation
from server.core.ring.layout_fields import LayoutFields


def preference_lists(layout: LayoutFields) -> Computation[tuple[tuple[str, ...], ...]]:
    """Computes for each partition its keepers, then all other staying members as fallbacks.

    The fallbacks are in the order of their ids, as a ring. The ring is entered at the member that so far is first
    fallback for these owners least often (by weight). So if a node fails, its partitions fall back on all other nodes
    alike. Then the list is sorted so that a member comes first if its zone is in the list less often: each beginning of
    the list is spread over as many zones as possible. With 30 members it takes 30 µs a partition.
    """
    members = layout.members
    index_of = {member.id: index for index, member in enumerate(members)}
    zones = sorted({member.zone for member in members})
    zone_of = [zones.index(member.zone) for member in members]
    weights = [member.weight for member in members]
    stands_in = [[0] * len(members) for _ in members]  # [owner][other]: partitions where other is the first fallback
    lists = []
    staying = [index_of[member.id] for member in layout.staying]
    for partition in range(layout.partitions):
        keepers = layout.keepers(partition)
        nodes = [index_of[keeper] for keeper in keepers]
        others = [node for node in staying if node not in nodes]
        if others:
            used = [0] * len(zones)
            for node in nodes:
                used[zone_of[node]] += 1
            loads = [stands_in[node] for node in nodes]
            sums = list(map(sum, zip(*loads, strict=True)))
            costs = [(used[zone_of[other]], sums[other] / weights[other]) for other in others]
            start = costs.index(min(costs))
            for load in loads:
                load[others[start]] += 1
            others = _by_zone(others[start:] + others[:start], zone_of, used)
        lists.append(keepers + tuple([members[node].id for node in others]))
        yield 1 + len(others)
    return tuple(lists)


def _by_zone(nodes: list[int], zone_of: list[int], used: list[int]) -> list[int]:
    """Sorts nodes by how often their zone comes before them; equal ones keep their order. Adds to `used`, zone -> times."""
    ranks = []
    for node in nodes:
        ranks.append(used[zone_of[node]])
        used[zone_of[node]] += 1
    return [nodes[index] for index in sorted(range(len(nodes)), key=ranks.__getitem__)]
