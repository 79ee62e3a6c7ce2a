"""Preference lists: for each partition its keepers, then its fallbacks, in order (Dynamo, section 4.3).

Theory. A preference list is a pure function of the layout. So all nodes with the same layout agree on it without a
message. Members that are about to leave are no fallbacks.

The fallbacks are all other staying members, in the order of their ids, as a ring. The ring is entered at the member that
so far is first fallback for these owners least often (by weight). So if a node fails, its partitions fall back on all
other nodes alike. Then the list is sorted so that a member comes first if its zone is in the list less often: each
beginning of the list is spread over as many zones as possible.

Whole lists would grow with partitions times members: 1,000 members and 16,384 partitions have 16 million entries, which
are 130 MB and half a minute of computation in each node after each change. Nearly all of them are never read. So only
the member at which the ring is entered is computed in advance, one number a partition. It depends on the partitions
before, and few counts are not zero, so it is found after a few steps. From it the list follows, as far as it is wanted.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from itertools import chain

from server.core.ring.computation import Computation
from server.core.ring.layout_fields import LayoutFields

NOBODY = -1
FEW = 32  # able nodes: up to so many are ranked, and among more the first few are soon found in order


class Fallbacks:
    """The order of the fallbacks of each partition of one layout. Nodes are places in the list of staying members."""

    def __init__(self, layout: LayoutFields) -> None:
        zones = sorted({member.zone for member in layout.members})
        self._ids = [member.id for member in layout.staying]
        self._place_of = {node: place for place, node in enumerate(self._ids)}
        self._zone_of = {member.id: zones.index(member.zone) for member in layout.members}
        self._zones = [self._zone_of[node] for node in self._ids]  # by place
        self._weights = [member.weight for member in layout.staying]
        self._places_in: list[list[int]] = [[] for _ in zones]
        for place, zone in enumerate(self._zones):
            self._places_in[zone].append(place)
        self._firsts = array("i")  # by partition: the place of the first fallback, or NOBODY

    def compute(self, layout: LayoutFields) -> Computation[None]:
        """Computes where the ring of each partition is entered."""
        loads: dict[str, dict[int, int]] = {member.id: {} for member in layout.members}
        for partition in range(layout.partitions):
            keepers = layout.keepers(partition)
            sums: dict[int, int] = {}  # place -> how often it is first fallback for these keepers
            for keeper in keepers:
                for place, count in loads[keeper].items():
                    sums[place] = sums.get(place, 0) + count
            first, steps = self._least_loaded(keepers, sums)
            self._firsts.append(first)
            if first != NOBODY:
                for keeper in keepers:
                    loads[keeper][first] = loads[keeper].get(first, 0) + 1
            yield 4 + (steps + len(sums)) // 4

    def _least_loaded(self, keepers: Sequence[str], sums: dict[int, int]) -> tuple[int, int]:
        """Returns the first place, among those in the zones with the fewest keepers, with the lowest load for its weight;
        and how many places were looked at."""
        places, used = self._of(keepers)
        own = [self._zones[place] for place in places]
        free = [zone for zone, members in enumerate(self._places_in) if len(members) > own.count(zone)]
        if not free:
            return NOBODY, len(self._places_in)
        least = min([used.get(zone, 0) for zone in free])
        best, best_load, steps = NOBODY, 0.0, 0
        for place, zone in enumerate(self._zones):
            steps += 1
            if used.get(zone, 0) != least or place in places:
                continue
            load = sums[place] / self._weights[place] if place in sums else 0.0
            if best == NOBODY or load < best_load:
                best, best_load = place, load
                if not load:
                    break
        return best, steps

    def _of(self, keepers: Sequence[str]) -> tuple[list[int], dict[int, int]]:
        """The places of those keepers that stay, and how many of all keepers each zone has."""
        used: dict[int, int] = {}
        for keeper in keepers:
            zone = self._zone_of[keeper]
            used[zone] = used.get(zone, 0) + 1
        return [self._place_of[keeper] for keeper in keepers if keeper in self._place_of], used

    def order(self, partition: int, keepers: Sequence[str]) -> Iterator[str]:
        """Yields the fallbacks of a partition, the first one first."""
        first = self._firsts[partition]
        if first == NOBODY:
            return
        (places, used), size = self._of(keepers), len(self._ids)
        queues: list[Iterator[int]] = []  # by zone: the places in it that are left, from `first` on
        for members in self._places_in:
            start = bisect_left(members, first)
            ring = chain(members[start:], members[:start])
            queues.append(place for place in ring if place not in places)  # few of them are wanted
        rank = 0
        while queues:  # at each rank, each zone that is in the list so often has the next place
            row = []
            for zone, queue in enumerate(queues):
                place = next(queue, NOBODY) if used.get(zone, 0) <= rank else NOBODY
                if place != NOBODY:
                    row.append(place)
            if not row and rank >= max(used.values(), default=0):
                return
            yield from [self._ids[place] for place in sorted(row, key=lambda place: (place - first) % size)]
            rank += 1

    def first_of(self, partition: int, keepers: Sequence[str], few: Sequence[str], count: int) -> list[str]:
        """Returns the first `count` of a few nodes, in the order of the fallbacks; others of them are none."""
        first = self._firsts[partition]
        if first == NOBODY:
            return []
        (places, used), size = self._of(keepers), len(self._ids)
        ranked = []
        for node in few:
            place = self._place_of.get(node, NOBODY)
            if place == NOBODY or place in places:
                continue
            zone, distance = self._zones[place], (place - first) % size
            members = self._places_in[zone]
            before = (bisect_left(members, place) - bisect_left(members, first)) % len(members)
            for other in places:
                before -= self._zones[other] == zone and (other - first) % size < distance
            ranked.append((used.get(zone, 0) + before, distance, node))
        return [node for _, _, node in nsmallest(count, ranked)]
