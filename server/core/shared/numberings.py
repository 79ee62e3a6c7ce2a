"""The document of numberings: which space each database of a cluster is (protocol/databases.py), after all swaps so far.

Theory. The document has one entry for each cluster, under the cluster's id, so that a node which comes from another
cluster, or is about to join one, imposes nothing on it. A swap replaces the cluster's entry by one of a higher version
(shared/document.py). The entry names its latest swaps. So whoever has asked for one sees whether a document that has
prevailed contains it, and may ask again without swapping twice.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from protocol.databases import UNSWAPPED, Numbering
from server.core.shared.document import SharedDocument

SWAPS_MAX: Final = 256  # latest swaps that an entry names
SWAP_ID_DIGITS: Final = 24  # hexadecimal ones: half of them are when it was asked for, in ms since 1970
_TIME_DIGITS: Final = SWAP_ID_DIGITS // 2


@dataclass(frozen=True, slots=True)
class NumberingEntry:
    """The numbering of one cluster. `spaces` are those of its databases, by number; `swaps` the ids of the latest swaps."""

    counter: int
    node: str
    spaces: tuple[int, ...]
    swaps: tuple[str, ...]
    text: str = field(init=False, compare=False, repr=False)  # as it stands in a document

    def __post_init__(self) -> None:
        """Encodes the entry, once, for all documents that it is part of."""
        row = [f"{self.counter:x}", self.node, list(self.spaces), list(self.swaps)]
        object.__setattr__(self, "text", json.dumps(row, separators=(",", ":")))

    @property
    def is_deleted(self) -> bool:
        """No cluster loses its numbering."""
        return False


@dataclass(frozen=True, slots=True)
class Numberings(SharedDocument[NumberingEntry]):
    """The numberings by the ids of their clusters; clusters that have swapped nothing have none."""

    FIELD: ClassVar[str] = "numberings"

    def numbering_of(self, cluster: str) -> Numbering:
        """The numbering of a cluster."""
        entry = self.entries.get(cluster.encode())
        return UNSWAPPED if entry is None else Numbering(entry.spaces)

    def has_swap(self, cluster: str, swap: str) -> bool:
        """Whether the numbering of a cluster contains a swap, which is one of the latest."""
        entry = self.entries.get(cluster.encode())
        return entry is not None and swap in entry.swaps

    def only(self, cluster: str) -> Numberings:
        """The document with the entry of one cluster."""
        name = cluster.encode()
        return Numberings({name: self.entries[name]}) if name in self.entries else Numberings()


def swap_id(time_ms: int, chance: random.Random) -> str:
    """An id for a swap that is asked for now."""
    return f"{time_ms:0{_TIME_DIGITS}x}{chance.getrandbits(4 * _TIME_DIGITS):0{_TIME_DIGITS}x}"


def asked_ms(swap: str) -> int:
    """When a swap was asked for, in ms since 1970."""
    return int(swap[:_TIME_DIGITS], 16)


def entry_of(row: list[Any]) -> NumberingEntry:
    """Decodes an entry of a JSON document of the right shape."""
    counter, node, spaces, swaps = row
    return NumberingEntry(int(counter, 16), node, tuple(spaces), tuple(swaps))
