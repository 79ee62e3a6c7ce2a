"""Estimates how much each partition holds, for the plan of a change.

Theory. The number of records in a partition is known to each node that stores it (trees.py); their bytes are not, and
reading all of them to find out would cost more than the estimate is worth. So a node answers
the mean size of a sample from its whole key space. Of several owners' answers the largest counts: the others may lack
records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from protocol.slots import SLOTS
from server.core.base.state import State
from server.core.records.records import SLOT_PREFIX
from server.core.records.versions import DamagedRecord
from server.core.ring.layout import Layout

_PLACES = 16
_SAMPLE_KEYS = 16  # at each place, or fewer large ones
_SAMPLE_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class Sizes:
    """Keys and bytes by partition, and whether clients are served meanwhile. Estimates."""

    keys: Sequence[int]
    bytes: Sequence[int]
    busy: bool = False


def own_sizes(state: State, busy: bool, partitions: int) -> dict[str, Any]:
    """Answers SIZES: what this node stores of each of so many partitions."""
    width = SLOTS // partitions
    counts = state.records.trees.counts
    keys = [sum(counts[first : first + width]) for first in range(0, SLOTS, width)]
    return {"keys": keys, "mean_bytes": mean_bytes(state), "busy": busy}


def mean_bytes(state: State) -> float:
    """The mean size of a stored record with its key, by a sample; 0 if nothing is stored."""
    sizes = []
    width = SLOTS // _PLACES
    for first in range(0, SLOTS, width):
        if not sum(state.records.trees.counts[first : first + width]):
            continue
        try:
            page = state.records.page(SLOT_PREFIX[first], SLOT_PREFIX[first + width], _SAMPLE_KEYS, _SAMPLE_BYTES)
        except DamagedRecord:
            continue  # the read reports it, and the scrub repairs it
        sizes += [len(key) + len(record) for key, record in page]
    return round(sum(sizes) / len(sizes), 1) if sizes else 0.0


def sizes_of(layout: Layout, answers: Mapping[str, Any]) -> Sizes:
    """Joins the answers of the nodes, by partition. A partition counts as empty if none of its readers has answered."""
    reports: dict[str, dict[str, Any]] = {node: answer for node, answer in answers.items() if answer}
    keys, sizes = [], []
    for partition in range(layout.partitions):
        readers = [reports[node] for node in layout.readers(partition) if node in reports]
        keys.append(max([each["keys"][partition] for each in readers], default=0))
        sizes.append(max([round(each["keys"][partition] * each["mean_bytes"]) for each in readers], default=0))
    return Sizes(keys, sizes, any(each["busy"] for each in reports.values()))
