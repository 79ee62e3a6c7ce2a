"""The fields of a layout, and the nodes that read and write a partition by them.

A module apart from layout.py, because `Layout` itself imports the modules that validate these fields (layout_faults.py)
and that compute preference lists from them (preference.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from server.core.ring.change import Change

SETTLED, TRANSFER, HANDOVER = "settled", "transfer", "handover"
NO_FIELDS = "{}"


@dataclass(frozen=True, slots=True)
class Member:
    """One node. `address` is "host:port" (IPv6: "[host]:port"). The empty zone is a zone like any other."""

    id: str
    name: str
    address: str
    zone: str
    weight: int
    extra: str = field(default=NO_FIELDS, repr=False)  # canonical JSON: the fields that this version does not know


@dataclass(frozen=True)
class LayoutFields:
    """The fields of a layout, not validated.

    members         sorted by id
    owners[p]       ids of the owners of partition p, in order: min(n, staying members) of them
    former          (partition, its former owners) for each partition that moves, sorted by partition
    progress        how many phases have ever ended. Of two layouts that were made at the same time, the one with the
                    higher progress knows which nodes hold the data.
    log             the latest changes, the oldest first
    merged_epoch    the last epoch that was made by merging two layouts; 0 if there was none
    written_w       while stored writes may have fewer copies than w, the W that they were acknowledged with; else 0
    former_numbers  while N changes, or fewer than N nodes are to be left, the n, r, w and written_w of the former owners
                    (replica_change.py); else ()
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
    leaving: tuple[str, ...] = ()  # sorted ids of members that own nothing, and leave when they hold no data any more
    log: tuple[Change, ...] = ()
    merged_epoch: int = 0
    written_w: int = 0
    former_numbers: tuple[int, ...] = ()
    extra: str = field(default=NO_FIELDS, repr=False)  # canonical JSON: fields that this version does not know
    _former: dict[int, tuple[str, ...]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def staying(self) -> tuple[Member, ...]:
        """The members that are not leaving."""
        return (
            tuple(member for member in self.members if member.id not in self.leaving) if self.leaving else self.members
        )

    @property
    def effective_n(self) -> int:
        """N, limited to the number of staying members."""
        return min(self.n, len(self.members) - len(self.leaving))

    @property
    def changes_n(self) -> bool:
        """Whether another N is under way, or fewer owners a partition than N."""
        return self.phase != SETTLED and self.former_numbers != ()

    @property
    def fetches_for_n(self) -> bool:
        """The same, while reads still go to the former owners."""
        return self.phase == TRANSFER and self.former_numbers != ()

    @property
    def numbers(self) -> tuple[int, ...]:
        """N, R, W and `written_w` of the nodes that serve reads now."""
        if self.fetches_for_n:
            return self.former_numbers
        return self.n, self.r, self.w, self.written_w

    @property
    def effective_r(self) -> int:
        """R of the reads now, limited to the number of nodes that serve them."""
        return min(self.numbers[1], self.serving_n)

    @property
    def effective_w(self) -> int:
        """W of the nodes that serve reads now, limited to their number."""
        return min(self.numbers[2], self.serving_n)

    @property
    def others_w(self) -> int:
        """While N changes: W of the owners that do not serve reads now, but will or did; else 0."""
        if not self.changes_n:
            return 0
        return min(self.w, self.effective_n) if self.phase == TRANSFER else self.former_numbers[2]

    @property
    def serving_n(self) -> int:
        """N of the nodes that serve reads now, limited to the number of nodes that there are."""
        return min(self.former_numbers[0], len(self.members)) if self.fetches_for_n else self.effective_n

    @property
    def least_w(self) -> int:
        """The smallest W that a stored write may have been acknowledged with (quorum_change.py)."""
        _, _, w, written_w = self.numbers
        return written_w or w

    @property
    def fetch_quorum(self) -> int:
        """How many of the nodes that serve reads now include one that acknowledged each stored write."""
        return self.numbers[0] - self.least_w + 1

    def former_owners(self, partition: int) -> tuple[str, ...]:
        """Returns the former owners of a partition, or () if it does not move."""
        return self._former.get(partition, ())

    def fetching(self, partition: int) -> tuple[str, ...]:
        """Returns the owners of a partition that must fetch it in this phase before they serve its reads."""
        former = self._former.get(partition)
        if former is None or self.phase != TRANSFER:
            return ()
        owners = self.owners[partition]
        if self.former_numbers:  # an owner that stays may lack writes that are on former owners which go
            return tuple(owner for owner in owners if former != (owner,))
        return tuple(owner for owner in owners if owner not in former)

    def readers(self, partition: int) -> tuple[str, ...]:
        """Returns the nodes that hold the whole partition, in order: they coordinate its writes and serve its reads."""
        return self._former.get(partition, self.owners[partition]) if self.phase == TRANSFER else self.owners[partition]

    def keepers(self, partition: int) -> tuple[str, ...]:
        """Returns the nodes that store the partition's writes: its readers in order, then the other owners."""
        former = self._former.get(partition)
        if former is None:
            return self.owners[partition]
        first, then = (former, self.owners[partition]) if self.phase == TRANSFER else (self.owners[partition], former)
        return first + tuple(node for node in then if node not in first)
