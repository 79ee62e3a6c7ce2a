"""The fields of a layout, and who reads and writes a partition by them.

They stand apart from the `Layout` (layout.py), so that what checks the fields (layout_faults.py) and what is computed from
them (preference.py) is there before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from server.core.ring.change import Change

SETTLED, TRANSFER, HANDOVER = "settled", "transfer", "handover"
NO_FIELDS = "{}"


@dataclass(frozen=True, slots=True)
class Member:
    """One node. `address` is "host:port" (IPv6: "[host]:port"); the empty zone is a zone like the others."""

    id: str
    name: str
    address: str
    zone: str
    weight: int
    extra: str = field(default=NO_FIELDS, repr=False)  # canonical JSON: the fields that this version does not know


@dataclass(frozen=True)
class LayoutFields:
    """`members` are sorted by id; `owners[p]` are the ids of partition p's owners in order, as many as n and the members
    that stay allow. `former` has the former owners of each partition that moves, sorted by partition.

    `progress` counts the phases that were ever ended: of two layouts made side by side the one that has seen more of them
    knows who holds the data. `log` has the latest changes, oldest first; `merged_epoch` is the last epoch that was made
    out of two layouts, 0 for none.
    """

    cluster: str
    epoch: int
    partitions: int
    n: int
    r: int
    w: int
    members: tuple[Member, ...]
    owners: tuple[tuple[str, ...], ...]
    revision: int = 0
    progress: int = 0
    phase: str = SETTLED
    former: tuple[tuple[int, tuple[str, ...]], ...] = ()
    leaving: tuple[str, ...] = ()  # ids of members that own nothing any more and go once they hold nothing, sorted
    log: tuple[Change, ...] = ()
    merged_epoch: int = 0
    extra: str = field(default=NO_FIELDS, repr=False)  # canonical JSON: the fields that this version does not know
    _former: dict[int, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def staying(self) -> tuple[Member, ...]:
        """The members that are not about to leave."""
        return (
            tuple(member for member in self.members if member.id not in self.leaving) if self.leaving else self.members
        )

    @property
    def effective_n(self) -> int:
        """N, cut to the number of members that stay."""
        return min(self.n, len(self.members) - len(self.leaving))

    @property
    def effective_r(self) -> int:
        """R, cut to the number of members that stay."""
        return min(self.r, self.effective_n)

    @property
    def effective_w(self) -> int:
        """W, cut to the number of members that stay."""
        return min(self.w, self.effective_n)

    def former_owners(self, partition: int) -> tuple[str, ...]:
        """The former owners of a partition that moves; none of one that does not."""
        return self._former.get(partition, ())

    def readers(self, partition: int) -> tuple[str, ...]:
        """Those who hold the whole partition, in order: they coordinate it and answer for it."""
        return self._former.get(partition, self.owners[partition]) if self.phase == TRANSFER else self.owners[partition]

    def keepers(self, partition: int) -> tuple[str, ...]:
        """All who take the partition's writes: its readers in order, then the others."""
        former = self._former.get(partition)
        if former is None:
            return self.owners[partition]
        first, then = (former, self.owners[partition]) if self.phase == TRANSFER else (self.owners[partition], former)
        return first + tuple(node for node in then if node not in first)
