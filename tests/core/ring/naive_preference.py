"""The whole preference lists of a layout, computed plainly: what server/core/ring/preference.py is compared with."""

from __future__ import annotations

from server.core.ring.layout import Layout


def preference_lists(layout: Layout) -> tuple[tuple[str, ...], ...]:
    """For each partition its keepers, then all other staying members as fallbacks."""
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
    return tuple(lists)


def _by_zone(nodes: list[int], zone_of: list[int], used: list[int]) -> list[int]:
    ranks = []
    for node in nodes:
        ranks.append(used[zone_of[node]])
        used[zone_of[node]] += 1
    return [nodes[index] for index in sorted(range(len(nodes)), key=ranks.__getitem__)]
