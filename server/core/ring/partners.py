"""Partners: the members that keep partitions together with one node."""

from __future__ import annotations

from server.core.ring.layout_fields import LayoutFields


class Partners:
    """The partners of one node by one layout, and who leads the comparisons of each pair.

    There are as many of them in a cluster of any size: a node that keeps K partitions has at most (N-1) times K.
    """

    def __init__(self, layout: LayoutFields, node: str) -> None:
        self.layout = layout
        self.partitions: dict[str, list[int]] = {}  # by partner: the partitions that both keep
        for partition in range(layout.partitions):
            keepers = layout.keepers(partition)
            if node in keepers:
                for keeper in keepers:
                    if keeper != node:
                        self.partitions.setdefault(keeper, []).append(partition)
        self._place_of = {member.id: place for place, member in enumerate(layout.members)}
        self._place = self._place_of.get(node, 0)

    def leads(self, partner: str) -> bool:
        """Whether the node leads the comparisons with this partner; each member leads about half of its pairs."""
        here, there = self._place, self._place_of[partner]
        return (here < there) == ((here + there) % 2 == 1)
