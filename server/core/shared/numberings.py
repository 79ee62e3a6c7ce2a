"""The document of numberings: which space each database of a cluster is (protocol/databases.py), after all swaps so far.

Theory. The document has one entry for each cluster, under the cluster's id, so that a node which comes from another
cluster, or is about to join one, imposes nothing on it. The entry is not the numbering, but a log of swaps, from which the
numbering follows. Two entries merge by the union of their logs. So

    whatever two nodes order without knowing of each other, a swap that is in some document is never undone;
    nodes that have the same swaps apply them in the same order, that of their versions, and show the same numbering.

A version is a reading of the hybrid clock of the node that has ordered the swap, later than all that this node knows, and
the node's id. So if a swap is asked for after another one was answered OK, its version is higher. The node that asks
for a swap draws its id. If two nodes have ordered the same swap, because whoever wanted it had no answer and asked again,
the lower version counts, and the swap is done once.

The log is bounded. Beyond `OPEN_MAX` swaps the oldest are *settled*: they become part of `spaces`, only their ids are kept,
and `floor` is the highest version among them. Of two entries the settled part of the higher floor counts. So a swap is lost
only if the other side of a partition has ordered `OPEN_MAX` others since. Who orders swaps sees to it that the id of a
settled swap is kept as long as it may be asked for (services/numbering.py).

A node without a layout keeps the entries of `CLUSTERS_MAX` clusters, those of the latest swaps. When it becomes a member,
it has that of its cluster before it serves clients, and forgets the others.

Rejected: of two numberings the later one wins, as with users (document.py). A node whose links were held up for seconds
then undid swaps that were answered OK. A majority that orders swaps would prevent this, too, but a minority could not swap
any more.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, NamedTuple

from protocol.databases import UNSWAPPED, Numbering
from server.core.shared.document import SharedDocument

OPEN_MAX: Final = 128  # latest swaps of an entry: a merge may still put others between them
SETTLED_MAX: Final = 128  # ids of the latest swaps before these
SWAPS_MAX: Final = OPEN_MAX + SETTLED_MAX  # latest swaps whose ids an entry knows
CLUSTERS_MAX: Final = 16  # of which a node knows entries that is no member yet
CLUSTER_BYTES_MAX: Final = 256  # of the id of a cluster
SWAP_ID_DIGITS: Final = 24  # hexadecimal ones: half of them are when it was asked for, in ms since 1970
_TIME_DIGITS: Final = SWAP_ID_DIGITS // 2


class OrderedSwap(NamedTuple):
    """A swap of two databases, by number, and its place among all swaps: they compare by their versions."""

    counter: int
    node: str
    id: str
    first: int
    second: int

    @property
    def row(self) -> list[Any]:
        """The swap as a value of a JSON document."""
        return [f"{self.counter:x}", *self[1:]]


@dataclass(frozen=True, slots=True)
class NumberingEntry:
    """The numbering of one cluster: the spaces of its databases, by number, after all settled swaps, and the open swaps."""

    floor: int = 0
    spaces: tuple[int, ...] = UNSWAPPED.spaces
    settled: tuple[str, ...] = ()
    swaps: tuple[OrderedSwap, ...] = ()
    text: str = field(init=False, compare=False, repr=False)  # as it stands in a document

    def __post_init__(self) -> None:
        """Encodes the entry, once, for all documents that it is part of."""
        row = [f"{self.floor:x}", list(self.spaces), list(self.settled), [swap.row for swap in self.swaps]]
        object.__setattr__(self, "text", json.dumps(row, separators=(",", ":")))

    @property
    def counter(self) -> int:
        """The first part of the version of the latest swap."""
        return self.swaps[-1].counter if self.swaps else self.floor

    @property
    def node(self) -> str:
        """The second part."""
        return self.swaps[-1].node if self.swaps else ""

    @property
    def is_deleted(self) -> bool:
        """No cluster loses its numbering."""
        return False

    def ids(self) -> list[str]:
        """The ids of the latest swaps, the oldest first."""
        return [*self.settled, *[swap.id for swap in self.swaps]]

    def numbering(self) -> Numbering:
        """The numbering after all swaps."""
        return _after(self.spaces, self.swaps)

    def with_swap(self, swap: OrderedSwap) -> NumberingEntry:
        """The entry after one more swap."""
        return replace(self, swaps=(*self.swaps, swap))._bounded()

    def merged_with(self, other: NumberingEntry) -> NumberingEntry:
        """The entry with the swaps of both: commutative, idempotent, and associative as long as no swap is lost."""
        high, low = (self, other) if self._rank() >= other._rank() else (other, self)
        swaps = {swap.id: swap for swap in high.swaps}
        for swap in low.swaps:
            if swap.counter > high.floor and swap.id not in high.settled:
                swaps[swap.id] = min(swap, swaps.get(swap.id, swap))
        return replace(high, swaps=tuple(sorted(swaps.values())))._bounded()

    def _rank(self) -> tuple[int, tuple[int, ...], tuple[str, ...]]:
        """By which the settled part of one of two entries counts."""
        return self.floor, self.spaces, self.settled

    def _bounded(self) -> NumberingEntry:
        """The entry with the oldest swaps settled, if it has too many."""
        count = len(self.swaps) - OPEN_MAX
        if count <= 0:
            return self
        floor = self.swaps[count - 1].counter
        settled = [swap for swap in self.swaps if swap.counter <= floor]
        ids = (*self.settled, *[swap.id for swap in settled])[-SETTLED_MAX:]
        return NumberingEntry(floor, _after(self.spaces, settled).spaces, ids, self.swaps[len(settled) :])


def _after(spaces: tuple[int, ...], swaps: tuple[OrderedSwap, ...] | list[OrderedSwap]) -> Numbering:
    """The numbering of these spaces after some swaps."""
    changed = list(spaces)
    for swap in swaps:
        changed[swap.first], changed[swap.second] = changed[swap.second], changed[swap.first]
    return Numbering(changed)


@dataclass(frozen=True, slots=True)
class Numberings(SharedDocument[NumberingEntry]):
    """The numberings by the ids of their clusters; clusters that have swapped nothing have none."""

    FIELD: ClassVar[str] = "numberings"

    def merged_entry(self, one: NumberingEntry, other: NumberingEntry) -> NumberingEntry:
        """What counts if two documents have these entries under one name."""
        return one.merged_with(other)

    def numbering_of(self, cluster: str) -> Numbering:
        """The numbering of a cluster."""
        entry = self.entries.get(cluster.encode())
        return UNSWAPPED if entry is None else entry.numbering()

    def has_swap(self, cluster: str, swap: str) -> bool:
        """Whether the numbering of a cluster contains a swap, which is one of the latest."""
        entry = self.entries.get(cluster.encode())
        return entry is not None and swap in entry.ids()

    def only(self, cluster: str) -> Numberings:
        """The document with the entry of one cluster."""
        name = cluster.encode()
        return Numberings({name: self.entries[name]}) if name in self.entries else Numberings()

    def bounded(self) -> Numberings:
        """The document with the entries of `CLUSTERS_MAX` clusters at most, those of the latest swaps."""
        if len(self.entries) <= CLUSTERS_MAX:
            return self
        latest = sorted(self.entries, key=lambda name: (self.entries[name].counter, name))[-CLUSTERS_MAX:]
        return Numberings({name: self.entries[name] for name in latest})


def swap_id(time_ms: int, chance: random.Random) -> str:
    """An id for a swap that is asked for now."""
    return f"{time_ms:0{_TIME_DIGITS}x}{chance.getrandbits(4 * _TIME_DIGITS):0{_TIME_DIGITS}x}"


def asked_ms(swap: str) -> int:
    """When a swap was asked for, in ms since 1970."""
    return int(swap[:_TIME_DIGITS], 16)


def entry_of(row: list[Any]) -> NumberingEntry:
    """Decodes an entry of a JSON document of the right shape. Raises ValueError for one that no node makes."""
    if type(row[1]) is str:  # of the former kind: version, node, spaces, ids
        row = [row[0], row[2], row[3][-SETTLED_MAX:], []]
    floor, spaces, settled, rows = row
    swaps = tuple([OrderedSwap(int(counter, 16), *rest) for counter, *rest in rows])
    entry = NumberingEntry(int(floor, 16), tuple(spaces), tuple(settled), swaps)
    ids = entry.ids()
    if len(set(spaces)) < len(spaces):
        raise ValueError("numberings: two databases are in one space")
    if list(swaps) != sorted(swaps) or len(set(ids)) < len(ids) or (swaps and swaps[0].counter <= entry.floor):
        raise ValueError("numberings: the swaps are not in their order, or one is there twice")
    return entry
